//! One table of a set. It finds the flows that match a packet without trying them all, by tuple space search, as Open
//! vSwitch's own classifier does.
//!
//! The flows of a table test few different sets of bits: those of all services test the same, only their values
//! differ. Such a set is a *shape*. What a packet must be to match a flow of one shape is one value, the packet's own
//! bits at that place, so that a hash table finds it.

use std::cmp::Reverse;
use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashTable};
use openflow::{Field, Flow, Match};

use crate::pipeline::cookie::Owner;

/// A flow and whose it is.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) flow: Flow,
    pub(super) owner: Arc<Owner>,
}

impl Entry {
    /// Whether it stands where `flow` would, in the table of both.
    pub(super) fn is_of_key(&self, flow: &Flow) -> bool {
        self.flow.priority == flow.priority && self.flow.fields == flow.fields
    }
}

/// What makes a flow the same flow: the switch holds at most one of each.
///
/// Ordered by table, then descending priority, then match: the order in which a packet meets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FlowKey<'a> {
    table: u8,
    priority: Reverse<u16>,
    fields: &'a Match,
}

impl<'a> FlowKey<'a> {
    pub(super) fn of(flow: &'a Flow) -> Self {
        Self { table: flow.table, priority: Reverse(flow.priority), fields: &flow.fields }
    }
}

/// The flows of one table.
#[derive(Clone, Debug, Default)]
pub(super) struct FlowTable {
    /// By descending priority of the best flow that each had.
    shapes: Vec<Shape>,
    hasher: DefaultHashBuilder,
}

/// The flows that test the same bits.
#[derive(Clone, Debug)]
struct Shape {
    /// What they test; the values are all 0.
    tests: Match,
    /// No flow here has a greater priority. It is not lowered before the last flow goes: to know better would cost
    /// more than the look-ups that it saves.
    best: u16,
    /// By hash of the match. Several flows may have one match, with different priorities.
    flows: HashTable<Arc<Entry>>,
}

impl FlowTable {
    pub(super) fn len(&self) -> usize {
        self.shapes.iter().map(|shape| shape.flows.len()).sum()
    }

    fn shape(&self, fields: &Match) -> Option<usize> {
        self.shapes.iter().position(|shape| shape.tests.same_tests(fields))
    }

    /// The entry with the same match and priority.
    pub(super) fn get(&self, flow: &Flow) -> Option<&Arc<Entry>> {
        self.shapes.get(self.shape(&flow.fields)?)?.get(self.hasher.hash_one(&flow.fields), flow)
    }

    /// The entry that [`FlowTable::get`] will find if it finds one, most likely: found without reading any.
    pub(super) fn guess(&self, flow: &Flow) -> Option<&Entry> {
        let shape = self.shapes.get(self.shape(&flow.fields)?)?;
        shape.flows.find(self.hasher.hash_one(&flow.fields), |_| true).map(|entry| &**entry)
    }

    /// Adds a flow. If there is one of the same match and priority already, the answer is that flow and the new one,
    /// and nothing changes.
    pub(super) fn insert(
        &mut self,
        flow: Flow,
        owner: &Arc<Owner>,
    ) -> Result<Arc<Entry>, (Arc<Entry>, Box<Flow>)> {
        let hash = self.hasher.hash_one(&flow.fields);
        let priority = flow.priority;
        let mut at = self.shape(&flow.fields).unwrap_or(self.shapes.len());
        if let Some(shape) = self.shapes.get(at) {
            if let Some(found) = shape.get(hash, &flow) {
                return Err((Arc::clone(found), Box::new(flow)));
            }
        } else {
            let tests = flow.fields.with_values(|_| 0);
            self.shapes.push(Shape { tests, best: 0, flows: HashTable::new() });
        }
        let entry = Arc::new(Entry { flow, owner: Arc::clone(owner) });
        if let Some(shape) = self.shapes.get_mut(at) {
            let hash_of = |entry: &Arc<Entry>| self.hasher.hash_one(&entry.flow.fields);
            shape.flows.insert_unique(hash, Arc::clone(&entry), hash_of);
            shape.best = shape.best.max(priority);
        }
        let goes_before = |shapes: &[Shape], at: usize| match (shapes.get(at.wrapping_sub(1)), shapes.get(at))
        {
            (Some(before), Some(shape)) => before.best < shape.best,
            _ => false,
        };
        while goes_before(&self.shapes, at) {
            self.shapes.swap(at - 1, at);
            at -= 1;
        }
        Ok(entry)
    }

    pub(super) fn remove(&mut self, entry: &Arc<Entry>) {
        let fields = &entry.flow.fields;
        let Some(at) = self.shape(fields) else { return };
        let Some(shape) = self.shapes.get_mut(at) else { return };
        if let Ok(found) =
            shape.flows.find_entry(self.hasher.hash_one(fields), |other| Arc::ptr_eq(other, entry))
        {
            found.remove();
        }
        if shape.flows.is_empty() {
            self.shapes.remove(at);
        }
    }

    /// All entries, in no particular order.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.shapes.iter().flat_map(|shape| &shape.flows).map(|entry| &**entry)
    }

    /// See [`super::FlowSet::matching`].
    pub(super) fn matching<'a>(
        &'a self,
        values: impl Fn(Field) -> u128,
        mut visit: impl FnMut(&'a Entry) -> u16,
    ) {
        let mut least = 0;
        for shape in &self.shapes {
            if shape.best < least {
                return;
            }
            let wanted = shape.tests.with_values(&values);
            for entry in shape.flows.iter_hash(self.hasher.hash_one(&wanted)) {
                if entry.flow.priority >= least && entry.flow.fields == wanted {
                    least = visit(entry);
                }
            }
        }
    }
}

impl Shape {
    fn get(&self, hash: u64, flow: &Flow) -> Option<&Arc<Entry>> {
        self.flows.find(hash, |entry| entry.is_of_key(flow))
    }
}
