//! `sdn-node`: the node agent.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use controller::cluster::{ClusterLocation, ClusterSource, Interest};
use controller::node::admin::{self, Admin, Paths};
use controller::node::agent::{self, Config, Vitals};
use controller::node::cni::conflist;
use controller::node::metrics::Metrics;
use controller::node::status::Status;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, fmt, reload};

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
    /// Remove the network configuration and end: the runtime makes no more pods with this plugin
    #[arg(long)]
    remove_cni_config: bool,
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

/// Where to listen, if at all.
#[derive(Clone, Copy, Debug)]
struct Address(Option<SocketAddr>);

impl std::str::FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self(None)),
            text => text
                .parse()
                .map(|address| Self(Some(address)))
                .map_err(|_| "neither none nor an IP address and a port such as 127.0.0.1:29101".to_owned()),
        }
    }
}

type LogFilter = reload::Handle<EnvFilter, Registry>;

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let (filter, log) = reload::Layer::new(EnvFilter::new(&args.log));
    tracing_subscriber::registry()
        .with(filter)
        .with(fmt::layer().with_writer(std::io::stderr).with_ansi(false))
        .init();
    match run(args, log).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sdn-node: {}", controller::describe(&error));
            ExitCode::from(3)
        }
    }
}

async fn run(args: Args, log: LogFilter) -> anyhow::Result<()> {
    let cni_conf_dir = (args.cni_conf_dir.as_os_str() != "none").then_some(args.cni_conf_dir);
    if args.remove_cni_config {
        return Ok(cni_conf_dir.map_or(Ok(()), |directory| conflist::remove(&directory))?);
    }
    let (status, statuses) = watch::channel(Status::default());
    let (ask, queries) = mpsc::channel(8);
    let vitals = Vitals { status, metrics: Metrics::default(), queries };
    let admin = Arc::new(Admin {
        node: args.node.clone(),
        version: controller::cli::VERSION,
        status: statuses,
        queries: ask,
        registry: vitals.metrics.registry(controller::cli::VERSION, args.legacy_metrics),
        filter: Box::new({
            let log = log.clone();
            move || log.with_current(ToString::to_string).unwrap_or_default()
        }),
        set_filter: Box::new(move |text| {
            let filter = EnvFilter::try_new(text).map_err(|error| error.to_string())?;
            log.reload(filter).map_err(|error| error.to_string())
        }),
    });
    // Ends with this function.
    let mut servers = JoinSet::new();
    for (address, paths) in [(args.admin_address, Paths::All), (args.metrics_address, Paths::Metrics)] {
        if let Address(Some(address)) = address {
            let listener = admin::listen(address, paths).await?;
            servers.spawn(admin::serve(listener, Arc::clone(&admin), paths));
        }
    }

    let config = Config {
        node: args.node,
        ovs_dir: args.ovs_dir,
        cni_socket: args.cni_socket,
        lease_dir: args.lease_dir,
        datapath_type: args.datapath,
        pods_are_known: matches!(args.cluster, ClusterLocation::Kube),
        cni_conf_dir,
        cni_bin_dir: args.cni_bin_dir,
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
    agent::run(config, &source, vitals, shutdown).await?;
    Ok(())
}
