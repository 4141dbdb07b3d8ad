//! Egress nodes that do not answer: a namespace's packets leave by the others until they are back.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, ensure};
use controller::node::netns::{NetNs, run_in};
use tests::{Lab, until};

use super::Test;

/// Where the namespace has a pod and no egress IP.
const FROM: &str = "master.ocp.cn";
const POD: &str = "kube-public/client-6d4cf56db6-rz5mh";
/// The nodes that host its egress IPs, with their VTEPs.
const HOSTS: [(&str, &str); 2] = [("infra.ocp.cn", "192.168.108.113"), ("node1.ocp.cn", "192.168.108.111")];
/// Where it has no pod.
const ELSEWHERE: &str = "node2.ocp.cn";
/// Its VNID, and so the number of its group.
const VNID: u32 = 8_583_346;

/// The replaced system needed up to 14 s; ours less than 10 s, on a machine that has time for it.
const NOTICED: Duration = Duration::from_secs(30);
const DATAGRAMS: u8 = 40;

pub(crate) fn tests() -> Vec<(&'static str, Test)> {
    vec![("a_dead_egress_node_is_passed_over_until_it_is_back", |lab| {
        for (i, (host, _)) in HOSTS.iter().enumerate() {
            lab.ask(&[
                "patch",
                "hostsubnet",
                host,
                "-p",
                &format!(r#"{{"egressIPs":["192.168.108.20{i}"]}}"#),
            ])?;
        }
        let all = r#"{"egressIPs":["192.168.108.200","192.168.108.201"]}"#;
        lab.ask(&["patch", "netnamespace", "kube-public", "-p", all])?;
        let outcome = passed_over(lab);
        let none = r#"{"egressIPs":null}"#;
        lab.ask(&["patch", "netnamespace", "kube-public", "-p", none])?;
        HOSTS
            .iter()
            .try_for_each(|(host, _)| lab.ask(&["patch", "hostsubnet", host, "-p", none]).map(drop))?;
        // The next test must not find the nodes in the middle of it.
        until(NOTICED, || lab.ask(&["diff"]).map(drop))?;
        outcome
    })]
}

fn passed_over(lab: &Lab) -> anyhow::Result<()> {
    let [(dead, dead_vtep), (alive, alive_vtep)] = HOSTS;
    until(NOTICED, || leaves_by(lab, FROM, &[dead_vtep, alive_vtep]))?;
    until(NOTICED, || leaves_by(lab, ELSEWHERE, &[dead_vtep, alive_vtep]))?;
    let before = [arrived(lab, dead)?, arrived(lab, alive)?];
    send(lab)?;
    until(NOTICED, || {
        let after = [arrived(lab, dead)?, arrived(lab, alive)?];
        let counts = [after[0] - before[0], after[1] - before[1]];
        ensure!(counts.iter().sum::<u64>() >= u64::from(DATAGRAMS), "{counts:?} of {DATAGRAMS}");
        ensure!(counts.iter().all(|count| *count > 0), "not shared: {counts:?}");
        Ok(())
    })?;

    lab.kill(dead, "ovs-vswitchd")?;
    until(NOTICED, || leaves_by(lab, FROM, &[alive_vtep]))?;
    let before = arrived(lab, alive)?;
    send(lab)?;
    until(NOTICED, || {
        let count = arrived(lab, alive)? - before;
        ensure!(count >= u64::from(DATAGRAMS), "{count} of {DATAGRAMS}");
        Ok(())
    })?;
    // It is said, and it is no difference between the flows and what they should be. So after a restart of the agent, which
    // has not asked anybody yet.
    let said = |status: &str| {
        ensure!(
            status.contains("left out egress IP 192.168.108.200: its node infra.ocp.cn does not answer"),
            "{status}"
        );
        Ok(())
    };
    said(&lab.ask(&["status", "--node", FROM])?)?;
    lab.kill(FROM, "sdn-node")?;
    lab.start(FROM, "sdn-node")?;
    leaves_by(lab, FROM, &[alive_vtep])?;
    said(&lab.ask(&["status", "--node", FROM])?)?;
    // A node asks only those that its own pods leave by.
    leaves_by(lab, ELSEWHERE, &[dead_vtep, alive_vtep])?;

    lab.start(dead, "ovs-vswitchd")?;
    until(NOTICED, || leaves_by(lab, FROM, &[dead_vtep, alive_vtep]))?;
    let before = arrived(lab, dead)?;
    send(lab)?;
    until(NOTICED, || {
        ensure!(arrived(lab, dead)? > before, "nothing arrives at {dead}");
        Ok(())
    })
}

/// Whether the namespace's packets go from a node to exactly these.
fn leaves_by(lab: &Lab, node: &str, vteps: &[&str]) -> anyhow::Result<()> {
    let table = format!("table=100,ip,reg0={VNID:#x}");
    let ask =
        |what: &[&str]| lab.ovs(node, &[&["ovs-ofctl", "-O", "OpenFlow13", "--no-stats"], what].concat());
    let mut text = ask(&["dump-flows", "br0", &table])?;
    if text.contains(&format!("group:{VNID}")) {
        text = ask(&["dump-groups", "br0", &VNID.to_string()])?;
    }
    let mut found: Vec<&str> = text
        .match_indices("->tun_dst")
        .filter_map(|(at, _)| text[..at].rsplit("set_field:").next())
        .collect();
    found.sort_unstable();
    let mut expected = vteps.to_vec();
    expected.sort_unstable();
    ensure!(found == expected, "{node} sends to {found:?}: {text}");
    Ok(())
}

/// How many of the namespace's packets have left by this node.
fn arrived(lab: &Lab, node: &str) -> anyhow::Result<u64> {
    let table = format!("table=100,ip,reg0={VNID:#x}");
    let text = lab.ovs(node, &["ovs-ofctl", "-O", "OpenFlow13", "dump-flows", "br0", &table])?;
    let (_, count) = text.split_once("n_packets=").with_context(|| text.clone())?;
    Ok(count.split(',').next().unwrap_or_default().parse()?)
}

/// Sends datagrams to the outside, each to another address: by addresses a group picks the bucket of UDP.
fn send(lab: &Lab) -> anyhow::Result<()> {
    let ns = NetNs::open(lab.netns(POD)?)?;
    let socket = run_in(&ns, || UdpSocket::bind(("0.0.0.0", 0)))??;
    for last in 1..=DATAGRAMS {
        socket.send_to(b"out", (Ipv4Addr::new(203, 0, 113, last), 9))?;
    }
    Ok(())
}
