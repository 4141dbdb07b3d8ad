//! Changes to ports, tables and meters (OF1.3.5 §7.3.4.3, §7.3.3, §7.3.4.4).

use super::ErrorCode;
use super::port::MacAddr;
use crate::port::OfPort;
use crate::wire::{Reader, Result, Writer};

/// `OFPT_PORT_MOD`: sets a port up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortMod {
    /// The port.
    pub port: OfPort,
    /// Its address, so that the right port is meant; it cannot be changed here.
    pub hw_addr: MacAddr,
    /// `OFPPC_*`: new values ...
    pub config: u32,
    /// ... of these bits.
    pub mask: u32,
    /// Features to advertise (`OFPPF_*`); 0 leaves them.
    pub advertise: u32,
}

impl PortMod {
    pub(super) fn put(&self, w: &mut Writer<'_>) {
        w.u32(self.port.0);
        w.zeros(4);
        w.bytes(&self.hw_addr.0);
        w.zeros(2);
        w.u32(self.config);
        w.u32(self.mask);
        w.u32(self.advertise);
        w.zeros(4);
    }

    pub(super) fn take(r: &mut Reader<'_>) -> Result<Self> {
        let port = OfPort(r.u32()?);
        r.skip(4)?;
        let hw_addr = MacAddr(r.mac()?);
        r.skip(2)?;
        let (config, mask, advertise) = (r.u32()?, r.u32()?, r.u32()?);
        r.skip(4)?;
        Ok(PortMod { port, hw_addr, config, mask, advertise })
    }
}

/// `OFPT_TABLE_MOD`: sets a table up. In OpenFlow 1.3 nothing can be set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableMod {
    /// The table; 255 for all.
    pub table: u8,
    /// `OFPTC_*`; all deprecated.
    pub config: u32,
}

impl TableMod {
    pub(super) fn put(self, w: &mut Writer<'_>) {
        w.u8(self.table);
        w.zeros(3);
        w.u32(self.config);
    }

    pub(super) fn take(r: &mut Reader<'_>) -> Result<Self> {
        let table = r.u8()?;
        r.skip(3)?;
        Ok(TableMod { table, config: r.u32()? })
    }
}

/// A meter: limits the rate of the packets that flows send through it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meter {
    /// Number, from 1 to 0xffff0000.
    pub id: u32,
    /// `OFPMF_*`.
    pub flags: MeterFlags,
    /// What happens above which rate.
    pub bands: Vec<MeterBand>,
}

impl Meter {
    /// Highest number of an ordinary meter (`OFPM_MAX`).
    pub const MAX: u32 = 0xffff_0000;
    /// What goes through the slow path of the switch (`OFPM_SLOWPATH`).
    pub const SLOWPATH: u32 = 0xffff_fffd;
    /// What goes to controllers (`OFPM_CONTROLLER`).
    pub const CONTROLLER: u32 = 0xffff_fffe;
    /// All meters, where a meter is a filter (`OFPM_ALL`).
    pub const ALL: u32 = 0xffff_ffff;
}

/// `OFPMF_*`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MeterFlags(pub u16);

impl MeterFlags {
    /// Rates are in kbit/s.
    pub const KBPS: u16 = 1;
    /// Rates are in packets/s.
    pub const PKTPS: u16 = 2;
    /// Bands have burst sizes.
    pub const BURST: u16 = 4;
    /// Collect statistics.
    pub const STATS: u16 = 8;
}

/// `ofp_meter_band_*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MeterBand {
    /// Drop what is above the rate.
    Drop {
        /// Rate, in the unit of the meter's flags.
        rate: u32,
        /// Burst, in kilobits or packets.
        burst: u32,
    },
    /// Raise the drop precedence of what is above the rate.
    DscpRemark {
        /// Rate, in the unit of the meter's flags.
        rate: u32,
        /// Burst, in kilobits or packets.
        burst: u32,
        /// By how much the precedence rises.
        precedence: u8,
    },
    /// A band that we don't know, with its header.
    Unknown {
        /// Type.
        kind: u16,
        /// All of its bytes, header included.
        raw: Vec<u8>,
    },
}

const BAND_DROP: u16 = 1;
const BAND_DSCP_REMARK: u16 = 2;
/// Bytes of a band of a known type.
const BAND_LEN: u16 = 16;

impl MeterBand {
    fn put(&self, w: &mut Writer<'_>) {
        let header = |w: &mut Writer<'_>, kind: u16, rate: u32, burst: u32| {
            w.u16(kind);
            w.u16(BAND_LEN);
            w.u32(rate);
            w.u32(burst);
        };
        match self {
            MeterBand::Drop { rate, burst } => {
                header(w, BAND_DROP, *rate, *burst);
                w.zeros(4);
            }
            MeterBand::DscpRemark { rate, burst, precedence } => {
                header(w, BAND_DSCP_REMARK, *rate, *burst);
                w.u8(*precedence);
                w.zeros(3);
            }
            MeterBand::Unknown { raw, .. } => w.bytes(raw),
        }
    }

    fn take(r: &mut Reader<'_>) -> Result<Self> {
        r.enter("ofp_meter_band");
        let whole = r.peek();
        let (kind, len) = (r.u16()?, r.u16()?);
        if len < BAND_LEN - 4 {
            return Err(r.invalid(ErrorCode::BRC_BAD_LEN));
        }
        let mut body = r.sub(r.body_len(len, 4)?, "ofp_meter_band")?;
        let (rate, burst) = (body.u32()?, body.u32()?);
        match (kind, len) {
            (BAND_DROP, BAND_LEN) => Ok(MeterBand::Drop { rate, burst }),
            (BAND_DSCP_REMARK, BAND_LEN) => Ok(MeterBand::DscpRemark { rate, burst, precedence: body.u8()? }),
            (BAND_DROP | BAND_DSCP_REMARK, _) => Err(r.invalid(ErrorCode::BRC_BAD_LEN)),
            _ => {
                Ok(MeterBand::Unknown { kind, raw: whole.get(..usize::from(len)).unwrap_or(whole).to_vec() })
            }
        }
    }
}

pub(super) fn put_bands(w: &mut Writer<'_>, bands: &[MeterBand]) {
    bands.iter().for_each(|band| band.put(w));
}

pub(super) fn take_bands(r: &mut Reader<'_>) -> Result<Vec<MeterBand>> {
    let mut bands = Vec::new();
    while !r.is_empty() {
        bands.push(MeterBand::take(r)?);
    }
    Ok(bands)
}

/// `OFPMC_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MeterModCommand {
    /// Add; it must not exist.
    Add,
    /// Replace; it must exist.
    Modify,
    /// Delete, with every flow that uses it.
    Delete,
}

/// `OFPT_METER_MOD`: a change to the meters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeterMod {
    /// What to do.
    pub command: MeterModCommand,
    /// The meter; for a delete only its number counts, 0xffffffff being all.
    pub meter: Meter,
}

impl MeterMod {
    pub(super) fn put(&self, w: &mut Writer<'_>) {
        w.u16(match self.command {
            MeterModCommand::Add => 0,
            MeterModCommand::Modify => 1,
            MeterModCommand::Delete => 2,
        });
        w.u16(self.meter.flags.0);
        w.u32(self.meter.id);
        put_bands(w, &self.meter.bands);
    }

    pub(super) fn take(r: &mut Reader<'_>) -> Result<Self> {
        let command = match r.u16()? {
            0 => MeterModCommand::Add,
            1 => MeterModCommand::Modify,
            2 => MeterModCommand::Delete,
            _ => return Err(r.invalid(ErrorCode::MMFC_BAD_COMMAND)),
        };
        let (flags, id) = (MeterFlags(r.u16()?), r.u32()?);
        Ok(MeterMod { command, meter: Meter { id, flags, bands: take_bands(r)? } })
    }
}
