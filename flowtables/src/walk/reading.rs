//! A flow read aloud: which packets it is about and what it does with them, for who does not read flow dumps.

use openflow::{Action, Ct, CtZone, Field, Flow, Instruction, Subfield};

use crate::pipeline::port;
use crate::pipeline::register;
use crate::pipeline::table::Table;
use condition::{condition, kind, mac, noun, port_of};

mod condition;

/// What a flow does, in one sentence.
#[must_use]
pub fn reading(flow: &Flow) -> String {
    let conditions: Vec<String> =
        flow.fields.iter().filter_map(|(field, value, mask)| condition(field, value, mask)).collect();
    let about = match (flow.fields.is_empty(), flow.priority) {
        (true, 0) => "Every packet that nothing above matches".to_owned(),
        (true, _) => "Every packet".to_owned(),
        (false, _) => format!("{} {}", kind(&flow.fields), conditions.join(", ")).trim_end().to_owned(),
    };
    let mut does: Vec<String> = Vec::new();
    for instruction in &flow.instructions {
        match instruction {
            Instruction::ApplyActions(actions) => does.extend(actions.iter().map(done)),
            Instruction::GotoTable(table) => does.push(format!("go on in {}", table_name(*table))),
            other => does.push(as_written(other.clone())),
        }
    }
    if let [Instruction::ApplyActions(actions)] = flow.instructions.as_slice()
        && let [Action::Note(bytes)] = actions.as_slice()
    {
        return format!("{about} would be dropped; the flow is there for its note, {}.", note(bytes));
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

/// A register by what it holds, any other field by its name.
fn place(bits: Subfield) -> String {
    let named = register::ALL.iter().find(|register| register.subfield() == bits);
    match named {
        Some(register) => format!("the {} ({})", register.holds, bits.field),
        None if bits.field == Field::TUN_ID => "the tunnel header's VNID".to_owned(),
        None if bits.n_bits == bits.field.width() => format!("the {}", noun(bits.field)),
        None => format!("the bits `{bits}`"),
    }
}

fn done(action: &Action) -> String {
    match action {
        Action::Output(port) => format!("send out of {}", port::name(*port)),
        Action::OutputReg { src, .. } => format!("send out of {}", place(*src)),
        Action::Load { dst, value } if *dst == register::DESTINATION_PORT.subfield() => {
            format!("set {} to {}", place(*dst), port::name(port_of((*value).into())))
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
        Action::Ct(ct) => connection(ct),
        Action::Resubmit { table: Some(table), .. } => format!("look it up in {} again", table_name(*table)),
        Action::Note(bytes) => format!("note {}", note(bytes)),
        other => as_written(Instruction::ApplyActions(vec![other.clone()])),
    }
}

fn note(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(".")
}

fn connection(ct: &Ct) -> String {
    let mut steps = vec![match ct.commit {
        true => "remember its connection".to_owned(),
        false => "look its connection up".to_owned(),
    }];
    match ct.zone {
        CtZone::Immediate(0) => {}
        CtZone::Immediate(zone) => steps.push(format!("in zone {zone}")),
        CtZone::Field(bits) => steps.push(format!("in the zone that {} names", place(bits))),
    }
    match &ct.nat {
        None => {}
        Some(nat) if nat.kind.is_none() => {
            steps.push("and undo the connection's address translation".to_owned())
        }
        Some(_) => steps.push("and translate its addresses".to_owned()),
    }
    steps.extend(ct.recirc_table.map(|table| format!("and go on in {}", table_name(table))));
    steps.join(" ")
}

/// What no words are known for, as `ovs-ofctl` writes it.
fn as_written(instruction: Instruction) -> String {
    let flow = Flow { instructions: [instruction].into(), ..Flow::default() }.to_string();
    match flow.split_once("actions=") {
        Some((_, actions)) => format!("`{actions}`"),
        None => flow,
    }
}
