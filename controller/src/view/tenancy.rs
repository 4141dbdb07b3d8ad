//! Which namespaces have which VNID, and who comes first where two objects want the same.

use std::collections::BTreeMap;

use flowtables::pipeline::vnid::Vnid;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use super::inputs::Problem;
use crate::api::NetNamespace;
use crate::cluster::ClusterState;

/// Set to `true` on a NetNamespace, its pods may send multicast to each other.
const MULTICAST_ANNOTATION: &str = "netnamespace.network.openshift.io/multicast-enabled";

/// What an object's age compares by: the older is the lesser. Between objects of one moment the name decides, and
/// what says no age is the youngest.
pub(super) fn age(meta: &ObjectMeta) -> (bool, Option<Time>, Option<String>, Option<String>) {
    (
        meta.creation_timestamp.is_none(),
        meta.creation_timestamp.clone(),
        meta.namespace.clone(),
        meta.name.clone(),
    )
}

/// The namespaces of each VNID, the oldest first.
pub(super) struct Tenancy<'a> {
    by_vnid: BTreeMap<Vnid, Vec<&'a NetNamespace>>,
}

impl<'a> Tenancy<'a> {
    /// Of all NetNamespaces; those whose number is no VNID are problems.
    pub(super) fn of(state: &'a ClusterState, problems: &mut Vec<Problem>) -> Self {
        let mut by_vnid: BTreeMap<Vnid, Vec<&NetNamespace>> = BTreeMap::new();
        for (name, object) in &state.net_namespaces {
            match Vnid::try_from(object.netid) {
                Ok(vnid) => by_vnid.entry(vnid).or_default().push(object),
                Err(error) => problems.push(Problem {
                    object: format!("NetNamespace {name}"),
                    reason: format!("netid {error}; its pods are cut off"),
                }),
            }
        }
        for namespaces in by_vnid.values_mut() {
            namespaces.sort_by_cached_key(|object| age(&object.metadata));
        }
        Self { by_vnid }
    }

    /// Every VNID with its namespaces, the oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Vnid, &[&'a NetNamespace])> {
        self.by_vnid.iter().map(|(vnid, namespaces)| (*vnid, namespaces.as_slice()))
    }

    /// The namespaces of a VNID, the oldest first.
    pub(super) fn namespaces(&self, vnid: Vnid) -> &[&'a NetNamespace] {
        self.by_vnid.get(&vnid).map_or(&[], Vec::as_slice)
    }

    /// Whether a VNID has multicast: every one of its namespaces has asked for it.
    pub(super) fn has_multicast(&self, vnid: Vnid) -> bool {
        let asks = |object: &&NetNamespace| {
            let annotation =
                object.metadata.annotations.as_ref().and_then(|all| all.get(MULTICAST_ANNOTATION));
            annotation.is_some_and(|value| value == "true")
        };
        let namespaces = self.namespaces(vnid);
        !namespaces.is_empty() && namespaces.iter().all(asks)
    }
}

/// The name of a NetNamespace's namespace.
pub(super) fn name(object: &NetNamespace) -> &str {
    object.metadata.name.as_deref().unwrap_or_default()
}
