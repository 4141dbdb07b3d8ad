//! [`Refusals`]: changes that the API server refuses, each tried again ever less often.
//!
//! An admission webhook, a quota or a missing permission may refuse one object for days. It is tried again after a pause of its
//! own, so that neither the others wait for it nor it is tried with each of their changes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use tokio::time::Instant;

use super::super::plan::Change;
use super::Pause;
use crate::api::ObjectRef;

/// Objects whose last change was refused.
#[derive(Default)]
pub(super) struct Refusals(BTreeMap<ObjectRef, Refusal>);

struct Refusal {
    /// What was refused, and why.
    why: String,
    /// Before then it is not tried again.
    until: Instant,
    pause: Pause,
}

impl Refusals {
    /// Takes out of `changes` those whose time has not come, and forgets what nobody wants to change any more.
    pub(super) fn hold_back(&mut self, changes: &mut Vec<Change>, now: Instant) {
        if self.0.is_empty() {
            return;
        }
        let wanted: BTreeSet<&ObjectRef> = changes.iter().map(|change| &change.object).collect();
        self.0.retain(|object, _| wanted.contains(object));
        changes.retain(|change| self.0.get(&change.object).is_none_or(|refusal| refusal.until <= now));
    }

    /// Notes that the change of an object was refused.
    pub(super) fn refused(&mut self, object: ObjectRef, why: String, now: Instant) {
        let mut pause = self.0.remove(&object).map(|refusal| refusal.pause).unwrap_or_default();
        let until = now + pause.next();
        self.0.insert(object, Refusal { why, until, pause });
    }

    /// Notes that an object was changed.
    pub(super) fn accepted(&mut self, object: &ObjectRef) {
        self.0.remove(object);
    }

    /// When the next of them is to be tried again.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.values().map(|refusal| refusal.until).min()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Refusals {
    /// `can't create HostSubnet node1: ...: denied; and 3 more`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(first) = self.0.values().next() {
            f.write_str(&first.why)?;
        }
        match self.0.len() {
            0 | 1 => Ok(()),
            all => write!(f, "; and {} more", all - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::super::plan::Action;
    use super::*;
    use crate::api::Kind;

    fn change(name: &str) -> Change {
        Change {
            object: ObjectRef::cluster(Kind::HostSubnet, name),
            action: Action::Delete,
            reason: String::new(),
            notice: None,
        }
    }

    fn due(refusals: &mut Refusals, names: &[&str], now: Instant) -> Vec<String> {
        let mut changes: Vec<_> = names.iter().map(|name| change(name)).collect();
        refusals.hold_back(&mut changes, now);
        changes.into_iter().map(|change| change.object.name).collect()
    }

    #[test]
    fn each_waits_for_itself_and_ever_longer() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut refusals = Refusals::default();
        refusals.refused(change("a").object, "can't delete a".to_owned(), start);
        assert_eq!(due(&mut refusals, &["a", "b"], at(99)), ["b"]);
        assert_eq!(
            (refusals.next(), due(&mut refusals, &["a", "b"], at(100))),
            (Some(at(100)), vec!["a".into(), "b".into()])
        );
        refusals.refused(change("a").object, "can't delete a".to_owned(), at(100));
        refusals.refused(change("b").object, "can't delete b".to_owned(), at(100));
        assert_eq!(refusals.to_string(), "can't delete a; and 1 more");
        assert_eq!(due(&mut refusals, &["a", "b"], at(200)), ["b"], "the second time is twice as long");
        refusals.accepted(&change("b").object);
        for n in 0..20 {
            refusals.refused(change("a").object, String::new(), at(1000 * n));
        }
        assert_eq!(refusals.next(), Some(at(19_000 + 10_000)), "but no longer than the longest");
    }

    #[test]
    fn what_nobody_wants_any_more_is_forgotten() {
        let now = Instant::now();
        let mut refusals = Refusals::default();
        refusals.refused(change("a").object, "can't delete a".to_owned(), now);
        assert_eq!(refusals.to_string(), "can't delete a");
        assert!(due(&mut refusals, &["b"], now) == ["b"] && refusals.is_empty());
        assert_eq!(due(&mut refusals, &["a"], now), ["a"], "another time it is tried at once");
    }
}
