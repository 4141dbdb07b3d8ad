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

use crate::action::{Ct, Nat, NatKind};
use crate::message::{MultipartReply, MultipartRequest};
use crate::wire::trace;
use crate::{
    Action, Envelope, Field, Flow, FlowMod, FlowModCommand, Instruction, Instructions, Match, Message,
    Subfield, WideField,
};

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
        // A list without entries would show nothing.
        let len = |message: &Message| match encode(message.clone()).len() {
            n if n <= 24 && (name.starts_with("reply") || name == "NxSetAsync2") => usize::MAX,
            n => n,
        };
        if found.get(&name).is_none_or(|best| len(&message) < len(best)) {
            found.insert(name, message);
        }
    }
    let (experimenter, kind, body) = (0xff00_0001, 2, vec![0xab; 4]);
    let further = [
        Message::Experimenter { experimenter, kind, body: body.clone() },
        Message::Unknown { kind: 99, body: body.clone() },
        Message::MultipartRequest {
            more: false,
            request: MultipartRequest::Experimenter { experimenter, kind, body: body.clone() },
        },
        Message::MultipartRequest {
            more: false,
            request: MultipartRequest::Unknown { kind: 99, body: body.clone() },
        },
        Message::MultipartReply {
            more: false,
            reply: MultipartReply::Experimenter { experimenter, kind, body: body.clone() },
        },
        Message::MultipartReply { more: false, reply: MultipartReply::Unknown { kind: 99, body } },
    ];
    found.into_values().chain(further).collect()
}

fn corpus(name: &str) -> Vec<String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name);
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

/// Fields of which a match holds others instead: they stand in actions.
fn is_view(field: Field) -> bool {
    let views = [Field::IN_PORT_16, Field::NW_TOS, Field::VLAN_TCI];
    let registers = (0..8).filter_map(Field::xreg).chain((0..4).filter_map(Field::xxreg));
    registers.chain(views).any(|view| view == field)
}

/// Matches of fields that the corpus cannot have, since `ovs-ofctl` does not know them or prints them otherwise, and of
/// all tunnel options.
fn further_matches() -> Vec<Match> {
    let eth = |eth_type: u32| Match::new().with(Field::ETH_TYPE, eth_type);
    let options = (0..64).filter_map(Field::tun_metadata);
    vec![
        Match::new().with(Field::IN_PORT, 3u32).with(Field::IN_PHY_PORT, 5u32),
        eth(0x86dd).with_masked(Field::IPV6_EXTHDR, 0x10u32, 0x11u32),
        eth(0x88e7).with(Field::PBB_ISID, 0x1234u32).with(Field::PBB_UCA, 1u32),
        Match::new().with(Field::TUN_GTPU_FLAGS, 0x30u32).with(Field::TUN_GTPU_MSGTYPE, 255u32),
        options.enumerate().fold(Match::new(), |all, (n, option)| all.with(option, n as u32 + 1)),
    ]
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
    let flow_of = |fields| Message::FlowMod(FlowMod::add(Flow { fields, ..Flow::default() }));
    fields.extend(further_matches().into_iter().map(flow_of));
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
    // What the text of Open vSwitch does not have, or has under another name.
    let loads = Field::all()
        .filter(|field| is_view(*field))
        .filter_map(|field| Some(Action::Load { dst: Subfield::bits(field, 0, 0)?, value: 1 }));
    let nat = Action::Nat(Box::new(Nat { kind: Some(NatKind::Src), ..Nat::default() }));
    let foreign = [
        Action::CopyTtlOut,
        Action::CopyTtlIn,
        Action::PushPbb(0x88e7),
        Action::PopPbb,
        Action::SetTunnel(5),
        Action::SetTunnel(1 << 32),
        Action::Ct(Box::new(Ct {
            commit: true,
            exec: vec![Action::SetField { field: Field::CT_MARK, value: 1, mask: u32::MAX.into() }, nat],
            ..Ct::default()
        })),
    ];
    for list in [loads.collect(), foreign.to_vec()] {
        let instructions = Instructions::from([Instruction::ApplyActions(list)]);
        actions.push(Message::FlowMod(FlowMod::add(Flow { instructions, ..Flow::default() })));
    }
    // A type that nobody has, and an experimenter's.
    let unknown = Instruction::Unknown { kind: 99, raw: vec![0, 99, 0, 8, 1, 2, 3, 4] };
    let raw = vec![0xff, 0xff, 0, 16, 0xff, 0, 0, 1, 0, 1, 2, 3, 4, 5, 6, 7];
    let action = Instruction::ApplyActions(vec![Action::Unknown { kind: 0xffff, raw }]);
    let instructions = Instructions::from([action, unknown]);
    actions.push(Message::FlowMod(FlowMod::add(Flow { instructions, ..Flow::default() })));
    (fields, actions)
}

/// What it says, then its bytes, a line for each field.
fn annotated(bytes: &[u8]) -> String {
    let mut text = String::new();
    for line in Envelope::decode(bytes).unwrap().to_string().lines() {
        text += &format!("# {line}\n");
    }
    let mut reads = trace::record(|| drop(Envelope::decode(bytes)));
    // A property's padding is read before its value, and some fields are looked at twice.
    reads.sort_by_key(|(offset, ..)| *offset);
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
        line(&bytes[at..*offset], unread(&bytes[at..*offset]));
        line(&bytes[*offset..offset + len], &name);
        at = offset + len;
    }
    line(&bytes[at..], unread(&bytes[at..]));
    text
}

/// What nobody reads is padding.
fn unread(bytes: &[u8]) -> &'static str {
    assert!(bytes.iter().all(|byte| *byte == 0), "not padding, but not read: {bytes:02x?}");
    "pad"
}

fn bytes_of(vector: &str) -> Vec<u8> {
    let hex = vector.lines().filter_map(|line| line.split('#').next()).flat_map(str::split_whitespace);
    hex.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

fn check(name: &str, messages: Vec<Message>) {
    let written: Vec<String> = messages.into_iter().map(|message| annotated(&encode(message))).collect();
    if std::env::var_os("OPENFLOW_WRITE_VECTORS").is_some() {
        std::fs::write(path(name), written.join("\n")).unwrap();
    }
    let text = std::fs::read_to_string(path(name)).unwrap();
    let mut count = 0;
    for vector in text.split("\n\n") {
        let bytes = bytes_of(vector);
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

/// Where a message is read quickly, the result is that of reading it field by field: the same values, or the same error in
/// the same place. Vectors, with every byte changed, and cut after every byte.
#[test]
fn quick_ways_read_as_the_thorough_one() {
    let check = |bytes: &[u8]| {
        let mut thorough = None;
        trace::record(|| thorough = Some(Envelope::decode(bytes)));
        assert_eq!(Some(Envelope::decode(bytes)), thorough, "{bytes:02x?}");
    };
    for name in ["messages.hex", "fields.hex", "actions.hex"] {
        let text = std::fs::read_to_string(path(name)).unwrap();
        for bytes in text.split("\n\n").map(bytes_of) {
            check(&bytes);
            for at in 0..bytes.len() {
                for value in [0, 0xff, bytes[at].wrapping_add(1), bytes[at].wrapping_add(8), bytes[at] ^ 0x80]
                {
                    let mut changed = bytes.clone();
                    changed[at] = value;
                    check(&changed);
                }
                if let Some([_, _, high, low]) = bytes[..at].first_chunk() {
                    assert!(usize::from(u16::from_be_bytes([*high, *low])) > at);
                    let mut cut = bytes[..at].to_vec();
                    cut[2..4].copy_from_slice(&(at as u16).to_be_bytes());
                    check(&cut);
                }
            }
        }
    }
}

/// Names of the variants of an enum. A variant that is not listed does not compile.
macro_rules! variants {
    ($of:ident: $($name:ident)*) => {{
        let _ = |value: &$of| match value {
            $($of::$name { .. } => {})*
        };
        BTreeSet::from([$(stringify!($name)),*])
    }};
}

/// What the vectors show.
#[derive(Default)]
struct Shown {
    messages: BTreeSet<String>,
    requests: BTreeSet<String>,
    replies: BTreeSet<String>,
    instructions: BTreeSet<String>,
    actions: BTreeSet<String>,
    fields: BTreeSet<Field>,
}

impl Shown {
    fn message(&mut self, message: &Message) {
        self.messages.insert(variant(message));
        match message {
            Message::MultipartRequest { request, .. } => drop(self.requests.insert(variant(request))),
            Message::MultipartReply { reply, .. } => drop(self.replies.insert(variant(reply))),
            Message::FlowMod(flow_mod) => self.flow(&flow_mod.flow),
            _ => {}
        }
    }

    fn flow(&mut self, flow: &Flow) {
        self.fields.extend(flow.fields.iter().map(|(field, ..)| field));
        self.fields.extend(flow.fields.wide().filter_map(|entry| match entry.field {
            WideField::Known(field) => Some(field),
            WideField::Unknown { .. } => None,
        }));
        for instruction in &flow.instructions {
            self.instructions.insert(variant(instruction));
            if let Instruction::ApplyActions(actions) | Instruction::WriteActions(actions) = instruction {
                self.actions(actions);
            }
        }
    }

    fn actions(&mut self, actions: &[Action]) {
        for action in actions {
            self.actions.insert(variant(action));
            match action {
                Action::Load { dst, .. } => drop(self.fields.insert(dst.field)),
                Action::Ct(ct) => self.actions(&ct.exec),
                Action::Clone(actions) => self.actions(actions),
                _ => {}
            }
        }
    }
}

/// Every kind of message and multipart, every field, instruction and action has its vector: whoever adds one adds it to
/// the random messages or to the corpus, and writes the vectors anew.
#[test]
fn nothing_lacks_a_vector() {
    let mut shown = Shown::default();
    for name in ["messages.hex", "fields.hex", "actions.hex"] {
        let text = std::fs::read_to_string(path(name)).unwrap();
        text.split("\n\n")
            .for_each(|vector| shown.message(&Envelope::decode(&bytes_of(vector)).unwrap().message));
    }
    let missing = |all: BTreeSet<&'static str>, shown: &BTreeSet<String>| -> Vec<&str> {
        all.into_iter().filter(|name| !shown.contains(*name)).collect()
    };
    let messages = variants!(Message:
        Hello Error EchoRequest EchoReply FeaturesRequest FeaturesReply GetConfigRequest GetConfigReply SetConfig PacketIn
        FlowRemoved PortStatus PacketOut FlowMod GroupMod PortMod TableMod MeterMod MultipartRequest MultipartReply
        BarrierRequest BarrierReply QueueGetConfigRequest QueueGetConfigReply RoleRequest RoleReply GetAsyncRequest
        GetAsyncReply SetAsync BundleControl BundleAdd FlowMonitorCancel FlowMonitorPaused FlowMonitorResumed
        SetPacketInFormat NxSetAsync NxSetAsync2 SetControllerId NxPacketIn PacketIn2 Resume TlvTableMod TlvTableRequest
        TlvTableReply CtFlushZone CtFlush Experimenter Unknown);
    assert_eq!(missing(messages, &shown.messages), [""; 0]);
    let requests = variants!(MultipartRequest:
        Desc Flow Aggregate Table PortStats Queue Group GroupDesc GroupFeatures Meter MeterConfig MeterFeatures
        TableFeatures PortDesc FlowMonitor Experimenter Unknown);
    assert_eq!(missing(requests, &shown.requests), [""; 0]);
    let replies = variants!(MultipartReply:
        Desc Flow Aggregate Table PortStats Queue Group GroupDesc GroupFeatures Meter MeterConfig MeterFeatures
        TableFeatures PortDesc FlowMonitor Experimenter Unknown);
    assert_eq!(missing(replies, &shown.replies), [""; 0]);
    let instructions =
        variants!(Instruction: Meter ApplyActions ClearActions WriteActions WriteMetadata GotoTable Unknown);
    assert_eq!(missing(instructions, &shown.instructions), [""; 0]);
    let actions = variants!(Action:
        Output Controller OutputReg OutputTrunc Group SetField SetFieldWide Move Load StackPush StackPop Resubmit Ct
        CtClear Nat Conjunction Learn Note Multipath Bundle FinTimeout SetQueue PopQueue SetTunnel DecTtl DecTtlCntIds
        SetIpTtl SetMplsTtl DecMplsTtl CopyTtlOut CopyTtlIn PushVlan PopVlan PushMpls PopMpls PushPbb PopPbb Sample Clone
        CheckPktLarger Encap Decap DecNshTtl DeleteField Exit Unknown);
    assert_eq!(missing(actions, &shown.actions), [""; 0]);
    let fields: Vec<Field> = Field::all().filter(|field| !shown.fields.contains(field)).collect();
    assert_eq!(fields, []);
}
