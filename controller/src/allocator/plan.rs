//! [`Allocation`]: changes and problems, as the allocator hands them out.

use std::fmt;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use thiserror::Error;

use crate::api::{InvalidObject, Kind, NodeIpConflict, ObjectRef};
use crate::cluster::{Object, ObjectError};

/// What to change, and what stands in the way of the rest.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Allocation {
    /// Changes, to be made in this order.
    pub changes: Vec<Change>,
    /// Objects that can't be given what they need. The others are not held up.
    pub problems: Vec<Problem>,
}

/// One change to one object.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The object.
    pub object: ObjectRef,
    /// What to do with it.
    pub action: Action,
    /// Why, for the log.
    pub reason: String,
    /// How to tell whoever asked for it, with the same words.
    pub notice: Option<Notice>,
}

/// An event that goes with a change: somebody asked for it, or for something that is not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// What was asked for is done: the event's reason.
    Done(&'static str),
    /// It is refused: the event's reason.
    Refused(&'static str),
}

/// What to do with an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Create it. That it exists already means that another writer was faster: look again.
    Create(Object),
    /// Apply an RFC 7386 merge patch, which names the object's `resourceVersion` if it has one.
    Patch(serde_json::Value),
    /// Delete it.
    Delete,
}

impl Change {
    pub(super) fn create(object: impl Into<Object>, reason: String) -> Self {
        let object = object.into();
        Self { object: object.reference(), action: Action::Create(object), reason, notice: None }
    }
}

impl fmt::Display for Change {
    /// `create HostSubnet node1: 10.128.0.0/23 for 192.168.1.1`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self.action {
            Action::Create(_) => "create",
            Action::Patch(_) => "update",
            Action::Delete => "delete",
        };
        write!(f, "{verb} {}: {}", self.object, self.reason)
    }
}

/// Why an object can't be given what it needs. Each text says what to do.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// Nothing says which networks there are.
    #[error(
        "there is no ClusterNetwork {name}: create it with clusterNetworks, serviceNetwork and pluginName"
    )]
    NoClusterNetwork {
        /// The name it must have.
        name: &'static str,
    },
    /// An object breaks its own rules.
    #[error(transparent)]
    Invalid(#[from] InvalidObject),
    /// An object has not the form of its kind.
    #[error("{object} can't be read: {error}; repair it, or delete it")]
    Unreadable {
        /// The object.
        object: ObjectRef,
        /// What is wrong with it.
        error: ObjectError,
    },
    /// A Node says nothing of where it is.
    #[error(
        "Node {node} has no IPv4 address of type InternalIP in status.addresses: it gets a HostSubnet when it has one"
    )]
    NoNodeIp {
        /// The Node.
        node: String,
    },
    /// A Node's or HostSubnet's address can't be a node's.
    #[error("{object}: {conflict}")]
    NodeIp {
        /// The object.
        object: ObjectRef,
        /// What is wrong with the address.
        conflict: NodeIpConflict,
    },
    /// Two Nodes have one address.
    #[error(
        "Node {node} and Node {other} have the same InternalIP {ip}: give each its own, or tunnels go astray"
    )]
    SharedNodeIp {
        /// One Node.
        node: String,
        /// The other.
        other: String,
        /// The address.
        ip: Ipv4Addr,
    },
    /// All subnets are taken.
    #[error(
        "{object} gets no subnet: none is free in {networks}; append a network to clusterNetworks of ClusterNetwork default, \
         or remove Nodes that are no longer there"
    )]
    SubnetsExhausted {
        /// What needs one.
        object: ObjectRef,
        /// The cluster networks.
        networks: String,
    },
    /// Two HostSubnets share addresses.
    #[error(
        "HostSubnet {name} ({subnet}) overlaps HostSubnet {other} ({other_subnet}): delete one of them; if it belongs to a Node, \
         that gets another subnet"
    )]
    Overlap {
        /// One HostSubnet.
        name: String,
        /// Its subnet.
        subnet: Ipv4Net,
        /// The other HostSubnet.
        other: String,
        /// Its subnet.
        other_subnet: Ipv4Net,
    },
    /// A HostSubnet is not of this cluster's networks.
    #[error(
        "HostSubnet {name}: {subnet} lies in no cluster network: append its network to clusterNetworks of ClusterNetwork default, \
         or delete the HostSubnet"
    )]
    Outside {
        /// The HostSubnet.
        name: String,
        /// Its subnet.
        subnet: Ipv4Net,
    },
    /// All VNIDs are taken.
    #[error(
        "Namespace {namespace} gets no VNID: all are taken; delete Namespaces and NetNamespaces that are no longer used"
    )]
    VnidsExhausted {
        /// The Namespace.
        namespace: String,
    },
    /// An egress IP that nobody can use.
    #[error("NetNamespace {namespace}: egress IP {ip} is not in use: {reason}")]
    EgressIp {
        /// The NetNamespace that asks for it.
        namespace: String,
        /// The address.
        ip: Ipv4Addr,
        /// What is in the way.
        reason: String,
    },
    /// A request for another VNID that can't be met now.
    #[error("NetNamespace {name} asks to {request}, which is not done: {reason}")]
    ChangeNetwork {
        /// The NetNamespace.
        name: String,
        /// What it asks for.
        request: String,
        /// What is in the way, and what to do.
        reason: String,
    },
}

impl Problem {
    /// One word for it, as the reason of an event.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NoClusterNetwork { .. } => "NoClusterNetwork",
            Self::Invalid(_) => "Invalid",
            Self::Unreadable { .. } => "Unreadable",
            Self::NoNodeIp { .. } => "NoNodeIP",
            Self::NodeIp { .. } => "NodeIPConflict",
            Self::SharedNodeIp { .. } => "NodeIPShared",
            Self::SubnetsExhausted { .. } => "SubnetsExhausted",
            Self::Overlap { .. } => "SubnetOverlap",
            Self::Outside { .. } => "SubnetOutside",
            Self::VnidsExhausted { .. } => "VNIDsExhausted",
            Self::EgressIp { .. } => "EgressIPUnplaced",
            Self::ChangeNetwork { .. } => "ChangeNetworkFailed",
        }
    }

    /// The object that a person must look at.
    pub fn object(&self) -> ObjectRef {
        match self {
            Self::NoClusterNetwork { name } => ObjectRef::cluster(Kind::ClusterNetwork, *name),
            Self::Invalid(invalid) => invalid
                .faults
                .first()
                .map_or_else(|| ObjectRef::cluster(Kind::ClusterNetwork, ""), |fault| fault.object.clone()),
            Self::NoNodeIp { node } | Self::SharedNodeIp { node, .. } => ObjectRef::cluster(Kind::Node, node),
            Self::Unreadable { object, .. }
            | Self::NodeIp { object, .. }
            | Self::SubnetsExhausted { object, .. } => object.clone(),
            Self::Overlap { name, .. } | Self::Outside { name, .. } => {
                ObjectRef::cluster(Kind::HostSubnet, name)
            }
            Self::ChangeNetwork { name, .. } | Self::EgressIp { namespace: name, .. } => {
                ObjectRef::cluster(Kind::NetNamespace, name)
            }
            Self::VnidsExhausted { namespace } => ObjectRef::cluster(Kind::Namespace, namespace),
        }
    }
}
