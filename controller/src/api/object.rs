//! [`Kind`] and [`ObjectRef`]: names of the objects that make up a cluster's state.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A kind of object that this system reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `v1` Namespace.
    Namespace,
    /// `v1` Node.
    Node,
    /// `v1` Pod.
    Pod,
    /// `v1` Service.
    Service,
    /// `discovery.k8s.io/v1` EndpointSlice.
    EndpointSlice,
    /// `networking.k8s.io/v1` NetworkPolicy.
    NetworkPolicy,
    /// `network.openshift.io/v1` ClusterNetwork.
    ClusterNetwork,
    /// `network.openshift.io/v1` HostSubnet.
    HostSubnet,
    /// `network.openshift.io/v1` NetNamespace.
    NetNamespace,
    /// `network.openshift.io/v1` EgressNetworkPolicy.
    EgressNetworkPolicy,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::Namespace,
        Self::Node,
        Self::Pod,
        Self::Service,
        Self::EndpointSlice,
        Self::NetworkPolicy,
        Self::ClusterNetwork,
        Self::HostSubnet,
        Self::NetNamespace,
        Self::EgressNetworkPolicy,
    ];

    /// The kind that an object's `apiVersion` and `kind` name, or `None` if this system doesn't read it.
    ///
    /// OpenShift 3 also served the `network.openshift.io` kinds under the legacy `v1`; its exports are read too.
    pub fn from_type(api_version: &str, kind: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|k| {
            k.as_str() == kind
                && (k.api_version() == api_version
                    || (k.group() == "network.openshift.io" && api_version == "v1"))
        })
    }

    /// The group part of `apiVersion`; empty for the core group.
    pub fn group(self) -> &'static str {
        self.api_version().split_once('/').map_or("", |(group, _)| group)
    }

    /// The object's `kind` field.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Namespace => "Namespace",
            Self::Node => "Node",
            Self::Pod => "Pod",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::NetworkPolicy => "NetworkPolicy",
            Self::ClusterNetwork => "ClusterNetwork",
            Self::HostSubnet => "HostSubnet",
            Self::NetNamespace => "NetNamespace",
            Self::EgressNetworkPolicy => "EgressNetworkPolicy",
        }
    }

    /// The object's `apiVersion` field.
    pub const fn api_version(self) -> &'static str {
        match self {
            Self::Namespace | Self::Node | Self::Pod | Self::Service => "v1",
            Self::EndpointSlice => "discovery.k8s.io/v1",
            Self::NetworkPolicy => "networking.k8s.io/v1",
            Self::ClusterNetwork | Self::HostSubnet | Self::NetNamespace | Self::EgressNetworkPolicy => {
                "network.openshift.io/v1"
            }
        }
    }

    /// Whether objects of this kind live in a namespace.
    pub const fn is_namespaced(self) -> bool {
        matches!(
            self,
            Self::Pod | Self::Service | Self::EndpointSlice | Self::NetworkPolicy | Self::EgressNetworkPolicy
        )
    }

    /// The resource's name in the API and on the command line, such as `hostsubnets`.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Namespace => "namespaces",
            Self::Node => "nodes",
            Self::Pod => "pods",
            Self::Service => "services",
            Self::EndpointSlice => "endpointslices",
            Self::NetworkPolicy => "networkpolicies",
            Self::ClusterNetwork => "clusternetworks",
            Self::HostSubnet => "hostsubnets",
            Self::NetNamespace => "netnamespaces",
            Self::EgressNetworkPolicy => "egressnetworkpolicies",
        }
    }

    /// The short name on the command line; `None` where Kubernetes has none.
    pub const fn short_name(self) -> Option<&'static str> {
        match self {
            Self::Namespace => Some("ns"),
            Self::Node => Some("no"),
            Self::Pod => Some("po"),
            Self::Service => Some("svc"),
            Self::EndpointSlice => None,
            Self::NetworkPolicy => Some("netpol"),
            Self::ClusterNetwork => Some("cn"),
            Self::HostSubnet => Some("hs"),
            Self::NetNamespace => Some("netns"),
            Self::EgressNetworkPolicy => Some("enp"),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The word names no kind that this system reads.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("unknown kind \"{word}\": use one of {}", Kind::ALL.map(Kind::plural).join(", "))]
pub struct UnknownKind {
    /// The word.
    pub word: String,
}

impl FromStr for Kind {
    type Err = UnknownKind;

    /// Reads a kind as `kubectl` does: singular, plural or short name, in any case.
    fn from_str(word: &str) -> Result<Self, UnknownKind> {
        let lower = word.to_ascii_lowercase();
        Self::ALL
            .into_iter()
            .find(|kind| {
                lower == kind.plural()
                    || lower == kind.as_str().to_ascii_lowercase()
                    || Some(lower.as_str()) == kind.short_name()
            })
            .ok_or_else(|| UnknownKind { word: word.to_owned() })
    }
}

/// Names one object of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; `None` for kinds that are cluster scoped.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl ObjectRef {
    /// Names an object without a namespace.
    pub fn cluster(kind: Kind, name: impl Into<String>) -> Self {
        Self { kind, namespace: None, name: name.into() }
    }

    /// Names an object in a namespace.
    pub fn namespaced(kind: Kind, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { kind, namespace: Some(namespace.into()), name: name.into() }
    }
}

impl fmt::Display for ObjectRef {
    /// `HostSubnet node1`, `Pod default/web`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.kind)?;
        if let Some(namespace) = &self.namespace {
            write!(f, "{namespace}/")?;
        }
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_named_as_kubectl_names_them() {
        for kind in Kind::ALL {
            for word in [kind.as_str(), kind.plural(), &kind.plural().to_uppercase()] {
                assert_eq!(word.parse(), Ok(kind));
            }
            assert_eq!(kind.short_name().map_or(Ok(kind), str::parse), Ok(kind));
            assert_eq!(Kind::from_type(kind.api_version(), kind.as_str()), Some(kind));
        }
        assert_eq!(Kind::from_type("v1", "HostSubnet"), Some(Kind::HostSubnet));
        assert_eq!(Kind::from_type("v1", "NetworkPolicy"), None);
        assert!(
            "gadget"
                .parse::<Kind>()
                .unwrap_err()
                .to_string()
                .starts_with("unknown kind \"gadget\": use one of namespaces, ")
        );
    }

    #[test]
    fn references_read_well() {
        assert_eq!(ObjectRef::cluster(Kind::Node, "a").to_string(), "Node a");
        assert_eq!(ObjectRef::namespaced(Kind::Pod, "a", "b").to_string(), "Pod a/b");
    }
}
