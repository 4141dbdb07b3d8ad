//! The node's own network stack, changed by somebody else: put right at once, and counted.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tests::http::{ADMIN, get, metric};
use tests::{Lab, Paused, both, daemon, until};

#[test]
fn links_routes_and_firewall_are_put_right() -> anyhow::Result<()> {
    let lab = Lab::up(&["--nodes", "1"])?;
    let node = lab.netns("node/node1")?;
    let inside = |command: &str| -> anyhow::Result<String> {
        let words: Vec<&str> = command.split(' ').collect();
        let output = lab.inside("node/node1", &words).output()?;
        ensure!(output.status.success(), "{command}: {}", both(&output));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    // The address, the routes, the state of the link and the rules; counters and times left out.
    let state = || -> anyhow::Result<String> {
        Ok([
            inside("ip -brief addr show tun0")?,
            inside("ip route show dev tun0")?,
            inside("ip -o link show tun0")?.split(" qdisc").next().unwrap_or_default().to_owned(),
            inside("nft list table ip openshift-sdn")?,
            inside("sysctl net.ipv4.ip_forward")?,
        ]
        .concat())
    };
    let good = state()?;
    let address = inside("ip -o -4 addr show tun0")?;
    let address = address.split_whitespace().nth(3).context("no address")?.to_owned();
    let route = inside("ip route show dev tun0")?;
    let route = route.split_whitespace().next().context("no route")?.to_owned();
    for (what, part, commands) in [
        ("the address removed", "links", vec![format!("ip addr del {address} dev tun0")]),
        ("another address", "links", vec!["ip addr add 198.51.100.9/24 dev tun0".to_owned()]),
        ("a route removed", "links", vec![format!("ip route del {route}")]),
        ("a route added", "links", vec!["ip route add 198.51.100.0/24 dev tun0".to_owned()]),
        ("the link down", "links", vec!["ip link set tun0 down".to_owned()]),
        ("forwarding switched off", "links", vec!["sysctl -q -w net.ipv4.ip_forward=0".to_owned()]),
        ("the table deleted", "firewall", vec!["nft delete table ip openshift-sdn".to_owned()]),
        (
            "a chain emptied",
            "firewall",
            vec!["nft flush chain ip openshift-sdn OPENSHIFT-MASQUERADE".to_owned()],
        ),
        (
            "a rule added",
            "firewall",
            vec!["nft insert rule ip openshift-sdn OPENSHIFT-FIREWALL-FORWARD drop".to_owned()],
        ),
        ("everything flushed", "firewall", vec!["nft flush ruleset".to_owned()]),
    ] {
        let name = format!("sdn_repairs_total{{part=\"{part}\"}}");
        let before = metric(&node, &name)?;
        for command in &commands {
            inside(command)?;
        }
        let start = Instant::now();
        // Well below the 30 seconds after which it would be found anyway.
        until(Duration::from_secs(5), || {
            let now = state()?;
            ensure!(now == good, "{what}: before\n{good}\nnow\n{now}");
            ensure!(metric(&node, &name)? > before, "{what}: not counted");
            Ok(())
        })?;
        println!("{what}: right again within {:.0?}", start.elapsed());
    }
    Ok(())
}

/// As from a VPN: what is wrong with the node's own network is told, and pods keep their flows.
#[test]
fn pods_keep_their_flows_whatever_is_wrong_with_the_nodes_network() -> anyhow::Result<()> {
    let lab = Lab::up(&["--nodes", "1"])?;
    let node = lab.netns("node/node1")?;
    for command in [
        "ip link add other0 type veth peer other1",
        "ip link set other1 up",
        "ip link set other0 up",
        // At once: one that is gone for a moment may be put right before there is another.
        "ip route replace 172.30.0.0/16 dev other0",
    ] {
        let words: Vec<&str> = command.split(' ').collect();
        let output = lab.inside("node/node1", &words).output()?;
        ensure!(output.status.success(), "{command}: {}", both(&output));
    }
    let ready = || get(&node, ADMIN, "/readyz");
    until(Duration::from_secs(5), || {
        let (code, text) = ready()?;
        ensure!(code == 503 && text.contains("172.30.0.0/16"), "{code} {text}");
        Ok(())
    })?;
    lab.ovs("node1", &["ovs-ofctl", "-O", "OpenFlow13", "del-flows", "br0"])?;
    until(Duration::from_secs(10), || lab.ask(&["diff"]))?;
    lab.kill("node1", "ovs-vswitchd")?;
    lab.start("node1", "ovs-vswitchd")?;
    until(Duration::from_secs(20), || lab.ask(&["diff"]))?;
    ensure!(ready()?.0 == 503, "it was not told any more");
    let words = ["ip", "link", "del", "other0"];
    ensure!(lab.inside("node/node1", &words).output()?.status.success(), "{words:?}");
    until(Duration::from_secs(20), || {
        let (code, text) = ready()?;
        ensure!(code == 200, "{code} {text}");
        Ok(())
    })
}

/// Also if the switch is busy for as long as that takes to be noticed.
#[test]
fn a_link_of_the_node_that_is_deleted_is_made_again() -> anyhow::Result<()> {
    let lab = Lab::up(&["--nodes", "1"])?;
    let switch = daemon(&lab.status()?, "node1", "ovs-vswitchd")?;
    for busy in [false, true] {
        let words = ["ip", "link", "del", "tun0"];
        ensure!(lab.inside("node/node1", &words).output()?.status.success(), "{words:?}");
        if busy {
            let paused = Paused::new(switch)?;
            let names = ["ovs-vsctl", "--columns=name", "--bare", "list", "Port"];
            until(Duration::from_secs(40), || {
                let ports = lab.ovs("node1", &names)?;
                ensure!(!ports.lines().any(|port| port == "tun0"), "{ports}");
                Ok(())
            })?;
            // It must not be made before the switch has seen this: it would keep what is left of the old one.
            std::thread::sleep(Duration::from_millis(200));
            drop(paused);
        }
        // Well below the 30 seconds after which it would be looked at anyway.
        until(Duration::from_secs(15), || {
            let shown = lab.inside("node/node1", &["ip", "-4", "-o", "address", "show", "tun0"]).output()?;
            ensure!(both(&shown).contains("10.128.0.1/23"), "busy: {busy}: {}", both(&shown));
            lab.ask(&["status"])
        })?;
    }
    Ok(())
}

#[test]
fn networks_that_overlap_are_named() -> anyhow::Result<()> {
    let lab = Lab::up(&["--nodes", "1"])?;
    let node = lab.netns("node/node1")?;
    ensure!(metric(&node, "sdn_network_conflicts")? == 0.0, "a conflict without a reason");
    for command in [
        &["ip", "link", "add", "other0", "type", "veth", "peer", "other1"][..],
        &["ip", "addr", "add", "10.129.7.1/24", "dev", "other0"],
        // Any change of tun0 makes the agent look.
        &["ip", "link", "set", "tun0", "down"],
    ] {
        ensure!(lab.inside("node/node1", command).status()?.success(), "{command:?}");
    }
    until(Duration::from_secs(5), || {
        ensure!(metric(&node, "sdn_network_conflicts")? == 1.0, "not counted");
        let (_, state) = get(&node, ADMIN, "/debug/state")?;
        ensure!(state.contains("10.129.7.0/24 on other0 overlaps"), "{state}");
        Ok(())
    })
}

/// What no event tells of is found by the look that the agent takes every 30 seconds, also while events keep coming.
#[test]
fn events_do_not_put_off_the_periodic_look() -> anyhow::Result<()> {
    let lab = Lab::up(&["--nodes", "1"])?;
    let node = lab.netns("node/node1")?;
    let ip = |words: &str| -> anyhow::Result<()> {
        let command: Vec<&str> = ["ip"].into_iter().chain(words.split(' ')).collect();
        ensure!(lab.inside("node/node1", &command).status()?.success(), "{words}");
        Ok(())
    };
    ip("link add other0 type veth peer other1")?;
    let reconciles = || metric(&node, "sdn_reconciles_total{result=\"success\"}");
    // The agent's own changes at its start may make it look once more, too early: then another one is to be found.
    for n in 1_u8..=5 {
        ip(&format!("addr add 10.129.{n}.1/24 dev other0"))?;
        let (before, mut events) = (reconciles()?, 0_u32);
        until(Duration::from_secs(60), || {
            events += 1;
            let set = format!("external_ids:tick={n}-{events}");
            lab.ovs("node1", &["ovs-vsctl", "--no-wait", "set", "Open_vSwitch", ".", &set])?;
            let found = metric(&node, "sdn_network_conflicts")?;
            ensure!(found == f64::from(n), "{found} of {n} found yet, after {events} events");
            Ok(())
        })?;
        let reconciles = reconciles()? - before;
        println!("found after {events} events and {reconciles} reconciles");
        if reconciles >= 10.0 && events >= 10 {
            return Ok(());
        }
    }
    anyhow::bail!("it was never found by the periodic look")
}
