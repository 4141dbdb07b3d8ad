//! The groups of a set: what must change on a switch so that it holds the desired ones.

use std::collections::BTreeMap;

use openflow::{Group, GroupMod, GroupModCommand};

use super::FlowSet;

/// The difference between the groups a switch should have and those it has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupDiff {
    /// Desired, but not there.
    pub missing: Vec<Group>,
    /// There, but not desired.
    pub extra: Vec<Group>,
    /// There with another type or other buckets than desired.
    pub changed: Vec<GroupChange>,
}

/// A group that is there, but not as desired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupChange {
    /// As the switch has it.
    pub actual: Group,
    /// As it should be.
    pub desired: Group,
}

/// Compares the `actual` groups of a switch with the `desired` ones.
#[must_use]
pub fn diff<'a>(actual: impl IntoIterator<Item = &'a Group>, desired: &FlowSet) -> GroupDiff {
    let actual: BTreeMap<u32, &Group> = actual.into_iter().map(|group| (group.id, group)).collect();
    let mut diff = GroupDiff::default();
    for group in desired.groups() {
        match actual.get(&group.id) {
            None => diff.missing.push(group.clone()),
            Some(found) if *found != group => {
                diff.changed.push(GroupChange { actual: (*found).clone(), desired: group.clone() });
            }
            Some(_) => {}
        }
    }
    diff.extra = actual
        .values()
        .filter(|group| desired.group(group.id).is_none())
        .map(|&group| group.clone())
        .collect();
    diff
}

impl GroupDiff {
    /// Whether the switch holds exactly the groups that it should.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many groups differ.
    #[must_use]
    pub fn len(&self) -> usize {
        self.missing.len() + self.extra.len() + self.changed.len()
    }

    /// What to do before the flows change: a switch refuses a flow whose group it does not have. Of a group that
    /// changes the buckets are taken away, so that no old flow uses the new ones.
    #[must_use]
    pub fn before_flows(&self) -> Vec<GroupMod> {
        let emptied = |change: &GroupChange| modify(Group { buckets: Vec::new(), ..change.desired.clone() });
        self.missing.iter().cloned().map(GroupMod::add).chain(self.changed.iter().map(emptied)).collect()
    }

    /// What to do after the flows changed: deleting a group deletes the flows that still use it.
    #[must_use]
    pub fn after_flows(&self) -> Vec<GroupMod> {
        let changed = self.changed.iter().map(|change| modify(change.desired.clone()));
        changed.chain(self.extra.iter().map(|group| GroupMod::delete(group.id))).collect()
    }
}

fn modify(group: Group) -> GroupMod {
    GroupMod { command: GroupModCommand::Modify, group }
}
