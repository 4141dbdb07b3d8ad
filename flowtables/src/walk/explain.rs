//! Each step in words, for a person who has never seen table 21.

use openflow::{Action, Field, Flow, Instruction};

use super::Packet;
use crate::pipeline::cookie::Owner;
use crate::pipeline::port::{self, TUN0, VXLAN0};
use crate::pipeline::register::{DESTINATION_PORT, DESTINATION_VNID, SOURCE_VNID};
use crate::pipeline::rule::ETH_TYPE_ARP;
use crate::pipeline::table::Table;

const ARP_REQUEST: u128 = 1;

/// Why the packet took this flow and what came of it. `before` is the packet when it entered the table, `after`
/// when the flow's actions were done.
pub(super) fn why(flow: &Flow, owner: &Owner, before: &Packet, after: &Packet) -> String {
    let Some(table) = Table::from_number(flow.table) else {
        return format!("table {} is not part of the pipeline", flow.table);
    };
    let does = Does::of(flow);
    match table {
        Table::Classify => classify(does, before),
        Table::VxlanIngress => vxlan_ingress(does, owner, before),
        Table::PodIngress => pod_ingress(flow, does, owner, before, after),
        Table::PodEgress => "no NetworkPolicy limits what this pod sends".to_owned(),
        Table::ServiceReturn => match does {
            Does::Drop => format!("{} is not the address of a pod on this node", source(before)),
            _ => format!("{} is {owner}: its VNID is {} again", source(before), vnid(after)),
        },
        Table::EgressRules => "NetworkPolicy egress rules".to_owned(),
        Table::Routing => routing(does, before),
        Table::ArpLocal => match does {
            Does::Drop => format!("no pod on this node has {}", destination(before)),
            _ => format!("{} is {owner}: out of its port", destination(before)),
        },
        Table::ArpRemote | Table::RemotePod => match does {
            Does::Drop => format!("no node of the cluster has the subnet of {}", destination(before)),
            _ => format!(
                "{} is on {owner}: into the tunnel to {} with VNID {}",
                destination(before),
                after.ipv4(Field::TUN_DST),
                after.get(Field::TUN_ID),
            ),
        },
        Table::Service => service(does, owner, before),
        Table::LocalPod => match does {
            Does::Drop => format!("no pod on this node has {}", destination(before)),
            _ => format!(
                "{} is {owner}, VNID {}, at port {}",
                destination(before),
                after.register(&DESTINATION_VNID),
                after.register(&DESTINATION_PORT),
            ),
        },
        Table::Isolation => isolation(flow, does, before),
        Table::EgressRouting => egress_routing(does, owner, after),
        Table::EgressPolicy => egress_policy(does, owner),
        Table::MulticastOut => match owner {
            Owner::Multicast(vnid) => format!("the namespaces of VNID {vnid} asked for multicast"),
            _ => "the namespace has not asked for multicast".to_owned(),
        },
        Table::MulticastTunnel => multicast_tunnel(flow, does),
        Table::MulticastIn => match owner {
            Owner::Multicast(vnid) => format!("a copy to each pod of VNID {vnid} on this node"),
            _ => "no pod on this node receives multicast of this VNID".to_owned(),
        },
        Table::Version => "a note that no packet visits".to_owned(),
    }
}

/// What a flow does with a packet, as far as the words depend on it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Does {
    Drop,
    Output,
    Conntrack,
    Goto(u8),
}

impl Does {
    fn of(flow: &Flow) -> Self {
        let mut does = Does::Drop;
        for action in actions(flow) {
            match action {
                Action::Output(_) | Action::OutputReg { .. } | Action::Group(_) => does = Does::Output,
                Action::Ct(_) => does = Does::Conntrack,
                _ => {}
            }
        }
        let goto = flow.instructions.iter().find_map(|instruction| match instruction {
            Instruction::GotoTable(table) => Some(Does::Goto(*table)),
            _ => None,
        });
        goto.unwrap_or(does)
    }

    fn goes_to(self, table: Table) -> bool {
        self == Does::Goto(table.number())
    }
}

/// What a flow does at once.
fn actions(flow: &Flow) -> impl Iterator<Item = &Action> {
    flow.instructions.iter().flat_map(|instruction| match instruction {
        Instruction::ApplyActions(actions) => actions.as_slice(),
        _ => &[],
    })
}

fn is_arp(packet: &Packet) -> bool {
    packet.get(Field::ETH_TYPE) == u128::from(ETH_TYPE_ARP)
}

fn source(packet: &Packet) -> String {
    packet.ipv4(if is_arp(packet) { Field::ARP_SPA } else { Field::IPV4_SRC }).to_string()
}

fn destination(packet: &Packet) -> String {
    packet.ipv4(if is_arp(packet) { Field::ARP_TPA } else { Field::IPV4_DST }).to_string()
}

fn vnid(packet: &Packet) -> u32 {
    packet.register(&SOURCE_VNID)
}

fn classify(does: Does, packet: &Packet) -> String {
    if does == Does::Conntrack {
        return "not known to connection tracking yet: looked up there, then back to table 0".to_owned();
    }
    match packet.in_port() {
        VXLAN0 if does == Does::Drop => {
            "came through the tunnel, but neither from nor to the pods' networks".to_owned()
        }
        VXLAN0 => format!(
            "came through the tunnel from {} with VNID {}",
            packet.ipv4(Field::TUN_SRC),
            packet.get(Field::TUN_ID)
        ),
        TUN0 if does == Does::Drop => {
            "came from the node, but is nothing the node may send to pods".to_owned()
        }
        TUN0 if does.goes_to(Table::ServiceReturn) => {
            "came from the node under a local pod's address: back from its service NAT".to_owned()
        }
        TUN0 => "came from the node itself: VNID 0".to_owned(),
        _ if does == Does::Drop => "neither IPv4 nor ARP".to_owned(),
        pod if port::PODS.contains(&pod) => format!("came from the pod at {}", port::name(pod)),
        other => format!("came from {}, which is no pod's", port::name(other)),
    }
}

fn vxlan_ingress(does: Does, owner: &Owner, packet: &Packet) -> String {
    let peer = packet.ipv4(Field::TUN_SRC);
    match does {
        Does::Drop => format!("{peer} is no other node of this cluster: not heard"),
        _ => format!("{peer} is {owner}"),
    }
}

fn pod_ingress(flow: &Flow, does: Does, owner: &Owner, before: &Packet, after: &Packet) -> String {
    match does {
        Does::Drop if flow.fields.get(Field::UDP_DST).is_some() => {
            "pods may not send VXLAN: it could claim any VNID".to_owned()
        }
        Does::Drop => format!(
            "no pod at {} has the address {}: a false sender",
            port::name(before.in_port()),
            source(before)
        ),
        _ => format!("port and address are those of {owner}: VNID {}", vnid(after)),
    }
}

fn routing(does: Does, packet: &Packet) -> String {
    let to = destination(packet);
    let Does::Goto(next) = does else {
        return match does {
            Does::Output => format!("{to} is this node's gateway address: out of tun0"),
            Does::Conntrack => format!("a reply to {to}: its connection's address translation is undone"),
            _ => format!("nothing here leads to {to}"),
        };
    };
    match Table::from_number(next) {
        Some(Table::ArpLocal) if packet.get(Field::ARP_OP) == ARP_REQUEST => {
            format!("asks for {to}, an address of this node's subnet")
        }
        Some(Table::ArpLocal | Table::LocalPod) => format!("{to} is in this node's subnet"),
        Some(Table::ArpRemote | Table::RemotePod) => format!("{to} is in another node's subnet"),
        Some(Table::Service) => format!("{to} is in the service network"),
        Some(Table::MulticastOut | Table::MulticastIn) => format!("{to} is a multicast group"),
        _ => format!("{to} is outside the cluster"),
    }
}

fn service(does: Does, owner: &Owner, packet: &Packet) -> String {
    let to = destination(packet);
    match does {
        Does::Drop => format!("no service has this port at {to}"),
        Does::Output => format!("{to}: out of tun0, where the node picks one of the service's endpoints"),
        _ => format!("{to} is {owner}"),
    }
}

fn egress_routing(does: Does, owner: &Owner, after: &Packet) -> String {
    match (owner, does) {
        (Owner::EgressIp(namespace), Does::Drop) => {
            format!(
                "namespace {namespace} asks for an egress IP that no node has: nothing leaves the cluster"
            )
        }
        (Owner::EgressIp(namespace), _) if after.get(Field::PKT_MARK) != 0 => {
            let mark = after.get(Field::PKT_MARK);
            format!("this node has the egress IP of namespace {namespace}: marked {mark:#x} for its address")
        }
        (Owner::EgressIp(namespace), Does::Output) => {
            format!("into the tunnel to a node that has the egress IP of namespace {namespace}")
        }
        (Owner::EgressIp(namespace), _) => {
            format!("namespace {namespace} has its egress IP on another node: its egress policy first")
        }
        (_, Does::Output) => "name resolution at the node itself is always allowed".to_owned(),
        _ => "the namespace has no egress IP, or this is a reply".to_owned(),
    }
}

fn egress_policy(does: Does, owner: &Owner) -> String {
    match (owner, does) {
        (Owner::EgressPolicy(namespace), Does::Drop) => {
            format!("the egress policy of namespace {namespace} forbids this destination")
        }
        (Owner::EgressPolicy(namespace), _) => {
            format!("the egress policy of namespace {namespace} allows this destination: out")
        }
        (_, Does::Drop) => "an egress policy forbids this destination".to_owned(),
        _ => {
            "no egress policy forbids it: out of tun0, the node sends it on under its own address".to_owned()
        }
    }
}

fn multicast_tunnel(flow: &Flow, does: Does) -> String {
    let copies = actions(flow).filter(|action| matches!(action, Action::Output(_))).count();
    match (copies, does) {
        (0, _) => "there is no other node to send a copy to".to_owned(),
        (n, Does::Goto(_)) => format!("a copy through the tunnel to each of {n} other nodes"),
        (n, _) => format!("a copy through the tunnel to each of {n} other nodes; the next ones follow"),
    }
}

fn isolation(flow: &Flow, does: Does, packet: &Packet) -> String {
    let from = vnid(packet);
    let to = packet.register(&DESTINATION_VNID);
    let port = packet.register(&DESTINATION_PORT);
    match does {
        Does::Drop => format!("VNID {from} may not reach VNID {to}"),
        _ if flow.fields.get(Field::IPV4_SRC).is_some() => {
            format!("the node may always reach its own pods: out of port {port}")
        }
        _ if flow.fields.is_empty() => format!("all pods may reach each other: out of port {port}"),
        _ if from == to => format!("both ends have VNID {to}: out of port {port}"),
        _ => format!("VNID {from} may reach VNID {to}, as one of them is global (0): out of port {port}"),
    }
}
