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

/// What would be sent as something else than was written, or be refused by every switch.
#[test]
fn what_ovs_ofctl_refuses_is_refused() {
    let flows = [
        "ip,actions=mod_nw_tos:3",
        "ip,actions=ct(commit,nat(random))",
        "ip,actions=ct(commit,nat(persistent))",
        "actions=check_pkt_larger(1)->reg0[0..1]",
        "out_port=5,actions=drop",
        "out_group=5,actions=drop",
        "dl_type=0x894f,nsh_ttl=64,actions=drop",
        "dl_type=0x894f,nsh_mdtype=3,actions=drop",
        "reg0[0..3]=0x10,actions=drop",
        "reg0[0..3]=5/1,actions=drop",
        "reg0[0..32]=1,actions=drop",
        "reg0[0..3=1,actions=drop",
        "reg99[0]=1,actions=drop",
        "in_port[0..3]=1,actions=drop",
    ];
    for flow in flows {
        let theirs = support::ofctl(&["parse-flows", "-"], &format!("{flow}\n"));
        let is_refused = theirs.contains("ovs-ofctl: ") || theirs.contains("***decode error");
        assert!(is_refused, "{flow}: {theirs}");
        for command in [FlowModCommand::Add, FlowModCommand::Modify] {
            assert!(FlowMod::parse(command, flow).is_err(), "{flow}");
        }
        assert!(flow.parse::<openflow::Flow>().is_err(), "{flow}");
    }
    let by_output = FlowMod::parse(FlowModCommand::Delete, "out_port=5,out_group=6").unwrap();
    assert_eq!((by_output.out_port, by_output.out_group), (openflow::OfPort(5), 6));
}
