//! The eight documented walks offline: `sdnctl trace` over the demo's directory, without any switch. The live ones are
//! in `cluster/walks.rs`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop at the first surprise")]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tests::{binary, checkout, run};

fn sdnctl(cluster: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(binary("sdnctl").unwrap());
    run(command.args(arguments).arg("--cluster").arg(cluster)).unwrap_or_else(|error| panic!("{error:#}"))
}

fn trace(cluster: &Path, node: &str, packet: &str) -> Value {
    let text = sdnctl(cluster, &["trace", "--node", &format!("{node}.ocp.cn"), "-o", "json", packet]);
    serde_json::from_str(&text).unwrap()
}

fn demo() -> PathBuf {
    checkout().join("manifests/demo")
}

#[track_caller]
fn expect(answer: &Value, path: &[u8], verdict: &Value) {
    assert_eq!((&answer["path"], &answer["verdict"]), (&json!(path), verdict), "{answer:#}");
}

#[test]
fn walk_1_between_pods_of_a_node() {
    let answer = trace(&demo(), "node2", "in_port=4,tcp,nw_src=10.130.0.6,nw_dst=10.130.0.5,ct_state=trk");
    expect(&answer, &[0, 20, 21, 30, 70, 80], &json!({ "output": [3] }));
    assert_eq!(answer["registers"], json!({ "reg0": 0, "reg1": 0, "reg2": 3 }));
}

#[test]
fn walk_2_to_a_pod_of_another_node() {
    let answer = trace(&demo(), "node2", "in_port=4,tcp,nw_src=10.130.0.6,nw_dst=10.131.0.4,ct_state=trk");
    expect(&answer, &[0, 20, 21, 30, 90], &json!({ "output": [1] }));
    assert_eq!(answer["tunnel"], json!({ "id": 0, "dst": "192.168.108.111" }));
}

#[test]
fn walk_3_from_the_tunnel_to_a_pod() {
    let packet = "in_port=1,tcp,tun_src=192.168.108.112,nw_dst=10.131.0.4,ct_state=trk";
    expect(&trace(&demo(), "node1", packet), &[0, 10, 30, 70, 80], &json!({ "output": [3] }));
}

#[test]
fn walk_4_from_the_nodes_own_address() {
    let packet = "in_port=1,tcp,tun_src=192.168.108.111,nw_dst=10.131.0.4,ct_state=trk";
    let why = "192.168.108.111 is no other node of this cluster: not heard";
    expect(&trace(&demo(), "node1", packet), &[0, 10], &json!({ "drop": why }));
}

#[test]
fn walk_5_to_the_outside() {
    let packet = "in_port=4,tcp,nw_src=10.130.0.6,nw_dst=192.168.108.1,ct_state=trk";
    expect(&trace(&demo(), "node2", packet), &[0, 20, 21, 30, 100, 101], &json!({ "output": [2] }));
}

#[test]
fn walk_6_to_a_service() {
    let packet = "in_port=4,tcp,nw_src=10.130.0.6,nw_dst=172.30.161.148,ct_state=trk";
    expect(&trace(&demo(), "node2", packet), &[0, 20, 21, 30, 60], &json!({ "output": [2] }));
}

/// The demo under `multitenant`, with an egress IP of kube-public on infra.
fn with_egress_ip() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(demo()).unwrap() {
        let file = entry.unwrap().path();
        std::fs::copy(&file, dir.path().join(file.file_name().unwrap())).unwrap();
    }
    for (kind, name, patch) in [
        ("clusternetwork", "default", json!({ "pluginName": "redhat/openshift-ovs-multitenant" })),
        ("hostsubnet", "infra.ocp.cn", json!({ "egressIPs": ["192.168.108.200"] })),
        ("netnamespace", "kube-public", json!({ "egressIPs": ["192.168.108.200"] })),
    ] {
        sdnctl(dir.path(), &["patch", kind, name, "--patch", &patch.to_string()]);
    }
    dir
}

#[test]
fn walk_7_to_the_node_that_hosts_the_egress_ip() {
    let dir = with_egress_ip();
    let packet = "in_port=4,tcp,nw_src=10.128.0.56,nw_dst=192.168.108.1,ct_state=trk";
    let answer = trace(dir.path(), "master", packet);
    expect(&answer, &[0, 20, 21, 30, 100], &json!({ "output": [1] }));
    assert_eq!(answer["registers"]["reg0"], 0x82_f8b2);
    assert_eq!(answer["tunnel"], json!({ "id": 0x82_f8b2, "dst": "192.168.108.113" }));
}

#[test]
fn walk_8_on_the_node_that_hosts_the_egress_ip() {
    let dir = with_egress_ip();
    let packet = "in_port=1,tcp,tun_src=192.168.108.110,tun_id=0x82f8b2,nw_src=10.128.0.56,\
                  nw_dst=192.168.108.1,ct_state=trk";
    let answer = trace(dir.path(), "infra", packet);
    expect(&answer, &[0, 10, 30, 100, 101], &json!({ "output": [2] }));
    assert_eq!(answer["mark"], 0x82_f8b2);
    // Offline tun0 has the MAC address that the node gives it, made from its address.
    let flow = answer["steps"][3]["flow"].as_str().unwrap();
    assert!(flow.contains("set_field:0a:58:0a:81:00:01->eth_dst"), "{flow}");
}
