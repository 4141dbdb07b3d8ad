//! Egress IPs, from objects to objects.

use super::*;

fn ready(name: &str, ip: &str, status: &str) -> serde_json::Value {
    let mut object = node(name, ip);
    object["status"]["conditions"] = json!([{"type": "Ready", "status": status}]);
    object
}

fn hosting(name: &str, ip: &str, subnet: &str, cidrs: &[&str], ips: &[&str]) -> serde_json::Value {
    let mut object = host_subnet(name, ip, subnet, owned(name));
    object["egressCIDRs"] = json!(cidrs);
    object["egressIPs"] = json!(ips);
    object
}

fn asking(name: &str, vnid: u32, ips: &[&str]) -> serde_json::Value {
    let mut object = net_namespace(name, vnid);
    object["egressIPs"] = json!(ips);
    object
}

const CIDRS: &[&str] = &["192.168.1.0/24"];

fn n1(status: &str, ips: &[&str]) -> [serde_json::Value; 2] {
    [ready("n1", "192.168.1.1", status), hosting("n1", "192.168.1.1", "10.128.0.0/23", CIDRS, ips)]
}

fn n2(ips: &[&str]) -> [serde_json::Value; 2] {
    [ready("n2", "192.168.1.2", "True"), hosting("n2", "192.168.1.2", "10.129.0.0/23", CIDRS, ips)]
}

fn told_of(objects: &[&[serde_json::Value]]) -> (Vec<String>, Vec<String>) {
    told(&[&[network(MULTITENANT)], objects.concat().as_slice()].concat())
}

#[test]
fn addresses_are_spread_and_move_when_a_node_fails() {
    let wanted = [asking("a", 10, &["192.168.1.100"]), asking("b", 11, &["192.168.1.101"])];
    assert_eq!(
        told_of(&[&n1("True", &[]), &n2(&[]), &wanted]).0,
        [
            "update HostSubnet n1: egress IPs 192.168.1.100, were none",
            "update HostSubnet n2: egress IPs 192.168.1.101, were none"
        ]
    );
    for status in ["False", "Unknown"] {
        assert_eq!(
            told_of(&[&n1(status, &["192.168.1.100"]), &n2(&["192.168.1.101"]), &wanted]).0,
            [
                "update HostSubnet n1: no egress IPs, were 192.168.1.100",
                "update HostSubnet n2: egress IPs 192.168.1.100, 192.168.1.101, were 192.168.1.101"
            ]
        );
    }
    // The Node is deleted.
    assert_eq!(
        told_of(&[&n1("True", &["192.168.1.100"])[1..], &n2(&["192.168.1.101"]), &wanted]).0,
        [
            "delete HostSubnet n1: its Node is gone",
            "update HostSubnet n2: egress IPs 192.168.1.100, 192.168.1.101, were 192.168.1.101"
        ]
    );
    assert_eq!(
        told_of(&[&n1("True", &["192.168.1.100"]), &n2(&["192.168.1.101"]), &wanted]),
        (vec![], vec![])
    );
    // Nobody asks any more.
    assert_eq!(
        told_of(&[&n1("True", &["192.168.1.100"])]).0,
        ["update HostSubnet n1: no egress IPs, were 192.168.1.100"]
    );
}

#[test]
fn what_somebody_wrote_stays() {
    let manual = hosting("n3", "192.168.1.3", "10.130.0.0/23", &[], &["192.168.1.100"]);
    let third = [ready("n3", "192.168.1.3", "False"), manual];
    let wanted = [asking("a", 10, &["192.168.1.100"]), asking("b", 11, &["192.168.1.101"])];
    assert_eq!(
        told_of(&[&n1("True", &[]), &third, &wanted]).0,
        ["update HostSubnet n1: egress IPs 192.168.1.101, were none"]
    );
}

#[test]
fn the_patch_names_the_version_that_was_read() {
    let mut parts = n1("True", &[]);
    parts[1]["metadata"]["resourceVersion"] = json!("7");
    let state =
        state(&[&[network(MULTITENANT), asking("a", 10, &["192.168.1.100"])], parts.as_slice()].concat());
    let Action::Patch(patch) = &allocate(&state).changes[0].action else { panic!() };
    assert_eq!(*patch, json!({"egressIPs": ["192.168.1.100"], "metadata": {"resourceVersion": "7"}}));
}

#[test]
fn what_is_not_in_use_is_told() {
    let wanted = [
        asking("a", 10, &["192.168.1.100", "192.168.1.101"]),
        asking("b", 11, &["192.168.1.200"]),
        asking("c", 12, &["192.168.1.200"]),
        asking("d", 13, &["192.168.9.1"]),
        // Shares a's VNID and is not asked.
        asking("z", 10, &["192.168.1.102"]),
    ];
    let (changes, problems) = told_of(&[&n1("True", &[]), &wanted]);
    assert_eq!(changes, ["update HostSubnet n1: egress IPs 192.168.1.100, were none"]);
    assert_eq!(
        problems,
        [
            "NetNamespace b: egress IP 192.168.1.200 is not in use: NetNamespace c asks for it too",
            "NetNamespace c: egress IP 192.168.1.200 is not in use: NetNamespace b asks for it too",
            "NetNamespace a: egress IP 192.168.1.101 is not in use: a node hosts one address of a namespace only, and those that may \
             have this one host another already (egressCIDRs of n1)",
            "NetNamespace d: egress IP 192.168.9.1 is not in use: no HostSubnet lists it in egressIPs, and none has egressCIDRs that \
             contain it",
        ]
    );
    let (_, problems) = told_of(&[&n1("False", &[]), &wanted[..1]]);
    assert_eq!(
        problems[0],
        "NetNamespace a: egress IP 192.168.1.100 is not in use: no node that may have it is ready (egressCIDRs of n1)"
    );
}

#[test]
fn a_bad_host_subnet_is_left_as_it_is() {
    let bad = [
        ready("n1", "192.168.1.1", "True"),
        hosting("n1", "192.168.1.1", "10.128.0.0/23", &["192.168.1.0/33"], &["192.168.1.5"]),
    ];
    let (changes, problems) = told_of(&[&bad, &[asking("a", 10, &["192.168.1.100"])]]);
    assert_eq!(changes, [""; 0]);
    assert!(
        problems[0].starts_with("HostSubnet n1: egressCIDRs[0]: \"192.168.1.0/33\" is no IPv4 network"),
        "{problems:?}"
    );
}
