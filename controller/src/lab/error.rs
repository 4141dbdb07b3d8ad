//! [`LabError`].

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use thiserror::Error;

use super::LabName;
use super::plan::PlanError;
use super::process::ProcessId;
use super::state::Daemon;
use crate::cluster::SourceError;
use crate::cluster::dir::WriteError;
use crate::node::netns::NetNsError;

/// Why something with a lab could not be done.
#[derive(Debug, Error)]
pub enum LabError {
    /// Only root may make namespaces.
    #[error("a lab is made of network namespaces, which only root may make: run this as root (sudo)")]
    NotRoot,
    /// Programs of the distribution are missing.
    #[error("not installed: {}; `make deps` installs what a lab needs", missing.join(", "))]
    MissingTools {
        /// Their names.
        missing: Vec<String>,
    },
    /// A program of this project is missing.
    #[error("{program} is neither beside {} nor in PATH: `make build` builds it", beside.display())]
    MissingProgram {
        /// Its name.
        program: &'static str,
        /// The running program.
        beside: PathBuf,
    },
    /// The kernel can't do the system datapath.
    #[error(
        "the kernel has no openvswitch module loaded, so there is no datapath \"system\": run `modprobe openvswitch`, \
         or use --datapath netdev"
    )]
    NoKernelDatapath,
    /// There is such a lab.
    #[error(
        "there is a lab \"{name}\" already: `sdnctl lab down --name {name}` removes it; another --name makes another \
         beside it"
    )]
    Exists {
        /// Its name.
        name: LabName,
    },
    /// There is no such lab.
    #[error("there is no lab \"{name}\": `sdnctl lab up --name {name}` makes it")]
    NoLab {
        /// Its name.
        name: LabName,
    },
    /// Somebody is making the lab at this moment.
    #[error(
        "`sdnctl lab up` (process {}) is still making lab \"{name}\": wait for it, or stop it with `kill {}`, after \
         which it removes what it made",
        process.pid,
        process.pid
    )]
    Starting {
        /// The lab's name.
        name: LabName,
        /// Who makes it.
        process: ProcessId,
    },
    /// The user wanted it to stop.
    #[error("interrupted; what was made of lab \"{name}\" is removed")]
    Interrupted {
        /// The lab's name.
        name: LabName,
    },
    /// A namespace of a name that the lab needs belongs to something else.
    #[error(
        "there is a network namespace {netns} already, and it is of no lab: use another --name, or remove it with \
         `ip netns delete {netns}`"
    )]
    NamespaceTaken {
        /// Its name.
        netns: String,
    },
    /// The lab has no such node.
    #[error("lab \"{lab}\" has no node {node:?}; its nodes: {}", known.join(", "))]
    NoNode {
        /// The lab.
        lab: LabName,
        /// The name that was asked for.
        node: String,
        /// The nodes there are.
        known: Vec<String>,
    },
    /// The lab has no such pod.
    #[error("lab \"{lab}\" has no pod {pod}; `sdnctl lab status --name {lab}` lists those that run")]
    NoPod {
        /// The lab.
        lab: LabName,
        /// The name that was asked for.
        pod: String,
    },
    /// The lab has such a pod.
    #[error("lab \"{lab}\" runs a pod {pod} already: `sdnctl lab pod delete --name {lab} {pod}` removes it")]
    PodExists {
        /// The lab.
        lab: LabName,
        /// Its name.
        pod: String,
    },
    /// A lab without agents can't do that.
    #[error("lab \"{lab}\" was made with --bare: it has no sdn-node that could wire a pod")]
    Bare {
        /// The lab.
        lab: LabName,
    },
    /// There are too many pods for one measurement.
    #[error(
        "{pods} pods that all talk to each other need {needed} entries in the kernel's neighbour table, which holds \
         {limit} for all network namespaces together: raise net.ipv4.neigh.default.gc_thresh3 (sysctl), or use fewer pods"
    )]
    TooManyPods {
        /// How many there are.
        pods: usize,
        /// How many entries that takes.
        needed: usize,
        /// How many there can be.
        limit: usize,
    },
    /// A namespace is nobody's yet.
    #[error(
        "namespace {namespace} has no NetNamespace yet, so what its pods should reach is not known; sdn-controller makes \
         it, see {}",
        log.display()
    )]
    NoVnid {
        /// The namespace.
        namespace: String,
        /// What the cluster controller says.
        log: PathBuf,
    },
    /// The cluster can't be made on this machine.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The cluster's state can't be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The lab's cluster directory can't be changed.
    #[error(transparent)]
    Write(WriteError),
    /// `lab.json` is not what this version writes.
    #[error("{}: {source}; if another version of sdnctl made this lab, use that one", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A file could not be worked on.
    #[error("could not {step} {}: {source}", path.display())]
    Io {
        /// What was tried.
        step: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A namespace could not be worked on.
    #[error(transparent)]
    NetNs(#[from] NetNsError),
    /// The kernel refused something about links, addresses or routes.
    #[error("could not {step} in network namespace {netns}: {source}")]
    Link {
        /// What was tried.
        step: String,
        /// Where.
        netns: String,
        /// Why not.
        source: rtnetlink::Error,
    },
    /// A link is not there.
    #[error("network namespace {netns} has no link {link}")]
    NoLink {
        /// The namespace.
        netns: String,
        /// The link's name.
        link: String,
    },
    /// A program could not be started.
    #[error("could not run {}: {source}", program.display())]
    Spawn {
        /// Which.
        program: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A program ended with an error.
    #[error("{} failed ({status}): {said}", program.display())]
    Failed {
        /// Which.
        program: PathBuf,
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        said: String,
    },
    /// A daemon ended, or never started to serve.
    #[error("{program} {what}; the end of {}:\n{tail}", log.display())]
    Daemon {
        /// Which, and of which node.
        program: String,
        /// What it did.
        what: String,
        /// Its log.
        log: PathBuf,
        /// The last lines of it.
        tail: String,
    },
    /// A daemon runs already.
    #[error("{daemon} of node {node} runs already (process {})", process.pid)]
    Running {
        /// Which.
        daemon: Daemon,
        /// Of which node.
        node: String,
        /// The process.
        process: ProcessId,
    },
    /// Open vSwitch would not do what it was asked to.
    #[error("Open vSwitch of node {node}: {reason}")]
    Ovs {
        /// Of which node.
        node: String,
        /// What went wrong.
        reason: String,
    },
    /// The CNI plugin answered with an error.
    #[error("CNI {command} of pod {pod} failed: {reason}")]
    Cni {
        /// `ADD` or `DEL`.
        command: &'static str,
        /// The pod.
        pod: String,
        /// What the plugin said.
        reason: String,
    },
    /// No socket could be had to connect with.
    #[error("could not open a TCP socket: {0}")]
    Socket(#[source] io::Error),
    /// No socket could be had to listen on.
    #[error("could not listen in network namespace {netns}: {source}")]
    Listen {
        /// The namespace.
        netns: String,
        /// Why not.
        source: io::Error,
    },
    /// Something was still there after everything had been tried.
    #[error("{}", .0.join("\n"))]
    Leftovers(Vec<String>),
}

impl LabError {
    /// An error of a file operation; `step` is a verb.
    pub(crate) fn io(step: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { step, path: path.to_owned(), source }
    }
}
