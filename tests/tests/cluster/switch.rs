//! What the switch holds, in its own words, against what we say it holds.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::ensure;
use tests::{Lab, Paused, until};

use super::Test;

pub(crate) fn tests() -> Vec<(&'static str, Test)> {
    vec![
        ("render_prints_what_dump_flows_prints", render_prints_what_dump_flows_prints),
        ("diff_says_equal", diff_says_equal),
        ("a_flow_deleted_and_one_added_by_hand_are_seen", a_flow_deleted_and_one_added_by_hand_are_seen),
    ]
}

const NODES: [&str; 4] = ["master.ocp.cn", "node1.ocp.cn", "node2.ocp.cn", "infra.ocp.cn"];

fn render_prints_what_dump_flows_prints(lab: &Lab) -> anyhow::Result<()> {
    for node in NODES {
        let rendered = lab.ask(&["render", "--node", node])?;
        let dumped = lab.ovs(node, &["ovs-ofctl", "-O", "OpenFlow13", "--no-stats", "dump-flows", "br0"])?;
        let rendered: BTreeSet<&str> = rendered.lines().collect();
        let dumped: BTreeSet<&str> = dumped.lines().collect();
        let ours: Vec<_> = rendered.difference(&dumped).collect();
        let theirs: Vec<_> = dumped.difference(&rendered).collect();
        ensure!(
            ours.is_empty() && theirs.is_empty(),
            "{node}: only rendered {ours:#?}, only dumped {theirs:#?}"
        );
        ensure!(rendered.len() > 40, "{node}: {} flows", rendered.len());
    }
    Ok(())
}

fn diff_says_equal(lab: &Lab) -> anyhow::Result<()> {
    let answer = lab.json(&["diff", "-o", "json"])?;
    ensure!(answer["equal"] == true, "{answer}");
    Ok(())
}

fn a_flow_deleted_and_one_added_by_hand_are_seen(lab: &Lab) -> anyhow::Result<()> {
    let node = "infra.ocp.cn";
    // The agent would repair it in the end: it is stopped for as long as we look.
    let paused = Paused::new(tests::daemon(&lab.status()?, node, "sdn-node")?)?;
    lab.ovs(node, &["ovs-ofctl", "-O", "OpenFlow13", "--strict", "del-flows", "br0", "table=90,priority=0"])?;
    lab.ovs(node, &["ovs-ofctl", "-O", "OpenFlow13", "add-flow", "br0", "table=7,priority=7,actions=drop"])?;
    let output = lab.sdnctl(&["diff", "--node", node, "-o", "json"]).output()?;
    ensure!(output.status.code() == Some(1), "{}", tests::both(&output));
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let flow = |kind: &str| answer[kind][0]["flow"].as_str().unwrap_or_default().to_owned();
    ensure!(flow("missing").ends_with("table=90, priority=0 actions=drop"), "{answer}");
    ensure!(flow("extra") == "table=7, priority=7 actions=drop", "{answer}");
    lab.ovs(node, &["ovs-ofctl", "-O", "OpenFlow13", "del-flows", "br0", "table=7"])?;
    drop(paused);
    lab.kill(node, "sdn-node")?;
    lab.start(node, "sdn-node")?;
    until(Duration::from_secs(5), || lab.ask(&["diff", "--node", node]).map(|_| ()))
}
