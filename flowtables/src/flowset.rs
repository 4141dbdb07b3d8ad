//! A set of flows, keyed as a switch keys them: table, priority and match; and of the groups that they use, keyed
//! by number. It knows nothing of OpenShift.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use hashbrown::HashMap;
use openflow::{Field, Flow, Group};

use crate::pipeline::cookie::Owner;
use table::{Entry, FlowKey, FlowTable};

pub mod diff;
pub mod groups;
mod table;

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
///
/// Copies share their flows.
#[derive(Clone, Debug, Default)]
pub struct FlowSet {
    tables: BTreeMap<u8, FlowTable>,
    groups: BTreeMap<u32, (Group, Owner)>,
    owners: HashMap<Arc<Owner>, Owned>,
}

/// What belongs to one owner.
#[derive(Clone, Debug)]
struct Owned {
    flows: Box<[Arc<Entry>]>,
    groups: Box<[u32]>,
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
        self.tables.values().map(FlowTable::len).sum()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes `rendered` the flows and groups of `owner`, instead of all that it had. Those that another owner
    /// holds already are left alone and returned as conflicts.
    pub fn replace(&mut self, owner: &Owner, rendered: impl Into<Rendered>) -> Vec<Conflict> {
        self.remove(owner);
        let Rendered { flows, groups } = rendered.into();
        let shared = Arc::new(owner.clone());
        let mut entries: Vec<Arc<Entry>> = Vec::with_capacity(flows.len());
        let mut conflicts = Vec::new();
        for flow in flows {
            let table = self.tables.entry(flow.table).or_default();
            match table.insert(flow, &shared) {
                Ok(entry) => entries.push(entry),
                Err((found, flow)) if *found.owner != *owner => conflicts.push(Conflict {
                    holder: Owner::clone(&found.owner),
                    claimant: owner.clone(),
                    contested: Contested::Flow(flow),
                }),
                // Of an owner's own, the last counts.
                Err((found, flow)) => {
                    table.remove(&found);
                    entries.retain(|entry| !Arc::ptr_eq(entry, &found));
                    entries.extend(table.insert(*flow, &shared));
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
        if !entries.is_empty() || !ids.is_empty() {
            self.owners.insert(shared, Owned { flows: entries.into(), groups: ids.into() });
        }
        conflicts
    }

    /// Removes all flows and groups of `owner`.
    pub fn remove(&mut self, owner: &Owner) {
        let Some(owned) = self.owners.remove(owner) else { return };
        for id in owned.groups {
            self.groups.remove(&id);
        }
        for entry in owned.flows {
            if let Some(table) = self.tables.get_mut(&entry.flow.table) {
                table.remove(&entry);
            }
        }
    }

    /// The flows in order of table, descending priority, match. They are put into that order on the spot.
    pub fn iter(&self) -> impl Iterator<Item = &Flow> {
        self.tables.values().flat_map(in_order).map(|entry| &entry.flow)
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
        self.tables.get(&table).into_iter().flat_map(in_order).map(|entry| (&entry.flow, &*entry.owner))
    }

    /// Calls `visit` with the flows of a table whose tests hold for a packet with those `values`, in no particular
    /// order. `visit` says which priority a flow must have at least to be of interest from then on. Of tunnel
    /// options the caller must see to it itself.
    pub fn matching<'a>(
        &'a self,
        table: u8,
        values: impl Fn(Field) -> u128,
        mut visit: impl FnMut(&'a Flow, &'a Owner) -> u16,
    ) {
        if let Some(table) = self.tables.get(&table) {
            table.matching(values, |entry| visit(&entry.flow, &entry.owner));
        }
    }

    /// Who has flows here.
    #[must_use]
    pub fn owners(&self) -> BTreeSet<&Owner> {
        self.owners.keys().map(|owner| &**owner).collect()
    }

    /// The flow with the same table, priority and match.
    #[must_use]
    pub fn get(&self, flow: &Flow) -> Option<&Flow> {
        self.tables.get(&flow.table)?.get(flow).map(|entry| &entry.flow)
    }

    fn guess(&self, flow: &Flow) -> Option<&Entry> {
        self.tables.get(&flow.table)?.guess(flow)
    }
}

fn in_order(table: &FlowTable) -> Vec<&Entry> {
    let mut entries: Vec<&Entry> = table.entries().collect();
    entries.sort_unstable_by_key(|entry| FlowKey::of(&entry.flow));
    entries
}

#[cfg(test)]
mod tests;
