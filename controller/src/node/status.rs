//! What the agent says of itself: the result of each reconcile, on which CNI requests wait.

use std::collections::BTreeSet;
use std::sync::Arc;

use flowtables::feature::Plugin;
use ipnet::Ipv4Net;
use openflow::OfPort;

use crate::view::Problem;

/// The result of the last reconcile.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Flows have been in sync once.
    pub ready: bool,
    /// Why they are not now.
    pub problem: Option<String>,
    /// What new pods are wired for.
    pub network: Option<Arc<Network>>,
    /// The pods' legs that the switch has confirmed the flows of.
    pub synced: Arc<BTreeSet<Leg>>,
    /// Objects that were left out.
    pub left_out: Vec<Problem>,
}

/// A leg whose flows the switch has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leg {
    /// Container id of its CNI ADD.
    pub sandbox: String,
    /// Its OpenFlow port.
    pub port: OfPort,
}

/// The networks that a pod is wired for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// The node's subnet: addresses of its pods.
    pub local_subnet: Ipv4Net,
    /// The networks of all pods.
    pub cluster_networks: Vec<Ipv4Net>,
    /// The network of ClusterIPs.
    pub service_network: Ipv4Net,
    /// How tenants are isolated.
    pub plugin: Plugin,
    /// MTU of the overlay, bytes.
    pub mtu: u16,
}

impl Status {
    /// Whether the switch has the flows of this sandbox's leg.
    #[must_use]
    pub fn has(&self, sandbox: &str) -> bool {
        self.synced.iter().any(|leg| leg.sandbox == sandbox)
    }
}
