//! The documented walks of the reference cluster, offline, and what each plugin forbids.
//! The same packets go through a real switch in the workspace's `tests/`.

use std::net::Ipv4Addr;

use openflow::{Field, Match, OfPort};

use super::*;
use crate::feature::base::{Base, gateway};
use crate::feature::nodes::RemoteNode;
use crate::feature::pods::Pod;
use crate::feature::services::{Protocol, Service};
use crate::feature::{Plugin, tenants, version};
use crate::pipeline::vnid::Vnid;

const NODES: [(&str, u8, &str); 4] = [
    ("master", 110, "10.128.0.0/23"),
    ("node1", 111, "10.131.0.0/23"),
    ("node2", 112, "10.130.0.0/23"),
    ("infra", 113, "10.129.0.0/23"),
];

const KUBE_PUBLIC: u32 = 0x82f8b2;
const KUBE_SYSTEM: u32 = 272_037;

fn vtep(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 108, last)
}

/// The flows of one node of the reference cluster with these pods: port, last two bytes of address, VNID.
fn node(name: &str, plugin: Plugin, pods: &[(u32, [u8; 2], u32)]) -> FlowSet {
    let mut set = FlowSet::new();
    let mut add = |owner: Owner, flows| assert_eq!(set.replace(&owner, flows), []);
    let (_, last, subnet) = NODES.into_iter().find(|node| node.0 == name).unwrap();
    let base = Base {
        plugin,
        cluster_networks: vec!["10.128.0.0/14".parse().unwrap()],
        service_network: "172.30.0.0/16".parse().unwrap(),
        local_subnet: subnet.parse().unwrap(),
        node_ip: vtep(last),
        vxlan_port: 4789,
    };
    add(Owner::Base, base.flows());
    add(Owner::Version, version::flows(plugin));
    for (other, last, subnet) in NODES.into_iter().filter(|node| node.0 != name) {
        let remote = RemoteNode {
            name: other.into(),
            vtep: vtep(last),
            subnet: subnet.parse().unwrap(),
            fixed_vnid: None,
        };
        add(remote.owner(), remote.flows());
    }
    let [a, b, _, _] = gateway(base.local_subnet).octets();
    for &(port, [c, d], vnid) in pods {
        let vnid = Vnid::try_from(vnid).unwrap();
        let ip = Ipv4Addr::new(a, b, c, d);
        let pod = Pod { namespace: "ns".into(), name: ip.to_string(), port: OfPort(port), ip, vnid };
        add(pod.owner(), pod.flows());
        add(Owner::Tenant(vnid), tenants::flows(vnid));
    }
    for (name, last, vnid) in [("own", 148, KUBE_PUBLIC), ("global", 1, 0)] {
        let service = Service {
            namespace: "ns".into(),
            name: name.into(),
            cluster_ip: Ipv4Addr::new(172, 30, 161, last),
            ports: vec![(Protocol::Tcp, 8080)],
            vnid: Vnid::try_from(vnid).unwrap(),
        };
        if plugin == Plugin::Multitenant {
            add(service.owner(), service.flows());
        }
    }
    set
}

fn subnet(name: &str) -> FlowSet {
    let pods: &[_] = match name {
        "node2" => &[(3, [0, 5], 0), (4, [0, 6], 0)],
        _ => &[(3, [0, 4], 0)],
    };
    node(name, Plugin::Subnet, pods)
}

/// Two tenants on one node: pods .5 and .6 are kube-public, .7 is kube-system, .8 is global.
fn tenants_on_node2() -> FlowSet {
    let pods = [(3, [0, 5], KUBE_PUBLIC), (4, [0, 6], KUBE_PUBLIC), (5, [0, 7], KUBE_SYSTEM), (6, [0, 8], 0)];
    node("node2", Plugin::Multitenant, &pods)
}

fn trace(flows: &FlowSet, packet: &str) -> Walk {
    let fields: Match = packet.parse().unwrap_or_else(|error| panic!("{packet}: {error}"));
    walk(flows, Packet::from(&fields), &Assumptions::default())
}

fn ports(walk: &Walk) -> Vec<u32> {
    walk.outputs.iter().map(|output| output.port.0).collect()
}

#[track_caller]
fn expect(walk: &Walk, path: &[u8], out: &[u32]) {
    let words: Vec<String> = walk.steps.iter().map(|step| format!("{} {}", step.table, step.why)).collect();
    assert_eq!((walk.path().as_slice(), ports(walk).as_slice()), (path, out), "{words:#?}");
}

#[test]
fn walk_1_between_pods_of_a_node() {
    let walk = trace(&subnet("node2"), "in_port=4,tcp,nw_src=10.130.0.6,nw_dst=10.130.0.5,ct_state=trk");
    expect(&walk, &[0, 20, 21, 30, 70, 80], &[3]);
    for (register, value) in [(Field::REG0, 0), (Field::REG1, 0), (Field::REG2, 3)] {
        assert_eq!(walk.packet.get(register), value);
    }
}

#[test]
fn walk_2_to_a_pod_of_another_node() {
    let walk = trace(&subnet("node2"), "in_port=4,tcp,nw_src=10.130.0.6,nw_dst=10.131.0.4,ct_state=trk");
    expect(&walk, &[0, 20, 21, 30, 90], &[1]);
    let sent = &walk.outputs[0].packet;
    assert_eq!((sent.get(Field::TUN_ID), sent.ipv4(Field::TUN_DST)), (0, vtep(111)));
}

#[test]
fn walk_3_from_the_tunnel_to_a_pod() {
    let walk =
        trace(&subnet("node1"), "in_port=1,tcp,tun_src=192.168.108.112,nw_dst=10.131.0.4,ct_state=trk");
    expect(&walk, &[0, 10, 30, 70, 80], &[3]);
}

#[test]
fn walk_4_from_the_nodes_own_address() {
    let walk =
        trace(&subnet("node1"), "in_port=1,tcp,tun_src=192.168.108.111,nw_dst=10.131.0.4,ct_state=trk");
    expect(&walk, &[0, 10], &[]);
    assert_eq!(walk.drop_reason, "192.168.108.111 is no other node of this cluster: not heard");
}

#[test]
fn walk_5_to_the_outside() {
    let walk = trace(&subnet("node2"), "in_port=4,tcp,nw_src=10.130.0.6,nw_dst=192.168.108.1,ct_state=trk");
    expect(&walk, &[0, 20, 21, 30, 100, 101], &[2]);
}

#[test]
fn walk_6_to_a_service() {
    let walk = trace(&subnet("node2"), "in_port=4,tcp,nw_src=10.130.0.6,nw_dst=172.30.161.148,ct_state=trk");
    expect(&walk, &[0, 20, 21, 30, 60], &[2]);
}

#[test]
fn an_untracked_packet_goes_through_conntrack_first() {
    let walk = trace(&subnet("node2"), "in_port=4,tcp,nw_src=10.130.0.6,nw_dst=10.130.0.5");
    expect(&walk, &[0, 0, 20, 21, 30, 70, 80], &[3]);
}

#[test]
fn tenants_reach_their_own_and_the_global_ones() {
    let flows = tenants_on_node2();
    let to = |from: (u32, u8), to: u8| {
        let (port, from) = from;
        let packet = format!("in_port={port},tcp,nw_src=10.130.0.{from},nw_dst=10.130.0.{to},ct_state=trk");
        ports(&trace(&flows, &packet))
    };
    assert_eq!(to((3, 5), 6), [4], "same tenant");
    assert_eq!(to((3, 5), 7), [], "other tenant");
    assert_eq!(to((5, 7), 5), [], "and back");
    assert_eq!(to((3, 5), 8), [6], "to a global pod");
    assert_eq!(to((6, 8), 7), [5], "from a global pod");
}

#[test]
fn tenants_are_told_apart_over_the_tunnel() {
    let flows = tenants_on_node2();
    let from_tunnel = |vnid: u32, to: u8| {
        let packet = format!(
            "in_port=1,tcp,tun_src=192.168.108.111,tun_id={vnid},nw_src=10.131.0.9,nw_dst=10.130.0.{to},ct_state=trk"
        );
        trace(&flows, &packet)
    };
    assert_eq!(ports(&from_tunnel(KUBE_PUBLIC, 5)), [3]);
    let refused = from_tunnel(KUBE_PUBLIC, 7);
    assert_eq!(ports(&refused), []);
    assert_eq!(refused.drop_reason, "VNID 8583346 may not reach VNID 272037");
    assert_eq!(ports(&from_tunnel(0, 7)), [5]);

    let sent = trace(&flows, "in_port=5,tcp,nw_src=10.130.0.7,nw_dst=10.131.0.4,ct_state=trk");
    assert_eq!(sent.outputs[0].packet.get(Field::TUN_ID), u128::from(KUBE_SYSTEM));
}

#[test]
fn a_tenant_uses_its_own_services_and_global_ones() {
    let flows = tenants_on_node2();
    let to = |from: (u32, u8), service: u8, port: u16| {
        let (in_port, from) = from;
        let packet = format!(
            "in_port={in_port},tcp,nw_src=10.130.0.{from},nw_dst=172.30.161.{service},tp_dst={port},ct_state=trk"
        );
        trace(&flows, &packet)
    };
    expect(&to((3, 5), 148, 8080), &[0, 20, 21, 30, 60, 80], &[2]);
    expect(&to((3, 5), 148, 8081), &[0, 20, 21, 30, 60], &[]);
    expect(&to((5, 7), 148, 8080), &[0, 20, 21, 30, 60, 80], &[]);
    expect(&to((5, 7), 1, 8080), &[0, 20, 21, 30, 60, 80], &[2]);
    expect(&to((6, 8), 148, 8080), &[0, 20, 21, 30, 60], &[2]);
}

#[test]
fn back_from_the_service_nat_the_sender_has_its_vnid_again() {
    let flows = tenants_on_node2();
    let walk = trace(&flows, "in_port=2,tcp,nw_src=10.130.0.5,nw_dst=10.130.0.7,ct_state=trk");
    expect(&walk, &[0, 25, 30, 70, 80], &[]);
    let walk = trace(&flows, "in_port=2,tcp,nw_src=10.130.0.5,nw_dst=10.130.0.6,ct_state=trk");
    expect(&walk, &[0, 25, 30, 70, 80], &[4]);
}

#[test]
fn false_senders_are_dropped() {
    let flows = subnet("node2");
    let address = trace(&flows, "in_port=4,tcp,nw_src=10.130.0.5,nw_dst=10.131.0.4,ct_state=trk");
    expect(&address, &[0, 20], &[]);
    assert_eq!(address.drop_reason, "no pod at port 4 has the address 10.130.0.5: a false sender");
    let arp = "in_port=4,arp,arp_spa=10.130.0.6,arp_tpa=10.131.0.4,arp_op=1";
    expect(&trace(&flows, &format!("{arp},arp_sha=0a:58:0a:82:00:05")), &[0, 20], &[]);
    expect(&trace(&flows, &format!("{arp},arp_sha=0a:58:0a:82:00:06")), &[0, 20, 21, 30, 50], &[1]);
    let vxlan =
        trace(&flows, "in_port=4,udp,nw_src=10.130.0.6,nw_dst=192.168.108.111,tp_dst=4789,ct_state=trk");
    expect(&vxlan, &[0, 20], &[]);
    let stranger = "in_port=1,tcp,tun_src=192.168.108.99,nw_src=10.131.0.4,nw_dst=10.130.0.5,ct_state=trk";
    expect(&trace(&flows, stranger), &[0, 10], &[]);
}

#[test]
fn the_node_reaches_its_own_pods_and_those_elsewhere() {
    let flows = tenants_on_node2();
    let local = trace(&flows, "in_port=2,tcp,nw_src=10.130.0.1,nw_dst=10.130.0.7,ct_state=trk");
    expect(&local, &[0, 30, 70, 80], &[5]);
    let remote = trace(&flows, "in_port=2,tcp,nw_src=10.130.0.1,nw_dst=10.131.0.4,ct_state=trk");
    expect(&remote, &[0, 30, 90], &[1]);
}

#[test]
fn every_step_is_explained() {
    let walk = trace(&subnet("node2"), "in_port=4,tcp,nw_src=10.130.0.6,nw_dst=10.131.0.4,ct_state=trk");
    let words: Vec<&str> = walk.steps.iter().map(|step| step.why.as_str()).collect();
    assert_eq!(
        words,
        [
            "came from the pod at port 4",
            "port and address are those of pod ns/10.130.0.6: VNID 0",
            "no NetworkPolicy limits what this pod sends",
            "10.131.0.4 is in another node's subnet",
            "10.131.0.4 is on node node1: into the tunnel to 192.168.108.111 with VNID 0",
        ]
    );
}
