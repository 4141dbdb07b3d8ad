//! What gets in the agent's way: a lease directory that can't be written, a socket that can't be opened, a container runtime
//! that hangs, or that asks for the opposite of what it has just asked for.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use controller::node::netns::{NetNs, run_in};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::json;
use tests::cni::{Sandbox, error_of, leases, nothing_is_left, socket};
use tests::http::{ADMIN, get, metric};
use tests::{Lab, Paused, both, daemon, until};

const SOON: Duration = Duration::from_secs(10);

fn one_node(pods: usize) -> anyhow::Result<(Lab, PathBuf, Vec<Sandbox>)> {
    let lab = Lab::up(&["--nodes", "1"])?;
    let agent = socket(&lab)?;
    let pods = (0..pods).map(|n| Sandbox::new(&lab, n)).collect::<anyhow::Result<Vec<_>>>()?;
    Ok((lab, agent, pods))
}

fn lease_dir(lab: &Lab) -> anyhow::Result<PathBuf> {
    Ok(lab.ovs_dir("node1")?.join("../leases/openshift-sdn").canonicalize()?)
}

fn status_of(pod: &Sandbox, agent: &Path) -> anyhow::Result<Output> {
    pod.call_with("STATUS", &json!({ "cniVersion": "1.1.0", "socket": agent }), |_| {})
}

/// A runtime that gives an ADD up asks for DEL. Of both, asked while the agent stood still, the ADD may come second.
#[test]
fn an_add_that_was_given_up_is_not_made_after_its_del() -> anyhow::Result<()> {
    let (lab, agent, pods) = one_node(10)?;
    let node = lab.netns("node/node1")?;
    let stands_still = Paused::new(daemon(&lab.status()?, "node1", "sdn-node")?)?;
    let hasty = json!({ "cniVersion": "1.0.0", "socket": agent, "timeout": 1 });
    thread::scope(|scope| {
        let (hasty, agent) = (&hasty, &agent);
        let adds: Vec<_> =
            pods.iter().map(|pod| scope.spawn(move || pod.call_with("ADD", hasty, |_| {}))).collect();
        for add in adds {
            let (code, text) = error_of(&add.join().map_err(|_| anyhow!("ADD"))??)?;
            ensure!(code == 11, "{code} {text}");
        }
        let dels: Vec<_> = pods.iter().map(|pod| scope.spawn(move || pod.succeed("DEL", agent))).collect();
        // They have asked by then.
        thread::sleep(Duration::from_millis(300));
        drop(stands_still);
        dels.into_iter().try_for_each(|del| del.join().map_err(|_| anyhow!("DEL"))?.map(drop))
    })?;
    until(SOON, || {
        let failed = metric(&node, "sdn_cni_requests_total{command=\"ADD\",result=\"failure\"}")?;
        ensure!(failed == 10.0, "{failed} of 10 ADDs refused");
        Ok(())
    })?;
    nothing_is_left(&lab)
}

/// What is mounted over a directory until this is dropped.
struct Mounted(PathBuf);

impl Mounted {
    /// The directory as it is, to be read only.
    fn read_only(path: &Path) -> anyhow::Result<Self> {
        let none = None::<&str>;
        mount(Some(path), path, none, MsFlags::MS_BIND, none)?;
        let mounted = Self(path.to_owned());
        mount(none, path, none, MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, none)?;
        Ok(mounted)
    }

    /// A disk that has no room.
    fn full(path: &Path) -> anyhow::Result<Self> {
        mount(Some("full"), path, Some("tmpfs"), MsFlags::empty(), Some("size=4k"))?;
        let mounted = Self(path.to_owned());
        fs::write(path.join("ballast"), [0; 4096])?;
        Ok(mounted)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = umount2(&self.0, MntFlags::MNT_DETACH) {
            eprintln!("{} stays mounted: {error}", self.0.display());
        }
    }
}

#[test]
fn leases_that_cannot_be_written_are_told_and_tried_again() -> anyhow::Result<()> {
    let (lab, agent, pods) = one_node(1)?;
    let (node, dir, pod) = (lab.netns("node/node1")?, lease_dir(&lab)?, &pods[0]);
    for (is_full, what) in [(false, "Read-only file system"), (true, "No space left on device")] {
        let mounted = if is_full { Mounted::full(&dir)? } else { Mounted::read_only(&dir)? };
        let (code, text) = error_of(&pod.call("ADD", &agent, |_| {})?)?;
        ensure!(code == 11 && text.contains("address: ") && text.contains(what), "{code} {text}");
        until(SOON, || {
            let (code, text) = error_of(&status_of(pod, &agent)?)?;
            ensure!(code == 50 && text.contains("leases: ") && text.contains(what), "{code} {text}");
            let (code, text) = get(&node, ADMIN, "/readyz")?;
            ensure!(code == 503 && text.contains("[-] leases") && text.contains(what), "{code} {text}");
            Ok(())
        })?;
        drop(mounted);
        until(SOON, || {
            let status = status_of(pod, &agent)?;
            ensure!(status.status.success(), "{}", both(&status));
            let (code, text) = get(&node, ADMIN, "/readyz")?;
            ensure!(code == 200, "{code} {text}");
            Ok(())
        })?;
    }
    pod.succeed("ADD", &agent)?;
    pod.succeed("DEL", &agent)?;
    nothing_is_left(&lab)
}

#[test]
fn a_lease_directory_removed_while_pods_are_added_gives_no_address_twice() -> anyhow::Result<()> {
    let (lab, agent, pods) = one_node(24)?;
    let (dir, done) = (lease_dir(&lab)?, AtomicBool::new(false));
    std::thread::scope(|scope| {
        let removing = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                // Whatever is made in it meanwhile.
                let _ = fs::remove_dir_all(&dir);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let adding: Vec<_> = pods.iter().map(|pod| scope.spawn(|| pod.call("ADD", &agent, |_| {}))).collect();
        let added: Vec<_> = adding.into_iter().map(ScopedJoinHandle::join).collect();
        done.store(true, Ordering::Relaxed);
        removing.join().map_err(|_| anyhow!("a thread panicked"))?;
        for output in added {
            let output = output.map_err(|_| anyhow!("a thread panicked"))??;
            if !output.status.success() {
                let (code, text) = error_of(&output)?;
                ensure!(code == 11 && text.contains("address: "), "{code} {text}");
            }
        }
        anyhow::Ok(())
    })?;
    for pod in &pods {
        pod.succeed("ADD", &agent)?;
    }
    let log = fs::read_to_string(lab.ovs_dir("node1")?.join("../sdn-node.log"))?;
    ensure!(!log.contains("has the same address"), "{log}");
    // Those of pods that were there before a removal are written again within half a minute.
    until(Duration::from_secs(40), || {
        ensure!(leases(&lab)?.len() == pods.len(), "{} leases", leases(&lab)?.len());
        Ok(())
    })?;
    for pod in &pods {
        pod.succeed("CHECK", &agent)?;
        pod.succeed("DEL", &agent)?;
    }
    nothing_is_left(&lab)
}

#[test]
fn a_lease_that_names_another_pod_is_given_back() -> anyhow::Result<()> {
    let (lab, agent, pods) = one_node(2)?;
    for pod in &pods {
        pod.succeed("ADD", &agent)?;
    }
    fs::write(lease_dir(&lab)?.join("10.128.0.2"), &pods[1].container_id)?;
    lab.kill("node1", "sdn-node")?;
    lab.start("node1", "sdn-node")?;
    for pod in &pods {
        until(SOON, || pod.succeed("CHECK", &agent))?;
        pod.succeed("DEL", &agent)?;
    }
    nothing_is_left(&lab)
}

#[test]
fn a_socket_that_cannot_be_opened_is_told() -> anyhow::Result<()> {
    let (lab, agent, pods) = one_node(1)?;
    let node = lab.netns("node/node1")?;
    let other = agent.with_extension("other");
    fs::create_dir(&other)?;
    renameat2(AT_FDCWD, &other, AT_FDCWD, &agent, RenameFlags::RENAME_EXCHANGE)?;
    fs::remove_file(&other)?;
    until(SOON, || {
        let (code, text) = get(&node, ADMIN, "/readyz")?;
        ensure!(code == 503 && text.contains("[-] cni"), "{code} {text}");
        Ok(())
    })?;
    fs::remove_dir(&agent)?;
    until(SOON, || {
        let (code, text) = get(&node, ADMIN, "/readyz")?;
        ensure!(code == 200, "{code} {text}");
        Ok(())
    })?;
    let status = status_of(&pods[0], &agent)?;
    ensure!(status.status.success(), "{}", both(&status));
    Ok(())
}

/// An agent with other options than the lab gives it, until this is dropped.
struct Other(Child);

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

#[test]
fn a_runtime_that_hangs_keeps_nothing_from_repair() -> anyhow::Result<()> {
    let (lab, agent, pods) = one_node(2)?;
    for pod in &pods {
        pod.succeed("ADD", &agent)?;
    }
    let node = lab.netns("node/node1")?;
    let runtime = lab.ovs_dir("node1")?.join("../runtime.sock");
    let listener = UnixListener::bind(&runtime)?;
    let pid = daemon(&lab.status()?, "node1", "sdn-node")?;
    let command = fs::read_to_string(format!("/proc/{pid}/cmdline"))?;
    let mut words = command.split_terminator('\0');
    let mut other = Command::new(words.next().context("no program")?);
    other.args(words).arg("--cri-socket").arg(&runtime).stdout(Stdio::null()).stderr(Stdio::null());
    lab.kill("node1", "sdn-node")?;
    let other = Other(run_in(&NetNs::open(&node)?, || other.spawn())??);
    until(SOON, || {
        let (code, text) = get(&node, ADMIN, "/readyz")?;
        ensure!(code == 200, "{code} {text}");
        Ok(())
    })?;
    // The agent has asked; nobody answers.
    listener.set_nonblocking(true)?;
    let _asked = until(Duration::from_secs(60), || Ok(listener.accept()?))?;
    let ports = || {
        let list = [
            "ovs-vsctl",
            "--no-headings",
            "--columns=name",
            "find",
            "Interface",
            "external_ids:sandbox!=\"\"",
        ];
        lab.ovs("node1", &list)
    };
    let port = ports()?.lines().next().context("no port")?.trim_matches('"').to_owned();
    lab.ovs("node1", &["ovs-vsctl", "del-port", "br0", &port])?;
    until(SOON, || {
        ensure!(ports()?.contains(&port), "{port} is not there again");
        Ok(())
    })?;
    drop(other);
    lab.start("node1", "sdn-node")?;
    for pod in &pods {
        pod.succeed("DEL", &agent)?;
    }
    nothing_is_left(&lab)
}
