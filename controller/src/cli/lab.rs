//! `sdnctl lab`: a cluster on this machine.

mod demo;
mod matrix;

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use clap::{Subcommand, value_parser};
use tokio::signal::unix::{SignalKind, signal};

use super::Exit;
use super::output::{OutputArgs, print, table};
use crate::api::PluginMode;
use crate::cluster::NamespacedName;
use crate::lab::enter::{self, Inside, Place};
use crate::lab::{
    self, Cluster, Daemon, Datapath, LabDir, LabName, LabStatus, NewPod, Options, ProcessStatus, Progress,
};

/// The lab of those who name none.
pub(super) const DEFAULT_NAME: &str = "lab";

/// Arguments of `sdnctl lab`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The lab; several can be there at the same time
    #[arg(long, global = true, default_value = DEFAULT_NAME, value_name = "LAB")]
    name: LabName,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a lab; returns when every node serves and every pod of the cluster runs
    Up(UpArgs),
    /// Remove a lab and everything in it, also after a crash
    Down,
    /// Show what runs where; exit status 1 if something is not ready
    Status(OutputArgs),
    /// Run a command inside a pod (NAMESPACE/POD), a node (node/NAME) or between the nodes (underlay)
    Exec {
        /// NAMESPACE/POD, node/NAME or underlay
        place: Place,
        /// The command
        #[arg(last = true, required = true, value_name = "CMD")]
        command: Vec<OsString>,
    },
    /// Run a tool of Open vSwitch on a node's bridges: `lab ovs node1 -- ovs-ofctl dump-flows br0`
    Ovs {
        /// The node
        node: String,
        /// The tool and its arguments
        #[arg(last = true, required = true, value_name = "CMD")]
        command: Vec<OsString>,
    },
    /// Add or delete a pod: a network namespace, wired through the CNI plugin as a container runtime has it done
    #[command(subcommand)]
    Pod(PodCommand),
    /// Show who reaches whom, with real pings and TCP connections; exit status 1 if it is not as it should be
    Matrix(OutputArgs),
    /// Make a lab, show who reaches whom under each plugin and why, and remove it; exit status 1 if anything is not
    /// as it should be
    Demo(demo::Args),
    /// Start a program of a node that has ended or was killed
    Start {
        /// The node
        node: String,
        /// The program
        daemon: Daemon,
    },
}

#[derive(Debug, Subcommand)]
enum PodCommand {
    /// Add a pod to the lab and its cluster
    Add {
        /// NAMESPACE/NAME; a namespace that the cluster does not have is made
        #[arg(value_parser = pod_name)]
        pod: NamespacedName,
        /// The node to run it on
        #[arg(long)]
        node: String,
        /// The address that it shall have; the node chooses without it
        #[arg(long)]
        ip: Option<Ipv4Addr>,
        /// A label, KEY=VALUE; can be repeated
        #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
        labels: Vec<(String, String)>,
    },
    /// Delete a pod from the lab and its cluster
    Delete {
        /// NAMESPACE/NAME
        #[arg(value_parser = pod_name)]
        pod: NamespacedName,
    },
}

fn pod_name(text: &str) -> Result<NamespacedName, String> {
    match text.split_once('/') {
        Some((namespace, name)) if is_name(namespace, false) && is_name(name, true) => {
            Ok((namespace.to_owned(), name.to_owned()))
        }
        _ => Err("a pod is named NAMESPACE/NAME, in lower case letters, digits and '-'".to_owned()),
    }
}

/// Whether Kubernetes takes the name: a DNS label, or several with dots between them.
fn is_name(text: &str, dots: bool) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if dots { text.len() <= 253 && text.split('.').all(label) } else { label(text) }
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("a label is written KEY=VALUE".to_owned()),
    }
}

/// Arguments of `sdnctl lab up`.
#[derive(Debug, clap::Args)]
struct UpArgs {
    /// The cluster to make: a directory of Kubernetes YAML; the pods in it are started
    #[arg(long, value_name = "DIR")]
    cluster: Option<PathBuf>,
    /// The number of nodes of a cluster without pods, instead of --cluster
    #[arg(long, value_name = "N", default_value_t = 2, conflicts_with = "cluster", value_parser = value_parser!(u8).range(1..=100))]
    nodes: u8,
    /// The plugin instead of the one that the cluster names: subnet, multitenant or networkpolicy
    #[arg(long, value_name = "PLUGIN")]
    plugin: Option<PluginMode>,
    /// In user space, or in the kernel by its openvswitch module
    #[arg(long, value_enum, default_value_t)]
    datapath: Datapath,
    /// Only network and Open vSwitch: no sdn-node, no sdn-controller, no pods
    #[arg(long)]
    bare: bool,
}

/// Runs `sdnctl lab`.
///
/// # Errors
/// What could not be done.
pub async fn run(args: Args) -> anyhow::Result<Exit> {
    let dir = LabDir::new(args.name);
    match args.command {
        Command::Up(args) => up(&dir, args).await,
        Command::Down => down(&dir).await,
        Command::Status(output) => status(&dir, output).await,
        Command::Exec { place, command } => become_command(&dir, &place, command, |_, args| args),
        Command::Ovs { node, command } => {
            become_command(&dir, &Place::Node(node), command, |program, args| {
                enter::ovs_arguments(program, &args)
            })
        }
        Command::Pod(PodCommand::Add { pod, node, ip, labels }) => {
            let new = NewPod { name: pod.clone(), node, ip, labels: labels.into_iter().collect() };
            let made = lab::pod_add(&dir, new).await?;
            let ip = made.ip.map(|ip| ip.to_string()).unwrap_or_default();
            print(&format!("pod {}/{} runs on {} with {ip}", pod.0, pod.1, made.node))?;
            Ok(Exit::Done)
        }
        Command::Pod(PodCommand::Delete { pod }) => {
            lab::pod_delete(&dir, &pod).await?;
            print(&format!("pod {}/{} is deleted", pod.0, pod.1))?;
            Ok(Exit::Done)
        }
        Command::Matrix(output) => {
            let (plugin, matrix) = lab::matrix::measure(&dir).await?;
            output.print(&matrix::document(plugin, &matrix), |_| matrix::text(plugin, &matrix))?;
            Ok(if matrix.faults().is_empty() { Exit::Done } else { Exit::No })
        }
        Command::Demo(args) => demo::run(&dir, args).await,
        Command::Start { node, daemon } => {
            lab::start(&dir, &node, daemon, Progress::spoken()).await?;
            Ok(Exit::Done)
        }
    }
}

async fn up(dir: &LabDir, args: UpArgs) -> anyhow::Result<Exit> {
    let options = Options {
        cluster: args.cluster.map_or(Cluster::Nodes(args.nodes), Cluster::Dir),
        plugin: args.plugin,
        datapath: args.datapath,
        bare: args.bare,
    };
    let progress = Progress::spoken();
    let state = lab::up(dir, &options, progress, interrupted()?).await?;
    progress.done(
        "lab",
        format_args!(
            "\"{0}\" is up: {1} nodes, {2} pods; `sdnctl lab status --name {0}` shows it",
            state.name,
            state.nodes.len(),
            state.pods.len()
        ),
    );
    Ok(Exit::Done)
}

/// Waits until the user wants this program to stop. From the call on, the signals no longer end it.
fn interrupted() -> anyhow::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    })
}

async fn down(dir: &LabDir) -> anyhow::Result<Exit> {
    let report = lab::down(dir).await?;
    if report.existed {
        let (processes, namespaces) = (report.processes, report.namespaces.len());
        print(&format!(
            "lab \"{}\" is removed: {processes} processes, {namespaces} network namespaces",
            dir.name()
        ))?;
    } else {
        print(&format!("there is no lab \"{}\": nothing to remove", dir.name()))?;
    }
    Ok(Exit::Done)
}

async fn status(dir: &LabDir, output: OutputArgs) -> anyhow::Result<Exit> {
    let status = lab::status(dir).await?;
    output.print(&status, status_text)?;
    Ok(if status.ready { Exit::Done } else { Exit::No })
}

fn status_text(status: &LabStatus) -> String {
    let none = || "-".to_owned();
    let yes = |yes: bool| if yes { "yes" } else { "no" };
    let process = |process: Option<&ProcessStatus>| match process {
        None => none(),
        Some(ProcessStatus { pid, alive: true }) => pid.to_string(),
        Some(ProcessStatus { pid, alive: false }) => format!("{pid} (ended)"),
    };
    let mut text = format!(
        "lab \"{}\": {}\nplugin {}, datapath {}, nodes' network {} with router {}, sdn-controller {}\ncluster {}\n\n",
        status.name,
        if status.ready { "ready" } else { "not ready" },
        status.plugin.as_deref().unwrap_or("-"),
        status.datapath.as_str(),
        status.underlay.network,
        status.underlay.router,
        process(status.controller.as_ref()),
        status.cluster.display(),
    );
    let daemon = |node: &lab::NodeStatus, daemon| process(node.daemons.get(&daemon));
    text += &table(
        ["NODE", "IP", "SUBNET", "READY", "OVSDB-SERVER", "OVS-VSWITCHD", "SDN-NODE"],
        status.nodes.iter().map(|node| {
            [
                node.name.clone(),
                node.ip.to_string(),
                node.subnet.clone().unwrap_or_else(none),
                if status.bare { "-" } else { yes(node.ready) }.to_owned(),
                daemon(node, Daemon::OvsdbServer),
                daemon(node, Daemon::OvsVswitchd),
                daemon(node, Daemon::SdnNode),
            ]
        }),
    );
    if !status.pods.is_empty() {
        text.push('\n');
        text += &table(
            ["NAMESPACE", "POD", "NODE", "IP", "OFPORT", "WIRED"],
            status.pods.iter().map(|pod| {
                [
                    pod.namespace.clone(),
                    pod.name.clone(),
                    pod.node.clone(),
                    pod.ip.map_or_else(none, |ip| ip.to_string()),
                    pod.ofport.map_or_else(none, |port| port.to_string()),
                    yes(pod.alive).to_owned(),
                ]
            }),
        );
    }
    for reason in &status.reasons {
        text += &format!("\n! {reason}");
    }
    text
}

fn become_command(
    dir: &LabDir,
    place: &Place,
    command: Vec<OsString>,
    prepare: impl FnOnce(&std::ffi::OsStr, Vec<OsString>) -> Vec<OsString>,
) -> anyhow::Result<Exit> {
    let mut words = command.into_iter();
    // clap has seen to it that there is one.
    let program = words.next().unwrap_or_default();
    let args = prepare(&program, words.collect());
    match Inside::new(dir, place, &program, &args)?.become_it()? {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pod_names_are_those_that_kubernetes_takes() {
        for good in ["default/web", "a-b/web-76c94f7546-t8pfq", "kube-system/a.b.c"] {
            assert!(pod_name(good).is_ok(), "{good}");
        }
        for bad in ["web", "/web", "default/", "a.b/c", "default/Web", "a/b/c", "a/..", "-a/b", "a/b;c"] {
            assert!(pod_name(bad).is_err(), "{bad}");
        }
    }
}
