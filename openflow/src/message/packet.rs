//! Packets to and from the controller, and flows that went (OF1.3.5 §7.4.1, §7.3.7, §7.4.2).

use std::time::Duration;

use super::ErrorCode;
use crate::action::Action;
use crate::codec::action_decode::take_actions;
use crate::codec::action_encode::put_actions;
use crate::codec::flow::take_duration;
use crate::codec::oxm::{put_match, put_nxm_fields, take_fields, take_match};
use crate::flow::NO_BUFFER;
use crate::flow_match::Match;
use crate::port::OfPort;
use crate::wire::{Reader, Result, Writer};

/// `OFPT_PACKET_IN` and `NXT_PACKET_IN`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PacketIn {
    /// Where the switch keeps the packet; [`NO_BUFFER`] if it doesn't.
    pub buffer_id: u32,
    /// Bytes of the whole packet.
    pub total_len: u16,
    /// Why it comes.
    pub reason: PacketInReason,
    /// Table of the flow that sent it.
    pub table: u8,
    /// Cookie of the flow that sent it.
    pub cookie: u64,
    /// Port, tunnel and register fields.
    pub fields: Match,
    /// The packet, perhaps cut.
    pub data: Vec<u8>,
}

/// `OFPR_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketInReason(pub u8);

impl PacketInReason {
    /// No flow matched.
    pub const NO_MATCH: PacketInReason = PacketInReason(0);
    /// An action said so.
    pub const ACTION: PacketInReason = PacketInReason(1);
    /// The TTL ran out.
    pub const INVALID_TTL: PacketInReason = PacketInReason(2);
    /// The action set said so (OF1.4).
    pub const ACTION_SET: PacketInReason = PacketInReason(3);
    /// A group said so (OF1.4).
    pub const GROUP: PacketInReason = PacketInReason(4);
    /// A packet-out said so (OF1.4).
    pub const PACKET_OUT: PacketInReason = PacketInReason(5);
}

impl PacketIn {
    pub(super) fn put(&self, w: &mut Writer<'_>) {
        w.u32(self.buffer_id);
        w.u16(self.total_len);
        w.u8(self.reason.0);
        w.u8(self.table);
        w.u64(self.cookie);
        put_match(w, &self.fields);
        w.zeros(2);
        w.bytes(&self.data);
    }

    pub(super) fn take(r: &mut Reader<'_>) -> Result<Self> {
        let (buffer_id, total_len) = (r.u32()?, r.u16()?);
        let (reason, table) = (PacketInReason(r.u8()?), r.u8()?);
        let cookie = r.u64()?;
        let fields = take_match(r)?;
        r.skip(2)?;
        let data = r.rest().to_vec();
        Ok(PacketIn { buffer_id, total_len, reason, table, cookie, fields, data })
    }
}

impl PacketIn {
    /// `nx_packet_in`: the match has no header, and its fields go under their NXM names.
    pub(super) fn put_nicira(&self, w: &mut Writer<'_>) {
        w.u32(self.buffer_id);
        w.u16(self.total_len);
        w.u8(self.reason.0);
        w.u8(self.table);
        w.u64(self.cookie);
        let at = w.len();
        w.zeros(8);
        let start = w.len();
        put_nxm_fields(w, &self.fields);
        w.patch_len(at, start, "nx_packet_in.match");
        w.pad8(start);
        w.zeros(2);
        w.bytes(&self.data);
    }

    pub(super) fn take_nicira(r: &mut Reader<'_>) -> Result<Self> {
        r.enter("nx_packet_in");
        let (buffer_id, total_len) = (r.u32()?, r.u16()?);
        let (reason, table) = (PacketInReason(r.u8()?), r.u8()?);
        let cookie = r.u64()?;
        let match_len = usize::from(r.u16()?);
        r.skip(6)?;
        let mut fields = r.sub(match_len, "oxm_fields")?;
        let fields = take_fields(&mut fields)?;
        r.enter("nx_packet_in.data");
        r.skip(match_len.next_multiple_of(8) - match_len + 2)?;
        let data = r.rest().to_vec();
        Ok(PacketIn { buffer_id, total_len, reason, table, cookie, fields, data })
    }
}

/// `OFPT_PACKET_OUT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PacketOut {
    /// A packet that the switch keeps; [`NO_BUFFER`] if `data` is the packet.
    pub buffer_id: u32,
    /// The port from which it seems to come.
    pub in_port: OfPort,
    /// What to do with it.
    pub actions: Vec<Action>,
    /// The packet.
    pub data: Vec<u8>,
}

impl PacketOut {
    /// A packet that we bring ourselves.
    pub fn new(in_port: OfPort, actions: Vec<Action>, data: Vec<u8>) -> Self {
        PacketOut { buffer_id: NO_BUFFER, in_port, actions, data }
    }

    pub(super) fn put(&self, w: &mut Writer<'_>) {
        w.u32(self.buffer_id);
        w.u32(self.in_port.0);
        let at = w.len();
        w.zeros(8);
        let start = w.len();
        put_actions(w, &self.actions);
        w.patch_len(at, start, "ofp_packet_out.actions");
        w.bytes(&self.data);
    }

    pub(super) fn take(r: &mut Reader<'_>) -> Result<Self> {
        let (buffer_id, in_port) = (r.u32()?, OfPort(r.u32()?));
        let actions_len = usize::from(r.u16()?);
        r.skip(6)?;
        let mut actions =
            r.sub(actions_len, "ofp_packet_out.actions").map_err(|_| r.invalid(ErrorCode::BRC_BAD_LEN))?;
        let actions = take_actions(&mut actions)?;
        Ok(PacketOut { buffer_id, in_port, actions, data: r.rest().to_vec() })
    }
}

/// `OFPT_FLOW_REMOVED`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowRemoved {
    /// Cookie of the flow.
    pub cookie: u64,
    /// Its priority.
    pub priority: u16,
    /// Why it went.
    pub reason: FlowRemovedReason,
    /// Its table.
    pub table: u8,
    /// How long it was there.
    pub duration: Duration,
    /// Its idle timeout in seconds.
    pub idle_timeout: u16,
    /// Its hard timeout in seconds.
    pub hard_timeout: u16,
    /// Packets that it saw.
    pub packets: u64,
    /// Bytes that it saw.
    pub bytes: u64,
    /// What it matched.
    pub fields: Match,
}

/// `OFPRR_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowRemovedReason(pub u8);

impl FlowRemovedReason {
    /// Nothing matched for the idle timeout.
    pub const IDLE_TIMEOUT: FlowRemovedReason = FlowRemovedReason(0);
    /// The hard timeout is over.
    pub const HARD_TIMEOUT: FlowRemovedReason = FlowRemovedReason(1);
    /// A flow-mod deleted it.
    pub const DELETE: FlowRemovedReason = FlowRemovedReason(2);
    /// Its group was deleted.
    pub const GROUP_DELETE: FlowRemovedReason = FlowRemovedReason(3);
    /// Its meter was deleted (OF1.4).
    pub const METER_DELETE: FlowRemovedReason = FlowRemovedReason(4);
    /// The switch made room (OF1.4).
    pub const EVICTION: FlowRemovedReason = FlowRemovedReason(5);
}

impl FlowRemoved {
    pub(super) fn put(&self, w: &mut Writer<'_>) {
        w.u64(self.cookie);
        w.u16(self.priority);
        w.u8(self.reason.0);
        w.u8(self.table);
        w.u32(self.duration.as_secs() as u32);
        w.u32(self.duration.subsec_nanos());
        w.u16(self.idle_timeout);
        w.u16(self.hard_timeout);
        w.u64(self.packets);
        w.u64(self.bytes);
        put_match(w, &self.fields);
    }

    pub(super) fn take(r: &mut Reader<'_>) -> Result<Self> {
        Ok(FlowRemoved {
            cookie: r.u64()?,
            priority: r.u16()?,
            reason: FlowRemovedReason(r.u8()?),
            table: r.u8()?,
            duration: take_duration(r)?,
            idle_timeout: r.u16()?,
            hard_timeout: r.u16()?,
            packets: r.u64()?,
            bytes: r.u64()?,
            fields: take_match(r)?,
        })
    }
}
