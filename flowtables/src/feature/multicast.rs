//! Multicast (tables 110, 111 and 120) of the VNIDs that asked for it: a copy to every pod of the VNID here, and one
//! to every other node, which does the same.

use std::net::Ipv4Addr;

use openflow::{Field, Flow, Match, OfPort};

use crate::pipeline::cookie::Owner;
use crate::pipeline::port::VXLAN0;
use crate::pipeline::register::SOURCE_VNID;
use crate::pipeline::rule::{self, Conditions, rule};
use crate::pipeline::table::Table::{MulticastIn, MulticastOut, MulticastTunnel};
use crate::pipeline::vnid::Vnid;

/// A VNID with multicast, and its pods on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Multicast {
    /// The VNID.
    pub vnid: Vnid,
    /// OpenFlow ports of its pods. The sender is among them: a switch never sends a packet back where it came from.
    pub ports: Vec<OfPort>,
}

impl Multicast {
    /// Who the flows belong to.
    #[must_use]
    pub fn owner(&self) -> Owner {
        Owner::Multicast(self.vnid)
    }

    /// The VNID's flows; none where it has no pods, as then nobody here sends or hears.
    #[must_use]
    pub fn flows(&self) -> Vec<Flow> {
        if self.ports.is_empty() {
            return Vec::new();
        }
        let owner = self.owner();
        let of_vnid = || Match::new().register(&SOURCE_VNID, self.vnid.get());
        let deliver =
            self.ports.iter().fold(rule(MulticastIn, 100).when(of_vnid()), |rule, &port| rule.output(port));
        let send = rule(MulticastOut, 100).when(of_vnid()).goto(MulticastTunnel);
        [send, deliver].into_iter().map(|rule| rule.of(&owner)).collect()
    }
}

/// The flow that sends a copy to each of the other nodes, whichever VNID the packet has.
#[must_use]
pub fn tunnels(nodes: &[Ipv4Addr]) -> Vec<Flow> {
    if nodes.is_empty() {
        return Vec::new();
    }
    let copies =
        nodes.iter().fold(rule(MulticastTunnel, 100).action(rule::source_vnid_to_tunnel()), |rule, &node| {
            rule.action(rule::set(Field::TUN_DST, u32::from(node).into())).output(VXLAN0)
        });
    vec![copies.goto(MulticastIn).of(&Owner::MulticastTunnels)]
}
