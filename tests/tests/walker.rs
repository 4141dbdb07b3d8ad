//! The walker against a real switch: random packets walked by us and by `ofproto/trace`.
//!
//! `OSDN_PACKETS` says how many packets each comparison takes (`make soak`: 20,000), `OSDN_SEED` repeats a run.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop at the first surprise")]

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use controller::cli::trace::{differences, ofproto::SwitchTrace, text};
use controller::view::View;
use flowtables::feature::Plugin;
use flowtables::feature::base::Base;
use flowtables::feature::multicast::{self, Multicast};
use flowtables::feature::pods::Pod;
use flowtables::flowset::FlowSet;
use flowtables::pipeline::cookie::Owner;
use flowtables::pipeline::port::VXLAN0;
use flowtables::pipeline::vnid::Vnid;
use flowtables::walk::{Assumptions, Packet, Walk, parse_ct_state, walk};
use openflow::{Field, Flow, Match, OfPort};

use tests::random::{Packets, Random, RandomCluster, Shape, packets, seeded};
use tests::switch::DummySwitch;

/// The last port that a packet comes in through: all pods could be on one node, and two ports are nobody's.
const LAST_PORT: u32 = 24;

/// Packets that go through one random cluster.
const PACKETS_A_CLUSTER: usize = 500;

/// Walks a packet both ways; our walk if they agree.
async fn compare(switch: &DummySwitch, flows: &FlowSet, packet: &str, assumptions: &Assumptions) -> Walk {
    let fields: Match = packet.parse().unwrap_or_else(|error| panic!("{packet}: {error}"));
    let walk = walk(flows, Packet::from(&fields), assumptions);
    let (trace, raw) = switch.trace(packet, assumptions).await.unwrap();
    let mut found = differences(&walk, &trace);
    if trace.hashed {
        // Which bucket of a select group: only the datapath knows.
        found.retain(|difference| !difference.starts_with("output:"));
    }
    found.extend(headers(&walk, &trace));
    assert!(found.is_empty(), "{packet} {assumptions:x?}\n{}\n{}\n{raw}", found.join("\n"), text(&walk));
    walk
}

/// Where header fields, metadata or mark at the end differ from those of the switch.
fn headers(walk: &Walk, trace: &SwitchTrace) -> Vec<String> {
    const COMPARED: [&str; 14] = [
        "tun_id", "tun_dst", "metadata", "pkt_mark", "ct_zone", "ct_mark", "dl_src", "dl_dst", "dl_vlan",
        "nw_src", "nw_dst", "nw_ttl", "tp_src", "tp_dst",
    ];
    let words: Vec<&str> = trace
        .end
        .split(',')
        .filter(|word| match word.split_once('=') {
            Some((key, _)) => COMPARED.contains(&key) || key.starts_with("reg"),
            None => matches!(*word, "tcp" | "udp" | "sctp" | "icmp" | "ip" | "arp" | "ipv6"),
        })
        .collect();
    let end: Match = words.join(",").parse().unwrap_or_else(|error| panic!("{words:?}: {error}"));
    end.iter()
        .filter(|(field, value, mask)| walk.packet.get(*field) & mask != *value)
        .map(|(field, value, _)| {
            format!("{field}: {:#x} by the walk, {value:#x} by the switch", walk.packet.get(field))
        })
        .collect()
}

/// What conntrack is assumed to say: mostly what the switch assumes by itself, else up to three states in turn.
fn assumptions(random: &mut Random) -> Assumptions {
    let states: &[&str] =
        &["trk,new", "trk,est", "trk,est,rpl", "trk,inv", "trk,new,rel", "trk,est,rel,rpl", "trk"];
    let number = random.below(6).saturating_sub(2);
    let ct_next = (0..number).map(|_| parse_ct_state(random.pick::<&str>(states)).unwrap()).collect();
    Assumptions { ct_next, ..Assumptions::default() }
}

/// A cluster of 3 nodes and 20 pods, its 5 tenants with all that a tenant can have, as one node sees it.
fn cluster(random: &mut Random, plugin: &str) -> (Packets, View) {
    let cluster = RandomCluster::new(random, plugin, Shape::default()).unwrap();
    let (inputs, view) = cluster.view(&RandomCluster::node(0)).unwrap();
    (Packets::new(&cluster.state, &inputs), view)
}

async fn clusters(plugin: &str, tables: &[u8]) {
    let number = packets(400).unwrap();
    let mut random = seeded().unwrap();
    let switch = DummySwitch::start(LAST_PORT).unwrap();
    let mut visits: BTreeMap<u8, usize> = BTreeMap::new();
    let mut groups = 0;
    for start in (0..number).step_by(PACKETS_A_CLUSTER) {
        let (packets, view) = cluster(&mut random, plugin);
        switch.load(view.flows()).await.unwrap();
        for _ in start..number.min(start + PACKETS_A_CLUSTER) {
            let packet = packets.random(&mut random);
            let walk = compare(&switch, view.flows(), &packet, &assumptions(&mut random)).await;
            groups += usize::from(walk.outputs.iter().any(|output| !output.choices.is_empty()));
            for table in walk.path() {
                *visits.entry(table).or_default() += 1;
            }
        }
    }
    println!("{plugin}: {number} packets, {groups} by a group, visits by table: {visits:?}");
    for table in tables {
        assert!(visits.contains_key(table), "no packet visited table {table}: {visits:?}");
    }
}

#[tokio::test]
async fn the_walk_is_that_of_the_switch_in_mode_subnet() {
    clusters("subnet", &[0, 10, 20, 21, 25, 30, 40, 50, 60, 70, 80, 90, 100, 101, 110, 120]).await;
}

#[tokio::test]
async fn the_walk_is_that_of_the_switch_in_mode_multitenant() {
    clusters("multitenant", &[0, 10, 20, 21, 25, 30, 40, 50, 60, 70, 80, 90, 100, 101, 110, 111, 120]).await;
}

#[tokio::test]
async fn a_group_is_walked_bucket_by_bucket_and_the_switch_takes_one_of_them() {
    let mut random = seeded().unwrap();
    let switch = DummySwitch::start(LAST_PORT).unwrap();
    let mut chosen = 0;
    while chosen < 20 {
        let (packets, view) = cluster(&mut random, "multitenant");
        if view.flows().groups().next().is_none() {
            continue;
        }
        switch.load(view.flows()).await.unwrap();
        for _ in 0..100 {
            let packet = packets.random(&mut random);
            let walk = compare(&switch, view.flows(), &packet, &assumptions(&mut random)).await;
            chosen += usize::from(walk.outputs.iter().any(|output| !output.choices.is_empty()));
        }
    }
}

/// More nodes than fit into one flow: every one of them gets its copy, and the pods here theirs.
#[tokio::test]
async fn multicast_reaches_every_node_of_a_large_cluster() {
    let switch = DummySwitch::start(LAST_PORT).unwrap();
    let nodes: Vec<_> = (0..2500).map(|n| Ipv4Addr::from(0x0a00_0001_u32 + n)).collect();
    let vnid = Vnid::try_from(0x82_f8b2).unwrap();
    let pod = |n: u8| Pod {
        namespace: "large".into(),
        name: format!("pod-{n}"),
        port: OfPort(n.into()),
        ip: Ipv4Addr::new(10, 130, 0, n),
        vnid,
    };
    let (sender, other) = (pod(4), pod(5));
    let base = Base {
        plugin: Plugin::Multitenant,
        cluster_networks: vec!["10.128.0.0/14".parse().unwrap()],
        service_network: "172.30.0.0/16".parse().unwrap(),
        local_subnet: "10.130.0.0/23".parse().unwrap(),
        node_ip: Ipv4Addr::new(192, 168, 108, 112),
        vxlan_port: 4789,
    };
    let pods = Multicast { vnid, ports: vec![sender.port, other.port] };
    let mut flows = FlowSet::new();
    for (owner, rendered) in [
        (Owner::Base, base.flows()),
        (sender.owner(), sender.flows()),
        (other.owner(), other.flows()),
        (pods.owner(), pods.flows()),
        (Owner::MulticastTunnels, multicast::tunnels(&nodes)),
    ] {
        assert_eq!(flows.replace(&owner, rendered), []);
    }
    switch.load(&flows).await.unwrap();

    let packet = format!("in_port={},udp,nw_src={},nw_dst=224.1.1.1,ct_state=trk", sender.port, sender.ip);
    let walk = compare(&switch, &flows, &packet, &Assumptions::default()).await;
    assert_eq!(walk.path(), [0, 20, 21, 30, 110, 111, 111, 111, 120]);
    let far = walk.outputs.iter().filter(|output| output.port == VXLAN0);
    assert!(far.map(|output| output.packet.ipv4(Field::TUN_DST)).eq(nodes));
    assert_eq!(walk.outputs.last().unwrap().port, other.port);
}

/// Flows that no pipeline of ours has: what a switch does with them is what the walk must say.
const OTHER_FLOWS: &str = include_str!("walker/other.flows");

#[tokio::test]
async fn the_walk_is_that_of_the_switch_for_flows_of_every_kind() {
    let switch = DummySwitch::start(8).unwrap();
    let mut flows = FlowSet::new();
    let lines = OTHER_FLOWS.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let parsed: Vec<Flow> =
        lines.map(|line| line.parse().unwrap_or_else(|error| panic!("{line}: {error}"))).collect();
    flows.replace(&Owner::Base, parsed.into_iter().map(Flow::normalized).collect::<Vec<_>>());
    switch.load(&flows).await.unwrap();
    let mut random = seeded().unwrap();
    let mut visits: BTreeMap<u8, usize> = BTreeMap::new();
    for _ in 0..packets(400).unwrap() {
        let protocol = *random.pick(&["tcp", "udp"]);
        let mut packet = format!(
            "in_port={},{protocol},nw_src=10.0.0.{},nw_dst=10.0.1.{},nw_ttl={},{protocol}_dst={}",
            1 + random.below(8),
            random.below(8),
            random.below(8),
            random.pick(&[1, 2, 64]),
            random.pick(&[22, 80, 81, 443]),
        );
        packet += *random.pick(&["", ",ct_state=trk", ",ct_state=trk|new", ",ct_state=trk|est,ct_mark=5"]);
        packet += *random.pick(&["", ",dl_vlan=5", ",reg3=0x10,reg5=7", ",metadata=0x1234,tun_id=9"]);
        for table in compare(&switch, &flows, &packet, &assumptions(&mut random)).await.path() {
            *visits.entry(table).or_default() += 1;
        }
    }
    let tables: std::collections::BTreeSet<u8> = flows.iter().map(|flow| flow.table).collect();
    for table in tables {
        assert!(visits.contains_key(&table), "no packet visited table {table}: {visits:?}");
    }
    assert!(flows.iter().any(|flow| flow.fields.get(Field::CONJ_ID).is_some()));
}

/// Flows in the text of `ovs-ofctl`, of one owner.
fn set(lines: &[&str]) -> FlowSet {
    let mut flows = FlowSet::new();
    let parsed: Vec<Flow> =
        lines.iter().map(|line| line.parse().unwrap_or_else(|error| panic!("{line}: {error}"))).collect();
    flows.replace(&Owner::Base, parsed.into_iter().map(Flow::normalized).collect::<Vec<_>>());
    flows
}

/// A new connection's first packet, the way back, and one that belongs to nothing take different flows; each visit to
/// conntrack takes the next state, and behind the last one it is a new connection again.
#[tokio::test]
async fn what_is_assumed_of_conntrack_is_assumed_in_order() {
    let switch = DummySwitch::start(8).unwrap();
    let flows = set(&[
        "table=0,ip,ct_state=-trk,actions=ct(table=1)",
        "table=1,priority=2,ip,ct_state=+rpl+trk,actions=ct(table=2,zone=1),output:3",
        "table=1,priority=1,ip,ct_state=+new+trk,actions=output:4,ct(table=2,nat)",
        "table=1,priority=0,actions=drop",
        "table=2,priority=2,ip,ct_state=+inv+trk,actions=output:5",
        "table=2,priority=1,ip,ct_state=+est+trk,actions=output:6",
        "table=2,priority=0,actions=output:7",
    ]);
    switch.load(&flows).await.unwrap();
    for (states, outputs) in [
        (vec![], vec![4, 7]),
        (vec!["trk,new", "trk,inv"], vec![4, 5]),
        (vec!["trk,est,rpl"], vec![3, 7]),
        (vec!["trk,est,rpl", "trk,est"], vec![3, 6]),
        (vec!["trk,est"], vec![]),
        (vec!["trk,inv", "trk,new", "trk"], vec![]),
    ] {
        let ct_next = states.iter().map(|state| parse_ct_state(state).unwrap()).collect();
        let assumptions = Assumptions { ct_next, ..Assumptions::default() };
        let packet = "in_port=1,tcp,nw_src=10.0.0.1,nw_dst=10.0.0.2";
        let walk = compare(&switch, &flows, packet, &assumptions).await;
        let ports: Vec<u32> = walk.outputs.iter().map(|output| output.port.0).collect();
        assert_eq!(ports, outputs, "{states:?}");
    }
}

/// Where flows run in circles the switch gives up and sends nothing of what it has come by; so does the walk.
#[tokio::test]
async fn circles_end_where_the_switch_ends_them() {
    let switch = DummySwitch::start(8).unwrap();
    let many = |to: u8| vec![format!("resubmit(,{to})"); 17].join(",");
    let wide: Vec<String> =
        (0..3).map(|n| format!("table={n},actions=output:{},{}", n + 2, many(n + 1))).collect();
    let deep: Vec<String> =
        (0..250).map(|n| format!("table={n},actions=resubmit(,{}),output:2", n + 1)).collect();
    for (lines, sent) in [
        (vec!["table=0,actions=output:2,resubmit(,0)"], 0),
        (
            vec![
                "table=0,actions=output:2,resubmit(,1)",
                "table=1,actions=goto_table:2",
                "table=2,actions=resubmit(,1)",
            ],
            0,
        ),
        // What conntrack sends back is another pass, and what the first has sent is sent.
        (vec!["table=0,ip,actions=output:2,ct(table=1)", "table=1,actions=output:3,resubmit(,1)"], 1),
        (wide.iter().map(String::as_str).collect(), 0),
        // As deep as there are tables, but ever forward.
        (deep.iter().map(String::as_str).collect(), 250),
    ] {
        let flows = set(&lines);
        switch.load(&flows).await.unwrap();
        let packet = "in_port=1,tcp,nw_src=10.0.0.1,nw_dst=10.0.0.2";
        let walk = compare(&switch, &flows, packet, &Assumptions::default()).await;
        assert_eq!(walk.outputs.len(), sent, "{lines:?}");
        assert_eq!(walk.is_drop(), sent == 0);
    }
}

/// Flows that a switch takes and a walk cannot follow: it says so, with what was sent until then.
#[tokio::test]
async fn what_cannot_be_walked_is_said() {
    let switch = DummySwitch::start(8).unwrap();
    for (flow, sent, why) in [
        ("ip,actions=output:2,check_pkt_larger(1500)->NXM_NX_REG0[0],output:3", 1, "longer than 1500 bytes"),
        ("ip,actions=push_mpls:0x8847,output:3", 0, "below an MPLS label"),
        ("mpls,actions=pop_mpls:0x0800,output:3", 0, "below an MPLS label"),
        ("ip,actions=multipath(eth_src,50,modulo_n,1,0,NXM_NX_REG0[]),output:3", 0, "by a hash"),
        ("ip,actions=bundle(eth_src,0,hrw,ofport,members:4,8)", 0, "by what is alive"),
        ("ip,actions=encap(nsh(md_type=1)),output:3", 0, "headers around the packet"),
        ("ip,actions=controller(pause),output:3", 1, "until a controller"),
        ("ip,actions=clone(output:2,push_mpls:0x8847),output:3", 1, "below an MPLS label"),
    ] {
        let flows = set(&[flow]);
        switch.load(&flows).await.unwrap_or_else(|error| panic!("{flow}: {error:#}"));
        let kind = flow.split(',').next().unwrap();
        let packet: Match = format!("in_port=1,{kind}").parse().unwrap();
        let walk = walk(&flows, Packet::from(&packet), &Assumptions::default());
        let said = walk.not_walked.clone().unwrap_or_else(|| panic!("{flow} was walked"));
        assert!(said.contains(why), "{flow}: {said}");
        assert_eq!((walk.outputs.len(), walk.is_drop()), (sent, false), "{flow}");
        assert_eq!(walk.drop_reason, "");
        assert!(text(&walk).contains("=> not walked to the end: "), "{}", text(&walk));
    }
}

/// The header of an MPLS packet itself is followed.
#[tokio::test]
async fn the_ttl_of_a_label_is_followed() {
    let switch = DummySwitch::start(8).unwrap();
    let flows = set(&[
        "table=0,in_port=1,mpls,actions=dec_mpls_ttl,output:2,resubmit(,1)",
        "table=0,in_port=2,mpls,actions=set_mpls_ttl(9),output:3",
        "table=1,mpls,mpls_label=7,actions=dec_mpls_ttl,output:4",
    ]);
    switch.load(&flows).await.unwrap();
    for packet in [
        "in_port=1,mpls,mpls_label=7,mpls_ttl=1,mpls_bos=1",
        "in_port=1,mpls,mpls_label=7,mpls_ttl=2,mpls_bos=1",
        "in_port=1,mpls,mpls_label=7,mpls_ttl=3,mpls_bos=1",
        "in_port=2,mpls,mpls_label=7,mpls_ttl=3,mpls_bos=1",
    ] {
        compare(&switch, &flows, packet, &Assumptions::default()).await;
    }
}
