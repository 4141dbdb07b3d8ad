//! Cookies that name owners: every flow says whose it is.

use std::fmt;
use std::hash::Hasher;

use super::vnid::Vnid;

/// Who a flow belongs to. Flows come and go with their owner, and traces, dumps and metrics speak of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// The node's own frame: dispatch, routing, misses.
    Base,
    /// The version note of table 253.
    Version,
    /// Another node of the cluster.
    Node(String),
    /// A VNID that has pods here.
    Tenant(Vnid),
    /// A service.
    Service {
        /// Namespace of the Service object.
        namespace: String,
        /// Name of the Service object.
        name: String,
    },
    /// A pod on this node.
    Pod {
        /// Namespace of the Pod object.
        namespace: String,
        /// Name of the Pod object.
        name: String,
    },
    /// A namespace with egress IPs.
    EgressIp(String),
    /// A namespace with an EgressNetworkPolicy.
    EgressPolicy(String),
    /// A VNID with multicast that has pods here.
    Multicast(Vnid),
    /// The way of multicast packets to the other nodes.
    MulticastTunnels,
}

/// The kinds of owners, as the second byte of a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum OwnerKind {
    /// See [`Owner::Base`].
    Base = 0x01,
    /// See [`Owner::Version`].
    Version = 0x02,
    /// See [`Owner::Node`].
    Node = 0x03,
    /// See [`Owner::Tenant`].
    Tenant = 0x04,
    /// See [`Owner::Service`].
    Service = 0x05,
    /// See [`Owner::Pod`].
    Pod = 0x06,
    /// See [`Owner::EgressIp`].
    EgressIp = 0x07,
    /// See [`Owner::EgressPolicy`].
    EgressPolicy = 0x08,
    /// See [`Owner::Multicast`].
    Multicast = 0x09,
    /// See [`Owner::MulticastTunnels`].
    MulticastTunnels = 0x0a,
}

/// The 64 bits that Open vSwitch keeps with a flow for us: `0x5d`, the kind of owner, 48 bits of identity.
///
/// The identity of a tenant is its VNID; that of a named owner is a hash of its name, so that a cookie is the
/// same after every restart and on every node. A cookie without the leading `0x5d` is not ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cookie(pub u64);

const MARK: u64 = 0x5d;
const IDENTITY: u64 = (1 << 48) - 1;

impl OwnerKind {
    const ALL: [OwnerKind; 10] = [
        Self::Base,
        Self::Version,
        Self::Node,
        Self::Tenant,
        Self::Service,
        Self::Pod,
        Self::EgressIp,
        Self::EgressPolicy,
        Self::Multicast,
        Self::MulticastTunnels,
    ];

    /// The kind in a word or two, as they stand before the owner's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Version => "version",
            Self::Node => "node",
            Self::Tenant => "tenant",
            Self::Service => "service",
            Self::Pod => "pod",
            Self::EgressIp => "egress IPs of",
            Self::EgressPolicy => "egress policy of",
            Self::Multicast => "multicast of",
            Self::MulticastTunnels => "multicast tunnels",
        }
    }
}

impl Owner {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> OwnerKind {
        match self {
            Owner::Base => OwnerKind::Base,
            Owner::Version => OwnerKind::Version,
            Owner::Node(_) => OwnerKind::Node,
            Owner::Tenant(_) => OwnerKind::Tenant,
            Owner::Service { .. } => OwnerKind::Service,
            Owner::Pod { .. } => OwnerKind::Pod,
            Owner::EgressIp(_) => OwnerKind::EgressIp,
            Owner::EgressPolicy(_) => OwnerKind::EgressPolicy,
            Owner::Multicast(_) => OwnerKind::Multicast,
            Owner::MulticastTunnels => OwnerKind::MulticastTunnels,
        }
    }

    /// The cookie of its flows.
    #[must_use]
    pub fn cookie(&self) -> Cookie {
        let identity = match self {
            Owner::Base | Owner::Version | Owner::MulticastTunnels => 0,
            Owner::Tenant(vnid) | Owner::Multicast(vnid) => vnid.get().into(),
            Owner::Node(name) | Owner::EgressIp(name) | Owner::EgressPolicy(name) => hash(&[name]),
            Owner::Service { namespace, name } | Owner::Pod { namespace, name } => hash(&[namespace, name]),
        };
        Cookie(MARK << 56 | (self.kind() as u64) << 48 | identity)
    }
}

impl Cookie {
    /// Whether the flow is one of ours at all.
    #[must_use]
    pub fn is_ours(self) -> bool {
        self.0 >> 56 == MARK
    }

    /// The kind of owner, if the cookie is ours and the kind is known to this version.
    #[must_use]
    pub fn kind(self) -> Option<OwnerKind> {
        let byte = (self.0 >> 48 & 0xff) as u8;
        OwnerKind::ALL.into_iter().find(|kind| self.is_ours() && *kind as u8 == byte)
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind().name())?;
        match self {
            Owner::Base | Owner::Version | Owner::MulticastTunnels => Ok(()),
            Owner::Node(name) => write!(f, " {name}"),
            Owner::EgressIp(namespace) | Owner::EgressPolicy(namespace) => {
                write!(f, " namespace {namespace}")
            }
            Owner::Tenant(vnid) => write!(f, " {vnid}"),
            Owner::Multicast(vnid) => write!(f, " VNID {vnid}"),
            Owner::Service { namespace, name } | Owner::Pod { namespace, name } => {
                write!(f, " {namespace}/{name}")
            }
        }
    }
}

impl fmt::Display for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// FNV-1a of the parts, each followed by a byte that no name holds, folded to 48 bits.
fn hash(parts: &[&str]) -> u64 {
    let mut hasher = fnv::FnvHasher::default();
    for part in parts {
        hasher.write(part.as_bytes());
        hasher.write_u8(0);
    }
    let full = hasher.finish();
    (full ^ full >> 48) & IDENTITY
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(namespace: &str, name: &str) -> Owner {
        Owner::Pod { namespace: namespace.into(), name: name.into() }
    }

    #[test]
    fn cookies_tell_kind_and_never_change() {
        // The numbers are on switches that outlive an upgrade: changing them rewrites every flow.
        assert_eq!(Owner::Base.cookie(), Cookie(0x5d01_0000_0000_0000));
        assert_eq!(Owner::Tenant(Vnid::try_from(0x82f8b2).unwrap()).cookie(), Cookie(0x5d04_0000_0082_f8b2));
        assert_eq!(pod("default", "web").cookie(), Cookie(0x5d06_796a_078b_dfee));
        assert_eq!(pod("default", "web").cookie().kind(), Some(OwnerKind::Pod));
    }

    #[test]
    fn namespaces_do_not_run_into_names() {
        assert_ne!(pod("a", "bc").cookie(), pod("ab", "c").cookie());
        let service = Owner::Service { namespace: "a".into(), name: "b".into() };
        assert_ne!(pod("a", "b").cookie(), service.cookie());
    }

    #[test]
    fn foreign_cookies_are_foreign() {
        assert!(!Cookie(0).is_ours());
        assert_eq!(Cookie(0x4466_b9eb).kind(), None);
        assert_eq!(Cookie(0x5dff_0000_0000_0000).kind(), None);
    }
}
