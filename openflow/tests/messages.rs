//! Random messages of every kind: they survive a round trip, and `ovs-ofctl ofp-parse` reads them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // A test may stop at the first surprise.

#[path = "support/generate.rs"]
mod generate;
mod support;

use std::collections::BTreeMap;

use bytes::BytesMut;
use openflow::message::{ErrorCode, FlowMonitorRequest, MonitorFlags};
use openflow::{Envelope, FlowMod, Message, MultipartReply, MultipartRequest};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

fn encode(xid: u32, message: &Message) -> BytesMut {
    let mut bytes = BytesMut::new();
    let envelope = Envelope::new(xid, with_inner_xid(xid, message));
    envelope.encode(&mut bytes).unwrap();
    bytes
}

/// A message in a bundle has the transaction id of the message around it.
fn with_inner_xid(xid: u32, message: &Message) -> Message {
    let mut message = message.clone();
    if let Message::BundleAdd(add) = &mut message {
        add.xid = xid;
    }
    message
}

/// `n` values, the same in every run.
fn values<S: Strategy>(strategy: S, n: usize) -> Vec<S::Value> {
    let mut runner = TestRunner::deterministic();
    (0..n).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

/// Lets `ovs-ofctl` print messages; what it prints of each.
fn printed(messages: &[Message]) -> Vec<String> {
    let encoded: Vec<BytesMut> =
        messages.iter().enumerate().map(|(n, message)| encode(n as u32 + 1, message)).collect();
    support::ofp_parse(&encoded)
}

#[test]
fn ofp_print_reads_every_message() {
    let messages = values(generate::message(), 3000);
    let texts = printed(&messages);
    let mut bad = String::new();
    let mut count = 0;
    for (n, (message, text)) in messages.iter().zip(&texts).enumerate() {
        let is_bad = text.is_empty() || text.contains("***") || text.contains("decode error");
        if is_bad {
            count += 1;
            if count < 12 {
                let hex: String = encode(n as u32 + 1, message).iter().map(|b| format!("{b:02x}")).collect();
                bad += &format!("{message:?}\n{hex}\n{text}\n");
            }
        }
    }
    assert!(bad.is_empty(), "{count} messages\n{bad}");
}

/// Multiparts of experimenters that Open vSwitch does not know, and of those that it knows with types that it does not:
/// it finds both numbers where we write them, and refuses them as unknown and for nothing else.
#[test]
fn experimenter_multiparts_are_found_to_be_just_that() {
    let experimenter = prop_oneof![Just(NICIRA), Just(ONF), 0x0100_0000u32..0x4000_0000];
    let body = prop::collection::vec(any::<u8>(), 0..40);
    for (is_reply, experimenter, kind, body) in values((any::<bool>(), experimenter, 100u32..1800, body), 100)
    {
        let message = match is_reply {
            true => Message::MultipartReply {
                more: false,
                reply: MultipartReply::Experimenter { experimenter, kind, body },
            },
            false => Message::MultipartRequest {
                more: false,
                request: MultipartRequest::Experimenter { experimenter, kind, body },
            },
        };
        let bytes = encode(7, &message);
        assert_eq!(Envelope::decode(&bytes).unwrap().message, message);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let theirs = support::ofctl(&["ofp-print", &hex], "");
        let (code, said) = match experimenter {
            NICIRA | ONF => {
                ("OFPBRC_BAD_SUBTYPE", format!("stat 65535, vendor {experimenter:#x}, subtype {kind}"))
            }
            _ => ("OFPBRC_BAD_VENDOR", format!("unknown vendor {experimenter:#x}")),
        };
        assert!(theirs.contains(&format!("***decode error: {code}***")), "{hex}\n{theirs}");
        assert!(theirs.contains(&said), "{hex}\n{theirs}");
    }
}

const NICIRA: u32 = 0x2320;
const ONF: u32 = 0x4f4e_4600;

/// Open vSwitch refuses a monitor that asks for no kind of change, and flags without a name.
#[test]
fn flow_monitors_ask_for_some_kind_of_change() {
    let request = |flags| {
        MultipartRequest::FlowMonitor(vec![FlowMonitorRequest {
            flags: MonitorFlags(flags),
            ..FlowMonitorRequest::default()
        }])
    };
    let flags: Vec<u16> = (0..=0x80).chain([0x4002, 0x8000, 0xffff]).collect();
    let messages: Vec<Message> = flags
        .iter()
        .map(|flags| Message::MultipartRequest { more: false, request: request(*flags) })
        .collect();
    for ((flags, message), theirs) in flags.iter().zip(&messages).zip(printed(&messages)) {
        let ours = Envelope::decode(&encode(1, message));
        let is_refused = theirs.contains("***decode error: OFPMOFC_BAD_FLAGS***");
        assert_eq!(MonitorFlags(*flags).is_valid(), !is_refused, "{flags:#x}: {theirs}");
        assert_eq!(
            ours.is_err_and(|e| e.code() == ErrorCode::MOFC_BAD_FLAGS),
            is_refused,
            "{flags:#x}: {theirs}"
        );
    }
}

#[test]
fn flow_mods_print_as_ofp_print_prints_them() {
    let flow_mods: Vec<FlowMod> = values(generate::flow_mod(), 2000);
    let messages: Vec<Message> = flow_mods.iter().cloned().map(Message::FlowMod).collect();
    let mut differences = String::new();
    for (flow_mod, text) in flow_mods.iter().zip(printed(&messages)) {
        let theirs = text.trim_end().split_once("): ").map_or(text.as_str(), |(_, rest)| rest);
        if flow_mod.to_string() != theirs && differences.len() < 10_000 {
            differences += &format!("theirs {theirs}\nours   {flow_mod}\n\n");
        }
    }
    assert!(differences.is_empty(), "{differences}");
}

/// Whether ours is what theirs is. Of a packet they print the headers too, and below that the bytes; of a flow monitor's
/// update not the priority, of a request not the cookie. The message within an error has a transaction id that [`printed`] does not know.
fn is_alike(message: &Message, ours: &str, theirs: &str) -> bool {
    let (ours, theirs) = (ours.trim_end(), theirs.trim_end());
    match message {
        Message::EchoRequest(data) | Message::EchoReply(data) if !data.is_empty() => {
            theirs.strip_prefix(ours).is_some_and(|rest| rest.starts_with('\n'))
        }
        Message::Error(error) if error.text().is_none() => ours.lines().next() == theirs.lines().next(),
        Message::MultipartReply { reply: MultipartReply::FlowMonitor(_), .. } => {
            let without = |word: &str| match word.strip_prefix("priority=") {
                Some(rest) => rest.split_once(',').map_or(String::new(), |(_, rest)| format!("{rest} ")),
                None => format!("{word} "),
            };
            let words = |text: &str| text.split(' ').map(without).collect::<String>();
            words(ours) == words(theirs)
        }
        Message::PacketIn(_)
        | Message::NxPacketIn(_)
        | Message::PacketIn2(_)
        | Message::PacketOut(_)
        | Message::Resume(_) => theirs.strip_prefix(ours).is_some_and(|rest| rest.starts_with('\n')),
        Message::MultipartRequest {
            request: MultipartRequest::Flow(flows) | MultipartRequest::Aggregate(flows),
            ..
        } if flows.cookie_mask != 0 => {
            let start = ours.find(" cookie=").unwrap();
            let end = ours[start + 1..].find(' ').map_or(ours.len(), |at| start + 1 + at);
            format!("{}{}", &ours[..start], &ours[end..]) == theirs
        }
        _ => ours == theirs,
    }
}

#[test]
fn messages_print_as_ofp_print_prints_them() {
    let messages: Vec<Message> = values(generate::message(), 4000);
    let mut differences: BTreeMap<String, (usize, String)> = BTreeMap::new();
    for (n, (message, theirs)) in messages.iter().zip(&printed(&messages)).enumerate() {
        let ours = Envelope::new(n as u32 + 1, with_inner_xid(n as u32 + 1, message)).to_string();
        if !is_alike(message, &ours, theirs) {
            let kind = ours.split('(').next().unwrap().to_owned();
            differences.entry(kind).or_insert((0, format!("theirs {theirs}\nours   {ours}\n\n"))).0 += 1;
        }
    }
    let text: String = differences.values().map(|(n, first)| format!("{n} like\n{first}")).collect();
    assert!(differences.is_empty(), "{text}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn round_trip(message in generate::message()) {
        let bytes = encode(9, &message);
        let decoded = Envelope::decode(&bytes).unwrap();
        prop_assert_eq!(&decoded.message, &with_inner_xid(9, &message));
        let again = encode(9, &decoded.message);
        prop_assert_eq!(&again[..], &bytes[..]);
    }

    /// Cut short or with any byte changed: an error or another message, but never a panic, and what decodes encodes.
    #[test]
    fn damage_is_harmless(message in generate::message(), at in any::<prop::sample::Index>(), value: u8, cut in any::<prop::sample::Index>()) {
        let mut bytes = encode(9, &message);
        let at = at.index(bytes.len());
        bytes[at] = value;
        if let Ok(envelope) = Envelope::decode(&bytes) {
            let _ = envelope.encode(&mut BytesMut::new());
            let _ = format!("{envelope:?}");
        }
        let cut = cut.index(bytes.len());
        prop_assert!(Envelope::decode(&bytes[..cut]).is_err());
    }

    /// Text of a flow is read back as the same flow.
    #[test]
    fn text_round_trip(flow in generate::flow()) {
        let flow = flow.normalized();
        let text = flow.to_string();
        let parsed: openflow::Flow = text.parse().map_err(|e: openflow::ParseError| TestCaseError::fail(e.report().to_string()))?;
        prop_assert_eq!(parsed.to_string(), text);
        prop_assert_eq!(parsed.fields, flow.fields);
    }

    #[test]
    fn text_never_panics(text in ".{0,60}", words in prop::collection::vec(prop::sample::select(vec!["actions=", "ct(", ")", ",", "nat(src=", "1.1.1.1", "->", "reg0[", "..", "]", "learn(", "0x", "=", "tcp", "in_port", "/", "load:", "note:", "bundle(", "encap(nsh(", "[", "é"]), 0..20)) {
        let _ = text.parse::<openflow::Flow>();
        let joined = words.concat();
        let _ = joined.parse::<openflow::Flow>();
        let _ = joined.parse::<openflow::Match>();
        let _ = openflow::parse_actions(&joined);
        if let Err(error) = joined.parse::<openflow::Group>() {
            prop_assert!(joined.get(error.span()).is_some(), "{error:?} in {joined}");
            let _ = error.report().to_string();
        }
    }
}
