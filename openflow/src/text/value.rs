//! Values of fields as text, both ways.

use std::fmt::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr};

use super::error::ParseError;
use super::lexer::Text;
use super::names::Out;
use crate::field::{Field, Format, ones};
use crate::flow_match::widen_port;
use crate::port::OfPort;

/// Flags of `ct_state`, by bit.
pub(super) const CT_STATE: &[&str] = &["new", "est", "rel", "rpl", "inv", "trk", "snat", "dnat"];
/// Flags of `tcp_flags`, by bit.
pub(super) const TCP_FLAGS: &[&str] = &["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr", "ns"];
/// Flags of `tun_flags`, by bit.
pub(super) const TUN_FLAGS: &[&str] = &["oam"];

/// Kinds of fragment: name, value, mask of `ip_frag`.
pub(super) const FRAGMENTS: &[(&str, u128, u128)] =
    &[("no", 0, 3), ("yes", 1, 1), ("first", 1, 3), ("later", 3, 3), ("not_later", 0, 2)];

/// C's `%#x`: no prefix for zero.
pub(crate) struct AltHex(pub(crate) u128);

impl fmt::Display for AltHex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 { f.write_char('0') } else { write!(f, "{:#x}", self.0) }
    }
}

/// Hexadecimal, but for numbers that are the same in decimal.
pub(super) struct BriefHex(pub(super) u128);

impl fmt::Display for BriefHex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 10 { self.0.fmt(f) } else { write!(f, "{:#x}", self.0) }
    }
}

/// An Ethernet address in the low 48 bits.
pub(super) struct Mac(pub(super) u128);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for shift in (0..6u32).rev() {
            write!(f, "{:02x}", (self.0 >> (shift * 8)) as u8)?;
            if shift > 0 {
                f.write_char(':')?;
            }
        }
        Ok(())
    }
}

/// An IPv6 address, with the last two groups in dotted form where C's `inet_ntop` does so.
pub(super) struct Ip6(pub(super) u128);

impl fmt::Display for Ip6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `::a.b.c.d`: all but the last 32 bits are zero and the upper half of these is not.
        if self.0 >> 32 == 0 && self.0 >> 16 != 0 {
            return write!(f, "::{}", Ipv4Addr::from(self.0 as u32));
        }
        Ipv6Addr::from(self.0).fmt(f)
    }
}

/// `Some(length)` if `mask` is a prefix of `width` bits.
fn prefix_len(mask: u128, width: u32) -> Option<u32> {
    let aligned = mask << (128 - width);
    (aligned.leading_ones() == aligned.count_ones()).then(|| aligned.leading_ones())
}

/// `10.0.0.0/8`, `1.1.1.1`, `0.0.0.1/0.0.0.255`.
pub(super) fn write_ipv4(f: &mut impl Write, value: u128, mask: u128) -> fmt::Result {
    write!(f, "{}", Ipv4Addr::from(value as u32))?;
    match prefix_len(mask, 32) {
        Some(32) => Ok(()),
        Some(length) => write!(f, "/{length}"),
        None => write!(f, "/{}", Ipv4Addr::from(mask as u32)),
    }
}

/// `fe80::/64`, `::1`, `::1/::ffff`.
pub(super) fn write_ipv6(f: &mut impl Write, value: u128, mask: u128) -> fmt::Result {
    write!(f, "{}", Ip6(value))?;
    match if mask == 0 { Some(0) } else { prefix_len(mask, 128) } {
        Some(128) => Ok(()),
        Some(length) => write!(f, "/{length}"),
        None => write!(f, "/{}", Ip6(mask)),
    }
}

/// `+trk-new`.
pub(super) fn write_masked_flags(f: &mut impl Write, names: &[&str], value: u128, mask: u128) -> fmt::Result {
    for bit in 0..32 {
        let probe = 1u128 << bit;
        if mask & probe == 0 {
            continue;
        }
        f.write_char(if value & probe == 0 { '-' } else { '+' })?;
        match names.get(bit as usize) {
            Some(name) => f.write_str(name)?,
            None => write!(f, "[{probe:x}]")?,
        }
    }
    Ok(())
}

/// `est|trk`, `0` if there is none.
pub(super) fn write_flags(f: &mut impl Write, names: &[&str], value: u128) -> fmt::Result {
    if value == 0 {
        return f.write_char('0');
    }
    let mut separator = "";
    for bit in 0..32 {
        let probe = 1u128 << bit;
        if value & probe != 0 {
            f.write_str(separator)?;
            separator = "|";
            match names.get(bit as usize) {
                Some(name) => f.write_str(name)?,
                None => write!(f, "[{probe:x}]")?,
            }
        }
    }
    Ok(())
}

/// The value of a `set_field`, exact.
pub(super) fn write_value(f: &mut Out<'_>, field: Field, value: u128) -> fmt::Result {
    match field.info().format {
        Format::Decimal => write!(f, "{value}"),
        Format::Hexadecimal => write!(f, "{}", AltHex(value)),
        Format::Ethernet => write!(f, "{}", Mac(value)),
        Format::Ipv4 => write_ipv4(f, value, ones(32)),
        Format::Ipv6 => write_ipv6(f, value, u128::MAX),
        Format::Port if field.width() == 16 => f.port(OfPort(widen_port(value))),
        Format::Port => f.port(OfPort(value as u32)),
        Format::CtState => write_flags(f, CT_STATE, value),
        Format::TcpFlags => write_flags(f, TCP_FLAGS, value),
        Format::TunnelFlags => write_flags(f, TUN_FLAGS, value),
        Format::Fragment => match FRAGMENTS.iter().find(|(_, v, m)| *m == 3 && *v == value) {
            Some((name, ..)) => f.write_str(name),
            None => write!(f, "{value}"),
        },
        Format::PacketType => write!(f, "({},{})", value >> 16, AltHex(value & 0xffff)),
    }
}

/// Hexadecimal bytes without leading zeros, `0` for none.
pub(super) fn write_wide(f: &mut impl Write, bytes: &[u8]) -> fmt::Result {
    let mut significant = bytes.iter().skip_while(|&&b| b == 0);
    match significant.next() {
        None => f.write_char('0'),
        Some(first) => {
            write!(f, "{first:#x}")?;
            significant.try_for_each(|b| write!(f, "{b:02x}"))
        }
    }
}

/// A number as C's `strtoull` with base 0 takes it: decimal, `0x` hexadecimal or `0` octal.
pub(super) fn number(text: Text<'_>) -> Result<u128, ParseError> {
    let s = text.as_str();
    let parsed = if let Some(hex) = s.strip_prefix("0x").or_else(|| s.strip_prefix("0X")) {
        u128::from_str_radix(hex, 16)
    } else if s.len() > 1 && s.starts_with('0') {
        u128::from_str_radix(s, 8)
    } else {
        s.parse()
    };
    match parsed {
        Ok(value) if !s.contains('+') => Ok(value),
        _ => Err(text.error(format!("expected a number, found `{s}`"))),
    }
}

/// A number of at most `bits` bits.
pub(super) fn number_of_bits(text: Text<'_>, bits: u16) -> Result<u128, ParseError> {
    let value = number(text)?;
    if value > ones(bits) {
        return Err(text.error(format!("{} does not fit into {bits} bits", text.as_str())));
    }
    Ok(value)
}

pub(super) fn number_u8(text: Text<'_>) -> Result<u8, ParseError> {
    number_of_bits(text, 8).map(|v| v as u8)
}

pub(super) fn number_u16(text: Text<'_>) -> Result<u16, ParseError> {
    number_of_bits(text, 16).map(|v| v as u16)
}

pub(super) fn number_u32(text: Text<'_>) -> Result<u32, ParseError> {
    number_of_bits(text, 32).map(|v| v as u32)
}

pub(super) fn number_u64(text: Text<'_>) -> Result<u64, ParseError> {
    number_of_bits(text, 64).map(|v| v as u64)
}

/// A port: a number (0xff00 to 0xffff are the reserved ones of OpenFlow 1.0) or a reserved name.
pub(super) fn port(text: Text<'_>) -> Result<OfPort, ParseError> {
    let s = text.as_str();
    if let Some(port) = OfPort::by_reserved_name(s).or_else(|| text.named_port()) {
        return Ok(port);
    }
    if s.eq_ignore_ascii_case("none") {
        return Ok(OfPort::ANY);
    }
    let number =
        number(text).map_err(|_| text.error(format!("expected a port number or name, found `{s}`")))?;
    if (0xff00..0xfff7).contains(&number) || (0x1_0000..0xffff_ff00).contains(&number) || number > ones(32) {
        return Err(text.error(format!("{s} is not a port: ports go from 0 to 0xfeff")));
    }
    Ok(OfPort(if number > 0xffff { number as u32 } else { widen_port(number) }))
}

/// Six hexadecimal pairs.
pub(super) fn mac(text: Text<'_>) -> Result<u128, ParseError> {
    let wrong = || text.error(format!("expected an Ethernet address, found `{}`", text.as_str()));
    let mut value = 0u128;
    let mut parts = 0;
    for part in text.as_str().split(':') {
        let byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        if part.len() > 2 || part.starts_with('+') {
            return Err(wrong());
        }
        value = value << 8 | u128::from(byte);
        parts += 1;
    }
    if parts == 6 { Ok(value) } else { Err(wrong()) }
}

pub(super) fn ipv4(text: Text<'_>) -> Result<u128, ParseError> {
    let address: Ipv4Addr = text
        .as_str()
        .parse()
        .map_err(|_| text.error(format!("expected an IPv4 address, found `{}`", text.as_str())))?;
    Ok(u128::from(u32::from(address)))
}

pub(super) fn ipv6(text: Text<'_>) -> Result<u128, ParseError> {
    let address: Ipv6Addr = text
        .as_str()
        .parse()
        .map_err(|_| text.error(format!("expected an IPv6 address, found `{}`", text.as_str())))?;
    Ok(u128::from(address))
}

/// `value`, `value/mask` or (for addresses) `value/length` of a field up to 128 bits wide.
pub(super) fn value_and_mask(field: Field, text: Text<'_>) -> Result<(u128, u128), ParseError> {
    let full = field.full_mask();
    if text.as_str() == "*" {
        return Ok((0, 0));
    }
    let format = field.info().format;
    match format {
        Format::CtState => return flags(text, CT_STATE, full, "ct_state"),
        Format::TcpFlags => return flags(text, TCP_FLAGS, full, "tcp_flags"),
        Format::TunnelFlags => return flags(text, TUN_FLAGS, full, "tun_flags"),
        Format::Fragment => {
            return FRAGMENTS
                .iter()
                .find(|(name, ..)| *name == text.as_str())
                .map(|&(_, value, mask)| (value, mask))
                .ok_or_else(|| text.error("expected one of no, yes, first, later, not_later"));
        }
        Format::PacketType => return packet_type(text).map(|value| (value, full)),
        _ => {}
    }
    let (value_text, mask_text) = match text.split_once('/') {
        Some((value, mask)) => (value, Some(mask)),
        None => (text, None),
    };
    let scalar = |text: Text<'_>| match format {
        Format::Ethernet => mac(text),
        Format::Ipv4 => ipv4(text),
        Format::Ipv6 => ipv6(text),
        Format::Port => port(text).map(|port| u128::from(port) & full),
        _ => number(text),
    };
    let value = scalar(value_text)?;
    if value > full {
        return Err(value_text.error(format!(
            "{} does not fit into the {} bits of {field}",
            value_text.as_str(),
            field.width()
        )));
    }
    let Some(mask_text) = mask_text else { return Ok((value, full)) };
    let length_allowed = matches!(format, Format::Ipv4 | Format::Ipv6);
    let mask = if length_allowed && mask_text.as_str().bytes().all(|b| b.is_ascii_digit()) {
        let width = u128::from(field.width());
        let length = number(mask_text)?;
        if length > width {
            return Err(mask_text.error(format!("a prefix of {field} has at most {width} bits")));
        }
        if length == 0 { 0 } else { full << (width - length) & full }
    } else {
        scalar(mask_text)?
    };
    if mask > full {
        return Err(
            mask_text.error(format!("the mask does not fit into the {} bits of {field}", field.width()))
        );
    }
    if mask != full && mask != 0 && !field.info().maskable {
        return Err(mask_text.error(format!("{field} takes no mask")));
    }
    Ok((value & mask, mask))
}

fn packet_type(text: Text<'_>) -> Result<u128, ParseError> {
    let inner = text
        .strip_prefix("(")
        .and_then(|t| t.strip_suffix(")"))
        .and_then(|t| t.split_once(','))
        .ok_or_else(|| text.error("expected (namespace,type)"))?;
    Ok(number_of_bits(inner.0.trim(), 16)? << 16 | number_of_bits(inner.1.trim(), 16)?)
}

/// `+trk-new`, `est|trk`, or a number with or without a mask.
fn flags(text: Text<'_>, names: &[&str], full: u128, what: &str) -> Result<(u128, u128), ParseError> {
    let s = text.as_str();
    let bit_of = |word: Text<'_>| -> Result<u128, ParseError> {
        if let Some(bit) = names.iter().position(|name| *name == word.as_str()) {
            return Ok(1 << bit);
        }
        let bracketed = word.as_str().strip_prefix('[').and_then(|w| w.strip_suffix(']'));
        let value = bracketed.and_then(|hex| u128::from_str_radix(hex, 16).ok());
        value.filter(|v| v & !full == 0).ok_or_else(|| {
            word.error(format!(
                "`{}` is no flag of {what}; expected one of {}",
                word.as_str(),
                names.join(", ")
            ))
        })
    };
    if s.starts_with(['+', '-']) {
        let (mut value, mut mask) = (0, 0);
        let mut rest = text;
        while let Some(sign) = rest.as_str().chars().next() {
            if !matches!(sign, '+' | '-') {
                return Err(rest.error("expected + or - before each flag"));
            }
            rest = rest.skip(1);
            let end = rest.as_str().find(['+', '-']).unwrap_or(rest.as_str().len());
            let (word, tail) = rest.split_at(end);
            let bit = bit_of(word)?;
            if mask & bit != 0 {
                return Err(word.error(format!("flag `{}` is given twice", word.as_str())));
            }
            mask |= bit;
            if sign == '+' {
                value |= bit;
            }
            rest = tail;
        }
        return Ok((value, mask));
    }
    if s.starts_with(|c: char| c.is_ascii_digit()) {
        let (value_text, mask_text) = match text.split_once('/') {
            Some((value, mask)) => (value, Some(mask)),
            None => (text, None),
        };
        let value = number(value_text)?;
        let mask = mask_text.map_or(Ok(full), number)?;
        if (value | mask) & !full != 0 {
            return Err(text.error(format!("unknown flags of {what}: all known ones are {full:#x}")));
        }
        return Ok((value & mask, mask));
    }
    let mut value = 0;
    for word in text.split('|') {
        value |= bit_of(word)?;
    }
    Ok((value, full))
}

/// `0x123456/0xffffff` of any width, in as few bytes as are significant.
pub(super) fn wide_value(text: Text<'_>) -> Result<(Vec<u8>, Option<Vec<u8>>), ParseError> {
    let (value_text, mask_text) = match text.split_once('/') {
        Some((value, mask)) => (value, Some(mask)),
        None => (text, None),
    };
    let mut value = wide_number(value_text)?;
    let mut mask = mask_text.map(wide_number).transpose()?;
    if let Some(mask) = &mut mask {
        let length = value.len().max(mask.len());
        for bytes in [&mut value, mask] {
            let missing = length.saturating_sub(bytes.len());
            bytes.splice(0..0, std::iter::repeat_n(0, missing));
        }
        for (v, m) in value.iter_mut().zip(mask.iter()) {
            *v &= *m;
        }
    }
    Ok((value, mask))
}

fn wide_number(text: Text<'_>) -> Result<Vec<u8>, ParseError> {
    let Some(hex) = text.strip_prefix("0x") else {
        let value = number(text)?.to_be_bytes();
        let significant: Vec<u8> = value.into_iter().skip_while(|&b| b == 0).collect();
        return Ok(significant);
    };
    let digits = hex.as_str().trim_start_matches('0');
    let wrong = || text.error(format!("expected a hexadecimal number, found `{}`", text.as_str()));
    if hex.as_str().is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    if digits.len() > 248 {
        return Err(text.error("a tunnel option has at most 124 bytes"));
    }
    let even = if digits.len() % 2 == 1 { format!("0{digits}") } else { digits.to_owned() };
    let nibble = |b: u8| (b as char).to_digit(16).unwrap_or(0) as u8;
    Ok(even
        .as_bytes()
        .chunks_exact(2)
        .map(|pair| pair.iter().fold(0, |acc, &b| acc << 4 | nibble(b)))
        .collect())
}
