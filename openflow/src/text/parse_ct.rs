//! Parsing `ct` and `nat`.

use std::net::IpAddr;

use super::error::ParseError;
use super::lexer::{Delimiter, Item, Text, items};
use super::parse_action::{Context, parse_list, subfield};
use super::value::number_u16;
use crate::action::{Action, Ct, CtZone, Nat, NatKind};

pub(super) fn parse_ct(item: &Item<'_>, context: Context<'_>) -> Result<Action, ParseError> {
    let mut ct = Ct::default();
    let context = context.deeper(item.whole)?;
    for arg in items(item.value)? {
        match arg.key.as_str() {
            "commit" => ct.commit = true,
            "force" => ct.force = true,
            "table" => {
                let text = arg.required()?;
                ct.recirc_table = Some(text.table()?);
                if ct.recirc_table == Some(255) {
                    return Err(text.error("a table goes from 0 to 254"));
                }
            }
            "zone" => {
                let text = arg.required()?;
                ct.zone = match number_u16(text) {
                    Ok(zone) => CtZone::Immediate(zone),
                    Err(error) if text.as_str().starts_with(|c: char| c.is_ascii_digit()) => {
                        return Err(error);
                    }
                    Err(_) => {
                        let zone = subfield(text)?;
                        if zone.n_bits != 16 {
                            return Err(text.error("a zone is 16 bits"));
                        }
                        CtZone::Field(zone)
                    }
                };
            }
            "alg" => {
                let text = arg.required()?;
                ct.alg = match text.as_str() {
                    "ftp" => 21,
                    "tftp" => 69,
                    _ => return Err(text.error("expected ftp or tftp")),
                };
            }
            "nat" => {
                let nat = parse_nat(&arg)?;
                // The wire has one list; only a translation that leads it prints outside of `exec`.
                if ct.nat.is_none() && ct.exec.is_empty() {
                    ct.nat = Some(nat);
                } else {
                    ct.exec.push(Action::Nat(Box::new(nat)));
                }
            }
            "exec" => ct.exec.extend(parse_list(arg.required()?, context)?),
            other => return Err(arg.key.error(format!("unknown argument `{other}` of ct"))),
        }
    }
    if ct.force && !ct.commit {
        return Err(item.whole.error("ct(force) needs commit"));
    }
    if !ct.exec.is_empty() && !ct.commit {
        return Err(item.whole.error("ct(exec(...)) needs commit"));
    }
    Ok(Action::Ct(Box::new(ct)))
}

pub(super) fn parse_nat(item: &Item<'_>) -> Result<Nat, ParseError> {
    let mut nat = Nat::default();
    if item.delimiter == Delimiter::None {
        return Ok(nat);
    }
    for arg in items(item.value)? {
        match arg.key.as_str() {
            key @ ("src" | "dst") => {
                if nat.kind.is_some() {
                    return Err(arg.key.error("either src or dst, and once"));
                }
                nat.kind = Some(if key == "src" { NatKind::Src } else { NatKind::Dst });
                if arg.delimiter == Delimiter::Value {
                    parse_nat_range(arg.value, &mut nat)?;
                }
            }
            "persistent" => nat.persistent = true,
            "hash" => nat.hash = true,
            "random" => nat.random = true,
            _ => return Err(arg.key.error("expected src, dst, persistent, hash or random")),
        }
    }
    if nat.kind.is_none() && (nat.persistent || nat.hash || nat.random) {
        return Err(item.whole.error("persistent, hash and random say how src or dst is chosen"));
    }
    if nat.hash && nat.random {
        return Err(item.whole.error("hash and random exclude each other"));
    }
    Ok(nat)
}

/// `1.1.1.1-2.2.2.2:1-5`, `[fe80::1]-[fe80::2]:80`, `fe80::1`.
fn parse_nat_range(text: Text<'_>, nat: &mut Nat) -> Result<(), ParseError> {
    let address = |text: Text<'_>| -> Result<IpAddr, ParseError> {
        let bare = text.strip_prefix("[").and_then(|t| t.strip_suffix("]")).unwrap_or(text);
        bare.as_str()
            .parse()
            .map_err(|_| text.error(format!("expected an address, found `{}`", text.as_str())))
    };
    // Ports follow the last `:` behind a bracket or behind an IPv4 address.
    let (range, ports) = match text.as_str().rfind("]:") {
        Some(at) => (text.split_at(at + 1).0, Some(text.skip(at + 2))),
        None if text.as_str().contains('.') => match text.split_once(':') {
            Some((range, ports)) => (range, Some(ports)),
            None => (text, None),
        },
        None => (text, None),
    };
    let (first, last) = match range.split_once('-') {
        Some((first, last)) => (address(first)?, Some((last, address(last)?))),
        None => (address(range)?, None),
    };
    if let Some((text, last)) = last
        && (last.is_ipv4() != first.is_ipv4() || last < first)
    {
        return Err(text.error("the last address must be of the same kind and not below the first"));
    }
    let last = last.map(|(_, last)| last).filter(|last| *last != first);
    nat.addresses = Some((first, last));
    if let Some(ports) = ports {
        let (first, last) = match ports.split_once('-') {
            Some((first, last)) => (number_u16(first)?, Some(number_u16(last)?)),
            None => (number_u16(ports)?, None),
        };
        if last.is_some_and(|last| last < first) {
            return Err(ports.error("the last port must not be below the first"));
        }
        nat.ports = Some((first, last.filter(|last| *last != first)));
    }
    Ok(())
}
