//! Random clusters as one node sees them, and random packets that reach every table.

use std::net::Ipv4Addr;

use flowtables::feature::base::{Base, gateway};
use flowtables::feature::nodes::RemoteNode;
use flowtables::feature::pods::{Pod, mac};
use flowtables::feature::services::{Protocol, Service};
use flowtables::feature::{Plugin, tenants, version};
use flowtables::flowset::FlowSet;
use flowtables::pipeline::cookie::Owner;
use flowtables::pipeline::vnid::Vnid;
use ipnet::Ipv4Net;
use openflow::OfPort;

const NODES: u8 = 3;
const PODS: u8 = 20;
/// The last port that a pod can have: all of them could be on the node.
pub(crate) const LAST_PORT: u32 = 2 + PODS as u32;

/// xorshift64*: the same packets after the same seed, everywhere.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }
}

/// A cluster of 3 nodes, 20 pods, 5 tenants and their services.
pub(crate) struct Cluster {
    base: Base,
    nodes: Vec<RemoteNode>,
    /// All pods of the cluster; those of this node first.
    pods: Vec<Pod>,
    local: usize,
    services: Vec<Service>,
    tenants: Vec<Vnid>,
}

fn subnet(node: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(10, 128, 2 * node, 0), 23)
}

fn vtep(node: u8) -> Ipv4Addr {
    Ipv4Addr::new(172, 17, 0, 10 + node)
}

impl Cluster {
    pub(crate) fn random(random: &mut Random, plugin: Plugin) -> Self {
        let mut tenants = vec![Vnid::GLOBAL];
        while tenants.len() < 5 {
            tenants.extend(Vnid::try_from(random.below(0x100_0000) as u32));
        }
        let vnid = |random: &mut Random| match plugin {
            Plugin::Multitenant => *random.pick(&tenants),
            _ => Vnid::GLOBAL,
        };
        let mut pods: Vec<(u8, Pod)> = (0..PODS)
            .map(|n| {
                // The first three make sure that no node is empty.
                let node = if n < NODES { n } else { random.below(NODES.into()) as u8 };
                let [a, b, c, _] = subnet(node).network().octets();
                let pod = Pod {
                    namespace: "random".into(),
                    name: format!("pod-{n}"),
                    port: OfPort(3 + u32::from(n)),
                    ip: Ipv4Addr::new(a, b, c + (n & 1), 2 + n),
                    vnid: vnid(random),
                };
                (node, pod)
            })
            .collect();
        pods.sort_by_key(|(node, _)| *node);
        let local = pods.iter().filter(|(node, _)| *node == 0).count();
        let services = (0..8)
            .map(|n| Service {
                namespace: "random".into(),
                name: format!("service-{n}"),
                cluster_ip: Ipv4Addr::new(172, 30, 0, 10 + n),
                ports: vec![
                    (Protocol::Tcp, 80),
                    (*random.pick(&[Protocol::Udp, Protocol::Sctp]), 53 + u16::from(n)),
                ],
                vnid: vnid(random),
            })
            .collect();
        let nodes = (1..NODES)
            .map(|n| RemoteNode {
                name: format!("node-{n}"),
                vtep: vtep(n),
                subnet: subnet(n),
                fixed_vnid: random.one_in(6).then_some(tenants[1]),
            })
            .collect();
        let base = Base {
            plugin,
            cluster_networks: vec!["10.128.0.0/14".parse().unwrap()],
            service_network: "172.30.0.0/16".parse().unwrap(),
            local_subnet: subnet(0),
            node_ip: vtep(0),
            vxlan_port: 4789,
        };
        Self { base, nodes, pods: pods.into_iter().map(|(_, pod)| pod).collect(), local, services, tenants }
    }

    fn local_pods(&self) -> &[Pod] {
        &self.pods[..self.local]
    }

    /// The flows of the first node.
    pub(crate) fn flows(&self) -> FlowSet {
        let mut set = FlowSet::new();
        set.replace(&Owner::Base, self.base.flows());
        set.replace(&Owner::Version, version::flows(self.base.plugin));
        for node in &self.nodes {
            set.replace(&node.owner(), node.flows());
        }
        for pod in self.local_pods() {
            set.replace(&pod.owner(), pod.flows());
        }
        if self.base.plugin == Plugin::Multitenant {
            for pod in self.local_pods() {
                set.replace(&Owner::Tenant(pod.vnid), tenants::flows(pod.vnid));
            }
            for service in &self.services {
                set.replace(&service.owner(), service.flows());
            }
        }
        set
    }

    /// A packet in the syntax of `ofproto/trace`. Most make sense; some do not.
    pub(crate) fn packet(&self, random: &mut Random) -> String {
        let pod = random.pick(self.local_pods()).clone();
        let (port, mut source) = match random.below(10) {
            0..6 => (pod.port.0, pod.ip),
            6 | 7 => (1, random.pick(&self.pods).ip),
            8 => (2, gateway(self.base.local_subnet)),
            _ => (2, pod.ip),
        };
        if random.one_in(12) {
            source = self.destination(random);
        }
        let destination = self.destination(random);
        let mut packet = format!("in_port={port}");
        if port == 1 {
            let peer = if random.one_in(10) { vtep(0) } else { vtep(1 + random.below(2) as u8) };
            packet += &format!(",tun_src={peer},tun_dst={},tun_id={}", vtep(0), random.pick(&self.tenants));
        }
        if random.one_in(5) {
            let [a, b, c, d, e, f] = mac(source);
            let sender = format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
            let sender = if random.one_in(8) { "0a:58:01:02:03:04" } else { &sender };
            let op = 1 + random.below(2);
            return packet
                + &format!(",arp,arp_op={op},arp_spa={source},arp_tpa={destination},arp_sha={sender}");
        }
        if random.one_in(40) {
            return packet + ",ipv6,ct_state=trk";
        }
        let (protocol, ports) = match random.below(8) {
            0..4 => ("tcp", [80, 53, 443, 8080]),
            4 | 5 => ("udp", [53, 54, 4789, 123]),
            6 => ("sctp", [53, 54, 55, 9]),
            _ => ("icmp", [0, 0, 0, 0]),
        };
        packet += &format!(",{protocol},nw_src={source},nw_dst={destination},nw_ttl=64");
        if random.one_in(15) {
            packet += ",nw_frag=later";
        } else if protocol != "icmp" {
            packet += &format!(",{protocol}_dst={}", random.pick(&ports));
        }
        packet
            + *random.pick(&[
                "",
                ",ct_state=trk",
                ",ct_state=trk|new",
                ",ct_state=trk|est",
                ",ct_state=trk|est|rpl",
            ])
    }

    fn destination(&self, random: &mut Random) -> Ipv4Addr {
        match random.below(14) {
            0..4 => random.pick(self.local_pods()).ip,
            4 | 5 => random.pick(&self.pods).ip,
            6..8 => random.pick(&self.services).cluster_ip,
            8 => Ipv4Addr::new(224, 0, 0, 1 + random.below(4) as u8),
            9 => gateway(self.base.local_subnet),
            10 => vtep(random.below(NODES.into()) as u8),
            11 => Ipv4Addr::new(10, 128, random.below(8) as u8, random.below(256) as u8),
            12 => Ipv4Addr::new(172, 30, random.below(2) as u8, random.below(256) as u8),
            _ => Ipv4Addr::new(192, 0, 2, random.below(4) as u8),
        }
    }
}
