//! What a match must contain besides a field (OF1.3.5 §7.2.3.8).

use crate::field::{Field, Prerequisite};
use crate::flow_match::Match;

/// The Ethernet type, of the packet type where that says it.
pub(crate) fn network_type(fields: &Match) -> Option<u128> {
    fields.exact(Field::ETH_TYPE).or_else(|| {
        let packet_type = fields.exact(Field::PACKET_TYPE)?;
        (packet_type >> 16 == 1).then_some(packet_type & 0xffff)
    })
}

/// Prerequisites that are met, of those that look at nothing but the Ethernet type (or the packet type that says it) and
/// the IP protocol: a bit each.
#[derive(Clone, Copy)]
pub(crate) struct Met(u32);

impl Met {
    /// Those that every match meets.
    pub(crate) const fn always() -> Met {
        Met(bit(Prerequisite::None))
    }

    /// Adds those that the exact value of a field meets, after the fields that it requires itself.
    #[inline(never)] // Once or twice a match; what reads one is short of registers.
    pub(crate) fn with(self, field: Field, value: u64) -> Met {
        use Prerequisite as P;
        const IP: u32 = bit(P::Ip);
        let has = |prerequisite| self.has(prerequisite);
        let more = match (field, value) {
            (Field::ETH_TYPE, 0x0800) => IP | bit(P::Ipv4),
            (Field::ETH_TYPE, 0x86dd) => IP | bit(P::Ipv6),
            (Field::ETH_TYPE, 0x0806 | 0x8035) => bit(P::Arp),
            (Field::ETH_TYPE, 0x8847 | 0x8848) => bit(P::Mpls),
            (Field::ETH_TYPE, 0x88e7) => bit(P::Pbb),
            (Field::ETH_TYPE, 0x894f) => bit(P::Nsh),
            (Field::IP_PROTO, 6) if has(P::Ip) => bit(P::Tcp),
            (Field::IP_PROTO, 17) if has(P::Ip) => bit(P::Udp),
            (Field::IP_PROTO, 132) if has(P::Ip) => bit(P::Sctp),
            (Field::IP_PROTO, 1) if has(P::Ipv4) => bit(P::Icmp),
            (Field::IP_PROTO, 58) if has(P::Ipv6) => bit(P::Icmpv6),
            _ => 0,
        };
        Met(self.0 | more)
    }

    /// Whether a prerequisite is among them.
    #[inline]
    pub(crate) fn has(self, prerequisite: Prerequisite) -> bool {
        self.0 & bit(prerequisite) != 0
    }
}

const fn bit(prerequisite: Prerequisite) -> u32 {
    1 << prerequisite as u32
}

/// What a match lacks that a field requires (OF1.3.5 §7.2.3.8).
pub(crate) fn missing(fields: &Match, field: Field) -> Option<&'static str> {
    let prerequisite = field.prerequisite();
    if prerequisite == Prerequisite::None {
        return None;
    }
    let values = [(Field::ETH_TYPE, network_type(fields)), (Field::IP_PROTO, fields.exact(Field::IP_PROTO))];
    let all = values.into_iter().fold(Met::always(), |met, (field, value)| match value {
        // Neither has more bits.
        Some(value) => met.with(field, value as u64),
        None => met,
    });
    let met = |prerequisite| all.has(prerequisite);
    let icmpv6 = |types: &[u128]| {
        met(Prerequisite::Icmpv6)
            && fields.exact(Field::ICMPV6_TYPE).is_some_and(|t| types.contains(&t))
            && fields.exact(Field::ICMPV6_CODE).is_none_or(|code| code == 0)
    };
    let (met, name) = match prerequisite {
        Prerequisite::Ethernet => {
            let is_ethernet = fields.exact(Field::PACKET_TYPE).is_none_or(|packet_type| packet_type == 0);
            (is_ethernet, "an Ethernet packet type")
        }
        Prerequisite::Vlan => {
            let tagged = [Field::VLAN_VID, Field::VLAN_TCI]
                .into_iter()
                .any(|field| fields.get(field).is_some_and(|(value, _)| value & 0x1000 != 0));
            (tagged, "dl_vlan")
        }
        Prerequisite::None => (true, ""),
        Prerequisite::Pbb => (met(prerequisite), "dl_type=0x88e7"),
        Prerequisite::Mpls => (met(prerequisite), "mpls or mplsm"),
        Prerequisite::Arp => (met(prerequisite), "arp or rarp"),
        Prerequisite::Ipv4 => (met(prerequisite), "ip"),
        Prerequisite::Ipv6 => (met(prerequisite), "ipv6"),
        Prerequisite::Ip => (met(prerequisite), "ip or ipv6"),
        Prerequisite::Tcp => (met(prerequisite), "tcp or tcp6"),
        Prerequisite::Udp => (met(prerequisite), "udp or udp6"),
        Prerequisite::Sctp => (met(prerequisite), "sctp or sctp6"),
        Prerequisite::Icmp => (met(prerequisite), "icmp"),
        Prerequisite::Icmpv6 => (met(prerequisite), "icmp6"),
        Prerequisite::Nd => (icmpv6(&[135, 136]), "icmp6 with icmp_type=135 or 136"),
        Prerequisite::NdSolicit => (icmpv6(&[135]), "icmp6 with icmp_type=135"),
        Prerequisite::NdAdvert => (icmpv6(&[136]), "icmp6 with icmp_type=136"),
        Prerequisite::Ct => {
            // Open vSwitch wants one of new, est, rel, rpl; "tracked" is not enough.
            let state = fields.get(Field::CT_STATE).is_some_and(|(v, m)| v & m & 0xf != 0);
            (state && met(Prerequisite::Ip), "ip or ipv6 and ct_state with +new, +est, +rel or +rpl")
        }
        Prerequisite::Nsh => (met(prerequisite), "dl_type=0x894f"),
    };
    (!met).then_some(name)
}
