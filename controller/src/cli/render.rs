//! `sdnctl render`: a node's desired flows and groups, without a switch.

use serde_json::{Value, json};

use super::Exit;
use super::output::OutputArgs;
use super::target::{Target, Tun0Mac, view};

/// Print the flows and groups that a node should have, in ovs-ofctl syntax
///
/// Lines are those of `ovs-ofctl -O OpenFlow13 --no-stats dump-flows br0`, sorted by table, descending priority
/// and match, then those of `dump-groups br0`, sorted by number. Pods without a known port take the next from 3 on, in
/// order of creationTimestamp, then namespace and name; the annotation osdn.io/ofport fixes one.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    tun0: Tun0Mac,
    #[command(flatten)]
    output: OutputArgs,
}

/// Runs the command.
///
/// # Errors
/// When the cluster or node is not known or not valid.
pub async fn run(args: Args) -> anyhow::Result<Exit> {
    let node = args.target.one_node()?.with(args.tun0);
    let inputs = node.offline()?;
    let view = view(&inputs);
    let flows: Vec<Value> = (0..=u8::MAX)
        .flat_map(|table| view.flows().table(table))
        .map(|(flow, owner)| {
            json!({
                "table": flow.table,
                "priority": flow.priority,
                "owner": owner.to_string(),
                "flow": flow.to_string().trim(),
            })
        })
        .collect();
    let groups: Vec<Value> =
        view.flows().groups().map(|group| json!({ "id": group.id, "group": group.to_string() })).collect();
    args.output.print(&json!({ "node": node.name, "flows": flows, "groups": groups }), |_| {
        let flows = view.flows().iter().map(|flow| format!("{flow}\n"));
        let groups = view.flows().groups().map(|group| format!(" {group}\n"));
        flows.chain(groups).collect()
    })?;
    Ok(Exit::Done)
}
