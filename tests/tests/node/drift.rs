//! Flows and groups that somebody else changes: told by the switch, put right, counted, and named in the log.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tests::cni::{Sandbox, socket};
use tests::http::metric;
use tests::{Lab, until};

const PROTOCOL: [&str; 2] = ["-O", "OpenFlow13"];

#[test]
fn flows_changed_by_hand_are_put_right_at_once() -> anyhow::Result<()> {
    let lab = Lab::up(&["--nodes", "1"])?;
    let (node, agent) = (lab.netns("node/node1")?, socket(&lab)?);
    let pod = Sandbox::new(&lab, 1)?;
    pod.succeed("ADD", &agent)?;
    lab.ask(&["diff"])?;
    let ofctl = |command: &[&str]| lab.ovs("node1", &[&["ovs-ofctl"], PROTOCOL.as_slice(), command].concat());
    let flows = || ofctl(&["--no-stats", "dump-flows", "br0"]);
    let good = flows()?;
    let of_pod = good
        .lines()
        .find(|line| line.contains("table=70") && line.contains("nw_dst=10."))
        .context("no flow")?;
    let matched =
        of_pod.split(" actions=").next().and_then(|text| text.split_once(", ")).context("no match")?.1;
    let matched = matched.replace(", ", ",");

    let mut times = Vec::new();
    let mut repaired = |what: &str, change: &str, command: &[&str]| -> anyhow::Result<()> {
        let name = format!("sdn_flow_repairs_total{{change=\"{change}\"}}");
        let before = metric(&node, &name)?;
        // The time that ovs-ofctl takes to start and end belongs to it.
        let start = Instant::now();
        ofctl(command)?;
        let done = Instant::now();
        let counted = until(Duration::from_secs(5), || {
            ensure!(metric(&node, &name)? > before, "{what}: not counted");
            Ok(Instant::now())
        })?;
        ensure!(flows()? == good, "{what}: not as before");
        let took = counted.saturating_duration_since(done);
        println!(
            "{what}: right again {took:.1?} after ovs-ofctl had ended ({:.1?} after it was started)",
            start.elapsed()
        );
        times.push(took);
        Ok(())
    };
    for _ in 0..3 {
        repaired("a flow deleted", "added", &["--strict", "del-flows", "br0", matched.as_str()])?;
        repaired("a flow added", "removed", &["add-flow", "br0", "table=7,priority=7,actions=drop"])?;
        repaired(
            "a flow changed",
            "changed",
            &["mod-flows", "br0", "table=90,priority=0,actions=normal", "--strict"],
        )?;
    }
    repaired("all flows deleted", "added", &["del-flows", "br0"])?;
    // Each was found long before the agent would have looked by itself, every 30 seconds. How fast it can be shows in the
    // fastest: a machine that is busy with other tests delays the others.
    times.sort_unstable();
    println!("{} repairs, median {:.1?}", times.len(), times.get(times.len() / 2));
    let fastest = times.first().context("nothing measured")?;
    ensure!(*fastest < Duration::from_millis(100), "the fastest of {times:?}");
    let log = std::fs::read_to_string(lab.ovs_dir("node1")?.join("../sdn-node.log"))?;
    ensure!(
        log.contains("somebody else deleted the flow") && log.contains("owner=pod default/pod-1"),
        "{log}"
    );
    ensure!(log.contains("somebody else added the flow") && log.contains("table=7"), "{log}");
    Ok(())
}

/// OpenFlow 1.3 has no monitor of groups, but Open vSwitch forwards what other connections ask of them.
#[test]
fn a_group_added_by_hand_is_removed_at_once() -> anyhow::Result<()> {
    let lab = Lab::up(&["--nodes", "1"])?;
    let ofctl = |command: &[&str]| lab.ovs("node1", &[&["ovs-ofctl"], PROTOCOL.as_slice(), command].concat());
    for group in ["group_id=77,type=all,bucket=drop", "group_id=78,type=select,bucket=drop,bucket=drop"] {
        ofctl(&["add-group", "br0", group])?;
        // Well below the 30 seconds after which it would be found anyway.
        until(Duration::from_secs(5), || {
            let groups = ofctl(&["dump-groups", "br0"])?;
            ensure!(!groups.contains("group_id"), "{groups}");
            Ok(())
        })?;
    }
    let log = std::fs::read_to_string(lab.ovs_dir("node1")?.join("../sdn-node.log"))?;
    ensure!(log.contains("somebody else changed groups"), "{log}");
    lab.ask(&["diff"]).map(|_| ())
}
