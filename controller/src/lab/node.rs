//! One node of a lab: its namespace, its Open vSwitch, its address, its agent.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::{Instant, sleep};

use super::link::Links;
use super::preflight::Programs;
use super::process::{Launch, ProcessId, tail};
use super::progress::Progress;
use super::state::{Daemon, Datapath, LabState, Store, Underlay};
use super::{LabDir, LabError, NodeDir, bridge, underlay};
use crate::node::netns::NetNs;

/// How long an agent may take until it serves, in a lab on a busy machine.
const AGENT_START: Duration = Duration::from_secs(30);

/// Where Debian's package containernetworking-plugins has its programs.
const PLUGINS: &str = "/usr/lib/cni";

/// How often it is looked at meanwhile.
const POLL: Duration = Duration::from_millis(10);

/// What nodes are made with.
#[derive(Clone, Debug)]
pub(super) struct Workshop {
    /// Where the lab's files are.
    pub(super) dir: LabDir,
    /// The record of what is made.
    pub(super) store: Store,
    /// The programs to start.
    pub(super) programs: Programs,
    /// The datapath of the bridges.
    pub(super) datapath: Datapath,
    /// Who is told.
    pub(super) progress: Progress,
}

impl Workshop {
    /// Makes the node's namespace, wires it to the underlay, starts Open vSwitch and gives the node its address.
    ///
    /// # Errors
    /// Whatever did not work; what was made until then is in the record.
    pub(super) async fn make_node(
        &self,
        node: &str,
        ip: Ipv4Addr,
        number: usize,
        network: &Underlay,
        switch: &Links,
    ) -> Result<(), LabError> {
        let files = self.dir.node(node);
        for directory in [files.ovs(), files.leases()] {
            fs::create_dir_all(&directory).map_err(|source| LabError::io("create", &directory, source))?;
        }
        // A lab has no DNS. Whoever wants to try names in policies starts a server inside the node's namespace.
        fs::write(files.resolv_conf(), "nameserver 127.0.0.1\n")
            .map_err(|source| LabError::io("write", &files.resolv_conf(), source))?;
        let links = Links::create(&self.dir.node_netns(node)).await?;
        links.forward().await?;
        if self.datapath == Datapath::Netdev {
            links.leave_ports_to_the_switch(&self.programs.nft).await?;
        }
        underlay::connect(switch, number, &links).await?;

        self.start_ovsdb_server(node, links.netns()).await?;
        self.start_vswitchd(node, links.netns()).await?;
        bridge::make_br_phy(node, &files.db_socket(), ip, self.datapath).await?;
        links.add_address(bridge::BR_PHY, ip, network.network.prefix_len()).await?;
        links.set_up(bridge::BR_PHY).await?;
        links.add_default_route(network.router).await?;
        self.introduce(node, &self.store.read()?).await?;
        self.progress.done(node, format_args!("Open vSwitch runs, {ip} on {}", bridge::BR_PHY));
        Ok(())
    }

    /// Starts one of a node's programs, and waits until it serves.
    ///
    /// # Errors
    /// [`LabError::Running`] if it runs; [`LabError::Daemon`] if it ends or does not serve.
    pub(super) async fn start(&self, node: &str, daemon: Daemon) -> Result<(), LabError> {
        let state = self.store.read()?;
        let record = state.node(node)?;
        let running = record.daemons.get(&daemon).copied().filter(|process| process.is_alive());
        if let Some(process) = running {
            return Err(LabError::Running { daemon, node: node.to_owned(), process });
        }
        let ns = NetNs::open_named(&record.netns)?;
        match daemon {
            Daemon::OvsdbServer if !self.dir.node(node).ovs().join("conf.db").exists() => Err(LabError::Ovs {
                node: node.to_owned(),
                reason: "its database conf.db is gone, and the bridge to the other nodes with it: make the lab anew \
                         (`sdnctl lab down`, `sdnctl lab up`)"
                    .to_owned(),
            }),
            Daemon::OvsdbServer => self.start_ovsdb_server(node, &ns).await,
            Daemon::OvsVswitchd => {
                self.start_vswitchd(node, &ns).await?;
                self.introduce(node, &state).await
            }
            Daemon::SdnNode => self.start_agent(node, &ns).await,
        }
    }

    /// Tells the node's switch where the other nodes are.
    async fn introduce(&self, node: &str, state: &LabState) -> Result<(), LabError> {
        if self.datapath == Datapath::System {
            // Its tunnels use the kernel's neighbours.
            return Ok(());
        }
        let others = state.nodes.iter().filter(|(name, _)| *name != node).map(|(_, other)| other.ip);
        bridge::introduce(node, &self.dir.node(node).ovs(), others).await
    }

    async fn start_ovsdb_server(&self, node: &str, ns: &NetNs) -> Result<(), LabError> {
        let files = self.dir.node(node);
        let database = files.ovs().join("conf.db");
        if !database.exists() {
            let make = Launch::new(&self.programs.ovsdb_tool)
                .arg("create")
                .arg(&database)
                .arg(&self.programs.schema);
            make.envs(ovs_environment(&files)).run(ns).await?;
        }
        let remote = format!("--remote=punix:{}", files.db_socket().display());
        let launch = Launch::new(&self.programs.ovsdb_server).arg(&database).arg(remote);
        self.start_ovs(node, ns, Daemon::OvsdbServer, launch).await
    }

    async fn start_vswitchd(&self, node: &str, ns: &NetNs) -> Result<(), LabError> {
        let database = format!("unix:{}", self.dir.node(node).db_socket().display());
        let launch = Launch::new(&self.programs.ovs_vswitchd).arg(database);
        self.start_ovs(node, ns, Daemon::OvsVswitchd, launch).await
    }

    /// Starts a daemon of Open vSwitch. With `--detach` it returns when the daemon serves.
    async fn start_ovs(
        &self,
        node: &str,
        ns: &NetNs,
        daemon: Daemon,
        launch: Launch,
    ) -> Result<(), LabError> {
        let files = self.dir.node(node);
        let run = files.ovs();
        let log = run.join(format!("{daemon}.log"));
        let pid_file = run.join(format!("{daemon}.pid"));
        if let Ok(pid) = fs::read_to_string(&pid_file) {
            // A daemon that was killed leaves its control socket.
            let _ = fs::remove_file(run.join(format!("{daemon}.{}.ctl", pid.trim())));
        }
        let logging = ["-vconsole:off", "-vsyslog:off", "-vfile:info", "--log-file"];
        let launch =
            ["--pidfile", "--detach", "--no-chdir"].into_iter().chain(logging).fold(launch, Launch::arg);
        let launch = launch.envs(ovs_environment(&files));
        let what = |what: String| LabError::Daemon {
            program: format!("{daemon} of node {node}"),
            what,
            log: log.clone(),
            tail: tail(&log, 5),
        };
        launch.run(ns).await.map_err(|error| match error {
            LabError::Failed { status, said, .. } => what(format!("did not start ({status}) {said}")),
            other => other,
        })?;
        let process = ProcessId::from_pid_file(&pid_file)
            .ok_or_else(|| what("ended right after its start".to_owned()))?;
        self.record(node, daemon, process)
    }

    /// Starts the node agent, and waits until it serves pods.
    ///
    /// # Errors
    /// [`LabError::Daemon`] with the end of its log if it does not.
    pub(super) async fn start_agent(&self, node: &str, ns: &NetNs) -> Result<(), LabError> {
        let Some(own) = &self.programs.own else {
            return Err(LabError::Bare { lab: self.dir.name().clone() });
        };
        let files = self.dir.node(node);
        let start = Instant::now();
        let child = Launch::new(&own.sdn_node)
            .option("--cluster", self.dir.cluster())
            .option("--node", node)
            .option("--ovs-dir", files.ovs())
            .option("--cni-socket", files.cni_socket())
            .option("--lease-dir", files.leases())
            .option("--cni-conf-dir", files.cni_conf())
            .option("--cni-bin-dir", PLUGINS)
            .option("--datapath", self.datapath.as_str())
            .option("--resolv-conf", files.resolv_conf())
            .spawn(ns, &files.agent_log())
            .await?;
        if let Some(process) = process_of(&child) {
            self.record(node, Daemon::SdnNode, process)?;
        }
        serving(child, &files.cni_socket(), &format!("sdn-node of node {node}"), &files.agent_log()).await?;
        self.progress
            .done(node, format_args!("sdn-node serves pods ({:.2} s)", start.elapsed().as_secs_f64()));
        Ok(())
    }

    /// Starts the cluster controller, in the underlay's namespace.
    ///
    /// # Errors
    /// [`LabError::Spawn`], [`LabError::Io`], [`LabError::Bare`].
    pub(super) async fn start_controller(&self, ns: &NetNs) -> Result<Child, LabError> {
        let Some(own) = &self.programs.own else {
            return Err(LabError::Bare { lab: self.dir.name().clone() });
        };
        let child = Launch::new(&own.sdn_controller)
            .option("--cluster", self.dir.cluster())
            .spawn(ns, &self.dir.controller_log())
            .await?;
        self.store.update(|state| state.controller = process_of(&child))?;
        Ok(child)
    }

    /// Waits until the cluster controller ends, which it should not.
    pub(super) async fn controller_ends(&self, mut child: Child) -> LabError {
        loop {
            if let Ok(Some(status)) = child.try_wait() {
                let log = self.dir.controller_log();
                let (program, what) = ("sdn-controller".to_owned(), format!("ended ({status})"));
                return LabError::Daemon { program, what, tail: tail(&log, 10), log };
            }
            sleep(POLL).await;
        }
    }

    fn record(&self, node: &str, daemon: Daemon, process: ProcessId) -> Result<(), LabError> {
        self.store.update(|state| {
            if let Some(node) = state.nodes.get_mut(node) {
                node.daemons.insert(daemon, process);
            }
        })
    }
}

/// The environment in which the programs of Open vSwitch find a node's daemons.
pub(super) fn ovs_environment(files: &NodeDir) -> [(&'static str, PathBuf); 4] {
    ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"].map(|name| (name, files.ovs()))
}

fn process_of(child: &Child) -> Option<ProcessId> {
    ProcessId::of(i32::try_from(child.id()).ok()?)
}

/// Whether somebody serves on a Unix socket.
pub(super) async fn serves(socket: &Path) -> bool {
    UnixStream::connect(socket).await.is_ok()
}

/// Waits until the process serves on the socket.
async fn serving(mut child: Child, socket: &Path, program: &str, log: &Path) -> Result<(), LabError> {
    let deadline = Instant::now() + AGENT_START;
    let failed = |what: String| LabError::Daemon {
        program: program.to_owned(),
        what,
        log: log.to_owned(),
        tail: tail(log, 10),
    };
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Err(failed(format!("ended before it served ({status})")));
        }
        if serves(socket).await {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(failed(format!("did not serve within {} s", AGENT_START.as_secs())));
        }
        sleep(POLL).await;
    }
}
