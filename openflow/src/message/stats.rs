//! Statistics of tables, ports, queues, groups and meters (OF1.3.5 §7.3.5).

use std::time::Duration;

use super::change::{Meter, MeterFlags, put_bands, take_bands};
use crate::codec::flow::take_duration;
use crate::port::OfPort;
use crate::wire::{Reader, Result, Writer};

/// Counters of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableStats {
    /// The table.
    pub table: u8,
    /// Flows in it.
    pub active: u32,
    /// Packets looked up.
    pub lookups: u64,
    /// Packets that matched.
    pub matched: u64,
}

impl TableStats {
    pub(super) fn put(&self, w: &mut Writer<'_>) {
        w.u8(self.table);
        w.zeros(3);
        w.u32(self.active);
        w.u64(self.lookups);
        w.u64(self.matched);
    }

    pub(super) fn take(r: &mut Reader<'_>) -> Result<Self> {
        r.enter("ofp_table_stats");
        let table = r.u8()?;
        r.skip(3)?;
        Ok(TableStats { table, active: r.u32()?, lookups: r.u64()?, matched: r.u64()? })
    }
}

/// Counters of a port; all ones where the switch does not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // The names say it.
pub struct PortStats {
    pub port: OfPort,
    pub rx_packets: u64,
    pub tx_packets: u64,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    pub rx_dropped: u64,
    pub tx_dropped: u64,
    pub rx_errors: u64,
    pub tx_errors: u64,
    pub rx_frame_errors: u64,
    pub rx_overrun_errors: u64,
    pub rx_crc_errors: u64,
    pub collisions: u64,
    /// How long the port has been there.
    pub duration: Duration,
}

fn put_duration(w: &mut Writer<'_>, duration: Duration) {
    w.u32(duration.as_secs() as u32);
    w.u32(duration.subsec_nanos());
}

impl PortStats {
    pub(super) fn put(&self, w: &mut Writer<'_>) {
        w.u32(self.port.0);
        w.zeros(4);
        [
            self.rx_packets,
            self.tx_packets,
            self.rx_bytes,
            self.tx_bytes,
            self.rx_dropped,
            self.tx_dropped,
            self.rx_errors,
            self.tx_errors,
            self.rx_frame_errors,
            self.rx_overrun_errors,
            self.rx_crc_errors,
            self.collisions,
        ]
        .iter()
        .for_each(|count| w.u64(*count));
        put_duration(w, self.duration);
    }

    pub(super) fn take(r: &mut Reader<'_>) -> Result<Self> {
        r.enter("ofp_port_stats");
        let port = OfPort(r.u32()?);
        r.skip(4)?;
        Ok(PortStats {
            port,
            rx_packets: r.u64()?,
            tx_packets: r.u64()?,
            rx_bytes: r.u64()?,
            tx_bytes: r.u64()?,
            rx_dropped: r.u64()?,
            tx_dropped: r.u64()?,
            rx_errors: r.u64()?,
            tx_errors: r.u64()?,
            rx_frame_errors: r.u64()?,
            rx_overrun_errors: r.u64()?,
            rx_crc_errors: r.u64()?,
            collisions: r.u64()?,
            duration: take_duration(r)?,
        })
    }
}

/// Counters of a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueStats {
    /// Its port.
    pub port: OfPort,
    /// Its number.
    pub queue: u32,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Packets dropped for lack of room.
    pub tx_errors: u64,
    /// How long the queue has been there.
    pub duration: Duration,
}

impl QueueStats {
    pub(super) fn put(&self, w: &mut Writer<'_>) {
        w.u32(self.port.0);
        w.u32(self.queue);
        w.u64(self.tx_bytes);
        w.u64(self.tx_packets);
        w.u64(self.tx_errors);
        put_duration(w, self.duration);
    }

    pub(super) fn take(r: &mut Reader<'_>) -> Result<Self> {
        r.enter("ofp_queue_stats");
        Ok(QueueStats {
            port: OfPort(r.u32()?),
            queue: r.u32()?,
            tx_bytes: r.u64()?,
            tx_packets: r.u64()?,
            tx_errors: r.u64()?,
            duration: take_duration(r)?,
        })
    }
}

/// Packets and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Counters {
    fn put(self, w: &mut Writer<'_>) {
        w.u64(self.packets);
        w.u64(self.bytes);
    }

    fn take(r: &mut Reader<'_>) -> Result<Self> {
        Ok(Counters { packets: r.u64()?, bytes: r.u64()? })
    }

    fn take_all(r: &mut Reader<'_>) -> Result<Vec<Self>> {
        let mut all = Vec::new();
        while !r.is_empty() {
            all.push(Counters::take(r)?);
        }
        Ok(all)
    }
}

/// Counters of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupStats {
    /// The group.
    pub id: u32,
    /// Flows and groups that use it.
    pub ref_count: u32,
    /// What went through it.
    pub total: Counters,
    /// How long it has been there.
    pub duration: Duration,
    /// What went through each bucket.
    pub buckets: Vec<Counters>,
}

impl GroupStats {
    pub(super) fn put(&self, w: &mut Writer<'_>) {
        let start = w.len();
        w.u16(0);
        w.zeros(2);
        w.u32(self.id);
        w.u32(self.ref_count);
        w.zeros(4);
        self.total.put(w);
        put_duration(w, self.duration);
        self.buckets.iter().for_each(|bucket| bucket.put(w));
        w.patch_len(start, start, "ofp_group_stats");
    }

    pub(super) fn take(r: &mut Reader<'_>) -> Result<Self> {
        r.enter("ofp_group_stats");
        let len = r.u16()?;
        let mut body = r.sub(r.body_len(len, 2)?, "ofp_group_stats")?;
        body.skip(2)?;
        let (id, ref_count) = (body.u32()?, body.u32()?);
        body.skip(4)?;
        let total = Counters::take(&mut body)?;
        let duration = take_duration(&mut body)?;
        Ok(GroupStats { id, ref_count, total, duration, buckets: Counters::take_all(&mut body)? })
    }
}

/// What groups a switch can have; arrays are by type: all, select, indirect, fast failover.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupFeatures {
    /// Types, as a bitmap.
    pub types: u32,
    /// `OFPGFC_*`.
    pub capabilities: u32,
    /// Most groups of each type.
    pub max_groups: [u32; 4],
    /// Actions of each type, as a bitmap of `OFPAT_*`.
    pub actions: [u32; 4],
}

impl GroupFeatures {
    pub(super) fn put(&self, w: &mut Writer<'_>) {
        w.u32(self.types);
        w.u32(self.capabilities);
        self.max_groups.iter().chain(&self.actions).for_each(|n| w.u32(*n));
    }

    pub(super) fn take(r: &mut Reader<'_>) -> Result<Self> {
        r.enter("ofp_group_features");
        let (types, capabilities) = (r.u32()?, r.u32()?);
        let mut four = || Result::Ok([r.u32()?, r.u32()?, r.u32()?, r.u32()?]);
        Ok(GroupFeatures { types, capabilities, max_groups: four()?, actions: four()? })
    }
}

/// Counters of a meter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MeterStats {
    /// The meter.
    pub id: u32,
    /// Flows that use it.
    pub flow_count: u32,
    /// What came in.
    pub total: Counters,
    /// How long it has been there.
    pub duration: Duration,
    /// What each band took.
    pub bands: Vec<Counters>,
}

impl MeterStats {
    pub(super) fn put(&self, w: &mut Writer<'_>) {
        let start = w.len();
        w.u32(self.id);
        w.u16(0);
        w.zeros(6);
        w.u32(self.flow_count);
        self.total.put(w);
        put_duration(w, self.duration);
        self.bands.iter().for_each(|band| band.put(w));
        w.patch_len(start + 4, start, "ofp_meter_stats");
    }

    pub(super) fn take(r: &mut Reader<'_>) -> Result<Self> {
        r.enter("ofp_meter_stats");
        let id = r.u32()?;
        let len = r.u16()?;
        let mut body = r.sub(r.body_len(len, 6)?, "ofp_meter_stats")?;
        body.skip(6)?;
        let flow_count = body.u32()?;
        let total = Counters::take(&mut body)?;
        let duration = take_duration(&mut body)?;
        Ok(MeterStats { id, flow_count, total, duration, bands: Counters::take_all(&mut body)? })
    }
}

/// What meters a switch can have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MeterFeatures {
    /// Most meters.
    pub max_meters: u32,
    /// Types of bands, as a bitmap.
    pub band_types: u32,
    /// `OFPMF_*`.
    pub capabilities: u32,
    /// Most bands of a meter.
    pub max_bands: u8,
    /// Most colors.
    pub max_color: u8,
}

impl MeterFeatures {
    pub(super) fn put(&self, w: &mut Writer<'_>) {
        w.u32(self.max_meters);
        w.u32(self.band_types);
        w.u32(self.capabilities);
        w.u8(self.max_bands);
        w.u8(self.max_color);
        w.zeros(2);
    }

    pub(super) fn take(r: &mut Reader<'_>) -> Result<Self> {
        r.enter("ofp_meter_features");
        let features = MeterFeatures {
            max_meters: r.u32()?,
            band_types: r.u32()?,
            capabilities: r.u32()?,
            max_bands: r.u8()?,
            max_color: r.u8()?,
        };
        r.skip(2)?;
        Ok(features)
    }
}

/// `ofp_meter_config`: a meter as the switch has it.
pub(super) fn put_meter_config(w: &mut Writer<'_>, meter: &Meter) {
    let start = w.len();
    w.u16(0);
    w.u16(meter.flags.0);
    w.u32(meter.id);
    put_bands(w, &meter.bands);
    w.patch_len(start, start, "ofp_meter_config");
}

pub(super) fn take_meter_config(r: &mut Reader<'_>) -> Result<Meter> {
    r.enter("ofp_meter_config");
    let len = r.u16()?;
    let mut body = r.sub(r.body_len(len, 2)?, "ofp_meter_config")?;
    let (flags, id) = (MeterFlags(body.u16()?), body.u32()?);
    Ok(Meter { id, flags, bands: take_bands(&mut body)? })
}
