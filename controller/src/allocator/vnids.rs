//! NetNamespaces: one for each Namespace.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::plan::{Action, Allocation, Change, Problem};
use super::renumbering;
use super::reservations::Reservations;
use crate::api::{GLOBAL_NAMESPACE, Kind, NetNamespace, ObjectRef, PluginMode, Vnid};
use crate::cluster::ClusterState;

/// Plans every NetNamespace.
pub(super) fn plan(
    state: &ClusterState,
    plugin: PluginMode,
    reservations: &Reservations,
    allocation: &mut Allocation,
) {
    let mut vnids = Vnids::new(state, reservations);
    let mut going = BTreeSet::new();
    for (name, object) in &state.net_namespaces {
        if let Err(invalid) = Vnid::try_from(object.as_ref()) {
            allocation.problems.push(Problem::Invalid(invalid));
        }
        let uid = state.namespaces.get(name).map(|namespace| namespace.metadata.uid.as_deref());
        if let Some(owner) = owner(object)
            && uid.is_none_or(|uid| uid.is_some_and(|uid| uid != owner.uid))
        {
            going.insert(name.as_str());
            allocation.changes.push(Change {
                object: ObjectRef::cluster(Kind::NetNamespace, name),
                action: Action::Delete,
                reason: "its Namespace is gone".to_owned(),
                notice: None,
            });
        }
    }
    renumbering::plan(state, plugin, &going, &mut vnids, allocation);

    let mut namespaces: Vec<_> = state
        .namespaces
        .iter()
        .filter(|(name, namespace)| {
            namespace.metadata.deletion_timestamp.is_none() && !state.net_namespaces.contains_key(*name)
        })
        .collect();
    namespaces.sort_by_key(|(name, namespace)| (namespace.metadata.creation_timestamp.clone(), *name));
    for (name, namespace) in namespaces {
        let vnid = if name == GLOBAL_NAMESPACE { Some(Vnid::GLOBAL) } else { vnids.take(name) };
        let Some(vnid) = vnid else {
            allocation.problems.push(Problem::VnidsExhausted { namespace: name.clone() });
            continue;
        };
        let object = NetNamespace {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                owner_references: namespace.metadata.uid.as_ref().map(|uid| vec![owned_by(name, uid)]),
                ..ObjectMeta::default()
            },
            netname: name.clone(),
            netid: vnid.get(),
            ..NetNamespace::default()
        };
        allocation.changes.push(Change::create(object, format!("VNID {vnid}")));
    }
}

fn owned_by(name: &str, uid: &str) -> OwnerReference {
    OwnerReference {
        api_version: Kind::Namespace.api_version().to_owned(),
        kind: Kind::Namespace.as_str().to_owned(),
        name: name.to_owned(),
        uid: uid.to_owned(),
        ..OwnerReference::default()
    }
}

/// The Namespace that the object was made for, if it was made here.
fn owner(object: &NetNamespace) -> Option<&OwnerReference> {
    let owners = object.metadata.owner_references.iter().flatten();
    owners.into_iter().find(|owner| owner.kind == Kind::Namespace.as_str() && owner.name == object.netname)
}

/// Who uses which VNID, and which are free.
pub(super) struct Vnids<'a> {
    /// Users of each VNID: names of NetNamespaces that have it, or that it was noted for.
    users: BTreeMap<Vnid, BTreeSet<&'a str>>,
    reservations: &'a Reservations,
    /// From here on none has been looked at.
    next: Option<Vnid>,
}

impl<'a> Vnids<'a> {
    fn new(state: &'a ClusterState, reservations: &'a Reservations) -> Self {
        let mut users: BTreeMap<Vnid, BTreeSet<&str>> = BTreeMap::new();
        let noted = reservations.vnids.iter().map(|(name, noted)| (name, noted.value));
        let seen = state.net_namespaces.iter().map(|(name, object)| (name, object.netid));
        for (name, netid) in noted.chain(seen) {
            if let Ok(vnid) = Vnid::try_from(netid) {
                users.entry(vnid).or_default().insert(name);
            }
        }
        // Nobody has these, but who had them may not know that yet.
        for vnid in reservations.released.keys().filter_map(|netid| Vnid::try_from(*netid).ok()) {
            users.entry(vnid).or_default();
        }
        Self { users, reservations, next: Some(Vnid::FIRST_ALLOCATABLE) }
    }

    /// Whether others than `name` have the VNID, or will.
    pub(super) fn is_shared(&self, vnid: Vnid, name: &str) -> bool {
        self.users.get(&vnid).is_some_and(|users| users.iter().any(|user| *user != name))
    }

    /// A VNID for `name` alone: the one that was noted for it, else the lowest free one.
    pub(super) fn take(&mut self, name: &str) -> Option<Vnid> {
        // One that was noted to join another namespace, or to be global, is not for whoever has that name now.
        let noted = self.reservations.vnid(name);
        let own = noted.filter(|vnid| *vnid >= Vnid::FIRST_ALLOCATABLE && !self.is_shared(*vnid, name));
        own.or_else(|| self.lowest())
    }

    fn lowest(&mut self) -> Option<Vnid> {
        while let Some(vnid) = self.next {
            self.next = vnid.next();
            if !self.users.contains_key(&vnid) {
                return Some(vnid);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_vnid_until_none_is_left() {
        let taken = [10, 11, 13].map(|number| (Vnid::try_from(number).unwrap(), BTreeSet::new()));
        let reservations = Reservations::default();
        let mut vnids =
            Vnids { users: taken.into(), reservations: &reservations, next: Some(Vnid::FIRST_ALLOCATABLE) };
        assert_eq!(vnids.take("a").map(Vnid::get), Some(12));
        assert_eq!(vnids.take("a").map(Vnid::get), Some(14));
        vnids.next = Some(Vnid::MAX);
        assert_eq!(vnids.take("a"), Some(Vnid::MAX));
        assert_eq!(vnids.take("a"), None);
    }
}
