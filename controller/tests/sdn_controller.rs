//! The binary `sdn-controller`: exit status, texts, signals, and what a kill leaves behind.

#![expect(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use controller::cluster::dir;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_secs(60);

const NETWORK: &str = include_str!("network.yaml");

fn node(number: usize) -> String {
    format!(
        "apiVersion: v1\nkind: Node\nmetadata: {{name: n{number}}}\nstatus:\n  addresses:\n  \
         - {{type: InternalIP, address: 192.168.1.{number}}}\n"
    )
}

fn cluster(files: &[(&str, &str)]) -> TempDir {
    let dir = TempDir::new().unwrap();
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

fn sdn_controller(cluster: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sdn-controller"));
    // Several run at once.
    command.args(["--admin-address", "none", "--metrics-address", "none"]);
    command.arg("--cluster").arg(cluster).env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

/// Exit status and what was written to standard error, without the directory's name.
fn ended(output: &Output, cluster: &Path) -> (Option<i32>, String) {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    (output.status.code(), text.replace(cluster.to_str().unwrap(), "DIR"))
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !done() {
        assert!(Instant::now() < end, "not within {DEADLINE:?}: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
}

#[test]
fn once_allocates_and_ends() {
    let cluster = cluster(&[("a.yaml", NETWORK), ("b.yaml", &node(1))]);
    let output = sdn_controller(cluster.path()).args(["--once", "--log", "off"]).output().unwrap();
    assert_eq!(ended(&output, cluster.path()), (Some(0), String::new()));
    assert_eq!(dir::load(cluster.path()).unwrap().host_subnets["n1"].subnet, "10.128.0.0/23");
}

#[test]
fn what_cannot_be_done_is_told_with_status_3() {
    let overlapping = NETWORK.replace("172.30.0.0/16", "10.130.0.0/16");
    let inside = node(1).replace("192.168.1.1", "10.129.0.9");
    for (files, expected) in [
        (
            vec![("a.yaml", "a: [")],
            "sdn-controller: cluster directory DIR: a.yaml, document 1, line 1: this is no valid YAML: unclosed bracket '[' (column 4)\n",
        ),
        (
            vec![("a.yaml", overlapping.as_str())],
            "sdn-controller: cluster directory DIR: a.yaml, document 1, line 6: ClusterNetwork default: clusterNetworks[0].CIDR: \
             10.128.0.0/14 overlaps serviceNetwork 10.130.0.0/16: choose networks that share no address\n",
        ),
        (
            vec![("a.yaml", NETWORK), ("b.yaml", inside.as_str())],
            "sdn-controller: Node n1: node IP 10.129.0.9 conflicts with cluster network 10.128.0.0/14: give the node an address \
             outside it, or the cluster another network\n",
        ),
        (
            vec![],
            "sdn-controller: there is no ClusterNetwork default: create it with clusterNetworks, serviceNetwork and pluginName\n",
        ),
    ] {
        let cluster = cluster(&files);
        let output = sdn_controller(cluster.path()).args(["--once", "--log", "off"]).output().unwrap();
        assert_eq!(ended(&output, cluster.path()), (Some(3), expected.to_owned()));
    }
    // Whatever the account that runs the tests has in its home must not decide.
    let home = tempfile::tempdir().unwrap();
    let output =
        sdn_controller(Path::new("kube")).env_remove("KUBECONFIG").env("HOME", home.path()).output().unwrap();
    let (status, text) = ended(&output, Path::new("/nowhere"));
    assert_eq!(status, Some(3));
    assert!(text.starts_with("sdn-controller: no API server is configured: "), "{text}");
    assert!(text.contains("set KUBECONFIG to a kubeconfig file"), "{text}");
}

#[test]
fn wrong_use_is_status_2_and_version_names_the_build() {
    let binary = || Command::new(env!("CARGO_BIN_EXE_sdn-controller"));
    assert_eq!(binary().output().unwrap().status.code(), Some(2));
    let version = binary().arg("--version").output().unwrap();
    assert!(version.status.success());
    let text = String::from_utf8(version.stdout).unwrap();
    assert!(text.starts_with("sdn-controller 0.") && text.trim_end().ends_with(')'), "{text}");
}

#[test]
fn ends_well_on_sigterm_and_sigint() {
    let cluster = cluster(&[("a.yaml", NETWORK), ("b.yaml", &node(1))]);
    for ending in [Signal::SIGTERM, Signal::SIGINT] {
        let mut child = sdn_controller(cluster.path()).args(["--log", "off"]).spawn().unwrap();
        let file = cluster.path().join("hostsubnet-n1.yaml");
        until("the HostSubnet", || file.exists());
        signal(&child, ending);
        assert_eq!(child.wait().unwrap().code(), Some(0), "{ending}");
        fs::remove_file(file).unwrap();
    }
}

/// Killed again and again while it works, it ends up with what it would have without.
#[test]
fn a_kill_at_any_point_does_no_harm() {
    const NODES: usize = 40;
    let nodes: Vec<String> = (1..=NODES).map(node).collect();
    let cluster = cluster(&[("a.yaml", NETWORK), ("b.yaml", &nodes.join("---\n"))]);
    let count = || fs::read_dir(cluster.path()).unwrap().filter(is_host_subnet).count();
    for target in (0..NODES).step_by(7) {
        let mut child = sdn_controller(cluster.path()).args(["--log", "off"]).spawn().unwrap();
        until("some HostSubnets", || count() >= target);
        signal(&child, Signal::SIGKILL);
        child.wait().unwrap();
        dir::load(cluster.path()).unwrap();
    }
    let output = sdn_controller(cluster.path()).args(["--once", "--log", "off"]).output().unwrap();
    assert_eq!(ended(&output, cluster.path()), (Some(0), String::new()));
    let state = dir::load(cluster.path()).unwrap();
    let subnets: BTreeSet<_> = state.host_subnets.values().map(|object| object.subnet.clone()).collect();
    assert_eq!((state.host_subnets.len(), subnets.len()), (NODES, NODES));
}

fn is_host_subnet(entry: &std::io::Result<fs::DirEntry>) -> bool {
    entry.as_ref().is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("hostsubnet-"))
}
