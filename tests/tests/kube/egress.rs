//! Egress IPs: spread over nodes, and moved when one fails.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{Context, ensure};
use serde_json::Value;
use tests::kube::ControlPlane;
use tests::until;

use super::Test;
use super::allocation::{Controller, DEADLINE, NETWORK, add_nodes, fields};

pub(crate) const TESTS: &[Test] = &[("egress::addresses_are_spread_and_move", addresses_are_spread_and_move)];

/// The egress IPs that each of these nodes hosts.
fn hosted(plane: &ControlPlane, nodes: &[&str]) -> anyhow::Result<Vec<BTreeSet<String>>> {
    let all = fields(plane, "hostsubnets", "egressIPs")?;
    let texts = |value: &Value| {
        let ips = value.as_array().map(Vec::as_slice).unwrap_or_default();
        ips.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    Ok(nodes.iter().map(|node| all.get(*node).map(texts).unwrap_or_default()).collect())
}

fn addresses_are_spread_and_move(plane: &ControlPlane) -> anyhow::Result<()> {
    const NODES: [&str; 2] = ["e1", "e2"];
    plane.apply(NETWORK)?;
    let _controller = Controller::start(plane, "egress")?;
    add_nodes(plane, &[("e1".into(), "192.168.3.1".into()), ("e2".into(), "192.168.3.2".into())])?;
    for name in ["north", "south"] {
        plane.ask(&["create", "namespace", name])?;
    }
    until(DEADLINE, || {
        let (subnets, vnids) =
            (fields(plane, "hostsubnets", "subnet")?, fields(plane, "netnamespaces", "netid")?);
        ensure!(NODES.iter().all(|node| subnets.contains_key(*node)), "{subnets:?}");
        ensure!(vnids.contains_key("north") && vnids.contains_key("south"), "{vnids:?}");
        Ok(())
    })?;
    // As the documentation has administrators do it.
    for node in NODES {
        let cidrs = r#"{"egressCIDRs": ["192.168.3.0/24"]}"#;
        plane.ask(&["patch", "hostsubnet", node, "--type=merge", "-p", cidrs])?;
    }
    for (name, ip) in [("north", "192.168.3.100"), ("south", "192.168.3.101")] {
        let ips = format!(r#"{{"egressIPs": ["{ip}"]}}"#);
        plane.ask(&["patch", "netnamespace", name, "--type=merge", "-p", &ips])?;
    }
    let both: BTreeSet<String> = ["192.168.3.100", "192.168.3.101"].map(str::to_owned).into();
    until(DEADLINE, || {
        let hosted = hosted(plane, &NODES)?;
        ensure!(hosted.iter().all(|ips| ips.len() == 1) && hosted.concat_sets() == both, "{hosted:?}");
        Ok(())
    })?;

    // A node that is not ready loses its address to the other, and gets its share again.
    let ready = |status: &str| {
        let patch = format!(r#"{{"status": {{"conditions": [{{"type": "Ready", "status": "{status}"}}]}}}}"#);
        plane.ask(&["patch", "node", "e1", "--subresource=status", "-p", &patch])
    };
    ready("Unknown")?;
    let failed = Instant::now();
    until(DEADLINE, || {
        let hosted = hosted(plane, &NODES)?;
        ensure!(hosted == [BTreeSet::new(), both.clone()], "{hosted:?}");
        Ok(())
    })?;
    println!("all egress IPs on the other node {} ms after one was not ready", failed.elapsed().as_millis());
    plane.ask(&["create", "namespace", "west"])?;
    until(DEADLINE, || fields(plane, "netnamespaces", "netid")?.get("west").map(drop).context("no VNID"))?;
    plane.ask(&[
        "patch",
        "netnamespace",
        "west",
        "--type=merge",
        "-p",
        r#"{"egressIPs": ["192.168.9.9"]}"#,
    ])?;
    until(DEADLINE, || {
        let events = plane.ask(&["get", "events", "-A", "--field-selector=reason=EgressIPUnplaced"])?;
        ensure!(events.contains("egress IP 192.168.9.9 is not in use: no HostSubnet lists it"), "{events}");
        Ok(())
    })?;
    plane.ask(&["delete", "node", "e2", "--wait=false"])?;
    ready("True")?;
    until(DEADLINE, || {
        let hosted = hosted(plane, &["e1"])?;
        ensure!(hosted == [both.clone()], "{hosted:?}");
        Ok(())
    })?;
    plane.ask(&["delete", "node", "e1", "--wait=false"])?;
    plane.ask(&["delete", "namespace", "north", "south", "west", "--wait=false"])?;
    Ok(())
}

/// All of several sets.
trait Together {
    fn concat_sets(&self) -> BTreeSet<String>;
}

impl Together for Vec<BTreeSet<String>> {
    fn concat_sets(&self) -> BTreeSet<String> {
        self.iter().flatten().cloned().collect()
    }
}
