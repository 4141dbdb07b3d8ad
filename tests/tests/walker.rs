//! The walker against a real switch: random packets walked by us and by `ofproto/trace`.
//!
//! `OSDN_PACKETS` says how many packets each comparison takes (`make soak`: 20,000), `OSDN_SEED` repeats a run.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop at the first surprise")]

use std::collections::BTreeMap;

use controller::cli::trace::{differences, ofproto::SwitchTrace, text};
use flowtables::feature::Plugin;
use flowtables::flowset::FlowSet;
use flowtables::pipeline::cookie::Owner;
use flowtables::walk::{Assumptions, Packet, Walk, walk};
use openflow::{Field, Flow, Match};

#[path = "walker/random.rs"]
mod random;
#[path = "walker/switch.rs"]
mod switch;

use random::{Cluster, LAST_PORT, Random};
use switch::DummySwitch;

/// Packets that go through one random cluster.
const PACKETS_A_CLUSTER: usize = 500;

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().map_or(default, |text| text.parse().unwrap())
}

/// Walks a packet both ways; the path if they agree.
async fn compare(switch: &DummySwitch, flows: &FlowSet, packet: &str) -> Vec<u8> {
    let fields: Match = packet.parse().unwrap_or_else(|error| panic!("{packet}: {error}"));
    let walk = walk(flows, Packet::from(&fields), &Assumptions::default());
    let (trace, raw) = switch.trace(packet).await.unwrap();
    let mut found = differences(&walk, &trace);
    if trace.hashed {
        // Which bucket of a select group: only the datapath knows.
        found.retain(|difference| !difference.starts_with("output:"));
    }
    found.extend(headers(&walk, &trace));
    assert!(found.is_empty(), "{packet}\n{}\n{}\n{raw}", found.join("\n"), text(&walk));
    walk.path()
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

async fn clusters(plugin: Plugin) {
    let packets = number("OSDN_PACKETS", 400);
    let mut random = Random::new(number("OSDN_SEED", 1) as u64);
    let switch = DummySwitch::start(LAST_PORT).unwrap();
    let mut visits: BTreeMap<u8, usize> = BTreeMap::new();
    for start in (0..packets).step_by(PACKETS_A_CLUSTER) {
        let cluster = Cluster::random(&mut random, plugin);
        let flows = cluster.flows();
        switch.load(&flows).await.unwrap();
        for _ in start..packets.min(start + PACKETS_A_CLUSTER) {
            for table in compare(&switch, &flows, &cluster.packet(&mut random)).await {
                *visits.entry(table).or_default() += 1;
            }
        }
    }
    println!("{plugin:?}: {packets} packets, visits by table: {visits:?}");
    for table in [0, 10, 20, 21, 25, 30, 40, 50, 60, 70, 80, 90, 100, 101, 110, 120] {
        assert!(visits.contains_key(&table), "no packet visited table {table}: {visits:?}");
    }
}

#[tokio::test]
async fn the_walk_is_that_of_the_switch_in_mode_subnet() {
    clusters(Plugin::Subnet).await;
}

#[tokio::test]
async fn the_walk_is_that_of_the_switch_in_mode_multitenant() {
    clusters(Plugin::Multitenant).await;
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
    let mut random = Random::new(number("OSDN_SEED", 1) as u64);
    let mut visits: BTreeMap<u8, usize> = BTreeMap::new();
    for _ in 0..number("OSDN_PACKETS", 400) {
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
        for table in compare(&switch, &flows, &packet).await {
            *visits.entry(table).or_default() += 1;
        }
    }
    let tables: std::collections::BTreeSet<u8> = flows.iter().map(|flow| flow.table).collect();
    for table in tables {
        assert!(visits.contains_key(&table), "no packet visited table {table}: {visits:?}");
    }
    assert!(flows.iter().any(|flow| flow.fields.get(Field::CONJ_ID).is_some()));
}
