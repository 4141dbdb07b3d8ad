//! `sdnctl flows`: the flows on the switches, with their owners and counters.

use std::collections::HashMap;

use flowtables::flowset::FlowSet;
use flowtables::pipeline::cookie::Cookie;
use openflow::{FlowStats, FlowStatsRequest};
use serde_json::{Value, json};

use super::Exit;
use super::output::{OutputArgs, table};
use super::target::{Target, view};

/// List the flows on the switches, with whose they are and how many packets took them
///
/// Owners are named as in traces: `base`, `pod NS/NAME`, `node NAME`, `tenant VNID`. A flow of a kind of owner that
/// the cluster does not know (any more) shows the kind, a foreign one its cookie.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// Only flows of this table
    #[arg(long)]
    table: Option<u8>,
    /// Only flows whose owner's name contains this
    #[arg(long)]
    owner: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

/// Runs the command.
///
/// # Errors
/// When a node's cluster state, ovsdb-server or ovs-vswitchd cannot be read.
pub async fn run(args: Args) -> anyhow::Result<Exit> {
    let mut rows = Vec::new();
    for node in args.target.live_nodes()? {
        let names = names(view(&node.live().await?).flows());
        let stats = node.switch().await?.dump_flows(FlowStatsRequest::default()).await?;
        for stats in stats {
            let owner = owner(&names, stats.flow.cookie);
            let wanted = args.table.is_none_or(|table| table == stats.flow.table)
                && args.owner.as_ref().is_none_or(|part| owner.contains(part));
            if wanted {
                rows.push((node.name.clone(), owner, stats));
            }
        }
    }
    rows.sort_by(|(node, _, a), (other, _, b)| {
        let key = |stats: &FlowStats| (stats.flow.table, std::cmp::Reverse(stats.flow.priority));
        (node, key(a), &a.flow.fields).cmp(&(other, key(b), &b.flow.fields))
    });
    let document: Vec<Value> = rows.iter().map(|(node, owner, stats)| entry(node, owner, stats)).collect();
    args.output.print(&document, |_| {
        let count = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
        let lines = rows.iter().map(|(node, owner, stats)| {
            let flow = stats.flow.to_string().trim().to_owned();
            [node.clone(), owner.clone(), count(stats.packets), count(stats.bytes), flow]
        });
        table(["NODE", "OWNER", "PACKETS", "BYTES", "FLOW"], lines)
    })?;
    Ok(Exit::Done)
}

/// The owners of the desired flows by cookie.
fn names(desired: &FlowSet) -> HashMap<u64, String> {
    desired.owners().into_iter().map(|owner| (owner.cookie().0, owner.to_string())).collect()
}

fn owner(names: &HashMap<u64, String>, cookie: u64) -> String {
    let kind = || Cookie(cookie).kind().map(|kind| format!("{} {}", kind.name(), Cookie(cookie)));
    names.get(&cookie).cloned().or_else(kind).unwrap_or_else(|| format!("foreign {}", Cookie(cookie)))
}

fn entry(node: &str, owner: &str, stats: &FlowStats) -> Value {
    json!({
        "node": node,
        "table": stats.flow.table,
        "owner": owner,
        "packets": stats.packets,
        "bytes": stats.bytes,
        "flow": stats.flow.to_string().trim(),
    })
}

#[cfg(test)]
mod tests {
    use flowtables::pipeline::cookie::Owner;

    use super::*;

    #[test]
    fn owners_are_named_as_far_as_they_are_known() {
        let pod = |name: &str| Owner::Pod { namespace: "default".into(), name: name.into() };
        let mut desired = FlowSet::new();
        let flow = "table=1,actions=drop".parse().unwrap_or_else(|error| panic!("{error}"));
        desired.replace(&pod("web"), vec![flow]);
        let names = names(&desired);
        assert_eq!(owner(&names, pod("web").cookie().0), "pod default/web");
        assert!(owner(&names, pod("gone").cookie().0).starts_with("pod 0x5d06"));
        assert_eq!(owner(&names, 7), "foreign 0x7");
    }
}
