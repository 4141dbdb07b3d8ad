//! CNI ADD and DEL against a running agent with real Open vSwitch: what is repeated, what is refused, and that
//! nothing is left behind.

#![allow(clippy::indexing_slicing, reason = "a test may stop at the first surprise")]

use std::collections::BTreeSet;

use anyhow::ensure;
use tests::Lab;
use tests::cni::{Sandbox, error_of, nothing_is_left, socket};

#[test]
fn the_same_again_is_the_same_and_something_else_is_refused() -> anyhow::Result<()> {
    let lab = Lab::up(&["--nodes", "1"])?;
    let (agent, pod, other) = (socket(&lab)?, Sandbox::new(&lab, 1)?, Sandbox::new(&lab, 2)?);
    let first = pod.succeed("ADD", &agent)?;
    ensure!(pod.succeed("ADD", &agent)? == first, "a repeated ADD answers differently");

    let refusals = [
        (
            "another namespace",
            pod.call("ADD", &agent, |add| {
                add.env("CNI_NETNS", other.netns());
            })?,
        ),
        (
            "another address",
            pod.call("ADD", &agent, |add| {
                add.env("CNI_ARGS", pod.args(";IP=10.128.0.99"));
            })?,
        ),
        (
            "a second interface",
            pod.call("ADD", &agent, |add| {
                add.env("CNI_IFNAME", "net1");
            })?,
        ),
    ];
    for (what, output) in &refusals {
        let (_, text) = error_of(output)?;
        ensure!(text.contains("attached already"), "{what}: {text}");
    }
    let node = lab.netns("node/node1")?;
    let own = other.call("ADD", &agent, |add| {
        add.env("CNI_NETNS", &node);
    })?;
    let (code, text) = error_of(&own)?;
    ensure!(code == 4 && text.contains("CNI_NETNS"), "{code}: {text}");

    for _ in 0..2 {
        pod.succeed("DEL", &agent)?;
    }
    nothing_is_left(&lab)
}

#[test]
fn twenty_at_once_have_twenty_addresses_and_ports() -> anyhow::Result<()> {
    let lab = Lab::up(&["--nodes", "1"])?;
    let agent = socket(&lab)?;
    let pods = (0..20).map(|n| Sandbox::new(&lab, n)).collect::<anyhow::Result<Vec<_>>>()?;
    let all_at_once = |command: &'static str| {
        std::thread::scope(|scope| {
            let calls: Vec<_> = pods.iter().map(|pod| scope.spawn(|| pod.succeed(command, &agent))).collect();
            calls.into_iter().map(|call| call.join().expect("no panic")).collect::<anyhow::Result<Vec<_>>>()
        })
    };
    let mut addresses = BTreeSet::new();
    for result in all_at_once("ADD")? {
        let result: serde_json::Value = serde_json::from_str(&result)?;
        addresses.insert(result["ips"][0]["address"].to_string());
    }
    ensure!(addresses.len() == pods.len(), "{addresses:?}");
    let list =
        ["ovs-vsctl", "--format=csv", "--no-headings", "--columns=ofport,external_ids", "list", "Interface"];
    let interfaces = lab.ovs("node1", &list)?;
    let ports: BTreeSet<&str> = interfaces
        .lines()
        .filter(|line| line.contains("sandbox"))
        .filter_map(|line| line.split(',').next())
        .collect();
    ensure!(ports.len() == pods.len(), "{interfaces}");
    lab.ask(&["diff"])?;
    all_at_once("DEL")?;
    nothing_is_left(&lab)
}
