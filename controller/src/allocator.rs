//! The cluster controller: gives every node a subnet, every namespace a VNID, and egress IPs their nodes.
//!
//! [`allocate`] is pure: from the state of the cluster it works out what is missing and what is stale. It keeps nothing in
//! memory, so a controller that is killed and started again, or runs twice, comes to the same conclusions. [`Controller`]
//! runs it against a [`ClusterSource`](crate::cluster::ClusterSource), level-triggered: whatever happened, it compares what
//! is with what should be, and writes the difference.
//!
//! What it decides, and where that differs from the original (spec: cluster side, §2 and §3):
//!
//! * A Node with an IPv4 `InternalIP` has a HostSubnet. Its subnet is kept whatever happens; host, hostIP and node UID follow
//!   the Node, also when the Node is deleted and registered again under the same name (the original then left it without a
//!   network).
//! * New subnets come in the original's order, the lowest free one first, and never overlap an existing one, whatever its
//!   prefix length.
//! * A HostSubnet that belongs to a Node (it carries the node's UID) goes when the Node goes. One made by hand for a machine
//!   outside the cluster stays, and is given a subnet if it asks for one by annotation (the original deleted and made it again,
//!   and took `"false"` for yes).
//! * A Namespace has a NetNamespace, unless the plugin is ovs-subnet. Its VNID is kept; a new one is the lowest free from 10 on
//!   (the original drew it by chance), and 0 for `default`.
//! * A NetNamespace whose annotation asks to join another, to be isolated or to be global gets the VNID for that, and loses the
//!   annotation ([`ChangeNetwork`]). Isolating the only global namespace isolates it (the original left it global), `default`
//!   stays global, and joining oneself changes nothing (the original then gave the number away twice).
//! * Egress IPs that namespaces ask for are spread over the HostSubnets with `egressCIDRs`, and move when a Node is gone or no
//!   longer `Ready`. HostSubnets without are left alone, and their addresses are no reason to move others (the original then
//!   stopped balancing for good).
//! * An object that can't be read is told and left as it is: none is made in its place, its subnet or VNID is nobody else's, and
//!   nothing goes because its Node or Namespace can't be read.
//! * A NetNamespace made here names its Namespace as owner and goes when that goes. Others stay.

mod controller;
mod egress_ips;
mod in_directory;
mod in_kubernetes;
mod order;
mod plan;
mod renumbering;
mod reservations;
mod status;
mod subnets;
mod tenants;
mod usage;
mod vnids;

pub use controller::{Controller, ControllerError};
pub use in_kubernetes::{Election, InKubernetes};
pub use plan::{Action, Allocation, Change, Notice, Problem};
pub use renumbering::ChangeNetwork;
pub use reservations::Reservations;
pub use status::{Status, Vitals};
pub use usage::{EgressIps, Subnets, Usage, Vnids};

use self::tenants::Tenants;
use crate::api::{CLUSTER_NETWORK_NAME, Kind, NetworkConfig, ObjectRef};
use crate::cluster::ClusterState;

/// What to change so that every node has a subnet and every namespace a VNID, and what stands in the way.
///
/// Deterministic: the same state gives the same result, and the state after the changes gives no further ones, but for
/// what the deletions make room for.
pub fn allocate(state: &ClusterState) -> Allocation {
    allocate_beside(state, &Reservations::default())
}

/// The same, when numbers have been given that the state may not show yet: those are not given again, and whoever
/// they were given to gets them.
pub fn allocate_beside(state: &ClusterState, reservations: &Reservations) -> Allocation {
    Allocator::default().allocate(state, reservations)
}

/// Allocates one state after the other, and looks only at what one has that the one before had not. What it comes to is
/// always that of [`allocate_beside`]: all that it keeps is what it has seen.
#[derive(Debug, Default)]
pub struct Allocator {
    subnets: subnets::Memory,
    tenants: Tenants,
}

impl Allocator {
    /// What to change in `state`, beside these numbers on their way.
    pub fn allocate(&mut self, state: &ClusterState, reservations: &Reservations) -> Allocation {
        let unreadable = state.unreadable.iter().map(|(object, known)| Problem::Unreadable {
            object: object.clone(),
            error: known.error.clone(),
        });
        let mut allocation = self.allocate_readable(state, reservations);
        allocation.problems.extend(unreadable);
        allocation
    }

    fn allocate_readable(&mut self, state: &ClusterState, reservations: &Reservations) -> Allocation {
        let mut allocation = Allocation::default();
        let Some(network) = &state.cluster_network else {
            if !state.is_unreadable(&ObjectRef::cluster(Kind::ClusterNetwork, CLUSTER_NETWORK_NAME)) {
                allocation.problems.push(Problem::NoClusterNetwork { name: CLUSTER_NETWORK_NAME });
            }
            return allocation;
        };
        match NetworkConfig::try_from(network.as_ref()) {
            Ok(config) => {
                allocation = self.subnets.plan(state, &config, reservations);
                if config.plugin.has_vnids() {
                    self.tenants.look_at(state);
                    vnids::plan(state, &self.tenants, config.plugin, reservations, &mut allocation);
                    egress_ips::plan(state, &self.tenants, &mut allocation);
                }
            }
            Err(invalid) => allocation.problems.push(Problem::Invalid(invalid)),
        }
        allocation
    }
}

#[cfg(test)]
mod tests;
