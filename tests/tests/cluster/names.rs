//! DNS names in EgressNetworkPolicies: a record that changes changes the flows; while nobody answers they stay as they
//! are, over a restart of the agent too, and what was never known is closed.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use tests::dns::DnsServer;
use tests::{Lab, until};

use super::Test;

const NODE: &str = "master.ocp.cn";
const SOON: Duration = Duration::from_secs(30);

const POLICY: &str = "\
apiVersion: network.openshift.io/v1
kind: EgressNetworkPolicy
metadata: {name: by-name, namespace: kube-public}
spec:
  egress:
  - {type: Allow, to: {dnsName: Allowed.example.test}}
  - {type: Deny, to: {dnsName: denied.example.test}}
";

pub(crate) fn tests() -> Vec<(&'static str, Test)> {
    vec![("names_in_egress_policies_follow_dns", |lab| {
        let file = Path::new("/run/osdn-lab").join(lab.name()).join("cluster/by-name.yaml");
        let server = DnsServer::start(&lab.netns(&format!("node/{NODE}"))?)?;
        std::fs::write(&file, POLICY)?;
        let outcome = follow(lab, &server);
        std::fs::remove_file(&file)?;
        outcome?;
        until(SOON, || policy_is(lab, &[]))
    })]
}

fn follow(lab: &Lab, server: &DnsServer) -> anyhow::Result<()> {
    let to = |last: u8| Ipv4Addr::new(192, 0, 2, last);
    // The server fails: the one name allows nothing, the other could be any address.
    until(SOON, || policy_is(lab, &["priority=1 any drop"]))?;

    server.set("allowed.example.test", &[to(7), to(8)]);
    server.set("denied.example.test", &[to(9)]);
    let both = ["priority=2 192.0.2.7 output", "priority=2 192.0.2.8 output", "priority=1 192.0.2.9 drop"];
    until(SOON, || policy_is(lab, &both))?;

    server.set("allowed.example.test", &[to(10)]);
    server.set("denied.example.test", &[]);
    let changed = ["priority=2 192.0.2.10 output", "priority=1 192.0.2.9 drop"];
    until(SOON, || policy_is(lab, &changed))?;
    lab.ask(&["diff", "--node", NODE])?;

    server.fail();
    let asked = server.asked();
    until(SOON, || {
        ensure!(server.asked() >= asked + 4, "{} questions since the server fails", server.asked() - asked);
        Ok(())
    })?;
    policy_is(lab, &changed)?;
    lab.kill(NODE, "sdn-node")?;
    lab.start(NODE, "sdn-node")?;
    policy_is(lab, &changed)?;
    lab.ask(&["diff", "--node", NODE])?;

    server.set("allowed.example.test", &[to(11)]);
    let again = ["priority=2 192.0.2.11 output", "priority=1 192.0.2.9 drop"];
    until(SOON, || policy_is(lab, &again))
}

/// Whether the policy's flows in table 101 are these: priority, destination, what is done.
fn policy_is(lab: &Lab, expected: &[&str]) -> anyhow::Result<()> {
    let flows =
        lab.ovs(NODE, &["ovs-ofctl", "-O", "OpenFlow13", "--no-stats", "dump-flows", "br0", "table=101"])?;
    let of = |line: &str| {
        let (_, rest) = line.split_once("priority=")?;
        let (priority, fields) = rest.split_once(',')?;
        let destination = fields
            .split_once("nw_dst=")
            .map_or("any", |(_, rest)| rest.split(' ').next().unwrap_or_default());
        let does = if line.contains("actions=drop") { "drop" } else { "output" };
        Some(format!("priority={priority} {destination} {does}"))
    };
    let mut found: Vec<String> = flows.lines().filter_map(of).collect();
    found.sort();
    let mut expected: Vec<String> = expected.iter().map(|&line| line.to_owned()).collect();
    expected.sort();
    ensure!(found == expected, "{found:#?} instead of {expected:#?}");
    Ok(())
}
