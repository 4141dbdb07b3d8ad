//! What renders flows: one file a feature, each a pure function of a small input. None knows another.

pub mod base;
pub mod nodes;
pub mod pods;
pub mod services;
pub mod tenants;
pub mod version;

/// How the cluster isolates its tenants: the `pluginName` of its ClusterNetwork.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Plugin {
    /// `redhat/openshift-ovs-subnet`: one flat network, every VNID is 0.
    Subnet,
    /// `redhat/openshift-ovs-multitenant`: a VNID a namespace (or group of joined ones).
    Multitenant,
}

impl Plugin {
    /// The number that the version note carries, as the replaced system numbers them.
    #[must_use]
    pub fn id(self) -> u8 {
        match self {
            Plugin::Subnet => 0,
            Plugin::Multitenant => 1,
        }
    }
}

#[cfg(test)]
mod tests;
