//! Reading actions.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::action_encode::BUNDLE_MEMBER_PORT;
use super::action_kind::{
    CT_NO_TABLE, DECAP_NEXT, ENCAP_NSH_TLV, ONF_COPY_FIELD, controller_prop, ct_flag, nat_flag, nat_range,
    nxast, ofpat,
};
use super::learn::take_learn;
use super::oxm::{is_settable, plain_setting, take_bits, take_field, take_header};
use crate::action::{
    Action, BundleAction, Controller, Ct, CtZone, Encap, EncapProperty, Multipath, Nat, NatKind, PacketType,
    Sample, SampleDirection, Subfield,
};
use crate::field::{Field, Header};
use crate::flow_match::widen_port;
use crate::message::{ErrorCode, NICIRA, ONF};
use crate::port::OfPort;
use crate::text::canonical_set_field;
use crate::wire::{Fixed, Reader, Reason, Result};

/// How deep actions may nest (`clone` in `clone`).
const MAX_DEPTH: u8 = 16;

/// Reads actions up to the end.
pub(crate) fn take_actions(r: &mut Reader<'_>) -> Result<Vec<Action>> {
    take_nested(r, 0)
}

fn take_nested(r: &mut Reader<'_>, depth: u8) -> Result<Vec<Action>> {
    let mut actions = Vec::new();
    add_nested(r, depth, &mut actions)?;
    Ok(actions)
}

/// Adds the actions up to the end to a list, which gets the room that it needs if it has none yet.
pub(super) fn add_actions(r: &mut Reader<'_>, actions: &mut Vec<Action>) -> Result<()> {
    add_nested(r, 0, actions)
}

fn add_nested(r: &mut Reader<'_>, depth: u8, actions: &mut Vec<Action>) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(r.error(Reason::TooDeep));
    }
    if actions.capacity() == 0 {
        *actions = Vec::with_capacity(count(r.peek()));
    }
    while !r.is_empty() {
        if !r.may_hurry() || !add_frequent(r, actions) {
            take_action(r, depth, actions)?;
        }
    }
    Ok(())
}

/// Adds what most flows do, at a glance: `OFPAT_OUTPUT`, `OFPAT_SET_FIELD`, `OFPAT_DEC_NW_TTL` and `NXAST_REG_LOAD`. False,
/// once it comes to anything else, or to what is wrong with these: [`take_action`] has to say.
fn add_frequent(r: &mut Reader<'_>, actions: &mut Vec<Action>) -> bool {
    /// Type and length.
    const OUTPUT: u32 = (ofpat::OUTPUT as u32) << 16 | 16;
    const DEC_NW_TTL: u32 = (ofpat::DEC_NW_TTL as u32) << 16 | 8;
    /// With a field of up to 8 bytes.
    const SET_FIELD: u32 = (ofpat::SET_FIELD as u32) << 16 | 16;
    const EXPERIMENTER: u32 = (ofpat::EXPERIMENTER as u32) << 16 | 24;
    let mut bytes = r.peek();
    r.enter("ofp_action");
    while let Some((&head, body)) = bytes.split_first_chunk() {
        let head = u64::from_be_bytes(head);
        // What follows type and length: a port, the header of a field, an experimenter.
        let word = head as u32;
        // Each adds its own, since an action that may be any of them is put together byte by byte.
        let rest = match (head >> 32) as u32 {
            OUTPUT => output(OfPort(word), body, actions),
            SET_FIELD => set_plain_field(word, body, actions),
            EXPERIMENTER if word == NICIRA => load(body, actions),
            DEC_NW_TTL => {
                actions.push(Action::DecTtl);
                Some(body)
            }
            _ => None,
        };
        let Some(rest) = rest else { break };
        bytes = rest;
    }
    r.go_on_at(bytes);
    bytes.is_empty()
}

#[inline(always)]
fn output<'a>(port: OfPort, body: &'a [u8], actions: &mut Vec<Action>) -> Option<&'a [u8]> {
    let (_, rest) = body.split_first_chunk::<8>()?;
    (port != OfPort::CONTROLLER).then(|| {
        actions.push(Action::Output(port));
        rest
    })
}

#[inline(always)]
fn set_plain_field<'a>(header: u32, body: &'a [u8], actions: &mut Vec<Action>) -> Option<&'a [u8]> {
    let (payload, rest) = body.split_first_chunk()?;
    let (field, value, mask) = plain_setting(header, payload)?;
    actions.push(Action::SetField { field, value: value.into(), mask: mask.into() });
    Some(rest)
}

#[inline(always)]
fn load<'a>(body: &'a [u8], actions: &mut Vec<Action>) -> Option<&'a [u8]> {
    let (body, rest) = body.split_first_chunk::<16>()?;
    let mut body = Fixed(body);
    let (subtype, ofs_nbits) = (body.u16(), body.u16());
    let (class, field_and_mask) = (body.u16(), body.u16() >> 8);
    let value = body.u64();
    if subtype != nxast::REG_LOAD || field_and_mask & 1 == 1 {
        return None;
    }
    let field = Field::by_header(class, (field_and_mask >> 1) as u8, 0)?;
    let (ofs, n_bits) = unpack_range(ofs_nbits);
    let dst = Subfield::bits(field, ofs, ofs + n_bits - 1)?;
    (value <= u64::MAX >> (64 - n_bits)).then(|| {
        actions.push(Action::Load { dst, value });
        rest
    })
}

/// How many actions there are, by their lengths: lists of flows are many and stay, so that each gets the room it needs, at
/// once and no more. Where a length cannot be, reading will say so.
fn count(mut bytes: &[u8]) -> usize {
    let mut n = 0;
    while let [_, _, high, low, ..] = *bytes {
        let len = usize::from(u16::from_be_bytes([high, low]));
        bytes = match bytes.get(len..) {
            Some(rest) if len >= 8 => rest,
            _ => break,
        };
        n += 1;
    }
    n
}

fn take_action(r: &mut Reader<'_>, depth: u8, out: &mut Vec<Action>) -> Result<()> {
    r.enter("ofp_action");
    let whole = r.peek();
    let start = r.offset();
    let (kind, len) = r.kind_and_len()?;
    if len < 8 || !len.is_multiple_of(8) {
        return Err(r.invalid_at(start, ErrorCode::BAC_BAD_LEN));
    }
    let Ok(mut body) = r.sub(usize::from(len) - 4, "ofp_action") else {
        return Err(r.invalid_at(start, ErrorCode::BAC_BAD_LEN));
    };
    let unknown = |body: &mut Reader<'_>| {
        body.rest();
        Action::Unknown { kind, raw: whole.get(..usize::from(len)).unwrap_or(whole).to_vec() }
    };
    let b = &mut body;
    let action = match kind {
        ofpat::OUTPUT => {
            let port = OfPort(b.u32()?);
            let max_len = b.u16()?;
            b.skip(6)?;
            match port {
                OfPort::CONTROLLER => Action::Controller(Controller { max_len, ..Controller::default() }),
                _ => Action::Output(port),
            }
        }
        ofpat::COPY_TTL_OUT => fixed(b, Action::CopyTtlOut)?,
        ofpat::COPY_TTL_IN => fixed(b, Action::CopyTtlIn)?,
        ofpat::SET_MPLS_TTL => Action::SetMplsTtl(last_u8(b)?),
        ofpat::DEC_MPLS_TTL => fixed(b, Action::DecMplsTtl)?,
        ofpat::PUSH_VLAN => Action::PushVlan(last_u16(b)?),
        ofpat::POP_VLAN => fixed(b, Action::PopVlan)?,
        ofpat::PUSH_MPLS => Action::PushMpls(last_u16(b)?),
        ofpat::POP_MPLS => Action::PopMpls(last_u16(b)?),
        ofpat::SET_QUEUE => Action::SetQueue(b.u32()?),
        ofpat::GROUP => Action::Group(b.u32()?),
        ofpat::SET_NW_TTL => Action::SetIpTtl(last_u8(b)?),
        ofpat::DEC_NW_TTL => fixed(b, Action::DecTtl)?,
        ofpat::PUSH_PBB => Action::PushPbb(last_u16(b)?),
        ofpat::POP_PBB => fixed(b, Action::PopPbb)?,
        ofpat::SET_FIELD => match take_set_field(b, false, out)? {
            Taken::Yes => return Ok(()),
            Taken::Unknown => unknown(b),
        },
        ofpat::EXPERIMENTER => match b.u32()? {
            NICIRA => match take_nicira(b, depth, out)? {
                Taken::Yes => return Ok(()),
                Taken::Unknown => unknown(b),
            },
            ONF if b.peek().starts_with(&ONF_COPY_FIELD.to_be_bytes()) => {
                b.skip(4)?;
                let lens = (b.u16()?, b.u16()?, b.u16()?);
                b.skip(2)?;
                take_move(b, lens)?
            }
            _ => unknown(b),
        },
        _ => unknown(b),
    };
    if !b.is_empty() {
        return Err(r.invalid_at(start, ErrorCode::BAC_BAD_LEN));
    }
    out.push(action);
    Ok(())
}

enum Taken {
    Yes,
    Unknown,
}

/// An action that is nothing but its header and four bytes of padding.
fn fixed(r: &mut Reader<'_>, action: Action) -> Result<Action> {
    r.skip(4)?;
    Ok(action)
}

fn last_u8(r: &mut Reader<'_>) -> Result<u8> {
    let value = r.u8()?;
    r.skip(3)?;
    Ok(value)
}

fn last_u16(r: &mut Reader<'_>) -> Result<u16> {
    let value = r.u16()?;
    r.skip(2)?;
    Ok(value)
}

/// `OFPAT_SET_FIELD`, which has no mask in OpenFlow 1.3, and `NXAST_REG_LOAD2`, which may have one on any field.
fn take_set_field(r: &mut Reader<'_>, may_mask: bool, out: &mut Vec<Action>) -> Result<Taken> {
    r.enter("ofp_action_set_field");
    let raw = take_header(r)?;
    let Ok(mut payload) = r.sub(raw.len, "oxm_field") else {
        return Err(r.invalid(ErrorCode::BAC_BAD_SET_LEN));
    };
    let padding = r.rest();
    let Some(field) = raw.field() else { return Ok(Taken::Unknown) };
    let check = |payload: &Reader<'_>| {
        if raw.has_mask && !may_mask {
            return Err(payload.invalid(ErrorCode::BAC_BAD_SET_MASK));
        }
        match !field.info().writable || padding.iter().any(|&byte| byte != 0) {
            true => Err(payload.invalid(ErrorCode::BAC_BAD_SET_ARGUMENT)),
            false => Ok(()),
        }
    };
    if field.is_tun_metadata() {
        let all = payload.rest();
        let (value, mask) = all.split_at(if raw.has_mask { all.len() / 2 } else { all.len() });
        check(&payload)?;
        if raw.has_mask && value.len() != mask.len() {
            return Err(payload.invalid(ErrorCode::BAC_BAD_SET_LEN));
        }
        let mask = raw.has_mask.then(|| mask.into());
        out.push(Action::SetFieldWide { field, value: value.into(), mask });
        return Ok(Taken::Yes);
    }
    let bad_len = match raw.len {
        0 if raw.header.class != Header::EXPERIMENTER_CLASS => ErrorCode::BAC_BAD_SET_TYPE,
        _ => ErrorCode::BAC_BAD_SET_LEN,
    };
    let (value, mask) = take_bits(&mut payload, field, raw.has_mask, bad_len)?;
    check(&payload)?;
    // Nicira's takes any value, of which what the field has no room for is lost.
    if !may_mask && !is_settable(field, value) {
        return Err(payload.invalid(ErrorCode::BAC_BAD_SET_ARGUMENT));
    }
    let full = field.full_mask();
    let value = value & full;
    match mask.map(|mask| mask & full) {
        // The loads that do the same: none, where the mask has no ones.
        Some(mask) if mask != full => out.extend(canonical_set_field(field, value, mask)),
        _ => out.push(Action::SetField { field, value, mask: full }),
    }
    Ok(Taken::Yes)
}

/// A range of bits from its packed form and its field.
fn packed_subfield(r: &Reader<'_>, field: Field, ofs_nbits: u16) -> Result<Subfield> {
    let (ofs, n_bits) = unpack_range(ofs_nbits);
    subfield(r, field, ofs, n_bits)
}

/// Lowest bit and number of bits, 1 to 64, of a packed range.
#[inline]
fn unpack_range(ofs_nbits: u16) -> (u16, u16) {
    (ofs_nbits >> 6, (ofs_nbits & 0x3f) + 1)
}

fn subfield(r: &Reader<'_>, field: Field, ofs: u16, n_bits: u16) -> Result<Subfield> {
    n_bits
        .checked_sub(1)
        .and_then(|n| ofs.checked_add(n))
        .and_then(|last| Subfield::bits(field, ofs, last))
        .ok_or_else(|| r.invalid(ErrorCode::BAC_BAD_ARGUMENT))
}

fn port16(r: &mut Reader<'_>) -> Result<OfPort> {
    Ok(OfPort(widen_port(r.u16()?.into())))
}

#[allow(clippy::too_many_lines)] // One arm an action, in the order of their numbers.
fn take_nicira(r: &mut Reader<'_>, depth: u8, out: &mut Vec<Action>) -> Result<Taken> {
    r.enter("nx_action");
    let subtype = r.u16()?;
    let action = match subtype {
        nxast::RESUBMIT => {
            let port = port16(r)?;
            r.skip(4)?;
            Action::Resubmit { in_port: Some(port), table: None, with_ct: false }
        }
        nxast::RESUBMIT_TABLE | nxast::RESUBMIT_TABLE_CT => {
            let in_port = Some(port16(r)?).filter(|&port| port != OfPort::IN_PORT);
            let table = Some(r.u8()?).filter(|&table| table != 0xff);
            r.skip(3)?;
            Action::Resubmit { in_port, table, with_ct: subtype == nxast::RESUBMIT_TABLE_CT }
        }
        nxast::SET_TUNNEL => {
            r.skip(2)?;
            Action::SetTunnel(r.u32()?.into())
        }
        nxast::SET_TUNNEL64 => {
            r.skip(6)?;
            Action::SetTunnel(r.u64()?)
        }
        nxast::POP_QUEUE => nothing_more(r, 6, Action::PopQueue)?,
        nxast::REG_MOVE => {
            let lens = (r.u16()?, r.u16()?, r.u16()?);
            take_move(r, lens)?
        }
        nxast::REG_LOAD => {
            let ofs_nbits = r.u16()?;
            let field = take_field(r)?;
            let dst = packed_subfield(r, field, ofs_nbits)?;
            let value = r.u64()?;
            if u128::from(value) > crate::field::ones(dst.n_bits) {
                return Err(r.invalid(ErrorCode::BAC_BAD_ARGUMENT));
            }
            Action::Load { dst, value }
        }
        nxast::NOTE => Action::Note(r.rest().to_vec()),
        nxast::MULTIPATH => {
            let (fields, basis) = (r.u16()?, r.u16()?);
            r.skip(2)?;
            let (algorithm, max_link, arg) = (r.u16()?, r.u16()?, r.u32()?);
            r.skip(2)?;
            let ofs_nbits = r.u16()?;
            let field = take_field(r)?;
            let dst = packed_subfield(r, field, ofs_nbits)?;
            Action::Multipath(Multipath { fields, basis, algorithm, max_link, arg, dst })
        }
        nxast::BUNDLE | nxast::BUNDLE_LOAD => take_bundle(r, subtype == nxast::BUNDLE_LOAD)?,
        nxast::OUTPUT_REG => {
            let ofs_nbits = r.u16()?;
            let field = take_field(r)?;
            let src = packed_subfield(r, field, ofs_nbits)?;
            let max_len = r.u16()?;
            r.skip(6)?;
            Action::OutputReg { src, max_len }
        }
        nxast::OUTPUT_REG2 => {
            let (ofs_nbits, max_len) = (r.u16()?, r.u16()?);
            let field = take_field(r)?;
            let src = packed_subfield(r, field, ofs_nbits)?;
            r.rest();
            Action::OutputReg { src, max_len }
        }
        nxast::LEARN | nxast::LEARN2 => Action::Learn(Box::new(take_learn(r, subtype == nxast::LEARN2)?)),
        nxast::EXIT => nothing_more(r, 6, Action::Exit)?,
        nxast::DEC_TTL => nothing_more(r, 6, Action::DecTtl)?,
        nxast::FIN_TIMEOUT => {
            let action = Action::FinTimeout { idle: r.u16()?, hard: r.u16()? };
            nothing_more(r, 2, action)?
        }
        nxast::CONTROLLER => {
            let (max_len, controller_id, reason) = (r.u16()?, r.u16()?, r.u8()?);
            let controller = Controller { max_len, controller_id, reason, ..Controller::default() };
            nothing_more(r, 1, Action::Controller(controller))?
        }
        nxast::CONTROLLER2 => match take_controller2(r)? {
            Some(controller) => Action::Controller(controller),
            None => return Ok(Taken::Unknown),
        },
        nxast::DEC_TTL_CNT_IDS => {
            let n = usize::from(r.u16()?);
            r.skip(4)?;
            let mut ids = r.sub(n.saturating_mul(2), "nx_action_cnt_ids")?;
            r.rest();
            let mut list = Vec::new();
            while !ids.is_empty() {
                list.push(ids.u16()?);
            }
            Action::DecTtlCntIds(list)
        }
        nxast::STACK_PUSH | nxast::STACK_POP => {
            let ofs = r.u16()?;
            let field = take_field(r)?;
            let n_bits = r.u16()?;
            let range = subfield(r, field, ofs, n_bits)?;
            r.rest();
            if subtype == nxast::STACK_PUSH { Action::StackPush(range) } else { Action::StackPop(range) }
        }
        nxast::SAMPLE | nxast::SAMPLE2 | nxast::SAMPLE3 => take_sample(r, subtype)?,
        nxast::REG_LOAD2 => {
            return take_set_field(r, true, out);
        }
        nxast::CONJUNCTION => {
            let (clause, n_clauses, id) = (r.u8()?, r.u8()?, r.u32()?);
            if !(2..=64).contains(&n_clauses) || clause >= n_clauses {
                return Err(r.invalid(ErrorCode::NXBAC_BAD_CONJUNCTION));
            }
            Action::Conjunction { id, clause, n_clauses }
        }
        nxast::CT => Action::Ct(Box::new(take_ct(r, depth)?)),
        nxast::NAT => Action::Nat(Box::new(take_nat(r)?)),
        nxast::OUTPUT_TRUNC => Action::OutputTrunc { port: port16(r)?, max_len: r.u32()? },
        nxast::CLONE => {
            r.skip(6)?;
            Action::Clone(take_nested(r, depth + 1)?)
        }
        nxast::CT_CLEAR => nothing_more(r, 6, Action::CtClear)?,
        nxast::ENCAP => take_encap(r)?,
        nxast::DECAP => {
            r.skip(2)?;
            let kind = r.u32()?;
            Action::Decap(
                (kind != DECAP_NEXT)
                    .then_some(PacketType { namespace: (kind >> 16) as u16, kind: kind as u16 }),
            )
        }
        nxast::DEC_NSH_TTL => nothing_more(r, 6, Action::DecNshTtl)?,
        nxast::CHECK_PKT_LARGER => {
            let (len, ofs) = (r.u16()?, r.u16()?);
            let field = take_field(r)?;
            let dst = subfield(r, field, ofs, 1)?;
            r.rest();
            Action::CheckPktLarger { dst, len }
        }
        nxast::DELETE_FIELD => {
            let field = take_field(r)?;
            if !field.is_tun_metadata() {
                return Err(r.invalid(ErrorCode::BAC_BAD_SET_ARGUMENT));
            }
            r.rest();
            Action::DeleteField(field)
        }
        _ => return Ok(Taken::Unknown),
    };
    if !r.is_empty() {
        return Err(r.invalid(ErrorCode::BAC_BAD_LEN));
    }
    out.push(action);
    Ok(Taken::Yes)
}

/// From where to where bits are moved; their number and both offsets are read already.
fn take_move(r: &mut Reader<'_>, (n_bits, src_ofs, dst_ofs): (u16, u16, u16)) -> Result<Action> {
    let src = take_field(r)?;
    let src = subfield(r, src, src_ofs, n_bits)?;
    let dst = take_field(r)?;
    let dst = subfield(r, dst, dst_ofs, n_bits)?;
    r.rest();
    Ok(Action::Move { src, dst })
}

fn nothing_more(r: &mut Reader<'_>, padding: usize, action: Action) -> Result<Action> {
    r.skip(padding)?;
    Ok(action)
}

fn take_bundle(r: &mut Reader<'_>, load: bool) -> Result<Action> {
    r.enter("nx_action_bundle");
    let (algorithm, fields, basis) = (r.u16()?, r.u16()?, r.u16()?);
    if r.u32()? != BUNDLE_MEMBER_PORT {
        return Err(r.invalid(ErrorCode::BAC_BAD_ARGUMENT));
    }
    let n_members = usize::from(r.u16()?);
    let dst = if load {
        let ofs_nbits = r.u16()?;
        let field = take_field(r)?;
        Some(packed_subfield(r, field, ofs_nbits)?)
    } else {
        r.skip(6)?;
        None
    };
    r.skip(4)?;
    let mut ports = r.sub(n_members.saturating_mul(2), "nx_action_bundle.members")?;
    r.rest();
    let mut members = Vec::new();
    while !ports.is_empty() {
        members.push(port16(&mut ports)?);
    }
    Ok(Action::Bundle(Box::new(BundleAction { algorithm, fields, basis, members, dst })))
}

/// `None` for a property that we don't know: then the whole action is kept raw.
fn take_controller2(r: &mut Reader<'_>) -> Result<Option<Controller>> {
    r.enter("nx_action_controller2");
    let mut c = Controller::default();
    r.skip(6)?;
    while !r.is_empty() {
        let kind = r.u16()?;
        let len = r.u16()?;
        let mut value = r.sub(r.body_len(len, 4)?, "nx_action_controller2_prop")?;
        r.skip_padding(usize::from(len).next_multiple_of(8) - usize::from(len));
        match kind {
            controller_prop::MAX_LEN => c.max_len = value.u16()?,
            controller_prop::CONTROLLER_ID => c.controller_id = value.u16()?,
            controller_prop::REASON => c.reason = value.u8()?,
            controller_prop::USERDATA => c.userdata = value.rest().to_vec(),
            controller_prop::PAUSE => c.pause = true,
            controller_prop::METER_ID => c.meter_id = Some(value.u32()?),
            _ => return Ok(None),
        }
    }
    Ok(Some(c))
}

fn take_sample(r: &mut Reader<'_>, subtype: u16) -> Result<Action> {
    let (probability, collector_set_id) = (r.u16()?, r.u32()?);
    let (obs_domain_id, obs_point_id) = (r.u32()?, r.u32()?);
    let (mut sampling_port, mut direction) = (None, SampleDirection::Unspecified);
    if subtype != nxast::SAMPLE {
        sampling_port = Some(port16(r)?).filter(|&port| port != OfPort::ANY || subtype == nxast::SAMPLE2);
        direction = match (r.u8()?, subtype) {
            (1, nxast::SAMPLE3) => SampleDirection::Ingress,
            (2, nxast::SAMPLE3) => SampleDirection::Egress,
            _ => SampleDirection::Unspecified,
        };
        r.skip(5)?;
    }
    if probability == 0 {
        return Err(r.invalid(ErrorCode::BAC_BAD_ARGUMENT));
    }
    Ok(Action::Sample(Sample {
        probability,
        collector_set_id,
        obs_domain_id,
        obs_point_id,
        sampling_port,
        direction,
    }))
}

fn take_ct(r: &mut Reader<'_>, depth: u8) -> Result<Ct> {
    r.enter("nx_action_conntrack");
    let flags = r.u16()?;
    // A zero header where the zone's field would be named means an immediate zone.
    let zone = if r.peek().starts_with(&[0, 0, 0, 0]) {
        r.skip(4)?;
        CtZone::Immediate(r.u16()?)
    } else {
        let field = take_field(r)?;
        let ofs_nbits = r.u16()?;
        CtZone::Field(packed_subfield(r, field, ofs_nbits)?)
    };
    let recirc_table = Some(r.u8()?).filter(|&table| table != CT_NO_TABLE);
    r.skip(3)?;
    let alg = r.u16()?;
    let mut exec = take_nested(r, depth + 1)?;
    let nat = match exec.first() {
        Some(Action::Nat(_)) => match exec.remove(0) {
            Action::Nat(nat) => Some(*nat),
            _ => None,
        },
        _ => None,
    };
    let (commit, force) = (flags & ct_flag::COMMIT != 0, flags & ct_flag::FORCE != 0);
    if force && !commit {
        return Err(r.invalid(ErrorCode::BAC_BAD_ARGUMENT));
    }
    Ok(Ct { commit, force, recirc_table, zone, alg, nat, exec })
}

fn take_nat(r: &mut Reader<'_>) -> Result<Nat> {
    r.enter("nx_action_nat");
    r.skip(2)?;
    let flags = r.u16()?;
    let present = r.u16()?;
    let has = |bit: u16| present & bit != 0;
    let kind = match flags & (nat_flag::SRC | nat_flag::DST) {
        0 => None,
        nat_flag::SRC => Some(NatKind::Src),
        nat_flag::DST => Some(NatKind::Dst),
        _ => return Err(r.invalid(ErrorCode::BAC_BAD_ARGUMENT)),
    };
    let ipv4 = |r: &mut Reader<'_>| -> Result<IpAddr> { Ok(IpAddr::V4(Ipv4Addr::from(r.u32()?))) };
    let ipv6 = |r: &mut Reader<'_>| -> Result<IpAddr> { Ok(IpAddr::V6(Ipv6Addr::from(r.u128()?))) };
    let addresses = if has(nat_range::IPV4_MIN) {
        let first = ipv4(r)?;
        Some((first, if has(nat_range::IPV4_MAX) { Some(ipv4(r)?) } else { None }))
    } else if has(nat_range::IPV6_MIN) {
        let first = ipv6(r)?;
        Some((first, if has(nat_range::IPV6_MAX) { Some(ipv6(r)?) } else { None }))
    } else {
        None
    };
    let ports = if has(nat_range::PORT_MIN) {
        let first = r.u16()?;
        Some((first, if has(nat_range::PORT_MAX) { Some(r.u16()?) } else { None }))
    } else {
        None
    };
    // An upper end without a lower one, or both families, would leave bytes that nothing claims.
    if r.remaining() >= 8 || (kind.is_none() && (flags | present) != 0) {
        return Err(r.invalid(ErrorCode::BAC_BAD_ARGUMENT));
    }
    r.rest();
    Ok(Nat {
        kind,
        addresses,
        ports,
        persistent: flags & nat_flag::PERSISTENT != 0,
        hash: flags & nat_flag::HASH != 0,
        random: flags & nat_flag::RANDOM != 0,
    })
}

fn take_encap(r: &mut Reader<'_>) -> Result<Action> {
    r.enter("nx_action_encap");
    let header_size = r.u16()?;
    let packet_type = PacketType { namespace: r.u16()?, kind: r.u16()? };
    let mut properties = Vec::new();
    while !r.is_empty() {
        let (class, kind) = (r.u16()?, r.u8()?);
        let len = usize::from(r.u8()?);
        let Some(value_len) = len.checked_sub(4) else {
            return Err(r.invalid(ErrorCode::NXBAC_BAD_ED_PROP));
        };
        let mut value = r.bytes(value_len)?;
        r.skip_padding(len.next_multiple_of(8) - len);
        if (class, kind) == ENCAP_NSH_TLV {
            // Of such a property, its own length counts padding; that of the TLV in it does not.
            let data_len = value.get(3).map(|len| usize::from(*len));
            value = data_len
                .and_then(|len| value.get(..4 + len))
                .ok_or_else(|| r.invalid(ErrorCode::NXBAC_BAD_ED_PROP))?;
        }
        let value = value.to_vec();
        properties.push(EncapProperty { class, kind, value });
    }
    Ok(Action::Encap(Encap { packet_type, header_size, properties }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

        /// One of the kinds that it knows, with a byte or two changed, cut, or whole; and another one after it.
        #[test]
        fn frequent_actions_are_read_as_any_others(
            begin in prop::sample::select(vec![
                &[0, 0, 0, 16][..],
                &[0, 24, 0, 8],
                &[0, 25, 0, 16, 0x80, 0, 6, 6],
                &[0, 25, 0, 16, 0, 1, 2, 4],
                // What is loaded has 32 bits.
                &[0xff, 0xff, 0, 24, 0, 0, 0x23, 0x20, 0, 7, 0, 31, 0, 1, 2, 4, 0, 0, 0, 0],
            ]),
            tail: [u8; 12],
            is_padded: bool,
            change in prop::option::of((0usize..24, any::<u8>())),
            len in prop::option::weighted(0.2, 0..40usize),
        ) {
            let whole = usize::from(begin[3]);
            let mut bytes = [begin, &tail].concat();
            bytes.resize(whole, 0);
            if is_padded {
                bytes[whole - 2..].fill(0);
            }
            bytes.extend(&[0, 24, 0, 8, 0, 0, 0, 0]);
            if let Some((at, value)) = change && let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
            bytes.resize(len.unwrap_or(bytes.len()), 0);
            let mut quick = Reader::new(&bytes, "ofp_action");
            let mut slow = quick;
            let (mut quickly, mut slowly) = (Vec::new(), Vec::new());
            add_frequent(&mut quick, &mut quickly);
            while slow.remaining() > quick.remaining() {
                prop_assert_eq!(take_action(&mut slow, 0, &mut slowly), Ok(()));
            }
            prop_assert_eq!(quickly, slowly);
            prop_assert_eq!(quick.remaining(), slow.remaining());
        }
    }

    #[test]
    fn the_frequent_ones_are_taken_at_a_glance() {
        let taken = |bytes: &[u8]| {
            let mut actions = Vec::new();
            assert!(add_frequent(&mut Reader::new(bytes, ""), &mut actions), "{bytes:x?}");
            actions
        };
        let output = [0, 0, 0, 16, 0, 0, 0, 7, 0xff, 0xff, 0, 0, 0, 0, 0, 0];
        assert_eq!(taken(&output), [Action::Output(OfPort(7))]);
        let load = [0xff, 0xff, 0, 24, 0, 0, 0x23, 0x20, 0, 7, 0, 31, 0, 1, 2, 4, 0, 0, 0, 0, 0, 0, 0, 9];
        let dst = Subfield::whole(Field::reg(1).unwrap());
        assert_eq!(taken(&load), [Action::Load { dst, value: 9 }]);
        let dec_ttl = [0, 24, 0, 8, 0, 0, 0, 0];
        assert_eq!(taken(&dec_ttl), [Action::DecTtl]);
        let set_field = [0, 25, 0, 16, 0x80, 0, 6, 6, 1, 2, 3, 4, 5, 6, 0, 0];
        let (field, mask) = (Field::ETH_DST, Field::ETH_DST.full_mask());
        let set_eth_dst = Action::SetField { field, value: 0x0102_0304_0506, mask };
        let both = [&dec_ttl[..], &set_field, &dec_ttl].concat();
        assert_eq!(taken(&both), [Action::DecTtl, set_eth_dst, Action::DecTtl]);
    }
}
