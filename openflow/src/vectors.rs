//! Vectors: the bytes of messages, a line for each field, in `tests/vectors/*.hex`.
//!
//! `OPENFLOW_WRITE_VECTORS=1 cargo test -p openflow vectors` writes them anew after the format has changed; what is
//! written must then be looked at, since it comes from this codec itself. That its bytes are right is shown elsewhere:
//! `tests/wire.rs` compares them with what `ovs-ofctl` sends, `tests/messages.rs` lets it read them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use bytes::BytesMut;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use crate::wire::trace;
use crate::{Action, Envelope, Field, FlowMod, FlowModCommand, Instruction, Message};

#[path = "../tests/support/generate.rs"]
mod generate;
mod layout;

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name)
}

fn encode(message: Message) -> BytesMut {
    let mut bytes = BytesMut::new();
    Envelope::new(1, message).encode(&mut bytes).unwrap();
    bytes
}

/// Name of a variant.
fn variant(value: &impl std::fmt::Debug) -> String {
    format!("{value:?}").chars().take_while(char::is_ascii_alphanumeric).collect()
}

/// One message of each kind (and of each kind of multipart), the shortest of many random ones.
fn messages() -> Vec<Message> {
    let mut runner = TestRunner::deterministic();
    let mut found: BTreeMap<String, Message> = BTreeMap::new();
    for _ in 0..2500 {
        let mut message = generate::message().new_tree(&mut runner).unwrap().current();
        if let Message::BundleAdd(add) = &mut message {
            add.xid = 1;
        }
        let name = match &message {
            Message::MultipartRequest { request, .. } => format!("request {}", variant(request)),
            Message::MultipartReply { reply, .. } => format!("reply {}", variant(reply)),
            other => variant(other),
        };
        // A reply without entries would show nothing.
        let len = |message: &Message| match encode(message.clone()).len() {
            n if n <= 24 && name.starts_with("reply") => usize::MAX,
            n => n,
        };
        if found.get(&name).is_none_or(|best| len(&message) < len(best)) {
            found.insert(name, message);
        }
    }
    found.into_values().collect()
}

fn corpus(name: &str) -> Vec<String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name);
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

/// For each field the first flow of the corpus that matches it, for each action the first that has it.
fn flows() -> (Vec<Message>, Vec<Message>) {
    let parse = |text: &str| FlowMod::parse(FlowModCommand::Add, text).unwrap();
    let mut seen = BTreeSet::new();
    let mut fields = Vec::new();
    for line in corpus("matches.txt") {
        let flow_mod = parse(&format!("{line} actions=drop"));
        let names: Vec<String> = flow_mod
            .flow
            .fields
            .iter()
            .map(|(field, _, mask)| format!("{field} {}", mask == field.full_mask()))
            .chain(
                flow_mod.flow.fields.wide().map(|wide| format!("{:?} {}", wide.field, wide.mask.is_none())),
            )
            .collect();
        if names.iter().filter(|name| seen.insert((*name).clone())).count() > 0 {
            fields.push(Message::FlowMod(flow_mod));
        }
    }
    let mut seen = BTreeSet::new();
    let mut actions = Vec::new();
    for line in corpus("actions.txt") {
        let (m, list) = line.split_once('|').unwrap();
        let flow_mod = parse(&format!("{} actions={}", m.trim(), list.trim()));
        let mut names = Vec::new();
        for instruction in &flow_mod.flow.instructions {
            names.push(variant(instruction));
            if let Instruction::ApplyActions(list) = instruction {
                names.extend(list.iter().map(|action| match action {
                    Action::Controller(c) => format!("Controller {} {}", c.is_plain(), c.userdata.is_empty()),
                    other => variant(other),
                }));
            }
        }
        if names.iter().filter(|name| seen.insert((*name).clone())).count() > 0 {
            actions.push(Message::FlowMod(flow_mod));
        }
    }
    (fields, actions)
}

/// What it says, then its bytes, a line for each field.
fn annotated(bytes: &[u8]) -> String {
    let mut text = String::new();
    for line in Envelope::decode(bytes).unwrap().to_string().lines() {
        text += &format!("# {line}\n");
    }
    let mut reads = trace::record(|| drop(Envelope::decode(bytes)));
    // Some fields are looked at twice.
    let mut end = 0;
    reads.retain(|(offset, len, _)| {
        let is_new = *offset >= end && *len > 0;
        end = end.max(offset + len);
        is_new
    });
    let mut at = 0;
    let mut line = |bytes: &[u8], what: &str| {
        for chunk in bytes.chunks(16) {
            let hex: Vec<String> = chunk.iter().map(|b| format!("{b:02x}")).collect();
            text += &format!("{:<48}# {what}\n", hex.join(" "));
        }
    };
    for ((offset, len, _), name) in reads.iter().zip(layout::names(bytes, &reads)) {
        // What nobody reads is padding.
        line(&bytes[at..*offset], "pad");
        line(&bytes[*offset..offset + len], &name);
        at = offset + len;
    }
    line(&bytes[at..], "pad");
    text
}

fn check(name: &str, messages: Vec<Message>) {
    let written: Vec<String> = messages.into_iter().map(|message| annotated(&encode(message))).collect();
    if std::env::var_os("OPENFLOW_WRITE_VECTORS").is_some() {
        std::fs::write(path(name), written.join("\n")).unwrap();
    }
    let text = std::fs::read_to_string(path(name)).unwrap();
    let mut count = 0;
    for vector in text.split("\n\n") {
        let bytes: Vec<u8> = vector
            .lines()
            .filter_map(|line| line.split('#').next())
            .flat_map(str::split_whitespace)
            .map(|pair| u8::from_str_radix(pair, 16).unwrap())
            .collect();
        let envelope = Envelope::decode(&bytes).unwrap_or_else(|error| panic!("{error}\n{vector}"));
        let mut again = BytesMut::new();
        envelope.encode(&mut again).unwrap();
        assert_eq!(again[..], bytes[..], "{vector}");
        let said: String =
            vector.lines().filter_map(|line| line.strip_prefix("# ")).collect::<Vec<_>>().join("\n");
        assert_eq!(envelope.to_string().trim_end(), said.trim_end());
        count += 1;
    }
    assert_eq!(count, written.len(), "{name} lacks vectors: see the top of src/vectors.rs");
}

#[test]
fn a_vector_for_each_message() {
    check("messages.hex", messages());
}

#[test]
fn a_vector_for_each_field() {
    let (fields, _) = flows();
    check("fields.hex", fields);
}

#[test]
fn a_vector_for_each_action() {
    let (_, actions) = flows();
    check("actions.hex", actions);
}

/// The corpus, and so the vectors, leaves out only fields that Open vSwitch does not know or turns into others.
#[test]
fn corpus_matches_every_field() {
    let (messages, _) = flows();
    let mut missing: BTreeSet<&str> =
        Field::all().filter(|field| !field.is_tun_metadata()).map(Field::name).collect();
    for message in &messages {
        if let Message::FlowMod(flow_mod) = message {
            flow_mod.flow.fields.iter().for_each(|(field, ..)| {
                missing.remove(field.name());
            });
        }
    }
    missing.retain(|name| !name.starts_with("xreg") && !name.starts_with("xxreg"));
    let turned = ["in_port_16", "nw_tos", "vlan_tci"];
    let unknown = ["in_phy_port", "ipv6_exthdr", "pbb_isid", "pbb_uca", "tun_gtpu_flags", "tun_gtpu_msgtype"];
    let expected: BTreeSet<&str> = turned.into_iter().chain(unknown).collect();
    assert_eq!(missing, expected);
}
