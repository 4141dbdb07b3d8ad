//! `sdnctl trace --from --to` on the cluster of `manifests/demo`: exit status, texts, JSON.

#![expect(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
#![expect(clippy::indexing_slicing, reason = "tests may stop at the first surprise")]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

const WEB: &str = "default/web-76c94f7546-t8pfq";
const TOMCAT: &str = "default/tomcat-7f646bb995-b8bhr";
const METRICS: &str = "kube-system/metrics-5f7b9c6d48-xk2lp";

/// The demo's cluster with these documents besides.
fn demo(plugin: &str, more: &str) -> TempDir {
    let dir = TempDir::new().unwrap();
    let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/demo");
    for file in fs::read_dir(manifests).unwrap().map(Result::unwrap) {
        let text = fs::read_to_string(file.path()).unwrap();
        let text = text.replace("openshift-ovs-subnet", &format!("openshift-ovs-{plugin}"));
        fs::write(dir.path().join(file.file_name()), text).unwrap();
    }
    fs::write(dir.path().join("more.yaml"), more).unwrap();
    dir
}

/// Exit status, standard output, standard error.
fn sdnctl(cluster: &TempDir, args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_sdnctl"))
        .arg(args[0])
        .arg("--cluster")
        .arg(cluster.path())
        .args(&args[1..])
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn trace(cluster: &TempDir, from: &str, to: &str, more: &[&str]) -> (Option<i32>, String, String) {
    sdnctl(cluster, &[&["trace", "--from", from, "--to", to], more].concat())
}

fn json(cluster: &TempDir, from: &str, to: &str, more: &[&str]) -> (Option<i32>, Value) {
    let (status, out, err) = trace(cluster, from, to, &[more, &["-o", "json"]].concat());
    (status, serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}")))
}

#[test]
fn to_a_pod_of_another_node_through_the_tunnel() {
    let (status, answer) = json(&demo("multitenant", ""), WEB, TOMCAT, &[]);
    assert_eq!(status, Some(0), "{answer:#}");
    assert_eq!(answer["path"], serde_json::json!([0, 0, 20, 21, 30, 90, 0, 0, 10, 30, 70, 80]));
    assert_eq!(answer["hops"][0]["node"], "node2.ocp.cn");
    assert_eq!(answer["hops"][1]["node"], "node1.ocp.cn");
    assert_eq!(answer["tunnel"], serde_json::json!({ "id": 0, "dst": "192.168.108.111" }));
    assert_eq!(answer["verdict"], serde_json::json!({ "output": [3] }));
    assert_eq!(answer["steps"][11]["node"], "node1.ocp.cn");
    assert_eq!(answer["conclusion"], format!("delivered to pod {TOMCAT} on node node1.ocp.cn"));
}

#[test]
fn another_tenant_is_refused_where_the_pod_is() {
    let other = "apiVersion: v1\nkind: Pod\nmetadata: {name: other, namespace: kube-public}\n\
                 spec: {nodeName: node1.ocp.cn, containers: []}\nstatus: {podIP: 10.131.0.77}\n";
    let cluster = demo("multitenant", other);
    let (status, out, err) = trace(&cluster, METRICS, "kube-public/other", &["--port", "80"]);
    assert_eq!(status, Some(1), "{out}{err}");
    assert!(out.contains("NOT REACHED: dropped on node node1.ocp.cn in table 80 (isolation)"), "{out}");
    let (status, _, _) = trace(&demo("subnet", other), METRICS, "10.131.0.77", &["--proto", "icmp"]);
    assert_eq!(status, Some(0), "an address is that of the pod that has it");
}

#[test]
fn a_service_is_followed_to_each_endpoint() {
    for plugin in ["subnet", "multitenant"] {
        let cluster = demo(plugin, "");
        let (status, answer) = json(&cluster, WEB, "tomcat-service", &[]);
        assert_eq!(status, Some(0), "{answer:#}");
        assert!(
            answer["conclusion"].as_str().unwrap().contains("(kube-proxy) picks an endpoint"),
            "{answer:#}"
        );
        assert_eq!(answer["hops"].as_array().unwrap().len(), 3);
        assert_eq!(answer["hops"][1]["path"], serde_json::json!([0, 0, 25, 30, 90]));
        let (status, _, err) = trace(&cluster, WEB, "svc/default/tomcat-service", &["--port", "81"]);
        assert_eq!(
            (status, err.contains("has no such port: say --proto tcp --port 8080")),
            (Some(3), true),
            "{err}"
        );
    }
}

#[test]
fn a_service_without_endpoints_answers_nobody() {
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: idle, namespace: default}\n\
                   spec: {clusterIP: 172.30.0.9, ports: [{port: 80}, {port: 443}]}\n";
    let cluster = demo("multitenant", service);
    let (status, out, _) = trace(&cluster, WEB, "idle", &["--port", "80"]);
    assert_eq!(status, Some(1), "{out}");
    assert!(out.contains("=> out of tun0"), "{out}");
    assert!(out.contains("but the service has no ready endpoint"), "{out}");
    let (status, _, err) = trace(&cluster, WEB, "idle", &[]);
    assert_eq!(status, Some(2));
    assert!(err.contains("has several ports: say --proto tcp --port 80 or --proto tcp --port 443"), "{err}");
    let (status, out, _) = trace(&cluster, WEB, "172.30.7.7", &[]);
    assert_eq!(status, Some(1), "{out}");
}

#[test]
fn the_outside_is_reached_by_tun0() {
    let (status, answer) = json(&demo("subnet", ""), WEB, "203.0.113.1", &["--port", "443"]);
    assert_eq!((status, &answer["verdict"]), (Some(0), &serde_json::json!({ "output": [2] })));
    assert_eq!(answer["path"], serde_json::json!([0, 0, 20, 21, 30, 100, 101]));
}

#[test]
fn what_is_not_there_is_named() {
    let lost = "apiVersion: v1\nkind: Pod\nmetadata: {name: lost, namespace: default}\n\
                spec: {nodeName: node9, containers: []}\nstatus: {podIP: 10.130.0.99}\n---\n\
                apiVersion: v1\nkind: Pod\nmetadata: {name: waiting, namespace: default}\nspec: {containers: []}\n";
    let cluster = demo("subnet", lost);
    for (from, to, status, text) in [
        ("default/nobody", TOMCAT, 3, "there is no pod default/nobody: default has "),
        ("nowhere/nobody", TOMCAT, 3, "there is no namespace nowhere"),
        ("nobody", TOMCAT, 2, "--from nobody: say NAMESPACE/NAME"),
        (WEB, "default/nothing", 3, "there is no pod or service default/nothing"),
        (WEB, "svc/default/nothing", 3, "there is no svc default/nothing"),
        ("default/lost", TOMCAT, 3, "pod default/lost is on node node9, which has no HostSubnet"),
        (WEB, "default/waiting", 3, "pod default/waiting is on no node yet"),
    ] {
        let (found, _, err) = trace(&cluster, from, to, &[]);
        assert_eq!(found, Some(status), "{from} {to}: {err}");
        assert!(err.contains(text), "{from} {to}: {err}");
    }
    for wrong in [
        &["trace", "--from", WEB][..],
        &["trace", "--to", WEB],
        &["trace", "--from", WEB, "--to", TOMCAT, "ip"],
        &["trace", "--from", WEB, "--to", TOMCAT, "--port", "0"],
        &["trace", "--from", WEB, "--to", TOMCAT, "--tun0-mac", "0a:58"],
        &["trace", "--port", "80", "ip"],
        &["trace"],
    ] {
        assert_eq!(sdnctl(&cluster, wrong).0, Some(2), "{wrong:?}");
    }
}

#[test]
fn render_says_whose_each_flow_is() {
    let cluster = demo("multitenant", "");
    let (status, text, _) = sdnctl(&cluster, &["render", "--node", "node2.ocp.cn"]);
    assert_eq!(status, Some(0));
    let (status, out, err) = sdnctl(&cluster, &["render", "--node", "node2.ocp.cn", "-o", "json"]);
    let answer: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"));
    assert_eq!((status, &answer["node"]), (Some(0), &Value::from("node2.ocp.cn")));
    let flows = answer["flows"].as_array().unwrap();
    let lines: Vec<&str> = flows.iter().map(|flow| flow["flow"].as_str().unwrap()).collect();
    assert_eq!(lines, text.lines().map(str::trim).collect::<Vec<_>>(), "the same flows, in the same order");
    let of_pod: Vec<u64> = flows
        .iter()
        .filter(|flow| flow["owner"] == format!("pod {WEB}"))
        .map(|flow| flow["table"].as_u64().unwrap())
        .collect();
    assert_eq!(of_pod, [20, 20, 25, 40, 70]);
    assert_eq!((&flows[0]["table"], &flows[0]["priority"]), (&Value::from(0), &Value::from(1000)));
    let (status, yaml, _) = sdnctl(&cluster, &["render", "--node", "node2.ocp.cn", "-o", "yaml"]);
    assert!(status == Some(0) && yaml.contains("node: node2.ocp.cn"), "{yaml}");
}

#[test]
fn one_open_vswitch_is_not_taken_for_that_of_every_node() {
    let cluster = demo("multitenant", "");
    for command in ["diff", "flows", "status"] {
        let (status, _, err) = sdnctl(&cluster, &[command]);
        assert_eq!(status, Some(2), "{command}: {err}");
        assert!(
            err.contains(
                "which node does this Open vSwitch belong to? Say --node with one of infra.ocp.cn, master.ocp.cn"
            ),
            "{err}"
        );
    }
    let (status, _, err) = sdnctl(&cluster, &["render"]);
    assert_eq!(status, Some(2));
    assert!(
        err.contains(
            "which node? Say --node with one of infra.ocp.cn, master.ocp.cn, node1.ocp.cn, node2.ocp.cn"
        ),
        "{err}"
    );
}

#[test]
fn a_packet_is_read_as_the_switch_reads_it() {
    let cluster = demo("multitenant", "");
    let trace = |flow: &str| sdnctl(&cluster, &["trace", "--node", "node2.ocp.cn", flow]);
    let (status, out, err) = trace("in_port=tun0,ip,nw_src=10.130.0.1,nw_dst=10.130.0.5,ct_state=trk");
    assert!(status == Some(0) && out.contains("came from the node itself"), "{out}{err}");
    for (flow, said) in [
        ("in_port=4,in_port=5,ip", "in_port is there twice: a packet has one"),
        ("in_port=4,tcp,udp", "tcp and udp: a packet is of one protocol"),
        ("in_port=eth0,ip", "expected a port number or name, found `eth0`"),
        ("in_port=4,ip,nw_src=1.2.3.400", "expected an IPv4 address, found `1.2.3.400`"),
    ] {
        let (status, _, err) = trace(flow);
        assert!(status == Some(2) && err.contains(said), "{flow}: {err}");
    }
    let (status, out, _) = trace("in_port=LOCAL,ip,ct_state=trk");
    assert!(status == Some(0) && out.contains("came from LOCAL, which is no pod's"), "{out}");
}
