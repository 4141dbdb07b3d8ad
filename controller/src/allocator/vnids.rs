//! NetNamespaces: one for each Namespace.

use std::cell::OnceCell;
use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::plan::{Action, Allocation, Change, Problem};
use super::renumbering;
use super::reservations::Reservations;
use super::tenants::Tenants;
use crate::api::{GLOBAL_NAMESPACE, Kind, NetNamespace, ObjectRef, PluginMode, Vnid};
use crate::cluster::ClusterState;

/// Plans every NetNamespace.
pub(super) fn plan(
    state: &ClusterState,
    tenants: &Tenants,
    plugin: PluginMode,
    reservations: &Reservations,
    allocation: &mut Allocation,
) {
    let mut vnids = Vnids::new(state, tenants, reservations);
    let invalid = tenants.invalid().filter_map(|(_, object)| Vnid::try_from(object).err());
    allocation.problems.extend(invalid.map(Problem::Invalid));
    let unreadable = |kind: Kind, name: &str| state.is_unreadable(&ObjectRef::cluster(kind, name));
    // A Namespace that can't be read is no reason to delete anything.
    let goes = || tenants.going().filter(|(name, _)| !unreadable(Kind::Namespace, name));
    let going: BTreeSet<&str> = goes().map(|(name, _)| name.as_str()).collect();
    // One that a finalizer keeps needs no second deletion.
    let there = goes().filter(|(_, object)| object.metadata.deletion_timestamp.is_none());
    allocation.changes.extend(there.map(|(name, _)| Change {
        object: ObjectRef::cluster(Kind::NetNamespace, name),
        action: Action::Delete,
        reason: "its Namespace is gone".to_owned(),
        notice: None,
    }));
    renumbering::plan(state, tenants, plugin, &going, &mut vnids, allocation);

    let mut namespaces: Vec<_> =
        tenants.without().filter(|(_, namespace)| namespace.metadata.deletion_timestamp.is_none()).collect();
    namespaces.sort_by_key(|(name, namespace)| (namespace.metadata.creation_timestamp.clone(), *name));
    for (name, namespace) in namespaces {
        if unreadable(Kind::NetNamespace, name) {
            continue;
        }
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

/// Who uses which VNID, and which are free.
pub(super) struct Vnids<'a> {
    state: &'a ClusterState,
    tenants: &'a Tenants,
    reservations: &'a Reservations,
    /// Each VNID with the name of a NetNamespace that has it, or that it was noted for, in order. Most rounds never ask.
    users: OnceCell<Vec<(Vnid, &'a str)>>,
    /// From here on none has been looked at.
    next: Option<Vnid>,
}

impl<'a> Vnids<'a> {
    fn new(state: &'a ClusterState, tenants: &'a Tenants, reservations: &'a Reservations) -> Self {
        Self { state, tenants, reservations, users: OnceCell::new(), next: Some(Vnid::FIRST_ALLOCATABLE) }
    }

    fn users(&self, vnid: Vnid) -> impl Iterator<Item = &'a str> {
        let all = self.users.get_or_init(|| {
            let noted = self.reservations.vnids.iter().map(|(name, noted)| (name, noted.value));
            let unreadable = self.state.unreadable_of(Kind::NetNamespace);
            let mut all: Vec<_> = noted
                .chain(self.tenants.netids())
                .chain(unreadable.filter_map(|(object, known)| Some((&object.name, known.held.netid?))))
                .filter_map(|(name, netid)| Some((Vnid::try_from(netid).ok()?, name.as_str())))
                .collect();
            all.sort_unstable();
            all
        });
        let from = all.partition_point(|(other, _)| *other < vnid);
        all.iter().skip(from).take_while(move |(other, _)| *other == vnid).map(|(_, name)| *name)
    }

    fn is_free(&self, vnid: Vnid) -> bool {
        // Nobody has those that were released, but who had them may not know that yet.
        self.users(vnid).next().is_none() && !self.reservations.released.contains_key(&vnid.get())
    }

    /// Whether others than `name` have the VNID, or will.
    pub(super) fn is_shared(&self, vnid: Vnid, name: &str) -> bool {
        self.users(vnid).any(|user| user != name)
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
            if self.is_free(vnid) {
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
        let taken = [10, 11, 13].map(|number| (Vnid::try_from(number).unwrap(), "b"));
        let reservations = Reservations::default();
        let tenants = Tenants::default();
        let state = ClusterState::default();
        let mut vnids = Vnids::new(&state, &tenants, &reservations);
        vnids.users = OnceCell::from(taken.to_vec());
        assert_eq!(vnids.take("a").map(Vnid::get), Some(12));
        assert_eq!(vnids.take("a").map(Vnid::get), Some(14));
        vnids.next = Some(Vnid::MAX);
        assert_eq!(vnids.take("a"), Some(Vnid::MAX));
        assert_eq!(vnids.take("a"), None);
    }
}
