//! What a flow asks of a packet, in words: a match field with its mask.

use std::net::{Ipv4Addr, Ipv6Addr};

use openflow::field::Format;
use openflow::{Field, MacAddr, OfPort};

use crate::pipeline::port;
use crate::pipeline::register;

/// States of a connection as `ct_state` has them: the bit, the words when it is set and when it is not.
const CT_STATES: [(u128, &str, &str); 8] = [
    (0x20, "seen by connection tracking", "not seen by connection tracking yet"),
    (0x01, "of a new connection", "not of a new connection"),
    (0x02, "of an established connection", "not of an established connection"),
    (0x04, "related to a known connection", "not related to a known connection"),
    (0x08, "on its way back in a connection", "not on its way back in a connection"),
    (0x10, "which connection tracking finds invalid", "which connection tracking does not find invalid"),
    (0x40, "with its source address translated", "without its source address translated"),
    (0x80, "with its destination address translated", "without its destination address translated"),
];

const TCP_FLAGS: [&str; 9] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR", "NS"];

const FRAGMENT: u128 = 1;
const LATER: u128 = 2;

/// A field of a match in words; none for what [`kind`] says already.
pub(super) fn condition(field: Field, value: u128, mask: u128) -> Option<String> {
    let whole = mask == field.full_mask();
    let shown = shown(field, value, mask);
    if let Some(register) = register::ALL.iter().find(|register| {
        let bits = register.subfield();
        bits.field == field && mask == (u128::MAX >> (128 - u32::from(bits.n_bits))) << bits.ofs
    }) {
        let value = value >> register.subfield().ofs;
        return Some(match *register {
            register::SOURCE_VNID => format!("from VNID {value}"),
            register::DESTINATION_VNID => format!("for VNID {value}"),
            register::DESTINATION_PORT => format!("for {}", port::name(port_of(value))),
            other => format!("with {value} {} ({field})", other.holds),
        });
    }
    Some(match field {
        Field::ETH_TYPE | Field::IP_PROTO if whole && kind_of_field(field, value).is_some() => return None,
        Field::IN_PORT | Field::IN_PORT_16 => format!("in at {}", port::name(port_of(value))),
        Field::IPV4_SRC | Field::IPV6_SRC | Field::ARP_SPA => format!("from {shown}"),
        Field::IPV4_DST | Field::IPV6_DST => format!("to {shown}"),
        Field::ARP_TPA | Field::ND_TARGET => format!("about {shown}"),
        Field::ARP_OP if value == 1 => "that ask".to_owned(),
        Field::ARP_OP if value == 2 => "that answer".to_owned(),
        Field::TUN_SRC | Field::TUN_IPV6_SRC => format!("through the tunnel from {shown}"),
        Field::TUN_ID if whole => format!("with VNID {value} in the tunnel's header"),
        Field::TCP_SRC | Field::UDP_SRC | Field::SCTP_SRC => format!("from {}", ports(value, mask)),
        Field::TCP_DST | Field::UDP_DST | Field::SCTP_DST => format!("to {}", ports(value, mask)),
        Field::TCP_FLAGS => flags(value, mask),
        Field::CT_STATE => states(value, mask),
        Field::IP_FRAG => fragment(value, mask).to_owned(),
        Field::VLAN_VID if (value, mask) == (0, 0x1fff) => "without a VLAN tag".to_owned(),
        Field::VLAN_VID if mask == 0x1fff => format!("in VLAN {}", value & 0xfff),
        Field::CONJ_ID => format!("of which every clause of conjunction {value} holds"),
        other => format!("whose {} {}", noun(other), is(other, value, mask)),
    })
}

/// The kind of packet, which the conditions then qualify.
pub(super) fn kind(fields: &openflow::Match) -> &'static str {
    let of = |field| fields.exact(field).and_then(|value| kind_of_field(field, value));
    of(Field::IP_PROTO).or_else(|| of(Field::ETH_TYPE)).unwrap_or("Packets")
}

fn kind_of_field(field: Field, value: u128) -> Option<&'static str> {
    Some(match (field, value) {
        (Field::ETH_TYPE, 0x0800) => "IPv4",
        (Field::ETH_TYPE, 0x0806) => "ARP",
        (Field::ETH_TYPE, 0x86dd) => "IPv6",
        (Field::IP_PROTO, 1) => "ICMP",
        (Field::IP_PROTO, 6) => "TCP",
        (Field::IP_PROTO, 17) => "UDP",
        (Field::IP_PROTO, 58) => "ICMPv6",
        (Field::IP_PROTO, 132) => "SCTP",
        _ => return None,
    })
}

/// A field by the name that a person gives it.
pub(super) fn noun(field: Field) -> String {
    let name = match field {
        Field::ETH_SRC => "source's MAC address",
        Field::ETH_DST => "destination's MAC address",
        Field::ETH_TYPE => "kind of payload (Ethernet type)",
        Field::IP_PROTO => "IP protocol's number",
        Field::IPV4_SRC | Field::IPV6_SRC => "source address",
        Field::IPV4_DST | Field::IPV6_DST => "destination address",
        Field::ARP_SHA => "sender's MAC address",
        Field::ARP_THA => "target's MAC address",
        Field::ARP_OP => "ARP operation",
        Field::TUN_ID => "VNID in the tunnel's header",
        Field::TUN_SRC => "tunnel's near end",
        Field::TUN_DST => "tunnel's far end",
        Field::PKT_MARK => "mark for the node's firewall",
        Field::CT_MARK => "connection's mark",
        Field::CT_LABEL => "connection's label",
        Field::CT_ZONE => "zone of connection tracking",
        Field::CT_NW_SRC | Field::CT_IPV6_SRC => "connection's original source",
        Field::CT_NW_DST | Field::CT_IPV6_DST => "connection's original destination",
        Field::CT_NW_PROTO => "connection's IP protocol number",
        Field::CT_TP_SRC => "connection's original source port",
        Field::CT_TP_DST => "connection's original destination port",
        Field::TCP_SRC | Field::UDP_SRC | Field::SCTP_SRC => "source port",
        Field::TCP_DST | Field::UDP_DST | Field::SCTP_DST => "destination port",
        Field::ICMP_TYPE | Field::ICMPV6_TYPE => "ICMP type",
        Field::ICMP_CODE | Field::ICMPV6_CODE => "ICMP code",
        Field::IP_TTL => "TTL",
        Field::IP_DSCP => "class of service (DSCP)",
        Field::IP_ECN => "congestion bits (ECN)",
        Field::VLAN_VID | Field::VLAN_TCI => "VLAN tag",
        Field::METADATA => "OpenFlow metadata",
        other => return format!("field `{other}`"),
    };
    name.to_owned()
}

fn is(field: Field, value: u128, mask: u128) -> String {
    let shown = shown(field, value, mask);
    match field.info().format {
        _ if mask == field.full_mask() => format!("is {shown}"),
        Format::Ipv4 | Format::Ipv6 => format!("is in {shown}"),
        Format::Ethernet if mask & mask.wrapping_add(1) == 0 => {
            format!("ends in {}", last_bytes(value, mask.count_ones()))
        }
        Format::Ethernet => format!("is {} where {} has ones", mac(value), mac(mask)),
        _ => format!("is {value:#x} in the bits {mask:#x}"),
    }
}

/// A value as people write it, with a mask where it is an address.
fn shown(field: Field, value: u128, mask: u128) -> String {
    let ones = mask.count_ones();
    let width = u32::from(field.width());
    // The ones of a network's mask stand together at its upper end.
    let prefix = mask.trailing_zeros().min(width) + ones == width;
    match field.info().format {
        Format::Ipv4 => {
            let [value, mask] = [value, mask].map(|bits| Ipv4Addr::from((bits & 0xffff_ffff) as u32));
            match ones {
                32 => value.to_string(),
                _ if prefix => format!("{value}/{ones}"),
                _ => format!("{value}/{mask}"),
            }
        }
        Format::Ipv6 => match ones {
            128 => Ipv6Addr::from(value).to_string(),
            _ if prefix => format!("{}/{ones}", Ipv6Addr::from(value)),
            _ => format!("{}/{}", Ipv6Addr::from(value), Ipv6Addr::from(mask)),
        },
        Format::Ethernet => mac(value).to_string(),
        Format::Port => port::name(port_of(value)),
        Format::Decimal => value.to_string(),
        _ => format!("{value:#x}"),
    }
}

pub(super) fn mac(value: u128) -> MacAddr {
    let [.., a, b, c, d, e, f] = value.to_be_bytes();
    MacAddr([a, b, c, d, e, f])
}

fn last_bytes(value: u128, bits: u32) -> String {
    let bytes = value.to_be_bytes();
    let from = bytes.len().saturating_sub(bits.div_ceil(8) as usize);
    let words: Vec<String> = bytes.iter().skip(from).map(|byte| format!("{byte:02x}")).collect();
    words.join(":")
}

pub(super) fn port_of(value: u128) -> OfPort {
    OfPort(u32::try_from(value).unwrap_or(u32::MAX))
}

/// One port, or those that a mask takes together.
fn ports(value: u128, mask: u128) -> String {
    let any = !mask & 0xffff;
    match any {
        0 => format!("port {value}"),
        any if any & (any + 1) == 0 => format!("ports {value} to {}", value | any),
        _ => format!("a port that is {value:#x} in the bits {mask:#x}"),
    }
}

fn states(value: u128, mask: u128) -> String {
    let known = CT_STATES.iter().filter(|(bit, _, _)| mask & bit != 0);
    let mut words: Vec<&str> =
        known.map(|(bit, set, clear)| if value & bit != 0 { *set } else { *clear }).collect();
    // Only what connection tracking has seen can be anything else.
    if words.len() > 1 && value & mask & 0x20 != 0 {
        words.remove(0);
    }
    words.join(" and ")
}

fn flags(value: u128, mask: u128) -> String {
    let of = |bits: u128| {
        let names = TCP_FLAGS.iter().enumerate().filter(|(n, _)| bits >> n & 1 != 0);
        names.map(|(_, name)| *name).collect::<Vec<_>>().join(" and ")
    };
    match (of(value & mask), of(!value & mask)) {
        (set, clear) if clear.is_empty() => format!("with {set}"),
        (set, clear) if set.is_empty() => format!("without {clear}"),
        (set, clear) => format!("with {set} and without {clear}"),
    }
}

fn fragment(value: u128, mask: u128) -> &'static str {
    match (value & mask & LATER, mask & LATER, value & mask & FRAGMENT, mask & FRAGMENT) {
        (LATER, ..) => "a later fragment, which has no port",
        (_, LATER, FRAGMENT, _) => "a first fragment",
        (_, _, FRAGMENT, _) => "a fragment",
        (_, _, _, FRAGMENT) => "not a fragment",
        _ => "not a later fragment",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(fields: &str) -> String {
        let fields: openflow::Match = fields.parse().unwrap_or_else(|error| panic!("{fields}: {error}"));
        let all: Vec<String> =
            fields.iter().filter_map(|(field, value, mask)| condition(field, value, mask)).collect();
        format!("{}: {}", kind(&fields), all.join(", "))
    }

    #[test]
    fn every_kind_of_condition_has_words() {
        for (fields, expected) in [
            ("ip,ct_state=-rpl", "IPv4: not on its way back in a connection"),
            ("ip,ct_state=-trk", "IPv4: not seen by connection tracking yet"),
            (
                "ip,ct_state=+trk+est-rpl",
                "IPv4: of an established connection and not on its way back in a connection",
            ),
            ("ip,ct_state=+inv+trk", "IPv4: which connection tracking finds invalid"),
            ("reg0=0x1267,reg1=0", "Packets: from VNID 4711, for VNID 0"),
            ("reg2=4", "Packets: for port 4"),
            ("reg3=0x1/0xffff", "Packets: with 1 parts of the multicast list done (reg3)"),
            ("reg3=0x10000/0x10000", "Packets: whose field `reg3` is 0x10000 in the bits 0x10000"),
            ("tcp,tp_dst=0x50/0xfff0", "TCP: to ports 80 to 95"),
            ("tcp,tp_dst=0x50/0xff0f", "TCP: to a port that is 0x0 in the bits 0xff0f"),
            ("udp,tp_src=53", "UDP: from port 53"),
            ("tcp,tcp_flags=+syn-ack", "TCP: with SYN and without ACK"),
            ("icmp,icmp_type=8,icmp_code=0", "ICMP: whose ICMP type is 8, whose ICMP code is 0"),
            ("ip,nw_proto=47", "IPv4: whose IP protocol's number is 47"),
            ("ip,nw_dst=10.0.0.0/255.0.255.0", "IPv4: to 10.0.0.0/255.0.255.0"),
            ("ipv6,ipv6_dst=fd00::/64", "IPv6: to fd00::/64"),
            ("arp,arp_op=1,arp_tpa=10.0.0.1", "ARP: that ask, about 10.0.0.1"),
            (
                "arp,arp_sha=00:00:0a:82:00:06/00:00:ff:ff:ff:ff",
                "ARP: whose sender's MAC address ends in 0a:82:00:06",
            ),
            (
                "dl_dst=01:00:00:00:00:00/01:00:00:00:00:00",
                "Packets: whose destination's MAC address is 01:00:00:00:00:00 where 01:00:00:00:00:00 has ones",
            ),
            ("dl_vlan=5", "Packets: in VLAN 5"),
            (
                "tun_id=7,tun_src=192.0.2.1",
                "Packets: with VNID 7 in the tunnel's header, through the tunnel from 192.0.2.1",
            ),
            (
                "pkt_mark=0x8000/0x8000",
                "Packets: whose mark for the node's firewall is 0x8000 in the bits 0x8000",
            ),
            ("ip,nw_frag=later", "IPv4: a later fragment, which has no port"),
            ("ip,nw_frag=first", "IPv4: a first fragment"),
            ("ip,nw_frag=no", "IPv4: not a fragment"),
            ("ip,nw_frag=yes", "IPv4: a fragment"),
            ("ip,nw_frag=not_later", "IPv4: not a later fragment"),
        ] {
            assert_eq!(words(fields), expected, "{fields}");
        }
    }
}
