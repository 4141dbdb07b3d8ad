//! `sdn-controller`: the cluster controller.

use std::process::ExitCode;

use clap::Parser;
use controller::admin::{self, Address, Admin, LogFilter};
use controller::allocator::{Controller, Election, Status, Vitals};
use controller::cluster::ClusterLocation;
use tokio::signal::unix::{SignalKind, signal};

/// Gives every node a subnet of the pod network and every namespace a VNID.
#[derive(Parser)]
#[command(
    name = "sdn-controller",
    version = controller::cli::VERSION,
    max_term_width = 110,
    after_help = "Exit status: 0 done or stopped by SIGTERM or SIGINT, 2 wrong use, 3 could not be done."
)]
struct Args {
    /// Where cluster state comes from and goes to: `kube`, or a directory of Kubernetes YAML
    #[arg(long, value_name = "kube|DIR")]
    cluster: ClusterLocation,
    /// Allocate what is missing and end; status 3 if an object can't be given what it needs
    #[arg(long)]
    once: bool,
    /// Namespace of the Lease by which one of several controllers is elected (with `--cluster kube`)
    #[arg(long, value_name = "NAMESPACE", env = "POD_NAMESPACE", default_value = "openshift-sdn")]
    lease_namespace: String,
    /// Name under which this controller takes part in the election; else that of the machine and a number
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    identity: Option<String>,
    /// After how long another controller takes over from one that is not heard of
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u32).range(3..=3600))]
    lease_seconds: u32,
    /// Where health, metrics, state and log filter are served, for the machine itself; `none` for nowhere
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:29106")]
    admin_address: Address,
    /// Where metrics are served, for Prometheus; `none` for nowhere
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:9106")]
    metrics_address: Address,
    /// What is logged, as a tracing filter such as `info` or `controller=debug`
    #[arg(long, value_name = "FILTER", env = "RUST_LOG", default_value = "info")]
    log: String,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let log = admin::log(&args.log);
    match run(&args, log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sdn-controller: {}", controller::describe(&error));
            ExitCode::from(3)
        }
    }
}

fn run(args: &Args, log: LogFilter) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        let election = Election {
            namespace: args.lease_namespace.clone(),
            identity: args.identity.clone().unwrap_or_else(identity),
            lease_seconds: args.lease_seconds,
        };
        let (vitals, status) =
            Vitals::new(Status { identity: election.identity.clone(), ..Status::default() });
        let registry = vitals.registry();
        let controller = Controller::open(&args.cluster, election, vitals).await?;
        if args.once {
            let problems = controller.once().await?;
            anyhow::ensure!(problems.is_empty(), "{}", lines(&problems));
            return Ok(());
        }
        // Ends with this block.
        let _servers =
            Admin { program: status, registry, log }.serve(args.admin_address, args.metrics_address).await?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tracing::info!(cluster = %args.cluster, "running");
        controller
            .run(async move {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                };
                tracing::info!("stopped by {name}");
            })
            .await?;
        Ok(())
    });
    // A write that waits for another writer's lock doesn't hold up the end.
    runtime.shutdown_background();
    result
}

/// A name that no other process has.
fn identity() -> String {
    let machine = nix::unistd::gethostname().unwrap_or_default();
    format!("{}-{:08x}", machine.to_string_lossy(), rand::random::<u32>())
}

/// One problem as it is, several a line each.
fn lines(problems: &[controller::allocator::Problem]) -> String {
    match problems {
        [problem] => problem.to_string(),
        _ => problems
            .iter()
            .fold(format!("{} problems:", problems.len()), |text, problem| format!("{text}\n  {problem}")),
    }
}
