//! Printing groups.

use std::fmt::{self, Write};

use super::names::{Out, display, sealed};
use super::print_action::write_actions;
use crate::group::{Bucket, Group, GroupMod, GroupModCommand, GroupType};
use crate::port::OfPort;

impl fmt::Display for GroupType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GroupType::All => f.write_str("all"),
            GroupType::Select => f.write_str("select"),
            GroupType::Indirect => f.write_str("indirect"),
            GroupType::FastFailover => f.write_str("ff"),
            GroupType::Unknown(kind) => write!(f, "{kind}"),
        }
    }
}

display! {
    /// As `ovs-ofctl dump-groups` prints it: `group_id=1,type=select,bucket=weight:100,actions=output:1`.
    Group;
    /// As `ovs-ofctl ofp-print` prints the body of a group-mod: `ADD group_id=1,type=all,bucket=actions=output:1`.
    GroupMod;
}

impl sealed::Write for Group {
    fn write(&self, f: &mut Out<'_>) -> fmt::Result {
        write!(f, "group_id={},type={}", self.id, self.kind)?;
        self.buckets.iter().try_for_each(|bucket| {
            f.write_char(',')?;
            write_bucket(f, bucket, self.kind)
        })
    }
}

fn write_bucket(f: &mut Out<'_>, bucket: &Bucket, kind: GroupType) -> fmt::Result {
    f.write_str("bucket=")?;
    // Weight 1 is what a bucket of a select group has if nobody says otherwise.
    if bucket.weight != u16::from(kind == GroupType::Select) {
        write!(f, "weight:{},", bucket.weight)?;
    }
    if bucket.watch_port != OfPort::ANY {
        f.write_str("watch_port:")?;
        f.port(bucket.watch_port)?;
        f.write_char(',')?;
    }
    if bucket.watch_group != 0xffff_ffff {
        write!(f, "watch_group:{},", bucket.watch_group)?;
    }
    f.write_str("actions=")?;
    if bucket.actions.is_empty() {
        return f.write_str("drop");
    }
    write_actions(f, &bucket.actions)
}

impl sealed::Write for GroupMod {
    fn write(&self, f: &mut Out<'_>) -> fmt::Result {
        let word = match self.command {
            GroupModCommand::Add => "ADD",
            GroupModCommand::Modify => "MOD",
            GroupModCommand::AddOrModify => "ADD_OR_MOD",
            GroupModCommand::Delete => "DEL",
        };
        write!(f, "{word} ")?;
        self.group.write(f)
    }
}
