//! Pods of this node: what they may send (tables 20 and 25) and how they are reached (tables 40 and 70).

use std::net::Ipv4Addr;

use openflow::{Field, Flow, Match, OfPort};

use crate::pipeline::cookie::Owner;
use crate::pipeline::register::{DESTINATION_PORT, DESTINATION_VNID};
use crate::pipeline::rule::{Conditions, Rule, rule};
use crate::pipeline::table::Table::{ArpLocal, LocalPod, PodEgress, PodIngress, Routing, ServiceReturn};
use crate::pipeline::vnid::Vnid;

/// A pod's leg on the bridge.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pod {
    /// Namespace of the Pod object.
    pub namespace: String,
    /// Name of the Pod object.
    pub name: String,
    /// OpenFlow port of its veth.
    pub port: OfPort,
    /// Its address.
    pub ip: Ipv4Addr,
    /// VNID of its namespace (0 with the plugin `subnet`).
    pub vnid: Vnid,
}

/// The MAC address that a pod with this address gets: `0a:58` and the four bytes of the address.
#[must_use]
pub fn mac(ip: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = ip.octets();
    [0x0a, 0x58, a, b, c, d]
}

impl Pod {
    /// Who the flows belong to.
    #[must_use]
    pub fn owner(&self) -> Owner {
        Owner::Pod { namespace: self.namespace.clone(), name: self.name.clone() }
    }

    /// The pod's flows.
    #[must_use]
    pub fn flows(&self) -> Vec<Flow> {
        let any = Match::new;
        let ip = self.ip;
        // The sender's MAC must end in its address; the two bytes before are free, as they always were.
        let arp_sender =
            any().in_port(self.port).arp().arp_spa(ip).with_masked(Field::ARP_SHA, u32::from(ip), u32::MAX);
        let from_pod =
            |fields: Match| rule(PodIngress, 100).when(fields).load_source_vnid(self.vnid).goto(PodEgress);
        let rules: [Rule; 5] = [
            from_pod(arp_sender),
            from_pod(any().in_port(self.port).ip().nw_src(ip)),
            rule(ServiceReturn, 100).when(any().ip().nw_src(ip)).load_source_vnid(self.vnid).goto(Routing),
            rule(ArpLocal, 100).when(any().arp().arp_tpa(ip)).output(self.port),
            rule(LocalPod, 100)
                .when(any().ip().nw_dst(ip))
                .action(DESTINATION_VNID.load(self.vnid.get()))
                .action(DESTINATION_PORT.load(self.port.0))
                .goto(crate::pipeline::table::Table::Isolation),
        ];
        let owner = self.owner();
        rules.into_iter().map(|rule| rule.of(&owner)).collect()
    }
}
