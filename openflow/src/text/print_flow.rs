//! Printing flows, instructions and flow-mods.

use std::fmt::{self, Write};

use super::print_action::write_actions;
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

/// One line as `ovs-ofctl --no-stats dump-flows` prints it, with its leading space.
impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char(' ')?;
        if self.cookie != 0 {
            write!(f, "cookie={:#x}, ", self.cookie)?;
        }
        if self.table != 0 {
            write!(f, "table={}, ", self.table)?;
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
pub(super) fn write_match(f: &mut impl Write, priority: u16, fields: &Match) -> fmt::Result {
    let has_priority = priority != Flow::DEFAULT_PRIORITY;
    if has_priority {
        write!(f, "priority={priority}")?;
    }
    if !fields.is_empty() {
        let fields = fields.to_string();
        // A match may have nothing to show: a packet type of Ethernet goes without saying.
        if has_priority && !fields.is_empty() {
            f.write_char(',')?;
        }
        f.write_str(&fields)?;
        if fields.is_empty() && !has_priority {
            return Ok(());
        }
    }
    if has_priority || !fields.is_empty() { f.write_char(' ') } else { Ok(()) }
}

/// `actions=` and all instructions as one list, `drop` if there are none.
pub(crate) fn write_instructions(f: &mut impl Write, instructions: &[Instruction]) -> fmt::Result {
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

fn write_instruction(f: &mut impl Write, instruction: &Instruction) -> fmt::Result {
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
        Instruction::GotoTable(table) => write!(f, "goto_table:{table}"),
        Instruction::Unknown { kind, raw } => {
            write!(f, "unknown_instruction({kind:#x},")?;
            raw.iter().try_for_each(|b| write!(f, "{b:02x}"))?;
            f.write_char(')')
        }
    }
}

/// As `ovs-ofctl ofp-print` prints the body of a flow-mod: `ADD table:20 priority=100,ip actions=drop`.
impl fmt::Display for FlowMod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.command {
            FlowModCommand::Add => "ADD",
            FlowModCommand::Modify => "MOD",
            FlowModCommand::ModifyStrict => "MOD_STRICT",
            FlowModCommand::Delete => "DEL",
            FlowModCommand::DeleteStrict => "DEL_STRICT",
        })?;
        if self.flow.table != 0 {
            write!(f, " table:{}", self.flow.table)?;
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
            write!(f, "out_port:{} ", self.out_port)?;
        }
        write_flags(f, self.flow.flags)?;
        write_instructions(f, &self.flow.instructions)
    }
}
