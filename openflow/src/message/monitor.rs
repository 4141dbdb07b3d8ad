//! Flow monitors: a switch tells of every change to its flows (ONF extension 187; OF1.4 §7.3.5.17).

use super::ErrorCode;
use crate::codec::instruction::{put_instructions, take_instructions};
use crate::codec::oxm::{put_match, take_match};
use crate::flow::TABLE_ALL;
use crate::flow_match::Match;
use crate::instruction::Instructions;
use crate::port::OfPort;
use crate::wire::{Reader, Reason, Result, Writer};

/// `ONFMP_FLOW_MONITOR`, and the first of the three messages that go with it.
pub(super) const FLOW_MONITOR: u32 = 1870;
/// `ONFT_FLOW_MONITOR_PAUSED`.
pub(super) const PAUSED: u32 = 1871;
/// `ONFT_FLOW_MONITOR_RESUMED`.
pub(super) const RESUMED: u32 = 1872;

/// Asks to be told of changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowMonitorRequest {
    /// Number of the monitor, chosen by the controller.
    pub id: u32,
    /// What to tell.
    pub flags: MonitorFlags,
    /// Only flows that output to this port; [`OfPort::ANY`] for all.
    pub out_port: OfPort,
    /// Table; 255 for all.
    pub table: u8,
    /// Only flows at least as specific as this.
    pub fields: Match,
}

/// `ONFFMF_*`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MonitorFlags(pub u16);

impl MonitorFlags {
    /// The flows that are there now.
    pub const INITIAL: u16 = 1;
    /// Flows that are added.
    pub const ADD: u16 = 2;
    /// Flows that are deleted.
    pub const DELETE: u16 = 4;
    /// Flows that are modified.
    pub const MODIFY: u16 = 8;
    /// With their actions.
    pub const ACTIONS: u16 = 16;
    /// What this connection changes, in full; else only its transaction id.
    pub const OWN: u16 = 32;
    /// All of it, from the start on.
    pub const EVERYTHING: MonitorFlags = MonitorFlags(63);

    /// Whether a switch takes such a request: it asks for some kind of change, and for nothing that has no name.
    pub fn is_valid(self) -> bool {
        const CHANGES: u16 = MonitorFlags::ADD | MonitorFlags::DELETE | MonitorFlags::MODIFY;
        self.0 & CHANGES != 0 && self.0 & !MonitorFlags::EVERYTHING.0 == 0
    }
}

impl Default for FlowMonitorRequest {
    /// Everything about all flows.
    fn default() -> Self {
        FlowMonitorRequest {
            id: 0,
            flags: MonitorFlags::EVERYTHING,
            out_port: OfPort::ANY,
            table: TABLE_ALL,
            fields: Match::new(),
        }
    }
}

impl FlowMonitorRequest {
    pub(super) fn put(&self, w: &mut Writer<'_>) {
        w.u32(self.id);
        w.u16(self.flags.0);
        let at = w.len();
        w.u16(0);
        w.u32(self.out_port.0);
        w.u8(self.table);
        w.zeros(3);
        put_sized_match(w, at, &self.fields);
    }

    pub(super) fn take(r: &mut Reader<'_>) -> Result<Self> {
        r.enter("onf_flow_monitor_request");
        let (id, flags) = (r.u32()?, MonitorFlags(r.u16()?));
        if !flags.is_valid() {
            return Err(r.invalid(ErrorCode::MOFC_BAD_FLAGS));
        }
        let match_len = r.u16()?;
        let (out_port, table) = (OfPort(r.u32()?), r.u8()?);
        r.skip(3)?;
        Ok(FlowMonitorRequest { id, flags, out_port, table, fields: take_sized_match(r, match_len)? })
    }
}

/// Writes a match and, at `at`, its length without padding: the same number that is within it.
fn put_sized_match(w: &mut Writer<'_>, at: usize, fields: &Match) {
    let start = w.len();
    put_match(w, fields);
    w.copy_u16(start + 2, at);
}

/// Reads a match whose length was said before; it says the same itself.
fn take_sized_match(r: &mut Reader<'_>, match_len: u16) -> Result<Match> {
    match r.peek() {
        [_, _, high, low, ..] if u16::from_be_bytes([*high, *low]) != match_len => {
            Err(r.invalid(ErrorCode::BMC_BAD_LEN))
        }
        _ => take_match(r),
    }
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlowUpdate {
    /// A flow was added, or was there at the start.
    Added(UpdatedFlow),
    /// A flow was deleted.
    Deleted(UpdatedFlow),
    /// A flow has other actions or another cookie.
    Modified(UpdatedFlow),
    /// A change that this connection made itself under that transaction id.
    Abbreviated {
        /// Transaction id of the change.
        xid: u32,
    },
}

/// The flow of a [`FlowUpdate`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdatedFlow {
    /// Why it was deleted (`OFPRR_*`); otherwise 0.
    pub reason: u16,
    /// Its priority.
    pub priority: u16,
    /// Its idle timeout in seconds.
    pub idle_timeout: u16,
    /// Its hard timeout in seconds.
    pub hard_timeout: u16,
    /// Its table.
    pub table: u8,
    /// Its cookie.
    pub cookie: u64,
    /// What it matches.
    pub fields: Match,
    /// What it does, if that was asked for.
    pub instructions: Instructions,
}

/// `OFPFME_*` as Nicira numbered them.
mod event {
    pub(super) const ADDED: u16 = 0;
    pub(super) const DELETED: u16 = 1;
    pub(super) const MODIFIED: u16 = 2;
    pub(super) const ABBREVIATED: u16 = 3;
}

impl FlowUpdate {
    pub(super) fn put(&self, w: &mut Writer<'_>) {
        let start = w.len();
        w.u16(0);
        match self {
            FlowUpdate::Added(flow) => flow.put(w, event::ADDED),
            FlowUpdate::Deleted(flow) => flow.put(w, event::DELETED),
            FlowUpdate::Modified(flow) => flow.put(w, event::MODIFIED),
            FlowUpdate::Abbreviated { xid } => {
                w.u16(event::ABBREVIATED);
                w.u32(*xid);
            }
        }
        w.patch_len(start, start, "onf_flow_update");
    }

    pub(super) fn take(r: &mut Reader<'_>) -> Result<Self> {
        r.enter("onf_flow_update");
        let len = r.u16()?;
        let kind = r.u16()?;
        let mut body = r.sub(r.body_len(len, 4)?, "onf_flow_update")?;
        let update = match kind {
            event::ADDED => FlowUpdate::Added(UpdatedFlow::take(&mut body)?),
            event::DELETED => FlowUpdate::Deleted(UpdatedFlow::take(&mut body)?),
            event::MODIFIED => FlowUpdate::Modified(UpdatedFlow::take(&mut body)?),
            event::ABBREVIATED => FlowUpdate::Abbreviated { xid: body.u32()? },
            _ => return Err(body.invalid(ErrorCode::NXBRC_FM_BAD_EVENT)),
        };
        if !body.is_empty() {
            return Err(body.error(Reason::BadLength(len.into())));
        }
        Ok(update)
    }
}

impl UpdatedFlow {
    fn put(&self, w: &mut Writer<'_>, event: u16) {
        w.u16(event);
        w.u16(self.reason);
        w.u16(self.priority);
        w.u16(self.idle_timeout);
        w.u16(self.hard_timeout);
        let at = w.len();
        w.u16(0);
        w.u8(self.table);
        w.zeros(1);
        w.u64(self.cookie);
        put_sized_match(w, at, &self.fields);
        put_instructions(w, &self.instructions);
    }

    fn take(r: &mut Reader<'_>) -> Result<Self> {
        let (reason, priority) = (r.u16()?, r.u16()?);
        let (idle_timeout, hard_timeout) = (r.u16()?, r.u16()?);
        let match_len = r.u16()?;
        let table = r.u8()?;
        r.skip(1)?;
        let cookie = r.u64()?;
        let fields = take_sized_match(r, match_len)?;
        let instructions = take_instructions(r)?;
        Ok(UpdatedFlow { reason, priority, idle_timeout, hard_timeout, table, cookie, fields, instructions })
    }
}
