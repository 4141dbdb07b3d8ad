//! `sdnctl diff`: the desired flows against those of the switch.

use flowtables::flowset::diff::{Diff, diff};
use serde_json::{Value, json};

use super::Exit;
use super::output::OutputArgs;
use super::target::{Node, Target, view};
use crate::node::ovs::syncer;

/// Compare the flows that nodes should have with those on their switches
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
    let nodes = args.target.nodes()?;
    let mut diffs = Vec::new();
    for node in &nodes {
        diffs.push((node.name.as_str(), compare(node).await?));
    }
    let equal = diffs.iter().all(|(_, diff)| diff.is_empty());
    let document = document(equal, &diffs);
    args.output.print(&document, |_| diffs.iter().map(|(node, diff)| text(node, diff)).collect())?;
    Ok(if equal { Exit::Done } else { Exit::No })
}

async fn compare(node: &Node) -> anyhow::Result<Diff> {
    let view = view(&node.live().await?);
    let actual = syncer::read(&node.switch().await?).await?;
    Ok(diff(&actual, view.flows()))
}

fn text(node: &str, diff: &Diff) -> String {
    if diff.is_empty() {
        return format!("{node}: equal\n");
    }
    let mut text = format!("{node}: {} differences\n", diff.len());
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
    text
}

fn document(equal: bool, diffs: &[(&str, Diff)]) -> Value {
    let all = |pick: fn(&Diff) -> Vec<Value>| {
        diffs
            .iter()
            .flat_map(|(node, diff)| {
                pick(diff).into_iter().map(move |mut entry| {
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
        "missing": all(|diff| diff.missing.iter().map(entry).collect()),
        "extra": all(|diff| diff.extra.iter().map(entry).collect()),
        "changed": all(|diff| {
            diff.changed
                .iter()
                .map(|change| json!({
                    "actual": change.actual.to_string().trim(),
                    "desired": change.desired.to_string().trim(),
                }))
                .collect()
        }),
    })
}

fn entry(flow: &openflow::Flow) -> Value {
    json!({ "flow": flow.to_string().trim() })
}
