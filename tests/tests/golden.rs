//! Every golden flow set of `flowtables` on a real switch: what it returns is what it was sent, and what `ovs-ofctl`
//! prints of it is the golden file.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::collections::BTreeMap;

use flowtables::flowset::{FlowSet, Rendered};
use flowtables::pipeline::cookie::Owner;
use openflow::{Flow, Group};
use tests::checkout;
use tests::switch::DummySwitch;

/// The golden files by name, line by line.
fn golden() -> BTreeMap<String, Vec<String>> {
    let dir = checkout().join("flowtables/tests/golden");
    let files = std::fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    files
        .map(|file| {
            let path = file.unwrap().path();
            let lines = std::fs::read_to_string(&path).unwrap().lines().map(str::to_owned).collect();
            (path.file_name().unwrap().to_string_lossy().into_owned(), lines)
        })
        .collect()
}

fn is_group(line: &str) -> bool {
    line.starts_with("group_id=")
}

fn flow(line: &str) -> Flow {
    line.parse().unwrap_or_else(|error| panic!("{line}: {error}"))
}

fn group(line: &str) -> Group {
    line.parse().unwrap_or_else(|error| panic!("{line}: {error}"))
}

/// What `ovs-ofctl` prints, without what stands around it, sorted.
fn lines(printed: &str, of: &str) -> Vec<String> {
    let mut lines: Vec<String> =
        printed.lines().map(|line| line.trim().to_owned()).filter(|line| line.contains(of)).collect();
    lines.sort();
    lines
}

#[tokio::test]
async fn the_switch_returns_every_golden_flow_as_it_was_sent() {
    let switch = DummySwitch::start(12).unwrap();
    let golden = golden();
    assert!(golden.len() >= 21, "{:?}", golden.keys());
    let groups: Vec<&String> = golden.values().flatten().filter(|line| is_group(line)).collect();
    for (name, all) in &golden {
        let (mut own_groups, flows): (Vec<&String>, Vec<&String>) =
            all.iter().partition(|line| is_group(line));
        // A policy uses the group that the egress IPs of its namespace make.
        if own_groups.is_empty() && flows.iter().any(|line| line.contains("group:")) {
            own_groups.extend(groups.first());
        }
        let rendered = Rendered {
            flows: flows.iter().map(|line| flow(line)).collect(),
            groups: own_groups.iter().map(|line| group(line)).collect(),
        };
        let count = (rendered.flows.len(), rendered.groups.len());
        let mut set = FlowSet::new();
        assert_eq!(set.replace(&Owner::Base, rendered), [], "{name}");
        assert_eq!((set.len(), set.groups().count()), count, "{name} has a flow twice");
        // Sends them, reads them back and compares.
        switch.load(&set).await.unwrap_or_else(|error| panic!("{name}: {error:#}"));

        let sorted = |lines: &[&String]| {
            let mut lines: Vec<String> = lines.iter().map(|&line| line.clone()).collect();
            lines.sort();
            lines
        };
        let printed = lines(&switch.ofctl(&["dump-flows"]).unwrap(), "actions=");
        assert_eq!(printed, sorted(&flows), "{name}");
        let printed = lines(&switch.ofctl(&["dump-groups"]).unwrap(), "group_id=");
        assert_eq!(printed, sorted(&own_groups), "{name}");
    }
}
