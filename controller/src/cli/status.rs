//! `sdnctl status`: whether every node has what it should, and if not, why.

use std::path::Path;
use std::time::Duration;

use flowtables::flowset::Rendered;
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::Exit;
use super::diff::Differences;
use super::output::OutputArgs;
use super::target::{Node, Target};
use crate::node::ovs::syncer;
use crate::view::{Problem, View};

/// How long a node's agent may take to accept a connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// Tell whether nodes are in sync with the cluster's state, and if not, why
///
/// Of each node: its agent serves pods, its ovsdb-server and ovs-vswitchd answer, and the switch holds the flows and groups
/// that it should. Objects that are left out (each with the reason) do not make a node less ready: the rest of the
/// cluster's state is in force. Exit status 0: ready; 1: not, the reasons are printed.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    output: OutputArgs,
}

/// One node.
#[derive(Debug, Default)]
struct NodeStatus {
    name: String,
    /// Why it is not ready.
    reasons: Vec<String>,
    /// What does not count, and why.
    left_out: Vec<Problem>,
    /// Flows on its switch, where it answers.
    flows: Option<usize>,
    /// Where they and the groups differ from what they should be.
    differences: Option<usize>,
}

/// Runs the command.
///
/// # Errors
/// When there is no such cluster, lab or node. What is wrong with a node is no error but the answer.
pub async fn run(args: Args) -> anyhow::Result<Exit> {
    let mut nodes = Vec::new();
    for node in args.target.live_nodes()? {
        nodes.push(status(&node).await);
    }
    let ready = nodes.iter().all(|node| node.reasons.is_empty());
    args.output.print(&document(ready, &nodes), |_| nodes.iter().map(text).collect())?;
    Ok(if ready { Exit::Done } else { Exit::No })
}

async fn status(node: &Node) -> NodeStatus {
    let mut status = NodeStatus { name: node.name.clone(), ..NodeStatus::default() };
    if let Err(reason) = serves(&node.cni_socket).await {
        status.reasons.push(reason);
    }
    let (inputs, actual) = (node.live_inputs().await, read(node).await);
    if let Ok(actual) = &actual {
        status.flows = Some(actual.flows.len());
    }
    match (inputs, actual) {
        (Ok(inputs), Ok(actual)) => {
            let view = View::of(&inputs);
            let differences = Differences::between(&actual, view.flows()).len();
            if differences > 0 {
                let node = &node.name;
                status.reasons.push(format!(
                    "{differences} flows or groups are not as they should be: `sdnctl diff --node {node}` lists them"
                ));
            }
            status.differences = Some(differences);
            status.reasons.extend(view.conflicts().iter().map(ToString::to_string));
            status.left_out = inputs.problems;
        }
        (inputs, actual) => {
            let mut failed = |error: anyhow::Error| status.reasons.push(crate::describe(&error));
            inputs.err().into_iter().for_each(&mut failed);
            actual.err().into_iter().for_each(failed);
        }
    }
    status
}

/// Whether somebody takes connections where the CNI plugin asks: an agent does once its first flows are in place.
async fn serves(socket: &Path) -> Result<(), String> {
    let place = socket.display();
    match timeout(PATIENCE, UnixStream::connect(socket)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(format!("no agent serves pods at {place}: {error}: is sdn-node running?")),
        Err(_) => Err(format!("the agent at {place} does not answer")),
    }
}

async fn read(node: &Node) -> anyhow::Result<Rendered> {
    Ok(syncer::read(&node.switch().await?).await?)
}

fn text(node: &NodeStatus) -> String {
    let state = if node.reasons.is_empty() { "ready" } else { "not ready" };
    let flows = node.flows.map(|flows| format!(", {flows} flows")).unwrap_or_default();
    let mut text = format!("{}: {state}{flows}\n", node.name);
    text.extend(node.reasons.iter().map(|reason| format!("  {reason}\n")));
    text.extend(node.left_out.iter().map(|problem| format!("  left out {problem}\n")));
    text
}

fn document(ready: bool, nodes: &[NodeStatus]) -> Value {
    let reasons = nodes
        .iter()
        .flat_map(|node| node.reasons.iter().map(move |reason| format!("node {}: {reason}", node.name)));
    let entries = nodes.iter().map(|node| {
        json!({
            "name": node.name,
            "ready": node.reasons.is_empty(),
            "reasons": node.reasons,
            "leftOut": node.left_out.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "flows": node.flows,
            "differences": node.differences,
        })
    });
    json!({
        "ready": ready,
        "reasons": reasons.collect::<Vec<_>>(),
        "nodes": entries.collect::<Vec<_>>(),
    })
}
