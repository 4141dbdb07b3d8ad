//! Multicast (tables 110, 111 and 120) of the VNIDs that asked for it: a copy to every pod of the VNID here, and one
//! to every other node, which does the same.

use std::net::Ipv4Addr;

use openflow::{Action, Field, Flow, Match, OfPort};

use crate::pipeline::cookie::Owner;
use crate::pipeline::port::VXLAN0;
use crate::pipeline::register::{MULTICAST_PART, SOURCE_VNID};
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

/// Nodes in one flow. A copy takes 32 bytes of actions and a message holds 64 KiB.
const NODES_A_FLOW: usize = 1024;

/// The flows that send a copy to each of the other nodes, whichever VNID the packet has: one flow, or, where the nodes
/// do not fit into one message, several of which each sends the packet to the next.
#[must_use]
pub fn tunnels(nodes: &[Ipv4Addr]) -> Vec<Flow> {
    let last = nodes.len().div_ceil(NODES_A_FLOW).saturating_sub(1);
    nodes
        .chunks(NODES_A_FLOW)
        .zip(0..)
        .map(|(nodes, part)| {
            let start = rule(MulticastTunnel, 100);
            let start = match last {
                0 => start,
                _ => start.when(Match::new().register(&MULTICAST_PART, part)),
            };
            let start = if part == 0 { start.source_vnid_to_tunnel() } else { start };
            let copies = nodes.iter().fold(start, |rule, &node| {
                rule.action(rule::set(Field::TUN_DST, u32::from(node).into())).output(VXLAN0)
            });
            let copies = match usize::try_from(part) == Ok(last) {
                true => copies.goto(MulticastIn),
                false => copies.action(MULTICAST_PART.load(part + 1)).action(AGAIN),
            };
            copies.of(&Owner::MulticastTunnels)
        })
        .collect()
}

/// Once more through the table, with what the registers hold now.
const AGAIN: Action =
    Action::Resubmit { in_port: None, table: Some(MulticastTunnel.number()), with_ct: false };

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use openflow::{Envelope, FlowMod, Message};

    use super::*;

    #[test]
    fn flows_for_any_number_of_nodes_fit_into_messages() {
        let nodes: Vec<Ipv4Addr> = (0..5000).map(|n| Ipv4Addr::from(0x0a00_0001 + n)).collect();
        for count in [1, NODES_A_FLOW, NODES_A_FLOW + 1, 2 * NODES_A_FLOW, 5000] {
            let flows = tunnels(&nodes[..count]);
            assert_eq!(flows.len(), count.div_ceil(NODES_A_FLOW));
            for flow in flows {
                let mut bytes = BytesMut::new();
                let envelope = Envelope::new(1, Message::FlowMod(FlowMod::add(flow)));
                assert!(envelope.encode(&mut bytes).is_ok(), "{count} nodes");
            }
        }
    }
}
