//! [`Tenants`]: NetNamespaces and Namespaces, each looked at once.
//!
//! In a cluster of ten thousand namespaces most of a round of allocation would be waiting for memory, to find that nothing has
//! changed: the objects lie anywhere. So of each is kept, side by side, what a round asks first.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use crate::api::{CHANGE_NETWORK_ANNOTATION, Kind, NetNamespace, Vnid};
use crate::cluster::{ClusterState, Objects};

/// What was seen of the NetNamespaces and Namespaces of one state.
#[derive(Debug, Default)]
pub(super) struct Tenants {
    // The tables keep the objects alive, so that no other has the address of one of them.
    net_namespaces: Objects<String, NetNamespace>,
    namespaces: Objects<String, Namespace>,
    /// One for each NetNamespace, in order.
    glances: Vec<Glance>,
    /// Names of the Namespaces without a NetNamespace.
    without: Vec<String>,
}

/// What a NetNamespace says, together with its Namespace.
#[derive(Clone, Copy, Debug)]
struct Glance {
    /// Addresses of the two objects; 0 if there is no Namespace.
    objects: (usize, usize),
    netid: u32,
    is_valid: bool,
    /// It was made for a Namespace that is gone.
    goes: bool,
    /// It asks for another VNID.
    asks: bool,
    has_egress_ips: bool,
}

impl Glance {
    fn of(objects: (usize, usize), object: &NetNamespace, namespace: Option<&Namespace>) -> Self {
        let uid = namespace.map(|namespace| namespace.metadata.uid.as_deref());
        let goes =
            owner(object).is_some_and(|owner| uid.is_none_or(|uid| uid.is_some_and(|uid| uid != owner.uid)));
        let annotations = object.metadata.annotations.as_ref();
        Self {
            objects,
            netid: object.netid,
            is_valid: Vnid::try_from(object).is_ok(),
            goes,
            asks: annotations.is_some_and(|all| all.contains_key(CHANGE_NETWORK_ANNOTATION)),
            has_egress_ips: !object.egress_ips.is_empty(),
        }
    }
}

/// The Namespace that the object was made for, if it was made here.
fn owner(object: &NetNamespace) -> Option<&OwnerReference> {
    let owners = object.metadata.owner_references.iter().flatten();
    owners.into_iter().find(|owner| owner.kind == Kind::Namespace.as_str() && owner.name == object.netname)
}

impl Tenants {
    /// Looks at what `state` has that was not seen yet.
    pub(super) fn look_at(&mut self, state: &ClusterState) {
        if self.net_namespaces.is(&state.net_namespaces) && self.namespaces.is(&state.namespaces) {
            return;
        }
        // All tables are in the order of the names: one walk through them, in which what has not changed is told by its
        // address, and its name is not even read.
        let mut known = self.net_namespaces.keys().zip(&self.glances).peekable();
        let mut namespaces = state.namespaces.iter().peekable();
        let mut glances = Vec::with_capacity(state.net_namespaces.len());
        let mut without = Vec::new();
        for (name, object) in &state.net_namespaces {
            let address = Arc::as_ptr(object).addr();
            let next = namespaces.peek().map_or(0, |(_, next)| Arc::as_ptr(next).addr());
            if let Some((_, glance)) =
                known.next_if(|(_, known)| next != 0 && known.objects == (address, next))
            {
                namespaces.next();
                glances.push(*glance);
                continue;
            }
            while known.next_if(|(other, _)| *other < name).is_some() {}
            without.extend(
                std::iter::from_fn(|| namespaces.next_if(|(other, _)| *other < name))
                    .map(|(name, _)| name.clone()),
            );
            let namespace = namespaces.next_if(|(other, _)| *other == name).map(|(_, object)| object);
            let objects = (address, namespace.map_or(0, |namespace| Arc::as_ptr(namespace).addr()));
            let before = known.next_if(|(other, _)| *other == name).map(|(_, glance)| *glance);
            glances.push(
                before
                    .filter(|glance| glance.objects == objects)
                    .unwrap_or_else(|| Glance::of(objects, object, namespace.map(AsRef::as_ref))),
            );
        }
        without.extend(namespaces.map(|(name, _)| name.clone()));
        self.glances = glances;
        self.without = without;
        self.net_namespaces.clone_from(&state.net_namespaces);
        self.namespaces.clone_from(&state.namespaces);
    }

    /// The NetNamespaces of which `which` is true.
    fn those(&self, which: impl Fn(&Glance) -> bool) -> impl Iterator<Item = (&String, &NetNamespace)> {
        self.glances
            .iter()
            .zip(&self.net_namespaces)
            .filter(move |(glance, _)| which(glance))
            .map(|(_, (name, object))| (name, object.as_ref()))
    }

    /// Those that break their own rules.
    pub(super) fn invalid(&self) -> impl Iterator<Item = (&String, &NetNamespace)> {
        self.those(|glance| !glance.is_valid)
    }

    /// Those that were made for a Namespace that is gone.
    pub(super) fn going(&self) -> impl Iterator<Item = (&String, &NetNamespace)> {
        self.those(|glance| glance.goes)
    }

    /// Those that ask for another VNID.
    pub(super) fn asking(&self) -> impl Iterator<Item = (&String, &NetNamespace)> {
        self.those(|glance| glance.asks)
    }

    /// Those with egress IPs.
    pub(super) fn with_egress_ips(&self) -> impl Iterator<Item = (&String, &NetNamespace)> {
        self.those(|glance| glance.has_egress_ips)
    }

    /// Each with its number, which may be no VNID.
    pub(super) fn netids(&self) -> impl Iterator<Item = (&String, u32)> {
        self.net_namespaces.keys().zip(&self.glances).map(|(name, glance)| (name, glance.netid))
    }

    /// The Namespaces that have no NetNamespace, by name.
    pub(super) fn without(&self) -> impl Iterator<Item = (&String, &Namespace)> {
        self.without.iter().filter_map(|name| {
            self.namespaces.get_key_value(name).map(|(name, object)| (name, object.as_ref()))
        })
    }
}
