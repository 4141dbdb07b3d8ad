//! From the cluster's objects to what one node must know.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv4Addr;

use flowtables::feature::Plugin;
use flowtables::feature::base::{Base, gateway};
use flowtables::feature::egress_ip::EgressIp;
use flowtables::feature::egress_policy::EgressPolicy;
use flowtables::feature::multicast::Multicast;
use flowtables::feature::nodes::RemoteNode;
use flowtables::feature::pods::{self, Pod};
use flowtables::feature::services::Service;
use flowtables::pipeline::vnid::Vnid;
use ipnet::Ipv4Net;
use openflow::OfPort;

use super::egress::{Egress, HostedEgressIp, Names, Surroundings, egress};
use super::nodes::{hosts, remote_nodes};
use super::services::services;
use super::tenancy::{Tenancy, age};
use crate::api::validate::InvalidObject;
use crate::api::{CLUSTER_NETWORK_NAME, Kind, NetworkConfig, ObjectRef, PluginMode, Subnet};
use crate::cluster::{ClusterState, ObjectError};

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
    /// Namespaces that leave the cluster under addresses of their own.
    pub egress_ips: Vec<EgressIp>,
    /// Those of their addresses that are on this node.
    pub hosted_egress_ips: Vec<HostedEgressIp>,
    /// What namespaces may reach outside the cluster.
    pub egress_policies: Vec<EgressPolicy>,
    /// The DNS names that they speak of, in lower case and without a dot at the end.
    pub dns_names: BTreeSet<String>,
    /// The other nodes by which pods of this one leave under egress IPs, with the addresses of their `tun0`.
    pub egress_nodes: BTreeMap<String, Ipv4Addr>,
    /// VNIDs with multicast that have pods here.
    pub multicast: Vec<Multicast>,
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
    /// The ClusterNetwork or the node's own HostSubnet has not the form of its kind.
    #[error("{object} can't be read: {error}")]
    Unreadable {
        /// The object.
        object: ObjectRef,
        /// What is wrong with it.
        error: ObjectError,
    },
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

/// What is known besides the cluster's objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// MAC address of the node's `tun0`, where it is not the one that the node gives it.
    pub tun0_mac: Option<[u8; 6]>,
    /// The addresses of the DNS names in EgressNetworkPolicies.
    pub names: Names,
    /// Nodes that cannot be reached now, by name: egress IPs that they host are passed over.
    pub unreachable: BTreeSet<String>,
}

/// What `node` must know of the cluster, given the legs of its pods.
///
/// # Errors
/// When the cluster's networks or the node's own subnet are not known or not valid. Other objects that are not
/// valid are left out and listed as problems.
pub fn inputs(state: &ClusterState, node: &str, ports: &[PodPort]) -> Result<Inputs, ViewError> {
    inputs_knowing(state, node, ports, &Known::default())
}

/// The same, with more than the cluster's objects.
///
/// # Errors
/// As [`inputs`].
pub fn inputs_knowing(
    state: &ClusterState,
    node: &str,
    ports: &[PodPort],
    known: &Known,
) -> Result<Inputs, ViewError> {
    let missing = |kind, name: &str, error| {
        let object = ObjectRef::cluster(kind, name);
        match state.unreadable.get(&object) {
            Some(known) => ViewError::Unreadable { object, error: known.error.clone() },
            None => error,
        }
    };
    let object = state
        .cluster_network
        .as_deref()
        .ok_or_else(|| missing(Kind::ClusterNetwork, CLUSTER_NETWORK_NAME, ViewError::NoClusterNetwork))?;
    let network = NetworkConfig::try_from(object)?;
    let plugin = match network.plugin {
        PluginMode::Subnet => Plugin::Subnet,
        PluginMode::Multitenant => Plugin::Multitenant,
        PluginMode::NetworkPolicy => return Err(ViewError::Unsupported),
    };
    let own = state
        .host_subnets
        .get(node)
        .ok_or_else(|| missing(Kind::HostSubnet, node, ViewError::NoHostSubnet(node.to_owned())))?;
    let own = Subnet::checked(own, &network)?;

    // Policies are told where they close their namespace.
    let unreadable = state.unreadable.iter().filter(|(object, _)| object.kind != Kind::EgressNetworkPolicy);
    let mut problems: Vec<_> = unreadable
        .map(|(object, known)| Problem {
            object: object.to_string(),
            reason: format!("can't be read, and is as if it were not there: {}", known.error),
        })
        .collect();
    let nodes = remote_nodes(state, node, &own, &network, &mut problems);
    let pods = pods(state, plugin, own.subnet, ports, &mut problems);
    let mut inputs = Inputs {
        base: Base {
            plugin,
            cluster_networks: network.cluster_networks.iter().map(|entry| entry.cidr).collect(),
            service_network: network.service_network,
            local_subnet: own.subnet,
            node_ip: own.host_ip,
            vxlan_port: network.vxlan_port,
        },
        mtu: network.mtu,
        nodes,
        pods,
        services: Vec::new(),
        egress_ips: Vec::new(),
        hosted_egress_ips: Vec::new(),
        egress_policies: Vec::new(),
        dns_names: BTreeSet::new(),
        egress_nodes: BTreeMap::new(),
        multicast: Vec::new(),
        problems,
    };
    if plugin == Plugin::Multitenant {
        inputs.of_tenants(state, &own, known);
    }
    Ok(inputs)
}

impl Inputs {
    /// What there is only where namespaces have VNIDs.
    fn of_tenants(&mut self, state: &ClusterState, own: &Subnet, known: &Known) {
        let tenancy = Tenancy::of(state, &mut self.problems);
        self.services = services(state, self.base.service_network, &mut self.problems);
        let mut local: BTreeMap<Vnid, Vec<OfPort>> = BTreeMap::new();
        for pod in &self.pods {
            local.entry(pod.vnid).or_default().push(pod.port);
        }
        let around = Surroundings {
            own: own.host_ip,
            tun0_mac: known.tun0_mac.unwrap_or_else(|| pods::mac(gateway(own.subnet))),
            hosts: &hosts(state, own, &self.nodes, &known.unreachable, &mut self.problems),
            local: &local.keys().copied().collect(),
            names: &known.names,
        };
        let Egress { ips, hosted, policies, names, nodes } =
            egress(state, &tenancy, &around, &mut self.problems);
        self.dns_names = names;
        self.egress_nodes = self
            .nodes
            .iter()
            .filter(|node| nodes.contains(&node.name))
            .map(|node| (node.name.clone(), gateway(node.subnet)))
            .collect();
        self.egress_ips = ips;
        self.hosted_egress_ips = hosted;
        self.egress_policies = policies;
        self.multicast = local
            .into_iter()
            .filter(|(vnid, _)| tenancy.has_multicast(*vnid))
            .map(|(vnid, mut ports)| {
                ports.sort_unstable();
                Multicast { vnid, ports }
            })
            .collect();
    }
}

/// The VNID of a namespace, if the controller has given it one.
#[must_use]
pub fn vnid_of(state: &ClusterState, plugin: Plugin, namespace: &str) -> Option<Vnid> {
    match plugin {
        Plugin::Subnet => Some(Vnid::GLOBAL),
        Plugin::Multitenant => Vnid::try_from(state.net_namespaces.get(namespace)?.netid).ok(),
    }
}

/// The pods behind `ports`. Of two with one address the older stays, and so does the first leg of a pod.
fn pods(
    state: &ClusterState,
    plugin: Plugin,
    subnet: Ipv4Net,
    ports: &[PodPort],
    problems: &mut Vec<Problem>,
) -> Vec<Pod> {
    let mut ports: Vec<&PodPort> = ports.iter().collect();
    ports.sort_by_cached_key(|port| {
        let key = (port.namespace.clone(), port.name.clone());
        let (unknown, created, ..) =
            state.pods.get(&key).map_or((true, None, None, None), |pod| age(&pod.metadata));
        (unknown, created, key, port.port)
    });
    let mut pods: BTreeMap<Ipv4Addr, Pod> = BTreeMap::new();
    for PodPort { namespace, name, ip, port, .. } in ports {
        let mut problem =
            |reason: String| problems.push(Problem { object: format!("Pod {namespace}/{name}"), reason });
        if !subnet.contains(ip) || *ip == gateway(subnet) {
            problem(format!(
                "its address {ip} is not for pods of this node's subnet {subnet}: it is cut off until it is started anew"
            ));
            continue;
        }
        if let Some(holder) = pods.get(ip) {
            problem(format!(
                "has the same address {ip} as {}/{} at port {}, which came first: it is cut off until it is started anew",
                holder.namespace, holder.name, holder.port
            ));
            continue;
        }
        match vnid_of(state, plugin, namespace) {
            Some(vnid) => {
                let (namespace, name) = (namespace.clone(), name.clone());
                pods.insert(*ip, Pod { namespace, name, port: *port, ip: *ip, vnid });
            }
            None if state.net_namespaces.contains_key(namespace) => {
                problem(format!("the netid of NetNamespace {namespace} is no VNID: it is cut off"));
            }
            None if state.is_unreadable(&ObjectRef::cluster(Kind::NetNamespace, namespace)) => {
                problem(format!("NetNamespace {namespace} can't be read: it is cut off"));
            }
            None => problem(format!(
                "namespace {namespace} has no NetNamespace yet: it is cut off until sdn-controller gives it a VNID"
            )),
        }
    }
    pods.into_values().collect()
}
