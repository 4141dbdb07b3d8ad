//! [`Plan`]: from a cluster's state to what a lab makes of it. Pure; everything that can be wrong with a cluster is
//! found here, before anything is made.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::json;
use thiserror::Error;

use super::LabDir;
use super::state::Underlay;
use crate::api::{InvalidObject, Kind, NetworkConfig, NodeIpConflict, PluginMode};
use crate::cluster::{ClusterState, NamespacedName, Object, ObjectError};

/// Addresses for the host beyond the router, in the order of choice: networks for documentation (RFC 5737), so
/// that none is missed.
const OUTSIDE: [Ipv4Addr; 3] =
    [Ipv4Addr::new(203, 0, 113, 1), Ipv4Addr::new(198, 51, 100, 1), Ipv4Addr::new(192, 0, 2, 1)];

/// The shortest prefix that the network of the nodes may have.
const WIDEST_UNDERLAY: u8 = 16;

/// The prefix that it has unless the nodes' addresses ask for a shorter one.
const USUAL_UNDERLAY: u8 = 24;

/// Linux gives an interface's name 15 bytes; a namespace's name is a file's name.
const LONGEST_FILE_NAME: usize = 255;

/// Why a cluster can't be made on this machine.
#[derive(Debug, Error)]
pub enum PlanError {
    /// There is no ClusterNetwork.
    #[error(
        "the cluster has no ClusterNetwork named \"default\": add one, it names the networks and the plugin"
    )]
    NoClusterNetwork,
    /// The ClusterNetwork is wrong.
    #[error(transparent)]
    ClusterNetwork(#[from] InvalidObject),
    /// The plugin can't be run yet.
    #[error("plugin {mode} is not supported yet: set pluginName to one of {}, or use --plugin", supported())]
    Plugin {
        /// The plugin.
        mode: PluginMode,
    },
    /// An object that a lab makes up is none.
    #[error("a made-up object is wrong: {0}")]
    Object(#[from] ObjectError),
    /// An object can't be written down.
    #[error("an object can't be written as YAML: {0}")]
    Yaml(String),
    /// There are no nodes.
    #[error("the cluster has no Node: add at least one, with an InternalIP in status.addresses")]
    NoNodes,
    /// A node has no address.
    #[error(
        "Node {node}: status.addresses has no InternalIP that is an IPv4 address: add the node's address"
    )]
    NoAddress {
        /// The node.
        node: String,
    },
    /// A node's address can't be one.
    #[error("Node {node}: status.addresses: {conflict}")]
    Address {
        /// The node.
        node: String,
        /// Why not.
        conflict: NodeIpConflict,
    },
    /// Two nodes have the same address.
    #[error("Nodes {} and {} both have the address {ip}: give each its own", .nodes.0, .nodes.1)]
    SameAddress {
        /// The nodes.
        nodes: (String, String),
        /// The address.
        ip: Ipv4Addr,
    },
    /// The nodes' addresses are too far apart for one network.
    #[error(
        "the nodes' addresses, {first} to {last}, don't fit into one /{WIDEST_UNDERLAY}: a lab has one network between \
         its nodes"
    )]
    ScatteredNodes {
        /// The lowest.
        first: Ipv4Addr,
        /// The highest.
        last: Ipv4Addr,
    },
    /// The nodes' network and one of the cluster's overlap.
    #[error("the nodes' network {underlay} overlaps {network} of ClusterNetwork default: move one of them")]
    Overlap {
        /// The nodes'.
        underlay: Ipv4Net,
        /// The cluster's.
        network: Ipv4Net,
    },
    /// No address is left for the router, or for the host beyond.
    #[error("no address is left for {0} in the lab: use fewer or other networks")]
    NoAddressLeft(&'static str),
    /// A name is too long.
    #[error("{what} {name}: a lab needs a name of at most {most} bytes")]
    LongName {
        /// Node or Pod.
        what: &'static str,
        /// The name.
        name: String,
        /// The limit.
        most: usize,
    },
    /// Two things would have the same namespace.
    #[error("{0} and the underlay would have the same network namespace: rename it")]
    SameNamespace(String),
    /// A pod is on no node.
    #[error("Pod {}/{}: spec.nodeName: there is no Node {node:?}", .pod.0, .pod.1)]
    UnknownNode {
        /// The pod.
        pod: NamespacedName,
        /// The node's name as the pod has it.
        node: String,
    },
    /// A pod asks for something that is no address.
    #[error("Pod {}/{}: status.podIP: {ip:?} is no IPv4 address", .pod.0, .pod.1)]
    PodAddress {
        /// The pod.
        pod: NamespacedName,
        /// What it asks for.
        ip: String,
    },
}

fn supported() -> String {
    PluginMode::ALL
        .into_iter()
        .filter(|mode| is_supported(*mode))
        .map(PluginMode::plugin_name)
        .collect::<Vec<_>>()
        .join(", ")
}

/// Whether the node agent can run the plugin.
pub const fn is_supported(mode: PluginMode) -> bool {
    !matches!(mode, PluginMode::NetworkPolicy)
}

/// A pod to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedPod {
    /// Namespace and name.
    pub name: NamespacedName,
    /// Its UID, if the cluster names one.
    pub uid: Option<String>,
    /// The address that it shall have; any if there is none.
    pub ip: Option<Ipv4Addr>,
}

/// What to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The plugin.
    pub plugin: PluginMode,
    /// The network between the nodes.
    pub underlay: Underlay,
    /// The nodes' addresses by name.
    pub nodes: BTreeMap<String, Ipv4Addr>,
    /// The pods of each node that has some, in the order in which they are to be started.
    pub pods: BTreeMap<String, Vec<PlannedPod>>,
}

impl Plan {
    /// Plans the lab at `dir` for the cluster, with `plugin` instead of the one that the cluster names.
    ///
    /// # Errors
    /// The first thing that is wrong with the cluster.
    pub fn new(state: &ClusterState, plugin: Option<PluginMode>, dir: &LabDir) -> Result<Self, PlanError> {
        let network = state.cluster_network.as_deref().ok_or(PlanError::NoClusterNetwork)?;
        let config = match plugin {
            None => NetworkConfig::try_from(network)?,
            // The name that is there may be unknown; it is not used.
            Some(mode) => {
                let mut network = network.clone();
                mode.plugin_name().clone_into(&mut network.plugin_name);
                NetworkConfig::try_from(&network)?
            }
        };
        if !is_supported(config.plugin) {
            return Err(PlanError::Plugin { mode: config.plugin });
        }
        let nodes = nodes(state, &config, dir)?;
        let underlay = underlay(&nodes, &config)?;
        let pods = pods(state, &nodes, dir)?;
        Ok(Self { plugin: config.plugin, underlay, nodes, pods })
    }

    /// The names of the namespaces of underlay and nodes.
    pub fn namespaces(&self, dir: &LabDir) -> BTreeSet<String> {
        let nodes = self.nodes.keys().map(|node| dir.node_netns(node));
        std::iter::once(dir.underlay_netns()).chain(nodes).collect()
    }
}

/// A cluster of `count` nodes and nothing else; the allocator adds what is missing.
///
/// # Errors
/// None, unless the API types don't fit this function any more.
pub fn generated_cluster(count: u8) -> Result<ClusterState, PlanError> {
    let network = json!({
        "metadata": {"name": "default"},
        "network": "10.128.0.0/14",
        "hostsubnetlength": 9,
        "serviceNetwork": "172.30.0.0/16",
        "pluginName": PluginMode::Subnet.plugin_name(),
        "clusterNetworks": [{"CIDR": "10.128.0.0/14", "hostSubnetLength": 9}],
    });
    let namespace = json!({"metadata": {"name": "default"}});
    let nodes = (1..=count).map(|number| {
        let ip = Ipv4Addr::new(192, 168, 108, 100u8.saturating_add(number));
        let node = json!({
            "metadata": {"name": format!("node{number}")},
            "status": {"addresses": [{"type": "InternalIP", "address": ip}]},
        });
        (Kind::Node, node)
    });
    let mut state = ClusterState::default();
    for (kind, value) in
        [(Kind::ClusterNetwork, network), (Kind::Namespace, namespace)].into_iter().chain(nodes)
    {
        state.insert(Object::from_value(kind, value)?);
    }
    Ok(state)
}

/// The objects of a cluster as YAML documents.
///
/// # Errors
/// An object can't be expressed, which none is that was read.
pub fn to_yaml(state: &ClusterState) -> Result<String, PlanError> {
    let documents = state.objects().map(|object| {
        let value = object.to_value().map_err(|error| PlanError::Yaml(error.to_string()))?;
        serde_saphyr::to_string(&value).map_err(|error| PlanError::Yaml(error.to_string()))
    });
    Ok(documents.collect::<Result<Vec<_>, _>>()?.join("---\n"))
}

/// The node's address: its first InternalIP that is an IPv4 address.
pub fn internal_ip(node: &Node) -> Option<Ipv4Addr> {
    let addresses = node.status.as_ref()?.addresses.as_ref()?;
    addresses
        .iter()
        .filter(|address| address.type_ == "InternalIP")
        .find_map(|address| address.address.parse().ok())
}

fn nodes(
    state: &ClusterState,
    config: &NetworkConfig,
    dir: &LabDir,
) -> Result<BTreeMap<String, Ipv4Addr>, PlanError> {
    let mut owners: BTreeMap<Ipv4Addr, &String> = BTreeMap::new();
    for (name, node) in &state.nodes {
        let ip = internal_ip(node).ok_or_else(|| PlanError::NoAddress { node: name.clone() })?;
        config.check_node_ip(ip).map_err(|conflict| PlanError::Address { node: name.clone(), conflict })?;
        if let Some(other) = owners.insert(ip, name) {
            return Err(PlanError::SameAddress { nodes: (other.clone(), name.clone()), ip });
        }
        let most = dir.longest_node_name();
        if name.len() > most {
            return Err(PlanError::LongName { what: "Node", name: name.clone(), most });
        }
        if dir.node_netns(name) == dir.underlay_netns() {
            return Err(PlanError::SameNamespace(format!("Node {name}")));
        }
    }
    if owners.is_empty() {
        return Err(PlanError::NoNodes);
    }
    Ok(owners.into_iter().map(|(ip, name)| (name.clone(), ip)).collect())
}

fn underlay(nodes: &BTreeMap<String, Ipv4Addr>, config: &NetworkConfig) -> Result<Underlay, PlanError> {
    let taken: BTreeSet<Ipv4Addr> = nodes.values().copied().collect();
    let (Some(&first), Some(&last)) = (taken.first(), taken.last()) else { return Err(PlanError::NoNodes) };
    let network = (WIDEST_UNDERLAY..=USUAL_UNDERLAY)
        .rev()
        .filter_map(|prefix| Ipv4Net::new(first, prefix).ok())
        .map(|network| network.trunc())
        .find(|network| network.contains(&last))
        .ok_or(PlanError::ScatteredNodes { first, last })?;
    let others: Vec<Ipv4Net> = config
        .cluster_networks
        .iter()
        .map(|entry| entry.cidr)
        .chain(std::iter::once(config.service_network))
        .collect();
    if let Some(other) = others.iter().find(|other| other.contains(&network) || network.contains(*other)) {
        return Err(PlanError::Overlap { underlay: network, network: *other });
    }
    let router =
        network.hosts().find(|ip| !taken.contains(ip)).ok_or(PlanError::NoAddressLeft("the router"))?;
    let outside = OUTSIDE
        .into_iter()
        .find(|ip| !network.contains(ip) && !others.iter().any(|other| other.contains(ip)))
        .ok_or(PlanError::NoAddressLeft("a host beyond the router"))?;
    Ok(Underlay { network, router, outside })
}

fn pods(
    state: &ClusterState,
    nodes: &BTreeMap<String, Ipv4Addr>,
    dir: &LabDir,
) -> Result<BTreeMap<String, Vec<PlannedPod>>, PlanError> {
    // The order gives the first pod of a node the first OpenFlow port, as `render` and `trace` number them.
    let mut sorted: Vec<(&NamespacedName, &Pod)> =
        state.pods.iter().map(|(name, pod)| (name, pod.as_ref())).collect();
    sorted.sort_by_key(|(_, pod)| pod.metadata.creation_timestamp.clone());

    let mut pods: BTreeMap<String, Vec<PlannedPod>> = BTreeMap::new();
    for (name, pod) in sorted {
        let Some(spec) = &pod.spec else { continue };
        let Some(node) = spec.node_name.clone().filter(|node| !node.is_empty()) else { continue };
        // It is in the node's own namespace: there is nothing to make.
        if spec.host_network == Some(true) {
            continue;
        }
        if !nodes.contains_key(&node) {
            return Err(PlanError::UnknownNode { pod: name.clone(), node });
        }
        let netns = dir.pod_netns(&name.0, &name.1);
        if netns.len() > LONGEST_FILE_NAME {
            let most = LONGEST_FILE_NAME.saturating_sub(netns.len().saturating_sub(name.1.len()));
            return Err(PlanError::LongName { what: "Pod", name: name.1.clone(), most });
        }
        let asked = pod.status.as_ref().and_then(|status| status.pod_ip.clone()).filter(|ip| !ip.is_empty());
        let ip = match asked {
            None => None,
            Some(ip) => match ip.parse() {
                Ok(ip) => Some(ip),
                Err(_) => return Err(PlanError::PodAddress { pod: name.clone(), ip }),
            },
        };
        let planned = PlannedPod { name: name.clone(), uid: pod.metadata.uid.clone(), ip };
        pods.entry(node).or_default().push(planned);
    }
    Ok(pods)
}

#[cfg(test)]
mod tests;
