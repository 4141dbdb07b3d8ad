//! `NXAST_LEARN` and `NXAST_LEARN2`.

use super::oxm::{put_field, take_field};
use crate::action::{Learn, LearnDestination, LearnSource, LearnSpec, Subfield};
use crate::field::ones;
use crate::message::ErrorCode;
use crate::wire::{Reader, Result, Writer};

/// Flags of `nx_action_learn`.
mod flag {
    pub(super) const SEND_FLOW_REM: u16 = 1;
    pub(super) const DELETE_LEARNED: u16 = 2;
    pub(super) const WRITE_RESULT: u16 = 4;
}

/// Header of a spec: number of bits below, then what to do with them, then where they come from.
const N_BITS: u16 = 0x07ff;
const DST_SHIFT: u16 = 11;
const SRC_IMMEDIATE: u16 = 1 << 13;

/// Writes what follows the subtype.
pub(crate) fn put_learn(w: &mut Writer<'_>, learn: &Learn, extended: bool) {
    w.u16(learn.idle_timeout);
    w.u16(learn.hard_timeout);
    w.u16(learn.priority);
    w.u64(learn.cookie);
    let flags = [
        (learn.send_flow_rem, flag::SEND_FLOW_REM),
        (learn.delete_learned, flag::DELETE_LEARNED),
        (learn.result_dst.is_some(), flag::WRITE_RESULT),
    ];
    w.u16(flags.into_iter().filter(|(on, _)| *on).fold(0, |all, (_, flag)| all | flag));
    w.u8(learn.table);
    w.u8(0);
    w.u16(learn.fin_idle_timeout);
    w.u16(learn.fin_hard_timeout);
    if extended {
        w.u32(learn.limit);
        w.u16(learn.result_dst.map_or(0, |dst| dst.ofs));
        w.zeros(2);
        if let Some(dst) = learn.result_dst {
            put_field(w, dst.field);
        }
    }
    for spec in &learn.specs {
        put_spec(w, spec);
    }
}

fn put_spec(w: &mut Writer<'_>, spec: &LearnSpec) {
    let dst = match spec.dst {
        LearnDestination::Match(_) => 0,
        LearnDestination::Load(_) => 1 << DST_SHIFT,
        LearnDestination::Output => 2 << DST_SHIFT,
    };
    let immediate = matches!(spec.src, LearnSource::Value(_));
    w.u16(spec.n_bits & N_BITS | dst | if immediate { SRC_IMMEDIATE } else { 0 });
    match &spec.src {
        LearnSource::Field(src) => put_subfield(w, src),
        LearnSource::Value(value) => w.number(*value, immediate_len(spec.n_bits).min(16)),
    }
    if let LearnDestination::Match(dst) | LearnDestination::Load(dst) = &spec.dst {
        put_subfield(w, dst);
    }
}

fn put_subfield(w: &mut Writer<'_>, subfield: &Subfield) {
    put_field(w, subfield.field);
    w.u16(subfield.ofs);
}

/// Bytes of a constant: whole 16-bit words.
fn immediate_len(n_bits: u16) -> usize {
    usize::from(n_bits).div_ceil(16) * 2
}

/// Reads what follows the subtype.
pub(crate) fn take_learn(r: &mut Reader<'_>, extended: bool) -> Result<Learn> {
    r.enter("nx_action_learn");
    let mut learn = Learn {
        idle_timeout: r.u16()?,
        hard_timeout: r.u16()?,
        priority: r.u16()?,
        cookie: r.u64()?,
        ..Learn::default()
    };
    let flags = r.u16()?;
    learn.send_flow_rem = flags & flag::SEND_FLOW_REM != 0;
    learn.delete_learned = flags & flag::DELETE_LEARNED != 0;
    learn.table = r.u8()?;
    r.skip(1)?;
    learn.fin_idle_timeout = r.u16()?;
    learn.fin_hard_timeout = r.u16()?;
    if flags & !(flag::SEND_FLOW_REM | flag::DELETE_LEARNED | if extended { flag::WRITE_RESULT } else { 0 })
        != 0
        || learn.table == 0xff
    {
        return Err(r.invalid(ErrorCode::BAC_BAD_ARGUMENT));
    }
    if extended {
        learn.limit = r.u32()?;
        let ofs = r.u16()?;
        r.skip(2)?;
        if flags & flag::WRITE_RESULT != 0 {
            let field = take_field(r)?;
            let dst =
                Subfield::bits(field, ofs, ofs).ok_or_else(|| r.invalid(ErrorCode::BAC_BAD_ARGUMENT))?;
            learn.result_dst = Some(dst);
        }
    }
    // Specs end at the action's end, or at a header of zero, which is padding.
    while r.remaining() >= 2 {
        let header = r.u16()?;
        if header == 0 {
            break;
        }
        let spec = take_spec(r, header)?;
        learn.specs.push(spec);
    }
    if r.rest().iter().any(|&byte| byte != 0) {
        return Err(r.invalid(ErrorCode::NXBAC_MUST_BE_ZERO));
    }
    Ok(learn)
}

fn take_spec(r: &mut Reader<'_>, header: u16) -> Result<LearnSpec> {
    let n_bits = header & N_BITS;
    if n_bits == 0 || header >> 14 != 0 {
        return Err(r.invalid(ErrorCode::BAC_BAD_ARGUMENT));
    }
    let subfield = |r: &mut Reader<'_>| -> Result<Subfield> {
        let field = take_field(r)?;
        let ofs = r.u16()?;
        let last = ofs.checked_add(n_bits - 1);
        last.and_then(|last| Subfield::bits(field, ofs, last))
            .ok_or_else(|| r.invalid(ErrorCode::BAC_BAD_SET_LEN))
    };
    let src = if header & SRC_IMMEDIATE != 0 {
        let len = immediate_len(n_bits);
        // Wider constants exist only for tunnel options.
        let (skipped, kept) = (len.saturating_sub(16), len.min(16));
        r.skip(skipped)?;
        LearnSource::Value(r.number(kept)? & ones(n_bits))
    } else {
        LearnSource::Field(subfield(r)?)
    };
    let dst = match header >> DST_SHIFT & 3 {
        0 => LearnDestination::Match(subfield(r)?),
        1 => LearnDestination::Load(subfield(r)?),
        2 if matches!(src, LearnSource::Field(_)) => LearnDestination::Output,
        _ => return Err(r.invalid(ErrorCode::BAC_BAD_ARGUMENT)),
    };
    Ok(LearnSpec { src, dst, n_bits })
}
