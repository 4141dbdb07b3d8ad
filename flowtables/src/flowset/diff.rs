//! What must change on a switch so that it holds the desired flows.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use hashbrown::HashSet;
use openflow::{Flow, FlowMod, Instructions};

use super::FlowSet;
use super::table::{FlowKey, FlowTable};

/// The difference between the flows a switch should have and those it has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// Desired, but not there.
    pub missing: Vec<Flow>,
    /// There, but not desired.
    pub extra: Vec<Flow>,
    /// There with other actions, cookie or timeouts than desired.
    pub changed: Vec<Change>,
    /// By table, the lowest priority of a flow, old or new, that does not drop. Nothing where nothing differs.
    lowest_passing: BTreeMap<u8, u16>,
}

/// A flow that is there, but not as desired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// As the switch has it.
    pub actual: Flow,
    /// As it should be.
    pub desired: Flow,
}

/// So many flows are looked for together.
const AT_ONCE: usize = 64;

/// Compares the `actual` flows of a switch with the `desired` ones.
///
/// Several actual flows with the same key cannot come from a switch; of such, the last counts.
#[must_use]
pub fn diff<'a>(actual: impl IntoIterator<Item = &'a Flow>, desired: &FlowSet) -> Diff {
    let mut there: HashSet<*const Flow> = HashSet::with_capacity(desired.len());
    let mut changed: BTreeMap<FlowKey<'_>, Change> = BTreeMap::new();
    let mut extra: BTreeMap<FlowKey<'_>, &Flow> = BTreeMap::new();
    let mut actual = actual.into_iter();
    loop {
        // What is compared lies all over memory. Waiting for it takes most of the time, so that some are waited for together:
        // first where they are, then what they are, then what they do.
        let guesses: Vec<_> = actual.by_ref().take(AT_ONCE).map(|flow| (flow, desired.guess(flow))).collect();
        if guesses.is_empty() {
            break;
        }
        let found: Vec<_> = guesses
            .into_iter()
            .map(|(flow, guess)| match guess {
                Some(entry) if entry.is_of_key(flow) => (flow, Some(&entry.flow)),
                _ => (flow, desired.get(flow)),
            })
            .collect();
        for (flow, wanted) in found {
            let Some(wanted) = wanted else {
                extra.insert(FlowKey::of(flow), flow);
                continue;
            };
            there.insert(wanted);
            if !does_the_same(flow, wanted) {
                changed.insert(FlowKey::of(flow), Change { actual: flow.clone(), desired: wanted.clone() });
            } else if !changed.is_empty() {
                changed.remove(&FlowKey::of(flow));
            }
        }
    }
    let mut missing = Vec::new();
    // To put all flows in order takes longer than to compare them, and mostly nothing is missing.
    if there.len() < desired.len() {
        missing.extend(desired.iter().filter(|flow| !there.contains(&std::ptr::from_ref(*flow))).cloned());
    }
    let mut diff = Diff {
        missing,
        extra: extra.into_values().cloned().collect(),
        changed: changed.into_values().collect(),
        lowest_passing: BTreeMap::new(),
    };
    diff.find_lowest_passing(desired);
    diff
}

impl Diff {
    /// Whether the switch holds exactly what it should.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many flows differ.
    #[must_use]
    pub fn len(&self) -> usize {
        self.missing.len() + self.extra.len() + self.changed.len()
    }

    /// The modifications that make the switch hold the desired flows, for one bundle.
    ///
    /// Their order is such that no packet ever goes a way that neither the old flows nor the new ones have, even where a
    /// bundle is not applied as one. First every flow that differs is closed: old, new or changed, it is there and
    /// drops. A packet that still gets through has hit only flows that both sets have. Then the new flows are opened:
    /// as all of them are there, at least closed, a packet that gets through goes the new way. Last what is not wanted
    /// any more is deleted, which drops by now.
    ///
    /// A flow below which nothing lets packets pass needs no closing: where it is missing, they are dropped too.
    #[must_use]
    pub fn modifications(&self) -> Vec<FlowMod> {
        let closed = |flow: &Flow| FlowMod::add(Flow { instructions: Instructions::new(), ..flow.clone() });
        let (mut close, mut open, mut delete) = (Vec::new(), Vec::new(), Vec::new());
        for flow in &self.missing {
            if drops(flow) {
                close.push(FlowMod::add(flow.clone()));
            } else {
                if self.is_passable_below(flow) {
                    close.push(closed(flow));
                }
                open.push(flow);
            }
        }
        for Change { actual, desired } in &self.changed {
            if drops(desired) {
                close.push(FlowMod::add(desired.clone()));
            } else {
                // Where only the cookie differs, or what it replaces drops, there is nothing to close.
                if !drops(actual) && actual.instructions != desired.instructions {
                    close.push(closed(desired));
                }
                open.push(desired);
            }
        }
        for flow in &self.extra {
            if !self.is_passable_below(flow) {
                close.push(FlowMod::delete_strict(flow));
                continue;
            }
            if !drops(flow) {
                close.push(closed(flow));
            }
            delete.push(FlowMod::delete_strict(flow));
        }
        // The order of the open ones does not matter for where packets go; so, fewer are lost on the way.
        open.sort_by_key(|flow| Reverse(flow.table));
        let open = open.into_iter().cloned().map(FlowMod::add);
        close.into_iter().chain(open).chain(delete).collect()
    }

    fn find_lowest_passing(&mut self, desired: &FlowSet) {
        if self.is_empty() {
            return;
        }
        let wanted = desired.tables.values().flat_map(FlowTable::entries).map(|entry| &entry.flow);
        let gone = self.extra.iter().chain(self.changed.iter().map(|change| &change.actual));
        for flow in wanted.chain(gone).filter(|flow| !drops(flow)) {
            let lowest = self.lowest_passing.entry(flow.table).or_insert(flow.priority);
            *lowest = flow.priority.min(*lowest);
        }
    }

    /// Whether a packet that matches `flow` could pass its table by a flow of lower priority, old or new.
    fn is_passable_below(&self, flow: &Flow) -> bool {
        self.lowest_passing.get(&flow.table).is_some_and(|lowest| *lowest < flow.priority)
    }
}

/// Whether two flows of one key are the same. Of 30,000 that are, to compare the keys again takes a tenth of the time.
fn does_the_same(flow: &Flow, other: &Flow) -> bool {
    let Flow {
        table: _,
        priority: _,
        fields: _,
        cookie,
        instructions,
        idle_timeout,
        hard_timeout,
        importance,
        flags,
    } = flow;
    (cookie, idle_timeout, hard_timeout, importance, flags)
        == (&other.cookie, &other.idle_timeout, &other.hard_timeout, &other.importance, &other.flags)
        && *instructions == other.instructions
}

fn drops(flow: &Flow) -> bool {
    flow.instructions.is_empty()
}
