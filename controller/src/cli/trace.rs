//! `sdnctl trace`: a packet's way, table by table, in words.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::{Context, bail};
use flowtables::pipeline::port::{self, TUN0, VXLAN0};
use flowtables::walk::{Assumptions, Packet, Walk, ct_state_text, parse_ct_state, walk};
use openflow::{Field, Match, OfPort};
use serde_json::{Value, json};

use super::output::OutputArgs;
use super::target::{Node, Target, Tun0Mac, view};
use super::{Exit, WrongUse};
use crate::node::ovs::bridge::BRIDGE;

pub mod ends;
pub mod journey;
pub mod ofproto;

use ends::Proto;
use ofproto::SwitchTrace;

/// Follow a packet through a node's tables and explain every step
///
/// FLOW has the syntax of `ovs-appctl ofproto/trace`, for example
/// `in_port=4,tcp,nw_src=10.130.0.6,nw_dst=10.130.0.5,ct_state=trk`. The walk is computed without a switch; --live
/// asks the node's switch too and says where the two differ. Exit status 1: they differ.
///
/// With --from and --to instead of FLOW: a pod's packet to a pod, a service or an address, through every node on its
/// way. Exit status 1: it does not get there.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// Ask the real switches as well
    #[arg(long)]
    live: bool,
    /// What connection tracking finds, such as `trk,est,rpl`: given several times, at one visit after the other. At further
    /// ones, and without it: a new connection
    #[arg(long, value_name = "STATE", value_parser = parse_ct_state, conflicts_with = "from")]
    ct_next: Vec<u32>,
    #[command(flatten)]
    tun0: Tun0Mac,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    ends: Ends,
    /// The packet
    #[arg(value_name = "FLOW", required_unless_present = "from", conflicts_with_all = ["from", "to"])]
    flow: Option<String>,
}

/// Who talks to whom, instead of a packet.
#[derive(Clone, Debug, clap::Args)]
pub struct Ends {
    /// The pod that sends
    #[arg(long, value_name = "NS/POD", requires = "to", conflicts_with = "node")]
    from: Option<String>,
    /// Where to: a pod, a service (SVC alone is one of the sender's namespace) or an address
    #[arg(long, value_name = "NS/POD|SVC|IP", requires = "from")]
    to: Option<String>,
    /// Transport protocol. Without it: TCP, or that of the service's only port
    #[arg(long, requires = "from")]
    proto: Option<Proto>,
    /// Destination port. A service that has only one needs none
    #[arg(long, requires = "from", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
}

/// Runs the command.
///
/// # Errors
/// When the packet cannot be read, the node is not known, or (live) its Open vSwitch does not answer.
pub async fn run(args: Args) -> anyhow::Result<Exit> {
    if let (Some(from), Some(to)) = (&args.ends.from, &args.ends.to) {
        return journey::run(&args, from, to).await;
    }
    let flow = args.flow.unwrap_or_default();
    let packet = packet(&flow).map_err(WrongUse)?;
    let node = args.target.one_node()?.with(args.tun0);
    let inputs = if args.live { node.live().await? } else { node.offline()? };
    let assumptions = Assumptions { ct_next: args.ct_next, ..Assumptions::default() };
    let walk = walk(view(&inputs).flows(), Packet::from(&packet), &assumptions);
    let live = if args.live { Some(ask_switch(&node, &flow, &assumptions).await?) } else { None };
    let differences = live.as_ref().map(|(trace, _)| differences(&walk, trace)).unwrap_or_default();
    let mut document = document(&walk);
    if let (Some((trace, raw)), Some(object)) = (&live, document.as_object_mut()) {
        object.insert("live".to_owned(), live_document(trace, raw, &differences));
    }
    args.output.print(&document, |_| {
        let mut text = text(&walk);
        if let Some((_, raw)) = &live {
            let _ = writeln!(text, "\nThe switch of {} says:\n{raw}", node.name);
            text.extend(differences.iter().map(|difference| format!("DIFFERENT: {difference}\n")));
            if differences.is_empty() {
                text += "The switch and the walk agree.\n";
            }
        }
        text
    })?;
    if let Some(why) = walk.not_walked {
        bail!("the packet could not be followed to its end: {why}");
    }
    Ok(if differences.is_empty() { Exit::Done } else { Exit::No })
}

/// Reads a packet. As `ofproto/trace` does, and unlike a flow's match, it takes the names of ports, and nothing twice.
fn packet(flow: &str) -> Result<Match, String> {
    let mut numbered = Vec::new();
    let mut keys = BTreeSet::new();
    for part in flow.split(',') {
        let part = part.trim();
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        if !key.is_empty() && !keys.insert(key) {
            return Err(format!("{key} is there twice: a packet has one"));
        }
        let port = [VXLAN0, TUN0].into_iter().find(|&port| port::name(port) == value.trim_matches('"'));
        match port {
            Some(OfPort(number)) if key == "in_port" => numbered.push(format!("{key}={number}")),
            _ => numbered.push(part.to_owned()),
        }
    }
    let protocols: Vec<&str> = keys.iter().copied().filter(|key| PROTOCOLS.contains(key)).collect();
    if let [one, other, ..] = protocols.as_slice() {
        return Err(format!("{one} and {other}: a packet is of one protocol"));
    }
    numbered.join(",").parse().map_err(|error| format!("{error}"))
}

/// The words of flow syntax that say what a packet is.
const PROTOCOLS: [&str; 15] = [
    "ip", "ipv6", "tcp", "tcp6", "udp", "udp6", "sctp", "sctp6", "icmp", "icmp6", "arp", "rarp", "mpls",
    "mplsm", "eth",
];

/// The switch's own trace of a packet, read and as text. Of the assumptions, `ct_next` counts: the switch too takes a new
/// connection where nothing else is said.
///
/// # Errors
/// When ovs-vswitchd does not answer or does not take the packet.
pub async fn ask_switch(
    node: &Node,
    flow: &str,
    assumptions: &Assumptions,
) -> anyhow::Result<(SwitchTrace, String)> {
    let control = ovsdb::unixctl::control_socket(&node.ovs_dir, "ovs-vswitchd")?;
    let states: Vec<String> = assumptions.ct_next.iter().map(|state| ct_state_text(*state)).collect();
    let mut arguments: Vec<&str> = states.iter().flat_map(|state| ["--ct-next", state]).collect();
    arguments.extend([BRIDGE, flow]);
    let raw = ovsdb::unixctl::call(&control, "ofproto/trace", &arguments).await.context("ofproto/trace")?;
    if !raw.contains("bridge(") {
        bail!("the switch did not trace the packet: {}", raw.trim());
    }
    Ok((ofproto::parse(&raw), raw))
}

/// Where the walk and the switch's trace part; empty when they agree.
#[must_use]
pub fn differences(walk: &Walk, live: &SwitchTrace) -> Vec<String> {
    let mut differences = Vec::new();
    let mut differ = |what: &str, ours: String, theirs: String| {
        if ours != theirs {
            differences.push(format!("{what}: {ours} by the walk, {theirs} by the switch"));
        }
    };
    differ("path", format!("{:?}", walk.path()), format!("{:?}", live.path));
    differ("output", format!("{:?}", outputs(walk)), format!("{:?}", live.outputs));
    differ("registers", format!("{:?}", registers(walk)), format!("{:?}", live.registers));
    let mark = walk.packet.get(Field::PKT_MARK);
    differ("mark", format!("{mark:#x}"), format!("{:#x}", live.mark));
    // The switch tells of a tunnel header when it is written, whether or not the packet then leaves with it.
    if live.tunnel.is_some() && live.outputs.contains(&VXLAN0.0) {
        let tunnel = tunnel(walk).map(|(id, dst)| (id, dst.to_string()));
        differ("tunnel", format!("{tunnel:?}"), format!("{:?}", live.tunnel));
    }
    differences
}

fn outputs(walk: &Walk) -> Vec<u32> {
    walk.outputs.iter().map(|output| output.port.0).collect()
}

/// The registers that are not 0, as the switch lists them.
fn registers(walk: &Walk) -> BTreeMap<String, u64> {
    (0..16)
        .filter_map(|n| {
            let field = Field::reg(n)?;
            let value = u64::try_from(walk.packet.get(field)).ok().filter(|value| *value != 0)?;
            Some((field.name().to_owned(), value))
        })
        .collect()
}

fn tunnel(walk: &Walk) -> Option<(u64, std::net::Ipv4Addr)> {
    let sent = walk.outputs.iter().rfind(|output| output.port == VXLAN0)?;
    let id = u64::try_from(sent.packet.get(Field::TUN_ID)).ok()?;
    Some((id, sent.packet.ipv4(Field::TUN_DST)))
}

/// The walk for a person: a line or two a table, then the verdict.
#[must_use]
pub fn text(walk: &Walk) -> String {
    let mut text = String::new();
    for step in &walk.steps {
        let name = step.table_name();
        let _ = writeln!(text, "{:>3} {name:<17} {}", step.table, step.why);
        if let Some(flow) = &step.flow {
            let owner = step.owner.as_ref().map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(text, "    {:<17} {}  [{owner}]", "", flow.to_string().trim());
        }
        for note in &step.notes {
            let _ = writeln!(text, "    {:<17} ({note})", "");
        }
    }
    let _ = writeln!(text, "=> {}", verdict(walk));
    text
}

fn verdict(walk: &Walk) -> String {
    if walk.is_drop() {
        return format!("dropped: {}", walk.drop_reason);
    }
    match &walk.not_walked {
        Some(why) if walk.outputs.is_empty() => format!("not walked to the end: {why}"),
        Some(why) => format!("not walked to the end: {why}; until then {}", sent(walk)),
        None => sent(walk),
    }
}

fn sent(walk: &Walk) -> String {
    let ends: Vec<String> = walk
        .outputs
        .iter()
        .map(|output| match output.port {
            VXLAN0 => format!(
                "vxlan0 to {} with VNID {}",
                output.packet.ipv4(Field::TUN_DST),
                output.packet.get(Field::TUN_ID)
            ),
            other => port::name(other),
        })
        .collect();
    format!("out of {}", ends.join(" and "))
}

fn document(walk: &Walk) -> Value {
    let steps: Vec<Value> = walk
        .steps
        .iter()
        .map(|step| {
            json!({
                "table": step.table,
                "name": step.table_name(),
                "flow": step.flow.as_ref().map(|flow| flow.to_string().trim().to_owned()),
                "owner": step.owner.as_ref().map(ToString::to_string),
                "why": step.why,
                "notes": step.notes,
            })
        })
        .collect();
    // Those that the pipeline always uses, whatever they hold.
    let mut all_registers = registers(walk);
    for name in ["reg0", "reg1", "reg2"] {
        all_registers.entry(name.to_owned()).or_default();
    }
    let verdict = match &walk.not_walked {
        Some(why) => json!({ "notWalked": why, "output": outputs(walk) }),
        None if walk.is_drop() => json!({ "drop": walk.drop_reason }),
        None => json!({ "output": outputs(walk) }),
    };
    let tunnel = match tunnel(walk) {
        Some((id, dst)) => json!({ "id": id, "dst": dst }),
        None => json!({}),
    };
    let mark = walk.outputs.first().map_or(0, |output| output.packet.get(Field::PKT_MARK));
    json!({
        "path": walk.path(),
        "steps": steps,
        "registers": all_registers,
        "tunnel": tunnel,
        "mark": u64::try_from(mark).unwrap_or_default(),
        "verdict": verdict,
    })
}

fn live_document(trace: &SwitchTrace, raw: &str, differences: &[String]) -> Value {
    json!({
        "path": trace.path,
        "registers": trace.registers,
        "tunnel": trace.tunnel.as_ref().map(|(id, dst)| json!({ "id": id, "dst": dst })),
        "mark": trace.mark,
        "output": trace.outputs,
        "differences": differences,
        "text": raw,
    })
}
