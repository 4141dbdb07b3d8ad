//! Groups (OF1.3.5 §5.6, §7.3.4.2).

use crate::{Action, OfPort};

/// A group: a numbered list of buckets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group {
    /// Number, below 0xffffff00.
    pub id: u32,
    /// How buckets are chosen.
    pub kind: GroupType,
    /// Buckets, in order.
    pub buckets: Vec<Bucket>,
}

/// `OFPGT_*`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupType {
    /// All buckets.
    #[default]
    All,
    /// One bucket, by a hash or the weights.
    Select,
    /// The one bucket.
    Indirect,
    /// The first live bucket.
    FastFailover,
    /// A type that we don't know.
    Unknown(u8),
}

/// One alternative of a group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket {
    /// Share of the packets, in a select group.
    pub weight: u16,
    /// Port whose link decides whether the bucket is live; [`OfPort::ANY`] for none.
    pub watch_port: OfPort,
    /// Group that decides whether the bucket is live; 0xffffffff for none.
    pub watch_group: u32,
    /// What to do.
    pub actions: Vec<Action>,
}

impl Default for Bucket {
    fn default() -> Self {
        Bucket { weight: 0, watch_port: OfPort::ANY, watch_group: 0xffff_ffff, actions: Vec::new() }
    }
}

/// `OFPGC_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupModCommand {
    /// Add; it must not exist.
    Add,
    /// Replace; it must exist.
    Modify,
    /// Delete, with every flow that uses it.
    Delete,
    /// Add or replace (an extension of Open vSwitch).
    AddOrModify,
}

/// `OFPT_GROUP_MOD`: a change to the groups.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GroupMod {
    /// What to do.
    pub command: GroupModCommand,
    /// The group; for a delete only its number counts.
    pub group: Group,
}

impl GroupMod {
    /// Adds a group.
    pub fn add(group: Group) -> Self {
        GroupMod { command: GroupModCommand::Add, group }
    }

    /// Deletes a group, with every flow that uses it.
    pub fn delete(id: u32) -> Self {
        let group = Group { id, kind: GroupType::All, buckets: Vec::new() };
        GroupMod { command: GroupModCommand::Delete, group }
    }
}
