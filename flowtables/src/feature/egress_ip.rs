//! Egress IPs (table 100): a namespace whose traffic to the outside leaves under addresses of its own, which some
//! nodes host.
//!
//! A packet of such a namespace either leaves here, marked so that the host's firewall gives it the right source
//! address, or goes through the tunnel to the node that hosts the address and leaves there, or is dropped.

use std::net::Ipv4Addr;

use openflow::{Action, Bucket, Field, Group, GroupType, Match};

use crate::flowset::Rendered;
use crate::pipeline::cookie::Owner;
use crate::pipeline::port::VXLAN0;
use crate::pipeline::register::SOURCE_VNID;
use crate::pipeline::rule::{self, Conditions, Rule, rule};
use crate::pipeline::table::Table::{EgressPolicy, EgressRouting};
use crate::pipeline::vnid::Vnid;

/// How the traffic of a namespace with egress IPs leaves the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// None of the addresses is to be had: nothing may leave, least of all under the node's address.
    Nowhere,
    /// This node hosts one of them. It is preferred to any other.
    Here {
        /// MAC address of `tun0`: the host takes a packet that came through the tunnel for its own.
        tun0_mac: [u8; 6],
    },
    /// Other nodes host them: their VTEPs.
    Elsewhere(Vec<Ipv4Addr>),
}

/// A namespace with egress IPs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EgressIp {
    /// The namespace that asked for them.
    pub namespace: String,
    /// Its VNID, by which its packets are known.
    pub vnid: Vnid,
    /// Where its packets leave.
    pub route: Route,
    /// Whether an EgressNetworkPolicy must see a packet before it goes into the tunnel.
    pub policed: bool,
}

/// Bits of a packet's mark that others on the host read, so that no egress mark may have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReservedBits {
    /// The bit by which the service proxy asks for masquerading.
    pub masquerade: u32,
    /// The bit by which kubelet once asked for a packet to be dropped.
    pub drop: u32,
}

impl ReservedBits {
    /// As OpenShift 3.11 has them: masquerade bit 0, and no drop bit. The replaced system kept bit 15 free too
    /// in its last versions; kubelet has not used it since Kubernetes 1.28.
    pub const DEFAULT: Self = Self { masquerade: 0x1, drop: 0 };
}

/// The mark by which the host's firewall knows packets of `vnid` that leave under an egress IP: the VNID, with
/// reserved bits moved up where a VNID has none. Never 0, and different for every VNID.
#[must_use]
pub fn mark(vnid: Vnid, reserved: ReservedBits) -> u32 {
    let moved = |mark: u32, bit: u32, to: u32| if mark & bit == 0 { mark } else { (mark | to) & !bit };
    let mark = if vnid.is_global() { 0xff00_0000 } else { vnid.get() };
    moved(moved(mark, reserved.drop, 0x1000_0000), reserved.masquerade, 0x0100_0000)
}

impl EgressIp {
    /// Who the flows belong to.
    #[must_use]
    pub fn owner(&self) -> Owner {
        Owner::EgressIp(self.namespace.clone())
    }

    /// What an EgressNetworkPolicy must do with a packet of the namespace that it lets pass.
    #[must_use]
    pub fn exit(&self) -> super::Exit {
        match &self.route {
            Route::Elsewhere(hosts) if hosts.len() > 1 => super::Exit::Group(self.group_id()),
            Route::Elsewhere(_) => super::Exit::Tunnel,
            Route::Nowhere | Route::Here { .. } => super::Exit::Host,
        }
    }

    /// Its flows, and a group where several nodes share the traffic.
    #[must_use]
    pub fn rendered(&self) -> Rendered {
        let of_vnid = Match::new().register(&SOURCE_VNID, self.vnid.get());
        let start = || rule(EgressRouting, 100).when(of_vnid.clone().ip());
        let mut groups = Vec::new();
        let rule = match &self.route {
            Route::Here { tun0_mac } => start()
                .action(rule::set(Field::ETH_DST, mac_number(*tun0_mac)))
                .action(rule::set(Field::PKT_MARK, mark(self.vnid, ReservedBits::DEFAULT).into()))
                .goto(EgressPolicy),
            Route::Nowhere => rule(EgressRouting, 100).when(of_vnid),
            Route::Elsewhere(hosts) => match hosts.as_slice() {
                [] => rule(EgressRouting, 100).when(of_vnid),
                [host] if self.policed => start().actions(to(*host)).goto(EgressPolicy),
                [host] => start().actions(to(*host)).output(VXLAN0),
                _ => {
                    groups.push(self.group(hosts));
                    self.through_group(start())
                }
            },
        };
        Rendered { flows: vec![rule.of(&self.owner())], groups }
    }

    fn through_group(&self, rule: Rule) -> Rule {
        if self.policed { rule.goto(EgressPolicy) } else { rule.action(Action::Group(self.group_id())) }
    }

    /// A VNID has one namespace that decides about its egress IPs, so its number is free for the group.
    fn group_id(&self) -> u32 {
        self.vnid.get()
    }

    fn group(&self, hosts: &[Ipv4Addr]) -> Group {
        let bucket = |&host: &Ipv4Addr| Bucket {
            weight: 1,
            actions: to(host).into_iter().chain([Action::Output(VXLAN0)]).collect(),
            ..Bucket::default()
        };
        Group { id: self.group_id(), kind: GroupType::Select, buckets: hosts.iter().map(bucket).collect() }
    }
}

/// The tunnel to a node, for a packet that keeps its sender's VNID.
fn to(host: Ipv4Addr) -> Vec<Action> {
    vec![rule::source_vnid_to_tunnel(), rule::set(Field::TUN_DST, u32::from(host).into())]
}

fn mac_number(mac: [u8; 6]) -> u128 {
    mac.into_iter().fold(0, |number, byte| number << 8 | u128::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_avoid_the_reserved_bits() {
        // VNID, masquerade bit, drop bit, mark: what the replaced system's own tests pin down.
        for (vnid, masquerade, mark) in [
            (0xaa, 0x1, 0x0000_00aa),
            (0xab, 0x1, 0x0100_00aa),
            (0, 0x1, 0xff00_0000),
            (0xaa, 0x8000_0000, 0x0000_00aa),
            (0, 0x8000_0000, 0x7f00_0000),
            (0xaa, 0x0100_0000, 0x0000_00aa),
            (0, 0x0100_0000, 0xfe00_0000),
            (0, 0, 0xff00_0000),
            (0x8000, 0x1000_0000, 0x0100_0000),
            (0x8aaa, 0, 0x1000_0aaa),
            (0x8001, 0x1, 0x1100_0000),
        ] {
            let reserved = ReservedBits { masquerade, drop: 0x8000 };
            assert_eq!(
                super::mark(Vnid::try_from(vnid).unwrap(), reserved),
                mark,
                "{vnid:#x} {masquerade:#x}"
            );
        }
        let vnid = |n| Vnid::try_from(n).unwrap();
        assert_eq!(super::mark(vnid(0x82_f8b2), ReservedBits::DEFAULT), 0x82_f8b2);
        assert_eq!(super::mark(vnid(0x82_f8b3), ReservedBits::DEFAULT), 0x0182_f8b2);
    }
}
