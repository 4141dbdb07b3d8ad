//! A flow read aloud: which packets it is about and what it does with them, for who does not read flow dumps.

use openflow::{Action, CtZone, Field, Flow, Instruction, MacAddr, OfPort, Subfield};

use crate::pipeline::port;
use crate::pipeline::register;
use crate::pipeline::table::Table;

const CT_TRACKED: u128 = 0x20;
const CT_REPLY: u128 = 0x08;

/// What a flow does, in one sentence.
#[must_use]
pub fn reading(flow: &Flow) -> String {
    let conditions: Vec<String> =
        flow.fields.iter().filter_map(|(field, value, mask)| condition(field, value, mask)).collect();
    let about = match (flow.fields.is_empty(), flow.priority) {
        (true, 0) => "Every packet that nothing above matches".to_owned(),
        (true, _) => "Every packet".to_owned(),
        (false, _) => format!("{} {}", kind_of(flow), conditions.join(", ")).trim_end().to_owned(),
    };
    let mut does: Vec<String> = Vec::new();
    for instruction in &flow.instructions {
        match instruction {
            Instruction::ApplyActions(actions) => does.extend(actions.iter().map(done)),
            Instruction::GotoTable(table) => does.push(format!("go on in {}", table_name(*table))),
            other => does.push(format!("{other:?}")),
        }
    }
    // A long list says nothing more: the first and the last will do.
    if does.len() > 12 {
        let left_out = does.len() - 8;
        does.splice(4..does.len() - 4, [format!("and {left_out} more")]);
    }
    match does.is_empty() {
        true => format!("{about}: drop."),
        false => format!("{about}: {}.", does.join(", then ")),
    }
}

fn table_name(number: u8) -> String {
    match Table::from_number(number) {
        Some(table) => format!("table {number} ({})", table.name()),
        None => format!("table {number}"),
    }
}

/// The kind of packet, which the conditions then qualify.
fn kind_of(flow: &Flow) -> &'static str {
    match (flow.fields.exact(Field::ETH_TYPE), flow.fields.exact(Field::IP_PROTO)) {
        (Some(0x0806), _) => "ARP",
        (Some(0x0800), Some(6)) => "TCP",
        (Some(0x0800), Some(17)) => "UDP",
        (Some(0x0800), Some(132)) => "SCTP",
        (Some(0x0800), _) => "IPv4",
        _ => "Packets",
    }
}

fn condition(field: Field, value: u128, mask: u128) -> Option<String> {
    let whole = mask == field.full_mask();
    let net = || {
        let address = std::net::Ipv4Addr::from((value & 0xffff_ffff) as u32);
        match (mask & 0xffff_ffff).count_ones() {
            32 => address.to_string(),
            bits => format!("{address}/{bits}"),
        }
    };
    Some(match field {
        // Said by the kind of packet.
        Field::ETH_TYPE => return None,
        Field::IP_PROTO if matches!(value, 6 | 17 | 132) => return None,
        Field::IN_PORT => format!("in at {}", port::name(OfPort((value & 0xffff_ffff) as u32))),
        Field::IPV4_SRC => format!("from {}", net()),
        Field::IPV4_DST => format!("to {}", net()),
        Field::ARP_SPA => format!("from {}", net()),
        Field::ARP_TPA => format!("about {}", net()),
        Field::ARP_SHA => {
            let bytes = value.to_be_bytes();
            let [.., a, b, c, d] = bytes;
            match whole {
                true => format!("with the sender's MAC address {}", mac(value)),
                false => format!("with a sender's MAC address that ends in {a:02x}:{b:02x}:{c:02x}:{d:02x}"),
            }
        }
        Field::TUN_SRC => format!("through the tunnel from {}", net()),
        Field::TCP_DST | Field::UDP_DST | Field::SCTP_DST => format!("to port {value}"),
        Field::CT_STATE if (value, mask) == (0, CT_TRACKED) => {
            "not seen by connection tracking yet".to_owned()
        }
        Field::CT_STATE if (value, mask) == (CT_REPLY, CT_REPLY) => {
            "on its way back in a connection".to_owned()
        }
        Field::IP_FRAG if value == 3 => "a later fragment, which has no port".to_owned(),
        Field::REG0 if whole => format!("from VNID {value}"),
        Field::REG1 if whole => format!("for VNID {value}"),
        field if whole => format!("with {field} {value:#x}"),
        field => format!("with {field} {value:#x}/{mask:#x}"),
    })
}

fn mac(value: u128) -> MacAddr {
    let [.., a, b, c, d, e, f] = value.to_be_bytes();
    MacAddr([a, b, c, d, e, f])
}

/// A register by what it holds, any other field by its name.
fn place(bits: Subfield) -> String {
    let named = register::ALL.iter().find(|register| register.subfield() == bits);
    match named {
        Some(register) => format!("the {} ({})", register.holds, bits.field),
        None if bits.field == Field::TUN_ID => "the tunnel header's VNID".to_owned(),
        None => bits.field.to_string(),
    }
}

fn done(action: &Action) -> String {
    match action {
        Action::Output(port) => format!("send out of {}", port::name(*port)),
        Action::OutputReg { src, .. } => format!("send out of {}", place(*src)),
        Action::Load { dst, value } if *dst == register::DESTINATION_PORT.subfield() => {
            let port = OfPort(u32::try_from(*value).unwrap_or(u32::MAX));
            format!("set {} to that of {}", place(*dst), port::name(port))
        }
        Action::Load { dst, value } => format!("set {} to {value}", place(*dst)),
        Action::Move { src, dst } => format!("copy {} to {}", place(*src), place(*dst)),
        Action::SetField { field: Field::TUN_DST, value, .. } => {
            let address = std::net::Ipv4Addr::from((*value & 0xffff_ffff) as u32);
            format!("aim the tunnel at {address}")
        }
        Action::SetField { field: Field::ETH_DST, value, .. } => {
            format!("set the destination's MAC address to {}", mac(*value))
        }
        Action::SetField { field: Field::PKT_MARK, value, .. } => {
            format!("mark it {value:#x} for the node's firewall")
        }
        Action::Group(id) => format!("hand it to group {id}, which picks one of its nodes"),
        Action::Ct(ct) => {
            let zone = match ct.zone {
                CtZone::Immediate(0) => String::new(),
                zone => format!(" in zone {zone:?}"),
            };
            let nat = if ct.nat.is_some() { " and undo the connection's address translation" } else { "" };
            let next = ct.recirc_table.map(|table| format!(" and go on in {}", table_name(table)));
            format!("look its connection up{zone}{nat}{}", next.unwrap_or_default())
        }
        Action::Resubmit { table: Some(table), .. } => format!("look it up in {} again", table_name(*table)),
        Action::Note(bytes) => {
            let bytes: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("nothing, the note is {}", bytes.join("."))
        }
        other => format!("{other:?}"),
    }
}
