//! Which events a controller wants (OF1.3.5 §7.3.10).

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
        let mut pair = || Ok([r.u32()?, r.u32()?]);
        Ok(AsyncConfig { packet_in: pair()?, port_status: pair()?, flow_removed: pair()? })
    }
}
