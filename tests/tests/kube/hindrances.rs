//! What keeps one object, or one controller, from going on: the others do, and it does as soon as it can.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use controller::api::Kind;
use k8s_openapi::jiff::Timestamp;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tests::http::get;
use tests::kube::{Caller, ControlPlane, free_port};
use tests::until;

use super::Test;
use super::allocation::{ACCOUNT, Controller, DEADLINE, NETWORK, add_nodes, fields, leader};
use super::objects::write_older;
use super::scale::{count, create};

pub(crate) const TESTS: &[Test] = &[
    ("hindrances::what_a_finalizer_keeps_holds_up_no_other", what_a_finalizer_keeps_holds_up_no_other),
    ("hindrances::what_is_refused_holds_up_no_other", what_is_refused_holds_up_no_other),
    ("hindrances::who_outsleeps_its_lease_writes_nothing", who_outsleeps_its_lease_writes_nothing),
    ("hindrances::damaged_reservations_are_said", damaged_reservations_are_said),
    ("hindrances::what_cannot_be_read_is_told_and_kept", what_cannot_be_read_is_told_and_kept),
];

const NAMESPACE: &str = "openshift-sdn";

/// A controller with the port that its `/readyz` is on.
fn with_health(plane: &ControlPlane, identity: &str) -> anyhow::Result<(Controller, u16)> {
    let port = free_port()?;
    let controller = Controller::start_as(plane, identity, |program| {
        let mut command = Command::new(program);
        command.env("KUBECONFIG", plane.kubeconfig(ACCOUNT)?);
        command.args(["--admin-address", &format!("127.0.0.1:{port}")]);
        Ok(command)
    })?;
    Ok((controller, port))
}

fn readyz(port: u16) -> anyhow::Result<(u16, String)> {
    get(Path::new("/proc/self/ns/net"), port, "/readyz")
}

/// What `account` has asked for with one of `verbs`, of the API server's record.
fn asked(plane: &ControlPlane, account: &str, verbs: &[&str]) -> anyhow::Result<Vec<Value>> {
    let user = format!("system:serviceaccount:{NAMESPACE}:{account}");
    let mut events = plane.audit()?;
    events.retain(|event| {
        event["user"]["username"] == user.as_str() && verbs.iter().any(|verb| event["verb"] == *verb)
    });
    Ok(events)
}

/// Waits until no HostSubnet is left of a test that has deleted its Nodes.
fn no_host_subnets(plane: &ControlPlane) -> anyhow::Result<()> {
    until(DEADLINE, || {
        ensure!(fields(plane, "hostsubnets", "subnet")?.is_empty());
        Ok(())
    })
}

fn what_a_finalizer_keeps_holds_up_no_other(plane: &ControlPlane) -> anyhow::Result<()> {
    // Two subnets, which no other test has had.
    plane.apply(&NETWORK.replace("10.128.0.0/14", "10.144.0.0/22"))?;
    let controller = Controller::start(plane, "keeper")?;
    add_nodes(plane, &[("k1".into(), "192.168.6.1".into()), ("k2".into(), "192.168.6.2".into())])?;
    plane.ask(&["create", "namespace", "kept"])?;
    until(DEADLINE, || {
        ensure!(fields(plane, "hostsubnets", "subnet")?.len() == 2);
        ensure!(fields(plane, "netnamespaces", "netid")?.contains_key("kept"));
        Ok(())
    })?;
    let objects = [("hostsubnet", "k1"), ("netnamespace", "kept")];
    let finalizers = |text: &str| -> anyhow::Result<()> {
        for (kind, name) in objects {
            let patch = format!(r#"{{"metadata": {{"finalizers": {text}}}}}"#);
            plane.ask(&["patch", kind, name, "--type=merge", "-p", &patch])?;
        }
        Ok(())
    };
    let uid = |kind: &str, name: &str| -> anyhow::Result<String> {
        let object = plane.json(&["get", kind, name])?;
        Ok(object["metadata"]["uid"].as_str().context("no UID")?.to_owned())
    };
    finalizers(r#"["example.com/keep"]"#)?;
    let (subnet, vnid) = (
        fields(plane, "hostsubnets", "subnet")?.remove("k1"),
        fields(plane, "netnamespaces", "netid")?.remove("kept"),
    );
    let tenant = uid("netnamespace", "kept")?;

    plane.ask(&["delete", "node", "k1"])?;
    plane.ask(&["delete", "namespace", "kept", "--wait=false"])?;
    // There is no controller of namespaces, which would do this.
    plane.feed(
        &["replace", "--raw", "/api/v1/namespaces/kept/finalize", "-f", "-"],
        r#"{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kept"}, "spec": {"finalizers": []}}"#,
    )?;
    until(DEADLINE, || {
        for (kind, name) in objects {
            let object = plane.json(&["get", kind, name])?;
            ensure!(object["metadata"]["deletionTimestamp"].is_string(), "{kind} {name} is not deleted");
        }
        Ok(())
    })?;

    // All others go on, and nobody gets what it still has.
    add_nodes(plane, &[("k3".into(), "192.168.6.3".into())])?;
    for name in ["kept", "beside"] {
        plane.ask(&["create", "namespace", name])?;
    }
    until(DEADLINE, || {
        ensure!(fields(plane, "netnamespaces", "netid")?.contains_key("beside"));
        let events = plane.ask(&["get", "events", "-A", "--field-selector=reason=SubnetsExhausted"])?;
        ensure!(events.contains("node/k3"), "{events}");
        Ok(())
    })?;
    let vnids = fields(plane, "netnamespaces", "netid")?;
    ensure!(vnids.values().filter(|other| Some(*other) == vnid.as_ref()).count() == 1, "{vnids:?}");
    for (kind, name) in objects {
        let deletions = asked(plane, "sdn-controller", &["delete"])?;
        let of_it = |event: &&Value| {
            event["objectRef"]["resource"] == format!("{kind}s") && event["objectRef"]["name"] == name
        };
        let count = deletions.iter().filter(of_it).count();
        ensure!(count == 1, "{kind} {name} was deleted {count} times");
    }

    finalizers("null")?;
    until(DEADLINE, || {
        ensure!(
            fields(plane, "hostsubnets", "subnet")?.remove("k3") == subnet,
            "not the subnet that is free"
        );
        ensure!(uid("netnamespace", "kept")? != tenant, "the old tenant's is still there");
        Ok(())
    })?;
    plane.ask(&["delete", "node", "k2", "k3"])?;
    plane.ask(&["delete", "namespace", "kept", "beside", "--wait=false"])?;
    no_host_subnets(plane)?;
    controller.stop()
}

/// More than one round writes.
const REFUSED: usize = 1_001;

/// HostSubnets of some machines are refused.
const POLICY: &str = "\
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: refused}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules:
    - {apiGroups: [network.openshift.io], apiVersions: [v1], operations: [CREATE], resources: [hostsubnets]}
  validations:
  - expression: \"!object.metadata.name.startsWith('refused-')\"
    message: this machine is to have no network
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: refused}
spec: {policyName: refused, validationActions: [Deny]}
";

/// Nodes with an address, many at a time.
fn nodes(prefix: &str, count: usize) -> Vec<Value> {
    let node = |n: usize| {
        json!({
            "metadata": {"name": format!("{prefix}{n}")},
            "status": {"addresses": [{"type": "InternalIP", "address": format!("172.16.{}.{}", n / 250, n % 250 + 1)}]},
        })
    };
    (0..count).map(node).collect()
}

fn what_is_refused_holds_up_no_other(plane: &ControlPlane) -> anyhow::Result<()> {
    plane.apply(&NETWORK.replace("10.128.0.0/14", "10.160.0.0/11"))?;
    plane.apply(POLICY)?;
    let machine = "apiVersion: network.openshift.io/v1\nkind: HostSubnet\nmetadata: {name: refused-probe}\nhost: refused-probe\nhostIP: 192.0.2.1\n";
    until(DEADLINE, || {
        let answer = plane.feed(&["create", "--dry-run=server", "-f", "-"], machine);
        let refused =
            answer.is_err_and(|error| format!("{error:#}").contains("this machine is to have no network"));
        ensure!(refused, "the policy does not hold yet");
        Ok(())
    })?;
    let runtime = tokio::runtime::Runtime::new()?;
    let client = runtime.block_on(plane.client(Caller::Admin))?;
    runtime.block_on(create(&client, Kind::Node, None, nodes("refused-", REFUSED)))?;
    // Younger than all that are refused.
    let (controller, port) = with_health(plane, "refused")?;
    add_nodes(plane, &[("welcome".into(), "192.168.6.1".into())])?;
    plane.ask(&["create", "namespace", "unhindered"])?;
    until(DEADLINE, || {
        let subnets = fields(plane, "hostsubnets", "subnet")?;
        ensure!(subnets.keys().eq(["welcome"]), "{subnets:?}");
        ensure!(fields(plane, "netnamespaces", "netid")?.contains_key("unhindered"));
        let (code, text) = readyz(port)?;
        let said = text.contains("[-] allocation: can't create HostSubnet refused-")
            && text.contains("this machine is to have no network; and 1000 more");
        ensure!(code == 503 && said && !text.contains("Status {"), "{code} {text}");
        Ok(())
    })?;
    controller.stop()?;
    // One that runs once does all else too, and says so.
    plane.ask(&["create", "namespace", "unhindered-too"])?;
    let mut once = Command::new(tests::binary("sdn-controller")?);
    once.args(["--cluster", "kube", "--once", "--log", "off"]).env("KUBECONFIG", plane.kubeconfig(ACCOUNT)?);
    let output = once.output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(3)
            && text.contains("not everything is allocated: can't create HostSubnet refused-"),
        "{output:?}"
    );
    ensure!(fields(plane, "netnamespaces", "netid")?.contains_key("unhindered-too"), "{output:?}");

    let (controller, port) = with_health(plane, "pardoned")?;
    plane.feed(&["delete", "-f", "-"], POLICY)?;
    until(DEADLINE, || {
        let (code, text) = readyz(port)?;
        let subnets = runtime.block_on(count(&client, Kind::HostSubnet))?;
        ensure!(code == 200 && subnets == REFUSED + 1, "{subnets} subnets; {text}");
        Ok(())
    })?;
    plane.ask(&["delete", "node", "--all", "--wait=false"])?;
    plane.ask(&["delete", "namespace", "unhindered", "unhindered-too", "--wait=false"])?;
    no_host_subnets(plane)?;
    controller.stop()
}

/// Waits until a process does nothing any more: all that it could ask for is asked for.
fn until_idle(pid: u32) -> anyhow::Result<()> {
    // User and system time (proc(5)), behind the name, which may hold blanks.
    let time = || -> anyhow::Result<Vec<String>> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let (_, rest) = text.rsplit_once(')').context("no process name")?;
        Ok(rest.split_whitespace().skip(11).take(2).map(str::to_owned).collect())
    };
    until(DEADLINE, || {
        let before = time()?;
        std::thread::sleep(Duration::from_millis(300));
        ensure!(time()? == before, "it is busy");
        Ok(())
    })
}

fn who_outsleeps_its_lease_writes_nothing(plane: &ControlPlane) -> anyhow::Result<()> {
    const MANY: usize = 900;
    plane.apply(&NETWORK.replace("10.128.0.0/14", "10.192.0.0/11"))?;
    // By an account of its own the API server's record tells what it has written.
    plane.ask(&["create", "serviceaccount", "sleeper", "-n", NAMESPACE])?;
    let subject = format!("--serviceaccount={NAMESPACE}:sleeper");
    plane.ask(&[
        "create",
        "clusterrolebinding",
        "sleeper",
        "--clusterrole=openshift-sdn-controller",
        &subject,
    ])?;
    plane.ask(&["create", "rolebinding", "sleeper", "-n", NAMESPACE, "--role=sdn-controller", &subject])?;
    let runtime = tokio::runtime::Runtime::new()?;
    let client = runtime.block_on(plane.client(Caller::Admin))?;
    let written = || runtime.block_on(count(&client, Kind::HostSubnet));
    runtime.block_on(create(&client, Kind::Node, None, nodes("dream-", MANY)))?;

    let log = |identity: &str| std::fs::read_to_string(plane.path(&format!("{identity}.log")));
    // On a busy machine it may be idle only after its term: then another falls asleep.
    let (sleeper, pid) = until(DEADLINE, || {
        let before = written()?;
        let sleeper = Controller::start_as(plane, "sleeper", |program| {
            let mut command = Command::new(program);
            command.env("KUBECONFIG", plane.kubeconfig(Caller::ServiceAccount(NAMESPACE, "sleeper"))?);
            Ok(command)
        })?;
        let pid = Pid::from_raw(i32::try_from(sleeper.process().id())?);
        until(DEADLINE, || {
            ensure!(written()? > before, "it has not begun");
            Ok(())
        })?;
        // Nobody answers it: it waits with the first of its requests under way, and falls asleep so.
        plane.signal_api_server(Signal::SIGSTOP)?;
        let idle = until_idle(sleeper.process().id());
        let stopped = kill(pid, Signal::SIGSTOP);
        plane.signal_api_server(Signal::SIGCONT)?;
        idle?;
        stopped?;
        ensure!(!log("sleeper")?.contains("no longer the leader"), "it knows that it leads no more");
        Ok((sleeper, pid))
    })?;

    let other = Controller::start(plane, "waking")?;
    until(DEADLINE, || {
        let (subnets, leader) = (written()?, leader(plane)?);
        ensure!(subnets == MANY && leader == "waking", "{subnets} subnets; {leader} leads");
        Ok(())
    })?;
    let writes = |account: &str| asked(plane, account, &["create", "update", "patch", "delete"]);
    let others = |event: &Value| event["objectRef"]["resource"] == "hostsubnets";
    ensure!(writes("sdn-controller")?.iter().any(others), "it fell asleep too late to leave anything");

    let woken = Timestamp::now();
    kill(pid, Signal::SIGCONT)?;
    until(DEADLINE, || {
        let text = log("sleeper")?;
        ensure!(
            text.contains("a round took longer than 5s") && text.contains("no longer the leader"),
            "{text}"
        );
        Ok(())
    })?;
    // The next change finds who leads as it was.
    add_nodes(plane, &[("dawn".into(), "192.168.6.1".into())])?;
    until(DEADLINE, || {
        ensure!(fields(plane, "hostsubnets", "subnet")?.contains_key("dawn"));
        Ok(())
    })?;
    ensure!(
        !log("waking")?.contains("another controller allocates"),
        "it was overtaken by the one that woke"
    );
    let mut late = BTreeMap::new();
    for event in writes("sleeper")? {
        let at: Timestamp = event["requestReceivedTimestamp"].as_str().context("no time")?.parse()?;
        let resource = event["objectRef"]["resource"].as_str().unwrap_or_default();
        // That it no longer has the Lease it learns by asking for it; and it may say what it has done before.
        if at >= woken && !matches!(resource, "leases" | "events") {
            *late.entry(resource.to_owned()).or_insert(0) += 1;
        }
    }
    ensure!(late.is_empty(), "written after it woke: {late:?}");

    sleeper.stop()?;
    plane.ask(&["delete", "node", "--all", "--wait=false"])?;
    no_host_subnets(plane)?;
    for arguments in [
        ["delete", "clusterrolebinding", "sleeper", "--wait=false"],
        ["delete", "rolebinding", "sleeper", "-nopenshift-sdn"],
        ["delete", "serviceaccount", "sleeper", "-nopenshift-sdn"],
    ] {
        plane.ask(&arguments)?;
    }
    other.stop()
}

fn damaged_reservations_are_said(plane: &ControlPlane) -> anyhow::Result<()> {
    plane.apply(NETWORK)?;
    let object = ["-n", NAMESPACE, "configmap", "sdn-controller-reservations"];
    let damage = r#"{"data": {"reservations.json": "{\"subnets\": 7}"}}"#;
    let (controller, port) = with_health(plane, "damaged")?;
    add_nodes(plane, &[("d1".into(), "192.168.6.1".into())])?;
    until(DEADLINE, || {
        ensure!(fields(plane, "hostsubnets", "subnet")?.contains_key("d1"));
        Ok(())
    })?;
    plane.ask(&[&["patch"], &object[..], &["--type=merge", "-p", damage]].concat())?;
    add_nodes(plane, &[("d2".into(), "192.168.6.2".into())])?;
    until(DEADLINE, || {
        let (code, text) = readyz(port)?;
        let words =
            "[-] allocation: key reservations.json of ConfigMap sdn-controller-reservations is damaged";
        ensure!(code == 503 && text.contains(words), "{code} {text}");
        Ok(())
    })?;
    ensure!(!fields(plane, "hostsubnets", "subnet")?.contains_key("d2"), "given without a note");
    plane.ask(&[&["delete"], &object[..]].concat())?;
    until(DEADLINE, || {
        let (code, text) = readyz(port)?;
        let subnets = fields(plane, "hostsubnets", "subnet")?;
        ensure!(
            code == 200 && subnets.get("d2").is_some_and(|net| Some(net) != subnets.get("d1")),
            "{text} {subnets:?}"
        );
        Ok(())
    })?;
    plane.ask(&["delete", "node", "d1", "d2"])?;
    no_host_subnets(plane)?;
    controller.stop()
}

/// Objects as they could be written before the definitions had a schema.
const OLDER: &str = "\
apiVersion: network.openshift.io/v1
kind: HostSubnet
metadata: {name: u1}
host: u1
hostIP: 192.168.6.1
subnet: 10.148.0.0/23
egressIPs: none
---
apiVersion: network.openshift.io/v1
kind: NetNamespace
metadata: {name: older}
netname: older
netid: \"77\"
";

fn what_cannot_be_read_is_told_and_kept(plane: &ControlPlane) -> anyhow::Result<()> {
    plane.apply(&NETWORK.replace("10.128.0.0/14", "10.148.0.0/22"))?;
    plane.ask(&["create", "namespace", "older"])?;
    write_older(plane, &["hostsubnets", "netnamespaces"], OLDER)?;
    let exists = || -> anyhow::Result<usize> {
        let creations = asked(plane, "sdn-controller", &["create"])?;
        Ok(creations.iter().filter(|event| event["responseStatus"]["code"] == 409).count())
    };
    let before = exists()?;
    let (controller, port) = with_health(plane, "reader")?;
    add_nodes(plane, &[("u1".into(), "192.168.6.1".into()), ("u2".into(), "192.168.6.2".into())])?;
    until(DEADLINE, || {
        let subnets = fields(plane, "hostsubnets", "subnet")?;
        ensure!(
            subnets.get("u2").is_some_and(|subnet| subnet == "10.149.0.0/23" || subnet == "10.148.2.0/23"),
            "{subnets:?}"
        );
        let events = plane.ask(&["get", "events", "-A", "--field-selector=reason=Unreadable"])?;
        for words in [
            "hostsubnet/u1",
            "HostSubnet u1 can't be read: egressIPs",
            "NetNamespace older can't be read: netid",
        ] {
            ensure!(events.contains(words), "{events}");
        }
        let (code, text) = readyz(port)?;
        ensure!(code == 200, "{text}");
        Ok(())
    })?;
    // Nothing was tried in their place, and what follows does not wait for it.
    ensure!(exists()? == before, "tried to create what is there");
    // Mended or deleted, they are as any other.
    plane.ask(&["delete", "hostsubnet", "u1"])?;
    let mended = r#"{"netid": 77}"#;
    plane.ask(&["patch", "netnamespace", "older", "--type=merge", "-p", mended])?;
    plane.ask(&[
        "annotate",
        "netnamespace",
        "older",
        "pod.network.openshift.io/multitenant.change-network=global",
    ])?;
    until(DEADLINE, || {
        ensure!(
            fields(plane, "hostsubnets", "subnet")?.get("u1").is_some_and(|subnet| subnet == "10.148.0.0/23")
        );
        ensure!(fields(plane, "netnamespaces", "netid")?.get("older").is_some_and(|netid| *netid == 0));
        Ok(())
    })?;
    plane.ask(&["delete", "node", "u1", "u2"])?;
    plane.ask(&["delete", "namespace", "older", "--wait=false"])?;
    plane.ask(&["delete", "netnamespace", "older"])?;
    no_host_subnets(plane)?;
    controller.stop()
}
