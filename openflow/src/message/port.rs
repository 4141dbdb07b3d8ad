//! Ports of a switch (OF1.3.5 §7.2.1, §7.4.3).

use std::fmt;

use super::ErrorCode;
use crate::port::OfPort;
use crate::wire::{Reader, Result, Writer};

/// Bytes of a port's name.
const NAME_LEN: usize = 16;
/// Bytes of `ofp_port`.
pub(super) const PORT_LEN: usize = 64;

/// An Ethernet address.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr(pub [u8; 6]);

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The value of a field such as `eth_src`.
impl From<MacAddr> for u128 {
    fn from(mac: MacAddr) -> Self {
        mac.0.iter().fold(0, |acc, &byte| acc << 8 | u128::from(byte))
    }
}

/// A port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortDesc {
    /// Its number.
    pub port: OfPort,
    /// Its address.
    pub hw_addr: MacAddr,
    /// Its name, up to 15 bytes.
    pub name: String,
    /// How it is set up.
    pub config: PortConfig,
    /// How it is.
    pub state: PortState,
    /// Current features, `OFPPF_*`.
    pub current: u32,
    /// Features that it advertises.
    pub advertised: u32,
    /// Features that it supports.
    pub supported: u32,
    /// Features that its peer advertises.
    pub peer: u32,
    /// Current speed in kbit/s.
    pub current_speed: u32,
    /// Maximum speed in kbit/s.
    pub max_speed: u32,
}

/// `OFPPC_*`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortConfig(pub u32);

impl PortConfig {
    /// Administratively down.
    pub const PORT_DOWN: u32 = 1;
    /// Drop what it receives.
    pub const NO_RECV: u32 = 1 << 2;
    /// Drop what is forwarded to it.
    pub const NO_FWD: u32 = 1 << 5;
    /// No packet-ins from it.
    pub const NO_PACKET_IN: u32 = 1 << 6;
}

/// `OFPPS_*`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortState(pub u32);

impl PortState {
    /// No link.
    pub const LINK_DOWN: u32 = 1;
    /// Blocked by a protocol such as spanning tree.
    pub const BLOCKED: u32 = 1 << 1;
    /// Live, for fast failover groups.
    pub const LIVE: u32 = 1 << 2;
}

impl PortDesc {
    pub(super) fn put(&self, w: &mut Writer<'_>) {
        w.u32(self.port.0);
        w.zeros(4);
        w.bytes(&self.hw_addr.0);
        w.zeros(2);
        w.name(&self.name, NAME_LEN);
        w.u32(self.config.0);
        w.u32(self.state.0);
        w.u32(self.current);
        w.u32(self.advertised);
        w.u32(self.supported);
        w.u32(self.peer);
        w.u32(self.current_speed);
        w.u32(self.max_speed);
    }

    pub(super) fn take(r: &mut Reader<'_>) -> Result<Self> {
        let mut r = r.sub(PORT_LEN, "ofp_port")?;
        let port = OfPort(r.u32()?);
        r.skip(4)?;
        let hw_addr = MacAddr(r.mac()?);
        r.skip(2)?;
        let name = r.name(NAME_LEN)?;
        Ok(PortDesc {
            port,
            hw_addr,
            name,
            config: PortConfig(r.u32()?),
            state: PortState(r.u32()?),
            current: r.u32()?,
            advertised: r.u32()?,
            supported: r.u32()?,
            peer: r.u32()?,
            current_speed: r.u32()?,
            max_speed: r.u32()?,
        })
    }
}

/// `OFPT_PORT_STATUS`: a port came, went or changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortStatus {
    /// What happened.
    pub reason: PortReason,
    /// The port as it is now, or was.
    pub desc: PortDesc,
}

/// `OFPPR_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PortReason {
    /// It is new.
    Add,
    /// It is gone.
    Delete,
    /// It changed.
    Modify,
}

impl PortStatus {
    pub(super) fn put(&self, w: &mut Writer<'_>) {
        w.u8(match self.reason {
            PortReason::Add => 0,
            PortReason::Delete => 1,
            PortReason::Modify => 2,
        });
        w.zeros(7);
        self.desc.put(w);
    }

    pub(super) fn take(r: &mut Reader<'_>) -> Result<Self> {
        let reason = match r.u8()? {
            0 => PortReason::Add,
            1 => PortReason::Delete,
            2 => PortReason::Modify,
            _ => return Err(r.invalid(ErrorCode::NXBRC_BAD_REASON)),
        };
        r.skip(7)?;
        Ok(PortStatus { reason, desc: PortDesc::take(r)? })
    }
}
