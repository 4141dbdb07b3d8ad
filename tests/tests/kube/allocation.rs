//! `sdn-controller` at work, as its own account: subnets and VNIDs come, stay and go, whoever is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tests::http::get;
use tests::kube::{Caller, ControlPlane, free_port};
use tests::{binary, until};

use super::Test;

pub(crate) const TESTS: &[Test] = &[
    ("allocation::nodes_and_namespaces", nodes_and_namespaces),
    ("allocation::a_leader_is_killed", a_leader_is_killed),
    ("allocation::what_controllers_say_of_themselves", what_controllers_say_of_themselves),
];

pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// The network that most tests work in.
pub(crate) const NETWORK: &str = include_str!("../../../controller/tests/network.yaml");

/// A controller that ends with the test.
pub(crate) struct Controller(Child);

/// The account of the controllers.
pub(crate) const ACCOUNT: Caller<'static> = Caller::ServiceAccount("openshift-sdn", "sdn-controller");

impl Controller {
    pub(crate) fn start(plane: &ControlPlane, identity: &str) -> anyhow::Result<Self> {
        Self::start_as(plane, identity, |program| {
            let mut command = Command::new(program);
            command.env("KUBECONFIG", plane.kubeconfig(ACCOUNT)?);
            Ok(command)
        })
    }

    /// The same with a command line of which `launch` makes the beginning, and which says where the API server is.
    pub(crate) fn start_as(
        plane: &ControlPlane,
        identity: &str,
        launch: impl FnOnce(&Path) -> anyhow::Result<Command>,
    ) -> anyhow::Result<Self> {
        let mut command = launch(&binary("sdn-controller")?)?;
        command
            .args(["--cluster", "kube", "--identity", identity, "--lease-seconds", "5"])
            .args(["--log", "controller=info"])
            .stderr(Stdio::from(std::fs::File::create(plane.path(&format!("{identity}.log")))?));
        // Several run at once.
        for option in ["--admin-address", "--metrics-address"] {
            if command.get_args().all(|argument| argument != option) {
                command.args([option, "none"]);
            }
        }
        Ok(Self(command.spawn()?))
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

/// Waits until a controller leads: its name.
pub(crate) fn leader(plane: &ControlPlane) -> anyhow::Result<String> {
    const HOLDER: &str = "jsonpath={.spec.holderIdentity}";
    until(DEADLINE, || {
        let holder = plane.ask(&[
            "get",
            "lease",
            "--ignore-not-found",
            "-n",
            "openshift-sdn",
            "sdn-controller",
            "-o",
            HOLDER,
        ])?;
        ensure!(!holder.is_empty(), "nobody leads");
        Ok(holder)
    })
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
    // Who deletes the Lease does not keep the second from taking over.
    leader(plane)?;
    plane.ask(&["delete", "lease", "-n", "openshift-sdn", "sdn-controller"])?;
    let nodes: Vec<_> = (0..200).map(|n| (format!("m{n}"), format!("192.168.2.{n}"))).collect();
    let namespaces: Vec<_> =
        (0..400).map(|n| format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: t{n}}}\n")).collect();
    let leader = leader(plane)?;
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

/// A metric of a controller, by its name with labels; none if it shows none.
fn metric(exposition: &str, name: &str) -> Option<f64> {
    exposition.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

/// Probes, metrics and state of one that leads and of one that waits; and a cluster that has run out of subnets.
fn what_controllers_say_of_themselves(plane: &ControlPlane) -> anyhow::Result<()> {
    // Two subnets, of which no other test has had one: what a killed controller has noted is not given again for minutes.
    plane.apply(&NETWORK.replace("10.128.0.0/14", "10.140.0.0/22"))?;
    let start = |identity: &'static str| -> anyhow::Result<_> {
        let (admin, metrics) = (free_port()?, free_port()?);
        let controller = Controller::start_as(plane, identity, |program| {
            let mut command = Command::new(program);
            command.env("KUBECONFIG", plane.kubeconfig(ACCOUNT)?);
            command.args(["--admin-address", &format!("127.0.0.1:{admin}")]);
            command.args(["--metrics-address", &format!("127.0.0.1:{metrics}")]);
            Ok(command)
        })?;
        Ok((controller, admin, metrics))
    };
    let here = Path::new("/proc/self/ns/net");
    let ready = |port: u16| {
        until(DEADLINE, || {
            let (code, text) = get(here, port, "/readyz")?;
            ensure!(code == 200 && text.contains("[+] election\n") && !text.contains("[-]"), "{code} {text}");
            Ok(text)
        })
    };
    let (first, admin, metrics) = start("herald")?;
    until(DEADLINE, || {
        ensure!(ready(admin)?.contains("[+] allocation\n"), "it is alone, and does not lead");
        Ok(())
    })?;
    let (second, waiting, waiting_metrics) = start("page")?;
    ensure!(!ready(waiting)?.contains("allocation"), "there is nothing for it to allocate");
    for port in [admin, waiting] {
        ensure!(get(here, port, "/livez")?.0 == 200);
    }
    let shown = |port: u16| get(here, port, "/metrics").map(|(_, text)| text);
    let text = shown(waiting_metrics)?;
    ensure!(metric(&text, "sdn_controller_leader") == Some(0.0), "{text}");
    ensure!(!text.contains("sdn_controller_subnets{"), "{text}");
    ensure!(get(here, waiting_metrics, "/debug/state")?.0 == 404, "the port for metrics shows more");

    // Three nodes for two subnets. The youngest goes without; among those of one second names decide.
    let nodes: Vec<_> = (1..=3).map(|n| (format!("h{n}"), format!("192.168.7.{n}"))).collect();
    add_nodes(plane, &nodes)?;
    let free = "sdn_controller_subnets{network=\"10.140.0.0/22\",state=\"free\"}";
    let allocated = "sdn_controller_subnets{network=\"10.140.0.0/22\",state=\"allocated\"}";
    let blocked = "sdn_controller_problems{reason=\"SubnetsExhausted\"}";
    until(DEADLINE, || {
        let text = shown(metrics)?;
        ensure!(metric(&text, "sdn_controller_leader") == Some(1.0), "{text}");
        ensure!((metric(&text, allocated), metric(&text, free)) == (Some(2.0), Some(0.0)), "{text}");
        ensure!(metric(&text, blocked) == Some(1.0), "{text}");
        ensure!(
            metric(&text, "sdn_controller_vnids{state=\"allocated\"}").is_some_and(|n| n >= 1.0),
            "{text}"
        );
        Ok(())
    })?;
    let events = plane.ask(&["get", "events", "-A", "--field-selector=reason=SubnetsExhausted"])?;
    ensure!(events.contains("node/h3") && events.contains("none is free in 10.140.0.0/22"), "{events}");
    let (_, state) = get(here, admin, "/debug/state")?;
    let state: Value = serde_json::from_str(&state)?;
    ensure!(state["problems"][0]["object"] == "Node h3" && state["identity"] == "herald", "{state:#}");
    ensure!(state["subnets"]["10.140.0.0/22"]["free"] == 0 && state["leads"] == true, "{state:#}");

    // What waits gets it by itself when there is room.
    plane.ask(&["delete", "node", "h1"])?;
    until(DEADLINE, || {
        let subnets = fields(plane, "hostsubnets", "subnet")?;
        ensure!(subnets.contains_key("h3"), "{subnets:?}");
        let text = shown(metrics)?;
        ensure!(metric(&text, blocked).is_none() && metric(&text, free) == Some(0.0), "{text}");
        let deleted = "sdn_controller_changes_total{kind=\"HostSubnet\",change=\"deleted\"}";
        ensure!(metric(&text, deleted).is_some_and(|n| n >= 1.0), "{text}");
        Ok(())
    })?;
    // Also the one that was noted last, which nothing noted after it has settled.
    plane.ask(&["delete", "node", "h3"])?;
    add_nodes(plane, &[("h4".to_owned(), "192.168.7.4".to_owned())])?;
    until(DEADLINE, || {
        let subnets = fields(plane, "hostsubnets", "subnet")?;
        ensure!(subnets.contains_key("h4"), "{subnets:?}");
        Ok(())
    })?;

    // A refused request counts as a failure, and is said; the other one takes over what the first leaves.
    let failures = "sdn_controller_rounds_total{result=\"failure\"}";
    ensure!(metric(&shown(metrics)?, failures) == Some(0.0), "{}", shown(metrics)?);
    let role = "openshift-sdn-controller";
    let rules = plane.json(&["get", "clusterrole", role])?;
    plane.ask(&["patch", "clusterrole", role, "--type=merge", "-p", r#"{"rules": []}"#])?;
    until(DEADLINE, || {
        let account = "--as=system:serviceaccount:openshift-sdn:sdn-controller";
        let mut question = plane.kubectl(Caller::Admin)?;
        let answer = question.args(["auth", "can-i", "delete", "hostsubnets", account]).output()?;
        ensure!(answer.stdout.starts_with(b"no"), "{answer:?}");
        Ok(())
    })?;
    plane.ask(&["delete", "node", "h2"])?;
    until(DEADLINE, || {
        let (code, text) = get(here, admin, "/readyz")?;
        ensure!(code == 503 && text.contains("[-] allocation: "), "{code} {text}");
        ensure!(metric(&shown(metrics)?, failures).is_some_and(|n| n >= 1.0), "{}", shown(metrics)?);
        Ok(())
    })?;
    plane.feed(
        &["patch", "clusterrole", role, "--type=merge", "--patch-file=/dev/stdin"],
        &serde_json::json!({"rules": rules["rules"]}).to_string(),
    )?;
    ready(admin)?;
    first.stop()?;
    until(DEADLINE, || {
        let text = shown(waiting_metrics)?;
        ensure!(metric(&text, "sdn_controller_leader") == Some(1.0), "{text}");
        ensure!(metric(&text, "sdn_controller_elections_total") == Some(1.0), "{text}");
        ensure!(metric(&text, allocated) == Some(1.0), "h4 is left: {text}");
        Ok(())
    })?;
    plane.ask(&["delete", "node", "--all", "--wait=false"])?;
    until(DEADLINE, || {
        ensure!(fields(plane, "hostsubnets", "subnet")?.is_empty());
        Ok(())
    })?;
    drop(second);
    Ok(())
}
