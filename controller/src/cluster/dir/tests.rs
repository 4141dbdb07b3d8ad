//! Tests of the directory as a whole; those of its parts are beside them.

mod any_text;
mod bad_documents;
mod source;
mod writer;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;

use super::*;
use crate::api::{Kind, NetworkConfig, PluginMode, Subnet};
use crate::cluster::ClusterState;

/// A directory with these files.
fn dir(files: &[(&str, &str)]) -> TempDir {
    let dir = TempDir::new().unwrap();
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

fn repository(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn names<K: Clone, T>(map: &std::collections::BTreeMap<K, T>) -> Vec<K> {
    map.keys().cloned().collect()
}

const NAMESPACE_A: &str = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: a\n";

#[test]
fn reads_every_kind_of_an_export() {
    let text = fs::read_to_string(repository("controller/testdata/export.yaml")).unwrap();
    let state = load(dir(&[("export.yaml", &text)]).path()).unwrap();
    assert_eq!(state.objects().count(), text.lines().filter(|line| line.starts_with("kind:")).count());
    for kind in Kind::ALL {
        assert!(state.objects().any(|object| object.kind() == kind), "no {kind}");
    }
    for object in state.objects() {
        let again = crate::cluster::Object::from_value(object.kind(), object.to_value().unwrap()).unwrap();
        assert_eq!(again, object);
        assert_eq!(state.get(&object.reference()), Some(object));
    }
    let f5 = Subnet::try_from(state.host_subnets["f5"].as_ref()).unwrap();
    assert_eq!((f5.fixed_vnid, f5.node_uid), (Some(0), None));
}

#[test]
fn the_demo_is_the_documented_cluster() {
    let state = load(&repository("manifests/demo")).unwrap();
    let network = NetworkConfig::try_from(state.cluster_network.as_deref().unwrap()).unwrap();
    assert_eq!(network.plugin, PluginMode::Subnet);
    assert_eq!((network.vxlan_port, network.mtu), (4789, 1450));

    let nodes: Vec<_> = state
        .host_subnets
        .values()
        .map(|object| {
            let subnet = Subnet::checked(object, &network).unwrap();
            format!("{} {} {} {}", subnet.name, subnet.host_ip, subnet.subnet, subnet.gateway())
        })
        .collect();
    assert_eq!(
        nodes,
        [
            "infra.ocp.cn 192.168.108.113 10.129.0.0/23 10.129.0.1",
            "master.ocp.cn 192.168.108.110 10.128.0.0/23 10.128.0.1",
            "node1.ocp.cn 192.168.108.111 10.131.0.0/23 10.131.0.1",
            "node2.ocp.cn 192.168.108.112 10.130.0.0/23 10.130.0.1",
        ]
    );
    assert_eq!(names(&state.nodes), names(&state.host_subnets));
    let vnids: Vec<_> =
        state.net_namespaces.values().map(|object| (object.netname.as_str(), object.netid)).collect();
    assert_eq!(
        vnids,
        [
            ("default", 0),
            ("kube-public", 8_583_346),
            ("kube-system", 272_037),
            ("management-infra", 2_347_918)
        ]
    );

    for (node, port, pod, ip) in [
        ("node2.ocp.cn", 3, "default/web-76c94f7546-t8pfq", "10.130.0.5"),
        ("node2.ocp.cn", 4, "default/tomcat-nginx-6cf8c89cd7", "10.130.0.6"),
        ("node1.ocp.cn", 3, "default/tomcat-7f646bb995-b8bhr", "10.131.0.4"),
        ("master.ocp.cn", 4, "kube-public/tomcat-nginx-6cf8c89cd7-6hhmf", "10.128.0.56"),
    ] {
        let (found, found_ip) = pod_on_port(&state, node, port);
        assert_eq!((found.as_str(), found_ip.as_str()), (pod, ip), "{node} port {port}");
    }
}

/// The pod that has an OpenFlow port by the rule for offline work: from 3 on in order of age, then name.
fn pod_on_port(state: &ClusterState, node: &str, port: usize) -> (String, String) {
    let mut pods: Vec<_> = state
        .pods
        .values()
        .filter(|pod| pod.spec.as_ref().unwrap().node_name.as_deref() == Some(node))
        .map(|pod| {
            let meta = pod.metadata.clone();
            let name = format!("{}/{}", meta.namespace.unwrap(), meta.name.unwrap());
            (meta.creation_timestamp, name, pod.status.as_ref().unwrap().pod_ip.clone().unwrap())
        })
        .collect();
    pods.sort();
    let (_, name, ip) = pods.swap_remove(port - 3);
    (name, ip)
}

#[test]
fn what_counts_as_a_file() {
    let dir = dir(&[
        ("a.yaml", NAMESPACE_A),
        ("b.yml", &NAMESPACE_A.replace("name: a", "name: b")),
        (
            "c.json",
            "{\n\t\"kind\": \"Namespace\",\n\t\"apiVersion\": \"v1\", \"metadata\": {\"name\": \"c\"}\n}\n",
        ),
        (".d.yaml", "not: read"),
        ("e.txt", "not: read"),
        ("empty.yaml", "\n# nothing\n---\n...\n"),
    ]);
    fs::create_dir(dir.path().join("sub.yaml")).unwrap();
    fs::write(dir.path().join("sub.yaml").join("f.yaml"), "not: read").unwrap();
    std::os::unix::fs::symlink("a.yaml", dir.path().join(".hidden")).unwrap();
    assert_eq!(names(&load(dir.path()).unwrap().namespaces), ["a", "b", "c"]);
}

#[test]
fn lists_and_kinds_of_others() {
    let dir = dir(&[(
        "a.yaml",
        "\
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Namespace, metadata: {name: a}}
- {apiVersion: apps/v1, kind: Deployment, spec: 5}
- apiVersion: network.openshift.io/v1
  kind: NetNamespaceList
  items:
  - {metadata: {name: a}, netname: a, netid: 12}
---
apiVersion: serving.example.com/v1
kind: Service
---
# As OpenShift 3 exported it.
apiVersion: v1
kind: NetNamespace
metadata: {name: b, creationTimestamp: null}
netname: b
netid: 13
egressIPs: null
",
    )]);
    let state = load(dir.path()).unwrap();
    assert_eq!(names(&state.namespaces), ["a"]);
    assert_eq!(names(&state.net_namespaces), ["a", "b"]);
    assert_eq!(state.objects().count(), 3);
}

#[test]
fn stands_in_for_the_api_server() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n";
    let dir = dir(&[("a.yaml", pod), ("b.yaml", &pod.replace("name: a", "name: a, namespace: other"))]);
    let state = load(dir.path()).unwrap();
    let key = |namespace: &str| (namespace.to_owned(), "a".to_owned());
    let uid = |namespace: &str| state.pods[&key(namespace)].metadata.uid.clone().unwrap();
    assert_eq!(names(&state.pods), [key("default"), key("other")]);
    assert_eq!(uid("default"), "380c912a-83bd-8583-ae0f-907213ecc727");
    assert_ne!(uid("default"), uid("other"));
    assert_eq!(load(dir.path()).unwrap(), state);
}

#[test]
fn fills_in_what_an_api_server_fills_in() {
    let dir = dir(&[(
        "a.yaml",
        "\
{apiVersion: v1, kind: Namespace, metadata: {name: a}}
--- {apiVersion: v1, kind: Service, metadata: {name: s}, spec: {ports: [{port: 80}]}}
--- {apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: e}, addressType: IPv4, endpoints: [], ports: [{port: 80}]}
--- {apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: i}, spec: {podSelector: {}}}
--- {apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: x}, spec: {podSelector: {}, egress: [{ports: [{port: 53}]}]}}
",
    )]);
    let state = load(dir.path()).unwrap();
    assert_eq!(state.namespaces["a"].metadata.labels.as_ref().unwrap()["kubernetes.io/metadata.name"], "a");
    let key = |name: &str| ("default".to_owned(), name.to_owned());
    let port = &state.services[&key("s")].spec.as_ref().unwrap().ports.as_ref().unwrap()[0];
    assert_eq!(serde_json::json!(port), serde_json::json!({"port": 80, "protocol": "TCP", "targetPort": 80}));
    assert_eq!(state.endpoint_slices[&key("e")].ports.as_ref().unwrap()[0].protocol.as_deref(), Some("TCP"));
    let policy = |name: &str| state.network_policies[&key(name)].spec.clone().unwrap();
    assert_eq!(policy("i").policy_types.unwrap(), ["Ingress"]);
    assert_eq!(policy("x").policy_types.unwrap(), ["Ingress", "Egress"]);
    assert_eq!(policy("x").egress.unwrap()[0].ports.as_ref().unwrap()[0].protocol.as_deref(), Some("TCP"));
}
