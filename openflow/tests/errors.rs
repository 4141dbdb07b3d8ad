//! Error codes are named as Open vSwitch names them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // A test may stop at the first surprise.

mod support;

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
