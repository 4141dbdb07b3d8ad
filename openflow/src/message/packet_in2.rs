//! `NXT_PACKET_IN2`, and `NXT_RESUME` which sends it back.

use super::packet::PacketInReason;
use super::property;
use crate::codec::oxm::{put_fields, take_fields};
use crate::flow_match::Match;
use crate::wire::{Reader, Result, Writer};

/// A packet with what the pipeline knew of it. Sent back as a resume, it goes on where it was paused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PacketIn2 {
    /// The packet, perhaps cut.
    pub packet: Vec<u8>,
    /// Bytes of the whole packet, if it was cut.
    pub full_len: Option<u32>,
    /// Where the switch keeps it.
    pub buffer_id: Option<u32>,
    /// Table of the flow that sent it.
    pub table: Option<u8>,
    /// Cookie of the flow that sent it.
    pub cookie: Option<u64>,
    /// Why it comes.
    pub reason: Option<PacketInReason>,
    /// Metadata, registers and so on.
    pub fields: Match,
    /// The userdata of the `controller` action.
    pub userdata: Vec<u8>,
    /// The state of a paused pipeline, to be sent back as it came.
    pub continuation: Vec<u8>,
    /// Properties that we don't know: type and value.
    pub other: Vec<(u16, Vec<u8>)>,
}

/// `NXPINT_*`.
mod kind {
    pub(super) const PACKET: u16 = 0;
    pub(super) const FULL_LEN: u16 = 1;
    pub(super) const BUFFER_ID: u16 = 2;
    pub(super) const TABLE_ID: u16 = 3;
    pub(super) const COOKIE: u16 = 4;
    pub(super) const REASON: u16 = 5;
    pub(super) const METADATA: u16 = 6;
    pub(super) const USERDATA: u16 = 7;
    pub(super) const CONTINUATION: u16 = 8;
}

impl PacketIn2 {
    pub(super) fn put(&self, w: &mut Writer<'_>) {
        property::put(w, kind::PACKET, |w| w.bytes(&self.packet));
        if let Some(len) = self.full_len {
            property::put(w, kind::FULL_LEN, |w| w.u32(len));
        }
        if let Some(id) = self.buffer_id {
            property::put(w, kind::BUFFER_ID, |w| w.u32(id));
        }
        if let Some(table) = self.table {
            property::put(w, kind::TABLE_ID, |w| w.u8(table));
        }
        if let Some(cookie) = self.cookie {
            property::put(w, kind::COOKIE, |w| {
                w.zeros(4);
                w.u64(cookie);
            });
        }
        if let Some(reason) = self.reason {
            property::put(w, kind::REASON, |w| w.u8(reason.0));
        }
        if !self.fields.is_empty() {
            property::put(w, kind::METADATA, |w| put_fields(w, &self.fields));
        }
        if !self.userdata.is_empty() {
            property::put(w, kind::USERDATA, |w| w.bytes(&self.userdata));
        }
        if !self.continuation.is_empty() {
            property::put(w, kind::CONTINUATION, |w| w.bytes(&self.continuation));
        }
        for (kind, value) in &self.other {
            property::put(w, *kind, |w| w.bytes(value));
        }
    }

    pub(super) fn take(r: &mut Reader<'_>) -> Result<Self> {
        let mut packet = PacketIn2::default();
        while !r.is_empty() {
            let (kind, mut value) = property::take(r)?;
            let v = &mut value;
            match kind {
                kind::PACKET => packet.packet = v.rest().to_vec(),
                kind::FULL_LEN => packet.full_len = Some(v.u32()?),
                kind::BUFFER_ID => packet.buffer_id = Some(v.u32()?),
                kind::TABLE_ID => packet.table = Some(v.u8()?),
                kind::COOKIE => {
                    v.skip(4)?;
                    packet.cookie = Some(v.u64()?);
                }
                kind::REASON => packet.reason = Some(PacketInReason(v.u8()?)),
                kind::METADATA => packet.fields = take_fields(v)?,
                kind::USERDATA => packet.userdata = v.rest().to_vec(),
                kind::CONTINUATION => packet.continuation = v.rest().to_vec(),
                other => packet.other.push((other, v.rest().to_vec())),
            }
        }
        Ok(packet)
    }
}
