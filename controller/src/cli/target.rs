//! Which node a command looks at: its cluster state, and where its Open vSwitch runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use openflow::{Endpoint, Switch};
use ovsdb::Client;

use super::WrongUse;
use crate::cluster::{ClusterLocation, ClusterSource, ClusterState};
use crate::lab::{LabDir, LabName};
use crate::node::findings;
use crate::node::ovs::bridge::BRIDGE;
use crate::node::ovs::ports::pod_ports;
use crate::view::{Inputs, Known, View, inputs_knowing, offline_ports};

/// Where cluster state comes from on the command line. Without `--cluster` it is that of a running lab.
#[derive(Clone, Debug, clap::Args)]
pub struct ClusterArgs {
    /// Cluster state: a directory of Kubernetes YAML. Without it: the lab's
    #[arg(long, value_name = "kube|DIR")]
    cluster: Option<ClusterLocation>,
    /// The lab to look at, where there is no --cluster
    #[arg(long, value_name = "LAB", default_value = "lab")]
    name: LabName,
}

/// The node's side of the command line.
#[derive(Clone, Debug, clap::Args)]
pub struct Target {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Name of the node
    #[arg(long)]
    node: Option<String>,
    /// Run directory of the node's Open vSwitch. Without it: the lab's, or /var/run/openvswitch
    #[arg(long, value_name = "DIR")]
    ovs_dir: Option<PathBuf>,
}

/// The option `--tun0-mac`.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct Tun0Mac {
    /// MAC address of tun0. Without it: 0a:58 and the four bytes of the gateway's address
    #[arg(long, value_name = "MAC", value_parser = mac)]
    tun0_mac: Option<[u8; 6]>,
}

fn mac(text: &str) -> Result<[u8; 6], String> {
    let wrong = || "expected six bytes as in 0a:58:0a:82:00:01".to_owned();
    let byte = |part: &str| (part.len() == 2).then(|| u8::from_str_radix(part, 16).ok()).flatten();
    let bytes: Option<Vec<u8>> = text.split(':').map(byte).collect();
    bytes.ok_or_else(wrong)?.try_into().map_err(|_| wrong())
}

/// A node with its cluster's state.
pub struct Node {
    /// Its name.
    pub name: String,
    /// The cluster's objects.
    pub state: Arc<ClusterState>,
    /// What is known besides.
    pub known: Known,
    /// Run directory of its Open vSwitch.
    pub ovs_dir: PathBuf,
    /// Where its agent serves the CNI plugin.
    pub cni_socket: PathBuf,
}

impl ClusterArgs {
    /// The place of the cluster's state.
    ///
    /// # Errors
    /// When no place is named and there is no such lab.
    pub fn location(&self) -> anyhow::Result<ClusterLocation> {
        match (&self.cluster, self.lab()) {
            (Some(location), _) => Ok(location.clone()),
            (None, Some(lab)) if lab.path().exists() => Ok(ClusterLocation::Dir(lab.cluster())),
            (None, _) => {
                bail!(
                    "there is no lab {0}: say --cluster DIR, or start one with `sdnctl lab up --name {0}`",
                    self.name
                )
            }
        }
    }

    /// The lab that is meant, if no other place is.
    fn lab(&self) -> Option<LabDir> {
        self.cluster.is_none().then(|| LabDir::new(self.name.clone()))
    }
}

impl Target {
    /// Every node that is meant: the named one, or all.
    ///
    /// # Errors
    /// When there is no such cluster, lab or node.
    pub fn nodes(&self) -> anyhow::Result<Vec<Node>> {
        let state = Arc::new(ClusterSource::load(&self.cluster.location()?)?);
        let names: Vec<String> = match &self.node {
            Some(name) => vec![name.clone()],
            None => state.nodes.keys().cloned().collect(),
        };
        let known = || state.nodes.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        if let Some(unknown) = names
            .iter()
            .find(|name| !state.nodes.contains_key(*name) && !state.host_subnets.contains_key(*name))
        {
            bail!("there is no node {unknown}: the cluster has {}", known());
        }
        if names.is_empty() {
            bail!("the cluster has no nodes");
        }
        Ok(names.into_iter().map(|name| self.place(name, &state)).collect())
    }

    /// The whole cluster's objects.
    ///
    /// # Errors
    /// When there is no such cluster or lab.
    pub fn state(&self) -> anyhow::Result<Arc<ClusterState>> {
        Ok(Arc::new(ClusterSource::load(&self.cluster.location()?)?))
    }

    /// A node by its name.
    #[must_use]
    pub fn place(&self, name: String, state: &Arc<ClusterState>) -> Node {
        let (ovs_dir, cni_socket) = match self.cluster.lab() {
            Some(lab) => (lab.node(&name).ovs(), lab.node(&name).cni_socket()),
            None => ("/var/run/openvswitch".into(), cni_shim::contract::DEFAULT_SOCKET.into()),
        };
        let ovs_dir = self.ovs_dir.clone().unwrap_or(ovs_dir);
        Node { name, state: Arc::clone(state), known: Known::default(), ovs_dir, cni_socket }
    }

    /// Whether each node's own Open vSwitch can be asked. Outside of a lab it is only that of the machine itself.
    #[must_use]
    pub fn has_every_switch(&self) -> bool {
        self.cluster.lab().is_some() && self.ovs_dir.is_none()
    }

    /// Every node that is meant, to have its Open vSwitch asked.
    ///
    /// # Errors
    /// As [`Target::nodes`], and when there are several, none is named, and there is one Open vSwitch for all.
    pub fn live_nodes(&self) -> anyhow::Result<Vec<Node>> {
        let nodes = self.nodes()?;
        if nodes.len() > 1 && !self.has_every_switch() {
            return Err(which("which node does this Open vSwitch belong to?", &nodes));
        }
        Ok(nodes)
    }

    /// The one node that is meant.
    ///
    /// # Errors
    /// As [`Target::nodes`], and when there are several and none is named.
    pub fn one_node(&self) -> anyhow::Result<Node> {
        let mut nodes = self.nodes()?;
        match nodes.pop() {
            Some(node) if nodes.is_empty() => Ok(node),
            last => {
                nodes.extend(last);
                Err(which("which node?", &nodes))
            }
        }
    }
}

impl Node {
    /// With a `tun0` that has another MAC address than usual.
    #[must_use]
    pub fn with(mut self, mac: Tun0Mac) -> Self {
        self.known.tun0_mac = mac.tun0_mac;
        self
    }

    /// What the node must know, with its pods at the ports that they get when started in order.
    ///
    /// # Errors
    /// When the cluster's networks or the node's subnet are not known or not valid.
    pub fn offline(&self) -> anyhow::Result<Inputs> {
        let ports = offline_ports(&self.state, &self.name);
        Ok(told(inputs_knowing(&self.state, &self.name, &ports, &self.known)?))
    }

    /// The same with its pods at the ports that its Open vSwitch has for them.
    ///
    /// # Errors
    /// As [`Node::offline`], and when its ovsdb-server does not answer.
    pub async fn live(&self) -> anyhow::Result<Inputs> {
        self.live_inputs().await.map(told)
    }

    /// The same, without saying what is left out.
    ///
    /// # Errors
    /// As [`Node::live`].
    pub async fn live_inputs(&self) -> anyhow::Result<Inputs> {
        let socket = self.ovs_dir.join("db.sock");
        let client =
            Client::connect(&ovsdb::Endpoint::Unix(socket.clone()), "Open_vSwitch", ovsdb::ovs::monitored())
                .await
                .with_context(|| {
                    format!("no answer from ovsdb-server at {}: is it running?", socket.display())
                })?;
        let replica = client.replica();
        // What the node's agent has found out besides.
        let known = Known { tun0_mac: self.known.tun0_mac, ..findings::known(&replica) };
        Ok(inputs_knowing(&self.state, &self.name, &pod_ports(&replica), &known)?)
    }

    /// A connection to its bridge.
    ///
    /// # Errors
    /// When its ovs-vswitchd does not answer.
    pub async fn switch(&self) -> anyhow::Result<Switch> {
        let socket = management_socket(&self.ovs_dir);
        Switch::connect(&Endpoint::Unix(socket.clone())).await.with_context(|| {
            format!("no answer from the bridge at {}: is ovs-vswitchd running?", socket.display())
        })
    }
}

fn which(question: &str, nodes: &[Node]) -> anyhow::Error {
    let names = nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>().join(", ");
    WrongUse(format!("{question} Say --node with one of {names}")).into()
}

/// Says on standard error what is left out.
fn told(inputs: Inputs) -> Inputs {
    for problem in &inputs.problems {
        eprintln!("sdnctl: left out {problem}");
    }
    inputs
}

/// The desired flows that follow from a node's inputs; contested flows are reported.
#[must_use]
pub fn view(inputs: &Inputs) -> View {
    let view = View::of(inputs);
    for conflict in view.conflicts() {
        eprintln!("sdnctl: {conflict}");
    }
    view
}

fn management_socket(ovs_dir: &Path) -> PathBuf {
    ovs_dir.join(format!("{BRIDGE}.mgmt"))
}
