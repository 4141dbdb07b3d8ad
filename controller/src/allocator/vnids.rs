//! NetNamespaces: one for each Namespace.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::plan::{Action, Allocation, Change, Problem};
use super::reservations::Reservations;
use crate::api::{GLOBAL_NAMESPACE, Kind, NetNamespace, ObjectRef, Vnid};
use crate::cluster::ClusterState;

/// Plans every NetNamespace.
pub(super) fn plan(state: &ClusterState, reservations: &Reservations, allocation: &mut Allocation) {
    let reserved = reservations.vnids.values();
    let mut taken: BTreeSet<Vnid> =
        reserved.filter_map(|reserved| Vnid::try_from(reserved.value).ok()).collect();
    for (name, object) in &state.net_namespaces {
        match Vnid::try_from(object.as_ref()) {
            Ok(vnid) => {
                taken.insert(vnid);
            }
            Err(invalid) => allocation.problems.push(Problem::Invalid(invalid)),
        }
        let uid = state.namespaces.get(name).map(|namespace| namespace.metadata.uid.as_deref());
        if let Some(owner) = owner(object)
            && uid.is_none_or(|uid| uid.is_some_and(|uid| uid != owner.uid))
        {
            allocation.changes.push(Change {
                object: ObjectRef::cluster(Kind::NetNamespace, name),
                action: Action::Delete,
                reason: "its Namespace is gone".to_owned(),
            });
        }
    }

    let mut free = FreeVnids { taken, next: Some(Vnid::FIRST_ALLOCATABLE) };
    let mut namespaces: Vec<_> = state
        .namespaces
        .iter()
        .filter(|(name, namespace)| {
            namespace.metadata.deletion_timestamp.is_none() && !state.net_namespaces.contains_key(*name)
        })
        .collect();
    namespaces.sort_by_key(|(name, namespace)| (namespace.metadata.creation_timestamp.clone(), *name));
    for (name, namespace) in namespaces {
        let vnid = if name == GLOBAL_NAMESPACE {
            Some(Vnid::GLOBAL)
        } else {
            reservations.vnid(name).or_else(|| free.take())
        };
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

/// Hands out free VNIDs, the lowest first.
struct FreeVnids {
    taken: BTreeSet<Vnid>,
    /// From here on none has been looked at.
    next: Option<Vnid>,
}

impl FreeVnids {
    fn take(&mut self) -> Option<Vnid> {
        while let Some(vnid) = self.next {
            self.next = vnid.next();
            if !self.taken.contains(&vnid) {
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
        let taken = [10, 11, 13].map(|number| Vnid::try_from(number).unwrap()).into();
        let mut free = FreeVnids { taken, next: Some(Vnid::FIRST_ALLOCATABLE) };
        assert_eq!(free.take().map(Vnid::get), Some(12));
        assert_eq!(free.take().map(Vnid::get), Some(14));
        free.next = Some(Vnid::MAX);
        assert_eq!(free.take(), Some(Vnid::MAX));
        assert_eq!(free.take(), None);
    }
}
