//! [`NetworkConfig`]: a ClusterNetwork, checked.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use ipnet::Ipv4Net;
use thiserror::Error;

use super::validate::{self, ClusterNetworkLimits, Faults, InvalidObject, Reason};
use super::{CLUSTER_NETWORK_NAME, ClusterNetwork, Kind};

/// UDP port of the VXLAN tunnels unless the ClusterNetwork names one.
pub const DEFAULT_VXLAN_PORT: u16 = 4789;

/// MTU of the pod network in bytes unless the ClusterNetwork names one: 1500 less VXLAN's 50.
pub const DEFAULT_MTU: u16 = 1450;

/// How pods are isolated from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PluginMode {
    /// No isolation: every pod reaches every other.
    Subnet,
    /// A VNID a namespace; pods of different VNIDs don't reach each other.
    Multitenant,
    /// NetworkPolicy objects decide.
    NetworkPolicy,
}

impl PluginMode {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::Subnet, Self::Multitenant, Self::NetworkPolicy];

    /// The value of `pluginName`.
    pub const fn plugin_name(self) -> &'static str {
        match self {
            Self::Subnet => "redhat/openshift-ovs-subnet",
            Self::Multitenant => "redhat/openshift-ovs-multitenant",
            Self::NetworkPolicy => "redhat/openshift-ovs-networkpolicy",
        }
    }

    /// The short word, as on the command line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Subnet => "subnet",
            Self::Multitenant => "multitenant",
            Self::NetworkPolicy => "networkpolicy",
        }
    }

    /// Whether namespaces have VNIDs of their own.
    pub const fn has_vnids(self) -> bool {
        !matches!(self, Self::Subnet)
    }
}

impl fmt::Display for PluginMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// No plugin has this name.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("Unknown plugin name \"{name}\": use one of {}", PluginMode::ALL.map(PluginMode::plugin_name).join(", "))]
pub struct ParsePluginModeError {
    /// As written.
    pub name: String,
}

impl FromStr for PluginMode {
    type Err = ParsePluginModeError;

    /// Reads a `pluginName` in any case, or the short word.
    fn from_str(name: &str) -> Result<Self, ParsePluginModeError> {
        let lower = name.to_ascii_lowercase();
        Self::ALL
            .into_iter()
            .find(|mode| lower == mode.plugin_name() || lower == mode.word())
            .ok_or_else(|| ParsePluginModeError { name: name.to_owned() })
    }
}

/// A network that nodes' subnets are taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClusterCidr {
    /// The network.
    pub cidr: Ipv4Net,
    /// Number of *host* bits of a node's subnet, 2 to 30 and at most 32 less the prefix of `cidr`.
    pub host_subnet_length: u8,
}

impl ClusterCidr {
    /// Prefix length of a node's subnet.
    pub const fn node_prefix_len(&self) -> u8 {
        32u8.saturating_sub(self.host_subnet_length)
    }
}

/// The cluster's networks and plugin: what everything else works from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkConfig {
    /// How pods are isolated.
    pub plugin: PluginMode,
    /// Networks of the pods, in the order of use; never empty, none overlaps another.
    pub cluster_networks: Vec<ClusterCidr>,
    /// Network of the services' cluster IPs; overlaps none of `cluster_networks`.
    pub service_network: Ipv4Net,
    /// UDP port of the VXLAN tunnels, not 0.
    pub vxlan_port: u16,
    /// MTU of the pod network in bytes, 576 or more.
    pub mtu: u16,
}

/// Why an address can't be a node's.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum NodeIpConflict {
    /// Other nodes can't reach it.
    #[error("{0} can't be a node's IP: use the address under which other nodes reach it")]
    Unreachable(Ipv4Addr),
    /// It lies in the pods' network.
    #[error(
        "node IP {ip} conflicts with cluster network {network}: give the node an address outside it, \
         or the cluster another network"
    )]
    ClusterNetwork {
        /// The address.
        ip: Ipv4Addr,
        /// The cluster network that contains it.
        network: Ipv4Net,
    },
    /// It lies in the services' network.
    #[error(
        "node IP {ip} conflicts with service network {network}: give the node an address outside it, \
         or the cluster another service network"
    )]
    ServiceNetwork {
        /// The address.
        ip: Ipv4Addr,
        /// The service network.
        network: Ipv4Net,
    },
}

impl NetworkConfig {
    /// Whether `ip` can be a node's address: reachable, and in none of the cluster's networks.
    ///
    /// # Errors
    /// Why it can't.
    pub fn check_node_ip(&self, ip: Ipv4Addr) -> Result<(), NodeIpConflict> {
        if ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast() {
            return Err(NodeIpConflict::Unreachable(ip));
        }
        if let Some(entry) = self.cluster_network_of(ip) {
            return Err(NodeIpConflict::ClusterNetwork { ip, network: entry.cidr });
        }
        if self.service_network.contains(&ip) {
            return Err(NodeIpConflict::ServiceNetwork { ip, network: self.service_network });
        }
        Ok(())
    }

    /// The cluster network that contains `ip`.
    pub fn cluster_network_of(&self, ip: Ipv4Addr) -> Option<&ClusterCidr> {
        self.cluster_networks.iter().find(|entry| entry.cidr.contains(&ip))
    }
}

impl TryFrom<&ClusterNetwork> for NetworkConfig {
    type Error = InvalidObject;

    fn try_from(object: &ClusterNetwork) -> Result<Self, InvalidObject> {
        let mut faults = Faults::of(Kind::ClusterNetwork, &object.metadata);
        let service_network = faults
            .take("serviceNetwork", required_net(&object.service_network, "name the services' network"));
        let cluster_networks = if object.cluster_networks.is_empty() {
            legacy_network(object, service_network, &mut faults)
        } else {
            check_mirrors(object, &mut faults);
            entries(object, service_network, &mut faults)
        };
        let plugin = faults.take("pluginName", object.plugin_name.parse().map_err(Reason::Plugin));
        let vxlan_port = faults.take("vxlanPort", vxlan_port(object.vxlan_port));
        let mtu = faults.take("mtu", mtu(object.mtu));

        let config = (|| {
            Some(Self {
                plugin: plugin?,
                cluster_networks,
                service_network: service_network?,
                vxlan_port: vxlan_port?,
                mtu: mtu?,
            })
        })();
        faults.finish(config)
    }
}

fn required_net(text: &str, hint: &'static str) -> Result<Ipv4Net, Reason> {
    if text.is_empty() { Err(Reason::Missing(hint)) } else { validate::ipv4_net(text) }
}

fn vxlan_port(port: Option<u32>) -> Result<u16, Reason> {
    match port {
        None => Ok(DEFAULT_VXLAN_PORT),
        Some(port) => u16::try_from(port).ok().filter(|&port| port != 0).ok_or(Reason::Port(port)),
    }
}

fn mtu(mtu: Option<u32>) -> Result<u16, Reason> {
    match mtu {
        None => Ok(DEFAULT_MTU),
        Some(mtu) => u16::try_from(mtu)
            .ok()
            .filter(|&bytes| u32::from(bytes) >= ClusterNetworkLimits::MIN_MTU)
            .ok_or(Reason::Mtu(mtu)),
    }
}

/// The form from before there could be several networks: `network` and `hostsubnetlength` alone.
fn legacy_network(
    object: &ClusterNetwork,
    service: Option<Ipv4Net>,
    faults: &mut Faults<'_>,
) -> Vec<ClusterCidr> {
    if object.network.is_empty() {
        faults.push("clusterNetworks", Reason::Missing("list at least one CIDR with its hostSubnetLength"));
        return Vec::new();
    }
    if object.hostsubnetlength == 0 {
        faults.push("hostsubnetlength", Reason::Missing("say how many host bits a node gets, such as 9"));
        return Vec::new();
    }
    entry(&object.network, object.hostsubnetlength, ("network", "hostsubnetlength"), &[], service, faults)
        .into_iter()
        .collect()
}

/// The mirrors of the first entry: required of the object `default`, optional but whole for any other.
fn check_mirrors(object: &ClusterNetwork, faults: &mut Faults<'_>) {
    let Some(first) = object.cluster_networks.first() else { return };
    let is_default = object.metadata.name.as_deref() == Some(CLUSTER_NETWORK_NAME);
    if !is_default && object.network.is_empty() && object.hostsubnetlength == 0 {
        return;
    }
    if object.network != first.cidr {
        faults.push(
            "network",
            Reason::Differs {
                value: object.network.clone(),
                other_field: "clusterNetworks[0].CIDR",
                expected: first.cidr.clone(),
            },
        );
    }
    if object.hostsubnetlength != first.host_subnet_length {
        faults.push(
            "hostsubnetlength",
            Reason::Differs {
                value: object.hostsubnetlength.to_string(),
                other_field: "clusterNetworks[0].hostSubnetLength",
                expected: first.host_subnet_length.to_string(),
            },
        );
    }
}

fn entries(object: &ClusterNetwork, service: Option<Ipv4Net>, faults: &mut Faults<'_>) -> Vec<ClusterCidr> {
    let mut valid: Vec<(String, ClusterCidr)> = Vec::new();
    for (i, item) in object.cluster_networks.iter().enumerate() {
        let fields = (format!("clusterNetworks[{i}].CIDR"), format!("clusterNetworks[{i}].hostSubnetLength"));
        let checked =
            entry(&item.cidr, item.host_subnet_length, (&fields.0, &fields.1), &valid, service, faults);
        valid.extend(checked.map(|checked| (fields.0, checked)));
    }
    valid.into_iter().map(|(_, checked)| checked).collect()
}

fn entry(
    cidr: &str,
    length: u32,
    (cidr_field, length_field): (&str, &str),
    earlier: &[(String, ClusterCidr)],
    service: Option<Ipv4Net>,
    faults: &mut Faults<'_>,
) -> Option<ClusterCidr> {
    let cidr = faults.take(cidr_field, required_net(cidr, "name a network"))?;
    let max = (32 - u32::from(cidr.prefix_len())).min(ClusterNetworkLimits::MAX_HOST_BITS);
    if max < ClusterNetworkLimits::MIN_HOST_BITS {
        faults.push(cidr_field, Reason::TooSmall(cidr));
        return None;
    }
    let host_subnet_length =
        u8::try_from(length).ok().filter(|_| (ClusterNetworkLimits::MIN_HOST_BITS..=max).contains(&length));
    if host_subnet_length.is_none() {
        faults.push(length_field, Reason::SubnetLength { length, cidr, max });
    }
    for (other_field, other) in earlier {
        if validate::overlap(&cidr, &other.cidr) {
            let (other_field, other) = (other_field.clone(), other.cidr);
            faults.push(cidr_field, Reason::Overlap { network: cidr, other_field, other });
        }
    }
    if let Some(other) = service
        && validate::overlap(&cidr, &other)
    {
        faults
            .push(cidr_field, Reason::Overlap { network: cidr, other_field: "serviceNetwork".into(), other });
    }
    Some(ClusterCidr { cidr, host_subnet_length: host_subnet_length? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn parse(object: &Value) -> Result<NetworkConfig, Vec<String>> {
        let object: ClusterNetwork = serde_json::from_value(object.clone()).unwrap();
        NetworkConfig::try_from(&object).map_err(|err| {
            err.faults.iter().map(|fault| format!("{}: {}", fault.field, fault.reason)).collect()
        })
    }

    fn network(name: &str, cidrs: Value) -> Value {
        json!({
            "metadata": {"name": name}, "serviceNetwork": "172.30.0.0/16", "pluginName": "multitenant",
            "clusterNetworks": cidrs,
        })
    }

    fn one(cidr: &str, length: u32) -> Value {
        json!([{"CIDR": cidr, "hostSubnetLength": length}])
    }

    #[test]
    fn plugin_names() {
        for (name, expected) in [
            ("redhat/openshift-ovs-subnet", PluginMode::Subnet),
            ("RedHat/OpenShift-OVS-Multitenant", PluginMode::Multitenant),
            ("networkpolicy", PluginMode::NetworkPolicy),
        ] {
            assert_eq!(name.parse(), Ok(expected));
        }
        let err = "x".parse::<PluginMode>().unwrap_err();
        assert!(
            err.to_string()
                .starts_with("Unknown plugin name \"x\": use one of redhat/openshift-ovs-subnet, ")
        );
        assert_eq!(PluginMode::ALL.map(|mode| mode.plugin_name().parse()), PluginMode::ALL.map(Ok));
        assert_eq!(PluginMode::ALL.map(|mode| mode.to_string().parse()), PluginMode::ALL.map(Ok));
    }

    /// The vectors of the original (spec: cluster side, §11.4).
    #[test]
    fn cluster_networks() {
        let mirrored = |name: &str, network: &str, length: u32| {
            let mut object = self::network(name, one("10.20.0.0/16", 8));
            object["network"] = json!(network);
            object["hostsubnetlength"] = json!(length);
            object
        };
        for (object, expected) in [
            (network("any", one("10.20.0.0/16", 8)), &[][..]),
            (mirrored("any", "10.20.0.0/16", 8), &[]),
            (mirrored("default", "10.20.0.0/16", 8), &[]),
            (mirrored("any", "10.20.0.0/16", 0), &["hostsubnetlength"]),
            (mirrored("any", "", 8), &["network"]),
            (mirrored("any", "10.21.0.0/16", 7), &["network", "hostsubnetlength"]),
            (network("default", one("10.20.0.0/16", 8)), &["network", "hostsubnetlength"]),
            (network("any", one("10.20.0.0.0/16", 8)), &["clusterNetworks[0].CIDR"]),
            (network("any", one("10.20.0.1/16", 8)), &["clusterNetworks[0].CIDR"]),
            (network("any", one("", 8)), &["clusterNetworks[0].CIDR"]),
            (network("any", json!([])), &["clusterNetworks"]),
            (network("any", one("10.20.0.0/24", 16)), &["clusterNetworks[0].hostSubnetLength"]),
            (network("any", one("10.20.0.0/16", 1)), &["clusterNetworks[0].hostSubnetLength"]),
            (network("any", one("10.20.0.0/31", 1)), &["clusterNetworks[0].CIDR"]),
            (network("any", one("172.30.16.0/20", 8)), &["clusterNetworks[0].CIDR"]),
            (network("any", one("172.0.0.0/8", 8)), &["clusterNetworks[0].CIDR"]),
            (network("any", one("fd01::/48", 8)), &["clusterNetworks[0].CIDR"]),
            (
                network(
                    "any",
                    json!([
                        {"CIDR": "10.20.0.0/16", "hostSubnetLength": 8}, {"CIDR": "10.20.128.0/17", "hostSubnetLength": 8},
                    ]),
                ),
                &["clusterNetworks[1].CIDR"],
            ),
        ] {
            let faults = parse(&object).err().unwrap_or_default();
            let fields: Vec<_> = faults.iter().filter_map(|text| text.split(": ").next()).collect();
            assert_eq!(fields, expected, "{object}: {faults:?}");
        }
    }

    #[test]
    fn the_form_from_before_there_were_several() {
        let legacy = |network: &str, length: u32| {
            let mut object = self::network("default", json!(null));
            object["network"] = json!(network);
            object["hostsubnetlength"] = json!(length);
            parse(&object)
        };
        let cidr = ClusterCidr { cidr: "10.128.0.0/14".parse().unwrap(), host_subnet_length: 9 };
        assert_eq!(legacy("10.128.0.0/14", 9).unwrap().cluster_networks, [cidr]);
        assert_eq!(legacy("10.128.0.0/14", 0).unwrap_err().len(), 1);
        assert_eq!(legacy("10.128.0.1/14", 9).unwrap_err().len(), 1);
        assert_eq!(legacy("10.128.0.0/14", 1).unwrap_err().len(), 1);
    }

    #[test]
    fn defaults_and_limits() {
        let mut object = network("any", one("10.20.0.0/16", 8));
        let config = parse(&object).unwrap();
        assert_eq!((config.vxlan_port, config.mtu), (4789, 1450));
        object["vxlanPort"] = json!(1);
        object["mtu"] = json!(576);
        let config = parse(&object).unwrap();
        assert_eq!((config.vxlan_port, config.mtu), (1, 576));
        object["vxlanPort"] = json!(0);
        object["mtu"] = json!(65536);
        object["pluginName"] = json!(null);
        assert_eq!(parse(&object).unwrap_err().len(), 3);
    }

    #[test]
    fn node_addresses() {
        let config = parse(&network("any", one("10.20.0.0/16", 8))).unwrap();
        for (ip, expected) in [
            ("192.168.1.1", None),
            ("10.20.3.4", Some("node IP 10.20.3.4 conflicts with cluster network 10.20.0.0/16")),
            ("172.30.0.1", Some("node IP 172.30.0.1 conflicts with service network 172.30.0.0/16")),
            ("127.0.0.1", Some("127.0.0.1 can't be a node's IP")),
            ("0.0.0.0", Some("0.0.0.0 can't be a node's IP")),
        ] {
            let found = config.check_node_ip(ip.parse().unwrap()).err().map(|err| err.to_string());
            let found = found.as_deref().and_then(|text| text.split(": ").next());
            assert_eq!(found, expected);
        }
    }
}
