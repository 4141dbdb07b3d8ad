//! Making a lab.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use futures::future::try_join_all;
use serde_json::json;

use super::down::{self, Report};
use super::node::Workshop;
use super::plan::{self, Plan};
use super::pod::{self, Sandboxes};
use super::preflight::{self, Programs};
use super::process::ProcessId;
use super::progress::Progress;
use super::state::{Daemon, Datapath, LabState, NodeState, Store};
use super::{LabDir, LabError, underlay};
use crate::api::{CLUSTER_NETWORK_NAME, Kind, ObjectRef, PluginMode};
use crate::cluster::{ClusterLocation, ClusterSource};
use crate::node::netns::NetNs;

/// The file of a generated cluster.
const GENERATED: &str = "cluster.yaml";

/// Which cluster to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cluster {
    /// The one in a directory of Kubernetes YAML. The directory is copied, never written to.
    Dir(PathBuf),
    /// One of so many nodes, without pods.
    Nodes(u8),
}

/// What `lab up` makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The cluster.
    pub cluster: Cluster,
    /// The plugin to run instead of the one that the cluster names.
    pub plugin: Option<PluginMode>,
    /// The datapath of the nodes.
    pub datapath: Datapath,
    /// Only the network and Open vSwitch: no node agent, no controller, no pods.
    pub bare: bool,
}

impl Default for Options {
    /// Two generated nodes.
    fn default() -> Self {
        Self { cluster: Cluster::Nodes(2), plugin: None, datapath: Datapath::default(), bare: false }
    }
}

/// Makes a lab and returns when every node serves and every pod of the cluster runs. If that does not work out, or
/// `stop` is ready first, what was made is removed again.
///
/// The future may be dropped at any time; then [`down()`](super::down()) removes what was made.
///
/// # Errors
/// Whatever is missing or wrong, most of it found before anything is made; [`LabError::Interrupted`].
pub async fn up(
    dir: &LabDir,
    options: &Options,
    progress: Progress,
    stop: impl Future<Output = ()>,
) -> Result<LabState, LabError> {
    let (workshop, plan) = prepare(dir, options, progress)?;
    let built = tokio::select! {
        built = build(&workshop, &plan, options) => built,
        () = stop => Err(LabError::Interrupted { name: dir.name().clone() }),
    };
    match built {
        Ok(()) => workshop.store.update(|state| {
            state.starting = None;
            state.clone()
        }),
        Err(error) => {
            progress.done("lab", "removing what was made so far");
            if let Err(left) = down::remove(dir, &mut Report::default()).await {
                progress.done("lab", format_args!("could not remove everything that was made: {left}"));
            }
            Err(error)
        }
    }
}

/// Checks everything, then makes the lab's directory with the record of what follows.
fn prepare(dir: &LabDir, options: &Options, progress: Progress) -> Result<(Workshop, Plan), LabError> {
    preflight::root()?;
    preflight::datapath(options.datapath)?;
    let programs = Programs::find(options.bare)?;
    let plan = plan(dir, options)?;
    let namespaces = plan.namespaces(dir);
    preflight::names(dir, &namespaces)?;

    let nodes: BTreeMap<_, _> = plan
        .nodes
        .iter()
        .map(|(name, ip)| {
            let netns = dir.node_netns(name);
            (name.clone(), NodeState { ip: *ip, netns, daemons: BTreeMap::new() })
        })
        .collect();
    let state = LabState {
        name: dir.name().clone(),
        starting: ProcessId::current(),
        datapath: options.datapath,
        bare: options.bare,
        underlay: plan.underlay,
        namespaces: namespaces.into_iter().collect(),
        controller: None,
        nodes,
        pods: BTreeMap::new(),
    };
    let store = Store::create(dir, &state)?;
    Ok((Workshop { dir: dir.clone(), store, programs, datapath: options.datapath, progress }, plan))
}

/// Reads the cluster and plans the lab.
///
/// # Errors
/// [`LabError::Source`], [`LabError::Plan`].
pub fn plan(dir: &LabDir, options: &Options) -> Result<Plan, LabError> {
    let state = match &options.cluster {
        Cluster::Dir(cluster) => ClusterSource::load(&ClusterLocation::Dir(cluster.clone()))?,
        Cluster::Nodes(count) => plan::generated_cluster(*count)?,
    };
    Ok(Plan::new(&state, options.plugin, dir)?)
}

async fn build(workshop: &Workshop, plan: &Plan, options: &Options) -> Result<(), LabError> {
    let Workshop { dir, progress, .. } = workshop;
    lay_out_cluster(dir, options).await?;
    let switch = underlay::create(&dir.underlay_netns(), &plan.underlay).await?;
    progress.done("underlay", format_args!("{} with router {}", plan.underlay.network, plan.underlay.router));

    let nodes = plan.nodes.iter().zip(1..).map(|((node, ip), number)| {
        let switch = &switch;
        async move {
            workshop.make_node(node, *ip, number, &plan.underlay, switch).await?;
            if let Some(own) = &workshop.programs.own {
                let ns = NetNs::open_named(&dir.node_netns(node))?;
                workshop.start_agent(node, &ns).await?;
                let sandboxes = Sandboxes::new(dir, &workshop.store, own);
                for pod in plan.pods.get(node).into_iter().flatten() {
                    let made = sandboxes.add(node, pod).await?;
                    if let Some(ip) = made.ip {
                        progress.done(node, format_args!("pod {}/{} has {ip}", pod.name.0, pod.name.1));
                    }
                }
            }
            Ok(())
        }
    });
    let nodes = try_join_all(nodes);
    if options.bare {
        return nodes.await.map(drop);
    }
    let controller = workshop.start_controller(switch.netns()).await?;
    tokio::select! {
        made = nodes => made.map(drop),
        error = workshop.controller_ends(controller) => Err(error),
    }
}

/// Fills the lab's cluster directory: the programs of the lab write there, never where the user's files are.
async fn lay_out_cluster(dir: &LabDir, options: &Options) -> Result<(), LabError> {
    let to = dir.cluster();
    fs::create_dir_all(&to).map_err(|source| LabError::io("create", &to, source))?;
    match &options.cluster {
        Cluster::Nodes(count) => {
            let file = to.join(GENERATED);
            let text = plan::to_yaml(&plan::generated_cluster(*count)?)?;
            fs::write(&file, text).map_err(|source| LabError::io("write", &file, source))?;
        }
        Cluster::Dir(from) => copy_files(from, &to)?,
    }
    match options.plugin {
        Some(plugin) => set_plugin(dir, plugin).await,
        None => Ok(()),
    }
}

fn copy_files(from: &Path, to: &Path) -> Result<(), LabError> {
    let entries = fs::read_dir(from).map_err(|source| LabError::io("read", from, source))?;
    for entry in entries {
        let entry = entry.map_err(|source| LabError::io("read", from, source))?;
        let path = entry.path();
        if path.is_file() {
            fs::copy(&path, to.join(entry.file_name()))
                .map_err(|source| LabError::io("copy", &path, source))?;
        }
    }
    Ok(())
}

/// Starts a program of a node that has ended, and waits until it serves.
///
/// # Errors
/// [`LabError::NoLab`], [`LabError::NoNode`], [`LabError::Running`]; what keeps it from starting.
pub async fn start(dir: &LabDir, node: &str, daemon: Daemon, progress: Progress) -> Result<(), LabError> {
    preflight::root()?;
    let (store, state) = Store::open(dir)?;
    let programs = Programs::find(state.bare)?;
    let workshop = Workshop { dir: dir.clone(), store, programs, datapath: state.datapath, progress };
    workshop.start(node, daemon).await
}

/// Changes the plugin in the lab's cluster directory.
///
/// # Errors
/// [`LabError::Write`].
pub async fn set_plugin(dir: &LabDir, plugin: PluginMode) -> Result<(), LabError> {
    let name = CLUSTER_NETWORK_NAME.to_owned();
    let network = ObjectRef { kind: Kind::ClusterNetwork, namespace: None, name };
    let patch = json!({"pluginName": plugin.plugin_name()});
    pod::change(dir, move |cluster| cluster.merge_patch(&network, &patch).map(drop)).await
}
