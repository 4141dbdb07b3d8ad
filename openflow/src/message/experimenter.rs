//! Messages of the ONF and of Nicira.

use super::bundle::{self, BundleAdd, BundleControl};
use super::monitor;
use super::{
    AsyncConfig, AsyncProperty, CtFlush, MAX_NESTING, Message, NICIRA, ONF, PacketIn, PacketIn2, TlvTable,
    TlvTableMod,
};
use crate::wire::{Reader, Reason, Result, Writer};

/// `NXT_*`.
mod nxt {
    pub(super) const SET_PACKET_IN_FORMAT: u32 = 16;
    pub(super) const PACKET_IN: u32 = 17;
    pub(super) const SET_ASYNC_CONFIG: u32 = 19;
    pub(super) const SET_CONTROLLER_ID: u32 = 20;
    pub(super) const TLV_TABLE_MOD: u32 = 24;
    pub(super) const TLV_TABLE_REQUEST: u32 = 25;
    pub(super) const TLV_TABLE_REPLY: u32 = 26;
    pub(super) const SET_ASYNC_CONFIG2: u32 = 27;
    pub(super) const RESUME: u32 = 28;
    pub(super) const CT_FLUSH_ZONE: u32 = 29;
    pub(super) const PACKET_IN2: u32 = 30;
    pub(super) const CT_FLUSH: u32 = 32;
}

/// Experimenter and type of a message, for those that have them.
fn ids(message: &Message) -> Option<(u32, u32)> {
    Some(match message {
        Message::BundleControl(_) => (ONF, bundle::CONTROL),
        Message::BundleAdd(_) => (ONF, bundle::ADD_MESSAGE),
        Message::FlowMonitorCancel(_) => (ONF, monitor::FLOW_MONITOR),
        Message::FlowMonitorPaused => (ONF, monitor::PAUSED),
        Message::FlowMonitorResumed => (ONF, monitor::RESUMED),
        Message::SetPacketInFormat(_) => (NICIRA, nxt::SET_PACKET_IN_FORMAT),
        Message::NxSetAsync(_) => (NICIRA, nxt::SET_ASYNC_CONFIG),
        Message::NxPacketIn(_) => (NICIRA, nxt::PACKET_IN),
        Message::NxSetAsync2(_) => (NICIRA, nxt::SET_ASYNC_CONFIG2),
        Message::SetControllerId(_) => (NICIRA, nxt::SET_CONTROLLER_ID),
        Message::PacketIn2(_) => (NICIRA, nxt::PACKET_IN2),
        Message::Resume(_) => (NICIRA, nxt::RESUME),
        Message::TlvTableMod(_) => (NICIRA, nxt::TLV_TABLE_MOD),
        Message::TlvTableRequest => (NICIRA, nxt::TLV_TABLE_REQUEST),
        Message::TlvTableReply(_) => (NICIRA, nxt::TLV_TABLE_REPLY),
        Message::CtFlushZone(_) => (NICIRA, nxt::CT_FLUSH_ZONE),
        Message::CtFlush(_) => (NICIRA, nxt::CT_FLUSH),
        Message::Experimenter { experimenter, kind, .. } => (*experimenter, *kind),
        _ => return None,
    })
}

pub(super) fn put(w: &mut Writer<'_>, message: &Message) {
    let Some((experimenter, kind)) = ids(message) else { return };
    w.u32(experimenter);
    w.u32(kind);
    match message {
        Message::BundleControl(control) => control.put(w),
        Message::BundleAdd(add) => add.put(w),
        Message::FlowMonitorCancel(id) => w.u32(*id),
        Message::SetPacketInFormat(format) => w.u32(*format),
        Message::NxPacketIn(packet) => packet.put_nicira(w),
        Message::NxSetAsync(config) => config.put(w),
        Message::NxSetAsync2(properties) => properties.iter().for_each(|property| property.put(w)),
        Message::SetControllerId(id) => {
            w.zeros(6);
            w.u16(*id);
        }
        Message::PacketIn2(packet) | Message::Resume(packet) => packet.put(w),
        Message::TlvTableMod(table_mod) => table_mod.put(w),
        Message::TlvTableReply(table) => table.put(w),
        Message::CtFlushZone(zone) => {
            w.zeros(6);
            w.u16(*zone);
        }
        Message::CtFlush(flush) => flush.put(w),
        Message::Experimenter { body, .. } => w.bytes(body),
        _ => {}
    }
}

pub(super) fn take(r: &mut Reader<'_>, depth: u8) -> Result<Message> {
    let (experimenter, kind) = (r.u32()?, r.u32()?);
    Ok(match (experimenter, kind) {
        (ONF, bundle::CONTROL) => Message::BundleControl(BundleControl::take(r)?),
        (ONF, bundle::ADD_MESSAGE) => {
            if depth >= MAX_NESTING {
                return Err(r.error(Reason::TooDeep));
            }
            Message::BundleAdd(BundleAdd::take(r, depth + 1)?)
        }
        (ONF, monitor::FLOW_MONITOR) => Message::FlowMonitorCancel(r.u32()?),
        (ONF, monitor::PAUSED) => Message::FlowMonitorPaused,
        (ONF, monitor::RESUMED) => Message::FlowMonitorResumed,
        (NICIRA, nxt::SET_PACKET_IN_FORMAT) => Message::SetPacketInFormat(r.u32()?),
        (NICIRA, nxt::SET_ASYNC_CONFIG) => Message::NxSetAsync(AsyncConfig::take(r)?),
        (NICIRA, nxt::PACKET_IN) => Message::NxPacketIn(PacketIn::take_nicira(r)?),
        (NICIRA, nxt::SET_ASYNC_CONFIG2) => {
            let mut properties = Vec::new();
            while !r.is_empty() {
                properties.push(AsyncProperty::take(r)?);
            }
            Message::NxSetAsync2(properties)
        }
        (NICIRA, nxt::SET_CONTROLLER_ID) => Message::SetControllerId(padded_u16(r)?),
        (NICIRA, nxt::PACKET_IN2) => Message::PacketIn2(PacketIn2::take(r)?),
        (NICIRA, nxt::RESUME) => Message::Resume(PacketIn2::take(r)?),
        (NICIRA, nxt::TLV_TABLE_MOD) => Message::TlvTableMod(TlvTableMod::take(r)?),
        (NICIRA, nxt::TLV_TABLE_REQUEST) => Message::TlvTableRequest,
        (NICIRA, nxt::TLV_TABLE_REPLY) => Message::TlvTableReply(TlvTable::take(r)?),
        (NICIRA, nxt::CT_FLUSH_ZONE) => Message::CtFlushZone(padded_u16(r)?),
        (NICIRA, nxt::CT_FLUSH) => Message::CtFlush(CtFlush::take(r)?),
        _ => Message::Experimenter { experimenter, kind, body: r.rest().to_vec() },
    })
}

/// Six bytes of padding and a number.
fn padded_u16(r: &mut Reader<'_>) -> Result<u16> {
    r.skip(6)?;
    r.u16()
}
