//! The text syntax against `ovs-ofctl parse-flows`: what it makes of a flow is what we make of it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // A test may stop at the first surprise.

mod support;

use openflow::{FlowMod, FlowModCommand};

/// The flow-mod in a line of `parse-flows`.
fn flow_mods(output: &str) -> Vec<&str> {
    output
        .lines()
        .filter_map(|line| line.strip_prefix("OFPT_FLOW_MOD (OF1.3) (xid="))
        .filter_map(|line| line.split_once("): "))
        .map(|(_, rest)| rest)
        .collect()
}

#[test]
fn corpus_has_at_least_500_flows() {
    assert!(support::corpus_flows().len() >= 500, "only {}", support::corpus_flows().len());
}

#[test]
fn normal_form_is_that_of_ovs_ofctl() {
    let flows = support::corpus_flows();
    let input = flows.join("\n") + "\n";
    let output = support::ofctl(&["parse-flows", "-"], &input);
    let theirs = flow_mods(&output);
    assert_eq!(theirs.len(), flows.len(), "ovs-ofctl stopped early:\n{output}");
    let mut differences = String::new();
    for (flow, theirs) in flows.iter().zip(theirs) {
        let ours = match FlowMod::parse(FlowModCommand::Add, flow) {
            Ok(flow_mod) => flow_mod.to_string(),
            Err(error) => format!("\n{}", error.report()),
        };
        if ours != theirs {
            differences += &format!("flow   {flow}\ntheirs {theirs}\nours   {ours}\n\n");
        }
    }
    assert!(differences.is_empty(), "\n{differences}");
}
