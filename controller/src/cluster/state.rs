//! [`ClusterState`] and [`Object`].

use std::collections::BTreeMap;
use std::collections::btree_map;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use ipnet::Ipv4Net;
use k8s_openapi::Metadata;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::api::{
    CLUSTER_NETWORK_NAME, ClusterNetwork, EgressNetworkPolicy, HostSubnet, Kind, NetNamespace, ObjectRef,
};

/// Namespace and name of a namespaced object.
pub type NamespacedName = (String, String);

/// The objects of one kind, in order. A clone costs nothing: what it shares is copied when one of the two is changed, so a
/// change of one object copies the table of its kind, and no other.
#[derive(Clone, Debug)]
pub struct Objects<K, T>(Arc<BTreeMap<K, Arc<T>>>);

impl<K, T> Objects<K, T> {
    /// Whether both are one table. Tables that are not may still have the same objects.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<K, T> Default for Objects<K, T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: PartialEq, T: PartialEq> PartialEq for Objects<K, T> {
    fn eq(&self, other: &Self) -> bool {
        self.is(other) || self.0 == other.0
    }
}

impl<K, T> Deref for Objects<K, T> {
    type Target = BTreeMap<K, Arc<T>>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<K: Clone, T> DerefMut for Objects<K, T> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        Arc::make_mut(&mut self.0)
    }
}

impl<'a, K, T> IntoIterator for &'a Objects<K, T> {
    type Item = (&'a K, &'a Arc<T>);
    type IntoIter = btree_map::Iter<'a, K, Arc<T>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<K: Clone, T> IntoIterator for Objects<K, T> {
    type Item = (K, Arc<T>);
    type IntoIter = btree_map::IntoIter<K, Arc<T>>;

    fn into_iter(self) -> Self::IntoIter {
        Arc::unwrap_or_clone(self.0).into_iter()
    }
}

impl<K: Ord, T> FromIterator<(K, Arc<T>)> for Objects<K, T> {
    fn from_iter<I: IntoIterator<Item = (K, Arc<T>)>>(objects: I) -> Self {
        Self(Arc::new(objects.into_iter().collect()))
    }
}

/// Every object that this system reads, at one moment. Cloning shares the objects, and the tables that they are in.
///
/// Objects that did not change keep their `Arc` from one state to the next, so [`Arc::ptr_eq`] is a quick test for
/// "unchanged" (and not for "changed").
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClusterState {
    /// The ClusterNetwork named `default`.
    pub cluster_network: Option<Arc<ClusterNetwork>>,
    /// By name.
    pub host_subnets: Objects<String, HostSubnet>,
    /// By name.
    pub net_namespaces: Objects<String, NetNamespace>,
    /// By name.
    pub namespaces: Objects<String, Namespace>,
    /// By name.
    pub nodes: Objects<String, Node>,
    /// By namespace and name.
    pub pods: Objects<NamespacedName, Pod>,
    /// By namespace and name.
    pub services: Objects<NamespacedName, Service>,
    /// By namespace and name.
    pub endpoint_slices: Objects<NamespacedName, EndpointSlice>,
    /// By namespace and name.
    pub network_policies: Objects<NamespacedName, NetworkPolicy>,
    /// By namespace and name.
    pub egress_network_policies: Objects<NamespacedName, EgressNetworkPolicy>,
    /// Objects that are there and have not the form of their kind. None of them is in the tables above.
    pub unreadable: Objects<ObjectRef, Unreadable>,
}

/// What is known of an object that has not the form of its kind: it is older than the definition that checks it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// What is wrong with it.
    pub error: ObjectError,
    /// What it has nevertheless.
    pub held: Held,
}

/// What an object has that nobody else may have, as far as that can be made out without reading all of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// The subnet of a HostSubnet.
    pub subnet: Option<Ipv4Net>,
    /// The number of a NetNamespace, also if it is written as text.
    pub netid: Option<u32>,
}

impl Held {
    /// By an object of `kind` with these fields.
    pub fn by(kind: Kind, fields: &serde_json::Value) -> Self {
        let field = |of: Kind, name: &str| (kind == of).then(|| fields.get(name)).flatten();
        let netid = field(Kind::NetNamespace, "netid").and_then(|netid| {
            netid.as_u64().map_or_else(|| netid.as_str()?.parse().ok(), |netid| u32::try_from(netid).ok())
        });
        let subnet = field(Kind::HostSubnet, "subnet").and_then(|subnet| subnet.as_str()?.parse().ok());
        Self { subnet: subnet.map(|subnet: Ipv4Net| subnet.trunc()), netid }
    }
}

/// A JSON value does not have the form that its kind asks for.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{field}: {reason}")]
pub struct ObjectError {
    /// Path of the field; `.` for the object itself.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

fn typed<T: DeserializeOwned>(value: serde_json::Value) -> Result<Arc<T>, ObjectError> {
    match serde_path_to_error::deserialize(value) {
        Ok(object) => Ok(Arc::new(object)),
        Err(err) => Err(ObjectError { field: err.path().to_string(), reason: err.into_inner().to_string() }),
    }
}

/// Defines [`Object`] and the parts of its implementation that name every kind.
macro_rules! objects {
    ($($kind:ident),+ $(,)?) => {
        /// One object of any kind that this system reads.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Object {
            $(#[doc = concat!("A ", stringify!($kind), ".")] $kind(Arc<$kind>),)+
        }

        impl Object {
            /// Reads an object of `kind` from its JSON form.
            ///
            /// # Errors
            /// The field that doesn't have the form that the kind asks for.
            pub fn from_value(kind: Kind, value: serde_json::Value) -> Result<Self, ObjectError> {
                Ok(match kind {
                    $(Kind::$kind => Self::$kind(typed(value)?),)+
                })
            }

            /// The object's JSON form, with `apiVersion` and `kind`.
            ///
            /// # Errors
            /// The object can't be expressed in JSON; no object read by this system is such.
            pub fn to_value(&self) -> Result<serde_json::Value, serde_json::Error> {
                match self {
                    $(Self::$kind(object) => serde_json::to_value(object.as_ref()),)+
                }
            }

            /// The object's JSON text, with `apiVersion` and `kind` first.
            ///
            /// # Errors
            /// The object can't be expressed in JSON; no object read by this system is such.
            pub fn to_json(&self) -> Result<String, serde_json::Error> {
                match self {
                    $(Self::$kind(object) => serde_json::to_string(object.as_ref()),)+
                }
            }

            /// The object's kind.
            pub fn kind(&self) -> Kind {
                match self {
                    $(Self::$kind(_) => Kind::$kind,)+
                }
            }

            /// The object's metadata.
            pub fn metadata(&self) -> &ObjectMeta {
                match self {
                    $(Self::$kind(object) => object.metadata(),)+
                }
            }

            /// The object's metadata, to change; copies the object if it is shared.
            pub fn metadata_mut(&mut self) -> &mut ObjectMeta {
                match self {
                    $(Self::$kind(object) => Arc::make_mut(object).metadata_mut(),)+
                }
            }
        }

        $(
            impl From<$kind> for Object {
                fn from(object: $kind) -> Self {
                    Self::$kind(Arc::new(object))
                }
            }

            impl From<Arc<$kind>> for Object {
                fn from(object: Arc<$kind>) -> Self {
                    Self::$kind(object)
                }
            }
        )+
    };
}

objects!(
    Namespace,
    Node,
    Pod,
    Service,
    EndpointSlice,
    NetworkPolicy,
    ClusterNetwork,
    HostSubnet,
    NetNamespace,
    EgressNetworkPolicy,
);

impl Object {
    /// The object's name in the cluster. A name or namespace that is missing is empty.
    pub fn reference(&self) -> ObjectRef {
        let (kind, meta) = (self.kind(), self.metadata());
        ObjectRef {
            kind,
            namespace: kind.is_namespaced().then(|| meta.namespace.clone().unwrap_or_default()),
            name: meta.name.clone().unwrap_or_default(),
        }
    }
}

impl ClusterState {
    /// Puts an object in its place and returns the one that was there. A ClusterNetwork that is not named `default` has
    /// no place and is dropped.
    pub fn insert(&mut self, object: Object) -> Option<Object> {
        let reference = object.reference();
        self.forget_unreadable(&reference);
        let ObjectRef { namespace, name, .. } = reference;
        let key = (namespace.unwrap_or_default(), name);
        match object {
            Object::ClusterNetwork(new) if key.1 == CLUSTER_NETWORK_NAME => {
                self.cluster_network.replace(new).map(Object::from)
            }
            Object::ClusterNetwork(_) => None,
            Object::HostSubnet(new) => self.host_subnets.insert(key.1, new).map(Object::from),
            Object::NetNamespace(new) => self.net_namespaces.insert(key.1, new).map(Object::from),
            Object::Namespace(new) => self.namespaces.insert(key.1, new).map(Object::from),
            Object::Node(new) => self.nodes.insert(key.1, new).map(Object::from),
            Object::Pod(new) => self.pods.insert(key, new).map(Object::from),
            Object::Service(new) => self.services.insert(key, new).map(Object::from),
            Object::EndpointSlice(new) => self.endpoint_slices.insert(key, new).map(Object::from),
            Object::NetworkPolicy(new) => self.network_policies.insert(key, new).map(Object::from),
            Object::EgressNetworkPolicy(new) => {
                self.egress_network_policies.insert(key, new).map(Object::from)
            }
        }
    }

    /// Takes an object away and returns it.
    pub fn remove(&mut self, reference: &ObjectRef) -> Option<Object> {
        self.forget_unreadable(reference);
        let name = &reference.name;
        let key = || (reference.namespace.clone().unwrap_or_default(), name.clone());
        match reference.kind {
            Kind::ClusterNetwork if name == CLUSTER_NETWORK_NAME => {
                self.cluster_network.take().map(Object::from)
            }
            Kind::ClusterNetwork => None,
            Kind::HostSubnet => self.host_subnets.remove(name).map(Object::from),
            Kind::NetNamespace => self.net_namespaces.remove(name).map(Object::from),
            Kind::Namespace => self.namespaces.remove(name).map(Object::from),
            Kind::Node => self.nodes.remove(name).map(Object::from),
            Kind::Pod => self.pods.remove(&key()).map(Object::from),
            Kind::Service => self.services.remove(&key()).map(Object::from),
            Kind::EndpointSlice => self.endpoint_slices.remove(&key()).map(Object::from),
            Kind::NetworkPolicy => self.network_policies.remove(&key()).map(Object::from),
            Kind::EgressNetworkPolicy => self.egress_network_policies.remove(&key()).map(Object::from),
        }
    }

    /// Takes note of an object that can't be read, instead of one that could. A ClusterNetwork that is not named `default` has no
    /// place here either.
    pub fn insert_unreadable(&mut self, reference: ObjectRef, unreadable: Unreadable) {
        self.remove(&reference);
        if reference.kind != Kind::ClusterNetwork || reference.name == CLUSTER_NETWORK_NAME {
            self.unreadable.insert(reference, Arc::new(unreadable));
        }
    }

    /// Whether there is such an object that can't be read.
    pub fn is_unreadable(&self, reference: &ObjectRef) -> bool {
        // Nearly always there are none.
        !self.unreadable.is_empty() && self.unreadable.contains_key(reference)
    }

    /// The objects of one kind that can't be read.
    pub fn unreadable_of(&self, kind: Kind) -> impl Iterator<Item = (&ObjectRef, &Unreadable)> {
        self.unreadable
            .iter()
            .filter(move |(reference, _)| reference.kind == kind)
            .map(|(reference, object)| (reference, object.as_ref()))
    }

    fn forget_unreadable(&mut self, reference: &ObjectRef) {
        // To look costs nothing, to change a table that is shared copies it.
        if self.is_unreadable(reference) {
            self.unreadable.remove(reference);
        }
    }

    /// Takes all objects of one kind from `other` instead of the own ones.
    pub fn replace_kind(&mut self, kind: Kind, other: Self) {
        if self.unreadable_of(kind).next().is_some() || !other.unreadable.is_empty() {
            self.unreadable.retain(|reference, _| reference.kind != kind);
            self.unreadable.extend(other.unreadable);
        }
        match kind {
            Kind::ClusterNetwork => self.cluster_network = other.cluster_network,
            Kind::HostSubnet => self.host_subnets = other.host_subnets,
            Kind::NetNamespace => self.net_namespaces = other.net_namespaces,
            Kind::Namespace => self.namespaces = other.namespaces,
            Kind::Node => self.nodes = other.nodes,
            Kind::Pod => self.pods = other.pods,
            Kind::Service => self.services = other.services,
            Kind::EndpointSlice => self.endpoint_slices = other.endpoint_slices,
            Kind::NetworkPolicy => self.network_policies = other.network_policies,
            Kind::EgressNetworkPolicy => self.egress_network_policies = other.egress_network_policies,
        }
    }

    /// The object of this name.
    pub fn get(&self, reference: &ObjectRef) -> Option<Object> {
        let name = &reference.name;
        let key = || (reference.namespace.clone().unwrap_or_default(), name.clone());
        match reference.kind {
            Kind::ClusterNetwork if name == CLUSTER_NETWORK_NAME => {
                self.cluster_network.clone().map(Object::from)
            }
            Kind::ClusterNetwork => None,
            Kind::HostSubnet => self.host_subnets.get(name).cloned().map(Object::from),
            Kind::NetNamespace => self.net_namespaces.get(name).cloned().map(Object::from),
            Kind::Namespace => self.namespaces.get(name).cloned().map(Object::from),
            Kind::Node => self.nodes.get(name).cloned().map(Object::from),
            Kind::Pod => self.pods.get(&key()).cloned().map(Object::from),
            Kind::Service => self.services.get(&key()).cloned().map(Object::from),
            Kind::EndpointSlice => self.endpoint_slices.get(&key()).cloned().map(Object::from),
            Kind::NetworkPolicy => self.network_policies.get(&key()).cloned().map(Object::from),
            Kind::EgressNetworkPolicy => self.egress_network_policies.get(&key()).cloned().map(Object::from),
        }
    }

    /// Every object, by kind in the order of [`Kind::ALL`], then by namespace and name.
    pub fn objects(&self) -> impl Iterator<Item = Object> + '_ {
        let namespaces = self.namespaces.values().cloned().map(Object::from);
        let nodes = self.nodes.values().cloned().map(Object::from);
        let pods = self.pods.values().cloned().map(Object::from);
        let services = self.services.values().cloned().map(Object::from);
        let endpoint_slices = self.endpoint_slices.values().cloned().map(Object::from);
        let network_policies = self.network_policies.values().cloned().map(Object::from);
        let cluster_network = self.cluster_network.iter().cloned().map(Object::from);
        let host_subnets = self.host_subnets.values().cloned().map(Object::from);
        let net_namespaces = self.net_namespaces.values().cloned().map(Object::from);
        let egress_network_policies = self.egress_network_policies.values().cloned().map(Object::from);
        namespaces
            .chain(nodes)
            .chain(pods)
            .chain(services)
            .chain(endpoint_slices)
            .chain(network_policies)
            .chain(cluster_network)
            .chain(host_subnets)
            .chain(net_namespaces)
            .chain(egress_network_policies)
    }
}
