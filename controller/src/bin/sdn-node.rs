//! `sdn-node`: the node agent.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use controller::cluster::{ClusterLocation, ClusterSource, Interest};
use controller::node::agent::{self, Config};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

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
    /// What is logged, as a tracing filter such as `info` or `controller=debug`
    #[arg(long, env = "RUST_LOG", default_value = "info")]
    log: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(&args.log))
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    match run(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sdn-node: {}", controller::describe(&error));
            ExitCode::from(3)
        }
    }
}

async fn run(args: Args) -> anyhow::Result<()> {
    let config = Config {
        node: args.node,
        ovs_dir: args.ovs_dir,
        cni_socket: args.cni_socket,
        lease_dir: args.lease_dir,
        datapath_type: args.datapath,
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
    agent::run(config, &source, shutdown).await?;
    Ok(())
}
