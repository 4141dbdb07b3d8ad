//! What the original checked in code or schema, as pure functions over one object.
//!
//! A check never stops at the first fault: [`InvalidObject`] lists all of them, each with the field and what to write
//! instead. What needs a second object (a node's address against the cluster's networks, two HostSubnets that overlap) is
//! not decided here but in [`NetworkConfig::check_node_ip`](super::NetworkConfig::check_node_ip) and by the allocator.

use std::fmt;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use thiserror::Error;

use super::network::{NodeIpConflict, ParsePluginModeError};
pub use super::subnet::host_subnet;
use super::{EgressNetworkPolicy, InvalidVnid, Kind, NetNamespace, ObjectRef, Vnid};

/// One fault of one object.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{object}: {field}: {reason}")]
pub struct Invalid {
    /// The object.
    pub object: ObjectRef,
    /// Path of the field as in the object's JSON, such as `clusterNetworks[1].CIDR`.
    pub field: String,
    /// What is wrong, and what to do.
    #[source]
    pub reason: Reason,
}

/// An object broke at least one rule.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub struct InvalidObject {
    /// Every fault found, in the order of the checks; never empty.
    pub faults: Vec<Invalid>,
}

impl fmt::Display for InvalidObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.faults.iter().enumerate() {
            if i > 0 {
                f.write_str("; ")?;
            }
            fault.fmt(f)?;
        }
        Ok(())
    }
}

/// Why a field is refused. Each text says what to write instead.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// A required field is absent or empty.
    #[error("is missing: {0}")]
    Missing(&'static str),
    /// Not a dotted IPv4 address.
    #[error("\"{0}\" is no IPv4 address: write one such as 192.168.1.10")]
    NotIpv4(String),
    /// Not an IPv4 network.
    #[error("\"{0}\" is no IPv4 network: write one such as 10.128.0.0/14")]
    NotCidr(String),
    /// A network whose address is not its first.
    #[error("\"{cidr}\" has host bits set: write {network}")]
    HostBits {
        /// As written.
        cidr: String,
        /// The network it lies in.
        network: Ipv4Net,
    },
    /// A node's share does not fit the network.
    #[error("{length} host bits a node don't fit {cidr}: use {min} to {max}", min = ClusterNetworkLimits::MIN_HOST_BITS)]
    SubnetLength {
        /// As written.
        length: u32,
        /// The cluster network.
        cidr: Ipv4Net,
        /// The most that fits.
        max: u32,
    },
    /// The network can't be shared out among nodes at all.
    #[error("{0} is too small to share out among nodes: use a /30 or larger")]
    TooSmall(Ipv4Net),
    /// Two networks share addresses.
    #[error("{network} overlaps {other_field} {other}: choose networks that share no address")]
    Overlap {
        /// This field's network.
        network: Ipv4Net,
        /// The other field.
        other_field: String,
        /// The other field's network.
        other: Ipv4Net,
    },
    /// A field that must repeat another one doesn't.
    #[error("\"{value}\" must equal {other_field}: write \"{expected}\"")]
    Differs {
        /// As written.
        value: String,
        /// The field it must equal.
        other_field: &'static str,
        /// That field's value.
        expected: String,
    },
    /// No plugin of this name.
    #[error(transparent)]
    Plugin(#[from] ParsePluginModeError),
    /// Not a UDP port.
    #[error("{0} is no UDP port: use 1 to 65535, or leave it out for 4789")]
    Port(u32),
    /// Not a usable MTU.
    #[error("{0} is no MTU for the pod network: use 576 to 65535 bytes, or leave it out for 1450")]
    Mtu(u32),
    /// Not a VNID.
    #[error(transparent)]
    Vnid(#[from] InvalidVnid),
    /// An annotation that should hold a VNID doesn't.
    #[error("\"{0}\" is no VNID: use a decimal number from 0 to 16777215")]
    NotVnid(String),
    /// A node's address that can't be one.
    #[error(transparent)]
    NodeIp(#[from] NodeIpConflict),
    /// Not a legal object name.
    #[error(
        "\"{0}\" is no valid name: use lower-case letters, digits, '-' and '.', at most {max} characters, \
         beginning and ending with a letter or digit",
        max = MAX_NAME
    )]
    Name(String),
    /// Not a legal namespace name.
    #[error(
        "\"{0}\" is no valid namespace: use lower-case letters, digits and '-', at most {max} characters, \
         beginning and ending with a letter or digit",
        max = MAX_LABEL
    )]
    Namespace(String),
    /// A cluster-scoped object with a namespace.
    #[error("\"{namespace}\": a {kind} belongs to no namespace; remove the field")]
    ClusterScoped {
        /// As written.
        namespace: String,
        /// The object's kind.
        kind: Kind,
    },
    /// A rule that neither allows nor denies.
    #[error("\"{0}\" is no rule type: use Allow or Deny")]
    RuleType(String),
    /// A rule with no or two selectors.
    #[error("needs exactly one of cidrSelector and dnsName")]
    OneSelector,
    /// Not a DNS name.
    #[error("\"{0}\" is no DNS name: use letters, digits, '-' and '.'; wildcards are not supported")]
    DnsName(String),
}

/// Limits of the ClusterNetwork schema.
pub(in crate::api) struct ClusterNetworkLimits;

impl ClusterNetworkLimits {
    /// Fewest host bits of a node's subnet: network, gateway and two more.
    pub(in crate::api) const MIN_HOST_BITS: u32 = 2;
    /// Most host bits of a node's subnet.
    pub(in crate::api) const MAX_HOST_BITS: u32 = 30;
    /// Smallest MTU: what every IPv4 host must accept (RFC 791 §3.1).
    pub(in crate::api) const MIN_MTU: u32 = 576;
}

const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

/// Collects the faults of one object.
pub(super) struct Faults<'a> {
    kind: Kind,
    meta: &'a ObjectMeta,
    faults: Vec<Invalid>,
}

impl<'a> Faults<'a> {
    pub(super) fn of(kind: Kind, meta: &'a ObjectMeta) -> Self {
        Self { kind, meta, faults: Vec::new() }
    }

    pub(super) fn push(&mut self, field: impl Into<String>, reason: impl Into<Reason>) {
        let name = self.meta.name.clone().unwrap_or_default();
        let object = ObjectRef { kind: self.kind, namespace: self.meta.namespace.clone(), name };
        self.faults.push(Invalid { object, field: field.into(), reason: reason.into() });
    }

    /// Takes a checked value, or notes why there is none.
    pub(super) fn take<T>(&mut self, field: impl Into<String>, result: Result<T, Reason>) -> Option<T> {
        result.map_err(|reason| self.push(field, reason)).ok()
    }

    pub(super) fn into_error(self) -> InvalidObject {
        InvalidObject { faults: self.faults }
    }

    pub(super) fn into_result(self) -> Result<(), InvalidObject> {
        if self.faults.is_empty() { Ok(()) } else { Err(self.into_error()) }
    }

    /// `value` if there is one and no fault.
    pub(super) fn finish<T>(mut self, value: Option<T>) -> Result<T, InvalidObject> {
        match value {
            Some(value) if self.faults.is_empty() => Ok(value),
            _ => {
                if self.faults.is_empty() {
                    self.push("metadata", Reason::Missing("the object is incomplete"));
                }
                Err(self.into_error())
            }
        }
    }
}

/// An IPv4 address in dotted form, without leading zeros.
pub(super) fn ipv4(text: &str) -> Result<Ipv4Addr, Reason> {
    text.parse().map_err(|_| Reason::NotIpv4(text.to_owned()))
}

/// An IPv4 network without host bits.
pub(super) fn ipv4_net(text: &str) -> Result<Ipv4Net, Reason> {
    let net: Ipv4Net = text.parse().map_err(|_| Reason::NotCidr(text.to_owned()))?;
    if net.addr() == net.network() {
        Ok(net)
    } else {
        Err(Reason::HostBits { cidr: text.to_owned(), network: net.trunc() })
    }
}

/// Whether two networks share an address.
pub fn overlap(a: &Ipv4Net, b: &Ipv4Net) -> bool {
    a.contains(b) || b.contains(a)
}

/// An RFC 1123 label: the form of a namespace's name.
fn is_label(text: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = text.as_bytes();
    bytes.len() <= MAX_LABEL
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|&b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// An RFC 1123 subdomain: the form of any other object's name.
fn is_subdomain(text: &str) -> bool {
    let edge = |part: &str| {
        let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        part.as_bytes().first().is_some_and(alphanumeric)
            && part.as_bytes().last().is_some_and(alphanumeric)
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    text.len() <= MAX_NAME && text.split('.').all(edge)
}

/// Checks `metadata.name` and `metadata.namespace` of an object of any kind.
///
/// # Errors
/// Every rule that is broken.
pub fn metadata(kind: Kind, meta: &ObjectMeta) -> Result<(), InvalidObject> {
    let mut faults = Faults::of(kind, meta);
    match meta.name.as_deref().unwrap_or_default() {
        "" => faults.push("metadata.name", Reason::Missing("every object needs a name")),
        name if kind == Kind::Namespace && !is_label(name) => {
            faults.push("metadata.name", Reason::Namespace(name.to_owned()));
        }
        name if !is_subdomain(name) => faults.push("metadata.name", Reason::Name(name.to_owned())),
        _ => {}
    }
    match (kind.is_namespaced(), meta.namespace.as_deref().unwrap_or_default()) {
        (false, "") => {}
        (false, namespace) => {
            faults.push("metadata.namespace", Reason::ClusterScoped { namespace: namespace.to_owned(), kind })
        }
        (true, "") => faults.push("metadata.namespace", Reason::Missing("name the object's namespace")),
        (true, namespace) if !is_label(namespace) => {
            faults.push("metadata.namespace", Reason::Namespace(namespace.to_owned()));
        }
        (true, _) => {}
    }
    faults.into_result()
}

/// Checks a NetNamespace by itself: `netname` is its name, `netid` has 24 bits, egress IPs are IPv4.
///
/// # Errors
/// Every rule that is broken.
pub fn net_namespace(object: &NetNamespace) -> Result<Vnid, InvalidObject> {
    let mut faults = Faults::of(Kind::NetNamespace, &object.metadata);
    same_as_name(&mut faults, "netname", &object.netname, &object.metadata);
    let vnid = faults.take("netid", Vnid::try_from(object.netid).map_err(Reason::from));
    for (i, ip) in object.egress_ips.iter().enumerate() {
        faults.take(format!("egressIPs[{i}]"), ipv4(ip));
    }
    faults.finish(vnid)
}

impl TryFrom<&NetNamespace> for Vnid {
    type Error = InvalidObject;

    fn try_from(object: &NetNamespace) -> Result<Self, InvalidObject> {
        net_namespace(object)
    }
}

/// Checks an EgressNetworkPolicy by itself.
///
/// # Errors
/// Every rule that is broken.
pub fn egress_network_policy(object: &EgressNetworkPolicy) -> Result<(), InvalidObject> {
    let mut faults = Faults::of(Kind::EgressNetworkPolicy, &object.metadata);
    for (i, rule) in object.spec.egress.iter().enumerate() {
        if !matches!(rule.rule_type.as_str(), "Allow" | "Deny") {
            faults.push(format!("spec.egress[{i}].type"), Reason::RuleType(rule.rule_type.clone()));
        }
        match (rule.to.cidr_selector.as_str(), rule.to.dns_name.as_str()) {
            ("", "") => faults.push(format!("spec.egress[{i}].to"), Reason::OneSelector),
            (cidr, "") => {
                faults.take(format!("spec.egress[{i}].to.cidrSelector"), ipv4_net(cidr));
            }
            ("", name) => {
                if !is_dns_name(name) {
                    faults.push(format!("spec.egress[{i}].to.dnsName"), Reason::DnsName(name.to_owned()));
                }
            }
            _ => faults.push(format!("spec.egress[{i}].to"), Reason::OneSelector),
        }
    }
    faults.into_result()
}

/// Labels of letters, digits and `-`, separated by dots, with an optional dot at the end.
fn is_dns_name(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    text.len() <= MAX_NAME
        && text.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= MAX_LABEL
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })
}

/// Checks a field that repeats the object's name.
pub(super) fn same_as_name(faults: &mut Faults<'_>, field: &str, value: &str, meta: &ObjectMeta) {
    let name = meta.name.as_deref().unwrap_or_default();
    if value != name {
        faults.push(
            field,
            Reason::Differs {
                value: value.to_owned(),
                other_field: "metadata.name",
                expected: name.to_owned(),
            },
        );
    }
}
