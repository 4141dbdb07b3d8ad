//! The `network.openshift.io/v1` API: its objects as they are stored, and what they mean once checked.
//!
//! Two layers, so that a string is parsed once, at the edge:
//!
//! | stored form, serde names as in the original CRDs | checked form |
//! |---|---|
//! | [`ClusterNetwork`] | [`NetworkConfig`] |
//! | [`HostSubnet`] | [`Subnet`] |
//! | [`NetNamespace`] | [`Vnid`] |
//! | [`EgressNetworkPolicy`] | checked by [`validate::egress_network_policy`] |
//!
//! The step from left to right is `TryFrom`; its error, [`InvalidObject`], lists everything that is wrong with the
//! object, each entry naming the field and what to do. Unknown fields of a stored object are ignored, so objects
//! exported from any release of OpenShift load.

pub mod crd;
mod network;
mod object;
mod subnet;
mod types;
pub mod validate;

pub use flowtables::pipeline::vnid::{InvalidVnid, Vnid};
pub use network::{
    ClusterCidr, DEFAULT_MTU, DEFAULT_VXLAN_PORT, NetworkConfig, NodeIpConflict, ParsePluginModeError,
    PluginMode,
};
pub use object::{Kind, ObjectRef, UnknownKind};
pub use subnet::Subnet;
pub use types::{
    ClusterNetwork, ClusterNetworkEntry, EgressNetworkPolicy, EgressNetworkPolicyPeer,
    EgressNetworkPolicyRule, EgressNetworkPolicySpec, HostSubnet, NetNamespace,
};
pub use validate::{Invalid, InvalidObject, Reason};

/// Name of the only [`ClusterNetwork`] that is used.
pub const CLUSTER_NETWORK_NAME: &str = "default";

/// Namespace that always has VNID 0.
pub const GLOBAL_NAMESPACE: &str = "default";

/// Annotation on a [`HostSubnet`] made by hand: the controller is asked to give it a subnet.
pub const ASSIGN_SUBNET_ANNOTATION: &str = "pod.network.openshift.io/assign-subnet";

/// Annotation on a [`HostSubnet`]: nodes tag all traffic to its subnet with this VNID (decimal) instead of the sender's.
pub const FIXED_VNID_ANNOTATION: &str = "pod.network.openshift.io/fixed-vnid-host";

/// Annotation on a [`HostSubnet`]: UID of the Node it belongs to. Without it, it belongs to a machine outside the cluster.
pub const NODE_UID_ANNOTATION: &str = "pod.network.openshift.io/node-uid";

/// Annotation on a [`NetNamespace`]: asks the controller for another VNID; `global`, `isolate` or `join:NAMESPACE`.
pub const CHANGE_NETWORK_ANNOTATION: &str = "pod.network.openshift.io/multitenant.change-network";
