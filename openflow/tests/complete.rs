//! Nothing is missing: whatever number Open vSwitch knows, of fields, actions, instructions and messages, we know too. All
//! numbers are tried, with bodies of many lengths; whether a body is right is the business of other tests.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // A test may stop at the first surprise.

mod support;

use std::collections::BTreeSet;

use openflow::{Action, Envelope, Instruction, Message, MultipartReply, MultipartRequest};

const NICIRA: u32 = 0x2320;
const ONF: u32 = 0x4f4e_4600;

fn message(xid: usize, kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![4, kind];
    message.extend((8 + body.len() as u16).to_be_bytes());
    message.extend((xid as u32).to_be_bytes());
    message.extend(body);
    message
}

/// A flow-mod of a match (its fields) and instructions.
fn flow_mod(fields: &[u8], instructions: &[u8]) -> Vec<u8> {
    let mut body = [[0; 22].as_slice(), &[0x80, 0], &[0xff; 12], &[0; 4], &[0, 1]].concat();
    body.extend((4 + fields.len() as u16).to_be_bytes());
    body.extend(fields);
    body.resize(40 + (4 + fields.len()).next_multiple_of(8), 0);
    body.extend(instructions);
    body
}

/// The names of cases of which Open vSwitch's answer has none of the codes that say "unknown", but ours is that we do not
/// know it.
fn missing(
    cases: &[(String, u8, Vec<u8>)],
    unknown: &[&str],
    is_unknown: impl Fn(&Message) -> bool,
) -> (BTreeSet<String>, usize) {
    let messages: Vec<Vec<u8>> =
        cases.iter().enumerate().map(|(n, (_, kind, body))| message(n + 1, *kind, body)).collect();
    let theirs = support::ofp_parse(&messages);
    let mut names = BTreeSet::new();
    let mut known = 0;
    for (((name, ..), bytes), theirs) in cases.iter().zip(&messages).zip(&theirs) {
        // A message that is not known at all is printed without its transaction id.
        let first = theirs.lines().next().unwrap_or_default();
        if first.is_empty() || unknown.iter().any(|code| first.contains(code)) {
            continue;
        }
        known += 1;
        if Envelope::decode(bytes).is_ok_and(|envelope| is_unknown(&envelope.message)) {
            names.insert(name.clone());
        }
    }
    (names, known)
}

#[test]
fn fields() {
    let basic = [0, 1, 0x1000, 0x8000, 0x8001].map(|class: u16| (class, None));
    let experimenters = [NICIRA, ONF, 0x005a_d650].map(|id| (0xffff, Some(id)));
    let mut cases = Vec::new();
    for (class, experimenter) in basic.into_iter().chain(experimenters) {
        for (field, len) in (0..128u8).flat_map(|field| [1, 2, 3, 4, 6, 8, 16].map(|len: u8| (field, len))) {
            let mut oxm = class.to_be_bytes().to_vec();
            oxm.extend([field << 1, len + if experimenter.is_some() { 4 } else { 0 }]);
            oxm.extend(experimenter.map_or(vec![], |id: u32| id.to_be_bytes().to_vec()));
            oxm.extend(vec![0; len.into()]);
            let name = format!("class {class:#x} {experimenter:x?} field {field} of {len} bytes");
            cases.push((name, 14, flow_mod(&oxm, &[])));
        }
    }
    let (missing, known) = missing(&cases, &["OFPBMC_BAD_FIELD"], |message| match message {
        Message::FlowMod(flow_mod) => flow_mod
            .flow
            .fields
            .wide()
            .any(|entry| matches!(entry.field, openflow::WideField::Unknown { .. })),
        _ => false,
    });
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(known > 150, "{known}");
}

#[test]
fn actions_and_instructions() {
    let mut cases = Vec::new();
    for len in (16..=64u16).step_by(8) {
        let head = |kind: u16| [kind.to_be_bytes(), len.to_be_bytes()].concat();
        let padded = |mut bytes: Vec<u8>| {
            bytes.resize(len.into(), 0);
            bytes
        };
        let apply =
            |action: Vec<u8>| [vec![0, 4], (8 + len).to_be_bytes().to_vec(), vec![0; 4], action].concat();
        for kind in 0..80 {
            cases.push((format!("action {kind}"), 14, flow_mod(&[], &apply(padded(head(kind))))));
            cases.push((format!("instruction {kind}"), 14, flow_mod(&[], &padded(head(kind)))));
        }
        for (id, subtype) in
            [NICIRA, ONF].into_iter().flat_map(|id| (0..80u16).chain(3190..3210).map(move |n| (id, n)))
        {
            let action = [head(0xffff), id.to_be_bytes().to_vec(), subtype.to_be_bytes().to_vec()].concat();
            cases.push((
                format!("experimenter {id:#x} action {subtype}"),
                14,
                flow_mod(&[], &apply(padded(action))),
            ));
        }
    }
    let unknown = ["OFPBAC_BAD_TYPE", "OFPBAC_BAD_VENDOR_TYPE", "OFPBIC_UNKNOWN_INST", "OFPBIC_UNSUP_INST"];
    let (mut missing, known) = missing(&cases, &unknown, |message| match message {
        Message::FlowMod(flow_mod) => {
            flow_mod.flow.instructions.iter().any(|instruction| match instruction {
                Instruction::Unknown { .. } => true,
                Instruction::ApplyActions(actions) => {
                    actions.iter().any(|action| matches!(action, Action::Unknown { .. }))
                }
                _ => false,
            })
        }
        _ => false,
    });
    // What OpenFlow 1.1 had for single fields and 1.2 took out again (mod_vlan_vid and so on), and Nicira's substitute for
    // the instruction write_metadata: OpenFlow 1.3 has neither. They are kept as bytes.
    let older = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 14].map(|kind| format!("action {kind}"));
    missing.retain(|name| !older.contains(name) && name != "experimenter 0x2320 action 22");
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(known > 300, "{known}");
}

#[test]
fn messages() {
    let lens = (0..=48).step_by(4).chain([104]);
    let mut cases = Vec::new();
    for len in lens {
        let padded = |mut bytes: Vec<u8>| {
            bytes.resize(bytes.len() + len, 0);
            bytes
        };
        for kind in 0..60 {
            cases.push((format!("message {kind}"), kind, padded(vec![])));
        }
        for part in 0..40u16 {
            for kind in [18, 19] {
                let body = [part.to_be_bytes().to_vec(), vec![0; 6]].concat();
                cases.push((format!("multipart {part} of {kind}"), kind, padded(body)));
            }
        }
        let subtypes = || (0..60).chain(1860..1880).chain(2295..2310);
        for (id, subtype) in [NICIRA, ONF].into_iter().flat_map(|id| subtypes().map(move |n| (id, n))) {
            let ids = [id.to_be_bytes(), u32::to_be_bytes(subtype)].concat();
            cases.push((format!("experimenter {id:#x} message {subtype}"), 4, padded(ids.clone())));
            for kind in [18, 19] {
                let body = [vec![0xff, 0xff, 0, 0, 0, 0, 0, 0], ids.clone()].concat();
                cases.push((
                    format!("experimenter {id:#x} multipart {subtype} of {kind}"),
                    kind,
                    padded(body),
                ));
            }
        }
    }
    let unknown = [
        "OFPBRC_BAD_TYPE",
        "OFPBRC_BAD_SUBTYPE",
        "OFPBRC_BAD_STAT",
        "OFPBRC_BAD_MULTIPART",
        "OFPBRC_BAD_VENDOR",
    ];
    let (mut missing, known) = missing(&cases, &unknown, |message| {
        use {MultipartReply as Reply, MultipartRequest as Request};
        match message {
            Message::Unknown { .. } | Message::Experimenter { .. } => true,
            Message::MultipartRequest { request, .. } => {
                matches!(request, Request::Unknown { .. } | Request::Experimenter { .. })
            }
            Message::MultipartReply { reply, .. } => {
                matches!(reply, Reply::Unknown { .. } | Reply::Experimenter { .. })
            }
            _ => false,
        }
    });
    // Nicira's messages for OpenFlow 1.0 that later versions have of their own: roles (10, 11), flow-mods and what follows
    // from them (13 to 15, 18); and Open vSwitch's statistics of IPFIX. They are kept as bytes.
    let older = [10, 11, 13, 14, 15, 18].map(|kind| format!("experimenter 0x2320 message {kind}"));
    let ipfix = ["experimenter 0x2320 multipart 3 of ", "experimenter 0x2320 multipart 4 of "];
    missing.retain(|name| !older.contains(name) && !ipfix.iter().any(|start| name.starts_with(start)));
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(known > 100, "{known}");
}
