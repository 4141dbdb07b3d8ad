//! Parsing those of Nicira's actions that have arguments of their own kind.

use super::error::ParseError;
use super::lexer::{Item, Text, items};
use super::parse_action::{dotted_bytes, subfield, writable};
use super::print_action::{BUNDLE_ALGORITHMS, ENCAP_CLASS_NSH, ENCAPS, HASH_FIELDS, MULTIPATH_ALGORITHMS};
use super::value::{number_of_bits, number_u8, number_u16, number_u32, port};
use crate::action::{
    Action, BundleAction, Encap, EncapProperty, Multipath, PacketType, Sample, SampleDirection,
};

fn name_index(text: Text<'_>, names: &[&str]) -> Result<u16, ParseError> {
    names
        .iter()
        .position(|name| *name == text.as_str())
        .map(|at| at as u16)
        .ok_or_else(|| text.error(format!("expected one of {}", names.join(", "))))
}

pub(super) fn parse_multipath(item: &Item<'_>) -> Result<Action, ParseError> {
    let args: Vec<Text<'_>> = item.value.split(',').map(Text::trim).collect();
    let [fields, basis, algorithm, n_links, arg, dst] = args.as_slice() else {
        return Err(item.whole.error("expected multipath(FIELDS,BASIS,ALGORITHM,N_LINKS,ARG,DST)"));
    };
    let links = number_u32(*n_links)?;
    if !(1..=65536).contains(&links) {
        return Err(n_links.error("the number of links goes from 1 to 65536"));
    }
    let to = writable(subfield(*dst)?, *dst)?;
    if to.n_bits < 16 && links > 1 << to.n_bits {
        return Err(dst.error(format!("{links} links do not fit into {} bits", to.n_bits)));
    }
    Ok(Action::Multipath(Multipath {
        fields: name_index(*fields, HASH_FIELDS)?,
        basis: number_u16(*basis)?,
        algorithm: name_index(*algorithm, MULTIPATH_ALGORITHMS)?,
        max_link: (links - 1) as u16,
        arg: number_u32(*arg)?,
        dst: to,
    }))
}

pub(super) fn parse_bundle(item: &Item<'_>, load: bool) -> Result<Action, ParseError> {
    let wrong = || item.whole.error("expected FIELDS,BASIS,ALGORITHM,ofport[,DST],members:PORT,...");
    let (head, members) =
        ["members:", "slaves:"].iter().find_map(|word| item.value.split_once_str(word)).ok_or_else(wrong)?;
    let head: Vec<Text<'_>> = head.split(',').map(Text::trim).filter(|t| !t.is_empty()).collect();
    let (head, dst) = match (head.as_slice(), load) {
        ([head @ .., dst], true) => (head, Some(writable(subfield(*dst)?, *dst)?)),
        (head, false) => (head, None),
        _ => return Err(wrong()),
    };
    let [fields, basis, algorithm, kind] = head else { return Err(wrong()) };
    if kind.as_str() != "ofport" {
        return Err(kind.error("expected ofport"));
    }
    let members =
        members.split(',').map(Text::trim).filter(|t| !t.is_empty()).map(port).collect::<Result<_, _>>()?;
    Ok(Action::Bundle(Box::new(BundleAction {
        algorithm: name_index(*algorithm, BUNDLE_ALGORITHMS)?,
        fields: name_index(*fields, HASH_FIELDS)?,
        basis: number_u16(*basis)?,
        members,
        dst,
    })))
}

pub(super) fn parse_sample(item: &Item<'_>) -> Result<Action, ParseError> {
    let mut sample = Sample {
        probability: 0,
        collector_set_id: 0,
        obs_domain_id: 0,
        obs_point_id: 0,
        sampling_port: None,
        direction: SampleDirection::Unspecified,
    };
    for arg in items(item.value)? {
        match arg.key.as_str() {
            "probability" => sample.probability = number_u16(arg.required()?)?,
            "collector_set_id" => sample.collector_set_id = number_u32(arg.required()?)?,
            "obs_domain_id" => sample.obs_domain_id = number_u32(arg.required()?)?,
            "obs_point_id" => sample.obs_point_id = number_u32(arg.required()?)?,
            "sampling_port" => sample.sampling_port = Some(port(arg.required()?)?),
            "ingress" => sample.direction = SampleDirection::Ingress,
            "egress" => sample.direction = SampleDirection::Egress,
            other => return Err(arg.key.error(format!("unknown argument `{other}` of sample"))),
        }
    }
    if sample.probability == 0 {
        return Err(item.whole.error("sample needs a probability from 1 to 65535"));
    }
    Ok(Action::Sample(sample))
}

fn parse_packet_type(item: &Item<'_>) -> Result<PacketType, ParseError> {
    let (mut namespace, mut kind) = (0, 0);
    for arg in items(item.value)? {
        match arg.key.as_str() {
            "ns" => namespace = number_u16(arg.required()?)?,
            "type" => kind = number_u16(arg.required()?)?,
            _ => return Err(arg.key.error("expected ns or type")),
        }
    }
    Ok(PacketType { namespace, kind })
}

pub(super) fn parse_encap(item: &Item<'_>) -> Result<Action, ParseError> {
    let list = items(item.value)?;
    let [header] = list.as_slice() else { return Err(item.whole.error("encap takes one header")) };
    let Some(&(_, namespace, kind)) = ENCAPS.iter().find(|(name, ..)| *name == header.key.as_str()) else {
        let names: Vec<&str> = ENCAPS.iter().map(|(name, ..)| *name).collect();
        return Err(header.key.error(format!("expected one of {}", names.join(", "))));
    };
    let mut properties = Vec::new();
    for arg in items(header.value)? {
        match arg.key.as_str() {
            "md_type" => {
                properties.push(nsh_property(1, vec![number_of_bits(arg.required()?, 8)? as u8]));
            }
            "tlv" => {
                let args: Vec<Text<'_>> = arg.value.split(',').map(Text::trim).collect();
                let [class, kind, data] = args.as_slice() else {
                    return Err(arg.whole.error("expected tlv(CLASS,TYPE,VALUE)"));
                };
                let hex = data
                    .strip_prefix("0x")
                    .ok_or_else(|| data.error("expected 0x and hexadecimal digits"))?;
                let bytes = dotted_bytes(hex)?;
                let len = u8::try_from(bytes.len()).map_err(|_| data.error("at most 255 bytes"))?;
                let mut value = number_u16(*class)?.to_be_bytes().to_vec();
                value.extend([number_u8(*kind)?, len]);
                value.extend(bytes);
                properties.push(nsh_property(2, value));
            }
            _ => return Err(arg.key.error("expected md_type or tlv")),
        }
    }
    Ok(Action::Encap(Encap { packet_type: PacketType { namespace, kind }, header_size: 0, properties }))
}

fn nsh_property(kind: u8, value: Vec<u8>) -> EncapProperty {
    EncapProperty { class: ENCAP_CLASS_NSH, kind, value }
}

pub(super) fn parse_decap(item: &Item<'_>) -> Result<Action, ParseError> {
    match items(item.value)?.as_slice() {
        [] => Ok(Action::Decap(None)),
        [arg] if arg.key.as_str() == "packet_type" => Ok(Action::Decap(Some(parse_packet_type(arg)?))),
        _ => Err(item.whole.error("expected decap() or decap(packet_type(ns=...,type=...))")),
    }
}
