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

/// What a match lacks that a field requires (OF1.3.5 §7.2.3.8).
pub(crate) fn missing(fields: &Match, field: Field) -> Option<&'static str> {
    let dl_type = || network_type(fields);
    let ipv4 = || dl_type() == Some(0x0800);
    let ipv6 = || dl_type() == Some(0x86dd);
    let ip = || matches!(dl_type(), Some(0x0800 | 0x86dd));
    let proto = |number: u128| ip() && fields.exact(Field::IP_PROTO) == Some(number);
    let icmpv6 = |types: &[u128]| {
        ipv6()
            && proto(58)
            && fields.exact(Field::ICMPV6_TYPE).is_some_and(|t| types.contains(&t))
            && fields.exact(Field::ICMPV6_CODE).is_none_or(|code| code == 0)
    };
    let (met, name) = match field.info().prerequisite {
        Prerequisite::None => (true, ""),
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
        Prerequisite::Pbb => (dl_type() == Some(0x88e7), "dl_type=0x88e7"),
        Prerequisite::Mpls => (matches!(dl_type(), Some(0x8847 | 0x8848)), "mpls or mplsm"),
        Prerequisite::Arp => (matches!(dl_type(), Some(0x0806 | 0x8035)), "arp or rarp"),
        Prerequisite::Ipv4 => (ipv4(), "ip"),
        Prerequisite::Ipv6 => (ipv6(), "ipv6"),
        Prerequisite::Ip => (ip(), "ip or ipv6"),
        Prerequisite::Tcp => (proto(6), "tcp or tcp6"),
        Prerequisite::Udp => (proto(17), "udp or udp6"),
        Prerequisite::Sctp => (proto(132), "sctp or sctp6"),
        Prerequisite::Icmp => (ipv4() && proto(1), "icmp"),
        Prerequisite::Icmpv6 => (ipv6() && proto(58), "icmp6"),
        Prerequisite::Nd => (icmpv6(&[135, 136]), "icmp6 with icmp_type=135 or 136"),
        Prerequisite::NdSolicit => (icmpv6(&[135]), "icmp6 with icmp_type=135"),
        Prerequisite::NdAdvert => (icmpv6(&[136]), "icmp6 with icmp_type=136"),
        Prerequisite::Ct => {
            // Open vSwitch wants one of new, est, rel, rpl; "tracked" is not enough.
            let state = fields.get(Field::CT_STATE).is_some_and(|(v, m)| v & m & 0xf != 0);
            (state && ip(), "ip or ipv6 and ct_state with +new, +est, +rel or +rpl")
        }
        Prerequisite::Nsh => (dl_type() == Some(0x894f), "dl_type=0x894f"),
    };
    (!met).then_some(name)
}
