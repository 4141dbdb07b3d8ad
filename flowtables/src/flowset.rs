//! A set of flows, keyed as a switch keys them: table, priority and match; and of the groups that they use, keyed
//! by number. It knows nothing of OpenShift.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use openflow::{Flow, Group, Match};

use crate::pipeline::cookie::Owner;

pub mod diff;
pub mod groups;

/// What makes a flow the same flow: the switch holds at most one of each.
///
/// Ordered by table, then descending priority, then match: the order in which a table is searched.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowKey {
    table: u8,
    priority: Reverse<u16>,
    fields: Match,
}

impl FlowKey {
    fn of(flow: &Flow) -> Self {
        Self { table: flow.table, priority: Reverse(flow.priority), fields: flow.fields.clone() }
    }
}

/// Two owners want the same flow or group. The first to come keeps it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{claimant} and {holder} both want {contested}; {holder} keeps it")]
pub struct Conflict {
    /// Whose flow stands.
    pub holder: Owner,
    /// Whose flow was refused.
    pub claimant: Owner,
    /// What was refused.
    pub contested: Contested,
}

/// What two owners want.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contested {
    /// A flow of the same table, priority and match.
    Flow(Box<Flow>),
    /// A group of the same number.
    Group(Box<Group>),
}

impl fmt::Display for Contested {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Contested::Flow(flow) => {
                write!(f, "table={} priority={}, {}", flow.table, flow.priority, flow.fields)
            }
            Contested::Group(group) => write!(f, "group {}", group.id),
        }
    }
}

/// What one owner wants the switch to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    /// Its flows.
    pub flows: Vec<Flow>,
    /// The groups that they use.
    pub groups: Vec<Group>,
}

impl From<Vec<Flow>> for Rendered {
    fn from(flows: Vec<Flow>) -> Self {
        Self { flows, groups: Vec::new() }
    }
}

/// Flows and groups by key, each of one owner.
#[derive(Clone, Debug, Default)]
pub struct FlowSet {
    flows: BTreeMap<FlowKey, Entry>,
    groups: BTreeMap<u32, (Group, Owner)>,
    owners: HashMap<Owner, Vec<FlowKey>>,
    group_owners: HashMap<Owner, Vec<u32>>,
}

#[derive(Clone, Debug)]
struct Entry {
    flow: Flow,
    owner: Owner,
}

impl FlowSet {
    /// A set without flows.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many flows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// Makes `rendered` the flows and groups of `owner`, instead of all that it had. Those that another owner
    /// holds already are left alone and returned as conflicts.
    pub fn replace(&mut self, owner: &Owner, rendered: impl Into<Rendered>) -> Vec<Conflict> {
        self.remove(owner);
        let Rendered { flows, groups } = rendered.into();
        let mut keys = Vec::with_capacity(flows.len());
        let mut conflicts = Vec::new();
        for flow in flows {
            let key = FlowKey::of(&flow);
            match self.flows.get(&key) {
                Some(entry) if entry.owner != *owner => conflicts.push(Conflict {
                    holder: entry.owner.clone(),
                    claimant: owner.clone(),
                    contested: Contested::Flow(Box::new(flow)),
                }),
                Some(_) => {
                    self.flows.insert(key, Entry { flow, owner: owner.clone() });
                }
                None => {
                    self.flows.insert(key.clone(), Entry { flow, owner: owner.clone() });
                    keys.push(key);
                }
            }
        }
        let mut ids = Vec::with_capacity(groups.len());
        for group in groups {
            match self.groups.get(&group.id) {
                Some((_, holder)) if holder != owner => conflicts.push(Conflict {
                    holder: holder.clone(),
                    claimant: owner.clone(),
                    contested: Contested::Group(Box::new(group)),
                }),
                _ => {
                    ids.push(group.id);
                    self.groups.insert(group.id, (group, owner.clone()));
                }
            }
        }
        if !ids.is_empty() {
            self.group_owners.insert(owner.clone(), ids);
        }
        if !keys.is_empty() {
            self.owners.insert(owner.clone(), keys);
        }
        conflicts
    }

    /// Removes all flows and groups of `owner`.
    pub fn remove(&mut self, owner: &Owner) {
        for id in self.group_owners.remove(owner).unwrap_or_default() {
            self.groups.remove(&id);
        }
        for key in self.owners.remove(owner).unwrap_or_default() {
            self.flows.remove(&key);
        }
    }

    /// The flows in order of table, descending priority, match.
    pub fn iter(&self) -> impl Iterator<Item = &Flow> {
        self.flows.values().map(|entry| &entry.flow)
    }

    /// The groups by number.
    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.values().map(|(group, _)| group)
    }

    /// The group of that number.
    #[must_use]
    pub fn group(&self, id: u32) -> Option<&Group> {
        self.groups.get(&id).map(|(group, _)| group)
    }

    /// The flows of one table in the order in which a packet meets them, with their owners.
    pub fn table(&self, table: u8) -> impl Iterator<Item = (&Flow, &Owner)> {
        let first = FlowKey { table, priority: Reverse(u16::MAX), fields: Match::new() };
        self.flows
            .range(first..)
            .take_while(move |(key, _)| key.table == table)
            .map(|(_, entry)| (&entry.flow, &entry.owner))
    }

    /// Who has flows here.
    #[must_use]
    pub fn owners(&self) -> BTreeSet<&Owner> {
        self.owners.keys().collect()
    }

    /// The flow with the same table, priority and match.
    #[must_use]
    pub fn get(&self, flow: &Flow) -> Option<&Flow> {
        self.flows.get(&FlowKey::of(flow)).map(|entry| &entry.flow)
    }
}

#[cfg(test)]
mod tests;
