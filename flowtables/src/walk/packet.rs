//! A packet as the switch sees it: header fields, registers, metadata.

use std::net::Ipv4Addr;

use openflow::field::Prerequisite;
use openflow::{Field, Flow, Match, OfPort, Subfield, WideField};

use crate::pipeline::register::Register;

/// Field values; a field that was never set is 0.
///
/// Views of the same bits (`xreg0` over `reg0` and `reg1`, `vlan_tci` over `vlan_vid` and `vlan_pcp`) read and write
/// those bits, so that it does not matter by which name a flow speaks of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packet {
    /// Sorted by field, values that are not 0.
    values: Vec<(Field, u128)>,
    /// Tunnel options, sorted by field.
    options: Vec<(Field, Vec<u8>)>,
    /// VLAN tags below the outermost one, innermost first, as `vlan_tci`.
    inner_tags: Vec<u16>,
}

impl From<&Match> for Packet {
    /// The packet that `ofproto/trace` makes of a flow: what is wildcarded is 0.
    fn from(fields: &Match) -> Self {
        let mut packet = Self::default();
        for (field, value, _) in fields.iter() {
            packet.set(field, value);
        }
        for entry in fields.wide() {
            if let WideField::Known(field) = entry.field {
                packet.set_option(field, &entry.value, None);
            }
        }
        packet
    }
}

/// `vlan_vid` and `vlan_tci`: there is a tag at all.
const TAGGED: u128 = 0x1000;
/// Open vSwitch keeps two tags unless told otherwise (`other_config:vlan-limit`).
const MAX_TAGS: usize = 2;

/// A part of a field that is a view: the field that holds the bits, the lowest bit of the view, how many bits.
type Part = (Field, u16, u16);

/// Calls `each` for every part of a field.
fn parts(field: Field, mut each: impl FnMut(Part)) {
    if field < Field::XREG0 || field > Field::XXREG3 {
        match field {
            Field::VLAN_TCI => {
                each((Field::VLAN_VID, 0, 13));
                each((Field::VLAN_PCP, 13, 3));
            }
            whole => each((whole, 0, 128)),
        }
        return;
    }
    for n in 0..8 {
        if Field::xreg(n) == Some(field) {
            for (i, register) in [2 * n + 1, 2 * n].into_iter().zip(0..) {
                each((Field::reg(i).unwrap_or(Field::REG0), 32 * register, 32));
            }
        }
    }
    for n in 0..4 {
        if Field::xxreg(n) == Some(field) {
            for (i, register) in (4 * n..4 * n + 4).rev().zip(0..) {
                each((Field::reg(i).unwrap_or(Field::REG0), 32 * register, 32));
            }
        }
    }
}

impl Packet {
    /// The value of a field.
    #[must_use]
    pub fn get(&self, field: Field) -> u128 {
        match field {
            Field::NW_TOS => return self.stored(Field::IP_DSCP) << 2,
            Field::IN_PORT_16 => return self.stored(Field::IN_PORT) & 0xffff,
            _ => {}
        }
        let mut value = 0;
        parts(field, |(part, shift, bits)| value |= (self.stored(part) & ones(bits)) << shift);
        value
    }

    fn stored(&self, field: Field) -> u128 {
        match self.values.binary_search_by_key(&field, |(field, _)| *field) {
            Ok(at) => self.values.get(at).map_or(0, |(_, value)| *value),
            Err(_) => 0,
        }
    }

    /// The fields that are not 0.
    pub fn fields(&self) -> impl Iterator<Item = (Field, u128)> + '_ {
        self.values.iter().copied()
    }

    /// The value of a named range of register bits.
    #[must_use]
    pub fn register(&self, register: &Register) -> u32 {
        u32::try_from(self.read(register.subfield())).unwrap_or(u32::MAX)
    }

    /// A field that holds an IPv4 address.
    #[must_use]
    pub fn ipv4(&self, field: Field) -> Ipv4Addr {
        Ipv4Addr::from(self.low_32(field))
    }

    /// The port the packet came in through.
    #[must_use]
    pub fn in_port(&self) -> OfPort {
        OfPort(self.low_32(Field::IN_PORT))
    }

    fn low_32(&self, field: Field) -> u32 {
        (self.get(field) & u128::from(u32::MAX)) as u32
    }

    /// Gives a field a value.
    pub fn set(&mut self, field: Field, value: u128) {
        match field {
            Field::NW_TOS => return self.store(Field::IP_DSCP, (value & 0xff) >> 2),
            Field::IN_PORT_16 => return self.store(Field::IN_PORT, port_of_16_bits(value).0.into()),
            _ => {}
        }
        parts(field, |(part, shift, bits)| self.store(part, value >> shift & ones(bits)));
    }

    fn store(&mut self, field: Field, value: u128) {
        match self.values.binary_search_by_key(&field, |(field, _)| *field) {
            Ok(at) if value == 0 => {
                self.values.remove(at);
            }
            Ok(at) => {
                if let Some(slot) = self.values.get_mut(at) {
                    slot.1 = value;
                }
            }
            Err(_) if value == 0 => {}
            Err(at) => self.values.insert(at, (field, value)),
        }
    }

    /// Some bits of a field.
    #[must_use]
    pub fn read(&self, bits: Subfield) -> u128 {
        self.get(bits.field).checked_shr(bits.ofs.into()).unwrap_or(0) & ones(bits.n_bits)
    }

    /// Gives some bits of a field a value. A field whose header the packet does not have stays as it is, as in the
    /// switch; the answer says whether it has.
    pub(super) fn write(&mut self, bits: Subfield, value: u128) -> bool {
        let mask = ones(bits.n_bits).checked_shl(bits.ofs.into()).unwrap_or(0);
        self.write_masked(bits.field, value.checked_shl(bits.ofs.into()).unwrap_or(0), mask)
    }

    pub(super) fn write_masked(&mut self, field: Field, value: u128, mask: u128) -> bool {
        if !self.has(field) {
            return false;
        }
        let rest = self.get(field) & !mask;
        self.set(field, rest | value & mask);
        true
    }

    /// Whether the packet has the header that a field is part of.
    fn has(&self, field: Field) -> bool {
        let proto = |number| self.stored(Field::IP_PROTO) == number;
        let icmpv6 =
            |types: &[u128]| self.is_ipv6() && proto(58) && types.contains(&self.stored(Field::ICMPV6_TYPE));
        match field.info().prerequisite {
            Prerequisite::None | Prerequisite::Ethernet => true,
            Prerequisite::Vlan => self.stored(Field::VLAN_VID) & TAGGED != 0,
            Prerequisite::Pbb => self.stored(Field::ETH_TYPE) == 0x88e7,
            Prerequisite::Mpls => self.is_mpls(),
            Prerequisite::Arp => matches!(self.stored(Field::ETH_TYPE), 0x0806 | 0x8035),
            Prerequisite::Ipv4 => self.is_ipv4(),
            Prerequisite::Ipv6 => self.is_ipv6(),
            Prerequisite::Ip => self.is_ip(),
            Prerequisite::Tcp => self.is_ip() && proto(6) && !self.is_later_fragment(),
            Prerequisite::Udp => self.is_ip() && proto(17) && !self.is_later_fragment(),
            Prerequisite::Sctp => self.is_ip() && proto(132) && !self.is_later_fragment(),
            Prerequisite::Icmp => self.is_ipv4() && proto(1) && !self.is_later_fragment(),
            Prerequisite::Icmpv6 => self.is_ipv6() && proto(58) && !self.is_later_fragment(),
            Prerequisite::Nd => icmpv6(&[135, 136]),
            Prerequisite::NdSolicit => icmpv6(&[135]),
            Prerequisite::NdAdvert => icmpv6(&[136]),
            Prerequisite::Ct => self.stored(Field::CT_STATE) != 0,
            Prerequisite::Nsh => self.stored(Field::ETH_TYPE) == 0x894f,
        }
    }

    fn is_ipv4(&self) -> bool {
        self.stored(Field::ETH_TYPE) == 0x0800
    }

    fn is_ipv6(&self) -> bool {
        self.stored(Field::ETH_TYPE) == 0x86dd
    }

    pub(super) fn is_ip(&self) -> bool {
        self.is_ipv4() || self.is_ipv6()
    }

    pub(super) fn is_mpls(&self) -> bool {
        matches!(self.stored(Field::ETH_TYPE), 0x8847 | 0x8848)
    }

    fn is_later_fragment(&self) -> bool {
        self.stored(Field::IP_FRAG) & 2 != 0
    }

    /// Writes a tunnel option; only bits under `mask`, where there is one.
    pub(super) fn set_option(&mut self, field: Field, value: &[u8], mask: Option<&[u8]>) {
        let found = self.options.binary_search_by_key(&field, |(field, _)| *field);
        let at = found.unwrap_or_else(|at| {
            self.options.insert(at, (field, Vec::new()));
            at
        });
        let Some((_, bytes)) = self.options.get_mut(at) else { return };
        let Some(mask) = mask else {
            *bytes = value.to_vec();
            return;
        };
        // Values are right-aligned: a shorter one lacks leading zeros.
        let length = bytes.len().max(value.len()).max(mask.len());
        let padded = |short: &[u8]| [vec![0; length - short.len()], short.to_vec()].concat();
        let (value, mask) = (padded(value), padded(mask));
        *bytes = padded(bytes)
            .into_iter()
            .zip(value.into_iter().zip(mask))
            .map(|(old, (value, mask))| old & !mask | value & mask)
            .collect();
    }

    pub(super) fn delete_option(&mut self, field: Field) {
        self.options.retain(|(option, _)| *option != field);
    }

    /// Adds a VLAN tag with VID 0; false if the packet has as many tags as the switch keeps.
    pub(super) fn push_vlan(&mut self) -> bool {
        let outer = self.get(Field::VLAN_TCI);
        if outer & TAGGED != 0 {
            if self.inner_tags.len() + 1 >= MAX_TAGS {
                return false;
            }
            self.inner_tags.push((outer & 0xffff) as u16);
        }
        self.set(Field::VLAN_TCI, TAGGED);
        true
    }

    /// Takes the outermost VLAN tag away.
    pub(super) fn pop_vlan(&mut self) {
        let tag = self.inner_tags.pop().unwrap_or(0);
        self.set(Field::VLAN_TCI, tag.into());
    }

    /// Takes away what connection tracking said of the packet.
    pub(super) fn clear_conntrack(&mut self) {
        self.values.retain(|(field, _)| *field < Field::CT_STATE || *field > Field::CT_TP_DST);
    }

    /// Exchanges the packet's addresses with those of its connection's original direction, as `resubmit(,N,ct)`
    /// does for its look-up; false if conntrack has not said them.
    pub(super) fn with_connection(&self) -> Option<Self> {
        if self.stored(Field::CT_NW_PROTO) == 0 || !self.is_ip() {
            return None;
        }
        let mut packet = self.clone();
        let transport = match self.stored(Field::CT_NW_PROTO) {
            6 => Some((Field::TCP_SRC, Field::TCP_DST)),
            17 => Some((Field::UDP_SRC, Field::UDP_DST)),
            132 => Some((Field::SCTP_SRC, Field::SCTP_DST)),
            _ => None,
        };
        let (source, destination) = match self.is_ipv4() {
            true => ((Field::IPV4_SRC, Field::CT_NW_SRC), (Field::IPV4_DST, Field::CT_NW_DST)),
            false => ((Field::IPV6_SRC, Field::CT_IPV6_SRC), (Field::IPV6_DST, Field::CT_IPV6_DST)),
        };
        let mut pairs = vec![source, destination, (Field::IP_PROTO, Field::CT_NW_PROTO)];
        if let Some((from, to)) = transport {
            pairs.extend([(from, Field::CT_TP_SRC), (to, Field::CT_TP_DST)]);
        }
        for (own, connection) in pairs {
            packet.set(own, self.stored(connection));
            packet.set(connection, self.stored(own));
        }
        Some(packet)
    }

    /// The packet as the far end of a tunnel sees it, when it comes in through `port`: its headers, and in the tunnel's
    /// header `sender` and the VNID. Registers, mark and connection stay behind.
    #[must_use]
    pub fn through_tunnel(&self, sender: Ipv4Addr, port: OfPort) -> Self {
        let travels =
            |field: Field| !matches!(field.info().prerequisite, Prerequisite::None | Prerequisite::Ct);
        let mut arrived = Self {
            values: self.fields().filter(|(field, _)| travels(*field)).collect(),
            options: self.options.clone(),
            inner_tags: self.inner_tags.clone(),
        };
        arrived.set(Field::IN_PORT, port.0.into());
        arrived.set(Field::TUN_SRC, u32::from(sender).into());
        arrived.set(Field::TUN_DST, self.stored(Field::TUN_DST));
        arrived.set(Field::TUN_ID, self.stored(Field::TUN_ID));
        arrived
    }

    /// The match that exactly this packet's fields make: what `ofproto/trace` takes for it.
    #[must_use]
    pub fn as_match(&self) -> Match {
        self.fields().fold(Match::new(), |fields, (field, value)| fields.with(field, value))
    }

    /// Whether a flow's match covers the packet.
    #[must_use]
    pub fn hits(&self, flow: &Flow) -> bool {
        flow.fields.iter().all(|(field, value, mask)| self.get(field) & mask == value) && self.hits_wide(flow)
    }

    /// The part of a match that is wider than 128 bits. Fields that are unknown do not speak against it.
    pub(super) fn hits_wide(&self, flow: &Flow) -> bool {
        flow.fields.wide().all(|entry| {
            let WideField::Known(field) = entry.field else { return true };
            // A match on an option asks that it be there, whatever its value.
            let Some((_, bytes)) = self.options.iter().find(|(option, _)| *option == field) else {
                return false;
            };
            let length = bytes.len().max(entry.value.len());
            let at = |short: &[u8], n: usize| {
                (n + short.len()).checked_sub(length).and_then(|n| short.get(n).copied()).unwrap_or(0)
            };
            (0..length).all(|n| {
                let mask = entry.mask.as_ref().map_or(0xff, |mask| at(mask, n));
                at(bytes, n) & mask == at(&entry.value, n)
            })
        })
    }
}

/// The port that 16 bits of a field name: the reserved ones stand at the end of either range.
pub(super) fn port_of_16_bits(value: u128) -> OfPort {
    let value = (value & 0xffff) as u32;
    OfPort(if value >= 0xff00 { value | 0xffff_0000 } else { value })
}

fn ones(bits: u16) -> u128 {
    if bits >= 128 { u128::MAX } else { (1 << bits) - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(text: &str) -> Packet {
        Packet::from(&text.parse::<Match>().unwrap_or_else(|error| panic!("{text}: {error}")))
    }

    fn hits(packet: &Packet, fields: &str) -> bool {
        packet.hits(&format!("{fields},actions=drop").parse().unwrap())
    }

    #[test]
    fn registers_are_seen_through_every_view() {
        let mut seen = packet("reg0=0x1,reg1=0x2,reg2=3,reg3=4");
        assert_eq!(seen.get(Field::XREG0), 0x1_0000_0002);
        assert_eq!(seen.get(Field::XXREG0), 0x1_0000_0002_0000_0003_0000_0004);
        seen.set(Field::XREG1, 0x5_0000_0006);
        assert_eq!((seen.get(Field::REG2), seen.get(Field::REG3)), (5, 6));
        seen.write(Subfield { field: Field::XXREG0, ofs: 64, n_bits: 16 }, 0xffff);
        assert_eq!(seen.get(Field::REG1), 0xffff);
        assert!(hits(&seen, "xreg0=0x10000ffff"));
        assert!(!hits(&seen, "xxreg0=0x10000ffff"));
    }

    #[test]
    fn tags_stack() {
        let mut tagged = packet("ip,dl_vlan=7,dl_vlan_pcp=3");
        assert_eq!(tagged.get(Field::VLAN_TCI), 0x7007);
        assert!(tagged.push_vlan());
        assert!(hits(&tagged, "dl_vlan=0"));
        assert!(!tagged.push_vlan(), "the switch keeps two");
        tagged.pop_vlan();
        assert!(hits(&tagged, "dl_vlan=7,dl_vlan_pcp=3"));
        tagged.pop_vlan();
        assert!(hits(&tagged, "vlan_tci=0"));
    }

    #[test]
    fn what_has_no_such_header_is_not_written() {
        let mut arp = packet("arp,arp_spa=10.0.0.1");
        assert!(!arp.write_masked(Field::IPV4_DST, 5, u128::MAX));
        assert!(arp.write_masked(Field::ARP_TPA, 5, 0xffff_ffff));
        assert_eq!((arp.get(Field::IPV4_DST), arp.get(Field::ARP_TPA)), (0, 5));
    }

    #[test]
    fn tunnel_options_are_there_or_not() {
        let option = Field::tun_metadata(0).unwrap();
        let mut sent = packet("ip");
        assert!(!hits(&sent, "tun_metadata0=0x7"));
        sent.set_option(option, &[0, 0, 0, 7], None);
        assert!(hits(&sent, "tun_metadata0=0x7"));
        sent.set_option(option, &[1, 0], Some(&[0xff, 0]));
        assert!(hits(&sent, "tun_metadata0=0x107"));
        assert!(hits(&sent, "tun_metadata0=0x100/0xf00"));
        sent.delete_option(option);
        assert!(!hits(&sent, "tun_metadata0=0x107"));
    }
}
