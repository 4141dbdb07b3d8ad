//! The agent's one loop: snapshot the inputs, make bridge, host and flows as they follow from them, say what
//! came of it; then wait until something changes.
//!
//! Level-triggered: an event only says that it is time to look again. Nothing is deleted before all sources are
//! in sync, and nothing is kept on the side: after a crash the agent knows from OVSDB, the switch and the lease
//! directory what there is.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use flowtables::feature::base::gateway;
use ipnet::Ipv4Net;
use ovsdb::Client;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use super::cni::pods::PodNetwork;
use super::cni::server;
use super::host::{firewall, links};
use super::ovs::bridge::{Bridge, TUN};
use super::ovs::ports::pod_ports;
use super::ovs::syncer::Syncer;
use super::status::{Leg, Network, Status};
use crate::cluster::{ClusterSource, Snapshot};
use crate::view::{Inputs, View, inputs};

/// What the agent is told on its command line.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of the Node object that stands for this machine.
    pub node: String,
    /// Run directory of Open vSwitch, with `db.sock` and `br0.mgmt`.
    pub ovs_dir: PathBuf,
    /// Where the CNI plugin asks.
    pub cni_socket: PathBuf,
    /// Parent of the address leases, in the form of the `host-local` plugin.
    pub lease_dir: PathBuf,
    /// `netdev` (userspace) or `system` (kernel).
    pub datapath_type: String,
}

/// The `datapath_type` of a bridge in user space.
pub const USERSPACE: &str = "netdev";

/// Everything is looked at again after this: what others changed behind our back.
const RESYNC: Duration = Duration::from_secs(30);
/// First and longest pause after a failure.
const RETRY: (Duration, Duration) = (Duration::from_millis(25), Duration::from_secs(1));

/// Why the agent could not start. Everything later is retried instead.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The CNI socket could not be opened.
    #[error(transparent)]
    Server(#[from] server::ServerError),
}

/// Runs the agent until `shutdown` resolves. The datapath is left as it is.
///
/// # Errors
/// When the CNI socket cannot be opened.
pub async fn run(
    config: Config,
    source: &ClusterSource,
    shutdown: impl Future<Output = ()>,
) -> Result<(), AgentError> {
    tokio::pin!(shutdown);
    let ovsdb = tokio::select! {
        client = connect_ovsdb(&config) => client,
        () = &mut shutdown => return Ok(()),
    };
    let (status, statuses) = watch::channel(Status::default());
    let nudge = Arc::new(Notify::new());
    let pods = Arc::new(PodNetwork::new(&config, source.watch(), ovsdb.clone(), statuses, nudge.clone()));
    let mut agent = Agent {
        state: source.watch(),
        ovsdb,
        syncer: Syncer::new(&config.ovs_dir),
        view: View::default(),
        host: None,
        look_again: Instant::now() + RESYNC,
        status,
        nudge,
        config,
    };
    let first = agent.until_ready();
    tokio::select! {
        () = first => {}
        () = &mut shutdown => return Ok(()),
    }
    let server = server::Server::bind(&agent.config.cni_socket)?;
    info!(node = %agent.config.node, socket = %agent.config.cni_socket.display(), "ready");
    tokio::select! {
        () = agent.run() => {}
        () = server.serve(pods) => {}
        () = &mut shutdown => info!("stopping; ports and flows stay as they are"),
    }
    Ok(())
}

async fn connect_ovsdb(config: &Config) -> Client {
    let socket = config.ovs_dir.join("db.sock");
    let endpoint = ovsdb::Endpoint::Unix(socket.clone());
    let mut backoff = Backoff::default();
    loop {
        match Client::connect(&endpoint, "Open_vSwitch", ovsdb::ovs::monitored()).await {
            Ok(client) => return client,
            Err(error) => {
                if backoff.is_first() {
                    warn!(socket = %socket.display(), "waiting for ovsdb-server: {error}");
                }
                tokio::time::sleep(backoff.next()).await;
            }
        }
    }
}

#[derive(Default)]
struct Backoff {
    failures: u32,
}

impl Backoff {
    fn is_first(&self) -> bool {
        self.failures == 0
    }

    fn next(&mut self) -> Duration {
        let pause = RETRY.0.saturating_mul(1 << self.failures.min(6));
        self.failures = self.failures.saturating_add(1);
        pause.min(RETRY.1)
    }

    fn reset(&mut self) {
        self.failures = 0;
    }
}

struct Agent {
    config: Config,
    state: watch::Receiver<Arc<Snapshot>>,
    ovsdb: Client,
    syncer: Syncer,
    view: View,
    /// What the host side was last set up for; none: to be looked at.
    host: Option<HostSide>,
    /// When flows and host side are read again. However much else happens, no later.
    look_again: Instant,
    status: watch::Sender<Status>,
    nudge: Arc<Notify>,
}

/// What links, routes and firewall depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct HostSide {
    local_subnet: Ipv4Net,
    cluster_networks: Vec<Ipv4Net>,
    service_network: Ipv4Net,
    vxlan_port: u16,
    mtu: u16,
}

impl Agent {
    async fn until_ready(&mut self) {
        let mut backoff = Backoff::default();
        while !self.turn(&mut backoff).await {}
    }

    async fn run(&mut self) {
        let mut backoff = Backoff::default();
        loop {
            self.turn(&mut backoff).await;
        }
    }

    /// Reconciles once, then waits for a reason to do it again, unless this was the first success.
    async fn turn(&mut self, backoff: &mut Backoff) -> bool {
        let mut ovsdb = self.ovsdb.changes();
        ovsdb.borrow_and_update();
        if Instant::now() >= self.look_again {
            self.look_again = Instant::now() + RESYNC;
            self.syncer.suspect();
            self.host = None;
        }
        let was_ready = self.status.borrow().ready;
        let again = match self.reconcile().await {
            Ok(()) => {
                backoff.reset();
                if !was_ready {
                    return true;
                }
                self.look_again
            }
            Err(error) => {
                let text = crate::describe(&error);
                if self.status.borrow().problem.as_ref() != Some(&text) {
                    warn!("not in sync: {text}");
                }
                self.status.send_modify(|status| status.problem = Some(text));
                Instant::now() + backoff.next()
            }
        };
        // Each arm only waits; what it waited for is looked at in the next turn, so any may be cancelled.
        tokio::select! {
            changed = self.state.changed() => {
                if changed.is_err() {
                    // The source has ended: go on with what is known.
                    sleep_until(again).await;
                }
            }
            _ = ovsdb.changed() => {}
            () = self.nudge.notified() => {}
            () = self.syncer.closed() => {
                warn!("the OpenFlow connection ended: is ovs-vswitchd being restarted?");
                self.syncer.disconnect();
                // Its links may have gone with it.
                self.host = None;
            }
            () = sleep_until(again) => {}
        }
        false
    }

    async fn reconcile(&mut self) -> anyhow::Result<()> {
        let snapshot = self.state.borrow_and_update().clone();
        let ports = pod_ports(&self.ovsdb.replica());
        let inputs = inputs(&snapshot.state, &self.config.node, &ports)?;

        self.bridge(&inputs).ensure(&self.ovsdb).await?;
        self.host_side(&inputs).await?;

        let touched = self.view.update(&inputs);
        for conflict in self.view.conflicts() {
            warn!("{conflict}");
        }
        let applied = self.syncer.apply(self.view.flows()).await?;
        if !applied.is_nothing() {
            info!(
                added = applied.added,
                removed = applied.removed,
                changed = applied.changed,
                groups = applied.groups,
                "flows changed"
            );
        }
        debug!(owners = touched.len(), flows = self.view.flows().len(), "in sync");
        self.report(&inputs, ports);
        Ok(())
    }

    fn bridge(&self, inputs: &Inputs) -> Bridge {
        Bridge {
            datapath_type: self.config.datapath_type.clone(),
            vxlan_port: inputs.base.vxlan_port,
            mtu: inputs.mtu,
            gateway: gateway(inputs.base.local_subnet),
        }
    }

    /// Links, addresses, routes and firewall: when what they depend on changed, and when it is time to look again.
    async fn host_side(&mut self, inputs: &Inputs) -> anyhow::Result<()> {
        let wanted = HostSide {
            local_subnet: inputs.base.local_subnet,
            cluster_networks: inputs.base.cluster_networks.clone(),
            service_network: inputs.base.service_network,
            vxlan_port: inputs.base.vxlan_port,
            mtu: inputs.mtu,
        };
        if self.host.as_ref() == Some(&wanted) {
            return Ok(());
        }
        self.host = None;
        let address = Ipv4Net::new(gateway(wanted.local_subnet), wanted.local_subnet.prefix_len())?;
        let clusters = wanted.cluster_networks.iter().map(|&dst| links::HostRoute { dst, scope_link: true });
        let service = links::HostRoute { dst: wanted.service_network, scope_link: false };
        let tun0 = links::Tun0Spec {
            name: TUN.to_owned(),
            address,
            mtu: wanted.mtu,
            routes: clusters.chain([service]).collect(),
        };
        for change in links::ensure(&tun0).await? {
            info!("{change}");
        }
        let firewall = firewall::FirewallSpec {
            cluster_networks: wanted.cluster_networks.clone(),
            tun: TUN.to_owned(),
            vxlan_port: wanted.vxlan_port,
            userspace_datapath: self.config.datapath_type == USERSPACE,
        };
        firewall::ensure(&firewall).await?;
        self.host = Some(wanted);
        Ok(())
    }

    fn report(&self, inputs: &Inputs, ports: Vec<crate::view::PodPort>) {
        let legs: BTreeSet<Leg> =
            ports.into_iter().map(|port| Leg { sandbox: port.sandbox, port: port.port }).collect();
        let network = Network {
            local_subnet: inputs.base.local_subnet,
            cluster_networks: inputs.base.cluster_networks.clone(),
            service_network: inputs.base.service_network,
            plugin: inputs.base.plugin,
            mtu: inputs.mtu,
        };
        for problem in &inputs.problems {
            if !self.status.borrow().left_out.contains(problem) {
                warn!("{problem}");
            }
        }
        self.status.send_modify(|status| {
            status.ready = true;
            status.problem = None;
            status.network = Some(Arc::new(network));
            status.synced = Arc::new(legs);
            status.left_out.clone_from(&inputs.problems);
        });
    }
}
