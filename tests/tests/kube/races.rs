//! Everything at once: controllers that lead, that don't care who leads and that are killed at any moment, Nodes that come back
//! under their names, Namespaces by the thousand, and people who edit what is not theirs. No number is given twice.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use controller::api::Kind;
use ipnet::Ipv4Net;
use serde_json::{Value, json};
use tests::kube::{Caller, ControlPlane};
use tests::{binary, until};

use super::Test;
use super::allocation::{ACCOUNT, Controller, DEADLINE, NETWORK, add_nodes, fields};
use super::scale::create;

pub(crate) const TESTS: &[Test] = &[("races::no_number_is_given_twice", no_number_is_given_twice)];

const NAMESPACES: usize = 1_000;
const NODES: usize = 60;

/// Whose numbers people change by hand: what they write stands, so these are not counted.
const BY_HAND: &str = "by-hand-";

/// Each number of a kind has one object that has it.
fn given_once(plane: &ControlPlane) -> anyhow::Result<()> {
    let mut owners: BTreeMap<u64, String> = BTreeMap::new();
    for (name, netid) in fields(plane, "netnamespaces", "netid")? {
        let netid = netid.as_u64().context("no VNID")?;
        if netid == 0 || name.starts_with(BY_HAND) {
            continue;
        }
        if let Some(other) = owners.insert(netid, name.clone()) {
            bail!("{name} and {other} have VNID {netid}");
        }
    }
    let mut subnets: Vec<(Ipv4Net, String)> = Vec::new();
    for (name, subnet) in fields(plane, "hostsubnets", "subnet")? {
        if !name.starts_with(BY_HAND) {
            subnets.push((subnet.as_str().context("no subnet")?.parse()?, name));
        }
    }
    subnets.sort();
    for pair in subnets.windows(2) {
        ensure!(pair[0].0.broadcast() < pair[1].0.network(), "{:?} and {:?} overlap", pair[0], pair[1]);
    }
    Ok(())
}

/// A controller that allocates whoever leads, killed when `patience` is over if it has not ended by then.
fn once(
    plane: &ControlPlane,
    kubeconfig: &std::path::Path,
    n: u32,
    patience: Duration,
) -> anyhow::Result<()> {
    let log = std::fs::File::create(plane.path(&format!("once-{n}.log")))?;
    let mut child = Command::new(binary("sdn-controller")?)
        .args(["--cluster", "kube", "--once", "--identity", &format!("once-{n}"), "--log", "warn"])
        .env("KUBECONFIG", kubeconfig)
        .stderr(Stdio::from(log))
        .spawn()?;
    thread::sleep(patience);
    if child.try_wait()?.is_none() {
        child.kill()?;
    }
    child.wait()?;
    Ok(())
}

/// Runs `kubectl`, of which it does not matter here whether it succeeds: objects may be gone, or refused.
fn meddle(plane: &ControlPlane, arguments: &[&str]) -> anyhow::Result<()> {
    plane.kubectl(Caller::Admin)?.args(arguments).output()?;
    Ok(())
}

fn people(plane: &ControlPlane, n: u32) -> anyhow::Result<()> {
    let annotation = "pod.network.openshift.io/multitenant.change-network";
    let (one, other) = (format!("{BY_HAND}{}", n % 7), format!("{BY_HAND}{}", (n + 1) % 7));
    let request = ["join:", "isolate", "global", "join:nobody", "nonsense", "join:default"][n as usize % 6];
    let request = if request == "join:" { format!("join:{other}") } else { request.to_owned() };
    meddle(plane, &["annotate", "--overwrite", "netnamespace", &one, &format!("{annotation}={request}")])?;
    // The number of somebody else, or one that nobody has yet.
    let numbers = fields(plane, "netnamespaces", "netid")?;
    let taken = numbers.values().nth(n as usize % numbers.len().max(1)).and_then(Value::as_u64).unwrap_or(10);
    let netid = if n.is_multiple_of(2) { taken } else { taken + 40 };
    let patch = json!({"netid": netid}).to_string();
    meddle(plane, &["patch", "netnamespace", &other, "--type=merge", "-p", &patch])?;
    meddle(plane, &["delete", "netnamespace", &format!("t-{}", n * 7), "--wait=false"])?;
    meddle(plane, &["delete", "hostsubnet", &format!("r{}", n as usize % NODES), "--wait=false"])?;
    // A machine outside of the cluster, with a subnet that is about to be given.
    let subnet = format!("10.{}.{}.0/23", 128 + n % 4, 2 * (n % 20));
    let machine = json!({
        "apiVersion": "network.openshift.io/v1", "kind": "HostSubnet", "metadata": {"name": format!("{BY_HAND}{n}")},
        "host": format!("{BY_HAND}{n}"), "hostIP": format!("192.0.2.{}", n % 200 + 1), "subnet": subnet,
    });
    // Refused if it breaks a rule.
    drop(plane.feed(&["create", "-f", "-"], &machine.to_string()));
    if n.is_multiple_of(5) {
        meddle(plane, &["delete", "lease", "-n", "openshift-sdn", "sdn-controller"])?;
    }
    Ok(())
}

fn no_number_is_given_twice(_: &ControlPlane) -> anyhow::Result<()> {
    // One of its own, which holds nothing but this.
    let plane = &super::install::installed()?;
    plane.apply(NETWORK)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let client = runtime.block_on(plane.client(Caller::Admin))?;
    let kubeconfig = plane.kubeconfig(ACCOUNT)?;
    let node = |n: usize| (format!("r{n}"), format!("192.168.{}.{}", 10 + n / 200, n % 200 + 1));
    add_nodes(plane, &(0..NODES).map(node).collect::<Vec<_>>())?;
    let by_hand = (0..7).map(|n| json!({"metadata": {"name": format!("{BY_HAND}{n}")}})).collect();
    runtime.block_on(create(&client, Kind::Namespace, None, by_hand))?;

    let (left, right) = (Controller::start(plane, "left")?, Controller::start(plane, "right")?);
    let (over, runs, edits) = (AtomicBool::new(false), AtomicU32::new(0), AtomicU32::new(0));
    let going_on = || !over.load(Ordering::Relaxed);
    thread::scope(|scope| -> anyhow::Result<()> {
        let mut workers = Vec::new();
        workers.push(scope.spawn(|| {
            while going_on() {
                let n = runs.fetch_add(1, Ordering::Relaxed);
                once(plane, &kubeconfig, n, Duration::from_millis(500 + u64::from(n) * 1370 % 4000))?;
                // Who is overtaken begins anew: without an end of that nobody would get anything done.
                thread::sleep(Duration::from_secs(2));
            }
            anyhow::Ok(())
        }));
        workers.push(scope.spawn(|| {
            while going_on() {
                people(plane, edits.fetch_add(1, Ordering::Relaxed))?;
            }
            anyhow::Ok(())
        }));
        workers.push(scope.spawn(|| {
            // The same name again, at another address.
            for n in (0..NODES).cycle().take_while(|_| going_on()) {
                let (name, ip) = node(n);
                plane.ask(&["delete", "node", &name])?;
                add_nodes(plane, &[(name, ip.replace("192.168.", "192.169."))])?;
            }
            anyhow::Ok(())
        }));
        let watch = scope.spawn(|| {
            while going_on() {
                given_once(plane)?;
                thread::sleep(Duration::from_millis(200));
            }
            anyhow::Ok(())
        });
        let all = (0..NAMESPACES).map(|n| json!({"metadata": {"name": format!("t-{n}")}})).collect();
        let made = runtime.block_on(create(&client, Kind::Namespace, None, all)).and_then(|()| {
            until(DEADLINE * 3, || {
                let have = fields(plane, "netnamespaces", "netid")?.len();
                ensure!(have + 20 > NAMESPACES, "{have} NetNamespaces");
                Ok(())
            })
        });
        over.store(true, Ordering::Relaxed);
        for worker in workers.into_iter().chain([watch]) {
            worker.join().map_err(|_| anyhow::anyhow!("a worker panicked"))??;
        }
        made
    })?;
    left.kill();

    // What is left over settles.
    until(DEADLINE * 3, || {
        let (vnids, subnets) =
            (fields(plane, "netnamespaces", "netid")?, fields(plane, "hostsubnets", "hostIP")?);
        let missing = (0..NAMESPACES).find(|n| !vnids.contains_key(&format!("t-{n}")));
        ensure!(missing.is_none(), "t-{missing:?} has no VNID");
        let nodes = plane.json(&["get", "nodes"])?;
        for node in nodes["items"].as_array().context("no nodes")? {
            let name = node["metadata"]["name"].as_str().context("no name")?;
            let address = &node["status"]["addresses"][0]["address"];
            ensure!(subnets.get(name) == Some(address), "{name}: {:?}, is at {address}", subnets.get(name));
        }
        Ok(())
    })?;
    given_once(plane)?;
    println!(
        "{NAMESPACES} Namespaces and {NODES} Nodes, {} controllers killed, {} rounds of meddling: each number given once",
        runs.load(Ordering::Relaxed),
        edits.load(Ordering::Relaxed)
    );
    right.stop()
}
