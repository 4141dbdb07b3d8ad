//! `sdnctl lab` itself: it leaves nothing behind, whatever happens to it, and says what is wrong before it makes
//! anything.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tests::{binary, both, daemon, run, until};

const SOON: Duration = Duration::from_secs(20);

/// A lab's name that is no other test's. What is left under it goes away with this.
struct Name(String);

impl Name {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Self(format!("l{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)))
    }

    fn lab<S: AsRef<OsStr>>(&self, arguments: &[S]) -> anyhow::Result<Command> {
        let mut command = Command::new(binary("sdnctl")?);
        command.args(["lab", "--name", &self.0]).args(arguments);
        Ok(command)
    }

    fn output(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        Ok(self.lab(arguments)?.output()?)
    }

    /// Standard error of a command that must end with this status.
    fn refused(&self, arguments: &[&str], status: i32) -> anyhow::Result<String> {
        let output = self.output(arguments)?;
        ensure!(
            output.status.code() == Some(status),
            "{arguments:?} ended with {}\n{}",
            output.status,
            both(&output)
        );
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn up(&self) -> anyhow::Result<()> {
        run(&mut self.lab(&["up", "--bare"])?).map(drop)
    }

    fn status(&self) -> anyhow::Result<Value> {
        Ok(serde_json::from_slice(&self.output(&["status", "-o", "json"])?.stdout)?)
    }

    fn dir(&self) -> PathBuf {
        Path::new("/run/osdn-lab").join(&self.0)
    }

    /// The names of the lab's namespaces as `ip netns` lists them.
    fn namespaces(&self) -> anyhow::Result<Vec<String>> {
        let list = run(Command::new("ip").args(["netns", "list"]))?;
        let names = list.lines().filter_map(|line| line.split_whitespace().next());
        let own = |name: &&str| name.strip_prefix(&self.0).is_some_and(|rest| rest.starts_with(['-', '.']));
        Ok(names.filter(own).map(str::to_owned).collect())
    }

    /// Processes that were started with a path of the lab.
    fn processes(&self) -> anyhow::Result<Vec<String>> {
        let dir = format!("{}/", self.dir().display());
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let line = fs::read(entry?.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if line.contains(&dir) {
                found.push(line);
            }
        }
        Ok(found)
    }

    fn assert_nothing_left(&self) -> anyhow::Result<()> {
        let (namespaces, processes) = (self.namespaces()?, self.processes()?);
        ensure!(namespaces.is_empty(), "left: {namespaces:?}");
        ensure!(processes.is_empty(), "left: {processes:?}");
        ensure!(!self.dir().exists(), "left: {}", self.dir().display());
        Ok(())
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        match self.output(&["down"]) {
            Ok(output) if output.status.success() => {}
            other => eprintln!("lab {} could not be removed: {other:?}", self.0),
        }
    }
}

#[test]
fn down_leaves_nothing() -> anyhow::Result<()> {
    let lab = Name::new();
    lab.up()?;
    let mut namespaces = lab.namespaces()?;
    namespaces.sort();
    let expected = ["node1", "node2", "underlay"].map(|place| format!("{}-{place}", lab.0));
    assert_eq!(namespaces, expected);
    assert_eq!(lab.processes()?.len(), 4);
    assert_eq!(lab.status()?["ready"], true);

    run(&mut lab.lab(&["down"])?)?;
    lab.assert_nothing_left()?;
    let again = run(&mut lab.lab(&["down"])?)?;
    assert!(again.contains("nothing to remove"), "{again}");
    Ok(())
}

#[test]
fn a_second_lab_of_the_same_name_is_refused() -> anyhow::Result<()> {
    let lab = Name::new();
    lab.up()?;
    let before = lab.status()?;
    let error = lab.refused(&["up", "--bare"], 3)?;
    assert!(error.contains("already") && error.contains("sdnctl lab down --name"), "{error}");
    assert_eq!(lab.status()?, before);
    Ok(())
}

#[test]
fn a_namespace_of_somebody_else_stays() -> anyhow::Result<()> {
    let lab = Name::new();
    let netns = format!("{}-node2", lab.0);
    run(Command::new("ip").args(["netns", "add", &netns]))?;
    let refused = lab.refused(&["up", "--bare"], 3);
    let kept = lab.namespaces()?;
    run(Command::new("ip").args(["netns", "delete", &netns]))?;
    let refused = refused?;
    assert!(refused.contains(&netns) && refused.contains("ip netns delete"), "{refused}");
    assert_eq!(kept, [netns]);
    lab.assert_nothing_left()
}

/// Starts `lab up` and waits until it has made its first namespace.
fn up_on_its_way(lab: &Name) -> anyhow::Result<Child> {
    // Many nodes, so that it is still at work when it is stopped.
    let up = lab.lab(&["up", "--bare", "--nodes", "8"])?.stderr(Stdio::piped()).spawn()?;
    until(SOON, || {
        ensure!(!lab.namespaces()?.is_empty(), "no namespace yet");
        Ok(())
    })?;
    Ok(up)
}

fn send(child: &Child, signal: Signal) -> anyhow::Result<()> {
    Ok(kill(Pid::from_raw(i32::try_from(child.id())?), signal)?)
}

#[test]
fn an_up_that_is_interrupted_removes_what_it_made() -> anyhow::Result<()> {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let lab = Name::new();
        let up = up_on_its_way(&lab)?;
        send(&up, signal)?;
        let output = up.wait_with_output()?;
        assert_eq!(output.status.code(), Some(3), "{signal}: {}", both(&output));
        assert!(both(&output).contains("interrupted"), "{signal}: {}", both(&output));
        lab.assert_nothing_left()?;
    }
    Ok(())
}

#[test]
fn down_removes_what_a_killed_up_has_made() -> anyhow::Result<()> {
    let lab = Name::new();
    let mut up = up_on_its_way(&lab)?;
    let meanwhile = lab.refused(&["down"], 3)?;
    assert!(meanwhile.contains("is still making lab"), "{meanwhile}");
    send(&up, Signal::SIGKILL)?;
    up.wait()?;
    run(&mut lab.lab(&["down"])?)?;
    lab.assert_nothing_left()
}

#[test]
fn down_works_when_half_of_it_is_gone() -> anyhow::Result<()> {
    let lab = Name::new();
    lab.up()?;
    let status = lab.status()?;
    kill(daemon(&status, "node1", "ovs-vswitchd")?, Signal::SIGKILL)?;
    kill(daemon(&status, "node2", "ovsdb-server")?, Signal::SIGKILL)?;
    fs::remove_dir_all(lab.dir().join("nodes/node2"))?;
    run(Command::new("ip").args(["netns", "delete", &format!("{}-node1", lab.0)]))?;
    run(&mut lab.lab(&["down"])?)?;
    lab.assert_nothing_left()
}

#[test]
fn down_ends_what_the_user_started_inside() -> anyhow::Result<()> {
    let lab = Name::new();
    lab.up()?;
    let mut sleeper = lab.lab(&["exec", "node/node1", "--", "sleep", "600"])?.spawn()?;
    let inside = format!("/run/netns/{}-node1", lab.0);
    let namespace = fs::metadata(&inside).map(|file| std::os::unix::fs::MetadataExt::ino(&file))?;
    until(SOON, || {
        let own = fs::metadata(format!("/proc/{}/ns/net", sleeper.id()))?;
        ensure!(std::os::unix::fs::MetadataExt::ino(&own) == namespace, "not inside yet");
        Ok(())
    })?;
    run(&mut lab.lab(&["down"])?)?;
    assert!(!sleeper.wait()?.success());
    lab.assert_nothing_left()
}

#[test]
fn status_tells_what_does_not_run_and_start_brings_it_back() -> anyhow::Result<()> {
    let lab = Name::new();
    lab.up()?;
    let pid = daemon(&lab.status()?, "node1", "ovs-vswitchd")?;
    kill(pid, Signal::SIGKILL)?;
    let status = until(SOON, || {
        let output = lab.output(&["status", "-o", "json"])?;
        ensure!(output.status.code() == Some(1), "status ended with {}", output.status);
        Ok(serde_json::from_slice::<Value>(&output.stdout)?)
    })?;
    assert_eq!(status["ready"], false);
    assert_eq!(status["reasons"], serde_json::json!(["node node1: ovs-vswitchd does not run"]));
    run(&mut lab.lab(&["start", "node1", "ovs-vswitchd"])?)?;
    assert_eq!(lab.status()?["ready"], true);
    let running = lab.refused(&["start", "node1", "ovs-vswitchd"], 3)?;
    assert!(running.contains("runs already"), "{running}");
    run(&mut lab.lab(&["exec", "node/node1", "--", "ping", "-c", "3", "-i", "0.2", "192.168.108.102"])?)?;
    Ok(())
}

#[test]
fn commands_run_inside_as_if_typed_there() -> anyhow::Result<()> {
    let lab = Name::new();
    lab.up()?;
    let exit = lab.output(&["exec", "node/node1", "--", "sh", "-c", "exit 42"])?;
    assert_eq!(exit.status.code(), Some(42));
    let mut cat = lab.lab(&["exec", "underlay", "--", "cat"])?;
    let mut cat = cat.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    cat.stdin.take().context("no pipe")?.write_all(b"through")?;
    assert_eq!(cat.wait_with_output()?.stdout, b"through");
    let links = run(&mut lab.lab(&["exec", "node/node1", "--", "ls", "/sys/class/net"])?)?;
    assert!(links.contains("br-phy") && links.contains("uplink"), "{links}");

    let bridges = run(&mut lab.lab(&["ovs", "node2", "--", "ovs-vsctl", "list-br"])?)?;
    assert_eq!(bridges, "br-phy\n");
    run(&mut lab.lab(&["ovs", "node2", "--", "ovs-appctl", "version"])?)?;

    let missing = lab.refused(&["exec", "node/node1", "--", "no-such-program"], 3)?;
    assert!(missing.contains("no-such-program"), "{missing}");
    let node = lab.refused(&["ovs", "node9", "--", "true"], 3)?;
    assert!(node.contains("node9") && node.contains("node1, node2"), "{node}");
    let pod = lab.refused(&["exec", "default/web", "--", "true"], 3)?;
    assert!(pod.contains("no pod default/web"), "{pod}");
    lab.refused(&["exec", "nowhere", "--", "true"], 2)?;
    Ok(())
}

#[test]
fn two_labs_do_not_meet() -> anyhow::Result<()> {
    let (one, two) = (Name::new(), Name::new());
    one.up()?;
    two.up()?;
    run(&mut one.lab(&["down"])?)?;
    one.assert_nothing_left()?;
    assert_eq!(two.status()?["ready"], true);
    Ok(())
}

const NETWORK: &str = "\
apiVersion: network.openshift.io/v1
kind: ClusterNetwork
metadata:
  name: default
network: 10.128.0.0/14
hostsubnetlength: 9
serviceNetwork: 172.30.0.0/16
pluginName: redhat/openshift-ovs-subnet
clusterNetworks:
- CIDR: 10.128.0.0/14
  hostSubnetLength: 9
";

fn node(ip: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Node\nmetadata:\n  name: n1\nstatus:\n  addresses:\n  \
         - type: InternalIP\n    address: {ip}\n"
    )
}

/// What `lab up` says of a cluster that it must refuse, before it makes anything.
fn verdict(cluster: &str, more: &[&str]) -> anyhow::Result<String> {
    let directory = tempfile::tempdir()?;
    fs::write(directory.path().join("cluster.yaml"), cluster)?;
    let lab = Name::new();
    let path = directory.path().to_str().context("a path that is no text")?;
    let error = lab.refused(&[&["up", "--bare", "--cluster", path], more].concat(), 3)?;
    lab.assert_nothing_left()?;
    Ok(error)
}

#[test]
fn bad_clusters_are_refused_with_the_reason() -> anyhow::Result<()> {
    let good = node("192.168.108.111");
    let says = |cluster: String, words: &[&str]| -> anyhow::Result<()> {
        let error = verdict(&cluster, &[])?;
        match words.iter().find(|word| !error.contains(**word)) {
            Some(word) => bail!("{word:?} is missing in: {error}"),
            None => Ok(()),
        }
    };
    says(format!("{NETWORK}---\nkind: [Node\n"), &["cluster.yaml"])?;
    says(
        format!("{NETWORK}{}", good.replace("address: 192", "address: [7] # 192")),
        &["cluster.yaml", "document 2", "addresses[0].address"],
    )?;
    says(
        format!("{}{good}", NETWORK.replace("ovs-subnet", "ovs-magic")),
        &["ovs-magic", "redhat/openshift-ovs-subnet"],
    )?;
    says(
        format!("{}{good}", NETWORK.replace("172.30.0.0/16", "10.130.0.0/16")),
        &["10.130.0.0/16", "overlap"],
    )?;
    says(format!("{NETWORK}{}", node("10.129.0.7")), &["n1", "10.129.0.7", "10.128.0.0/14"])?;
    says(NETWORK.to_owned(), &["no Node"])?;
    says(good.clone(), &["no ClusterNetwork"])?;
    says(format!("{}{good}", NETWORK.replace("ovs-subnet", "ovs-networkpolicy")), &["not supported yet"])?;
    let unsupported = verdict(&format!("{NETWORK}{good}"), &["--plugin", "networkpolicy"])?;
    assert!(unsupported.contains("not supported yet"), "{unsupported}");
    Ok(())
}

#[test]
fn the_files_of_the_user_stay_as_they_are() -> anyhow::Result<()> {
    let lab = Name::new();
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("cluster.yaml");
    let text = format!("# mine\n{NETWORK}{}", node("192.168.108.111"));
    fs::write(&file, &text)?;
    let path = directory.path().to_str().context("a path that is no text")?;
    run(&mut lab.lab(&["up", "--cluster", path, "--plugin", "multitenant"])?)?;
    run(&mut lab.lab(&["pod", "add", "blue/web", "--node", "n1", "--label", "app=web"])?)?;
    let status = lab.status()?;
    assert_eq!(status["ready"], true, "{status:#}");
    assert_eq!(status["plugin"], "redhat/openshift-ovs-multitenant");
    assert_eq!(status["pods"][0]["name"], "web");
    assert_eq!(status["pods"][0]["ofport"], 3);
    assert_eq!(fs::read_to_string(&file)?, text);
    assert_eq!(fs::read_dir(directory.path())?.count(), 1);

    run(&mut lab.lab(&["exec", "blue/web", "--", "ping", "-c", "1", "-W", "2", "203.0.113.1"])?)?;
    let twice = lab.refused(&["pod", "add", "blue/web", "--node", "n1"], 3)?;
    assert!(twice.contains("already"), "{twice}");
    run(&mut lab.lab(&["pod", "delete", "blue/web"])?)?;
    assert_eq!(lab.status()?["pods"], serde_json::json!([]));
    let gone = lab.refused(&["pod", "delete", "blue/web"], 3)?;
    assert!(gone.contains("no pod blue/web"), "{gone}");
    run(&mut lab.lab(&["down"])?)?;
    lab.assert_nothing_left()
}

#[test]
fn the_matrix_tells_what_is_not_as_it_should_be() -> anyhow::Result<()> {
    let lab = Name::new();
    run(&mut lab.lab(&["up", "--plugin", "multitenant"])?)?;
    for (pod, node) in [("blue/a", "node1"), ("blue/b", "node2"), ("red/a", "node2")] {
        run(&mut lab.lab(&["pod", "add", pod, "--node", node])?)?;
    }
    let matrix: Value = serde_json::from_str(&run(&mut lab.lab(&["matrix", "-o", "json"])?)?)?;
    assert_eq!(matrix["ok"], true, "{matrix:#}");
    let ways = matrix["ways"].as_array().context("no ways")?;
    let apart = ways.iter().filter(|way| way["expected"] == false).count();
    assert_eq!(apart, 4, "red and blue, two of blue, both ways: {matrix:#}");

    run(&mut lab.lab(&["exec", "red/a", "--", "ip", "link", "set", "eth0", "down"])?)?;
    let output = lab.output(&["matrix"])?;
    assert_eq!(output.status.code(), Some(1), "{}", both(&output));
    assert!(both(&output).contains("should be reached; ping no, TCP no"), "{}", both(&output));
    Ok(())
}

#[test]
fn the_demo_passes_and_leaves_nothing() -> anyhow::Result<()> {
    let lab = Name::new();
    let shown = run(&mut lab.lab(&["demo"])?)?;
    assert_eq!(shown.matches("all as it should be").count(), 2, "{shown}");
    assert_eq!(shown.matches("✓ as documented, and as the switch's own trace says").count(), 6, "{shown}");
    assert!(shown.contains("Demo passed"), "{shown}");
    lab.assert_nothing_left()
}

#[test]
fn wrong_use_is_told_from_failure() -> anyhow::Result<()> {
    let lab = Name::new();
    lab.refused(&["up", "--plugin", "magic"], 2)?;
    lab.refused(&["up", "--nodes", "0"], 2)?;
    lab.refused(&["up", "--cluster", "/nowhere", "--nodes", "3"], 2)?;
    lab.refused(&["pod", "add", "web", "--node", "node1"], 2)?;
    let missing = lab.refused(&["up", "--cluster", "/nowhere"], 3)?;
    assert!(missing.contains("/nowhere"), "{missing}");
    let none = lab.refused(&["status"], 3)?;
    assert!(none.contains("sdnctl lab up --name"), "{none}");
    let name = Command::new(binary("sdnctl")?).args(["lab", "--name", "Not_A_Name", "down"]).output()?;
    assert_eq!(name.status.code(), Some(2), "{}", both(&name));
    Ok(())
}

#[test]
fn a_missing_open_vswitch_is_named_with_the_way_to_get_it() -> anyhow::Result<()> {
    // A mount namespace in which the directory of the programs hides ovs-vswitchd.
    let lab = Name::new();
    let sdnctl = binary("sdnctl")?;
    let script = "mount --bind /dev/null \"$(command -v ovs-vswitchd)\" && exec \"$@\"";
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(sdnctl)
        .args(["lab", "up", "--bare", "--name", &lab.0])
        .output()?;
    assert_eq!(output.status.code(), Some(3), "{}", both(&output));
    assert!(
        both(&output).contains("ovs-vswitchd") && both(&output).contains("make deps"),
        "{}",
        both(&output)
    );
    lab.assert_nothing_left()
}
