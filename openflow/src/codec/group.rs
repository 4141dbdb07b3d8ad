//! Groups (OF1.3.5 §7.3.4.2, §7.3.5.7).

use super::action_decode::take_actions;
use super::action_encode::put_actions;
use crate::group::{Bucket, Group, GroupMod, GroupModCommand, GroupType};
use crate::message::ErrorCode;
use crate::port::OfPort;
use crate::wire::{Reader, Result, Writer};

/// `OFPGC_ADD_OR_MOD` as Open vSwitch has it in every version.
const ADD_OR_MODIFY: u16 = 0x8000;

fn kind_number(kind: GroupType) -> u8 {
    match kind {
        GroupType::All => 0,
        GroupType::Select => 1,
        GroupType::Indirect => 2,
        GroupType::FastFailover => 3,
        GroupType::Unknown(kind) => kind,
    }
}

fn kind(number: u8) -> GroupType {
    match number {
        0 => GroupType::All,
        1 => GroupType::Select,
        2 => GroupType::Indirect,
        3 => GroupType::FastFailover,
        other => GroupType::Unknown(other),
    }
}

pub(crate) fn put_group_mod(w: &mut Writer<'_>, m: &GroupMod) {
    w.u16(match m.command {
        GroupModCommand::Add => 0,
        GroupModCommand::Modify => 1,
        GroupModCommand::Delete => 2,
        GroupModCommand::AddOrModify => ADD_OR_MODIFY,
    });
    w.u8(kind_number(m.group.kind));
    w.u8(0);
    w.u32(m.group.id);
    put_buckets(w, &m.group.buckets);
}

pub(crate) fn take_group_mod(r: &mut Reader<'_>) -> Result<GroupMod> {
    r.enter("ofp_group_mod");
    let command = match r.u16()? {
        0 => GroupModCommand::Add,
        1 => GroupModCommand::Modify,
        2 => GroupModCommand::Delete,
        ADD_OR_MODIFY => GroupModCommand::AddOrModify,
        _ => return Err(r.invalid(ErrorCode::GMFC_BAD_COMMAND)),
    };
    let kind = kind(r.u8()?);
    r.skip(1)?;
    let id = r.u32()?;
    let buckets = take_buckets(r)?;
    Ok(GroupMod { command, group: Group { id, kind, buckets } })
}

fn put_buckets(w: &mut Writer<'_>, buckets: &[Bucket]) {
    for bucket in buckets {
        let start = w.len();
        w.u16(0);
        w.u16(bucket.weight);
        w.u32(bucket.watch_port.0);
        w.u32(bucket.watch_group);
        w.zeros(4);
        put_actions(w, &bucket.actions);
        w.patch_len(start, start, "ofp_bucket");
    }
}

fn take_buckets(r: &mut Reader<'_>) -> Result<Vec<Bucket>> {
    let mut buckets = Vec::new();
    while !r.is_empty() {
        r.enter("ofp_bucket");
        let at = *r;
        let len = r.u16()?;
        if !len.is_multiple_of(8) {
            return Err(at.invalid(ErrorCode::GMFC_BAD_BUCKET));
        }
        let mut body = r.sub(r.body_len(len, 2)?, "ofp_bucket")?;
        let weight = body.u16()?;
        let (watch_port, watch_group) = (OfPort(body.u32()?), body.u32()?);
        body.skip(4)?;
        let actions = take_actions(&mut body)?;
        buckets.push(Bucket { weight, watch_port, watch_group, actions });
    }
    Ok(buckets)
}

pub(crate) fn put_group_desc(w: &mut Writer<'_>, group: &Group) {
    let start = w.len();
    w.u16(0);
    w.u8(kind_number(group.kind));
    w.u8(0);
    w.u32(group.id);
    put_buckets(w, &group.buckets);
    w.patch_len(start, start, "ofp_group_desc");
}

pub(crate) fn take_group_desc(r: &mut Reader<'_>) -> Result<Group> {
    r.enter("ofp_group_desc");
    let len = r.u16()?;
    let mut body = r.sub(r.body_len(len, 2)?, "ofp_group_desc")?;
    let kind = kind(body.u8()?);
    body.skip(1)?;
    let id = body.u32()?;
    Ok(Group { id, kind, buckets: take_buckets(&mut body)? })
}
