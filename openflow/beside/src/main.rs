//! Encode and decode beside two other implementations, on the same messages: the crate `rovs-openflow`, and os-ken in
//! Python (`make target/os-ken/installed`). `make bench` runs it.
//!
//! Of rovs-openflow it asks what ours does: match, instructions and actions as types. What it leaves out is what a check
//! costs. It takes any value, mask and order, and skips fields that it does not know; an action that it cannot read becomes
//! `drop`, as both loads of [`FLOW`] do, so that there is a second dump, of [`ROUTE`], which it reads whole. Ours refuses what
//! Open vSwitch refuses, with its code and the offset, and keeps the rest.
//!
//! A part of a dump is measured in two ways, like with like:
//!
//! - *read*, flow by flow, where a flow is looked at and not kept: [`FlowStatsReader`] beside a loop over
//!   `FlowStatsEntry::decode`.
//! - *decoded*, to a list of all: [`Envelope::decode`] beside the same loop with a `Vec`, which is how the client of
//!   rovs-openflow does it. Of ours, allocating a list of actions a flow and giving all back takes a third of this (callgrind:
//!   500 of 1,467 instructions for [`FLOW`]; read, it takes 846, and rovs-openflow 1,685).
//!
//! In both every field, instruction and action is a value of its type in the end; nothing is left for later.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use openflow::{Envelope, Flow, FlowMod, FlowStats, FlowStatsReader, Message, MultipartReply};
use rovs_openflow::{ActionList, FlowStatsEntry, Instruction, InstructionList, Match, Version};

/// A pod's flow, without and with a number of its own.
const FLOW: &str = "table=70,priority=100,cookie=0x1234,ip,nw_dst=10.128.3.4 \
                    actions=load:0x82f8b2->NXM_NX_REG1[],load:0x7->NXM_NX_REG2[],goto_table:80";
/// A routed packet's flow, with actions that all three read.
const ROUTE: &str = "table=70,priority=100,cookie=0x1234,ip,nw_dst=10.128.3.4 \
                     actions=set_field:0a:58:0a:80:03:04->eth_dst,dec_ttl,output:3,goto_table:80";
/// Flows in a part of a dump.
const FLOWS: usize = 100;
/// How often each is measured.
const ROUNDS: usize = 7;

fn main() {
    let flow: Flow = FLOW.parse().unwrap();
    let flow_mod = Envelope::new(7, Message::FlowMod(FlowMod::add(flow.clone())));
    let dump_of = |flow: Flow| {
        let duration = Duration::from_millis(61_500);
        let stats = FlowStats { flow, packets: Some(5), bytes: Some(490), duration };
        let reply = MultipartReply::Flow(vec![stats; FLOWS]);
        Envelope::new(8, Message::MultipartReply { more: false, reply })
    };
    let (dump, routes) = (dump_of(flow), dump_of(ROUTE.parse().unwrap()));
    let encoded = |envelope: &Envelope| {
        let mut bytes = BytesMut::new();
        envelope.encode(&mut bytes).unwrap();
        bytes
    };
    let (flow_mod_bytes, dump_bytes, routes_bytes) = (encoded(&flow_mod), encoded(&dump), encoded(&routes));
    let theirs = rovs_flow();
    assert_eq!(theirs.to_message(Version::Of13, 7).encode()[..], flow_mod_bytes[..], "not the same message");

    let buffer = RefCell::new(BytesMut::with_capacity(1 << 16));
    let mut works: Vec<Work<'_>> = vec![
        ("openflow", "encode a flow-mod", Box::new(|| reuse(&flow_mod, &buffer))),
        ("openflow", "decode a flow-mod", Box::new(|| decode(&flow_mod_bytes))),
        ("openflow", "encode a dump's part", Box::new(|| reuse(&dump, &buffer))),
        ("openflow", "decode a dump's part", Box::new(|| decode(&dump_bytes))),
        ("openflow", "read a dump's part", Box::new(|| read(&dump_bytes))),
        ("openflow", "encode a dump's routes", Box::new(|| reuse(&routes, &buffer))),
        ("openflow", "decode a dump's routes", Box::new(|| decode(&routes_bytes))),
        ("openflow", "read a dump's routes", Box::new(|| read(&routes_bytes))),
        (
            "rovs-openflow",
            "encode a flow-mod",
            Box::new(|| drop(black_box(black_box(&theirs).to_message(Version::Of13, 7).encode()))),
        ),
        ("rovs-openflow", "decode a dump's part", Box::new(|| rovs_decode(black_box(&dump_bytes)))),
        ("rovs-openflow", "read a dump's part", Box::new(|| rovs_read(black_box(&dump_bytes)))),
        ("rovs-openflow", "decode a dump's routes", Box::new(|| rovs_decode(black_box(&routes_bytes)))),
        ("rovs-openflow", "read a dump's routes", Box::new(|| rovs_read(black_box(&routes_bytes)))),
    ];
    // With words, only what they name, and without os-ken: for a profiler.
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    works.retain(|(who, what, _)| wanted.iter().all(|word| who == word || what.contains(word)));
    let times = times(&mut works);
    if !wanted.is_empty() {
        times.iter().for_each(|((who, what), time)| println!("{who}: {what}: {time:.2?}"));
        return;
    }
    let beside = |who: &'static str, what: &'static str| times.get(&(who, what));
    let os_ken = os_ken(&[
        ("flow-mod", &flow_mod_bytes),
        ("dump's part", &dump_bytes),
        ("dump's routes", &routes_bytes),
    ]);
    println!("a dump's part has {FLOWS} flows; times are medians of {ROUNDS} rounds");
    println!("read: flow by flow; decode: to a list of all");
    println!("rovs-openflow reads the actions of the part, loads, as drop; those of the routes it reads");
    for what in [
        "encode a flow-mod",
        "decode a flow-mod",
        "encode a dump's part",
        "read a dump's part",
        "decode a dump's part",
        "encode a dump's routes",
        "read a dump's routes",
        "decode a dump's routes",
    ] {
        let Some(ours) = beside("openflow", what) else { continue };
        println!("{what}: openflow {ours:.2?}");
        let compare = |name: &str, theirs: Option<&Duration>, aim: u32| match theirs {
            Some(theirs) => {
                let ratio = theirs.as_secs_f64() / ours.as_secs_f64();
                println!("  {name} {theirs:.2?}, {ratio:.1} times as long (aim: at least {aim})");
            }
            None => println!("  {name} cannot do it"),
        };
        compare("rovs-openflow", beside("rovs-openflow", what), 2);
        // It has one way to take a message apart: whole.
        compare("os-ken", os_ken.get(what.replace("read", "decode").as_str()), 50);
    }
}

/// Who does what, and how.
type Work<'a> = (&'static str, &'static str, Box<dyn FnMut() + 'a>);

fn reuse(envelope: &Envelope, buffer: &RefCell<BytesMut>) {
    let mut buffer = buffer.borrow_mut();
    buffer.clear();
    black_box(envelope).encode(&mut buffer).unwrap();
}

fn decode(bytes: &[u8]) {
    drop(black_box(Envelope::decode(black_box(bytes))));
}

/// Reads a dump's part flow by flow.
fn read(bytes: &[u8]) {
    let mut flows = FlowStatsReader::open(black_box(bytes)).unwrap().unwrap();
    let mut count = 0;
    while let Some(stats) = flows.next().unwrap() {
        black_box(stats);
        count += 1;
    }
    assert_eq!(count, FLOWS);
}

/// Median time of one call of each. They take turns, so that what else the machine does meets all of them.
fn times(works: &mut [Work<'_>]) -> BTreeMap<(&'static str, &'static str), Duration> {
    let mut rounds: BTreeMap<_, Vec<Duration>> = BTreeMap::new();
    for _ in 0..ROUNDS {
        for (who, what, work) in works.iter_mut() {
            let (start, mut calls) = (Instant::now(), 0);
            while start.elapsed() < Duration::from_millis(100) {
                (0..100).for_each(|_| work());
                calls += 100;
            }
            rounds.entry((*who, *what)).or_default().push(start.elapsed() / calls);
        }
    }
    let median = |mut all: Vec<Duration>| {
        all.sort();
        all[all.len() / 2]
    };
    rounds.into_iter().map(|(key, all)| (key, median(all))).collect()
}

/// The flow of [`FLOW`] as that crate has it.
fn rovs_flow() -> rovs_openflow::Flow {
    // NXM_NX_REG1 and NXM_NX_REG2: class 1, fields 1 and 2, 4 bytes.
    let actions =
        ActionList::new().load_field(0x0001_0204, 0, 32, 0x82f8b2).load_field(0x0001_0404, 0, 32, 7);
    let instructions = InstructionList::new().apply_actions(actions).goto_table(80);
    rovs_openflow::Flow::add()
        .table(70)
        .priority(100)
        .cookie(0x1234)
        .match_fields(Match::new().eth_type(0x0800).ipv4_dst([10, 128, 3, 4].into(), 32))
        .instructions(instructions)
}

/// Decodes a dump's part as far as that crate can, to a list, as its client does: our matches and instructions are typed too.
fn rovs_decode(bytes: &[u8]) {
    let mut flows = Vec::new();
    rovs_each(bytes, |entry, instructions| flows.push((entry, instructions)));
    assert_eq!(flows.len(), FLOWS);
    black_box(&flows);
}

/// Reads a dump's part flow by flow.
fn rovs_read(bytes: &[u8]) {
    let mut count = 0;
    rovs_each(bytes, |entry, instructions| {
        black_box((&entry, &instructions));
        count += 1;
    });
    assert_eq!(count, FLOWS);
}

#[inline(always)]
fn rovs_each(bytes: &[u8], mut each: impl FnMut(FlowStatsEntry, InstructionList)) {
    let mut rest = &bytes[16..];
    while !rest.is_empty() {
        let (entry, len) = FlowStatsEntry::decode(rest).unwrap();
        let instructions = entry.decoded_instructions().unwrap();
        assert!(matches!(instructions.instructions()[1], Instruction::GotoTable(_)));
        each(entry, instructions);
        rest = &rest[len..];
    }
}

/// What os-ken takes to decode each message and to encode what it has decoded.
fn os_ken(messages: &[(&str, &[u8])]) -> BTreeMap<&'static str, Duration> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let venv = here.join("../../target/os-ken");
    assert!(venv.join("installed").exists(), "os-ken is missing: run `make target/os-ken/installed`");
    let mut child = Command::new(venv.join("bin/python"))
        .arg(here.join("os-ken.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    for (_, bytes) in messages {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(stdin, "{hex}").unwrap();
    }
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let mut seconds = text.split_whitespace().map(|number| number.parse::<f64>().unwrap());
    let mut times = BTreeMap::new();
    for (name, _) in messages {
        let [decode, encode] = match *name {
            "flow-mod" => ["decode a flow-mod", "encode a flow-mod"],
            "dump's routes" => ["decode a dump's routes", "encode a dump's routes"],
            _ => ["decode a dump's part", "encode a dump's part"],
        };
        for what in [decode, encode] {
            // Not a number: it cannot do that.
            if let Ok(time) = Duration::try_from_secs_f64(seconds.next().unwrap()) {
                times.insert(what, time);
            }
        }
    }
    times
}
