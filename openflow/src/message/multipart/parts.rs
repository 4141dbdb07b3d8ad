//! Requests for flows, and the answers that are no lists.

use crate::codec::oxm::{put_match, take_match};
use crate::flow::{GROUP_ANY, TABLE_ALL};
use crate::flow_match::Match;
use crate::port::OfPort;
use crate::wire::{Reader, Result, Writer};

/// Which flows a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowStatsRequest {
    /// Table; [`TABLE_ALL`] for all.
    pub table: u8,
    /// Only flows that output to this port; [`OfPort::ANY`] for all.
    pub out_port: OfPort,
    /// Only flows that use this group; [`GROUP_ANY`] for all.
    pub out_group: u32,
    /// Only flows whose cookie has these bits ...
    pub cookie: u64,
    /// ... under this mask.
    pub cookie_mask: u64,
    /// Only flows at least as specific as this.
    pub fields: Match,
}

impl Default for FlowStatsRequest {
    /// All flows.
    fn default() -> Self {
        FlowStatsRequest {
            table: TABLE_ALL,
            out_port: OfPort::ANY,
            out_group: GROUP_ANY,
            cookie: 0,
            cookie_mask: 0,
            fields: Match::new(),
        }
    }
}

impl FlowStatsRequest {
    pub(super) fn put(&self, w: &mut Writer<'_>) {
        w.u8(self.table);
        w.zeros(3);
        w.u32(self.out_port.0);
        w.u32(self.out_group);
        w.zeros(4);
        w.u64(self.cookie);
        w.u64(self.cookie_mask);
        put_match(w, &self.fields);
    }

    pub(super) fn take(r: &mut Reader<'_>) -> Result<Self> {
        r.enter("ofp_flow_stats_request");
        let table = r.u8()?;
        r.skip(3)?;
        let (out_port, out_group) = (OfPort(r.u32()?), r.u32()?);
        r.skip(4)?;
        let (cookie, cookie_mask) = (r.u64()?, r.u64()?);
        Ok(FlowStatsRequest { table, out_port, out_group, cookie, cookie_mask, fields: take_match(r)? })
    }
}

/// Who made the switch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SwitchDesc {
    /// Manufacturer.
    pub manufacturer: String,
    /// Hardware.
    pub hardware: String,
    /// Software.
    pub software: String,
    /// Serial number.
    pub serial_number: String,
    /// Description of the datapath.
    pub datapath: String,
}

/// Bytes of the long texts of [`SwitchDesc`].
const DESC_LEN: usize = 256;
/// Bytes of its serial number.
const SERIAL_LEN: usize = 32;

impl SwitchDesc {
    pub(super) fn put(&self, w: &mut Writer<'_>) {
        w.name(&self.manufacturer, DESC_LEN);
        w.name(&self.hardware, DESC_LEN);
        w.name(&self.software, DESC_LEN);
        w.name(&self.serial_number, SERIAL_LEN);
        w.name(&self.datapath, DESC_LEN);
    }

    pub(super) fn take(r: &mut Reader<'_>) -> Result<Self> {
        r.enter("ofp_desc");
        Ok(SwitchDesc {
            manufacturer: r.name(DESC_LEN)?,
            hardware: r.name(DESC_LEN)?,
            software: r.name(DESC_LEN)?,
            serial_number: r.name(SERIAL_LEN)?,
            datapath: r.name(DESC_LEN)?,
        })
    }
}

/// Sums over flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AggregateStats {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
    /// Flows.
    pub flows: u32,
}

impl AggregateStats {
    pub(super) fn put(self, w: &mut Writer<'_>) {
        w.u64(self.packets);
        w.u64(self.bytes);
        w.u32(self.flows);
        w.zeros(4);
    }

    pub(super) fn take(r: &mut Reader<'_>) -> Result<Self> {
        r.enter("ofp_aggregate_stats");
        let stats = AggregateStats { packets: r.u64()?, bytes: r.u64()?, flows: r.u32()? };
        r.skip(4)?;
        Ok(stats)
    }
}
