//! What a killed program costs: nothing, or as little as can be.

use std::time::{Duration, Instant};

use anyhow::ensure;
use tests::{Lab, run, until};

use super::Test;
use super::packets::{NGINX, Pinging, TOMCAT, WEB};

const NODE: &str = "node2.ocp.cn";

pub(crate) fn tests() -> Vec<(&'static str, Test)> {
    vec![
        ("a_restart_with_nothing_changed_sends_no_flow_modification", no_flow_modification),
        ("a_flow_deleted_by_hand_comes_back_at_once", deleted_by_hand),
        ("status_says_what_is_wrong_with_which_node", status),
        ("the_agent_killed_under_a_ping_loses_no_packet", agent_killed),
        ("the_switch_killed_has_its_flows_back_within_two_seconds", switch_killed),
        ("the_database_killed_disturbs_nobody", database_killed),
    ]
}

/// The switch itself tells which messages it got: its log of the OpenFlow connections.
fn no_flow_modification(lab: &Lab) -> anyhow::Result<()> {
    lab.ovs(NODE, &["ovs-appctl", "vlog/set", "vconn:file:dbg"])?;
    let before = messages(lab)?;
    lab.kill(NODE, "sdn-node")?;
    lab.start(NODE, "sdn-node")?;
    let after = until(Duration::from_secs(5), || {
        let now = messages(lab)?;
        ensure!(now.dumps > before.dumps, "the new agent has not read the flows yet: {now:?}");
        Ok(now)
    })?;
    lab.ask(&["diff", "--node", NODE])?;
    let modified = after.modifications != before.modifications;

    // The same count does move when there is something to modify: without this the test could not fail.
    lab.ovs(NODE, &["ovs-ofctl", "-O", "OpenFlow13", "--strict", "del-flows", "br0", "table=90,priority=0"])?;
    lab.kill(NODE, "sdn-node")?;
    lab.start(NODE, "sdn-node")?;
    until(Duration::from_secs(5), || lab.ask(&["diff", "--node", NODE]))?;
    let repaired = messages(lab)?;
    lab.ovs(NODE, &["ovs-appctl", "vlog/set", "vconn:file:info"])?;
    ensure!(
        repaired.modifications > after.modifications,
        "the log shows no modification at all: {repaired:?}"
    );
    ensure!(!modified, "before {before:?}, after {after:?}");
    Ok(())
}

fn status(lab: &Lab) -> anyhow::Result<()> {
    let ask = |arguments: &[&str], expected: i32| {
        let output = lab.sdnctl(arguments).output()?;
        let text = tests::both(&output);
        ensure!(output.status.code() == Some(expected), "{arguments:?} ended with {}\n{text}", output.status);
        anyhow::Ok(text)
    };
    let all = ask(&["status"], 0)?;
    ensure!(all.lines().count() == 4 && all.lines().all(|line| line.contains(": ready, ")), "{all}");

    // What nobody repairs: the agent is gone, then a flow.
    lab.kill(NODE, "sdn-node")?;
    lab.ovs(NODE, &["ovs-ofctl", "-O", "OpenFlow13", "--strict", "del-flows", "br0", "table=90,priority=0"])?;
    let wrong = ask(&["status", "-o", "json"], 1)?;
    let wrong: serde_json::Value = serde_json::from_str(&wrong)?;
    let reasons = wrong["reasons"].to_string();
    ensure!(
        wrong["ready"] == false
            && reasons.contains(&format!("node {NODE}: no agent serves pods at"))
            && reasons.contains(&format!("node {NODE}: 1 flows or groups are not as they should be")),
        "{wrong:#}"
    );
    let nodes = wrong["nodes"].as_array().into_iter().flatten();
    let unready: Vec<_> =
        nodes.filter(|node| node["ready"] == false).map(|node| node["name"].clone()).collect();
    ensure!(unready == [NODE], "{wrong:#}");
    ask(&["status", "--node", "node1.ocp.cn"], 0)?;
    ask(&["status", "--node", "nobody"], 3)?;

    lab.start(NODE, "sdn-node")?;
    until(Duration::from_secs(5), || ask(&["status", "--node", NODE], 0))?;
    Ok(())
}

#[derive(Debug)]
struct Messages {
    modifications: usize,
    dumps: usize,
}

fn messages(lab: &Lab) -> anyhow::Result<Messages> {
    let log = std::fs::read_to_string(lab.ovs_dir(NODE)?.join("ovs-vswitchd.log"))?;
    let received = |kinds: &[&str]| {
        let got = log.lines().filter(|line| line.contains("received:"));
        got.filter(|line| kinds.iter().any(|kind| line.contains(kind))).count()
    };
    Ok(Messages {
        modifications: received(&[
            "OFPT_FLOW_MOD",
            "OFPT_BUNDLE",
            "OFPT_GROUP_MOD",
            "ONFT_BUNDLE",
            "OFPT_BUNDLE_ADD",
        ]),
        dumps: received(&["OFPST_FLOW request"]),
    })
}

/// The switch tells the agent, which would look by itself every 30 seconds only.
fn deleted_by_hand(lab: &Lab) -> anyhow::Result<()> {
    lab.ovs(NODE, &["ovs-ofctl", "-O", "OpenFlow13", "--strict", "del-flows", "br0", "table=90,priority=0"])?;
    until(Duration::from_secs(2), || lab.ask(&["diff", "--node", NODE])).map(|_| ())
}

fn agent_killed(lab: &Lab) -> anyhow::Result<()> {
    for to in [NGINX.1, TOMCAT.1] {
        let pinging = Pinging::start(lab, WEB.0, to, 100, 4)?;
        lab.kill(NODE, "sdn-node")?;
        lab.start(NODE, "sdn-node")?;
        let (sent, received) = pinging.finish()?;
        ensure!(sent == 400 && received == sent, "{received} of {sent} packets to {to} came back");
    }
    lab.ask(&["diff", "--node", NODE]).map(|_| ())
}

fn switch_killed(lab: &Lab) -> anyhow::Result<()> {
    let address = || run(&mut lab.inside(WEB.0, &["ip", "-4", "-o", "address", "show", "eth0"]));
    let ports = || lab.ovs(NODE, &["ovs-vsctl", "--columns=name,ofport,external_ids", "list", "Interface"]);
    let (address_before, ports_before) = (address()?, ports()?);
    lab.kill(NODE, "ovs-vswitchd")?;
    let started = Instant::now();
    lab.start(NODE, "ovs-vswitchd")?;
    let left = Duration::from_secs(2).saturating_sub(started.elapsed());
    until(left, || lab.ask(&["diff", "--node", NODE]))?;
    eprintln!("flows are back after {} ms", started.elapsed().as_millis());
    until(Duration::from_secs(2), || {
        let now = ports()?;
        ensure!(now == ports_before, "ports were {ports_before}\nand are {now}");
        Ok(())
    })?;
    ensure!(address()? == address_before, "the pod's address changed");
    for to in [NGINX.1, TOMCAT.1] {
        until(Duration::from_secs(5), || run(&mut lab.inside(WEB.0, &["ping", "-c", "1", "-W", "1", to])))?;
    }
    let (sent, received) = {
        let pinging = Pinging::start(lab, WEB.0, TOMCAT.1, 100, 1)?;
        pinging.finish()?
    };
    ensure!(received == sent, "{received} of {sent} packets came back afterwards");
    Ok(())
}

fn database_killed(lab: &Lab) -> anyhow::Result<()> {
    // While its database is away a switch in user space stands still, for one second or for three (as often as it tries to
    // connect), and then sends on what has come meanwhile. Of a hundred a second its sockets would not hold those of three.
    let pinging = Pinging::start(lab, WEB.0, TOMCAT.1, 50, 3)?;
    lab.kill(NODE, "ovsdb-server")?;
    lab.start(NODE, "ovsdb-server")?;
    let (sent, received) = pinging.finish()?;
    ensure!(received == sent, "{received} of {sent} packets came back");
    // And pods can be added again.
    until(Duration::from_secs(20), || {
        lab.ask(&["lab", "pod", "add", "default/after-database", "--node", NODE])
    })?;
    run(&mut lab.inside("default/after-database", &["ping", "-c", "2", "-i", "0.05", "-W", "2", TOMCAT.1]))?;
    lab.ask(&["lab", "pod", "delete", "default/after-database"]).map(|_| ())
}
