//! Printing flows, instructions and flow-mods.

use std::fmt::{self, Write};

use super::names::{Out, display, sealed};
use super::print_action::write_actions;
use super::print_match::write_fields;
use super::value::AltHex;
use crate::flow::{Flow, FlowFlags, FlowMod, FlowModCommand, NO_BUFFER};
use crate::flow_match::Match;
use crate::instruction::Instruction;
use crate::port::OfPort;

/// Flags in the order in which they print, with their names.
pub(super) const FLAG_NAMES: &[(FlowFlags, &str)] = &[
    (FlowFlags::SEND_FLOW_REM, "send_flow_rem"),
    (FlowFlags::CHECK_OVERLAP, "check_overlap"),
    (FlowFlags::RESET_COUNTS, "reset_counts"),
    (FlowFlags::NO_PKT_COUNTS, "no_packet_counts"),
    (FlowFlags::NO_BYT_COUNTS, "no_byte_counts"),
];

display! {
    /// One line as `ovs-ofctl --no-stats dump-flows` prints it, with its leading space.
    Flow;
    /// As `ovs-ofctl ofp-print` prints the body of a flow-mod: `ADD table:20 priority=100,ip actions=drop`.
    FlowMod;
}

impl sealed::Write for Flow {
    fn write(&self, f: &mut Out<'_>) -> fmt::Result {
        f.write_char(' ')?;
        if self.cookie != 0 {
            write!(f, "cookie={:#x}, ", self.cookie)?;
        }
        if self.table != 0 || f.has_table_name(0) {
            f.write_str("table=")?;
            f.table(self.table)?;
            f.write_str(", ")?;
        }
        for (name, value) in [
            ("idle_timeout", self.idle_timeout),
            ("hard_timeout", self.hard_timeout),
            ("importance", self.importance),
        ] {
            if value != 0 {
                write!(f, "{name}={value}, ")?;
            }
        }
        write_flags(f, self.flags)?;
        write_match(f, self.priority, &self.fields)?;
        write_instructions(f, &self.instructions)
    }
}

/// Flags, each with a space after it.
pub(super) fn write_flags(f: &mut impl Write, flags: FlowFlags) -> fmt::Result {
    let mut rest = flags.0;
    for &(flag, name) in FLAG_NAMES {
        if flags.contains(flag) {
            write!(f, "{name} ")?;
            rest &= !flag.0;
        }
    }
    if rest == 0 { Ok(()) } else { write!(f, "{rest:#x} ") }
}

/// Priority and match, and a space if there is any of it.
pub(super) fn write_match(f: &mut Out<'_>, priority: u16, fields: &Match) -> fmt::Result {
    let has_priority = priority != Flow::DEFAULT_PRIORITY;
    if has_priority {
        write!(f, "priority={priority}")?;
    }
    // A match may have nothing to show: a packet type of Ethernet goes without saying.
    let has_fields = write_fields(f, fields, if has_priority { "," } else { "" })?;
    if has_priority || has_fields { f.write_char(' ') } else { Ok(()) }
}

/// `actions=` and all instructions as one list, `drop` if there are none.
pub(crate) fn write_instructions(f: &mut Out<'_>, instructions: &[Instruction]) -> fmt::Result {
    f.write_str("actions=")?;
    let mut separator = "";
    for instruction in instructions {
        if matches!(instruction, Instruction::ApplyActions(actions) if actions.is_empty()) {
            continue;
        }
        f.write_str(separator)?;
        separator = ",";
        write_instruction(f, instruction)?;
    }
    if separator.is_empty() { f.write_str("drop") } else { Ok(()) }
}

fn write_instruction(f: &mut Out<'_>, instruction: &Instruction) -> fmt::Result {
    match instruction {
        Instruction::Meter(id) => write!(f, "meter:{id}"),
        Instruction::ApplyActions(actions) => write_actions(f, actions),
        Instruction::ClearActions => f.write_str("clear_actions"),
        Instruction::WriteActions(actions) => {
            f.write_str("write_actions(")?;
            if actions.is_empty() {
                f.write_str("drop")?;
            }
            write_actions(f, actions)?;
            f.write_char(')')
        }
        Instruction::WriteMetadata { value, mask } => {
            write!(f, "write_metadata:{}", AltHex(u128::from(*value)))?;
            if *mask == u64::MAX { Ok(()) } else { write!(f, "/{}", AltHex(u128::from(*mask))) }
        }
        Instruction::GotoTable(table) => {
            f.write_str("goto_table:")?;
            f.table(*table)
        }
        Instruction::Unknown { kind, raw } => {
            write!(f, "unknown_instruction({kind:#x},")?;
            raw.iter().try_for_each(|b| write!(f, "{b:02x}"))?;
            f.write_char(')')
        }
    }
}

impl sealed::Write for FlowMod {
    fn write(&self, f: &mut Out<'_>) -> fmt::Result {
        f.write_str(match self.command {
            FlowModCommand::Add => "ADD",
            FlowModCommand::Modify => "MOD",
            FlowModCommand::ModifyStrict => "MOD_STRICT",
            FlowModCommand::Delete => "DEL",
            FlowModCommand::DeleteStrict => "DEL_STRICT",
        })?;
        if self.flow.table != 0 || f.has_table_name(0) {
            f.write_str(" table:")?;
            f.table(self.flow.table)?;
        }
        f.write_char(' ')?;
        write_match(f, self.flow.priority, &self.flow.fields)?;
        // All ones without a mask is what Open vSwitch takes for "no cookie given".
        let no_cookie = matches!(self.flow.cookie, 0 | u64::MAX) && self.cookie_mask == 0;
        if !no_cookie {
            write!(f, "cookie:{}", AltHex(self.flow.cookie.into()))?;
            if self.cookie_mask != 0 {
                write!(f, "/{}", AltHex(self.cookie_mask.into()))?;
            }
            f.write_char(' ')?;
        }
        if self.flow.idle_timeout != 0 {
            write!(f, "idle:{} ", self.flow.idle_timeout)?;
        }
        if self.flow.hard_timeout != 0 {
            write!(f, "hard:{} ", self.flow.hard_timeout)?;
        }
        if self.flow.importance != 0 {
            write!(f, "importance:{} ", self.flow.importance)?;
        }
        if self.buffer_id != NO_BUFFER {
            write!(f, "buf:{:#x} ", self.buffer_id)?;
        }
        if self.out_port != OfPort::ANY && self.out_port != OfPort(0) {
            f.write_str("out_port:")?;
            f.port(self.out_port)?;
            f.write_char(' ')?;
        }
        write_flags(f, self.flow.flags)?;
        write_instructions(f, &self.flow.instructions)
    }
}
