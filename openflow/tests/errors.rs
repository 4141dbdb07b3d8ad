//! Error codes are named as Open vSwitch names them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // A test may stop at the first surprise.

mod support;

use openflow::Envelope;
use openflow::message::ErrorCode;

/// Experimenters that Open vSwitch gives codes to: Nicira, and the ONF for codes that 1.4 and 1.5 brought.
const NICIRA: u32 = 0x2320;
const ONF: u32 = 0x4f4e_4600;

fn error(xid: usize, code: ErrorCode) -> Vec<u8> {
    let mut message = vec![4, 1, 0, if code.experimenter == 0 { 12 } else { 16 }];
    message.extend((xid as u32).to_be_bytes());
    message.extend(code.kind.to_be_bytes());
    message.extend(code.code.to_be_bytes());
    if code.experimenter != 0 {
        message.extend(code.experimenter.to_be_bytes());
    }
    message
}

/// Every type and code around those that have a name, in both directions: no name is missing and none is made up.
#[test]
fn every_code_has_the_name_that_ovs_ofctl_prints() {
    let plain = (0..=20).flat_map(|kind| (0..=24).map(move |code| (kind, code, 0)));
    let nicira = (0..=80).map(|code| (0xffff, code, NICIRA));
    let onf = (2200..=4300).map(|code| (0xffff, code, ONF));
    let codes: Vec<ErrorCode> = plain
        .chain(nicira)
        .chain(onf)
        .map(|(kind, code, experimenter)| ErrorCode { kind, code, experimenter })
        .collect();
    assert!(ErrorCode::ALL.iter().all(|code| codes.contains(code)), "a named code is not compared");
    let messages: Vec<Vec<u8>> = codes.iter().enumerate().map(|(n, code)| error(n + 1, *code)).collect();
    let mut differences = String::new();
    for (code, printed) in codes.iter().zip(support::ofp_parse(&messages)) {
        let first = printed.lines().next().unwrap_or_default();
        let (_, said) = first.split_once("): ").unwrap_or_else(|| panic!("{code:?}: {printed}"));
        let theirs = Some(said).filter(|said| said.starts_with("OFP") || said.starts_with("NX"));
        if theirs != code.name() {
            differences += &format!("{code:?}: theirs {said}, ours {:?}\n", code.name());
        }
    }
    assert!(differences.is_empty(), "\n{differences}");
}

/// Lengths that lie: the code that we would answer is the one that Open vSwitch says.
#[test]
fn wrong_lengths_have_the_codes_of_ovs_ofctl() {
    let flow_mod = "040e004000000001 0000000000000000 0000000000000000 00000000 00008000 ffffffffffffffffffffffff 00000000";
    let flow_mod_60 = flow_mod.replacen("0040", "0060", 1);
    let messages = [
        // A match that is longer than the message, or shorter than its header; a field that is longer than the match.
        format!("{flow_mod} 0001ff10 00013f0801000000ff000000"),
        format!("{flow_mod} 00010002 000140040202020200000000"),
        format!("{flow_mod} 0001000d 000104040000000200000000"),
        // An action of Nicira's that ends within its fields.
        format!(
            "{flow_mod_60} 0001000a 80000a02 0800000000000000 0004002000000000 ffff001800002320 0015040200000000 0001000200000000"
        ),
        // A property that is shorter than its header.
        "0404002000000001 000023200000001b 0006000200000007 0009000800000018".to_owned(),
        // Statistics that end within their fields.
        "0412001000000001 0001000400000000".to_owned(),
    ];
    for message in messages {
        let hex = message.replace(' ', "");
        let bytes: Vec<u8> =
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
        let ours = Envelope::decode(&bytes).unwrap_err();
        let theirs = support::ofctl(&["ofp-print", &hex], "");
        assert!(theirs.contains(&format!("***decode error: {}***", ours.code())), "{ours}\n{theirs}");
    }
}
