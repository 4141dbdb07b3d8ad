//! Fields that a match must not name, or not so: the error code is the one that `ovs-ofctl` gives.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // A test may stop at the first surprise.

mod support;

use bytes::BytesMut;
use openflow::field::{Header, Prerequisite};
use openflow::{Envelope, Field};

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// A flow-mod whose match is these fields, and which applies these actions.
fn flow_mod_of(xid: usize, fields: &[u8], actions: &[u8]) -> Vec<u8> {
    let len = fields.len() + 4;
    let before = 48 + len.next_multiple_of(8);
    let total = before + if actions.is_empty() { 0 } else { 8 + actions.len() };
    let mut message = vec![4, 14];
    message.extend((total as u16).to_be_bytes());
    message.extend((xid as u32).to_be_bytes());
    message.extend([0; 22]);
    message.extend([0x80, 0]);
    message.extend([0xff; 12]);
    message.extend([0, 0, 0, 0, 0, 1]);
    message.extend((len as u16).to_be_bytes());
    message.extend(fields);
    message.resize(before, 0);
    if !actions.is_empty() {
        message.extend([0, 4]);
        message.extend((8 + actions.len() as u16).to_be_bytes());
        message.extend([0; 4]);
        message.extend(actions);
    }
    message
}

/// What a case is called in a failure, the fields of its match, and its actions.
type Case = (String, Vec<u8>, Vec<u8>);

/// Compares what we and `ovs-ofctl` make of matches and actions.
fn check(cases: &[Case]) {
    let messages: Vec<Vec<u8>> = cases
        .iter()
        .enumerate()
        .map(|(n, (_, fields, actions))| flow_mod_of(n + 1, fields, actions))
        .collect();
    let mut differences = String::new();
    for (((name, ..), bytes), theirs) in cases.iter().zip(&messages).zip(support::ofp_parse(&messages)) {
        assert!(theirs.contains("OFPT_FLOW_MOD"), "{name}: {theirs}");
        let refusal =
            theirs.split_once("***decode error: ").map(|(_, rest)| rest.split_once("***").unwrap().0);
        match Envelope::decode(bytes) {
            Err(error) if refusal == Some(error.code().to_string().as_str()) => {}
            Ok(envelope) if refusal.is_none() => {
                let mut again = BytesMut::new();
                envelope.encode(&mut again).unwrap();
                assert_eq!(Envelope::decode(&again), Ok(envelope), "{name}");
            }
            ours => {
                let ours = ours.map(|ours| ours.to_string()).map_err(|error| error.to_string());
                differences +=
                    &format!("{name}\n theirs {}\n ours   {ours:?}\n", theirs.lines().next().unwrap());
            }
        }
    }
    assert!(differences.is_empty(), "\n{differences}");
}

/// Found by fuzzing: a packet type after an Ethernet type, which is a test of the packet type already, was taken and
/// came out in an order in which it could not be read again.
#[test]
fn fields_named_twice() {
    const ETH_IPV4: &str = "80000a020800";
    const PACKET_TYPE_ETHERNET: &str = "8000580400000000";
    const REG0: &str = "0001000400000005";
    const REG0_ANY: &str = "000101080000000000000000";
    const REG1: &str = "0001020400000005";
    const XREG0: &str = "800100080000000100000002";
    const VID: &str = "80000c021001";
    const PCP: &str = "80000e0105";
    const TCI: &str = "000008021001";
    const TUN_METADATA0: &str = "0001500400000001";
    let lists: &[&[&str]] = &[
        &[ETH_IPV4, PACKET_TYPE_ETHERNET],
        &[ETH_IPV4, "8000580401010101", "8000140106", "80001c020050"],
        &[PACKET_TYPE_ETHERNET, ETH_IPV4],
        &[PACKET_TYPE_ETHERNET, ETH_IPV4, PACKET_TYPE_ETHERNET],
        &["8000580400010800", ETH_IPV4],
        &["80000806000102030405", PACKET_TYPE_ETHERNET],
        &["8000000400000001", PACKET_TYPE_ETHERNET],
        &[VID, PACKET_TYPE_ETHERNET],
        &[REG0, REG0],
        &[REG0_ANY, REG0_ANY, REG0],
        &[REG0, REG0_ANY],
        &[XREG0, REG1],
        &[REG1, XREG0],
        &["000000020001", "8000000400000001"],
        &[VID, PCP],
        &[VID, TCI],
        &[TCI, PCP],
        &[TCI, VID],
        &["0000090410011fff", PCP],
        &["000009044000e000", VID],
        &["00000904400040ff", VID],
        &["0000090450005000", PCP],
        &[TUN_METADATA0, TUN_METADATA0],
        &["000151080000000000000001", TUN_METADATA0],
        &["000151080000000200000001"],
        &[ETH_IPV4, "8000100101", "00000a0104"],
        &[ETH_IPV4, "00000a0104", "8000100101"],
    ];
    let cases: Vec<Case> =
        lists.iter().map(|list| (format!("{list:?}"), unhex(&list.concat()), Vec::new())).collect();
    check(&cases);
}

fn oxm(header: Header, value: u128, mask: Option<u128>, bytes: usize) -> Vec<u8> {
    let is_experimenter = header.class == Header::EXPERIMENTER_CLASS;
    let len = bytes * if mask.is_some() { 2 } else { 1 } + if is_experimenter { 4 } else { 0 };
    let mut field = header.class.to_be_bytes().to_vec();
    field.extend([header.field << 1 | u8::from(mask.is_some()), len as u8]);
    if is_experimenter {
        field.extend(header.experimenter.to_be_bytes());
    }
    for number in [Some(value), mask].into_iter().flatten() {
        field.resize(field.len() + bytes.saturating_sub(16), 0);
        field.extend(&number.to_be_bytes()[16usize.saturating_sub(bytes)..]);
    }
    field
}

/// Fields that fulfil a prerequisite.
fn prerequisite(of: Prerequisite) -> &'static str {
    match of {
        Prerequisite::None | Prerequisite::Ethernet => "",
        Prerequisite::Vlan => "80000c021001",
        Prerequisite::Pbb => "80000a0288e7",
        Prerequisite::Mpls => "80000a028847",
        Prerequisite::Arp => "80000a020806",
        Prerequisite::Ipv4 | Prerequisite::Ip => "80000a020800",
        Prerequisite::Ipv6 => "80000a0286dd",
        Prerequisite::Tcp => "80000a0208008000140106",
        Prerequisite::Udp => "80000a0208008000140111",
        Prerequisite::Sctp => "80000a0208008000140184",
        Prerequisite::Icmp => "80000a0208008000140101",
        Prerequisite::Icmpv6 => "80000a0286dd800014013a",
        Prerequisite::Nd | Prerequisite::NdSolicit => "80000a0286dd800014013a80003a0187",
        Prerequisite::NdAdvert => "80000a0286dd800014013a80003a0188",
        Prerequisite::Ct => "0001d2040000002280000a0208008000140106",
        Prerequisite::Nsh => "80000a02894f",
    }
}

fn required_by(field: Field) -> Vec<u8> {
    unhex(match field {
        Field::CT_IPV6_SRC | Field::CT_IPV6_DST => "0001d2040000002280000a0286dd8000140106",
        _ => prerequisite(field.info().prerequisite),
    })
}

/// Fields of a fixed width that Open vSwitch knows too.
fn known_fields() -> impl Iterator<Item = Field> {
    let unknown = [Field::IN_PHY_PORT, Field::PBB_ISID, Field::PBB_UCA, Field::IPV6_EXTHDR];
    Field::all().filter(move |field| !field.is_tun_metadata() && !unknown.contains(field))
}

/// An action of this head with a field, its length filled in and padded.
fn action(head: &str, field: &[u8]) -> Vec<u8> {
    let mut action = [unhex(head), field.to_vec()].concat();
    action.resize(action.len().next_multiple_of(8), 0);
    action[3] = action.len() as u8;
    action
}

/// Every field that may and may not be set, by the standard's action, which has no mask in OpenFlow 1.3, and by Nicira's.
#[test]
fn fields_that_are_set() {
    let mut cases: Vec<Case> = Vec::new();
    // These two only within `ct(exec())`, which is not what this is about.
    let of_connections = [Field::CT_MARK, Field::CT_LABEL];
    for field in known_fields().filter(|field| !of_connections.contains(field)) {
        let bytes = usize::from(field.info().bytes);
        for (header, name) in field.info().headers.iter().zip(field.info().wire_names) {
            for (kind, head) in [("set_field", "00190000"), ("load2", "ffff0000000023200021")] {
                // To set the VLAN there must be one, which a match of it does not ask for.
                let required =
                    if field == Field::VLAN_VID { unhex("80000c021001") } else { required_by(field) };
                let mut case = |what: &str, field: Vec<u8>| {
                    cases.push((format!("{kind} {name} {what}"), required.clone(), action(head, &field)));
                };
                case("0x1001", oxm(*header, 0x1001, None, bytes));
                case("0", oxm(*header, 0, None, bytes));
                case("1", oxm(*header, 1, None, bytes));
                case("all ones", oxm(*header, u128::MAX, None, bytes));
                case("short", oxm(*header, 0, None, bytes - 1));
                case("long", oxm(*header, 0, None, bytes + 1));
                case("0/1", oxm(*header, 0, Some(1), bytes));
                case("1/1", oxm(*header, 1, Some(1), bytes));
                case("2/1", oxm(*header, 2, Some(1), bytes));
                case("0/0", oxm(*header, 0, Some(0), bytes));
                case("1/all", oxm(*header, 1, Some(u128::MAX), bytes));
                case("padded with what is not zero", [oxm(*header, 1, None, bytes), vec![1]].concat());
            }
        }
    }
    check(&cases);
}

/// The ONF's action of OpenFlow 1.3 that became standard in 1.5.
#[test]
fn copy_field_is_read_as_a_move() {
    let copy = action("ffff00004f4e46000c800000001000000010000000010004", &unhex("00010204"));
    let message = flow_mod_of(1, &[], &copy);
    let ours = Envelope::decode(&message).unwrap().to_string();
    assert_eq!(ours.trim_end(), support::ofp_parse(&[message])[0].trim_end());
    assert!(ours.contains("move:NXM_NX_REG0[0..15]->NXM_NX_REG1[16..31]"), "{ours}");
}

/// Every header of every field, with values, masks and lengths in and out of what it allows, with and without what it
/// requires.
#[test]
fn values_masks_lengths_and_prerequisites() {
    let mut cases = Vec::new();
    for field in known_fields() {
        let info = field.info();
        let bytes = usize::from(info.bytes);
        for (header, name) in info.headers.iter().zip(info.wire_names) {
            let required = required_by(field);
            let mut case = |what: &str, required: &[u8], field: Vec<u8>| {
                cases.push((format!("{name} {what}"), [required.to_vec(), field].concat(), Vec::new()));
            };
            case("alone", &[], oxm(*header, 1, None, bytes));
            case("short", &required, oxm(*header, 1, None, bytes - 1));
            case("long", &required, oxm(*header, 1, None, bytes + 1));
            case("short mask", &required, oxm(*header, 0, Some(0), bytes - 1));
            for value in [0, 1, 2, 4, 0x40, 0x100, 0x1000, 0x10_0000, u128::MAX] {
                case(&format!("{value:#x}"), &required, oxm(*header, value, None, bytes));
                for mask in [0, 1, 2, 4, 0x40, 0x1000, u128::MAX << 1, u128::MAX] {
                    let what = format!("{value:#x}/{mask:#x}");
                    case(&what, &required, oxm(*header, value, Some(mask), bytes));
                }
            }
        }
    }
    check(&cases);
}
