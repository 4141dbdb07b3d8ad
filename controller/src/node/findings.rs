//! What the agent finds out for itself, besides the cluster's objects and the ports of the bridge.

use std::path::PathBuf;

use ovsdb::ovs::OvsError;
use ovsdb::{Client, Replica};

use super::inquiry::{record, recorded};
use super::names::{self, Names};
use super::reachability::{self, Reachability};
use crate::view::{Inputs, Known};

/// Everything that is being found out.
pub struct Findings {
    names: Names,
    reachability: Reachability,
}

impl Findings {
    /// Goes on from what was known last. `resolv_conf` names the DNS servers.
    #[must_use]
    pub fn start(resolv_conf: PathBuf, last: &Known) -> Self {
        Self {
            names: names::start(resolv_conf, last.names.clone()),
            reachability: reachability::start(last.unreachable.clone()),
        }
    }

    /// What is known now.
    pub fn known(&mut self) -> Known {
        Known {
            tun0_mac: None,
            names: (*self.names.found()).clone(),
            unreachable: (*self.reachability.found()).clone(),
        }
    }

    /// Asks from now on for what a node with these inputs needs to know.
    pub fn want(&self, inputs: &Inputs) {
        self.names.want(inputs.dns_names.clone());
        self.reachability.want(inputs.egress_nodes.clone());
    }

    /// Resolves when there is more to know than [`Findings::known`] has said. Cancel-safe.
    pub async fn changed(&mut self) {
        tokio::select! {
            () = self.names.changed() => {}
            () = self.reachability.changed() => {}
        }
    }
}

/// What a node's agent has found out, as its bridge's record has it.
#[must_use]
pub fn known(replica: &Replica) -> Known {
    Known {
        tun0_mac: None,
        names: recorded(replica, names::KEY),
        unreachable: recorded(replica, reachability::KEY),
    }
}

/// Keeps it with the bridge.
///
/// # Errors
/// When the database refuses or does not answer.
pub async fn keep(client: &Client, known: &Known) -> Result<(), OvsError> {
    record(client, names::KEY, &known.names).await?;
    record(client, reachability::KEY, &known.unreachable).await
}
