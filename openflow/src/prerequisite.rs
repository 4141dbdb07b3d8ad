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

/// Whether a prerequisite is met, of those that look at nothing but the Ethernet type (or the packet type that says it)
/// and the IP protocol.
#[inline]
pub(crate) fn is_met(prerequisite: Prerequisite, network: Option<u16>, protocol: Option<u8>) -> Option<bool> {
    let ip = || matches!(network, Some(0x0800 | 0x86dd));
    Some(match prerequisite {
        Prerequisite::None => true,
        Prerequisite::Pbb => network == Some(0x88e7),
        Prerequisite::Mpls => matches!(network, Some(0x8847 | 0x8848)),
        Prerequisite::Arp => matches!(network, Some(0x0806 | 0x8035)),
        Prerequisite::Ipv4 => network == Some(0x0800),
        Prerequisite::Ipv6 => network == Some(0x86dd),
        Prerequisite::Ip => ip(),
        Prerequisite::Tcp => ip() && protocol == Some(6),
        Prerequisite::Udp => ip() && protocol == Some(17),
        Prerequisite::Sctp => ip() && protocol == Some(132),
        Prerequisite::Icmp => network == Some(0x0800) && protocol == Some(1),
        Prerequisite::Icmpv6 => network == Some(0x86dd) && protocol == Some(58),
        Prerequisite::Nsh => network == Some(0x894f),
        _ => return None,
    })
}

/// What a match lacks that a field requires (OF1.3.5 §7.2.3.8).
pub(crate) fn missing(fields: &Match, field: Field) -> Option<&'static str> {
    let prerequisite = field.prerequisite();
    if prerequisite == Prerequisite::None {
        return None;
    }
    // Neither has more bits.
    let network = network_type(fields).map(|network| network as u16);
    let protocol = fields.exact(Field::IP_PROTO).map(|protocol| protocol as u8);
    let met = |prerequisite| is_met(prerequisite, network, protocol) == Some(true);
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
