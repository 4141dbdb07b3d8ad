//! What the agent says of itself: the result of each reconcile, on which CNI requests wait and which probes ask for.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use flowtables::feature::Plugin;
use ipnet::Ipv4Net;
use openflow::OfPort;

use crate::admin::{Check, hold};
use crate::view::Problem;

const NO_OPENFLOW: &str = "no OpenFlow connection to br0: is ovs-vswitchd running?";

/// The result of the last reconcile.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Flows have been in sync once.
    pub ready: bool,
    /// Why they are not now.
    pub problem: Option<String>,
    /// The cluster's state has been read.
    pub cluster: bool,
    /// The replica of OVSDB follows the server.
    pub ovsdb: bool,
    /// There is an OpenFlow connection to the bridge.
    pub openflow: bool,
    /// The CNI socket is open.
    pub serving: bool,
    /// Why no pod can be leased an address, but that all are in use.
    pub lease_problem: Option<String>,
    /// What new pods are wired for.
    pub network: Option<Arc<Network>>,
    /// The pods' legs that the switch has confirmed the flows of.
    pub synced: Arc<BTreeSet<Leg>>,
    /// Objects that were left out.
    pub left_out: Vec<Problem>,
    /// Networks of the node that are the cluster's too, in words.
    pub conflicts: Vec<String>,
    /// What other firewalls of the node stop of the cluster's traffic, in words.
    pub obstacles: Vec<String>,
    /// What they may stop.
    pub unclear_obstacles: Vec<String>,
    /// The last reconcile that succeeded: when it ended and how long it took.
    pub last_sync: Option<(SystemTime, Duration)>,
}

/// A leg whose flows the switch has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leg {
    /// Container id of its CNI ADD.
    pub sandbox: String,
    /// Its OpenFlow port, which the switch may be about to make.
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
    /// Whether the switch has the flows of this sandbox's leg at this port. Not as long as there is no connection to it: what
    /// is restarted has none.
    #[must_use]
    pub fn has_at(&self, sandbox: &str, port: OfPort) -> bool {
        self.openflow && self.synced.contains(&Leg { sandbox: sandbox.to_owned(), port })
    }

    /// Why nothing is known of the switch's flows, if so.
    #[must_use]
    pub fn no_openflow(&self) -> Option<&'static str> {
        (!self.openflow).then_some(NO_OPENFLOW)
    }

    /// What readiness consists of, in the order in which a start goes through it.
    #[must_use]
    pub fn checks(&self) -> [Check; 6] {
        let flows = match (&self.problem, self.ready) {
            (Some(problem), _) => Some(problem.clone()),
            (None, true) => None,
            (None, false) => Some("not written yet since the start of the agent".to_owned()),
        };
        [
            Check::new("cluster", self.cluster, "the cluster's state has not been read yet"),
            Check::new("ovsdb", self.ovsdb, "no connection to ovsdb-server: is it running?"),
            Check::new("openflow", self.openflow, NO_OPENFLOW),
            Check { name: "flows", missing: flows },
            Check::new(
                "cni",
                self.serving,
                "the CNI socket is not open: it is opened after the first flows, and again if it is removed",
            ),
            Check { name: "leases", missing: self.lease_problem.clone() },
        ]
    }

    /// Whether every check holds.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        hold(&self.checks())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn each_check_can_be_the_only_one_that_fails() {
        let good = Status {
            ready: true,
            cluster: true,
            ovsdb: true,
            openflow: true,
            serving: true,
            ..Status::default()
        };
        assert!(good.is_ready());
        let spoilt = [
            ("cluster", Status { cluster: false, ..good.clone() }),
            ("ovsdb", Status { ovsdb: false, ..good.clone() }),
            ("openflow", Status { openflow: false, ..good.clone() }),
            ("flows", Status { problem: Some("x".to_owned()), ..good.clone() }),
            ("flows", Status { ready: false, ..good.clone() }),
            ("cni", Status { serving: false, ..good.clone() }),
            ("leases", Status { lease_problem: Some("x".to_owned()), ..good }),
        ];
        for (name, status) in spoilt {
            let failing: Vec<_> = status
                .checks()
                .into_iter()
                .filter(|check| check.missing.is_some())
                .map(|check| check.name)
                .collect();
            assert_eq!(failing, [name]);
            assert!(!status.is_ready());
        }
    }
}
