//! `sdn-controller` at work, as its own account: subnets and VNIDs come, stay and go, whoever is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tests::kube::{Caller, ControlPlane};
use tests::{binary, until};

use super::Test;

pub(crate) const TESTS: &[Test] = &[
    ("allocation::nodes_and_namespaces", nodes_and_namespaces),
    ("allocation::a_leader_is_killed", a_leader_is_killed),
];

pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// The network that most tests work in.
pub(crate) const NETWORK: &str = "\
apiVersion: network.openshift.io/v1
kind: ClusterNetwork
metadata: {name: default}
network: 10.128.0.0/14
hostsubnetlength: 9
clusterNetworks: [{CIDR: 10.128.0.0/14, hostSubnetLength: 9}]
serviceNetwork: 172.30.0.0/16
pluginName: redhat/openshift-ovs-multitenant
";

/// A controller that ends with the test.
pub(crate) struct Controller(Child);

impl Controller {
    pub(crate) fn start(plane: &ControlPlane, identity: &str) -> anyhow::Result<Self> {
        let account = Caller::ServiceAccount("openshift-sdn", "sdn-controller");
        let child = Command::new(binary("sdn-controller")?)
            .args([
                "--cluster",
                "kube",
                "--identity",
                identity,
                "--lease-seconds",
                "5",
                "--log",
                "controller=info",
            ])
            .env("KUBECONFIG", plane.kubeconfig(account)?)
            .stderr(Stdio::from(std::fs::File::create(plane.path(&format!("{identity}.log")))?))
            .spawn()?;
        Ok(Self(child))
    }

    pub(crate) fn process(&self) -> &Child {
        &self.0
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        kill(Pid::from_raw(i32::try_from(self.0.id())?), Signal::SIGTERM)?;
        let status = self.0.wait()?;
        ensure!(status.success(), "{status}");
        Ok(())
    }

    /// Ends it as a power failure would.
    pub(crate) fn kill(mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A Node with an address in its status, as a kubelet would write it.
pub(crate) fn add_nodes(plane: &ControlPlane, nodes: &[(String, String)]) -> anyhow::Result<()> {
    let list = |with_status: bool| {
        let documents = nodes.iter().map(|(name, ip)| {
            let status = if with_status {
                format!("status: {{addresses: [{{type: InternalIP, address: {ip}}}]}}\n")
            } else {
                String::new()
            };
            format!("apiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\n{status}")
        });
        documents.collect::<Vec<_>>().join("---\n")
    };
    plane.feed(&["create", "-f", "-"], &list(false))?;
    plane.feed(&["replace", "--subresource=status", "-f", "-"], &list(true))?;
    Ok(())
}

/// A field of every object of a kind, by name.
pub(crate) fn fields(
    plane: &ControlPlane,
    kind: &str,
    field: &str,
) -> anyhow::Result<BTreeMap<String, Value>> {
    let list = plane.json(&["get", kind])?;
    let items = list["items"].as_array().context("no items")?;
    let name = |item: &Value| item["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    Ok(items.iter().map(|item| (name(item), item[field].clone())).collect())
}

fn nodes_and_namespaces(plane: &ControlPlane) -> anyhow::Result<()> {
    plane.apply(NETWORK)?;
    let _controller = Controller::start(plane, "one")?;
    add_nodes(plane, &[("n1".into(), "192.168.1.1".into()), ("n2".into(), "192.168.1.2".into())])?;
    plane.ask(&["create", "namespace", "shop"])?;
    until(DEADLINE, || {
        let subnets = fields(plane, "hostsubnets", "subnet")?;
        ensure!(subnets.contains_key("n1") && subnets.contains_key("n2"), "{subnets:?}");
        let vnids = fields(plane, "netnamespaces", "netid")?;
        ensure!(vnids.get("default").is_some_and(|vnid| vnid == 0), "{vnids:?}");
        ensure!(vnids.get("shop").and_then(Value::as_u64).is_some_and(|vnid| vnid >= 10), "{vnids:?}");
        Ok(())
    })?;
    let columns = plane.ask(&["get", "hostsubnets", "n1", "--no-headers"])?;
    let columns: Vec<_> = columns.split_whitespace().collect();
    ensure!(columns[..3] == ["n1", "n1", "192.168.1.1"], "{columns:?}");

    // A Node whose address changes keeps its subnet; one that goes gives it back.
    let before = fields(plane, "hostsubnets", "subnet")?;
    plane.feed(
        &["replace", "--subresource=status", "-f", "-"],
        "apiVersion: v1\nkind: Node\nmetadata: {name: n1}\nstatus: {addresses: [{type: InternalIP, address: 192.168.1.9}]}\n",
    )?;
    plane.ask(&["delete", "node", "n2"])?;
    until(DEADLINE, || {
        let ips = fields(plane, "hostsubnets", "hostIP")?;
        ensure!(ips.get("n1").is_some_and(|ip| ip == "192.168.1.9") && !ips.contains_key("n2"), "{ips:?}");
        Ok(())
    })?;
    ensure!(fields(plane, "hostsubnets", "subnet")?.get("n1") == before.get("n1"));

    // What stands in the way is said at the object.
    add_nodes(plane, &[("n3".into(), "10.128.0.7".into())])?;
    until(DEADLINE, || {
        let events = plane.ask(&["get", "events", "-A", "--field-selector=reason=NodeIPConflict"])?;
        ensure!(events.contains("node IP 10.128.0.7 conflicts with cluster network"), "{events}");
        Ok(())
    })?;
    plane.ask(&["delete", "node", "n1", "n3"])?;
    Ok(())
}

fn a_leader_is_killed(plane: &ControlPlane) -> anyhow::Result<()> {
    plane.apply(NETWORK)?;
    let (first, second) = (Controller::start(plane, "first")?, Controller::start(plane, "second")?);
    let nodes: Vec<_> = (0..200).map(|n| (format!("m{n}"), format!("192.168.2.{n}"))).collect();
    let namespaces: Vec<_> =
        (0..400).map(|n| format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: t{n}}}\n")).collect();
    let holder = || {
        plane.ask(&[
            "get",
            "lease",
            "-n",
            "openshift-sdn",
            "sdn-controller",
            "-o",
            "jsonpath={.spec.holderIdentity}",
        ])
    };
    let leader = until(DEADLINE, || {
        let holder = holder()?;
        ensure!(!holder.is_empty(), "nobody leads");
        Ok(holder)
    })?;
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let work = scope.spawn(|| -> anyhow::Result<()> {
            add_nodes(plane, &nodes)?;
            plane.feed(&["create", "-f", "-"], &namespaces.join("---\n"))?;
            Ok(())
        });
        until(DEADLINE, || {
            ensure!(fields(plane, "hostsubnets", "subnet")?.len() > 10, "nothing is allocated yet");
            Ok(())
        })?;
        let (victim, _survivor) = if leader == "first" { (first, second) } else { (second, first) };
        victim.kill();
        let killed = Instant::now();
        work.join().map_err(|_| anyhow::anyhow!("the creation of objects panicked"))??;
        until(DEADLINE, || {
            let subnets = fields(plane, "hostsubnets", "subnet")?;
            let vnids = fields(plane, "netnamespaces", "netid")?;
            ensure!(nodes.iter().all(|(name, _)| subnets.contains_key(name)), "{} subnets", subnets.len());
            ensure!((0..400).all(|n| vnids.contains_key(&format!("t{n}"))), "{} VNIDs", vnids.len());
            Ok(())
        })?;
        println!("all allocated {} ms after the leader was killed", killed.elapsed().as_millis());
        Ok(())
    })?;
    for (kind, field) in [("hostsubnets", "subnet"), ("netnamespaces", "netid")] {
        let values = fields(plane, kind, field)?;
        let different: BTreeSet<_> =
            values.values().filter(|value| **value != 0).map(Value::to_string).collect();
        let given = values.values().filter(|value| **value != 0).count();
        ensure!(different.len() == given, "a {field} was given twice: {values:?}");
    }
    let names: Vec<_> = nodes.iter().map(|(name, _)| name.as_str()).collect();
    plane.ask(&[&["delete", "node", "--wait=false"], names.as_slice()].concat())?;
    Ok(())
}
