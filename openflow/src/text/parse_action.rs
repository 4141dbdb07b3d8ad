//! Parsing actions and instructions.

use std::str::FromStr;

use super::error::ParseError;
use super::lexer::{Delimiter, Item, Text, items};
use super::parse_ct::{parse_ct, parse_nat};
use super::parse_learn::parse_learn;
use super::parse_nicira::{parse_bundle, parse_decap, parse_encap, parse_multipath, parse_sample};
use super::print_action::{REASONS, note_len};
use super::value::{
    number, number_of_bits, number_u8, number_u16, number_u32, number_u64, port, value_and_mask, wide_value,
};
use smallvec::{SmallVec, smallvec};

use crate::action::{Action, Controller, Subfield};
use crate::field::{Field, ones};
use crate::flow_match::Match;
use crate::instruction::{Instruction, Instructions};
use crate::port::OfPort;

/// How deep actions may nest (`clone(clone(...))`).
const MAX_DEPTH: usize = 16;

/// What the meaning of an action depends on.
#[derive(Clone, Copy)]
pub(super) struct Context<'m> {
    /// The match of the flow, where there is one.
    pub(super) fields: Option<&'m Match>,
    depth: usize,
}

impl<'m> Context<'m> {
    pub(super) fn new(fields: Option<&'m Match>) -> Self {
        Context { fields, depth: 0 }
    }

    pub(super) fn deeper(self, text: Text<'_>) -> Result<Self, ParseError> {
        if self.depth >= MAX_DEPTH {
            return Err(text.error("actions nest too deep"));
        }
        Ok(Context { depth: self.depth + 1, ..self })
    }

    fn tagged(self, before: &[Action]) -> bool {
        let pushed = before.iter().rev().find(|a| matches!(a, Action::PushVlan(_) | Action::PopVlan));
        match pushed {
            Some(action) => matches!(action, Action::PushVlan(_)),
            None => self
                .fields
                .and_then(|m| m.get(Field::VLAN_VID))
                .is_some_and(|(value, mask)| value & mask & 0x1000 != 0),
        }
    }

    fn proto(self) -> Option<u128> {
        self.fields.and_then(|m| m.exact(Field::IP_PROTO))
    }
}

/// A list of actions as after `actions=`, instructions among them.
pub(super) fn parse_instructions(text: Text<'_>, context: Context<'_>) -> Result<Instructions, ParseError> {
    let mut apply = Vec::new();
    let mut meter = None;
    let mut rest: Vec<Instruction> = Vec::new();
    let list = items(text)?;
    for item in &list {
        let key = item.key.as_str();
        let (rank, instruction) = match key {
            "meter" => {
                if !(apply.is_empty() && rest.is_empty() && meter.is_none()) {
                    return Err(item.whole.error("meter must come first, and once"));
                }
                meter = Some(Instruction::Meter(number_u32(item.required()?)?));
                continue;
            }
            "clear_actions" => (1, Instruction::ClearActions),
            "write_actions" => {
                let actions = parse_list(item.value, context.deeper(item.whole)?)?;
                if actions.is_empty() {
                    continue;
                }
                (2, Instruction::WriteActions(actions))
            }
            "write_metadata" => {
                let text = item.required()?;
                let (value, mask) = value_and_mask(Field::METADATA, text)?;
                (3, Instruction::WriteMetadata { value: value as u64, mask: mask as u64 })
            }
            "goto_table" => (4, Instruction::GotoTable(item.required()?.table()?)),
            "drop" if item.delimiter == Delimiter::None => {
                if list.len() > 1 {
                    return Err(item.whole.error("`drop` must stand alone"));
                }
                continue;
            }
            _ => {
                if let Some(last) = rest.last() {
                    let name = instruction_name(last);
                    return Err(item.whole.error(format!("`{key}` must come before {name}")));
                }
                parse_action(item, context, &mut apply)?;
                continue;
            }
        };
        if let Some(last) = rest.last()
            && instruction_rank(last) >= rank
        {
            let name = instruction_name(last);
            return Err(item.whole.error(format!("`{key}` must come before {name}, and once")));
        }
        rest.push(instruction);
    }
    let mut all: Instructions = meter.into_iter().collect();
    if !apply.is_empty() {
        all.push(Instruction::ApplyActions(apply));
    }
    all.extend(rest);
    Ok(all)
}

fn instruction_rank(instruction: &Instruction) -> u8 {
    match instruction {
        Instruction::ClearActions => 1,
        Instruction::WriteActions(_) => 2,
        Instruction::WriteMetadata { .. } => 3,
        _ => 4,
    }
}

fn instruction_name(instruction: &Instruction) -> &'static str {
    match instruction {
        Instruction::ClearActions => "clear_actions",
        Instruction::WriteActions(_) => "write_actions",
        Instruction::WriteMetadata { .. } => "write_metadata",
        _ => "goto_table",
    }
}

/// A list of actions without instructions; `drop` alone is the empty one.
pub(super) fn parse_list(text: Text<'_>, context: Context<'_>) -> Result<Vec<Action>, ParseError> {
    let list = items(text)?;
    if let [only] = list.as_slice()
        && only.whole.as_str() == "drop"
    {
        return Ok(Vec::new());
    }
    let mut actions = Vec::new();
    for item in &list {
        parse_action(item, context, &mut actions)?;
    }
    Ok(actions)
}

/// `NXM_NX_REG0[0..15]`, `reg0[3]`, `reg0[]`, `reg0`.
pub(super) fn subfield(text: Text<'_>) -> Result<Subfield, ParseError> {
    let (name, range) = match text.split_once('[') {
        Some((name, rest)) => {
            let inner = rest.strip_suffix("]").ok_or_else(|| text.error("expected `]` at the end"))?;
            (name, Some(inner))
        }
        None => (text, None),
    };
    let field = action_field(name)?;
    let Some(range) = range.filter(|r| !r.is_empty()) else { return Ok(Subfield::whole(field)) };
    let (first, last) = match range.split_once_str("..") {
        Some((first, last)) => (number_u16(first)?, number_u16(last)?),
        None => {
            let bit = number_u16(range)?;
            (bit, bit)
        }
    };
    Subfield::bits(field, first, last)
        .ok_or_else(|| range.error(format!("{} has bits 0 to {}", name.as_str(), field.width() - 1)))
}

/// A field as actions name it: `in_port` is the 16-bit one there.
pub(super) fn action_field(name: Text<'_>) -> Result<Field, ParseError> {
    match name.as_str() {
        "in_port" => Ok(Field::IN_PORT_16),
        "in_port_oxm" => Ok(Field::IN_PORT),
        word => Field::by_name(word).ok_or_else(|| name.error(format!("unknown field `{word}`"))),
    }
}

fn arrow<'a>(text: Text<'a>) -> Result<(Text<'a>, Text<'a>), ParseError> {
    text.split_once_str("->")
        .map(|(left, right)| (left.trim(), right.trim()))
        .ok_or_else(|| text.error("expected `->` and where to"))
}

pub(super) fn writable(subfield: Subfield, text: Text<'_>) -> Result<Subfield, ParseError> {
    if subfield.field.info().writable {
        Ok(subfield)
    } else {
        Err(text.error(format!("{} is read-only", subfield.field)))
    }
}

/// Parses one item and appends what it stands for, which may be several actions.
fn parse_action(item: &Item<'_>, context: Context<'_>, out: &mut Vec<Action>) -> Result<(), ParseError> {
    let key = item.key.as_str();
    let value = item.value;
    let action = match key {
        "output" => parse_output(item)?,
        "controller" | "CONTROLLER" => parse_controller(item)?,
        "group" => Action::Group(number_u32(item.required()?)?),
        "set_field" => return parse_set_field(item.required()?, out),
        "move" => {
            let (src, dst) = arrow(item.required()?)?;
            let (from, to) = (subfield(src)?, writable(subfield(dst)?, dst)?);
            if from.n_bits != to.n_bits {
                return Err(value.error(format!("{} bits cannot move into {} bits", from.n_bits, to.n_bits)));
            }
            Action::Move { src: from, dst: to }
        }
        "load" => {
            let (constant, dst) = arrow(item.required()?)?;
            let to = writable(subfield(dst)?, dst)?;
            Action::Load { dst: to, value: number_of_bits(constant, to.n_bits.min(64))? as u64 }
        }
        "push" => Action::StackPush(subfield(item.required()?)?),
        "pop" => Action::StackPop(writable(subfield(item.required()?)?, value)?),
        "resubmit" => parse_resubmit(item)?,
        "ct" => parse_ct(item, context)?,
        "ct_clear" => Action::CtClear,
        "nat" => Action::Nat(Box::new(parse_nat(item)?)),
        "conjunction" => parse_conjunction(item)?,
        "learn" => parse_learn(item, context)?,
        "note" => {
            let mut bytes = dotted_bytes(value)?;
            bytes.resize(note_len(bytes.len()), 0);
            Action::Note(bytes)
        }
        "multipath" => parse_multipath(item)?,
        "bundle" | "bundle_load" => parse_bundle(item, key == "bundle_load")?,
        "fin_timeout" => {
            let (mut idle, mut hard) = (0, 0);
            for arg in items(value)? {
                match arg.key.as_str() {
                    "idle_timeout" => idle = number_u16(arg.required()?)?,
                    "hard_timeout" => hard = number_u16(arg.required()?)?,
                    _ => return Err(arg.key.error("expected idle_timeout or hard_timeout")),
                }
            }
            Action::FinTimeout { idle, hard }
        }
        "set_queue" => Action::SetQueue(number_u32(item.required()?)?),
        "pop_queue" => Action::PopQueue,
        "enqueue" => {
            let text = item.required()?;
            let (to, queue) = text
                .split_once(':')
                .or_else(|| text.split_once(','))
                .ok_or_else(|| text.error("expected enqueue:PORT:QUEUE"))?;
            out.push(Action::SetQueue(number_u32(queue)?));
            out.push(output(port(to)?));
            Action::PopQueue
        }
        "set_tunnel" | "set_tunnel64" => set_field(Field::TUN_ID, number_u64(item.required()?)?.into()),
        "dec_ttl" => match item.delimiter {
            Delimiter::None => Action::DecTtl,
            _ => Action::DecTtlCntIds(
                value.split(',').map(|id| number_u16(id.trim())).collect::<Result<_, _>>()?,
            ),
        },
        "mod_nw_ttl" => Action::SetIpTtl(number_u8(item.required()?)?),
        "set_mpls_ttl" => Action::SetMplsTtl(number_u8(item.required()?)?),
        "set_mpls_label" => set_field(Field::MPLS_LABEL, number_of_bits(item.required()?, 20)?),
        "set_mpls_tc" => set_field(Field::MPLS_TC, number_of_bits(item.required()?, 3)?),
        "dec_mpls_ttl" => Action::DecMplsTtl,
        "copy_ttl_out" => Action::CopyTtlOut,
        "copy_ttl_in" => Action::CopyTtlIn,
        "push_vlan" => Action::PushVlan(one_of(item.required()?, &[0x8100, 0x88a8])?),
        "pop_vlan" | "strip_vlan" => Action::PopVlan,
        "push_mpls" => Action::PushMpls(one_of(item.required()?, &[0x8847, 0x8848])?),
        "pop_mpls" => Action::PopMpls(number_u16(item.required()?)?),
        "push_pbb" => Action::PushPbb(number_u16(item.required()?)?),
        "pop_pbb" => Action::PopPbb,
        "mod_vlan_vid" | "set_vlan_vid" | "mod_vlan_pcp" | "set_vlan_pcp" => {
            if !context.tagged(out) {
                out.push(Action::PushVlan(0x8100));
            }
            if key.ends_with("vid") {
                set_field(Field::VLAN_VID, number_of_bits(item.required()?, 12)? | 0x1000)
            } else {
                set_field(Field::VLAN_PCP, number_of_bits(item.required()?, 3)?)
            }
        }
        "mod_dl_src" | "mod_dl_dst" | "mod_nw_src" | "mod_nw_dst" => {
            let field = match key {
                "mod_dl_src" => Field::ETH_SRC,
                "mod_dl_dst" => Field::ETH_DST,
                "mod_nw_src" => Field::IPV4_SRC,
                _ => Field::IPV4_DST,
            };
            set_field(field, exact(field, item.required()?)?)
        }
        "mod_nw_tos" => {
            let tos = item.required()?;
            match number_of_bits(tos, 8)? {
                value if value & 3 == 0 => set_field(Field::IP_DSCP, value >> 2),
                _ => return Err(tos.error("the two low bits of a TOS are its ECN: mod_nw_ecn sets these")),
            }
        }
        "mod_nw_ecn" => set_field(Field::IP_ECN, number_of_bits(item.required()?, 2)?),
        "mod_tp_src" | "mod_tp_dst" => {
            let is_src = key.ends_with("src");
            let field = match context.proto() {
                Some(6) if is_src => Field::TCP_SRC,
                Some(6) => Field::TCP_DST,
                Some(17) if is_src => Field::UDP_SRC,
                Some(17) => Field::UDP_DST,
                Some(132) if is_src => Field::SCTP_SRC,
                Some(132) => Field::SCTP_DST,
                _ => return Err(item.key.error(format!("{key} needs tcp, udp or sctp in the match"))),
            };
            set_field(field, number_u16(item.required()?)?.into())
        }
        "sample" => parse_sample(item)?,
        "clone" => Action::Clone(parse_list(value, context.deeper(item.whole)?)?),
        "check_pkt_larger" => {
            let dst =
                item.tail.strip_prefix("->").ok_or_else(|| item.whole.error("expected `->` and where to"))?;
            let bit = writable(subfield(dst)?, dst)?;
            if bit.n_bits != 1 {
                return Err(dst.error("the answer is one bit"));
            }
            Action::CheckPktLarger { dst: bit, len: number_u16(value)? }
        }
        "encap" => parse_encap(item)?,
        "decap" => parse_decap(item)?,
        "dec_nsh_ttl" => Action::DecNshTtl,
        "delete_field" => {
            let text = item.required()?;
            let field = action_field(text)?;
            if !field.is_tun_metadata() {
                return Err(text.error("only a tun_metadata field can be deleted"));
            }
            Action::DeleteField(field)
        }
        "exit" => Action::Exit,
        _ if item.delimiter == Delimiter::None => match port(item.key) {
            Ok(port) => output(port),
            Err(_) => return Err(item.key.error(format!("unknown action `{key}`"))),
        },
        _ => return Err(item.key.error(format!("unknown action `{key}`"))),
    };
    out.push(action);
    Ok(())
}

fn one_of(text: Text<'_>, allowed: &[u16]) -> Result<u16, ParseError> {
    let value = number_u16(text)?;
    if allowed.contains(&value) {
        return Ok(value);
    }
    let names: Vec<String> = allowed.iter().map(|v| format!("{v:#06x}")).collect();
    Err(text.error(format!("expected {}", names.join(" or "))))
}

fn set_field(field: Field, value: u128) -> Action {
    Action::SetField { field, value, mask: field.full_mask() }
}

fn exact(field: Field, text: Text<'_>) -> Result<u128, ParseError> {
    match value_and_mask(field, text)? {
        (value, mask) if mask == field.full_mask() => Ok(value),
        _ => Err(text.error("no mask is allowed here")),
    }
}

fn output(port: OfPort) -> Action {
    if port == OfPort::CONTROLLER { Action::Controller(Controller::default()) } else { Action::Output(port) }
}

fn parse_output(item: &Item<'_>) -> Result<Action, ParseError> {
    if item.delimiter == Delimiter::Parentheses {
        let (mut to, mut max_len) = (None, None);
        for arg in items(item.value)? {
            match arg.key.as_str() {
                "port" => to = Some(port(arg.required()?)?),
                "max_len" => {
                    let text = arg.required()?;
                    let len = number_u32(text)?;
                    if len < 14 {
                        return Err(text.error("a packet keeps at least its 14 bytes of Ethernet header"));
                    }
                    max_len = Some(len);
                }
                _ => return Err(arg.key.error("expected port or max_len")),
            }
        }
        return match (to, max_len) {
            (Some(port), Some(max_len)) => Ok(Action::OutputTrunc { port, max_len }),
            _ => Err(item.whole.error("output(...) needs port and max_len")),
        };
    }
    let text = item.required()?;
    match port(text) {
        Ok(port) => Ok(output(port)),
        Err(error) => match text.as_str().contains('[') || Field::by_name(text.as_str()).is_some() {
            true => Ok(Action::OutputReg { src: subfield(text)?, max_len: 0xffff }),
            false => Err(error),
        },
    }
}

fn parse_controller(item: &Item<'_>) -> Result<Action, ParseError> {
    let mut c = Controller::default();
    match item.delimiter {
        Delimiter::None => {}
        Delimiter::Value => c.max_len = number_u16(item.required()?)?,
        Delimiter::Parentheses => {
            for arg in items(item.value)? {
                match arg.key.as_str() {
                    "max_len" => c.max_len = number_u16(arg.required()?)?,
                    "id" => c.controller_id = number_u16(arg.required()?)?,
                    "reason" => {
                        let text = arg.required()?;
                        c.reason = match REASONS.iter().position(|name| *name == text.as_str()) {
                            Some(reason) => reason as u8,
                            None => number_u8(text).map_err(|_| text.error("unknown reason"))?,
                        };
                    }
                    "userdata" => c.userdata = dotted_bytes(arg.required()?)?,
                    "pause" => c.pause = true,
                    "meter_id" => c.meter_id = Some(number_u32(arg.required()?)?),
                    _ => {
                        return Err(arg
                            .key
                            .error("expected max_len, id, reason, userdata, pause or meter_id"));
                    }
                }
            }
        }
    }
    Ok(Action::Controller(c))
}

/// `01.02.03`, `010203` or nothing.
pub(super) fn dotted_bytes(text: Text<'_>) -> Result<Vec<u8>, ParseError> {
    let wrong = || text.error("expected pairs of hexadecimal digits");
    let digits: Vec<u8> = text.as_str().bytes().filter(|&b| b != b'.').collect();
    if !digits.len().is_multiple_of(2) {
        return Err(wrong());
    }
    let digit = |b: u8| (b as char).to_digit(16).map(|d| d as u8).ok_or_else(wrong);
    digits.chunks_exact(2).map(|pair| pair.iter().try_fold(0, |acc, &b| Ok(acc << 4 | digit(b)?))).collect()
}

/// `set_field:VALUE[/MASK]->FIELD`; one with a mask becomes loads, as it does on OpenFlow 1.3's wire.
fn parse_set_field(text: Text<'_>, out: &mut Vec<Action>) -> Result<(), ParseError> {
    let (constant, name) = arrow(text)?;
    let field = action_field(name.strip_suffix("[]").unwrap_or(name))?;
    writable(Subfield::whole(field), name)?;
    if field.is_tun_metadata() {
        let (value, mask) = wide_value(constant)?;
        out.push(Action::SetFieldWide { field, value: value.into(), mask: mask.map(Into::into) });
        return Ok(());
    }
    let (value, mask) = value_and_mask(field, constant)?;
    match field {
        Field::VLAN_VID if value & 0x1000 == 0 && mask == field.full_mask() => {
            return Err(constant.error("vlan_vid needs the bit 0x1000 that says there is a tag"));
        }
        Field::NW_TOS if value & 3 != 0 => return Err(constant.error("the two low bits of nw_tos must be 0")),
        Field::IN_PORT => return Err(name.error("set in_port (16 bits) instead")),
        _ => {}
    }
    out.extend(canonical_set_field(field, value, mask));
    Ok(())
}

/// `set_field` itself if the mask is full, else one load for each run of ones in it, lowest first.
pub(crate) fn canonical_set_field(field: Field, value: u128, mask: u128) -> SmallVec<[Action; 2]> {
    let full = field.full_mask();
    if mask & full == full {
        return smallvec![Action::SetField { field, value: value & full, mask: full }];
    }
    let mut loads = SmallVec::new();
    let mut ofs = 0u32;
    let width = u32::from(field.width().min(128));
    while ofs < width {
        let rest = mask >> ofs;
        if rest & 1 == 0 {
            ofs += 1;
            continue;
        }
        let n_bits = rest.trailing_ones().min(64).min(width - ofs);
        let bits = (value >> ofs) & ones(n_bits as u16);
        loads.push(Action::Load {
            dst: Subfield { field, ofs: ofs as u16, n_bits: n_bits as u16 },
            value: bits as u64,
        });
        ofs += n_bits;
    }
    loads
}

fn parse_resubmit(item: &Item<'_>) -> Result<Action, ParseError> {
    let in_port = |text: Text<'_>| -> Result<Option<OfPort>, ParseError> {
        match text.trim() {
            text if text.is_empty() => Ok(None),
            text => Ok(Some(port(text)?).filter(|&p| p != OfPort::IN_PORT)),
        }
    };
    let nothing = || item.whole.error("resubmit needs a port or a table");
    if item.delimiter != Delimiter::Parentheses {
        let in_port = in_port(item.required()?)?;
        return Ok(Action::Resubmit {
            in_port: Some(in_port.unwrap_or(OfPort::IN_PORT)),
            table: None,
            with_ct: false,
        });
    }
    let mut args = item.value.split(',');
    let in_port_text = args.next().unwrap_or(item.value);
    let in_port = in_port(in_port_text)?;
    let table = match args.next().map(Text::trim).filter(|t| !t.is_empty()) {
        Some(text) => Some(text.table()?).filter(|&t| t != 255),
        None => None,
    };
    let with_ct = match args.next().map(Text::trim) {
        None => false,
        Some(text) if text.as_str() == "ct" => true,
        Some(text) => return Err(text.error("expected `ct`")),
    };
    if let Some(extra) = args.next() {
        return Err(extra.error("too many arguments"));
    }
    if in_port.is_none() && table.is_none() {
        return Err(nothing());
    }
    Ok(Action::Resubmit { in_port, table, with_ct })
}

fn parse_conjunction(item: &Item<'_>) -> Result<Action, ParseError> {
    let wrong = || item.whole.error("expected conjunction(ID,K/N) with 1 <= K <= N and 2 <= N <= 64");
    let (id, clause) = item.value.split_once(',').ok_or_else(wrong)?;
    let (k, n) = clause.split_once('/').ok_or_else(wrong)?;
    let (id, k, n) = (number_u32(id.trim())?, number_u8(k.trim())?, number_u8(n.trim())?);
    if !(2..=64).contains(&n) || k < 1 || k > n {
        return Err(wrong());
    }
    Ok(Action::Conjunction { id, clause: k - 1, n_clauses: n })
}

impl FromStr for Action {
    type Err = ParseError;

    /// Parses one action. Where the text stands for several (`enqueue`, `set_field` with a mask), use
    /// [`crate::parse_actions`].
    fn from_str(s: &str) -> Result<Self, ParseError> {
        let text = Text::new(s);
        let one = |text| -> Result<Action, ParseError> {
            let mut list = parse_list(text, Context::new(None))?;
            match (list.pop(), list.is_empty()) {
                (Some(action), true) => Ok(action),
                _ => Err(text.error("expected exactly one action")),
            }
        };
        one(text).map_err(|error| error.with_input(s))
    }
}

/// Parses a list of actions and instructions, what stands after `actions=` in a flow.
///
/// # Errors
/// Says which word is wrong and what was expected.
///
/// ```
/// use openflow::{Instruction, parse_actions};
/// let list = parse_actions("load:5->NXM_NX_REG0[],goto_table:21")?;
/// assert_eq!(list[1], Instruction::GotoTable(21));
/// # Ok::<(), openflow::ParseError>(())
/// ```
pub fn parse_actions(s: &str) -> Result<Instructions, ParseError> {
    parse_instructions(Text::new(s), Context::new(None)).map_err(|error| error.with_input(s))
}

/// For `learn`, whose constants may be numbers of any base.
pub(super) fn constant(text: Text<'_>, bits: u16) -> Result<u128, ParseError> {
    let value = number(text)?;
    if value > ones(bits) {
        return Err(text.error(format!("{} does not fit into {bits} bits", text.as_str())));
    }
    Ok(value)
}
