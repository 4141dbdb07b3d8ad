//! Flow-mods and flow statistics (OF1.3.5 §7.3.4.1, §7.3.5.2).

use std::time::Duration;

use super::instruction::{put_instructions, retake_instructions, take_instructions};
use super::oxm::{put_match, retake_match, take_match};
use crate::action::Action;
use crate::flow::{Flow, FlowFlags, FlowMod, FlowModCommand, FlowStats};
use crate::message::ErrorCode;
use crate::port::OfPort;
use crate::wire::{Fixed, Reader, Result, Writer};

pub(crate) fn put_flow_mod(w: &mut Writer<'_>, m: &FlowMod) {
    let flow = &m.flow;
    w.u64(flow.cookie);
    w.u64(m.cookie_mask);
    w.u8(flow.table);
    w.u8(match m.command {
        FlowModCommand::Add => 0,
        FlowModCommand::Modify => 1,
        FlowModCommand::ModifyStrict => 2,
        FlowModCommand::Delete => 3,
        FlowModCommand::DeleteStrict => 4,
    });
    w.u16(flow.idle_timeout);
    w.u16(flow.hard_timeout);
    w.u16(flow.priority);
    w.u32(m.buffer_id);
    w.u32(m.out_port.0);
    w.u32(m.out_group);
    w.u16(flow.flags.0);
    w.zeros(2);
    put_match(w, &flow.fields);
    put_instructions(w, &flow.instructions);
}

pub(crate) fn take_flow_mod(r: &mut Reader<'_>) -> Result<FlowMod> {
    r.enter("ofp_flow_mod");
    let cookie = r.u64()?;
    let cookie_mask = r.u64()?;
    let table = r.u8()?;
    let command = match r.u8()? {
        0 => FlowModCommand::Add,
        1 => FlowModCommand::Modify,
        2 => FlowModCommand::ModifyStrict,
        3 => FlowModCommand::Delete,
        4 => FlowModCommand::DeleteStrict,
        _ => return Err(r.invalid(ErrorCode::FMFC_BAD_COMMAND)),
    };
    let (idle_timeout, hard_timeout, priority) = (r.u16()?, r.u16()?, r.u16()?);
    let (buffer_id, out_port, out_group) = (r.u32()?, OfPort(r.u32()?), r.u32()?);
    let flags = FlowFlags(r.u16()?);
    r.skip(2)?;
    let fields = take_match(r)?;
    let instructions = take_instructions(r)?;
    let flow = Flow {
        table,
        priority,
        cookie,
        fields,
        instructions,
        idle_timeout,
        hard_timeout,
        importance: 0,
        flags,
    };
    Ok(FlowMod { command, flow, cookie_mask, out_port, out_group, buffer_id })
}

pub(crate) fn put_flow_stats(w: &mut Writer<'_>, stats: &FlowStats) {
    let start = w.len();
    let flow = &stats.flow;
    w.u16(0);
    w.u8(flow.table);
    w.u8(0);
    w.u32(stats.duration.as_secs() as u32);
    w.u32(stats.duration.subsec_nanos());
    w.u16(flow.priority);
    w.u16(flow.idle_timeout);
    w.u16(flow.hard_timeout);
    w.u16(flow.flags.0);
    w.zeros(4);
    w.u64(flow.cookie);
    w.u64(stats.packets.unwrap_or(u64::MAX));
    w.u64(stats.bytes.unwrap_or(u64::MAX));
    put_match(w, &flow.fields);
    put_instructions(w, &flow.instructions);
    w.patch_len(start, start, "ofp_flow_stats");
}

/// Reads one entry of a flow statistics reply, in place of another and with the room of its lists. After an error it is
/// neither. `spare` is an empty list, which may have room.
pub(crate) fn retake_flow_stats(
    r: &mut Reader<'_>,
    stats: &mut FlowStats,
    spare: &mut Vec<Action>,
) -> Result<()> {
    r.enter("ofp_flow_stats");
    let len = r.u16()?;
    let mut r = r.sub(r.body_len(len, 2)?, "ofp_flow_stats")?;
    let mut fixed = Fixed(r.fixed::<46>(&[1, 1, 4, 4, 2, 2, 2, 2, 4, 8, 8, 8])?);
    let flow = &mut stats.flow;
    flow.table = fixed.u8();
    fixed.skip::<1>();
    stats.duration = duration(fixed.u32(), fixed.u32());
    (flow.priority, flow.idle_timeout, flow.hard_timeout) = (fixed.u16(), fixed.u16(), fixed.u16());
    flow.flags = FlowFlags(fixed.u16());
    fixed.skip::<4>();
    flow.cookie = fixed.u64();
    // All ones means that the switch does not count.
    let count = |n: u64| (n != u64::MAX).then_some(n);
    (stats.packets, stats.bytes) = (count(fixed.u64()), count(fixed.u64()));
    flow.importance = 0;
    retake_match(&mut r, &mut flow.fields)?;
    retake_instructions(&mut r, &mut flow.instructions, spare)
}

/// Seconds and nanoseconds; a peer's excess of nanoseconds is cut.
#[inline]
fn duration(seconds: u32, nanoseconds: u32) -> Duration {
    Duration::new(seconds.into(), nanoseconds.min(999_999_999))
}

pub(crate) fn take_duration(r: &mut Reader<'_>) -> Result<Duration> {
    Ok(duration(r.u32()?, r.u32()?))
}
