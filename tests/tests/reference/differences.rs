//! The entries of `docs/differences.md` that change a packet's fate in the dumps, each with the packets that it may
//! speak of. What none of these covers is a fault, ours or theirs.

use std::net::Ipv4Addr;

use flowtables::feature::Plugin;
use flowtables::feature::base::gateway;
use flowtables::feature::services::Protocol;
use flowtables::pipeline::port::{TUN0, VXLAN0};
use flowtables::walk::Packet;
use openflow::Field;

use super::End;
use super::scenario::Scenario;

/// A packet that fared differently.
pub(crate) struct Case<'a> {
    pub(crate) scenario: &'a Scenario,
    /// As it came in.
    pub(crate) packet: &'a Packet,
    pub(crate) theirs: &'a [End],
    pub(crate) ours: &'a [End],
    pub(crate) their_path: &'a [u8],
    pub(crate) our_path: &'a [u8],
}

/// An entry of the document.
pub(crate) struct Difference {
    pub(crate) id: &'static str,
    /// Whether the entry is the reason for what happened to a packet.
    pub(crate) explains: fn(&Case<'_>) -> bool,
}

pub(crate) const DIFFERENCES: &[Difference] = &[
    Difference { id: "services-by-tenant", explains: services_by_tenant },
    Difference { id: "egress-mark", explains: egress_mark },
    Difference { id: "gateway-from-tunnel", explains: gateway_from_tunnel },
    Difference { id: "routing-mac-rewrite", explains: routing_mac_rewrite },
];

/// They hand everything to the host; we drop what no service of the sender's tenant and no global one takes.
fn services_by_tenant(case: &Case<'_>) -> bool {
    let to = case.packet.ipv4(Field::IPV4_DST);
    let inputs = &case.scenario.inputs;
    let to_host = matches!(case.theirs, [End { port, .. }] if *port == TUN0.0);
    if inputs.base.plugin != Plugin::Multitenant
        || !inputs.base.service_network.contains(&to)
        || !to_host
        || !case.ours.is_empty()
    {
        return false;
    }
    let sender = case.scenario.sender(case.packet);
    !sender.is_some_and(|vnid| vnid == 0 || may_use(case, to, vnid))
}

/// Whether a service of the tenant, or a global one, takes the packet: by the objects, not by flows.
fn may_use(case: &Case<'_>, to: Ipv4Addr, vnid: u32) -> bool {
    let service = case.scenario.inputs.services.iter().find(|service| service.cluster_ip == to);
    let Some(service) = service.filter(|service| service.vnid.is_global() || service.vnid.get() == vnid)
    else {
        return false;
    };
    // A later fragment has no ports: it goes where a fragment of the service may.
    let later = case.packet.get(Field::IP_FRAG) & 2 != 0;
    service.ports.iter().any(|(protocol, port)| {
        let (number, field) = match protocol {
            Protocol::Tcp => (6, Field::TCP_DST),
            Protocol::Udp => (17, Field::UDP_DST),
            Protocol::Sctp => (132, Field::SCTP_DST),
        };
        case.packet.get(Field::IP_PROTO) == number && (later || case.packet.get(field) == u128::from(*port))
    })
}

/// The same but for the mark, of which they move bit 15 to bit 28.
fn egress_mark(case: &Case<'_>) -> bool {
    const DROP: u128 = 1 << 15;
    let moved = |end: &End| End { mark: end.mark & !DROP | 1 << 28, ..end.clone() };
    match (case.theirs, case.ours) {
        ([theirs], [ours]) => ours.mark & DROP != 0 && *theirs == moved(ours),
        _ => false,
    }
}

/// They deliver what came through the tunnel under the address of this node's gateway; we ask the VNIDs.
fn gateway_from_tunnel(case: &Case<'_>) -> bool {
    let gateway = gateway(case.scenario.inputs.base.local_subnet);
    let pod = |vnid: u32| {
        let to = case.packet.ipv4(Field::IPV4_DST);
        case.scenario.inputs.pods.iter().any(|pod| pod.ip == to && ![0, vnid].contains(&pod.vnid.get()))
    };
    case.packet.in_port() == VXLAN0
        && case.packet.ipv4(Field::IPV4_SRC) == gateway
        && case.theirs.len() == 1
        && case.ours.is_empty()
        && case.scenario.sender(case.packet).is_some_and(|vnid| vnid != 0 && pod(vnid))
}

/// The same but for the destination MAC address, which they change for packets from the tunnel.
fn routing_mac_rewrite(case: &Case<'_>) -> bool {
    let same = |(theirs, ours): (&End, &End)| {
        *theirs == End { destination_mac: theirs.destination_mac, ..ours.clone() }
    };
    case.packet.in_port() == VXLAN0
        && case.packet.get(Field::ETH_DST) != 0
        && case.their_path.iter().filter(|table| **table == 10).count() == 2
        && case.our_path.contains(&10)
        && case.theirs.len() == case.ours.len()
        && case.theirs.iter().zip(case.ours).all(same)
}
