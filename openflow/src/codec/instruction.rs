//! Instructions (OF1.3.5 §7.2.4).

use super::action_decode::add_actions;
use super::action_encode::put_actions;
use crate::action::Action;
use crate::instruction::{Instruction, Instructions};
use crate::message::ErrorCode;
use crate::wire::{Reader, Result, Writer};

mod ofpit {
    pub(super) const GOTO_TABLE: u16 = 1;
    pub(super) const WRITE_METADATA: u16 = 2;
    pub(super) const WRITE_ACTIONS: u16 = 3;
    pub(super) const APPLY_ACTIONS: u16 = 4;
    pub(super) const CLEAR_ACTIONS: u16 = 5;
    pub(super) const METER: u16 = 6;
}

pub(crate) fn put_instructions(w: &mut Writer<'_>, instructions: &[Instruction]) {
    for instruction in instructions {
        put_instruction(w, instruction);
    }
}

fn put_instruction(w: &mut Writer<'_>, instruction: &Instruction) {
    let start = w.len();
    let header = |w: &mut Writer<'_>, kind: u16| {
        w.u16(kind);
        w.u16(0);
    };
    match instruction {
        Instruction::Meter(id) => {
            header(w, ofpit::METER);
            w.u32(*id);
        }
        Instruction::ApplyActions(actions) => {
            header(w, ofpit::APPLY_ACTIONS);
            w.zeros(4);
            put_actions(w, actions);
        }
        Instruction::ClearActions => {
            header(w, ofpit::CLEAR_ACTIONS);
            w.zeros(4);
        }
        Instruction::WriteActions(actions) => {
            header(w, ofpit::WRITE_ACTIONS);
            w.zeros(4);
            put_actions(w, actions);
        }
        Instruction::WriteMetadata { value, mask } => {
            header(w, ofpit::WRITE_METADATA);
            w.zeros(4);
            w.u64(*value);
            w.u64(*mask);
        }
        Instruction::GotoTable(table) => {
            header(w, ofpit::GOTO_TABLE);
            w.u8(*table);
            w.zeros(3);
        }
        Instruction::Unknown { raw, .. } => return w.bytes(raw),
    }
    w.patch_len(start + 2, start, "ofp_instruction");
}

/// Reads instructions up to the end. A type may occur once (OF1.3.5 §5.9).
pub(crate) fn take_instructions(r: &mut Reader<'_>) -> Result<Instructions> {
    let mut list = Instructions::new();
    retake_instructions(r, &mut list, &mut Vec::new())?;
    Ok(list)
}

/// As [`take_instructions`], in place of those of another flow and with the room of their lists: where flows are read one
/// after the other, nothing is allocated for most. `spare` is an empty list, which may have room.
pub(crate) fn retake_instructions(
    r: &mut Reader<'_>,
    list: &mut Instructions,
    spare: &mut Vec<Action>,
) -> Result<()> {
    let (mut done, mut seen) = (0, 0u32);
    while !r.is_empty() {
        if !r.may_hurry() || !retake_frequent(r, &mut seen, list, done, spare)? {
            let instruction = take_instruction(r, &mut seen, spare)?;
            put(list, done, instruction, spare);
        }
        done += 1;
    }
    for left in list.get_mut(done..).unwrap_or_default() {
        replace(left, Instruction::ClearActions, spare);
    }
    list.truncate(done);
    Ok(())
}

/// Puts an instruction in place of the one that is there, or behind all.
#[inline(always)]
fn put(list: &mut Instructions, at: usize, instruction: Instruction, spare: &mut Vec<Action>) {
    match list.get_mut(at) {
        None => list.push(instruction),
        Some(slot) => replace(slot, instruction, spare),
    }
}

/// Puts an instruction in place of another, whose list is kept.
#[inline(never)]
fn replace(slot: &mut Instruction, instruction: Instruction, spare: &mut Vec<Action>) {
    let old = std::mem::replace(slot, instruction);
    if let Instruction::ApplyActions(mut actions) | Instruction::WriteActions(mut actions) = old {
        actions.clear();
        *spare = actions;
    }
}

/// What most flows have, at a glance: `OFPIT_APPLY_ACTIONS` and `OFPIT_GOTO_TABLE`. False for all else, and for what is wrong
/// with these: [`take_instruction`] has to say.
#[inline(always)]
fn retake_frequent(
    r: &mut Reader<'_>,
    seen: &mut u32,
    list: &mut Instructions,
    at: usize,
    spare: &mut Vec<Action>,
) -> Result<bool> {
    const APPLY: u32 = 1 << ofpit::APPLY_ACTIONS;
    const GOTO: u32 = 1 << ofpit::GOTO_TABLE;
    let Some((&[0, kind, high, low, table, ..], rest)) = r.peek().split_first_chunk::<8>() else {
        return Ok(false);
    };
    let body_len = usize::from(u16::from_be_bytes([high, low])).wrapping_sub(8);
    match u16::from(kind) {
        ofpit::GOTO_TABLE if body_len == 0 && *seen & GOTO == 0 => {
            *seen |= GOTO;
            r.go_on_at(rest);
            match list.get_mut(at) {
                Some(Instruction::GotoTable(slot)) => *slot = table,
                _ => put(list, at, Instruction::GotoTable(table), spare),
            }
        }
        ofpit::APPLY_ACTIONS
            if body_len.is_multiple_of(8) && body_len <= rest.len() && *seen & APPLY == 0 =>
        {
            *seen |= APPLY;
            r.go_on_at(rest);
            let mut body = r.sub(body_len, "ofp_instruction")?;
            if let Some(Instruction::ApplyActions(actions)) = list.get_mut(at) {
                actions.clear();
                add_actions(&mut body, actions)?;
            } else {
                let mut actions = std::mem::take(spare);
                add_actions(&mut body, &mut actions)?;
                put(list, at, Instruction::ApplyActions(actions), spare);
            }
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// Reads an instruction of a type that is not among those `seen`.
fn take_instruction(r: &mut Reader<'_>, seen: &mut u32, spare: &mut Vec<Action>) -> Result<Instruction> {
    let mut take_actions = |b: &mut Reader<'_>| {
        b.skip(4)?;
        let mut actions = std::mem::take(spare);
        add_actions(b, &mut actions)?;
        Result::Ok(actions)
    };
    r.enter("ofp_instruction");
    let whole = r.peek();
    let start = r.offset();
    let (kind, len) = r.kind_and_len()?;
    if len < 8 || !len.is_multiple_of(8) {
        return Err(r.invalid_at(start, ErrorCode::BIC_BAD_LEN));
    }
    let Ok(mut body) = r.sub(usize::from(len) - 4, "ofp_instruction") else {
        return Err(r.invalid_at(start, ErrorCode::BIC_BAD_LEN));
    };
    if kind < 32 {
        if *seen >> kind & 1 == 1 {
            return Err(r.invalid_at(start, ErrorCode::BIC_DUP_INST));
        }
        *seen |= 1 << kind;
    }
    let b = &mut body;
    let instruction = match kind {
        ofpit::GOTO_TABLE => {
            let table = b.u8()?;
            b.skip(3)?;
            Instruction::GotoTable(table)
        }
        ofpit::WRITE_METADATA => {
            b.skip(4)?;
            Instruction::WriteMetadata { value: b.u64()?, mask: b.u64()? }
        }
        ofpit::WRITE_ACTIONS => Instruction::WriteActions(take_actions(b)?),
        ofpit::APPLY_ACTIONS => Instruction::ApplyActions(take_actions(b)?),
        ofpit::CLEAR_ACTIONS => {
            b.skip(4)?;
            Instruction::ClearActions
        }
        ofpit::METER => Instruction::Meter(b.u32()?),
        _ => {
            b.rest();
            Instruction::Unknown { kind, raw: whole.get(..usize::from(len)).unwrap_or(whole).to_vec() }
        }
    };
    if !b.is_empty() {
        return Err(r.invalid_at(start, ErrorCode::BIC_BAD_LEN));
    }
    Ok(instruction)
}
