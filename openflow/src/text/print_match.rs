//! Printing a match in the order in which Open vSwitch does.

use std::fmt::{self, Write};

use super::names::{Out, display, sealed};
use super::value::{
    AltHex, BriefHex, CT_STATE, FRAGMENTS, Mac, TCP_FLAGS, TUN_FLAGS, write_flags, write_ipv4, write_ipv6,
    write_masked_flags, write_wide,
};
use crate::field::{Field, Prerequisite};
use crate::flow_match::{Match, WideField};
use crate::port::OfPort;

display! {
    /// As `ovs-ofctl dump-flows` prints it: `ip,in_port=3,nw_src=10.0.0.0/8`.
    Match;
}

impl sealed::Write for Match {
    fn write(&self, f: &mut Out<'_>) -> fmt::Result {
        write_fields(f, self, "").map(|_| ())
    }
}

/// Writes a match, after `lead` if there is any of it; whether there was.
pub(super) fn write_fields(f: &mut Out<'_>, fields: &Match, lead: &str) -> Result<bool, fmt::Error> {
    let mut printer = Printer { fields, f, lead: Some(lead) };
    printer.print()?;
    Ok(printer.lead.is_none())
}

/// The protocol words that stand for `dl_type` and `nw_proto`.
struct Protocol {
    word: Option<&'static str>,
    shows_proto: bool,
}

struct Printer<'a, 'f, 'b> {
    fields: &'a Match,
    f: &'f mut Out<'b>,
    /// What goes before the first item.
    lead: Option<&'a str>,
}

impl Printer<'_, '_, '_> {
    fn separate(&mut self) -> fmt::Result {
        let separator = self.lead.take().unwrap_or(",");
        self.f.write_str(separator)
    }

    fn word(&mut self, word: &str) -> fmt::Result {
        self.separate()?;
        self.f.write_str(word)
    }

    fn item(&mut self, name: &str, value: impl fmt::Display) -> fmt::Result {
        self.separate()?;
        write!(self.f, "{name}={value}")
    }

    /// Calls `write` for a field that the match has, after its name.
    fn with(
        &mut self,
        field: Field,
        name: &str,
        write: impl FnOnce(&mut Out<'_>, u128, u128) -> fmt::Result,
    ) -> fmt::Result {
        let Some((value, mask)) = self.fields.get(field) else { return Ok(()) };
        self.word(name)?;
        self.f.write_char('=')?;
        write(self.f, value, mask)
    }

    /// `0x5`, `0x5/0x7`.
    fn hex(&mut self, field: Field, name: &str) -> fmt::Result {
        self.with(field, name, |f, value, mask| {
            write!(f, "{}", AltHex(value))?;
            if mask == field.full_mask() { Ok(()) } else { write!(f, "/{}", AltHex(mask)) }
        })
    }

    /// `53`, `0x30/0xfff0`.
    fn decimal_or_masked(&mut self, field: Field, name: &str) -> fmt::Result {
        self.with(field, name, |f, value, mask| {
            if mask == field.full_mask() { write!(f, "{value}") } else { write!(f, "{value:#x}/{mask:#x}") }
        })
    }

    /// A number that is printed without its mask.
    fn decimal(&mut self, field: Field, name: &str) -> fmt::Result {
        self.with(field, name, |f, value, _| write!(f, "{value}"))
    }

    fn hex_unmasked(&mut self, field: Field, name: &str) -> fmt::Result {
        self.with(field, name, |f, value, _| write!(f, "{}", AltHex(value)))
    }

    fn ipv4(&mut self, field: Field, name: &str) -> fmt::Result {
        self.with(field, name, |f, value, mask| write_ipv4(f, value, mask))
    }

    fn ipv6(&mut self, field: Field, name: &str) -> fmt::Result {
        self.with(field, name, |f, value, mask| write_ipv6(f, value, mask))
    }

    fn ethernet(&mut self, field: Field, name: &str) -> fmt::Result {
        self.with(field, name, |f, value, mask| {
            write!(f, "{}", Mac(value))?;
            if mask == field.full_mask() { Ok(()) } else { write!(f, "/{}", Mac(mask)) }
        })
    }

    fn port(&mut self, field: Field, name: &str) -> fmt::Result {
        self.with(field, name, |f, value, _| f.port(OfPort(value as u32)))
    }

    fn print(&mut self) -> fmt::Result {
        let fields = self.fields;
        self.hex(Field::PKT_MARK, "pkt_mark")?;
        self.hex(Field::RECIRC_ID, "recirc_id")?;
        self.hex(Field::DP_HASH, "dp_hash")?;
        self.decimal(Field::CONJ_ID, "conj_id")?;
        self.port(Field::ACTSET_OUTPUT, "actset_output")?;
        self.connection()?;
        self.packet_type()?;
        let protocol = protocol(fields);
        if let Some(word) = protocol.word {
            self.word(word)?;
        }
        for n in 0..16 {
            if let Some(register) = Field::reg(n) {
                self.hex(register, register.name())?;
            }
        }
        self.tunnel()?;
        self.hex(Field::METADATA, "metadata")?;
        self.port(Field::IN_PORT, "in_port")?;
        self.port(Field::IN_PHY_PORT, "in_phy_port")?;
        self.vlan()?;
        self.ethernet(Field::ETH_SRC, "dl_src")?;
        self.ethernet(Field::ETH_DST, "dl_dst")?;
        if protocol.word.is_none() {
            self.with(Field::ETH_TYPE, "dl_type", |f, value, _| write!(f, "{value:#06x}"))?;
        }
        self.network(protocol.shows_proto)?;
        self.transport()?;
        for entry in fields.wide() {
            if let WideField::Unknown { class, field, experimenter } = entry.field {
                self.separate()?;
                write!(self.f, "unknown_{class:04x}_{field}")?;
                if experimenter != 0 {
                    write!(self.f, "_{experimenter:08x}")?;
                }
                self.f.write_char('=')?;
                self.wide(&entry.value, entry.mask.as_deref())?;
            }
        }
        Ok(())
    }

    fn connection(&mut self) -> fmt::Result {
        self.with(Field::CT_STATE, "ct_state", |f, value, mask| {
            if mask == Field::CT_STATE.full_mask() {
                write_flags(f, CT_STATE, value)
            } else {
                write_masked_flags(f, CT_STATE, value, mask)
            }
        })?;
        self.decimal_or_masked(Field::CT_ZONE, "ct_zone")?;
        self.hex(Field::CT_MARK, "ct_mark")?;
        self.hex(Field::CT_LABEL, "ct_label")?;
        self.ipv4(Field::CT_NW_SRC, "ct_nw_src")?;
        self.ipv6(Field::CT_IPV6_SRC, "ct_ipv6_src")?;
        self.ipv4(Field::CT_NW_DST, "ct_nw_dst")?;
        self.ipv6(Field::CT_IPV6_DST, "ct_ipv6_dst")?;
        self.decimal(Field::CT_NW_PROTO, "ct_nw_proto")?;
        self.decimal_or_masked(Field::CT_TP_SRC, "ct_tp_src")?;
        self.decimal_or_masked(Field::CT_TP_DST, "ct_tp_dst")
    }

    /// Ethernet is what a flow without a packet type means, so that one is not printed.
    fn packet_type(&mut self) -> fmt::Result {
        let fields = self.fields;
        let recirculated = [Field::RECIRC_ID, Field::DP_HASH].into_iter().any(|f| fields.get(f).is_some());
        let names_ethernet = || fields.iter().any(|(f, ..)| f.prerequisite() == Prerequisite::Ethernet);
        match fields.get(Field::PACKET_TYPE) {
            Some((0, _)) if recirculated => self.word("eth"),
            None if recirculated && names_ethernet() => self.word("eth"),
            None | Some((0, _)) => Ok(()),
            Some((value, _)) => {
                self.separate()?;
                write!(self.f, "packet_type=({},{})", BriefHex(value >> 16), BriefHex(value & 0xffff))
            }
        }
    }

    fn tunnel(&mut self) -> fmt::Result {
        self.hex(Field::TUN_ID, "tun_id")?;
        self.ipv4(Field::TUN_SRC, "tun_src")?;
        self.ipv4(Field::TUN_DST, "tun_dst")?;
        self.ipv6(Field::TUN_IPV6_SRC, "tun_ipv6_src")?;
        self.ipv6(Field::TUN_IPV6_DST, "tun_ipv6_dst")?;
        self.decimal_or_masked(Field::TUN_GBP_ID, "tun_gbp_id")?;
        self.hex_unmasked(Field::TUN_GBP_FLAGS, "tun_gbp_flags")?;
        self.decimal(Field::TUN_ERSPAN_VER, "tun_erspan_ver")?;
        self.hex(Field::TUN_ERSPAN_IDX, "tun_erspan_idx")?;
        self.decimal(Field::TUN_ERSPAN_DIR, "tun_erspan_dir")?;
        self.hex_unmasked(Field::TUN_ERSPAN_HWID, "tun_erspan_hwid")?;
        // These two print under a name that the parser of `ovs-ofctl` does not take; ours takes both.
        self.hex_unmasked(Field::TUN_GTPU_FLAGS, "gtpu_flags")?;
        self.decimal(Field::TUN_GTPU_MSGTYPE, "gtpu_msgtype")?;
        self.with(Field::TUN_FLAGS, "tun_flags", |f, value, mask| {
            write_masked_flags(f, TUN_FLAGS, value, mask)
        })?;
        let fields = self.fields;
        for entry in fields.wide() {
            if let WideField::Known(field) = entry.field {
                self.separate()?;
                self.f.write_str(field.name())?;
                // A mask of nothing but zeros asks only that the option be there.
                if entry.mask.as_ref().is_some_and(|m| m.iter().all(|&b| b == 0)) {
                    continue;
                }
                self.f.write_char('=')?;
                self.wide(&entry.value, entry.mask.as_deref())?;
            }
        }
        Ok(())
    }

    fn wide(&mut self, value: &[u8], mask: Option<&[u8]>) -> fmt::Result {
        write_wide(self.f, value)?;
        match mask {
            // Bytes that the mask leaves out at the front say nothing.
            Some(mask) if mask.iter().skip_while(|&&b| b == 0).any(|&b| b != 0xff) => {
                self.f.write_char('/')?;
                write_wide(self.f, mask)
            }
            _ => Ok(()),
        }
    }

    fn vlan(&mut self) -> fmt::Result {
        let (vid, vid_mask) = self.fields.get(Field::VLAN_VID).unwrap_or((0, 0));
        let (pcp, pcp_mask) = self.fields.get(Field::VLAN_PCP).unwrap_or((0, 0));
        if let Some((value, mask)) = self.fields.get(Field::VLAN_TCI) {
            return self.item("vlan_tci", format_args!("{value:#06x}/{mask:#06x}"));
        }
        if vid_mask == 0 && pcp_mask == 0 {
            return Ok(());
        }
        if vid & vid_mask & 0x1000 != 0
            && matches!(vid_mask & 0xfff, 0 | 0xfff)
            && vid_mask & 0xfff | pcp_mask != 0
        {
            if vid_mask & 0xfff != 0 {
                self.item("dl_vlan", vid & 0xfff)?;
            }
            return if pcp_mask != 0 { self.item("dl_vlan_pcp", pcp) } else { Ok(()) };
        }
        let (tci, mask) = (vid | pcp << 13, vid_mask | pcp_mask << 13);
        if mask == 0xffff {
            return self.item("vlan_tci", format_args!("{tci:#06x}"));
        }
        self.item("vlan_tci", format_args!("{tci:#06x}/{mask:#06x}"))
    }

    fn network(&mut self, shows_proto: bool) -> fmt::Result {
        self.ipv6(Field::IPV6_SRC, "ipv6_src")?;
        self.ipv6(Field::IPV6_DST, "ipv6_dst")?;
        self.with(Field::IPV6_LABEL, "ipv6_label", |f, value, mask| {
            write!(f, "{value:#07x}")?;
            if mask == Field::IPV6_LABEL.full_mask() { Ok(()) } else { write!(f, "/{mask:#07x}") }
        })?;
        self.hex(Field::IPV6_EXTHDR, "ipv6_exthdr")?;
        self.ipv4(Field::ARP_SPA, "arp_spa")?;
        self.ipv4(Field::ARP_TPA, "arp_tpa")?;
        self.nsh()?;
        self.ipv4(Field::IPV4_SRC, "nw_src")?;
        self.ipv4(Field::IPV4_DST, "nw_dst")?;
        if shows_proto {
            self.decimal(Field::IP_PROTO, "nw_proto")?;
        }
        self.decimal(Field::ARP_OP, "arp_op")?;
        self.ethernet(Field::ARP_SHA, "arp_sha")?;
        self.ethernet(Field::ARP_THA, "arp_tha")?;
        self.with(Field::IP_DSCP, "nw_tos", |f, value, _| write!(f, "{}", value << 2))?;
        self.decimal(Field::IP_ECN, "nw_ecn")?;
        self.decimal(Field::IP_TTL, "nw_ttl")?;
        self.decimal(Field::MPLS_LABEL, "mpls_label")?;
        self.decimal(Field::MPLS_TC, "mpls_tc")?;
        self.decimal(Field::MPLS_TTL, "mpls_ttl")?;
        self.decimal(Field::MPLS_BOS, "mpls_bos")?;
        self.hex(Field::PBB_ISID, "pbb_isid")?;
        self.decimal(Field::PBB_UCA, "pbb_uca")?;
        self.with(Field::IP_FRAG, "nw_frag", |f, value, mask| {
            match FRAGMENTS.iter().find(|&&(_, v, m)| (v, m) == (value, mask)) {
                Some((name, ..)) => f.write_str(name),
                None => write!(f, "{value:#x}/{mask:#x}"),
            }
        })
    }

    fn nsh(&mut self) -> fmt::Result {
        self.with(Field::NSH_FLAGS, "nsh_flags", |f, value, mask| {
            if mask == 0xff { write!(f, "{value}") } else { write!(f, "{value:#04x}/{mask:#04x}") }
        })?;
        self.decimal(Field::NSH_TTL, "nsh_ttl")?;
        self.decimal(Field::NSH_MDTYPE, "nsh_mdtype")?;
        self.decimal(Field::NSH_NP, "nsh_np")?;
        self.with(Field::NSH_SPI, "nsh_spi", |f, value, _| write!(f, "{value:#x}"))?;
        self.decimal(Field::NSH_SI, "nsh_si")?;
        for field in [Field::NSH_C1, Field::NSH_C2, Field::NSH_C3, Field::NSH_C4] {
            self.hex(field, field.name())?;
        }
        Ok(())
    }

    fn transport(&mut self) -> fmt::Result {
        self.decimal(Field::ICMP_TYPE, "icmp_type")?;
        self.decimal(Field::ICMP_CODE, "icmp_code")?;
        self.decimal(Field::ICMPV6_TYPE, "icmp_type")?;
        self.decimal(Field::ICMPV6_CODE, "icmp_code")?;
        self.ipv6(Field::ND_TARGET, "nd_target")?;
        self.ethernet(Field::ND_SLL, "nd_sll")?;
        self.ethernet(Field::ND_TLL, "nd_tll")?;
        self.decimal(Field::ND_RESERVED, "nd_reserved")?;
        self.decimal(Field::ND_OPTIONS_TYPE, "nd_options_type")?;
        for (src, dst) in [
            (Field::TCP_SRC, Field::TCP_DST),
            (Field::UDP_SRC, Field::UDP_DST),
            (Field::SCTP_SRC, Field::SCTP_DST),
        ] {
            self.decimal_or_masked(src, "tp_src")?;
            self.decimal_or_masked(dst, "tp_dst")?;
        }
        self.with(Field::TCP_FLAGS, "tcp_flags", |f, value, mask| {
            if mask == Field::TCP_FLAGS.full_mask() {
                write_flags(f, TCP_FLAGS, value)
            } else {
                write_masked_flags(f, TCP_FLAGS, value, mask)
            }
        })
    }
}

fn protocol(fields: &Match) -> Protocol {
    let number = fields.exact(Field::IP_PROTO);
    let (with_proto, bare) = match fields.exact(Field::ETH_TYPE) {
        Some(0x0800) => (
            match number {
                Some(1) => Some("icmp"),
                Some(6) => Some("tcp"),
                Some(17) => Some("udp"),
                Some(132) => Some("sctp"),
                _ => None,
            },
            Some("ip"),
        ),
        Some(0x86dd) => (
            match number {
                Some(58) => Some("icmp6"),
                Some(6) => Some("tcp6"),
                Some(17) => Some("udp6"),
                Some(132) => Some("sctp6"),
                _ => None,
            },
            Some("ipv6"),
        ),
        Some(0x0806) => (None, Some("arp")),
        Some(0x8035) => (None, Some("rarp")),
        Some(0x8847) => (None, Some("mpls")),
        Some(0x8848) => (None, Some("mplsm")),
        _ => (None, None),
    };
    Protocol { word: with_proto.or(bare), shows_proto: with_proto.is_none() }
}
