//! The agent's one loop: snapshot the inputs, make bridge, host and flows as they follow from them, say what
//! came of it; then wait until something changes.
//!
//! Level-triggered: an event only says that it is time to look again. Nothing is deleted before all sources are
//! in sync, and nothing is kept on the side: after a crash the agent knows from OVSDB, the switch and the lease
//! directory what there is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use flowtables::feature::base::gateway;
use openflow::OfPort;
use ovsdb::Client;
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use super::admin::Query;
use super::cni::leave::Flows;
use super::cni::pods::PodNetwork;
use super::cni::{conflist, server};
use super::findings::{self, Findings};
use super::host::{firewall::FirewallSpec, obstacles, watch as host_watch};
use super::metrics::{self, Change, Metrics, Outcome};
use super::ovs::bridge::{Bridge, TUN};
use super::ovs::syncer::{Applied, SyncError, Syncer};
use super::status::{Leg, Network, Status};
use crate::cluster::{ClusterSource, Snapshot};
use crate::view::{self, Inputs, Known, PodPort, Problem, View, ViewError};

mod host_side;

use host_side::{BridgeGone, HostSide};

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
    /// Every pod is an object of the cluster's source before its ADD.
    pub pods_are_known: bool,
    /// Where the network configuration for the runtime goes; none: nowhere.
    pub cni_conf_dir: Option<PathBuf>,
    /// Where CNI plugins are.
    pub cni_bin_dir: PathBuf,
    /// Where the container runtime says which sandboxes there are (CRI); none: it is not asked.
    pub cri_socket: Option<PathBuf>,
    /// Names the DNS servers that the names in EgressNetworkPolicies are asked of.
    pub resolv_conf: PathBuf,
}

/// The `datapath_type` of a bridge in user space.
pub const USERSPACE: &str = "netdev";

/// After this it is looked at again what others changed behind our back; flows and firewall, of whose changes switch and kernel
/// tell, after longer ([`Syncer::expire`], [`host_side`]).
pub(super) const RESYNC: Duration = Duration::from_secs(30);
/// First and longest pause after a failure.
const RETRY: (Duration, Duration) = (Duration::from_millis(25), Duration::from_secs(1));

/// Why the agent could not start. Everything later is retried instead.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The CNI socket could not be opened.
    #[error(transparent)]
    Server(#[from] server::ServerError),
    /// The runtime could not be told of the plugin.
    #[error(transparent)]
    Conflist(#[from] conflist::ConflistError),
}

/// By what the agent tells how it is. Made before the agent, so that it can be asked while it starts.
#[derive(Debug)]
pub struct Vitals {
    /// The result of each reconcile.
    pub status: watch::Sender<Status>,
    /// What is counted and measured.
    pub metrics: Metrics,
    /// Questions to the loop.
    pub queries: mpsc::Receiver<Query>,
}

/// Runs the agent until `shutdown` resolves. The datapath is left as it is.
///
/// # Errors
/// When the CNI socket cannot be opened.
pub async fn run(
    config: Config,
    source: &ClusterSource,
    vitals: Vitals,
    shutdown: impl Future<Output = ()>,
) -> Result<(), AgentError> {
    tokio::pin!(shutdown);
    // Before anything is changed: of two agents one must not undo what the other does.
    let claim = server::Claim::new(&config.cni_socket)?;
    let Vitals { status, metrics, queries } = vitals;
    status.send_modify(|status| status.cluster = true);
    let ovsdb = tokio::select! {
        client = connect_ovsdb(&config) => client,
        () = &mut shutdown => return Ok(()),
    };
    let nudge = Arc::new(Notify::new());
    let pods = PodNetwork::new(
        &config,
        source.watch(),
        ovsdb.clone(),
        status.subscribe(),
        nudge.clone(),
        metrics.clone(),
    );
    let pods = Arc::new(pods);
    let host_changed = Arc::new(Notify::new());
    // Ends with this function.
    let mut watching = JoinSet::new();
    let tables_changed = Arc::new(Notify::new());
    watching.spawn(host_watch::watch(TUN.to_owned(), Arc::clone(&host_changed), Arc::clone(&tables_changed)));
    let (node, cluster) = (config.node.clone(), source.watch());
    watching.spawn(obstacles::watch(node, cluster, tables_changed, status.clone(), metrics.clone()));
    let mut agent = Agent {
        host_changed,
        pods: Arc::clone(&pods),
        state: source.watch(),
        syncer: Syncer::new(&config.ovs_dir),
        findings: Findings::start(config.resolv_conf.clone(), &findings::known(&ovsdb.replica())),
        seen: None,
        view: View::default(),
        host: None,
        firewall: None,
        set_up: None,
        refused_egress_ips: Vec::new(),
        look_again: Instant::now() + RESYNC,
        status,
        nudge,
        metrics,
        queries,
        ovsdb,
        config,
    };
    let first = agent.until_ready();
    tokio::select! {
        () = first => {}
        () = &mut shutdown => return Ok(()),
    }
    let (together, links, known) = (Arc::clone(&pods), Arc::clone(&pods), Arc::clone(&pods));
    let told = agent.status.clone();
    watching.spawn(async move { together.keep_together(told).await });
    watching.spawn(async move { links.keep_links_up().await });
    watching.spawn(async move { known.keep_what_is_known().await });
    let server = server::Server::bind(claim)?;
    if let Some(directory) = &agent.config.cni_conf_dir {
        conflist::write(directory, &agent.config.cni_bin_dir, &agent.config.cni_socket)?;
    }
    agent.status.send_modify(|status| status.serving = true);
    info!(node = %agent.config.node, socket = %agent.config.cni_socket.display(), "ready");
    let serving = agent.status.clone();
    tokio::select! {
        () = agent.run() => {}
        () = server.serve(pods, serving) => {}
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
    pods: Arc<PodNetwork>,
    state: watch::Receiver<Arc<Snapshot>>,
    ovsdb: Client,
    syncer: Syncer,
    findings: Findings,
    /// What the cluster, the ports and the findings came to last: most events change nothing of it.
    seen: Option<Seen>,
    view: View,
    /// What the host side was last set up for; none: to be looked at.
    host: Option<HostSide>,
    /// Told when links, routes or firewall have been changed, by whomever.
    host_changed: Arc<Notify>,
    /// What the nftables table was last found or made to be, and when; none: to be listed.
    firewall: Option<(FirewallSpec, Instant)>,
    /// What it was set up for when it last was right: what differs from that was changed by somebody else.
    set_up: Option<HostSide>,
    /// Egress IPs that the node can't have.
    refused_egress_ips: Vec<Problem>,
    /// When that is. However much else happens, no later.
    look_again: Instant,
    status: watch::Sender<Status>,
    nudge: Arc<Notify>,
    metrics: Metrics,
    queries: mpsc::Receiver<Query>,
}

/// Inputs of the view, and what they were made of.
struct Seen {
    snapshot: Arc<Snapshot>,
    ports: Arc<Vec<PodPort>>,
    known: Known,
    inputs: Arc<Inputs>,
    /// The pods that the view has flows for.
    served: Arc<BTreeSet<Leg>>,
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
            self.syncer.expire();
            self.host = None;
        }
        // Of a connection that is lost it is told before anything waits for it.
        self.connections();
        let was_ready = self.status.borrow().ready;
        let start = Instant::now();
        let result = self.reconcile().await;
        self.pods.round_is_over();
        // Whatever came of it: flows that have not been sent are not waited for any more.
        if self.pods.flows_awaited.swap(false, Ordering::SeqCst) {
            self.pods.look();
        }
        let took = start.elapsed();
        self.connections();
        let outcome = if result.is_ok() { "success" } else { "failure" };
        self.metrics.reconciles.get_or_create(&Outcome { result: outcome }).inc();
        let again = match result {
            Ok(()) => {
                self.metrics.reconcile.observe(took.as_secs_f64());
                self.status.send_modify(|status| status.last_sync = Some((SystemTime::now(), took)));
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
                } else if self.pods.any_unnamed() {
                    // The pod that it belongs to may be known by now.
                    self.pods.look();
                }
            }
            _ = ovsdb.changed() => {}
            () = self.nudge.notified() => {}
            () = self.syncer.drifted() => {}
            () = self.host_changed.notified() => {
                self.host = None;
                self.firewall = None;
            }
            () = self.findings.changed() => {}
            () = self.syncer.closed() => {
                warn!("the OpenFlow connection ended: is ovs-vswitchd being restarted?");
                self.syncer.disconnect();
                self.connections();
                // Its links may have gone with it, by nobody's doing.
                self.host = None;
                self.set_up = None;
            }
            Some(query) = self.queries.recv() => {
                // Whoever asked may have gone.
                let _ = query.send(self.describe());
            }
            () = sleep_until(again) => {}
        }
        false
    }

    /// Takes down which connections there are.
    fn connections(&mut self) {
        let (ovsdb, openflow) = (self.ovsdb.status().connected, self.syncer.is_connected());
        let was = {
            let status = self.status.borrow();
            (status.ovsdb, status.openflow)
        };
        for (peer, was, is) in [(metrics::OVSDB, was.0, ovsdb), (metrics::OPENFLOW, was.1, openflow)] {
            self.metrics.connected.get_or_create(&peer).set(is.into());
            if is && !was {
                self.metrics.connections.get_or_create(&peer).inc();
            }
        }
        self.status.send_if_modified(|status| {
            let changed = was != (ovsdb, openflow);
            (status.ovsdb, status.openflow) = (ovsdb, openflow);
            changed
        });
    }

    /// What only the loop knows.
    fn describe(&self) -> Value {
        let mut owners: BTreeMap<String, usize> = BTreeMap::new();
        for table in 0..=u8::MAX {
            for (_, owner) in self.view.flows().table(table) {
                *owners.entry(owner.to_string()).or_default() += 1;
            }
        }
        let legs: Vec<Value> = self
            .pods
            .legs()
            .iter()
            .map(|leg| {
                json!({
                    "ifname": leg.ifname, "ip": leg.ip, "name": leg.name, "namespace": leg.namespace,
                    "port": leg.port.map(|port| port.0), "sandbox": leg.sandbox, "veth": leg.host_veth,
                })
            })
            .collect();
        json!({
            "flowConflicts": self.view.conflicts().iter().map(ToString::to_string).collect::<Vec<_>>(),
            "flowsByOwner": owners,
            "ports": legs,
        })
    }

    async fn reconcile(&mut self) -> anyhow::Result<()> {
        let snapshot = self.state.borrow_and_update().clone();
        let known = self.findings.known();
        let mut ports = self.pods.staying();
        let mut inputs = self.inputs(&snapshot, &ports, &known)?;

        self.bridge(&inputs).ensure(&self.ovsdb, &self.pods.ports).await?;
        if !self.status.borrow().ready {
            // No request is being served yet: what an earlier run did not bring to its end is settled first.
            self.pods.converge(inputs.base.local_subnet).await;
            ports = self.pods.staying();
            inputs = self.inputs(&snapshot, &ports, &known)?;
        }
        if self.pods.note_ports(&ports) {
            self.pods.look();
        }
        self.findings.want(&inputs);
        // Before the flows: whoever compares them with what they should be reads it there.
        findings::keep(&self.ovsdb, &known).await?;
        // What leaves under an egress IP that is given up must not leave under the node's own address instead: addresses
        // come before the flows that mark its packets, and go after them.
        let host = HostSide::of(&inputs);
        let mut on_host = self.host_side(host.clone().and_egress_ips_of(self.set_up.as_ref())).await;
        if let Err(error) = &on_host
            && (error.is::<BridgeGone>() || !host.needs_no_more_than(self.set_up.as_ref()))
        {
            return on_host;
        }

        // Pods need their flows whatever is wrong with the node's own network.
        let applied = self.syncer.apply(self.view.flows()).await.inspect_err(|error| {
            if matches!(error, SyncError::Unconfirmed(_)) {
                self.pods.flows_are(Flows::Unknown);
            }
        })?;
        if on_host.is_ok() {
            on_host = self.host_side(host).await;
        }
        self.count(&applied);
        if !applied.is_nothing() {
            info!(
                added = applied.added,
                removed = applied.removed,
                changed = applied.changed,
                groups = applied.groups,
                "flows changed"
            );
        }
        debug!(flows = self.view.flows().len(), "flows are in sync");
        // The first time all has to be right: nothing is served before.
        if on_host.is_ok() || self.status.borrow().ready {
            self.pods.flows_are(Flows::Confirmed);
            self.report(&inputs, on_host.as_ref().err().map(crate::describe));
        }
        on_host
    }

    /// What the node must know, given its ports. If that is not what it was, the view changes with it.
    fn inputs(
        &mut self,
        snapshot: &Arc<Snapshot>,
        ports: &Arc<Vec<PodPort>>,
        known: &Known,
    ) -> Result<Arc<Inputs>, ViewError> {
        if let Some(seen) = &mut self.seen
            && Arc::ptr_eq(&seen.snapshot, snapshot)
            && seen.ports == *ports
            && seen.known == *known
        {
            // If they are the same in another place, there are not two of them any longer.
            seen.ports = Arc::clone(ports);
            return Ok(Arc::clone(&seen.inputs));
        }
        let inputs = Arc::new(view::inputs_knowing(&snapshot.state, &self.config.node, ports, known)?);
        let touched = self.view.update(&inputs);
        for conflict in self.view.conflicts() {
            warn!("{conflict}");
        }
        if !touched.is_empty() {
            debug!(owners = touched.len(), "the view has changed");
            self.syncer.outdated();
        }
        // One that was left out has no flows, whatever the switch has confirmed.
        let with_flows: BTreeSet<(OfPort, Ipv4Addr)> =
            inputs.pods.iter().map(|pod| (pod.port, pod.ip)).collect();
        let served = (ports.iter())
            .filter(|port| with_flows.contains(&(port.port, port.ip)))
            .map(|port| Leg { sandbox: port.sandbox.clone(), port: port.port });
        self.seen = Some(Seen {
            snapshot: Arc::clone(snapshot),
            ports: Arc::clone(ports),
            known: known.clone(),
            inputs: Arc::clone(&inputs),
            served: Arc::new(served.collect()),
        });
        Ok(inputs)
    }

    fn count(&self, applied: &Applied) {
        let Applied { added, removed, changed, repaired, .. } = *applied;
        let counts = [
            ("added", added, repaired.added),
            ("removed", removed, repaired.removed),
            ("changed", changed, repaired.changed),
        ];
        for (change, all, repairs) in counts {
            let number = |count| u64::try_from(count).unwrap_or(u64::MAX);
            self.metrics.flow_changes.get_or_create(&Change { change }).inc_by(number(all));
            self.metrics.flow_repairs.get_or_create(&Change { change }).inc_by(number(repairs));
        }
        let gauge = |count| i64::try_from(count).unwrap_or(i64::MAX);
        self.metrics.flows.set(gauge(self.view.flows().len()));
        self.metrics.groups.set(gauge(self.view.flows().groups().count()));
    }

    fn bridge(&self, inputs: &Inputs) -> Bridge {
        Bridge {
            datapath_type: self.config.datapath_type.clone(),
            vxlan_port: inputs.base.vxlan_port,
            mtu: inputs.mtu,
            gateway: gateway(inputs.base.local_subnet),
        }
    }

    /// `problem`: of the node's own network.
    fn report(&self, inputs: &Inputs, problem: Option<String>) {
        let served = self.seen.as_ref().map(|seen| Arc::clone(&seen.served)).unwrap_or_default();
        let network = Network {
            local_subnet: inputs.base.local_subnet,
            cluster_networks: inputs.base.cluster_networks.clone(),
            service_network: inputs.base.service_network,
            plugin: inputs.base.plugin,
            mtu: inputs.mtu,
        };
        let left_out: Vec<Problem> =
            inputs.problems.iter().chain(&self.refused_egress_ips).cloned().collect();
        for problem in &left_out {
            if !self.status.borrow().left_out.contains(problem) {
                warn!("{problem}");
            }
        }
        let gauge = |count| i64::try_from(count).unwrap_or(i64::MAX);
        self.metrics.pods.set(gauge(served.len()));
        self.metrics.left_out.set(gauge(left_out.len()));
        self.status.send_modify(|status| {
            status.ready = true;
            status.problem = problem;
            status.network = Some(Arc::new(network));
            status.synced = served;
            status.left_out = left_out;
        });
    }
}
