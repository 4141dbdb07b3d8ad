//! What renders flows: one file a feature, each a pure function of a small input. None knows another.

use openflow::Action;

use crate::pipeline::port::{TUN0, VXLAN0};

pub mod base;
pub mod egress_ip;
pub mod egress_policy;
pub mod multicast;
pub mod nodes;
pub mod pods;
pub mod services;
pub mod tenants;
pub mod version;

/// How the cluster isolates its tenants: the `pluginName` of its ClusterNetwork.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Plugin {
    /// `redhat/openshift-ovs-subnet`: one flat network, every VNID is 0.
    Subnet,
    /// `redhat/openshift-ovs-multitenant`: a VNID a namespace (or group of joined ones).
    Multitenant,
}

impl Plugin {
    /// The number that the version note carries, as the replaced system numbers them.
    #[must_use]
    pub fn id(self) -> u8 {
        match self {
            Plugin::Subnet => 0,
            Plugin::Multitenant => 1,
        }
    }
}

/// How a packet leaves that may leave the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By `tun0`, to the host.
    Host,
    /// By the tunnel, to the node that was chosen already.
    Tunnel,
    /// By the group of that number, which chooses a node.
    Group(u32),
}

impl Exit {
    pub(crate) fn action(self) -> Action {
        match self {
            Exit::Host => Action::Output(TUN0),
            Exit::Tunnel => Action::Output(VXLAN0),
            Exit::Group(id) => Action::Group(id),
        }
    }
}

#[cfg(test)]
mod tests;
