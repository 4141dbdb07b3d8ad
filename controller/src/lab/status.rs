//! What runs where.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;

use serde::Serialize;

use super::node::serves;
use super::process::ProcessId;
use super::state::{Daemon, Datapath, NodeState, PodState, Store, Underlay};
use super::{LabDir, LabError, LabName, bridge};
use crate::cluster::{ClusterLocation, ClusterSource};
use crate::node::netns::NAMED;

/// The condition of a lab.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LabStatus {
    /// The lab's name.
    pub name: LabName,
    /// Whether everything runs and every node serves pods.
    pub ready: bool,
    /// Why not, in words.
    pub reasons: Vec<String>,
    /// The datapath of every node.
    pub datapath: Datapath,
    /// Whether it was made without the project's own programs.
    pub bare: bool,
    /// The plugin, as the lab's cluster directory names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// The lab's copy of the cluster directory.
    pub cluster: std::path::PathBuf,
    /// The network between the nodes.
    pub underlay: Underlay,
    /// The cluster controller; a bare lab has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub controller: Option<ProcessStatus>,
    /// The nodes, sorted by name.
    pub nodes: Vec<NodeStatus>,
    /// The pods, sorted by namespace and name.
    pub pods: Vec<PodStatus>,
}

/// The condition of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ProcessStatus {
    /// Its number.
    pub pid: i32,
    /// Whether it runs.
    pub alive: bool,
}

impl From<ProcessId> for ProcessStatus {
    fn from(process: ProcessId) -> Self {
        Self { pid: process.pid, alive: process.is_alive() }
    }
}

/// The condition of a node.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// Its address.
    pub ip: Ipv4Addr,
    /// The network of its pods, once it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subnet: Option<String>,
    /// Its namespace.
    pub netns: String,
    /// Its programs by name.
    pub daemons: BTreeMap<Daemon, ProcessStatus>,
    /// Whether its agent serves pods.
    pub ready: bool,
    /// The run directory of its Open vSwitch.
    pub ovs_dir: std::path::PathBuf,
    /// Where its agent serves pods.
    pub cni_socket: std::path::PathBuf,
}

/// The condition of a pod.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodStatus {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its node.
    pub node: String,
    /// Its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<Ipv4Addr>,
    /// The name of its port on the node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// The OpenFlow number of its port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ofport: Option<u16>,
    /// Its network namespace.
    pub netns: String,
    /// Whether it is wired.
    pub alive: bool,
}

/// Looks at a lab.
///
/// # Errors
/// [`LabError::NoLab`], [`LabError::State`], [`LabError::Io`]. What is wrong with the lab itself is part of the
/// result.
pub async fn status(dir: &LabDir) -> Result<LabStatus, LabError> {
    let (_, state) = Store::open(dir)?;
    let mut reasons = Vec::new();
    if state.starting.is_some() {
        reasons.push("`lab up` has not finished".to_owned());
    }
    let cluster = match ClusterSource::load(&ClusterLocation::Dir(dir.cluster())) {
        Ok(cluster) => cluster,
        Err(error) => {
            reasons.push(error.to_string());
            Default::default()
        }
    };
    let controller = state.controller.map(ProcessStatus::from);
    if !state.bare && !controller.is_some_and(|process| process.alive) {
        reasons.push(format!("sdn-controller does not run; see {}", dir.controller_log().display()));
    }
    let mut nodes = Vec::new();
    let mut ports = BTreeMap::new();
    for (name, node) in &state.nodes {
        let subnet = cluster.host_subnets.get(name).map(|subnet| subnet.subnet.clone());
        let status = node_status(dir, name, node, subnet, state.bare, &mut reasons).await;
        match bridge::port_numbers(name, &dir.node(name).db_socket()).await {
            Ok(numbers) => drop(ports.insert(name.clone(), numbers)),
            Err(error) => reasons.push(error.to_string()),
        }
        nodes.push(status);
    }
    let pods: Vec<_> = state
        .pods
        .iter()
        .filter_map(|(key, pod)| {
            let ofport = pod.port.as_ref().and_then(|port| ports.get(&pod.node)?.get(port).copied());
            pod_status(key, pod, ofport)
        })
        .collect();
    for pod in pods.iter().filter(|pod| !pod.alive) {
        reasons.push(format!("pod {}/{} of node {} is not wired", pod.namespace, pod.name, pod.node));
    }
    Ok(LabStatus {
        name: state.name,
        ready: reasons.is_empty(),
        reasons,
        datapath: state.datapath,
        bare: state.bare,
        plugin: cluster.cluster_network.as_ref().map(|network| network.plugin_name.clone()),
        cluster: dir.cluster(),
        underlay: state.underlay,
        controller,
        nodes,
        pods,
    })
}

async fn node_status(
    dir: &LabDir,
    name: &str,
    node: &NodeState,
    subnet: Option<String>,
    bare: bool,
    reasons: &mut Vec<String>,
) -> NodeStatus {
    let files = dir.node(name);
    let daemons: BTreeMap<Daemon, ProcessStatus> =
        node.daemons.iter().map(|(daemon, process)| (*daemon, (*process).into())).collect();
    let wanted = Daemon::ALL.into_iter().filter(|daemon| !bare || *daemon != Daemon::SdnNode);
    for daemon in wanted {
        if !daemons.get(&daemon).is_some_and(|process| process.alive) {
            reasons.push(format!("node {name}: {daemon} does not run"));
        }
    }
    let agent = daemons.get(&Daemon::SdnNode).is_some_and(|process| process.alive);
    let ready = agent && serves(&files.cni_socket()).await;
    if agent && !ready {
        reasons.push(format!(
            "node {name}: sdn-node does not serve pods yet; see {}",
            files.agent_log().display()
        ));
    }
    NodeStatus {
        name: name.to_owned(),
        ip: node.ip,
        subnet,
        netns: node.netns.clone(),
        daemons,
        ready,
        ovs_dir: files.ovs(),
        cni_socket: files.cni_socket(),
    }
}

fn pod_status(key: &str, pod: &PodState, ofport: Option<u16>) -> Option<PodStatus> {
    let (namespace, name) = key.split_once('/')?;
    Some(PodStatus {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        node: pod.node.clone(),
        ip: pod.ip,
        port: pod.port.clone(),
        ofport,
        netns: pod.netns.clone(),
        alive: pod.ip.is_some() && ofport.is_some() && Path::new(NAMED).join(&pod.netns).exists(),
    })
}
