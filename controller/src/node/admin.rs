//! What the agent says of itself over HTTP.

use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Map, Value, json};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use super::status::Status;
use crate::admin::{Check, Program};

/// How long the agent's loop is waited for when it is asked for its state.
const STATE_DEADLINE: Duration = Duration::from_secs(1);

/// A question to the agent's loop, answered with what only the loop knows.
pub type Query = oneshot::Sender<Value>;

/// The agent, seen from outside.
pub struct Agent {
    /// Name of the Node object that stands for this machine.
    pub node: String,
    /// The result of each reconcile.
    pub status: watch::Receiver<Status>,
    /// The agent's loop.
    pub queries: mpsc::Sender<Query>,
}

impl Program for Agent {
    fn checks(&self) -> Vec<Check> {
        self.status.borrow().checks().into()
    }

    async fn state(&self) -> Map<String, Value> {
        let status = self.status.borrow().clone();
        let (send, answer) = oneshot::channel();
        let asked = self.queries.try_send(send).is_ok();
        let agent = match timeout(STATE_DEADLINE, answer).await {
            Ok(Ok(state)) if asked => state,
            _ => json!("busy: the loop is waiting for Open vSwitch, or has not begun"),
        };
        let network = status.network.as_deref().map(|network| {
            json!({
                "clusterNetworks": network.cluster_networks,
                "localSubnet": network.local_subnet,
                "mtu": network.mtu,
                "plugin": format!("{:?}", network.plugin).to_lowercase(),
                "serviceNetwork": network.service_network,
            })
        });
        let last_sync = status.last_sync.map(|(at, took)| {
            let at = at.duration_since(UNIX_EPOCH).unwrap_or_default();
            json!({ "unixSeconds": at.as_secs_f64(), "tookSeconds": took.as_secs_f64() })
        });
        let pods: Vec<Value> =
            status.synced.iter().map(|leg| json!({ "port": leg.port.0, "sandbox": leg.sandbox })).collect();
        let left_out: Vec<_> = status.left_out.iter().map(ToString::to_string).collect();
        [
            ("agent", agent),
            ("conflicts", json!(status.conflicts)),
            ("firewall", json!({ "stopped": status.obstacles, "unclear": status.unclear_obstacles })),
            ("lastSync", json!(last_sync)),
            ("leftOut", json!(left_out)),
            ("network", json!(network)),
            ("node", json!(self.node)),
            ("synced", json!(pods)),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
    }
}
