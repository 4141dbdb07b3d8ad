//! The table of every match field: one row a field, in the order in which fields go onto the wire.
//!
//! The order is a contract with the codec: a field always comes after the fields that it requires
//! (OF1.3.5 §7.2.3.8), and it is the order in which Open vSwitch itself writes a match, so that what we encode
//! from a dump is byte for byte what the switch sent.

use super::{Field, FieldInfo, Format, Header, Prerequisite, ones};

/// `OFPXMC_NXM_0`: fields that Nicira inherited from OpenFlow 1.0.
const NXM_OF: u16 = 0x0000;
/// `OFPXMC_NXM_1`: Nicira's own fields.
const NXM_NX: u16 = 0x0001;
/// `OFPXMC_OPENFLOW_BASIC` (OF1.3.5 §7.2.3.3).
const OXM_OF: u16 = 0x8000;
/// `OFPXMC_PACKET_REGS`: the extended registers of OpenFlow 1.5, known to Open vSwitch under 1.3 too.
const OXM_REG: u16 = 0x8001;

/// Ericsson's class for the ND extension fields (`ERICOXM_OF_*`).
const ERICOXM: u16 = 0x1000;

/// Open Networking Foundation, experimenter of the 1.3 extensions (`ONFOXM_ET_*`).
pub(super) const ONF: u32 = 0x4f4e_4600;
/// Nicira, experimenter of `NXOXM_ET_*`.
const NICIRA: u32 = 0x0000_2320;
/// Nicira's second experimenter id, used only for Network Service Header fields (`NXOXM_NSH_*`).
const NSH: u32 = 0x005a_d650;

macro_rules! header {
    (NXM_OF $n:literal) => {
        Header::basic(NXM_OF, $n)
    };
    (NXM_NX $n:literal) => {
        Header::basic(NXM_NX, $n)
    };
    (OXM_OF $n:literal) => {
        Header::basic(OXM_OF, $n)
    };
    (OXM_REG $n:literal) => {
        Header::basic(OXM_REG, $n)
    };
    (ERICOXM $n:literal) => {
        Header::basic(ERICOXM, $n)
    };
    ($vendor:ident $n:literal) => {
        Header::experimenter($vendor, $n)
    };
}

macro_rules! maskable {
    (mask) => {
        true
    };
    (exact) => {
        false
    };
}

macro_rules! writable {
    (rw) => {
        true
    };
    (ro) => {
        false
    };
}

macro_rules! fields {
    ($(
        $(#[$doc:meta])*
        $name:ident $text:literal $(| $alias:literal)* :
        $bits:literal bits in $bytes:literal, $format:ident, $mask:ident, $rw:ident, $prereq:ident,
        [$($class:ident $num:literal $wire:literal),* $(,)?];
    )*) => {
        #[allow(non_camel_case_types, clippy::upper_case_acronyms, dead_code)]
        #[repr(u8)]
        enum Index { $($name,)* }

        #[allow(missing_docs)]
        impl Field {
            $(
                $(#[$doc])*
                #[doc = concat!("`", $text, "`: ", stringify!($bits), " bits.")]
                pub const $name: Field = Field(Index::$name as u8);
            )*
        }

        const FIXED: &[FieldInfo] = &[
            $(FieldInfo {
                name: $text,
                aliases: &[$($alias),*],
                width: $bits,
                bytes: $bytes,
                format: Format::$format,
                maskable: maskable!($mask),
                writable: writable!($rw),
                prerequisite: Prerequisite::$prereq,
                headers: &[$(header!($class $num)),*],
                wire_names: &[$($wire),*],
            },)*
        ];
    };
}

fields! {
    /// Namespace and type of the outermost header (OF1.5).
    PACKET_TYPE "packet_type": 32 bits in 4, PacketType, exact, ro, None, [OXM_OF 44 "OXM_OF_PACKET_TYPE"];
    /// Hash of the packet, computed by a `select` group or `dp_hash` action.
    DP_HASH "dp_hash": 32 bits in 4, Hexadecimal, mask, ro, None, [NXM_NX 35 "NXM_NX_DP_HASH", NICIRA 0 "NXOXM_ET_DP_HASH"];
    /// Recirculation id; zero for a packet that was never recirculated.
    RECIRC_ID "recirc_id": 32 bits in 4, Hexadecimal, exact, ro, None, [NXM_NX 36 "NXM_NX_RECIRC_ID"];
    /// Set by a conjunctive match ("conjunction" action).
    CONJ_ID "conj_id": 32 bits in 4, Decimal, exact, ro, None, [NXM_NX 37 "NXM_NX_CONJ_ID"];
    /// Ingress port.
    IN_PORT "in_port" | "in_port_oxm": 32 bits in 4, Port, exact, rw, None, [OXM_OF 0 "OXM_OF_IN_PORT"];
    /// Ingress port in the 16 bits of OpenFlow 1.0; a match holds [`Field::IN_PORT`] instead.
    IN_PORT_16 "in_port_16": 16 bits in 2, Port, exact, rw, None, [NXM_OF 0 "NXM_OF_IN_PORT"];
    /// Physical port under a logical one.
    IN_PHY_PORT "in_phy_port": 32 bits in 4, Port, exact, ro, None, [OXM_OF 1 "OXM_OF_IN_PHY_PORT"];
    /// Output port in the action set.
    ACTSET_OUTPUT "actset_output": 32 bits in 4, Port, exact, ro, None, [ONF 43 "ONFOXM_ET_ACTSET_OUTPUT", OXM_OF 43 "OXM_OF_ACTSET_OUTPUT"];
    ETH_SRC "eth_src" | "dl_src": 48 bits in 6, Ethernet, mask, rw, Ethernet, [OXM_OF 4 "OXM_OF_ETH_SRC", NXM_OF 2 "NXM_OF_ETH_SRC"];
    ETH_DST "eth_dst" | "dl_dst": 48 bits in 6, Ethernet, mask, rw, Ethernet, [OXM_OF 3 "OXM_OF_ETH_DST", NXM_OF 1 "NXM_OF_ETH_DST"];
    ETH_TYPE "eth_type" | "dl_type": 16 bits in 2, Hexadecimal, exact, ro, Ethernet, [OXM_OF 5 "OXM_OF_ETH_TYPE", NXM_OF 3 "NXM_OF_ETH_TYPE"];
    /// VLAN id in 12 bits, with 0x1000 (`OFPVID_PRESENT`) in a match.
    VLAN_VID "vlan_vid": 12 bits in 2, Decimal, mask, rw, Ethernet, [OXM_OF 6 "OXM_OF_VLAN_VID"];
    VLAN_PCP "vlan_pcp": 3 bits in 1, Decimal, exact, rw, Vlan, [OXM_OF 7 "OXM_OF_VLAN_PCP"];
    /// The whole 802.1Q tag control word; a match holds [`Field::VLAN_VID`] and [`Field::VLAN_PCP`] instead.
    VLAN_TCI "vlan_tci": 16 bits in 2, Hexadecimal, mask, rw, Ethernet, [NXM_OF 4 "NXM_OF_VLAN_TCI"];
    PBB_ISID "pbb_isid": 24 bits in 3, Hexadecimal, mask, rw, Pbb, [OXM_OF 37 "OXM_OF_PBB_ISID"];
    PBB_UCA "pbb_uca": 1 bits in 1, Decimal, exact, rw, Pbb, [OXM_OF 41 "OXM_OF_PBB_UCA"];
    MPLS_TC "mpls_tc": 3 bits in 1, Decimal, exact, rw, Mpls, [OXM_OF 35 "OXM_OF_MPLS_TC"];
    /// Bottom of the MPLS label stack.
    MPLS_BOS "mpls_bos": 1 bits in 1, Decimal, exact, ro, Mpls, [OXM_OF 36 "OXM_OF_MPLS_BOS"];
    MPLS_TTL "mpls_ttl": 8 bits in 1, Decimal, exact, rw, Mpls, [NXM_NX 30 "NXM_NX_MPLS_TTL"];
    MPLS_LABEL "mpls_label": 20 bits in 4, Decimal, exact, rw, Mpls, [OXM_OF 34 "OXM_OF_MPLS_LABEL"];
    IPV4_SRC "ip_src" | "nw_src": 32 bits in 4, Ipv4, mask, rw, Ipv4, [OXM_OF 11 "OXM_OF_IPV4_SRC", NXM_OF 7 "NXM_OF_IP_SRC"];
    IPV4_DST "ip_dst" | "nw_dst": 32 bits in 4, Ipv4, mask, rw, Ipv4, [OXM_OF 12 "OXM_OF_IPV4_DST", NXM_OF 8 "NXM_OF_IP_DST"];
    IPV6_SRC "ipv6_src": 128 bits in 16, Ipv6, mask, rw, Ipv6, [OXM_OF 26 "OXM_OF_IPV6_SRC", NXM_NX 19 "NXM_NX_IPV6_SRC"];
    IPV6_DST "ipv6_dst": 128 bits in 16, Ipv6, mask, rw, Ipv6, [OXM_OF 27 "OXM_OF_IPV6_DST", NXM_NX 20 "NXM_NX_IPV6_DST"];
    /// IP fragment bits: 1 any fragment, 2 not the first.
    IP_FRAG "ip_frag" | "nw_frag": 2 bits in 1, Fragment, mask, ro, Ip, [NXM_NX 26 "NXM_NX_IP_FRAG"];
    IPV6_LABEL "ipv6_label": 20 bits in 4, Hexadecimal, mask, rw, Ipv6, [OXM_OF 28 "OXM_OF_IPV6_FLABEL", NXM_NX 27 "NXM_NX_IPV6_LABEL"];
    IP_DSCP "ip_dscp": 6 bits in 1, Decimal, exact, rw, Ip, [OXM_OF 8 "OXM_OF_IP_DSCP"];
    /// DSCP as the upper six of eight bits; a match holds [`Field::IP_DSCP`] instead.
    NW_TOS "nw_tos": 8 bits in 1, Decimal, exact, rw, Ip, [NXM_OF 5 "NXM_OF_IP_TOS"];
    IP_ECN "nw_ecn" | "ip_ecn": 2 bits in 1, Decimal, exact, rw, Ip, [OXM_OF 9 "OXM_OF_IP_ECN", NXM_NX 28 "NXM_NX_IP_ECN"];
    IP_TTL "nw_ttl": 8 bits in 1, Decimal, exact, rw, Ip, [NXM_NX 29 "NXM_NX_IP_TTL"];
    IP_PROTO "nw_proto" | "ip_proto": 8 bits in 1, Decimal, exact, ro, Ip, [OXM_OF 10 "OXM_OF_IP_PROTO", NXM_OF 6 "NXM_OF_IP_PROTO"];
    IPV6_EXTHDR "ipv6_exthdr": 9 bits in 2, Hexadecimal, mask, ro, Ipv6, [OXM_OF 39 "OXM_OF_IPV6_EXTHDR"];
    ARP_OP "arp_op": 16 bits in 2, Decimal, exact, rw, Arp, [OXM_OF 21 "OXM_OF_ARP_OP", NXM_OF 15 "NXM_OF_ARP_OP"];
    ARP_SPA "arp_spa": 32 bits in 4, Ipv4, mask, rw, Arp, [OXM_OF 22 "OXM_OF_ARP_SPA", NXM_OF 16 "NXM_OF_ARP_SPA"];
    ARP_TPA "arp_tpa": 32 bits in 4, Ipv4, mask, rw, Arp, [OXM_OF 23 "OXM_OF_ARP_TPA", NXM_OF 17 "NXM_OF_ARP_TPA"];
    ARP_SHA "arp_sha": 48 bits in 6, Ethernet, mask, rw, Arp, [OXM_OF 24 "OXM_OF_ARP_SHA", NXM_NX 17 "NXM_NX_ARP_SHA"];
    ARP_THA "arp_tha": 48 bits in 6, Ethernet, mask, rw, Arp, [OXM_OF 25 "OXM_OF_ARP_THA", NXM_NX 18 "NXM_NX_ARP_THA"];
    TCP_SRC "tcp_src" | "tp_src": 16 bits in 2, Decimal, mask, rw, Tcp, [OXM_OF 13 "OXM_OF_TCP_SRC", NXM_OF 9 "NXM_OF_TCP_SRC"];
    TCP_DST "tcp_dst" | "tp_dst": 16 bits in 2, Decimal, mask, rw, Tcp, [OXM_OF 14 "OXM_OF_TCP_DST", NXM_OF 10 "NXM_OF_TCP_DST"];
    TCP_FLAGS "tcp_flags": 12 bits in 2, TcpFlags, mask, ro, Tcp, [ONF 42 "ONFOXM_ET_TCP_FLAGS", NXM_NX 34 "NXM_NX_TCP_FLAGS", OXM_OF 42 "OXM_OF_TCP_FLAGS"];
    UDP_SRC "udp_src": 16 bits in 2, Decimal, mask, rw, Udp, [OXM_OF 15 "OXM_OF_UDP_SRC", NXM_OF 11 "NXM_OF_UDP_SRC"];
    UDP_DST "udp_dst": 16 bits in 2, Decimal, mask, rw, Udp, [OXM_OF 16 "OXM_OF_UDP_DST", NXM_OF 12 "NXM_OF_UDP_DST"];
    SCTP_SRC "sctp_src": 16 bits in 2, Decimal, mask, rw, Sctp, [OXM_OF 17 "OXM_OF_SCTP_SRC"];
    SCTP_DST "sctp_dst": 16 bits in 2, Decimal, mask, rw, Sctp, [OXM_OF 18 "OXM_OF_SCTP_DST"];
    ICMP_TYPE "icmp_type": 8 bits in 1, Decimal, exact, rw, Icmp, [OXM_OF 19 "OXM_OF_ICMPV4_TYPE", NXM_OF 13 "NXM_OF_ICMP_TYPE"];
    ICMP_CODE "icmp_code": 8 bits in 1, Decimal, exact, rw, Icmp, [OXM_OF 20 "OXM_OF_ICMPV4_CODE", NXM_OF 14 "NXM_OF_ICMP_CODE"];
    ICMPV6_TYPE "icmpv6_type": 8 bits in 1, Decimal, exact, rw, Icmpv6, [OXM_OF 29 "OXM_OF_ICMPV6_TYPE", NXM_NX 21 "NXM_NX_ICMPV6_TYPE"];
    ICMPV6_CODE "icmpv6_code": 8 bits in 1, Decimal, exact, rw, Icmpv6, [OXM_OF 30 "OXM_OF_ICMPV6_CODE", NXM_NX 22 "NXM_NX_ICMPV6_CODE"];
    ND_RESERVED "nd_reserved": 32 bits in 4, Decimal, exact, rw, Nd, [ERICOXM 1 "ERICOXM_OF_ICMPV6_ND_RESERVED"];
    ND_TARGET "nd_target": 128 bits in 16, Ipv6, mask, rw, Nd, [OXM_OF 31 "OXM_OF_IPV6_ND_TARGET", NXM_NX 23 "NXM_NX_ND_TARGET"];
    /// Neighbour discovery: source link-layer address.
    ND_SLL "nd_sll": 48 bits in 6, Ethernet, mask, rw, NdSolicit, [OXM_OF 32 "OXM_OF_IPV6_ND_SLL", NXM_NX 24 "NXM_NX_ND_SLL"];
    ND_OPTIONS_TYPE "nd_options_type": 8 bits in 1, Decimal, exact, rw, Nd, [ERICOXM 2 "ERICOXM_OF_ICMPV6_ND_OPTIONS_TYPE"];
    /// Neighbour discovery: target link-layer address.
    ND_TLL "nd_tll": 48 bits in 6, Ethernet, mask, rw, NdAdvert, [OXM_OF 33 "OXM_OF_IPV6_ND_TLL", NXM_NX 25 "NXM_NX_ND_TLL"];
    NSH_FLAGS "nsh_flags": 8 bits in 1, Decimal, mask, rw, Nsh, [NSH 1 "NXOXM_NSH_FLAGS"];
    NSH_TTL "nsh_ttl": 8 bits in 1, Decimal, exact, rw, Nsh, [NSH 10 "NXOXM_NSH_TTL"];
    NSH_MDTYPE "nsh_mdtype": 8 bits in 1, Decimal, exact, ro, Nsh, [NSH 2 "NXOXM_NSH_MDTYPE"];
    NSH_NP "nsh_np": 8 bits in 1, Decimal, exact, ro, Nsh, [NSH 3 "NXOXM_NSH_NP"];
    NSH_SPI "nsh_spi" | "nsp": 24 bits in 4, Hexadecimal, exact, rw, Nsh, [NSH 4 "NXOXM_NSH_SPI"];
    NSH_SI "nsh_si" | "nsi": 8 bits in 1, Decimal, exact, rw, Nsh, [NSH 5 "NXOXM_NSH_SI"];
    NSH_C1 "nsh_c1" | "nshc1": 32 bits in 4, Hexadecimal, mask, rw, Nsh, [NSH 6 "NXOXM_NSH_C1"];
    NSH_C2 "nsh_c2" | "nshc2": 32 bits in 4, Hexadecimal, mask, rw, Nsh, [NSH 7 "NXOXM_NSH_C2"];
    NSH_C3 "nsh_c3" | "nshc3": 32 bits in 4, Hexadecimal, mask, rw, Nsh, [NSH 8 "NXOXM_NSH_C3"];
    NSH_C4 "nsh_c4" | "nshc4": 32 bits in 4, Hexadecimal, mask, rw, Nsh, [NSH 9 "NXOXM_NSH_C4"];
    /// Tunnel key: the VNI of VXLAN and Geneve, the key of GRE.
    TUN_ID "tun_id" | "tunnel_id": 64 bits in 8, Hexadecimal, mask, rw, None, [OXM_OF 38 "OXM_OF_TUNNEL_ID", NXM_NX 16 "NXM_NX_TUN_ID"];
    TUN_FLAGS "tun_flags": 1 bits in 2, TunnelFlags, mask, rw, None, [NXM_NX 104 "NXM_NX_TUN_FLAGS"];
    TUN_SRC "tun_src": 32 bits in 4, Ipv4, mask, rw, None, [NXM_NX 31 "NXM_NX_TUN_IPV4_SRC"];
    TUN_DST "tun_dst": 32 bits in 4, Ipv4, mask, rw, None, [NXM_NX 32 "NXM_NX_TUN_IPV4_DST"];
    TUN_IPV6_SRC "tun_ipv6_src": 128 bits in 16, Ipv6, mask, rw, None, [NXM_NX 109 "NXM_NX_TUN_IPV6_SRC"];
    TUN_IPV6_DST "tun_ipv6_dst": 128 bits in 16, Ipv6, mask, rw, None, [NXM_NX 110 "NXM_NX_TUN_IPV6_DST"];
    TUN_GBP_ID "tun_gbp_id": 16 bits in 2, Decimal, mask, rw, None, [NXM_NX 38 "NXM_NX_TUN_GBP_ID"];
    TUN_GBP_FLAGS "tun_gbp_flags": 8 bits in 1, Hexadecimal, mask, rw, None, [NXM_NX 39 "NXM_NX_TUN_GBP_FLAGS"];
    TUN_ERSPAN_IDX "tun_erspan_idx": 20 bits in 4, Hexadecimal, mask, rw, None, [NICIRA 11 "NXOXM_ET_ERSPAN_IDX"];
    TUN_ERSPAN_VER "tun_erspan_ver": 4 bits in 1, Decimal, mask, rw, None, [NICIRA 12 "NXOXM_ET_ERSPAN_VER"];
    TUN_ERSPAN_DIR "tun_erspan_dir": 1 bits in 1, Decimal, mask, rw, None, [NICIRA 13 "NXOXM_ET_ERSPAN_DIR"];
    TUN_ERSPAN_HWID "tun_erspan_hwid": 6 bits in 1, Hexadecimal, mask, rw, None, [NICIRA 14 "NXOXM_ET_ERSPAN_HWID"];
    TUN_GTPU_FLAGS "tun_gtpu_flags": 8 bits in 1, Hexadecimal, mask, ro, None, [NICIRA 15 "NXOXM_ET_GTPU_FLAGS"];
    TUN_GTPU_MSGTYPE "tun_gtpu_msgtype": 8 bits in 1, Decimal, mask, ro, None, [NICIRA 16 "NXOXM_ET_GTPU_MSGTYPE"];
    REG0 "reg0": 32 bits in 4, Hexadecimal, mask, rw, None, [NXM_NX 0 "NXM_NX_REG0"];
    REG1 "reg1": 32 bits in 4, Hexadecimal, mask, rw, None, [NXM_NX 1 "NXM_NX_REG1"];
    REG2 "reg2": 32 bits in 4, Hexadecimal, mask, rw, None, [NXM_NX 2 "NXM_NX_REG2"];
    REG3 "reg3": 32 bits in 4, Hexadecimal, mask, rw, None, [NXM_NX 3 "NXM_NX_REG3"];
    REG4 "reg4": 32 bits in 4, Hexadecimal, mask, rw, None, [NXM_NX 4 "NXM_NX_REG4"];
    REG5 "reg5": 32 bits in 4, Hexadecimal, mask, rw, None, [NXM_NX 5 "NXM_NX_REG5"];
    REG6 "reg6": 32 bits in 4, Hexadecimal, mask, rw, None, [NXM_NX 6 "NXM_NX_REG6"];
    REG7 "reg7": 32 bits in 4, Hexadecimal, mask, rw, None, [NXM_NX 7 "NXM_NX_REG7"];
    REG8 "reg8": 32 bits in 4, Hexadecimal, mask, rw, None, [NXM_NX 8 "NXM_NX_REG8"];
    REG9 "reg9": 32 bits in 4, Hexadecimal, mask, rw, None, [NXM_NX 9 "NXM_NX_REG9"];
    REG10 "reg10": 32 bits in 4, Hexadecimal, mask, rw, None, [NXM_NX 10 "NXM_NX_REG10"];
    REG11 "reg11": 32 bits in 4, Hexadecimal, mask, rw, None, [NXM_NX 11 "NXM_NX_REG11"];
    REG12 "reg12": 32 bits in 4, Hexadecimal, mask, rw, None, [NXM_NX 12 "NXM_NX_REG12"];
    REG13 "reg13": 32 bits in 4, Hexadecimal, mask, rw, None, [NXM_NX 13 "NXM_NX_REG13"];
    REG14 "reg14": 32 bits in 4, Hexadecimal, mask, rw, None, [NXM_NX 14 "NXM_NX_REG14"];
    REG15 "reg15": 32 bits in 4, Hexadecimal, mask, rw, None, [NXM_NX 15 "NXM_NX_REG15"];
    /// `reg0` (upper half) and `reg1`; a match holds these instead.
    XREG0 "xreg0": 64 bits in 8, Hexadecimal, mask, rw, None, [OXM_REG 0 "OXM_OF_PKT_REG0"];
    XREG1 "xreg1": 64 bits in 8, Hexadecimal, mask, rw, None, [OXM_REG 1 "OXM_OF_PKT_REG1"];
    XREG2 "xreg2": 64 bits in 8, Hexadecimal, mask, rw, None, [OXM_REG 2 "OXM_OF_PKT_REG2"];
    XREG3 "xreg3": 64 bits in 8, Hexadecimal, mask, rw, None, [OXM_REG 3 "OXM_OF_PKT_REG3"];
    XREG4 "xreg4": 64 bits in 8, Hexadecimal, mask, rw, None, [OXM_REG 4 "OXM_OF_PKT_REG4"];
    XREG5 "xreg5": 64 bits in 8, Hexadecimal, mask, rw, None, [OXM_REG 5 "OXM_OF_PKT_REG5"];
    XREG6 "xreg6": 64 bits in 8, Hexadecimal, mask, rw, None, [OXM_REG 6 "OXM_OF_PKT_REG6"];
    XREG7 "xreg7": 64 bits in 8, Hexadecimal, mask, rw, None, [OXM_REG 7 "OXM_OF_PKT_REG7"];
    /// `reg0` (uppermost quarter) to `reg3`; a match holds these instead.
    XXREG0 "xxreg0": 128 bits in 16, Hexadecimal, mask, rw, None, [NXM_NX 111 "NXM_NX_XXREG0"];
    XXREG1 "xxreg1": 128 bits in 16, Hexadecimal, mask, rw, None, [NXM_NX 112 "NXM_NX_XXREG1"];
    XXREG2 "xxreg2": 128 bits in 16, Hexadecimal, mask, rw, None, [NXM_NX 113 "NXM_NX_XXREG2"];
    XXREG3 "xxreg3": 128 bits in 16, Hexadecimal, mask, rw, None, [NXM_NX 114 "NXM_NX_XXREG3"];
    /// Mark of the packet in the host's network stack (`skb->mark`).
    PKT_MARK "pkt_mark": 32 bits in 4, Hexadecimal, mask, rw, None, [NXM_NX 33 "NXM_NX_PKT_MARK"];
    /// Connection state: bits new 1, est 2, rel 4, rpl 8, inv 16, trk 32, snat 64, dnat 128.
    CT_STATE "ct_state": 32 bits in 4, CtState, mask, ro, None, [NXM_NX 105 "NXM_NX_CT_STATE"];
    CT_ZONE "ct_zone": 16 bits in 2, Hexadecimal, exact, ro, None, [NXM_NX 106 "NXM_NX_CT_ZONE"];
    CT_MARK "ct_mark": 32 bits in 4, Hexadecimal, mask, rw, None, [NXM_NX 107 "NXM_NX_CT_MARK"];
    CT_LABEL "ct_label": 128 bits in 16, Hexadecimal, mask, rw, None, [NXM_NX 108 "NXM_NX_CT_LABEL"];
    CT_NW_SRC "ct_nw_src": 32 bits in 4, Ipv4, mask, ro, Ct, [NXM_NX 120 "NXM_NX_CT_NW_SRC"];
    CT_NW_DST "ct_nw_dst": 32 bits in 4, Ipv4, mask, ro, Ct, [NXM_NX 121 "NXM_NX_CT_NW_DST"];
    CT_IPV6_SRC "ct_ipv6_src": 128 bits in 16, Ipv6, mask, ro, Ct, [NXM_NX 122 "NXM_NX_CT_IPV6_SRC"];
    CT_IPV6_DST "ct_ipv6_dst": 128 bits in 16, Ipv6, mask, ro, Ct, [NXM_NX 123 "NXM_NX_CT_IPV6_DST"];
    CT_NW_PROTO "ct_nw_proto": 8 bits in 1, Decimal, exact, ro, Ct, [NXM_NX 119 "NXM_NX_CT_NW_PROTO"];
    CT_TP_SRC "ct_tp_src": 16 bits in 2, Decimal, mask, ro, Ct, [NXM_NX 124 "NXM_NX_CT_TP_SRC"];
    CT_TP_DST "ct_tp_dst": 16 bits in 2, Decimal, mask, ro, Ct, [NXM_NX 125 "NXM_NX_CT_TP_DST"];
    /// OpenFlow metadata, written by `write_metadata` (OF1.3.5 §5.1).
    METADATA "metadata": 64 bits in 8, Hexadecimal, mask, rw, None, [OXM_OF 2 "OXM_OF_METADATA"];
}

/// How many tunnel option fields there are (`tun_metadata0` to `tun_metadata63`).
pub(super) const N_TUN_METADATA: usize = 64;
/// Index of `tun_metadata0`.
pub(super) const TUN_METADATA_BASE: usize = FIXED.len();
pub(super) const N_FIELDS: usize = FIXED.len() + N_TUN_METADATA;

macro_rules! tun_metadata {
    ($($n:literal)*) => {
        const TUN_METADATA: [FieldInfo; N_TUN_METADATA] = [
            $(FieldInfo {
                name: concat!("tun_metadata", $n),
                aliases: &[],
                width: 992,
                bytes: 124,
                format: Format::Hexadecimal,
                maskable: true,
                writable: true,
                prerequisite: Prerequisite::None,
                headers: &[Header::basic(NXM_NX, 40 + $n)],
                wire_names: &[concat!("NXM_NX_TUN_METADATA", $n)],
            },)*
        ];
    };
}

tun_metadata! {
    0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31
    32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63
}

/// Every field, indexed by [`Field`].
pub(super) static FIELDS: [FieldInfo; N_FIELDS] = build();

#[allow(clippy::indexing_slicing)] // Evaluated by the compiler: out of bounds does not build.
const fn build() -> [FieldInfo; N_FIELDS] {
    let mut all = [FIXED[0]; N_FIELDS];
    let mut i = 0;
    while i < N_FIELDS {
        all[i] = if i < TUN_METADATA_BASE { FIXED[i] } else { TUN_METADATA[i - TUN_METADATA_BASE] };
        i += 1;
    }
    all
}

/// What decoding asks of a field, for every field of every flow.
#[derive(Clone, Copy)]
pub(super) struct Brief {
    /// All ones over the bits that a match may name.
    pub(super) full_mask: u128,
    /// As [`FieldInfo::bytes`].
    pub(super) bytes: u8,
    /// As [`FieldInfo::width`].
    pub(super) width: u16,
    /// As [`FieldInfo::prerequisite`].
    pub(super) prerequisite: Prerequisite,
}

/// As [`FIELDS`], in less space: these stay in the cache.
pub(super) static BRIEFS: [Brief; N_FIELDS] = briefs();

#[allow(clippy::indexing_slicing)] // As above.
const fn briefs() -> [Brief; N_FIELDS] {
    let mut all = [Brief { full_mask: 0, bytes: 0, width: 0, prerequisite: Prerequisite::None }; N_FIELDS];
    let mut i = 0;
    while i < N_FIELDS {
        let FieldInfo { width, bytes, prerequisite, .. } = FIELDS_CONST[i];
        let full_mask = match Field(i as u8) {
            // 12 bits of VLAN id and the bit that says "there is a tag" (OF1.3.5 §7.2.3.7).
            Field::VLAN_VID => 0x1fff,
            // 32 bits wide, of which Open vSwitch has given a meaning to eight.
            Field::CT_STATE => 0xff,
            _ => ones(width),
        };
        all[i] = Brief { full_mask, bytes, width, prerequisite };
        i += 1;
    }
    all
}

/// "No such field" in [`ByClass`].
const NONE: u8 = u8::MAX;
type ByClass = [u8; 128];

static BY_NXM_OF: ByClass = by_class(NXM_OF);
static BY_NXM_NX: ByClass = by_class(NXM_NX);
static BY_OXM_OF: ByClass = by_class(OXM_OF);
static BY_OXM_REG: ByClass = by_class(OXM_REG);
static BY_ERICOXM: ByClass = by_class(ERICOXM);

#[allow(clippy::indexing_slicing)] // As above.
const fn by_class(class: u16) -> ByClass {
    let mut map = [NONE; 128];
    let mut i = 0;
    while i < N_FIELDS {
        let headers = FIELDS_CONST[i].headers;
        let mut h = 0;
        while h < headers.len() {
            if headers[h].class == class && headers[h].experimenter == 0 {
                map[headers[h].field as usize] = i as u8;
            }
            h += 1;
        }
        i += 1;
    }
    map
}

const FIELDS_CONST: [FieldInfo; N_FIELDS] = build();

/// The field that a header of class and number names; `experimenter` only counts for class 0xffff.
#[inline]
pub(super) fn by_header(class: u16, field: u8, experimenter: u32) -> Option<Field> {
    let table = match class {
        NXM_OF => &BY_NXM_OF,
        NXM_NX => &BY_NXM_NX,
        OXM_OF => &BY_OXM_OF,
        OXM_REG => &BY_OXM_REG,
        ERICOXM => &BY_ERICOXM,
        Header::EXPERIMENTER_CLASS => {
            let wanted = Header::experimenter(experimenter, field);
            let index = FIELDS.iter().position(|info| info.headers.contains(&wanted))?;
            return u8::try_from(index).ok().map(Field);
        }
        _ => return None,
    };
    table.get(usize::from(field)).copied().filter(|&index| index != NONE).map(Field)
}
