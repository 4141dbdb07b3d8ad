//! What must change on a switch so that it holds the desired flows.

use std::collections::BTreeMap;

use hashbrown::HashSet;
use openflow::{Flow, FlowMod};

use super::FlowSet;
use super::table::FlowKey;

/// The difference between the flows a switch should have and those it has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// Desired, but not there.
    pub missing: Vec<Flow>,
    /// There, but not desired.
    pub extra: Vec<Flow>,
    /// There with other actions, cookie or timeouts than desired.
    pub changed: Vec<Change>,
}

/// A flow that is there, but not as desired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// As the switch has it.
    pub actual: Flow,
    /// As it should be.
    pub desired: Flow,
}

/// Compares the `actual` flows of a switch with the `desired` ones.
///
/// Several actual flows with the same key cannot come from a switch; of such, the last counts.
#[must_use]
pub fn diff<'a>(actual: impl IntoIterator<Item = &'a Flow>, desired: &FlowSet) -> Diff {
    let mut there: HashSet<*const Flow> = HashSet::with_capacity(desired.len());
    let mut changed: BTreeMap<FlowKey<'_>, Change> = BTreeMap::new();
    let mut extra: BTreeMap<FlowKey<'_>, &Flow> = BTreeMap::new();
    for flow in actual {
        let Some(wanted) = desired.get(flow) else {
            extra.insert(FlowKey::of(flow), flow);
            continue;
        };
        there.insert(wanted);
        if flow != wanted {
            changed.insert(FlowKey::of(flow), Change { actual: flow.clone(), desired: wanted.clone() });
        } else if !changed.is_empty() {
            changed.remove(&FlowKey::of(flow));
        }
    }
    let mut missing = Vec::new();
    // To put all flows in order takes longer than to compare them, and mostly nothing is missing.
    if there.len() < desired.len() {
        missing.extend(desired.iter().filter(|flow| !there.contains(&std::ptr::from_ref(*flow))).cloned());
    }
    Diff { missing, extra: extra.into_values().cloned().collect(), changed: changed.into_values().collect() }
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
    /// First the flows that only drop, then what must go, then the rest from the last table to the first, so
    /// that a packet under way meets its later tables complete even where a bundle is not applied as one.
    #[must_use]
    pub fn modifications(&self) -> Vec<FlowMod> {
        let wanted = || self.missing.iter().chain(self.changed.iter().map(|change| &change.desired));
        let drops = |flow: &&Flow| flow.instructions.is_empty();
        let mut mods: Vec<FlowMod> = wanted().filter(drops).cloned().map(FlowMod::add).collect();
        mods.extend(self.extra.iter().map(FlowMod::delete_strict));
        let mut rest: Vec<&Flow> = wanted().filter(|flow| !drops(flow)).collect();
        rest.sort_by_key(|flow| std::cmp::Reverse(flow.table));
        mods.extend(rest.into_iter().cloned().map(FlowMod::add));
        mods
    }
}
