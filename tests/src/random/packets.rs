//! Random packets for one node of a cluster: most make sense, some are what an attacker would send.

use std::net::Ipv4Addr;

use controller::cluster::ClusterState;
use controller::view::Inputs;
use flowtables::feature::base::gateway;
use flowtables::feature::pods::mac;
use flowtables::walk::Assumptions;
use ipnet::Ipv4Net;
use openflow::{Field, Match};

use super::Random;

const VXLAN0: u32 = 1;
const TUN0: u32 = 2;

/// What packets of a node are made from.
#[derive(Clone, Debug)]
pub struct Packets {
    /// Port and address of the node's pods.
    local: Vec<(u32, Ipv4Addr)>,
    /// Addresses of all pods.
    pods: Vec<Ipv4Addr>,
    /// Services with their ports, as `tcp` and a number.
    services: Vec<(Ipv4Addr, Vec<(&'static str, u16)>)>,
    /// The VTEPs of the other nodes, and the node's own.
    peers: Vec<Ipv4Addr>,
    own: Ipv4Addr,
    subnet: Ipv4Net,
    vnids: Vec<u32>,
    /// Addresses outside the cluster that policies speak of, and others.
    outside: Vec<Ipv4Addr>,
    /// The node's MAC address in the underlay, where anybody knows it.
    node_mac: Option<String>,
}

impl Packets {
    /// Of the node whose inputs these are.
    #[must_use]
    pub fn new(state: &ClusterState, inputs: &Inputs) -> Self {
        let pods = state.pods.values().filter_map(|pod| pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok());
        let mut vnids: Vec<u32> = state.net_namespaces.values().map(|object| object.netid).collect();
        vnids.extend([0, 0x12_3456]);
        let mut outside: Vec<Ipv4Addr> =
            ["192.0.2.1", "198.51.100.9", "8.8.8.8"].iter().filter_map(|ip| ip.parse().ok()).collect();
        for rule in inputs.egress_policies.iter().flat_map(|policy| match &policy.rules {
            flowtables::feature::egress_policy::Rules::Ordered(rules) => rules.as_slice(),
            flowtables::feature::egress_policy::Rules::DropAll => &[],
        }) {
            for net in rule.destinations.iter().filter(|net| net.prefix_len() > 0) {
                outside.extend([net.network(), net.broadcast()]);
            }
        }
        Self {
            local: inputs.pods.iter().map(|pod| (pod.port.0, pod.ip)).collect(),
            pods: pods.collect(),
            services: services(state),
            peers: inputs.nodes.iter().map(|node| node.vtep).collect(),
            own: inputs.base.node_ip,
            subnet: inputs.base.local_subnet,
            vnids,
            outside,
            node_mac: None,
        }
    }

    /// Lets some packets have this destination MAC address.
    #[must_use]
    pub fn with_node_mac(mut self, mac: &str) -> Self {
        self.node_mac = Some(mac.to_owned());
        self
    }

    /// A packet in the syntax of `ofproto/trace`.
    pub fn random(&self, random: &mut Random) -> String {
        let gateway = gateway(self.subnet);
        let somebody = |random: &mut Random| match self.local.as_slice() {
            [] => (3, gateway),
            pods => *random.pick(pods),
        };
        let (pod_port, pod) = somebody(random);
        let (port, mut source) = match random.below(20) {
            0..11 => (pod_port, pod),
            11..15 => (VXLAN0, self.pod(random)),
            15 | 16 => (TUN0, gateway),
            17 | 18 => (TUN0, pod),
            // A port that is nobody's (yet).
            _ => (pod_port + random.below(3) as u32, pod),
        };
        if random.one_in(12) {
            source = self.destination(random);
        }
        let destination = self.destination(random);
        let mut packet = format!("in_port={port}");
        if port == VXLAN0 {
            let peer = match random.below(20) {
                0 => self.own,
                1 => Ipv4Addr::new(172, 17, 0, 99),
                _ if self.peers.is_empty() => self.own,
                _ => *random.pick(&self.peers),
            };
            packet += &format!(",tun_src={peer},tun_dst={},tun_id={}", self.own, random.pick(&self.vnids));
        }
        if let Some(mac) = self.node_mac.as_ref().filter(|_| random.one_in(8)) {
            packet += &format!(",dl_dst={mac}");
        }
        if random.one_in(5) {
            return packet + &arp(random, pod, source, destination);
        }
        if random.one_in(40) {
            return packet + ",ipv6,ct_state=trk";
        }
        packet + &self.ip(random, source, destination)
    }

    fn ip(&self, random: &mut Random, source: Ipv4Addr, destination: Ipv4Addr) -> String {
        let service = self.services.iter().find(|(ip, _)| *ip == destination).map(|(_, ports)| ports);
        let (protocol, port) = match (random.below(8), service) {
            (0..6, Some(ports)) if !ports.is_empty() => *random.pick(ports),
            (0..4, _) => ("tcp", *random.pick(&[80, 53, 443, 8080])),
            (4 | 5, _) => ("udp", *random.pick(&[53, 54, 4789, 123])),
            (6, _) => ("sctp", *random.pick(&[53, 54, 55, 9])),
            _ => ("icmp", 0),
        };
        let mut packet = format!(",{protocol},nw_src={source},nw_dst={destination},nw_ttl=64");
        match random.below(15) {
            0 => packet += ",nw_frag=later",
            1 if protocol != "icmp" => packet += &format!(",nw_frag=first,{protocol}_dst={port}"),
            _ if protocol != "icmp" => packet += &format!(",{protocol}_dst={port}"),
            _ => {}
        }
        packet
            + *random.pick(&[
                "",
                "",
                ",ct_state=trk",
                ",ct_state=trk|new",
                ",ct_state=trk|est",
                ",ct_state=trk|est|rpl",
                ",ct_state=trk|inv",
            ])
    }

    fn pod(&self, random: &mut Random) -> Ipv4Addr {
        match self.pods.as_slice() {
            [] => gateway(self.subnet),
            pods => *random.pick(pods),
        }
    }

    fn destination(&self, random: &mut Random) -> Ipv4Addr {
        match random.below(20) {
            0..5 if !self.local.is_empty() => random.pick(&self.local).1,
            5..7 => self.pod(random),
            7..10 if !self.services.is_empty() => random.pick(&self.services).0,
            10 | 11 => Ipv4Addr::new(224, 0, 0, 1 + random.below(4) as u8),
            12 => gateway(self.subnet),
            13 => self.own,
            14 if !self.peers.is_empty() => *random.pick(&self.peers),
            15 => {
                Ipv4Addr::new(10, 128 + random.below(4) as u8, random.below(8) as u8, random.below(256) as u8)
            }
            16 => Ipv4Addr::new(172, 30, random.below(2) as u8, random.below(256) as u8),
            _ => *random.pick(&self.outside),
        }
    }
}

/// An ARP packet about `source`. Its sender's MAC address is mostly the one that belongs to it; else that of the pod at the
/// port, which then speaks of somebody else, or nobody's.
fn arp(random: &mut Random, pod: Ipv4Addr, source: Ipv4Addr, destination: Ipv4Addr) -> String {
    let [a, b, c, d, e, f] = match random.below(8) {
        0 => [0x0a, 0x58, 1, 2, 3, 4],
        1 | 2 => mac(pod),
        _ => mac(source),
    };
    let sender = format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
    let op = 1 + random.below(2);
    format!(",arp,arp_op={op},arp_spa={source},arp_tpa={destination},arp_sha={sender}")
}

fn services(state: &ClusterState) -> Vec<(Ipv4Addr, Vec<(&'static str, u16)>)> {
    let port = |port: &k8s_openapi::api::core::v1::ServicePort| {
        let protocol = match port.protocol.as_deref() {
            Some("UDP") => "udp",
            Some("SCTP") => "sctp",
            _ => "tcp",
        };
        Some((protocol, u16::try_from(port.port).ok()?))
    };
    let service = |object: &k8s_openapi::api::core::v1::Service| {
        let spec = object.spec.as_ref()?;
        let ports = spec.ports.as_deref().unwrap_or_default();
        Some((spec.cluster_ip.as_ref()?.parse().ok()?, ports.iter().filter_map(port).collect()))
    };
    state.services.values().filter_map(|object| service(object)).collect()
}

/// What conntrack says of a packet: what the packet says already, or one of the states that it could be in.
#[must_use]
pub fn conntrack(packet: &Match, random: &mut Random) -> Assumptions {
    const NEW: u32 = 0x01;
    const EST: u32 = 0x02;
    const RPL: u32 = 0x08;
    const INV: u32 = 0x10;
    const TRK: u32 = 0x20;
    let said = packet.get(Field::CT_STATE).and_then(|(value, _)| u32::try_from(value).ok());
    let ct_state = match said {
        Some(state) if state & TRK != 0 => state,
        _ => *random.pick(&[TRK | NEW, TRK | NEW, TRK | EST, TRK | EST | RPL, TRK | INV]),
    };
    Assumptions { ct_state, ..Assumptions::default() }
}
