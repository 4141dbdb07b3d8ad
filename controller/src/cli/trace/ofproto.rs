//! Reads what `ofproto/trace` prints: the tables visited, the registers and tunnel fields at the end, the ports.

use std::collections::BTreeMap;

use openflow::OfPort;

use crate::node::ovs::bridge::BRIDGE;

/// A packet's way as the switch itself tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SwitchTrace {
    /// The tables of br0 in the order visited.
    pub path: Vec<u8>,
    /// Registers that are not 0 at the end, by name.
    pub registers: BTreeMap<String, u64>,
    /// VNID and far end of the tunnel, where the packet got one.
    pub tunnel: Option<(u64, String)>,
    /// Ports of br0 it left through.
    pub outputs: Vec<u32>,
    /// The packet at the end, in flow syntax.
    pub end: String,
    /// Whether the way goes on in the datapath, behind a hash that only it knows: a select group.
    pub hashed: bool,
    /// The mark it had at the end.
    pub mark: u64,
}

/// Reads the text of one trace.
///
/// The text has a block for each bridge that the packet crosses (a tunnel of the userspace datapath goes on in
/// the underlay's bridge) and for each time that conntrack sends it back.
#[must_use]
pub fn parse(text: &str) -> SwitchTrace {
    let mut trace = SwitchTrace::default();
    let mut ours = false;
    let (mut tun_id, mut tun_dst, mut in_port) = (0, None, 0);
    // Outputs of the passes before this one.
    let mut sent = 0;
    for line in text.lines() {
        let words = line.trim();
        if let Some(bridge) = words.strip_prefix("bridge(\"") {
            ours = bridge.strip_suffix("\")") == Some(BRIDGE);
            continue;
        }
        if let Some(flow) = words.strip_prefix("Final flow: ") {
            final_flow(flow, &mut trace);
            ours = false;
            continue;
        }
        if words.starts_with("Translation failed") {
            // What the pass came by is not sent.
            trace.outputs.truncate(sent);
            continue;
        }
        if let Some(flow) = words.strip_prefix("Flow: ") {
            sent = trace.outputs.len();
            final_flow(flow, &mut trace);
            in_port = field(flow, "in_port=").unwrap_or(0);
            // What it came in with counts until it is written.
            tun_id = field(flow, "tun_id=").unwrap_or(tun_id);
            continue;
        }
        if !ours {
            continue;
        }
        if let Some((number, _)) = words.split_once(". ")
            && let Ok(table) = number.parse()
        {
            trace.path.push(table);
        } else if let Some(port) = words.strip_prefix("output:").or(words.strip_prefix("-> output port is "))
        {
            trace.outputs.extend(port.parse::<u32>());
        } else if words == "IN_PORT" {
            trace.outputs.extend(u32::try_from(in_port));
        } else if words == "LOCAL" {
            trace.outputs.push(OfPort::LOCAL.0);
        } else if words.starts_with(">> skipping output") || words.starts_with(">> Nonexistent output port") {
            trace.outputs.pop();
        } else if words.starts_with("-> no live bucket") {
            trace.hashed = true;
        } else if let Some(value) = words.strip_prefix("-> NXM_NX_TUN_ID[0..31] is now ") {
            tun_id = number(value);
        } else if let Some((value, "tun_dst")) =
            words.strip_prefix("set_field:").and_then(|rest| rest.split_once("->"))
        {
            tun_dst = Some(value.to_owned());
        } else if let Some((value, "NXM_NX_TUN_ID[0..31]")) =
            words.strip_prefix("load:").and_then(|rest| rest.split_once("->"))
        {
            tun_id = number(value);
        }
    }
    trace.tunnel = tun_dst.map(|dst| (tun_id, dst));
    trace
}

/// Registers and mark of a flow line. `unchanged` keeps those of the line before.
fn final_flow(flow: &str, trace: &mut SwitchTrace) {
    if flow == "unchanged" {
        return;
    }
    flow.clone_into(&mut trace.end);
    trace.registers.clear();
    trace.mark = 0;
    for (name, value) in flow.split(',').filter_map(|field| field.split_once('=')) {
        if name.strip_prefix("reg").is_some_and(|n| n.parse::<u8>().is_ok()) {
            trace.registers.insert(name.to_owned(), number(value));
        } else if name == "pkt_mark" {
            trace.mark = number(value);
        }
    }
}

/// The number of a field in a flow line.
fn field(flow: &str, prefix: &str) -> Option<u64> {
    flow.split(',').find_map(|field| field.strip_prefix(prefix)).map(number)
}

fn number(text: &str) -> u64 {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    }
    .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Open vSwitch 3.1 with the dummy datapath, flows of the pipeline cut down to the ones on the way.
    const RECIRCULATED: &str = r#"Flow: tcp,in_port=4,nw_src=10.130.0.6,nw_dst=10.131.0.5,tcp_flags=0

bridge("br0")
-------------
 0. ct_state=-trk,ip, priority 1000
    ct(table=0)
    drop
     -> A clone of the packet is forked to recirculate. The forked pipeline will be resumed at table 0.

Final flow: unchanged
Megaflow: recirc_id=0,ct_state=-trk,eth,ip,in_port=4,nw_frag=no
Datapath actions: ct,recirc(0x1)

===============================================================================
recirc(0x1) - resume conntrack with default ct_state=trk|new (use --ct-next to customize)
===============================================================================

Flow: recirc_id=0x1,ct_state=new|trk,eth,tcp,in_port=4,tcp_flags=0

bridge("br0")
-------------
    thaw
        Resuming from table 0
 0. ip, priority 100
    goto_table:20
20. ip,in_port=4,nw_src=10.130.0.6, priority 100
    load:0x7->NXM_NX_REG0[]
    goto_table:90
90. ip, priority 100
    move:NXM_NX_REG0[]->NXM_NX_TUN_ID[0..31]
     -> NXM_NX_TUN_ID[0..31] is now 0x7
    set_field:192.168.108.111->tun_dst
    output:1

Final flow: recirc_id=0x1,ct_state=new|trk,eth,tcp,reg0=0x7,tun_src=0.0.0.0,tun_dst=192.168.108.111,in_port=4
Megaflow: recirc_id=0x1,ct_state=+trk,eth,ip,in_port=4,nw_src=10.130.0.6,nw_dst=10.131.0.0/16,nw_frag=no
Datapath actions: 1
"#;

    #[test]
    fn a_trace_through_conntrack_into_the_tunnel() {
        let trace = parse(RECIRCULATED);
        assert_eq!(trace.path, [0, 0, 20, 90]);
        assert_eq!(trace.registers, BTreeMap::from([("reg0".to_owned(), 7)]));
        assert_eq!(trace.tunnel, Some((7, "192.168.108.111".to_owned())));
        assert_eq!(trace.outputs, [1]);
    }

    #[test]
    fn a_drop_has_no_outputs() {
        let trace = parse(
            "bridge(\"br0\")\n-----\n 0. ip, priority 100\n    goto_table:20\n20. No match.\n    drop\n\nFinal flow: unchanged\n",
        );
        assert_eq!((trace.path, trace.outputs), (vec![0, 20], vec![]));
    }

    #[test]
    fn what_the_switch_refuses_to_send_is_no_output() {
        let trace = parse(
            "bridge(\"br0\")\n 0. ip, priority 5\n    output:NXM_NX_REG2[]\n     -> output port is 4\n     >> skipping output to input port\n    output:3\n\nFinal flow: reg2=0x4,in_port=4\n",
        );
        assert_eq!(trace.outputs, [3]);
        assert_eq!(trace.end, "reg2=0x4,in_port=4");
    }

    #[test]
    fn a_pass_that_fails_sends_nothing() {
        let trace = parse(
            "Flow: in_port=1\nbridge(\"br0\")\n 0. priority 1\n    output:2\n    resubmit(,0)\n     >>>> over max translation depth 64 <<<<\n\nFinal flow: unchanged\nDatapath actions: drop\nTranslation failed (Recursion too deep), packet is dropped.\n",
        );
        assert_eq!((trace.path, trace.outputs), (vec![0], vec![]));
    }

    #[test]
    fn the_underlays_bridge_is_not_ours() {
        let trace = parse(
            "bridge(\"br0\")\n 0. ip, priority 1\n    output:1\n\nbridge(\"br-phy\")\n 0. priority 0\n    output:4\n",
        );
        assert_eq!((trace.path, trace.outputs), (vec![0], vec![1]));
    }
}
