//! `sdnctl diff`: the desired flows against those of the switch.

use flowtables::flowset::diff::{self, Diff};
use flowtables::flowset::groups::{self, GroupDiff};
use flowtables::flowset::{FlowSet, Rendered};
use serde_json::{Value, json};

use super::Exit;
use super::output::OutputArgs;
use super::target::{Node, Target, view};
use crate::node::ovs::syncer;

/// Compare the flows and groups that nodes should have with those on their switches
///
/// Exit status 0: equal; 1: not equal, the differences are printed.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    output: OutputArgs,
}

/// Runs the command.
///
/// # Errors
/// When a node's cluster state, ovsdb-server or ovs-vswitchd cannot be read.
pub async fn run(args: Args) -> anyhow::Result<Exit> {
    let nodes = args.target.live_nodes()?;
    let mut diffs = Vec::new();
    for node in &nodes {
        diffs.push((node.name.as_str(), compare(node).await?));
    }
    let equal = diffs.iter().all(|(_, differences)| differences.is_empty());
    let document = document(equal, &diffs);
    args.output.print(&document, |_| diffs.iter().map(|(node, diff)| text(node, diff)).collect())?;
    Ok(if equal { Exit::Done } else { Exit::No })
}

/// Where a switch and what it should hold differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Differences {
    flows: Diff,
    groups: GroupDiff,
}

impl Differences {
    /// Compares what a switch holds with what it should.
    #[must_use]
    pub fn between(actual: &Rendered, desired: &FlowSet) -> Self {
        Self { flows: diff::diff(&actual.flows, desired), groups: groups::diff(&actual.groups, desired) }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many flows and groups differ.
    #[must_use]
    pub fn len(&self) -> usize {
        self.flows.len() + self.groups.len()
    }
}

async fn compare(node: &Node) -> anyhow::Result<Differences> {
    let view = view(&node.live().await?);
    let actual = syncer::read(&node.switch().await?).await?;
    Ok(Differences::between(&actual, view.flows()))
}

fn text(node: &str, differences: &Differences) -> String {
    if differences.is_empty() {
        return format!("{node}: equal\n");
    }
    let Differences { flows: diff, groups } = differences;
    let mut text = format!("{node}: {} differences\n", diff.len() + groups.len());
    for flow in &diff.missing {
        text += &format!("  missing {}\n", flow.to_string().trim());
    }
    for flow in &diff.extra {
        text += &format!("  extra   {}\n", flow.to_string().trim());
    }
    for change in &diff.changed {
        text += &format!("  is      {}\n", change.actual.to_string().trim());
        text += &format!("  should  {}\n", change.desired.to_string().trim());
    }
    for group in &groups.missing {
        text += &format!("  missing {group}\n");
    }
    for group in &groups.extra {
        text += &format!("  extra   {group}\n");
    }
    for change in &groups.changed {
        text += &format!("  is      {}\n", change.actual);
        text += &format!("  should  {}\n", change.desired);
    }
    text
}

fn document(equal: bool, diffs: &[(&str, Differences)]) -> Value {
    let all = |pick: fn(&Differences) -> Vec<Value>| {
        diffs
            .iter()
            .flat_map(|(node, differences)| {
                pick(differences).into_iter().map(move |mut entry| {
                    if let Some(entry) = entry.as_object_mut() {
                        entry.insert("node".to_owned(), json!(node));
                    }
                    entry
                })
            })
            .collect::<Vec<_>>()
    };
    json!({
        "equal": equal,
        "missing": all(|Differences { flows, groups }| {
            flows.missing.iter().map(flow).chain(groups.missing.iter().map(group)).collect()
        }),
        "extra": all(|Differences { flows, groups }| {
            flows.extra.iter().map(flow).chain(groups.extra.iter().map(group)).collect()
        }),
        "changed": all(|Differences { flows, groups }| {
            let flows = flows.changed.iter().map(|change| {
                change_entry(change.actual.to_string().trim(), change.desired.to_string().trim())
            });
            let groups = groups.changed.iter().map(|change| {
                change_entry(&change.actual.to_string(), &change.desired.to_string())
            });
            flows.chain(groups).collect()
        }),
    })
}

fn flow(flow: &openflow::Flow) -> Value {
    json!({ "flow": flow.to_string().trim() })
}

fn group(group: &openflow::Group) -> Value {
    json!({ "group": group.to_string() })
}

fn change_entry(actual: &str, desired: &str) -> Value {
    json!({ "actual": actual, "desired": desired })
}
