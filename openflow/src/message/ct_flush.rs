//! `NXT_CT_FLUSH`: forget tracked connections.

use std::net::{IpAddr, Ipv6Addr};

use super::{ErrorCode, property};
use crate::wire::{Reader, Result, Writer};

/// Which connections to forget; what is not given matches any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CtFlush {
    /// IP protocol; 0 for any.
    pub ip_proto: u8,
    /// Zone.
    pub zone: Option<u16>,
    /// Addresses and ports of the original direction.
    pub original: CtTuple,
    /// Addresses and ports of the reply direction.
    pub reply: CtTuple,
}

/// One direction of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CtTuple {
    /// Source address.
    pub src: Option<IpAddr>,
    /// Destination address.
    pub dst: Option<IpAddr>,
    /// Source port.
    pub src_port: Option<u16>,
    /// Destination port.
    pub dst_port: Option<u16>,
    /// ICMP identifier.
    pub icmp_id: Option<u16>,
    /// ICMP type.
    pub icmp_type: Option<u8>,
    /// ICMP code.
    pub icmp_code: Option<u8>,
}

/// Properties of the message.
mod flush {
    pub(super) const ORIGINAL: u16 = 0;
    pub(super) const REPLY: u16 = 1;
    pub(super) const ZONE: u16 = 2;
}

/// Properties of a tuple.
mod tuple {
    pub(super) const SRC: u16 = 0;
    pub(super) const DST: u16 = 1;
    pub(super) const SRC_PORT: u16 = 2;
    pub(super) const DST_PORT: u16 = 3;
    pub(super) const ICMP_ID: u16 = 4;
    pub(super) const ICMP_TYPE: u16 = 5;
    pub(super) const ICMP_CODE: u16 = 6;
}

impl CtFlush {
    pub(super) fn put(&self, w: &mut Writer<'_>) {
        w.u8(self.ip_proto);
        w.zeros(7);
        for (kind, direction) in [(flush::ORIGINAL, &self.original), (flush::REPLY, &self.reply)] {
            if *direction != CtTuple::default() {
                property::put(w, kind, |w| direction.put(w));
            }
        }
        if let Some(zone) = self.zone {
            property::put(w, flush::ZONE, |w| w.u16(zone));
        }
    }

    pub(super) fn take(r: &mut Reader<'_>) -> Result<Self> {
        let mut request = CtFlush { ip_proto: r.u8()?, ..CtFlush::default() };
        r.skip(7)?;
        while !r.is_empty() {
            let (kind, mut value) = property::take(r)?;
            match kind {
                flush::ORIGINAL => request.original = CtTuple::take(&mut value)?,
                flush::REPLY => request.reply = CtTuple::take(&mut value)?,
                flush::ZONE => request.zone = Some(value.u16()?),
                // To leave a condition out would flush more than was meant.
                _ => return Err(value.invalid(ErrorCode::BPC_BAD_TYPE)),
            }
        }
        Ok(request)
    }
}

impl CtTuple {
    fn put(&self, w: &mut Writer<'_>) {
        // Nested properties start on a multiple of 8 bytes.
        w.zeros(4);
        for (kind, address) in [(tuple::SRC, self.src), (tuple::DST, self.dst)] {
            if let Some(address) = address {
                let v6 = match address {
                    IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                    IpAddr::V6(v6) => v6,
                };
                property::put(w, kind, |w| w.bytes(&v6.octets()));
            }
        }
        for (kind, port) in [
            (tuple::SRC_PORT, self.src_port),
            (tuple::DST_PORT, self.dst_port),
            (tuple::ICMP_ID, self.icmp_id),
        ] {
            if let Some(port) = port {
                property::put(w, kind, |w| w.u16(port));
            }
        }
        for (kind, number) in [(tuple::ICMP_TYPE, self.icmp_type), (tuple::ICMP_CODE, self.icmp_code)] {
            if let Some(number) = number {
                property::put(w, kind, |w| w.u8(number));
            }
        }
    }

    fn take(r: &mut Reader<'_>) -> Result<Self> {
        let mut found = CtTuple::default();
        r.skip(4)?;
        while !r.is_empty() {
            let (kind, mut value) = property::take(r)?;
            match kind {
                tuple::SRC => found.src = Some(take_address(&mut value)?),
                tuple::DST => found.dst = Some(take_address(&mut value)?),
                tuple::SRC_PORT => found.src_port = Some(value.u16()?),
                tuple::DST_PORT => found.dst_port = Some(value.u16()?),
                tuple::ICMP_ID => found.icmp_id = Some(value.u16()?),
                tuple::ICMP_TYPE => found.icmp_type = Some(value.u8()?),
                tuple::ICMP_CODE => found.icmp_code = Some(value.u8()?),
                _ => return Err(value.invalid(ErrorCode::BPC_BAD_TYPE)),
            }
        }
        Ok(found)
    }
}

/// An IPv6 address, or an IPv4 address mapped into one.
fn take_address(r: &mut Reader<'_>) -> Result<IpAddr> {
    Ok(Ipv6Addr::from(r.u128()?).to_canonical())
}
