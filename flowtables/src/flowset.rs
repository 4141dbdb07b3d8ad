//! A set of flows, keyed as a switch keys them: table, priority and match. It knows nothing of OpenShift.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use openflow::{Flow, Match};

use crate::pipeline::cookie::Owner;

pub mod diff;

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

/// Two owners want the same flow. The first to come keeps it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{claimant} and {holder} both want table={} priority={}, {}; {holder} keeps it", .flow.table, .flow.priority, .flow.fields)]
pub struct Conflict {
    /// Whose flow stands.
    pub holder: Owner,
    /// Whose flow was refused.
    pub claimant: Owner,
    /// The flow that was refused.
    pub flow: Box<Flow>,
}

/// Flows by key, each of one owner.
#[derive(Clone, Debug, Default)]
pub struct FlowSet {
    flows: BTreeMap<FlowKey, Entry>,
    owners: HashMap<Owner, Vec<FlowKey>>,
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

    /// Makes `flows` the flows of `owner`, instead of all that it had. Flows that another owner holds already
    /// are left alone and returned as conflicts.
    pub fn replace(&mut self, owner: &Owner, flows: Vec<Flow>) -> Vec<Conflict> {
        self.remove(owner);
        let mut keys = Vec::with_capacity(flows.len());
        let mut conflicts = Vec::new();
        for flow in flows {
            let key = FlowKey::of(&flow);
            match self.flows.get(&key) {
                Some(entry) if entry.owner != *owner => conflicts.push(Conflict {
                    holder: entry.owner.clone(),
                    claimant: owner.clone(),
                    flow: Box::new(flow),
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
        if !keys.is_empty() {
            self.owners.insert(owner.clone(), keys);
        }
        conflicts
    }

    /// Removes all flows of `owner`.
    pub fn remove(&mut self, owner: &Owner) {
        for key in self.owners.remove(owner).unwrap_or_default() {
            self.flows.remove(&key);
        }
    }

    /// The flows in order of table, descending priority, match.
    pub fn iter(&self) -> impl Iterator<Item = &Flow> {
        self.flows.values().map(|entry| &entry.flow)
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
