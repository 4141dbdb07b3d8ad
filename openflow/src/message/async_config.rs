//! Which events a controller wants (OF1.3.5 §7.3.10).

use super::{ErrorCode, property};
use crate::wire::{Reader, Result, Writer};

/// `OFPT_SET_ASYNC`, `OFPT_GET_ASYNC_REPLY` and `NXT_SET_ASYNC_CONFIG`: for each kind of event, a bit for each reason.
///
/// The first of each pair counts while the controller's role is equal or master, the second while it is slave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AsyncConfig {
    /// Bits are `OFPR_*`.
    pub packet_in: [u32; 2],
    /// Bits are `OFPPR_*`.
    pub port_status: [u32; 2],
    /// Bits are `OFPRR_*`.
    pub flow_removed: [u32; 2],
}

impl AsyncConfig {
    pub(super) fn put(&self, w: &mut Writer<'_>) {
        [self.packet_in, self.port_status, self.flow_removed].iter().flatten().for_each(|mask| w.u32(*mask));
    }

    pub(super) fn take(r: &mut Reader<'_>) -> Result<Self> {
        let mut pair = || Result::Ok([r.u32()?, r.u32()?]);
        Ok(AsyncConfig { packet_in: pair()?, port_status: pair()?, flow_removed: pair()? })
    }
}

/// A property of `NXT_SET_ASYNC_CONFIG2`: for one kind of event and one side of the role, a bit for each reason
/// (OF1.4 §7.3.10, `ofp_async_config_prop_reasons`). Events that no property names stay as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AsyncProperty {
    /// Which kind of event.
    pub event: AsyncEvent,
    /// Whether it is for a controller whose role is slave; else for equal and master.
    pub slave: bool,
    /// The reasons, as bits; only those in [`AsyncEvent::reasons`].
    pub mask: u32,
}

/// Kinds of events of an [`AsyncProperty`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AsyncEvent {
    /// Bits are `OFPR_*`.
    PacketIn,
    /// Bits are `OFPPR_*`.
    PortStatus,
    /// Bits are `OFPRR_*`.
    FlowRemoved,
    /// Bits are `OFPCRR_*` (OF1.4).
    RoleStatus,
    /// Bits are `OFPTR_*` (OF1.4).
    TableStatus,
    /// Bits are `OFPRFR_*` (OF1.4).
    RequestForward,
}

impl AsyncEvent {
    /// All of them, in the order of their numbers: for each one of slave, then one of master.
    pub const ALL: [AsyncEvent; 6] = [
        AsyncEvent::PacketIn,
        AsyncEvent::PortStatus,
        AsyncEvent::FlowRemoved,
        AsyncEvent::RoleStatus,
        AsyncEvent::TableStatus,
        AsyncEvent::RequestForward,
    ];

    /// The reasons that there are, as bits; Open vSwitch refuses others.
    pub fn reasons(self) -> u32 {
        match self {
            AsyncEvent::PacketIn | AsyncEvent::PortStatus | AsyncEvent::RoleStatus => 0x07,
            AsyncEvent::FlowRemoved => 0x3f,
            AsyncEvent::TableStatus => 0x18,
            AsyncEvent::RequestForward => 0x03,
        }
    }
}

impl AsyncProperty {
    pub(super) fn put(&self, w: &mut Writer<'_>) {
        let kind = self.event as u16 * 2 + u16::from(!self.slave);
        property::put(w, kind, |w| w.u32(self.mask));
    }

    pub(super) fn take(r: &mut Reader<'_>) -> Result<Self> {
        let (kind, mut value) = property::take(r)?;
        let Some(&event) = AsyncEvent::ALL.get(usize::from(kind / 2)) else {
            return Err(value.invalid(ErrorCode::ACFC_UNSUPPORTED));
        };
        let mask = value.u32()?;
        if !value.is_empty() {
            return Err(value.invalid(ErrorCode::BPC_BAD_LEN));
        }
        if mask & !event.reasons() != 0 {
            return Err(value.invalid(ErrorCode::ACFC_INVALID));
        }
        Ok(AsyncProperty { event, slave: kind % 2 == 0, mask })
    }
}
