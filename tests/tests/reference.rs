//! The replaced system's flows and ours for the same objects: every packet has the same fate, or another one for a
//! reason that `docs/differences.md` gives.
//!
//! `OSDN_PACKETS` says how many packets each dump takes, `OSDN_SEED` repeats a run.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop at the first surprise")]

use std::collections::{BTreeMap, BTreeSet};

use flowtables::walk::{Packet, Walk, walk};
use openflow::{Field, Match};
use tests::random::{Packets, Random, conntrack, packets, seeded};

#[path = "reference/differences.rs"]
mod differences;
#[path = "reference/scenario.rs"]
mod scenario;

use differences::{Case, DIFFERENCES};
use scenario::Scenario;

/// The node's MAC address in the underlay, in all dumps.
const NODE_MAC: &str = "52:54:00:00:01:11";

/// How a packet leaves through one port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct End {
    port: u32,
    mark: u128,
    destination_mac: u128,
    /// VNID and VTEP, where it goes into the tunnel.
    tunnel: Option<(u128, u128)>,
}

/// All ways that a packet leaves; none when it is dropped.
fn fate(walk: &Walk) -> Vec<End> {
    let mut ends: Vec<End> = walk
        .outputs
        .iter()
        .map(|output| End {
            port: output.port.0,
            mark: output.packet.get(Field::PKT_MARK),
            destination_mac: output.packet.get(Field::ETH_DST),
            tunnel: (output.port.0 == 1)
                .then(|| (output.packet.get(Field::TUN_ID), output.packet.get(Field::TUN_DST))),
        })
        .collect();
    ends.sort();
    ends
}

fn words(walk: &Walk) -> String {
    walk.steps
        .iter()
        .map(|step| {
            let flow = step.flow.as_ref().map(|flow| flow.to_string().trim().to_owned()).unwrap_or_default();
            format!("    {flow}\n")
        })
        .collect()
}

/// Sends one packet through both; the entry that explains why its fates differ, if they do.
fn compare(
    scenario: &Scenario,
    text: &str,
    random: &mut Random,
) -> Result<(bool, Option<&'static str>), String> {
    let fields: Match = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
    let assumptions = conntrack(&fields, random);
    let theirs = walk(&scenario.theirs, Packet::from(&fields), &assumptions);
    let ours = walk(scenario.view.flows(), Packet::from(&fields), &assumptions);
    let (their_fate, our_fate) = (fate(&theirs), fate(&ours));
    if their_fate == our_fate {
        return Ok((!our_fate.is_empty(), None));
    }
    let case = Case {
        scenario,
        packet: &Packet::from(&fields),
        theirs: &their_fate,
        ours: &our_fate,
        their_path: &theirs.path(),
        our_path: &ours.path(),
    };
    match DIFFERENCES.iter().find(|difference| (difference.explains)(&case)) {
        Some(difference) => Ok((!our_fate.is_empty(), Some(difference.id))),
        None => Err(format!(
            "{}: {text} with {:#x} by conntrack\n  theirs: {their_fate:?}\n{}  ours: {our_fate:?}\n{}",
            scenario.name,
            assumptions.ct_state,
            words(&theirs),
            words(&ours),
        )),
    }
}

#[test]
fn packets_fare_as_they_did_except_where_the_document_says_otherwise() {
    let number = packets(1000).unwrap();
    let mut random = seeded().unwrap();
    let mut explained: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let mut unexplained = Vec::new();
    let scenarios = Scenario::all();
    assert!(scenarios.len() >= 40, "{} dumps", scenarios.len());
    for scenario in &scenarios {
        let packets = Packets::new(&scenario.state, &scenario.inputs).with_node_mac(NODE_MAC);
        let mut arrived = 0;
        for _ in 0..number {
            match compare(scenario, &packets.random(&mut random), &mut random) {
                Ok((sent, id)) => {
                    arrived += usize::from(sent);
                    if let Some(id) = id {
                        explained.entry(id).or_default().insert(scenario.name.clone());
                    }
                }
                Err(difference) => {
                    unexplained.push(difference);
                    break;
                }
            }
        }
        // Where there are pods, a comparison in which everything is dropped says nothing.
        let says_something = arrived > number / 8 || scenario.inputs.pods.is_empty();
        assert!(says_something || !unexplained.is_empty(), "{}: {arrived} arrived", scenario.name);
    }
    assert!(
        unexplained.is_empty(),
        "{} dumps differ without a reason:\n{}",
        unexplained.len(),
        unexplained.join("\n")
    );
    for (id, names) in &explained {
        println!("{id}: {} dumps, such as {}", names.len(), names.iter().next().unwrap());
    }
    for difference in DIFFERENCES {
        assert!(explained.contains_key(difference.id), "{} explains nothing in any dump", difference.id);
    }
}

#[test]
fn every_reason_is_in_the_document() {
    let document = std::fs::read_to_string(tests::checkout().join("docs/differences.md")).unwrap();
    for difference in DIFFERENCES {
        assert!(document.contains(&format!("| `{}` |", difference.id)), "{}", difference.id);
    }
}

/// Takes a flow away from ours: packets then fare differently, and no reason is found for it.
#[test]
fn a_flow_too_few_is_noticed() {
    let mut random = seeded().unwrap();
    let mut scenario = Scenario::named("multitenant-e-eip-remote");
    for table in [10, 20, 40, 50, 70, 80, 90, 100] {
        let view = scenario.view.clone();
        let without: Vec<_> = view
            .flows()
            .table(table)
            .filter(|(flow, _)| flow.priority > 0)
            .map(|(flow, owner)| (flow.clone(), owner.clone()))
            .collect();
        scenario.view = view;
        let packets = Packets::new(&scenario.state, &scenario.inputs);
        let flows = scenario.without(&without);
        let theirs = std::mem::replace(&mut scenario.theirs, flows);
        let noticed =
            (0..3000).any(|_| compare(&scenario, &packets.random(&mut random), &mut random).is_err());
        scenario.theirs = theirs;
        assert!(noticed, "without the flows of table {table}");
    }
}
