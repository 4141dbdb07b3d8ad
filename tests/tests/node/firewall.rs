//! Another firewall on the node: the agent sees it come and go, and `sdn-node --firewall` says what lets the traffic pass.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use anyhow::{Context, ensure};
use tests::http::{ADMIN, get, metric};
use tests::{Lab, binary, both, run, until};

/// Long before the agent would look without an event; its looks are the rarer the longer they take.
const SOON: Duration = Duration::from_secs(120);

/// The check, in the node's namespace.
fn check(lab: &Lab, cluster: &str, node: &str) -> anyhow::Result<Output> {
    let program = binary("sdn-node")?;
    let command = [&program.to_string_lossy(), "--firewall", "--cluster", cluster, "--node", node];
    Ok(lab.inside("node/node1", &command).output()?)
}

#[test]
fn a_firewall_that_comes_and_is_mended() -> anyhow::Result<()> {
    let lab = Lab::up(&["--nodes", "2"])?;
    let node = lab.netns("node/node1")?;
    run(&mut lab.sdnctl(&["lab", "pod", "add", "default/a", "--node", "node1"]))?;
    let cluster = lab.cluster_dir("node1")?;
    let cluster = cluster.to_string_lossy();
    let inside = |command: &str| -> anyhow::Result<()> {
        let words: Vec<&str> = command.split(' ').collect();
        run(&mut lab.inside("node/node1", &words)).map(|_| ())
    };
    let gateway = run(&mut lab.inside("default/a", &["ip", "-o", "route", "show", "default"]))?;
    let gateway = gateway.split_whitespace().nth(2).context("no default route")?.to_owned();
    // An echo request to the node by tun0.
    let answers = || -> anyhow::Result<bool> {
        let ping = ["ping", "-c", "1", "-W", "1", &gateway];
        Ok(lab.inside("default/a", &ping).output()?.status.success())
    };
    let clear = |node: &Path| -> anyhow::Result<()> {
        let checked = check(&lab, &cluster, "node1")?;
        ensure!(checked.status.code() == Some(0), "{}", both(&checked));
        ensure!(both(&checked).contains("Nothing stands in the way."), "{}", both(&checked));
        until(SOON, || {
            ensure!(metric(node, "sdn_firewall_obstacles")? == 0.0, "still counted");
            Ok(())
        })?;
        until(Duration::from_secs(10), || {
            ensure!(answers()?, "the node does not answer its pod");
            Ok(())
        })
    };
    clear(&node)?;

    inside("nft add table inet other")?;
    inside("nft add chain inet other incoming { type filter hook input priority 0 ; policy drop ; }")?;
    for rule in ["ct state established,related accept", "iifname lo accept"] {
        inside(&format!("nft add rule inet other incoming {rule}"))?;
    }
    ensure!(!answers()?, "the test's firewall stops nothing");
    let checked = check(&lab, &cluster, "node1")?;
    let report = both(&checked);
    ensure!(checked.status.code() == Some(1), "{report}");
    let stopped =
        "pods to the node (in by tun0): stopped by `policy drop` in chain incoming of table inet other";
    ensure!(report.lines().any(|line| line == stopped), "{report}");
    until(SOON, || {
        ensure!(metric(&node, "sdn_firewall_obstacles")? == 2.0, "VXLAN, and pods to the node");
        let (_, state) = get(&node, ADMIN, "/debug/state")?;
        ensure!(state.contains(stopped), "{state}");
        Ok(())
    })?;

    let commands: Vec<&str> = report.lines().filter_map(|line| line.strip_prefix("  ")).collect();
    ensure!(
        commands.len() == 2 && commands.iter().all(|line| line.starts_with("nft insert rule ")),
        "{report}"
    );
    commands.into_iter().try_for_each(inside)?;
    clear(&node)?;

    let unknown = check(&lab, &cluster, "nobody")?;
    ensure!(unknown.status.code() == Some(3), "{}", both(&unknown));
    ensure!(both(&unknown).contains("node nobody has no HostSubnet"), "{}", both(&unknown));
    Ok(())
}
