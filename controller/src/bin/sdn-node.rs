//! `sdn-node`: the node agent.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use controller::admin::{self, Address, Admin, LogFilter};
use controller::cluster::kube::events::Events;
use controller::cluster::{ClusterLocation, ClusterSource, Interest};
use controller::node::admin::Agent;
use controller::node::agent::{self, Config, Vitals};
use controller::node::cni::conflist;
use controller::node::host::obstacles;
use controller::node::memory;
use controller::node::metrics::Metrics;
use controller::node::status::Status;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::EventType;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::warn;

/// Keeps br0, its ports and its flows as the cluster's state wants them, and wires pods for the CNI plugin.
#[derive(Parser)]
#[command(name = "sdn-node", version = controller::cli::VERSION)]
struct Args {
    /// Where cluster state comes from: `kube`, or a directory of Kubernetes YAML
    #[arg(long, value_name = "kube|DIR")]
    cluster: ClusterLocation,
    /// Name of the Node object that stands for this machine
    #[arg(long, env = "K8S_NODE_NAME")]
    node: String,
    /// Run directory of Open vSwitch
    #[arg(long, value_name = "DIR", default_value = "/var/run/openvswitch")]
    ovs_dir: PathBuf,
    /// Socket that the CNI plugin asks
    #[arg(long, value_name = "PATH", default_value = cni_shim::contract::DEFAULT_SOCKET)]
    cni_socket: PathBuf,
    /// Directory of the address leases; those of this network are in `openshift-sdn` below it
    #[arg(long, value_name = "DIR", default_value = "/var/lib/cni/networks")]
    lease_dir: PathBuf,
    /// Datapath of br0: `system` (the kernel's) or `netdev` (userspace)
    #[arg(long, default_value = "system", value_parser = ["system", "netdev"])]
    datapath: String,
    /// Directory of the container runtime's network configurations: ours is written there when pods can be served;
    /// `none` for nowhere
    #[arg(long, value_name = "DIR", default_value = "/etc/cni/net.d")]
    cni_conf_dir: PathBuf,
    /// Directory of CNI plugins, where `portmap` is looked for
    #[arg(long, value_name = "DIR", default_value = "/opt/cni/bin")]
    cni_bin_dir: PathBuf,
    /// Socket of the container runtime (CRI): what it has forgotten without a DEL is removed; `none` not to ask
    #[arg(long, value_name = "PATH", default_value = "none")]
    cri_socket: PathBuf,
    /// Remove the network configuration and end: the runtime makes no more pods with this plugin
    #[arg(long)]
    remove_cni_config: bool,
    /// Say what firewalls of this machine stop of the cluster's traffic and what lets it pass, and end: with status 0 if
    /// nothing stands in the way, else 1
    #[arg(long)]
    firewall: bool,
    /// Where health, metrics, state and log filter are served, for the node itself; `none` for nowhere
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:29101")]
    admin_address: Address,
    /// Where metrics are served, for Prometheus; `none` for nowhere
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:9101")]
    metrics_address: Address,
    /// Metrics also under the names of the replaced system (`openshift_sdn_*`)
    #[arg(long)]
    legacy_metrics: bool,
    /// Names the DNS servers that the names in EgressNetworkPolicies are asked of
    #[arg(long, value_name = "FILE", default_value = "/etc/resolv.conf")]
    resolv_conf: PathBuf,
    /// What is logged, as a tracing filter such as `info` or `controller=debug`
    #[arg(long, env = "RUST_LOG", default_value = "info")]
    log: String,
}

fn main() -> ExitCode {
    memory::one_arena();
    start()
}

#[tokio::main]
async fn start() -> ExitCode {
    let args = Args::parse();
    let log = admin::log(&args.log);
    let ended = if args.firewall {
        obstacles::command(&args.cluster, &args.node).await
    } else {
        run(args, log).await.map(|()| ExitCode::SUCCESS)
    };
    match ended {
        Ok(status) => status,
        Err(error) => {
            eprintln!("sdn-node: {}", controller::describe(&error));
            ExitCode::from(3)
        }
    }
}

/// Each request opens a handful of files, and after a restart of the machine hundreds come at once: more than the 1024
/// that services and containers may open unless they ask for what they are allowed.
fn open_as_many_files_as_allowed() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, allowed)| setrlimit(Resource::RLIMIT_NOFILE, allowed, allowed));
    if let Err(error) = raised {
        warn!("can't open more files than usual: {error}");
    }
}

async fn run(args: Args, log: LogFilter) -> anyhow::Result<()> {
    let cni_conf_dir = (args.cni_conf_dir.as_os_str() != "none").then_some(args.cni_conf_dir);
    if args.remove_cni_config {
        return Ok(cni_conf_dir.map_or(Ok(()), |directory| conflist::remove(&directory))?);
    }
    open_as_many_files_as_allowed();
    let (status, statuses) = watch::channel(Status::default());
    let (ask, queries) = mpsc::channel(8);
    let vitals = Vitals { status, metrics: Metrics::default(), queries };
    let registry = vitals.metrics.registry(statuses.clone(), args.legacy_metrics);
    let mut giving_back = JoinSet::new();
    giving_back.spawn(memory::after_the_start(statuses.clone()));
    let program = Agent { node: args.node.clone(), status: statuses, queries: ask };
    // Ends with this function.
    let _servers = Admin { program, registry, log }.serve(args.admin_address, args.metrics_address).await?;

    let config = Config {
        node: args.node,
        ovs_dir: args.ovs_dir,
        cni_socket: args.cni_socket,
        lease_dir: args.lease_dir,
        datapath_type: args.datapath,
        pods_are_known: matches!(args.cluster, ClusterLocation::Kube),
        cni_conf_dir,
        cni_bin_dir: args.cni_bin_dir,
        cri_socket: (args.cri_socket.as_os_str() != "none").then_some(args.cri_socket),
        resolv_conf: args.resolv_conf,
    };
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let shutdown = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    tokio::pin!(shutdown);
    let interest = Interest::Node(config.node.clone());
    let source = tokio::select! {
        source = ClusterSource::open(&args.cluster, &interest) => source?,
        () = &mut shutdown => return Ok(()),
    };
    let mut announcing = JoinSet::new();
    if let ClusterSource::Kube(source) = &source {
        announcing.spawn(announce(source.client().clone(), config.node.clone(), vitals.status.subscribe()));
    }
    agent::run(config, &source, vitals, shutdown).await?;
    Ok(())
}

/// Says at the Node, once after each start, that its pods are served. Under the words that the replaced system used, for
/// whoever waits for them.
async fn announce(client: Client, node: String, mut status: watch::Receiver<Status>) {
    if status.wait_for(|status| status.serving).await.is_err() {
        return;
    }
    let about = ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Node".to_owned()),
        // As a kubelet does: an agent does not read Nodes.
        uid: Some(node.clone()),
        name: Some(node.clone()),
        ..ObjectReference::default()
    };
    let note = "openshift-sdn done initializing node networking.";
    Events::new(client, "openshift-sdn", &node, "Start")
        .publish(&about, EventType::Normal, "Starting", note)
        .await;
}
