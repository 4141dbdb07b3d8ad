//! Instructions (OF1.3.5 §7.2.4).

use super::action_decode::{count, take_actions};
use super::action_encode::put_actions;
use crate::instruction::Instruction;
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
pub(crate) fn take_instructions(r: &mut Reader<'_>) -> Result<Vec<Instruction>> {
    let mut list = Vec::with_capacity(count(r.peek()));
    let mut seen = 0u32;
    while !r.is_empty() {
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
            if seen >> kind & 1 == 1 {
                return Err(r.invalid_at(start, ErrorCode::BIC_DUP_INST));
            }
            seen |= 1 << kind;
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
            ofpit::WRITE_ACTIONS => {
                b.skip(4)?;
                Instruction::WriteActions(take_actions(b)?)
            }
            ofpit::APPLY_ACTIONS => {
                b.skip(4)?;
                Instruction::ApplyActions(take_actions(b)?)
            }
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
        list.push(instruction);
    }
    Ok(list)
}
