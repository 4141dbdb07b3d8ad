//! [`Reservations`]: numbers that have been given and may not be seen yet.
//!
//! An API server changes one object at a time, so nothing in it keeps two controllers from giving one subnet to two nodes.
//! Reservations do: before a number is written anywhere it is noted in one object, which is replaced only as it was
//! read. Whoever finds it changed has been overtaken, stops, and begins again by reading it. A number stays noted until the
//! object that it was given to is seen with it.

use std::collections::BTreeMap;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::plan::{Action, Change};
use crate::api::{Kind, Vnid};
use crate::cluster::{ClusterState, Object};

/// Seconds after which a number is free again that was noted but never seen at its object. No request takes as long, so
/// none that a dead controller left under way can bring it up later.
pub(super) const ABANDONED: i64 = 300;

/// Numbers on their way into objects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reservations {
    /// By name of the HostSubnet.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) subnets: BTreeMap<String, Reserved<Ipv4Net>>,
    /// By name of the NetNamespace.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) vnids: BTreeMap<String, Reserved<u32>>,
    /// VNIDs that a namespace gave up by being renumbered, and when. A node that was cut off may still tag its pods' packets
    /// with one: so long nobody else gets it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) released: BTreeMap<u32, i64>,
}

/// A number and when it was noted, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reserved<T> {
    pub(super) value: T,
    since: i64,
}

impl Reservations {
    /// The subnet on its way to a HostSubnet.
    pub(super) fn subnet(&self, host_subnet: &str) -> Option<Ipv4Net> {
        self.subnets.get(host_subnet).map(|reserved| reserved.value)
    }

    /// The VNID on its way to a NetNamespace.
    pub(super) fn vnid(&self, net_namespace: &str) -> Option<Vnid> {
        Vnid::try_from(self.vnids.get(net_namespace)?.value).ok()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.subnets.len() + self.vnids.len() + self.released.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets what has arrived, and what never will.
    pub fn settle(&mut self, state: &ClusterState, now: i64) {
        // Noted by a clock that was ahead: from now on it waits as long as any other.
        let waits = |since: &mut i64| {
            *since = (*since).min(now);
            now.saturating_sub(*since) < ABANDONED
        };
        self.subnets.retain(|name, reserved| {
            let arrived = state.host_subnets.get(name).map(|object| object.subnet.as_str());
            arrived != Some(reserved.value.to_string().as_str()) && waits(&mut reserved.since)
        });
        self.vnids.retain(|name, reserved| {
            let arrived = state.net_namespaces.get(name).map(|object| object.netid);
            arrived != Some(reserved.value) && waits(&mut reserved.since)
        });
        self.released.retain(|_, since| waits(since));
    }

    /// Seconds until the first of them is free again by itself; `None` if there are none.
    pub(super) fn next_end(&self, now: i64) -> Option<u64> {
        let subnets = self.subnets.values().map(|reserved| reserved.since);
        let vnids = self.vnids.values().map(|reserved| reserved.since);
        let first = subnets.chain(vnids).chain(self.released.values().copied()).min()?;
        Some(u64::try_from(first.saturating_add(ABANDONED).saturating_sub(now)).unwrap_or(0))
    }

    /// Notes the numbers that these changes give to objects of `state`, and those that they take away; whether there are any.
    ///
    /// One that was noted before is noted again. It may have been free meanwhile for others, to whom only the object that holds
    /// these notes can tell: whoever gives a number must have replaced that right before.
    pub fn note(&mut self, state: &ClusterState, changes: &[Change], now: i64) -> bool {
        let mut any = false;
        for change in changes {
            let name = &change.object.name;
            let (subnet, vnid) = given(change);
            any |= subnet.is_some() || vnid.is_some();
            if let Some(value) = subnet {
                self.subnets.insert(name.clone(), Reserved { value, since: now });
            }
            if let Some(value) = vnid {
                self.vnids.insert(name.clone(), Reserved { value, since: now });
                if let Some(old) = state.net_namespaces.get(name).map(|object| object.netid)
                    && old >= Vnid::FIRST_ALLOCATABLE.get()
                {
                    self.released.insert(old, now);
                }
            }
        }
        any
    }
}

/// The numbers that a change gives to its object.
fn given(change: &Change) -> (Option<Ipv4Net>, Option<u32>) {
    match (&change.action, change.object.kind) {
        (Action::Create(Object::HostSubnet(object)), _) => (object.subnet.parse().ok(), None),
        (Action::Create(Object::NetNamespace(object)), _) => (None, Some(object.netid)),
        (Action::Patch(patch), Kind::HostSubnet) => {
            (patch.get("subnet").and_then(|subnet| subnet.as_str()?.parse().ok()), None)
        }
        (Action::Patch(patch), Kind::NetNamespace) => {
            (None, patch.get("netid").and_then(|netid| u32::try_from(netid.as_u64()?).ok()))
        }
        _ => (None, None),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::{HostSubnet, NetNamespace, ObjectRef};

    fn host_subnet(name: &str, subnet: &str) -> HostSubnet {
        serde_json::from_value(
            json!({"metadata": {"name": name}, "host": name, "hostIP": "192.0.2.1", "subnet": subnet}),
        )
        .unwrap()
    }

    fn net_namespace(name: &str, netid: u32) -> NetNamespace {
        serde_json::from_value(json!({"metadata": {"name": name}, "netname": name, "netid": netid})).unwrap()
    }

    fn changes() -> [Change; 3] {
        [
            Change::create(host_subnet("a", "10.128.0.0/23"), String::new()),
            Change::create(net_namespace("n", 10), String::new()),
            Change {
                object: ObjectRef::cluster(Kind::NetNamespace, "m"),
                action: Action::Patch(json!({"netid": 11})),
                reason: String::new(),
                notice: None,
            },
        ]
    }

    #[test]
    fn a_number_is_noted_until_it_is_seen() {
        let mut reservations = Reservations::default();
        assert!(reservations.note(&ClusterState::default(), &changes(), 1000));
        assert!(!reservations.note(&ClusterState::default(), &[], 1000), "no number");
        assert_eq!(reservations.len(), 3);

        let mut state = ClusterState::default();
        state.insert(host_subnet("a", "10.128.0.0/23").into());
        state.insert(net_namespace("m", 7).into());
        reservations.settle(&state, 1002);
        assert_eq!((reservations.subnet("a"), reservations.vnid("n").map(Vnid::get)), (None, Some(10)));
        assert_eq!(reservations.vnid("m").map(Vnid::get), Some(11), "the object still has its old number");

        reservations.settle(&state, 1000 + ABANDONED - 1);
        assert_eq!(reservations.len(), 2);
        assert_eq!(reservations.next_end(1002), Some(298));
        reservations.settle(&state, 1000 + ABANDONED);
        assert!(reservations.is_empty());
        assert_eq!(reservations.next_end(1300), None);
    }

    #[test]
    fn a_number_that_is_given_again_is_noted_again() {
        let mut reservations = Reservations::default();
        reservations.note(&ClusterState::default(), &changes(), 1000);
        assert!(reservations.note(&ClusterState::default(), &changes()[..1], 1000 + ABANDONED - 1));
        reservations.settle(&ClusterState::default(), 1000 + ABANDONED);
        assert_eq!((reservations.len(), reservations.subnet("a")), (1, "10.128.0.0/23".parse().ok()));
    }

    #[test]
    fn a_clock_that_was_ahead_holds_nothing_for_ever() {
        let mut reservations = Reservations::default();
        reservations.note(&ClusterState::default(), &changes(), i64::MAX);
        reservations.settle(&ClusterState::default(), 1000);
        assert_eq!((reservations.len(), reservations.next_end(1000)), (3, Some(300)));
        reservations.settle(&ClusterState::default(), 1000 + ABANDONED);
        assert!(reservations.is_empty());
    }

    #[test]
    fn what_a_namespace_gives_up_rests_for_a_while() {
        let mut state = ClusterState::default();
        state.insert(net_namespace("m", 10).into());
        let mut reservations = Reservations::default();
        reservations.note(&state, &changes()[2..], 1000);
        state.insert(net_namespace("m", 11).into());
        reservations.settle(&state, 1000 + ABANDONED - 1);
        assert_eq!(reservations.released.keys().collect::<Vec<_>>(), [&10]);
        reservations.settle(&state, 1000 + ABANDONED);
        assert!(reservations.is_empty());
    }

    #[test]
    fn they_survive_as_text() {
        let mut reservations = Reservations::default();
        reservations.note(&ClusterState::default(), &changes(), 1000);
        let text = serde_json::to_string(&reservations).unwrap();
        assert_eq!(serde_json::from_str::<Reservations>(&text).unwrap(), reservations);
        assert_eq!(serde_json::from_str::<Reservations>("{}").unwrap(), Reservations::default());
    }
}
