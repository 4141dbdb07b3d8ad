//! From the cluster's objects to what one node must know.

use std::fmt;
use std::net::Ipv4Addr;

use flowtables::feature::Plugin;
use flowtables::feature::base::Base;
use flowtables::feature::nodes::RemoteNode;
use flowtables::feature::pods::Pod;
use flowtables::feature::services::{Protocol, Service};
use flowtables::pipeline::vnid::Vnid;
use openflow::OfPort;

use crate::api::validate::InvalidObject;
use crate::api::{NetworkConfig, PluginMode, Subnet};
use crate::cluster::ClusterState;

/// A pod's leg on the bridge, as the port's record in OVSDB (or an assumption, offline) has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodPort {
    /// Namespace of the Pod object.
    pub namespace: String,
    /// Name of the Pod object.
    pub name: String,
    /// The sandbox that the leg belongs to: the container id of its CNI ADD.
    pub sandbox: String,
    /// The pod's address.
    pub ip: Ipv4Addr,
    /// OpenFlow port of the veth.
    pub port: OfPort,
}

/// Everything one node's flows depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inputs {
    /// The cluster's networks and the node's own addresses.
    pub base: Base,
    /// Inner MTU of the overlay, bytes.
    pub mtu: u16,
    /// The other nodes.
    pub nodes: Vec<RemoteNode>,
    /// The node's pods.
    pub pods: Vec<Pod>,
    /// The cluster's services.
    pub services: Vec<Service>,
    /// What could not be taken into account, and why.
    pub problems: Vec<Problem>,
}

/// Why nothing can be said about a node at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ViewError {
    /// There is no ClusterNetwork.
    #[error("there is no ClusterNetwork `default`: create one (see manifests/demo/network.yaml)")]
    NoClusterNetwork,
    /// The ClusterNetwork or the node's own HostSubnet is not usable.
    #[error(transparent)]
    Invalid(#[from] InvalidObject),
    /// The plugin is known but not supported.
    #[error(
        "plugin networkpolicy is not supported by this version: set pluginName of ClusterNetwork default to \
         redhat/openshift-ovs-subnet or redhat/openshift-ovs-multitenant"
    )]
    Unsupported,
    /// The node has no subnet yet.
    #[error("node {0} has no HostSubnet: sdn-controller gives it one once the Node object has an InternalIP")]
    NoHostSubnet(String),
}

/// An object that was left out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Kind and name of the object.
    pub object: String,
    /// Why it was left out, and what to do.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object, self.reason)
    }
}

/// What `node` must know of the cluster, given the legs of its pods.
///
/// # Errors
/// When the cluster's networks or the node's own subnet are not known or not valid. Other objects that are not
/// valid are left out and listed as problems.
pub fn inputs(state: &ClusterState, node: &str, ports: &[PodPort]) -> Result<Inputs, ViewError> {
    let object = state.cluster_network.as_deref().ok_or(ViewError::NoClusterNetwork)?;
    let network = NetworkConfig::try_from(object)?;
    let plugin = match network.plugin {
        PluginMode::Subnet => Plugin::Subnet,
        PluginMode::Multitenant => Plugin::Multitenant,
        PluginMode::NetworkPolicy => return Err(ViewError::Unsupported),
    };
    let own = state.host_subnets.get(node).ok_or_else(|| ViewError::NoHostSubnet(node.to_owned()))?;
    let own = Subnet::checked(own, &network)?;

    let mut problems = Vec::new();
    let nodes = remote_nodes(state, node, &own, &network, &mut problems);
    let pods = pods(state, plugin, ports, &mut problems);
    let services = match plugin {
        Plugin::Subnet => Vec::new(),
        Plugin::Multitenant => services(state, &mut problems),
    };
    let base = Base {
        plugin,
        cluster_networks: network.cluster_networks.iter().map(|entry| entry.cidr).collect(),
        service_network: network.service_network,
        local_subnet: own.subnet,
        node_ip: own.host_ip,
        vxlan_port: network.vxlan_port,
    };
    Ok(Inputs { base, mtu: network.mtu, nodes, pods, services, problems })
}

fn remote_nodes(
    state: &ClusterState,
    node: &str,
    own: &Subnet,
    network: &NetworkConfig,
    problems: &mut Vec<Problem>,
) -> Vec<RemoteNode> {
    let mut nodes: Vec<RemoteNode> = Vec::new();
    for (name, object) in state.host_subnets.iter().filter(|(name, _)| *name != node) {
        let mut problem =
            |reason: String| problems.push(Problem { object: format!("HostSubnet {name}"), reason });
        let subnet = match Subnet::checked(object, network) {
            Ok(subnet) => subnet,
            Err(error) => {
                problem(error.to_string());
                continue;
            }
        };
        if subnet.host_ip == own.host_ip {
            problem(format!("has this node's own address {}: its tunnel is ignored", subnet.host_ip));
            continue;
        }
        if let Some(other) = nodes.iter().find(|other| other.vtep == subnet.host_ip) {
            problem(format!(
                "has the same address {} as {}: its tunnel is ignored",
                subnet.host_ip, other.name
            ));
            continue;
        }
        nodes.push(RemoteNode {
            name: name.clone(),
            vtep: subnet.host_ip,
            subnet: subnet.subnet,
            fixed_vnid: subnet.fixed_vnid.and_then(|vnid| Vnid::try_from(vnid).ok()),
        });
    }
    nodes
}

/// The VNID of a namespace, if the controller has given it one.
#[must_use]
pub fn vnid_of(state: &ClusterState, plugin: Plugin, namespace: &str) -> Option<Vnid> {
    match plugin {
        Plugin::Subnet => Some(Vnid::GLOBAL),
        Plugin::Multitenant => Vnid::try_from(state.net_namespaces.get(namespace)?.netid).ok(),
    }
}

fn pods(state: &ClusterState, plugin: Plugin, ports: &[PodPort], problems: &mut Vec<Problem>) -> Vec<Pod> {
    let mut pods = Vec::new();
    for port in ports {
        let PodPort { namespace, name, ip, port, .. } = port;
        match vnid_of(state, plugin, namespace) {
            Some(vnid) => {
                pods.push(Pod { namespace: namespace.clone(), name: name.clone(), port: *port, ip: *ip, vnid });
            }
            None => problems.push(Problem {
                object: format!("Pod {namespace}/{name}"),
                reason: format!("namespace {namespace} has no NetNamespace yet: it is cut off until sdn-controller gives it a VNID"),
            }),
        }
    }
    pods
}

fn services(state: &ClusterState, problems: &mut Vec<Problem>) -> Vec<Service> {
    let mut services = Vec::new();
    for ((namespace, name), object) in &state.services {
        let Some(spec) = &object.spec else { continue };
        let Some(cluster_ip) = spec.cluster_ip.as_deref().filter(|ip| !matches!(*ip, "" | "None")) else {
            continue;
        };
        let mut problem =
            |reason: String| problems.push(Problem { object: format!("Service {namespace}/{name}"), reason });
        let Ok(cluster_ip) = cluster_ip.parse() else {
            problem(format!("clusterIP {cluster_ip} is no IPv4 address"));
            continue;
        };
        let Some(vnid) = vnid_of(state, Plugin::Multitenant, namespace) else {
            problem(format!("namespace {namespace} has no NetNamespace yet"));
            continue;
        };
        let mut ports = Vec::new();
        for port in spec.ports.as_deref().unwrap_or_default() {
            let protocol = match port.protocol.as_deref().unwrap_or("TCP") {
                "TCP" => Protocol::Tcp,
                "UDP" => Protocol::Udp,
                "SCTP" => Protocol::Sctp,
                other => {
                    problem(format!("protocol {other} of port {} is none of TCP, UDP, SCTP", port.port));
                    continue;
                }
            };
            match u16::try_from(port.port) {
                Ok(number) if number > 0 => ports.push((protocol, number)),
                _ => problem(format!("port {} is not between 1 and 65535", port.port)),
            }
        }
        services.push(Service { namespace: namespace.clone(), name: name.clone(), cluster_ip, ports, vnid });
    }
    services
}
