//! Who may reach whom, by the objects.

use std::net::Ipv4Addr;

use flowtables::feature::Plugin;
use flowtables::feature::base::gateway;
use flowtables::feature::egress_ip::{ReservedBits, mark};
use flowtables::feature::pods::Pod;
use flowtables::pipeline::port::{TUN0, VXLAN0};
use flowtables::pipeline::vnid::Vnid;
use flowtables::walk::{Output, Packet};
use openflow::Field;

use super::chain::{Hop, Journey, Nodes};

const ARP: u128 = 0x0806;
const IPV4: u128 = 0x0800;

/// Who sent a packet into a node.
enum Sender<'a> {
    /// Nobody who may send at all.
    Nobody(&'static str),
    Pod(&'a Pod),
    /// Another node, for a tenant.
    Tunnel(Vnid),
    /// The node itself.
    Host,
}

impl Sender<'_> {
    fn vnid(&self) -> Vnid {
        match self {
            Sender::Pod(pod) => pod.vnid,
            Sender::Tunnel(vnid) => *vnid,
            Sender::Host | Sender::Nobody(_) => Vnid::GLOBAL,
        }
    }
}

fn is_ip(packet: &Packet) -> bool {
    packet.get(Field::ETH_TYPE) == IPV4
}

fn is_arp(packet: &Packet) -> bool {
    packet.get(Field::ETH_TYPE) == ARP
}

fn is_multicast(packet: &Packet) -> bool {
    is_ip(packet) && packet.ipv4(Field::IPV4_DST).is_multicast()
}

/// The rule that a journey breaks, if it breaks one.
pub(crate) fn violation(nodes: &Nodes, journey: &Journey) -> Option<String> {
    journey.hops.iter().find_map(|hop| {
        let sender = sender(nodes, hop);
        if let Sender::Nobody(why) = sender {
            return (!hop.walk.outputs.is_empty()).then(|| format!("{why}, and something was sent"));
        }
        hop.walk.outputs.iter().find_map(|output| match output.port {
            VXLAN0 => into_tunnel(nodes, hop, &sender, output),
            TUN0 => to_host(nodes, hop, &sender, output),
            _ => to_pod(nodes, hop, &sender, output),
        })
    })
}

fn sender<'a>(nodes: &'a Nodes, hop: &Hop) -> Sender<'a> {
    let inputs = nodes.inputs(hop.node);
    let packet = &hop.packet;
    if !is_ip(packet) && !is_arp(packet) {
        return Sender::Nobody("neither IPv4 nor ARP");
    }
    let source = if is_arp(packet) { packet.ipv4(Field::ARP_SPA) } else { packet.ipv4(Field::IPV4_SRC) };
    match packet.in_port() {
        VXLAN0 => {
            let vtep = packet.ipv4(Field::TUN_SRC);
            match (inputs.nodes.iter().any(|node| node.vtep == vtep), tunnel_vnid(packet)) {
                (true, Ok(vnid)) => Sender::Tunnel(vnid),
                (true, Err(_)) => Sender::Nobody("no VNID"),
                (false, _) => Sender::Nobody("from the tunnel of a stranger"),
            }
        }
        TUN0 => match inputs.pods.iter().find(|pod| pod.ip == source) {
            // The service NAT keeps the pod's address: the packet is still the pod's. To the outside it does not
            // send: that is the host forging.
            Some(pod)
                if inputs
                    .base
                    .cluster_networks
                    .iter()
                    .any(|net| net.contains(&packet.ipv4(Field::IPV4_DST))) =>
            {
                Sender::Pod(pod)
            }
            _ => Sender::Host,
        },
        port => match inputs.pods.iter().find(|pod| pod.port == port) {
            None => Sender::Nobody("from a port that is no pod's"),
            Some(pod) if pod.ip != source => Sender::Nobody("under another address than the pod's"),
            Some(pod)
                if is_arp(packet) && packet.get(Field::ARP_SHA) & 0xffff_ffff != u32::from(pod.ip).into() =>
            {
                Sender::Nobody("ARP under another MAC address than the pod's")
            }
            Some(_) if is_vxlan(inputs.base.vxlan_port, packet) => {
                Sender::Nobody("a tunnel inside the tunnel")
            }
            Some(pod) => Sender::Pod(pod),
        },
    }
}

fn tunnel_vnid(packet: &Packet) -> Result<Vnid, ()> {
    u32::try_from(packet.get(Field::TUN_ID)).ok().and_then(|id| Vnid::try_from(id).ok()).ok_or(())
}

/// A later fragment says no port; without the first one, which is dropped, nobody puts it together.
fn is_vxlan(port: u16, packet: &Packet) -> bool {
    is_ip(packet)
        && packet.get(Field::IP_PROTO) == 17
        && packet.get(Field::UDP_DST) == port.into()
        && packet.get(Field::IP_FRAG) & 2 == 0
}

fn may_reach(from: Vnid, to: Vnid) -> bool {
    from == to || from.is_global() || to.is_global()
}

fn last_table(hop: &Hop) -> u8 {
    hop.walk.steps.last().map_or(0, |step| step.table)
}

fn to_pod(nodes: &Nodes, hop: &Hop, sender: &Sender<'_>, output: &Output) -> Option<String> {
    let inputs = nodes.inputs(hop.node);
    let Some(pod) = inputs.pods.iter().find(|pod| pod.port == output.port) else {
        return Some(format!("sent to port {}, which nobody has", output.port));
    };
    let path = hop.walk.path();
    if is_arp(&hop.packet) {
        // ARP is answered between tenants, as it always was: it tells nobody but who has an address. It must not be
        // told wrongly.
        let claims = hop.packet.ipv4(Field::ARP_SPA);
        let own = hop.packet.get(Field::ARP_SHA) & 0xffff_ffff == u32::from(claims).into();
        let from_pod = hop.packet.in_port() > TUN0;
        return (last_table(hop) != 40 || (from_pod && !own) || hop.packet.ipv4(Field::ARP_TPA) != pod.ip)
            .then(|| format!("ARP to {} by table {}", pod.name, last_table(hop)));
    }
    if is_multicast(&hop.packet) {
        let listens = inputs.multicast.iter().any(|group| group.vnid == pod.vnid);
        return (last_table(hop) != 120 || sender.vnid() != pod.vnid || !listens)
            .then(|| format!("multicast of VNID {} to {} of VNID {}", sender.vnid(), pod.name, pod.vnid));
    }
    if !path.contains(&80) || last_table(hop) != 80 {
        return Some(format!("to {} past table 80", pod.name));
    }
    if hop.packet.ipv4(Field::IPV4_DST) != pod.ip {
        return Some(format!("to {}, whose address it does not have", pod.name));
    }
    let health_probe = hop.packet.ipv4(Field::IPV4_SRC) == gateway(inputs.base.local_subnet)
        && matches!(sender, Sender::Host);
    // Only the node itself has the gateway's address: from elsewhere it is a lie, and must not open anything.
    (!health_probe && !may_reach(sender.vnid(), pod.vnid))
        .then(|| format!("of VNID {} to {} of VNID {}", sender.vnid(), pod.name, pod.vnid))
}

fn into_tunnel(nodes: &Nodes, hop: &Hop, sender: &Sender<'_>, output: &Output) -> Option<String> {
    let inputs = nodes.inputs(hop.node);
    let vtep = output.packet.ipv4(Field::TUN_DST);
    let Some(node) = inputs.nodes.iter().find(|node| node.vtep == vtep) else {
        return Some(format!("into the tunnel to {vtep}, which is no node"));
    };
    let expected = match node.fixed_vnid {
        Some(vnid) if !is_multicast(&hop.packet) => vnid,
        _ => sender.vnid(),
    };
    let sent = output.packet.get(Field::TUN_ID);
    if sent != expected.get().into() {
        return Some(format!("VNID {sent} in the tunnel for one of {expected}"));
    }
    let inside = is_arp(&hop.packet)
        || is_multicast(&hop.packet)
        || node.subnet.contains(&hop.packet.ipv4(Field::IPV4_DST));
    if inside { None } else { leaves(nodes, hop, sender, false) }
}

fn to_host(nodes: &Nodes, hop: &Hop, sender: &Sender<'_>, output: &Output) -> Option<String> {
    let inputs = nodes.inputs(hop.node);
    let to = hop.packet.ipv4(Field::IPV4_DST);
    let gateway = gateway(inputs.base.local_subnet);
    if is_arp(&hop.packet) {
        return (hop.packet.ipv4(Field::ARP_TPA) != gateway)
            .then(|| "ARP to the host for somebody else".to_owned());
    }
    if to == gateway {
        return None;
    }
    if inputs.base.service_network.contains(&to) {
        let allowed = inputs.base.plugin == Plugin::Subnet
            || sender.vnid().is_global()
            || inputs.services.iter().any(|service| {
                service.cluster_ip == to
                    && !service.ports.is_empty()
                    && may_reach(sender.vnid(), service.vnid)
            });
        return (!allowed).then(|| format!("VNID {} to the service at {to}", sender.vnid()));
    }
    if inputs.base.cluster_networks.iter().any(|net| net.contains(&to)) {
        return Some(format!("to the host for {to}, which is inside the cluster"));
    }
    let marked = output.packet.get(Field::PKT_MARK);
    if marked != 0 && marked != mark(sender.vnid(), ReservedBits::DEFAULT).into() {
        return Some(format!("mark {marked:#x} for VNID {}", sender.vnid()));
    }
    leaves(nodes, hop, sender, true)
}

/// A packet that leaves the cluster: here, or by another node.
fn leaves(nodes: &Nodes, hop: &Hop, sender: &Sender<'_>, here: bool) -> Option<String> {
    const REPLY: u128 = 0x08;
    let inputs = nodes.inputs(hop.node);
    let to = hop.packet.ipv4(Field::IPV4_DST);
    let port = match hop.packet.get(Field::IP_PROTO) {
        6 => hop.packet.get(Field::TCP_DST),
        17 => hop.packet.get(Field::UDP_DST),
        _ => 0,
    };
    if here && to == inputs.base.node_ip && port == 53 {
        return None;
    }
    // What comes through the tunnel has passed the policy on its sender's node. Here it is read again where the VNID has
    // pods, or leaves.
    let read_here = inputs.egress_policies.iter().any(|policy| policy.vnid == sender.vnid());
    if (read_here || hop.packet.in_port() != VXLAN0) && denied(nodes, sender.vnid(), to) {
        return Some(format!("VNID {} out to {to}, which its policy denies", sender.vnid()));
    }
    let reply = hop.walk.packet.get(Field::CT_STATE) & REPLY != 0;
    let wants_ip = inputs.base.plugin == Plugin::Multitenant
        && nodes
            .cluster
            .state
            .net_namespaces
            .values()
            .any(|namespace| namespace.netid == sender.vnid().get() && !namespace.egress_ips.is_empty());
    let marked = hop.walk.outputs.iter().any(|output| output.packet.get(Field::PKT_MARK) != 0);
    (here && wants_ip && !reply && !marked)
        .then(|| format!("VNID {} left under the node's address and not its egress IP", sender.vnid()))
}

/// What the EgressNetworkPolicy of a VNID says of a destination: the first rule that matches, in words of the object.
fn denied(nodes: &Nodes, vnid: Vnid, to: Ipv4Addr) -> bool {
    let state = &nodes.cluster.state;
    if nodes.inputs(0).base.plugin == Plugin::Subnet || vnid.is_global() {
        return false;
    }
    let sharing: Vec<&String> = state
        .net_namespaces
        .iter()
        .filter(|(_, namespace)| namespace.netid == vnid.get())
        .map(|(name, _)| name)
        .collect();
    let policies: Vec<_> = state
        .egress_network_policies
        .iter()
        .filter(|((namespace, _), _)| sharing.contains(&namespace))
        .map(|(_, policy)| policy)
        .collect();
    let [policy] = policies.as_slice() else { return !policies.is_empty() };
    if sharing.len() > 1 {
        return true;
    }
    let first = policy.spec.egress.iter().find(|rule| {
        let cidr = &rule.to.cidr_selector;
        match cidr.parse::<ipnet::Ipv4Net>() {
            Ok(net) => net.contains(&to),
            Err(_) => {
                // Of a name that nobody has resolved, any address may be meant.
                match nodes.cluster.known.names.get(&rule.to.dns_name) {
                    Some(ips) => ips.contains(&to),
                    None => rule.rule_type == "Deny",
                }
            }
        }
    });
    first.is_some_and(|rule| rule.rule_type == "Deny")
}
