//! What the tests that cross crates share: the project's binaries, and labs that go away with the test.
//!
//! Nothing is skipped: a missing prerequisite fails the test and names the command that installs it.

#![allow(clippy::indexing_slicing, reason = "a test may stop at the first surprise")]

pub mod cni;
pub mod dns;
pub mod frames;
pub mod http;
pub mod kube;
pub mod random;
pub mod switch;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// One of the project's binaries, beside the running test.
///
/// # Errors
/// When it has not been built.
pub fn binary(name: &str) -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe()?;
    // target/PROFILE/deps/TEST
    let profile = test.parent().and_then(|deps| deps.parent()).context("the test runs outside of target/")?;
    let path = profile.join(name);
    if !path.exists() {
        bail!("{} has not been built: run `make build`", path.display());
    }
    Ok(path)
}

/// The root of the checkout.
#[must_use]
pub fn checkout() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().map(PathBuf::from).unwrap_or_default()
}

/// Runs a command; its standard output when it succeeds.
///
/// # Errors
/// When it cannot be started or ends with another status than 0; both outputs are in the text.
pub fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} ended with {}\n{}", output.status, both(&output));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Both outputs of a command, for a message.
#[must_use]
pub fn both(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Waits until `condition` holds.
///
/// # Errors
/// When it does not within `deadline`: the last thing that it said.
pub fn until<T>(deadline: Duration, mut condition: impl FnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let end = Instant::now() + deadline;
    loop {
        match condition() {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() >= end => {
                return Err(error.context(format!("not within {} ms", deadline.as_millis())));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// A running lab. Goes away with all that is in it when dropped, also when the test panics.
///
/// With `KEEP_FAILED_LAB` in the environment, one in which a test has failed stays, to be looked at.
pub struct Lab {
    name: String,
    failed: std::sync::atomic::AtomicBool,
}

impl Lab {
    /// Starts a lab under a name of its own.
    ///
    /// # Errors
    /// When `sdnctl lab up` fails.
    pub fn up(arguments: &[&str]) -> anyhow::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("t{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let lab = Self { name, failed: false.into() };
        run(lab.command(&["lab", "up"]).args(arguments))?;
        Ok(lab)
    }

    /// The cluster of `manifests/demo`.
    ///
    /// # Errors
    /// When `sdnctl lab up` fails.
    pub fn demo(plugin: &str) -> anyhow::Result<Self> {
        let manifests = checkout().join("manifests/demo");
        Self::up(&["--cluster", &manifests.to_string_lossy(), "--plugin", plugin])
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary("sdnctl").unwrap_or_else(|error| panic!("{error}")));
        // Before any `--`, behind which arguments belong to another program.
        let at = arguments.iter().position(|argument| *argument == "--").unwrap_or(arguments.len());
        let (own, others) = arguments.split_at(at);
        command.args(own).args(["--name", &self.name]).args(others);
        command
    }

    /// `sdnctl ARGUMENTS --name LAB`, to be run.
    #[must_use]
    pub fn sdnctl(&self, arguments: &[&str]) -> Command {
        self.command(arguments)
    }

    /// Output of `sdnctl ARGUMENTS --name LAB`.
    ///
    /// # Errors
    /// When its exit status is not 0.
    pub fn ask(&self, arguments: &[&str]) -> anyhow::Result<String> {
        run(&mut self.command(arguments))
    }

    /// The same as JSON.
    ///
    /// # Errors
    /// When its exit status is not 0 or it does not print JSON.
    pub fn json(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&self.ask(arguments)?)?)
    }

    /// A command to be run inside a pod (`NAMESPACE/NAME`) or node (`node/NAME`).
    #[must_use]
    pub fn inside<S: AsRef<OsStr>>(&self, place: &str, command: &[S]) -> Command {
        let mut all = self.command(&["lab", "exec", place]);
        all.arg("--").args(command);
        all
    }

    /// Output of an OVS tool run against a node's Open vSwitch.
    ///
    /// # Errors
    /// When its exit status is not 0.
    pub fn ovs(&self, node: &str, command: &[&str]) -> anyhow::Result<String> {
        let mut all = self.command(&["lab", "ovs", node]);
        run(all.arg("--").args(command))
    }

    /// The namespace of a pod (`NAMESPACE/NAME`), a node (`node/NAME`) or the `underlay`.
    ///
    /// # Errors
    /// When the lab has no such place.
    pub fn netns(&self, place: &str) -> anyhow::Result<PathBuf> {
        let name = match place.split_once('/') {
            None => format!("{}-{place}", self.name),
            Some(("node", node)) => format!("{}-{node}", self.name),
            Some((namespace, pod)) => format!("{}.{namespace}.{pod}", self.name),
        };
        let path = PathBuf::from("/run/netns").join(name);
        if !path.exists() {
            bail!("the lab has no {place}: there is no {}", path.display());
        }
        Ok(path)
    }

    /// The state of everything in it.
    ///
    /// # Errors
    /// When `sdnctl lab status` fails for another reason than that something is not ready.
    pub fn status(&self) -> anyhow::Result<Value> {
        let output = self.command(&["lab", "status", "-o", "json"]).output()?;
        serde_json::from_slice(&output.stdout).with_context(|| both(&output))
    }

    /// The run directory of a node's Open vSwitch.
    ///
    /// # Errors
    /// When the lab has no such node.
    pub fn ovs_dir(&self, node: &str) -> anyhow::Result<PathBuf> {
        let status = self.status()?;
        let path = node_of(&status, node)?["ovsDir"].as_str().context("no ovsDir in the status")?;
        Ok(PathBuf::from(path))
    }

    /// The directory of the cluster's objects, found from that of a node.
    ///
    /// # Errors
    /// When the lab has no such node.
    pub fn cluster_dir(&self, node: &str) -> anyhow::Result<PathBuf> {
        let run = self.ovs_dir(node)?;
        let directory = run.ancestors().map(|above| above.join("cluster")).find(|path| path.is_dir());
        directory.context("the lab has no cluster directory")
    }

    /// Puts an empty database of Open vSwitch in the place of a node's, whose server does not run.
    ///
    /// # Errors
    /// It can't be made.
    pub fn new_database(&self, node: &str) -> anyhow::Result<()> {
        let database = self.ovs_dir(node)?.join("conf.db");
        std::fs::remove_file(&database)?;
        let schema = "/usr/share/openvswitch/vswitch.ovsschema";
        run(Command::new("ovsdb-tool").arg("create").args([&database, Path::new(schema)])).map(|_| ())
    }

    /// Ends one of a node's programs with SIGKILL and waits until it is gone.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&self, node: &str, program: &str) -> anyhow::Result<()> {
        let pid = daemon(&self.status()?, node, program)?;
        kill(pid, Signal::SIGKILL)?;
        // The kernel takes tens of milliseconds for each packet socket of a datapath in user space.
        until(Duration::from_secs(60), || match kill(pid, None) {
            Ok(()) => bail!("{program} of {node} is still there"),
            Err(_) => Ok(()),
        })
    }

    /// Starts a program of a node that has ended.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(&self, node: &str, program: &str) -> anyhow::Result<()> {
        self.ask(&["lab", "start", node, program]).map(|_| ())
    }

    /// What the lab's programs have said, for a test that failed.
    pub fn show_logs(&self) {
        self.failed.store(true, Ordering::Relaxed);
        let Ok(status) = self.status() else { return };
        for node in status["nodes"].as_array().into_iter().flatten() {
            let Some(dir) = node["ovsDir"].as_str().and_then(|dir| Path::new(dir).parent()) else { continue };
            let log = std::fs::read_to_string(dir.join("sdn-node.log")).unwrap_or_default();
            eprintln!("--- {} sdn-node\n{log}", node["name"]);
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.failed.load(Ordering::Relaxed) && std::env::var_os("KEEP_FAILED_LAB").is_some() {
            eprintln!("lab {} is kept: look at it with --name {0}, then `sdnctl lab down`", self.name);
            return;
        }
        if let Err(error) = self.ask(&["lab", "down"]) {
            eprintln!("lab {} could not be taken down: {error:#}", self.name);
        }
    }
}

fn node_of<'a>(status: &'a Value, node: &str) -> anyhow::Result<&'a Value> {
    let nodes = status["nodes"].as_array().context("no nodes in the status")?;
    nodes.iter().find(|found| found["name"] == node).with_context(|| format!("no node {node}"))
}

/// The process of one of a node's programs.
///
/// # Errors
/// When it does not run.
pub fn daemon(status: &Value, node: &str, program: &str) -> anyhow::Result<Pid> {
    let process = &node_of(status, node)?["daemons"][program];
    let pid = process["pid"].as_i64().with_context(|| format!("{program} of {node} does not run"))?;
    Ok(Pid::from_raw(i32::try_from(pid)?))
}

/// A process that stands still until this is dropped.
pub struct Paused(Pid);

impl Paused {
    /// Stops the process.
    ///
    /// # Errors
    /// When it is gone.
    pub fn new(pid: Pid) -> anyhow::Result<Self> {
        kill(pid, Signal::SIGSTOP)?;
        Ok(Self(pid))
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        if let Err(error) = kill(self.0, Signal::SIGCONT) {
            eprintln!("process {} could not be continued: {error}", self.0);
        }
    }
}
