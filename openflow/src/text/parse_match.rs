//! Parsing a match.

use std::str::FromStr;

use super::error::ParseError;
use super::lexer::{Delimiter, Item, Text, items};
use super::parse_action::subfield;
use super::value::{number, number_u8, number_u16, value_and_mask, wide_value};
use crate::codec::oxm::is_possible;
use crate::field::{Field, ones};
use crate::flow_match::{Match, WideEntry, WideField, split_register};
use crate::prerequisite::{missing, network_type};

/// Words that stand for an Ethernet type and, perhaps, an IP protocol.
const PROTOCOLS: &[(&str, u16, Option<u8>)] = &[
    ("ip", 0x0800, None),
    ("ipv4", 0x0800, None),
    ("ip4", 0x0800, None),
    ("icmp", 0x0800, Some(1)),
    ("tcp", 0x0800, Some(6)),
    ("udp", 0x0800, Some(17)),
    ("sctp", 0x0800, Some(132)),
    ("ipv6", 0x86dd, None),
    ("ip6", 0x86dd, None),
    ("icmp6", 0x86dd, Some(58)),
    ("tcp6", 0x86dd, Some(6)),
    ("udp6", 0x86dd, Some(17)),
    ("sctp6", 0x86dd, Some(132)),
    ("arp", 0x0806, None),
    ("rarp", 0x8035, None),
    ("mpls", 0x8847, None),
    ("mplsm", 0x8848, None),
];

/// Fields in the making: what means different things for different protocols waits for the end.
#[derive(Default)]
pub(super) struct MatchBuilder<'a> {
    fields: Match,
    /// Fields as they were written, for the check of prerequisites.
    written: Vec<(Field, Text<'a>)>,
    /// `tp_src` and so on: name and value.
    generic: Vec<(Text<'a>, Text<'a>)>,
}

impl<'a> MatchBuilder<'a> {
    /// Takes an item if it is part of a match.
    pub(super) fn take(&mut self, item: &Item<'a>) -> Result<bool, ParseError> {
        let key = item.key.as_str();
        if item.delimiter == Delimiter::None {
            return self.take_word(item);
        }
        if matches!(
            key,
            "tp_src" | "tp_dst" | "nw_src" | "nw_dst" | "nw_proto" | "ip_proto" | "icmp_type" | "icmp_code"
        ) {
            self.generic.push((item.key, item.required()?));
            return Ok(true);
        }
        match key {
            "dl_vlan" => {
                let value = item.required()?;
                match number_u16(value)? {
                    0xffff => self.set(Field::VLAN_VID, 0, 0x1fff, item),
                    vid if vid < 0x1000 => self.set(Field::VLAN_VID, u128::from(vid | 0x1000), 0x1fff, item),
                    _ => return Err(value.error("a VLAN id goes from 0 to 4095 (65535 means no tag)")),
                }
            }
            "dl_vlan_pcp" => {
                let value = item.required()?;
                match number_u8(value)? {
                    pcp if pcp < 8 => self.set(Field::VLAN_PCP, pcp.into(), 7, item),
                    _ => return Err(value.error("a VLAN priority goes from 0 to 7")),
                }
            }
            "gtpu_flags" => self.take_field(Field::TUN_GTPU_FLAGS, item)?,
            "gtpu_msgtype" => self.take_field(Field::TUN_GTPU_MSGTYPE, item)?,
            _ => match Field::by_name(key) {
                Some(field) => self.take_field(field, item)?,
                None if key.contains('[') => self.take_bits(item)?,
                None => return Ok(false),
            },
        }
        Ok(true)
    }

    fn take_word(&mut self, item: &Item<'a>) -> Result<bool, ParseError> {
        let word = item.key.as_str();
        if let Some(&(_, dl_type, proto)) = PROTOCOLS.iter().find(|(name, ..)| *name == word) {
            self.fields.set(Field::ETH_TYPE, dl_type.into(), 0xffff);
            if let Some(proto) = proto {
                self.fields.set(Field::IP_PROTO, proto.into(), 0xff);
            }
            return Ok(true);
        }
        if word == "eth" {
            self.fields.set(Field::PACKET_TYPE, 0, u128::from(u32::MAX));
            return Ok(true);
        }
        match Field::by_name(word) {
            Some(field) if field.is_tun_metadata() => {
                self.set_present(field);
                Ok(true)
            }
            Some(_) => Err(item.key.error(format!("`{word}` needs a value"))),
            None => Ok(false),
        }
    }

    fn take_field(&mut self, field: Field, item: &Item<'a>) -> Result<(), ParseError> {
        let text = item.required()?;
        if field.is_tun_metadata() {
            let (value, mask) = wide_value(text)?;
            match &mask {
                Some(mask) if mask.iter().all(|byte| *byte == 0) => self.set_present(field),
                _ => self.fields.set_wide(WideEntry { field: WideField::Known(field), value, mask }),
            }
            return Ok(());
        }
        let (value, mask) = possible(field, text)?;
        self.set(field, value, mask, item);
        Ok(())
    }

    /// Asks that a tunnel option be there, whatever its value.
    fn set_present(&mut self, field: Field) {
        let entry = WideEntry { field: WideField::Known(field), value: vec![], mask: Some(vec![]) };
        self.fields.set_raw(entry);
    }

    /// `reg0[4..7]=5`: adds these bits to those of the field that are tested already.
    fn take_bits(&mut self, item: &Item<'a>) -> Result<(), ParseError> {
        let (bits, text) = (subfield(item.key)?, item.required()?);
        let field = bits.field;
        if field.is_tun_metadata() {
            return Err(item.key.error("of a tunnel option no single bits can be named here"));
        }
        let value = number(text)?;
        let all = ones(bits.n_bits);
        if value > all {
            return Err(text.error(format!("{} does not fit into {} bits", text.as_str(), bits.n_bits)));
        }
        let (old_value, old_mask) = self.tested_bits(field);
        let mask = old_mask | all << bits.ofs;
        if mask != field.full_mask() && !field.info().maskable {
            return Err(item.key.error(format!("{field} takes no mask")));
        }
        self.set(field, old_value & !(all << bits.ofs) | value << bits.ofs, mask, item);
        Ok(())
    }

    /// Value and mask of a field, be they kept under the names of other fields.
    fn tested_bits(&self, field: Field) -> (u128, u128) {
        let get = |field, shift: u16| {
            self.fields.get(field).map_or((0, 0), |(value, mask)| (value << shift, mask << shift))
        };
        let both = |a: (u128, u128), b: (u128, u128)| (a.0 | b.0, a.1 | b.1);
        if let Some((first, n, width)) = split_register(field) {
            let parts =
                (0..n).filter_map(|i| Some(get(Field::reg(first + i)?, width * u16::from(n - 1 - i))));
            return parts.fold((0, 0), both);
        }
        match field {
            Field::NW_TOS => get(Field::IP_DSCP, 2),
            Field::VLAN_TCI => [get(field, 0), get(Field::VLAN_VID, 0), get(Field::VLAN_PCP, 13)]
                .into_iter()
                .fold((0, 0), both),
            _ => get(field, 0),
        }
    }

    fn set(&mut self, field: Field, value: u128, mask: u128, item: &Item<'a>) {
        self.fields.set(field, value, mask);
        if mask != 0 {
            self.written.push((field, item.whole));
        }
    }

    /// Gives generic names their meaning and checks prerequisites.
    pub(super) fn finish(mut self) -> Result<Match, ParseError> {
        let generic = std::mem::take(&mut self.generic);
        // The protocol number decides what the ports mean, so it goes first.
        let (protocol, others): (Vec<_>, Vec<_>) =
            generic.into_iter().partition(|(key, _)| matches!(key.as_str(), "nw_proto" | "ip_proto"));
        for (key, text) in protocol.into_iter().chain(others) {
            let field = self.meaning(key)?;
            // In 16 bits for `arp_op`, yet the name says a protocol.
            let (value, mask) = possible(field, text)?;
            self.fields.set(field, value, mask);
            if mask != 0 {
                self.written.push((field, key));
            }
        }
        for &(field, text) in &self.written {
            if let Some(needed) = missing(&self.fields, field) {
                return Err(text.error(format!("{field} needs {needed} in the match")));
            }
        }
        Ok(self.fields)
    }

    fn meaning(&self, key: Text<'_>) -> Result<Field, ParseError> {
        let dl_type = network_type(&self.fields);
        let arp = matches!(dl_type, Some(0x0806 | 0x8035));
        let name = key.as_str();
        let proto = self.fields.exact(Field::IP_PROTO);
        let v6 = dl_type == Some(0x86dd);
        let field = match name {
            "nw_src" if arp => Some(Field::ARP_SPA),
            "nw_dst" if arp => Some(Field::ARP_TPA),
            "nw_src" if dl_type == Some(0x0800) => Some(Field::IPV4_SRC),
            "nw_dst" if dl_type == Some(0x0800) => Some(Field::IPV4_DST),
            "nw_src" | "nw_dst" => return Err(key.error(format!("{name} needs ip or arp in the match"))),
            "nw_proto" | "ip_proto" if arp => Some(Field::ARP_OP),
            "nw_proto" | "ip_proto" => Some(Field::IP_PROTO),
            _ => match (name, proto) {
                ("tp_src", Some(6)) => Some(Field::TCP_SRC),
                ("tp_dst", Some(6)) => Some(Field::TCP_DST),
                ("tp_src", Some(17)) => Some(Field::UDP_SRC),
                ("tp_dst", Some(17)) => Some(Field::UDP_DST),
                ("tp_src", Some(132)) => Some(Field::SCTP_SRC),
                ("tp_dst", Some(132)) => Some(Field::SCTP_DST),
                ("tp_src" | "icmp_type", Some(1)) if !v6 => Some(Field::ICMP_TYPE),
                ("tp_dst" | "icmp_code", Some(1)) if !v6 => Some(Field::ICMP_CODE),
                ("tp_src" | "icmp_type", Some(58)) if v6 => Some(Field::ICMPV6_TYPE),
                ("tp_dst" | "icmp_code", Some(58)) if v6 => Some(Field::ICMPV6_CODE),
                _ => None,
            },
        };
        let needed = if name.starts_with("icmp") { "icmp or icmp6" } else { "tcp, udp or sctp" };
        field.ok_or_else(|| key.error(format!("{name} needs {needed} in the match")))
    }
}

/// Value and mask, if the field can have the value: what a switch would refuse is not worth sending.
fn possible(field: Field, text: Text<'_>) -> Result<(u128, u128), ParseError> {
    let (value, mask) = value_and_mask(field, text)?;
    if !is_possible(field, value) {
        return Err(text.error(format!("{field} cannot be {}", text.as_str())));
    }
    Ok((value, mask))
}

impl FromStr for Match {
    type Err = ParseError;

    /// Parses the match part of a flow, as `ofproto/trace` takes it too:
    /// `in_port=4,tcp,nw_src=10.130.0.6,ct_state=trk`.
    fn from_str(s: &str) -> Result<Self, ParseError> {
        fields(Text::new(s)).map_err(|error| error.with_input(s))
    }
}

pub(super) fn fields(text: Text<'_>) -> Result<Match, ParseError> {
    let mut builder = MatchBuilder::default();
    for item in items(text)? {
        if !builder.take(&item)? {
            return Err(item.key.error(format!("unknown field `{}`", item.key.as_str())));
        }
    }
    builder.finish()
}
