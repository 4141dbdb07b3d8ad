//! Tests of the allocator as a whole; those of its parts are beside them.

mod egress_ips;
mod in_a_directory;
mod invariants;
mod on_their_way;
mod renumbering;
mod unreadable;

use k8s_openapi::api::core::v1::Node;
use serde_json::json;

use super::*;
use crate::cluster::Object;

/// A state from JSON objects without the parts that go without saying.
fn state(objects: &[serde_json::Value]) -> ClusterState {
    let mut state = ClusterState::default();
    for value in objects {
        let mut value = value.clone();
        let kind: Kind = value["kind"].as_str().unwrap().parse().unwrap();
        value["apiVersion"] = json!(kind.api_version());
        assert_eq!(state.insert(Object::from_value(kind, value).unwrap()), None);
    }
    state
}

fn network(plugin: &str) -> serde_json::Value {
    json!({
        "kind": "ClusterNetwork", "metadata": {"name": "default"},
        "network": "10.128.0.0/14", "hostsubnetlength": 9,
        "clusterNetworks": [{"CIDR": "10.128.0.0/14", "hostSubnetLength": 9}],
        "serviceNetwork": "172.30.0.0/16", "pluginName": plugin,
    })
}

fn node(name: &str, ip: &str) -> serde_json::Value {
    json!({
        "kind": "Node", "metadata": {"name": name, "uid": format!("uid-{name}")},
        "status": {"addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": ip}]},
    })
}

fn host_subnet(name: &str, ip: &str, subnet: &str, annotations: serde_json::Value) -> serde_json::Value {
    json!({
        "kind": "HostSubnet", "metadata": {"name": name, "annotations": annotations},
        "host": name, "hostIP": ip, "subnet": subnet,
    })
}

fn owned(node: &str) -> serde_json::Value {
    json!({"pod.network.openshift.io/node-uid": format!("uid-{node}")})
}

fn namespace(name: &str) -> serde_json::Value {
    json!({"kind": "Namespace", "metadata": {"name": name, "uid": format!("uid-{name}")}})
}

fn net_namespace(name: &str, vnid: u32) -> serde_json::Value {
    json!({"kind": "NetNamespace", "metadata": {"name": name}, "netname": name, "netid": vnid})
}

/// Changes and problems as people read them.
fn told(objects: &[serde_json::Value]) -> (Vec<String>, Vec<String>) {
    let allocation = allocate(&state(objects));
    (
        allocation.changes.iter().map(ToString::to_string).collect(),
        allocation.problems.iter().map(ToString::to_string).collect(),
    )
}

/// The state after the changes; a change that can't be made fails the test.
fn after(state: &ClusterState, allocation: &Allocation) -> ClusterState {
    let mut state = state.clone();
    for change in &allocation.changes {
        match &change.action {
            Action::Create(object) => {
                assert_eq!(object.reference(), change.object);
                assert_eq!(state.insert(object.clone()), None, "{change}: exists");
            }
            Action::Patch(patch) => {
                let mut value = state.get(&change.object).unwrap().to_value().unwrap();
                json_patch::merge(&mut value, patch);
                state.insert(Object::from_value(change.object.kind, value).unwrap());
            }
            Action::Delete => {
                let gone = match change.object.kind {
                    Kind::HostSubnet => state.host_subnets.remove(&change.object.name).is_some(),
                    Kind::NetNamespace => state.net_namespaces.remove(&change.object.name).is_some(),
                    kind => panic!("deletes a {kind}"),
                };
                assert!(gone, "{change}: not there");
            }
        }
    }
    state
}

const SUBNET: &str = "redhat/openshift-ovs-subnet";
const MULTITENANT: &str = "redhat/openshift-ovs-multitenant";

#[test]
fn nodes_get_subnets_and_namespaces_vnids() {
    let objects = [
        network(MULTITENANT),
        node("n1", "192.168.1.1"),
        node("n2", "192.168.1.2"),
        namespace("default"),
        namespace("a"),
        namespace("b"),
        net_namespace("a", 10),
    ];
    let (changes, problems) = told(&objects);
    assert_eq!(
        changes,
        [
            "create HostSubnet n1: 10.128.0.0/23 for 192.168.1.1",
            "create HostSubnet n2: 10.129.0.0/23 for 192.168.1.2",
            "create NetNamespace b: VNID 11",
            "create NetNamespace default: VNID 0",
        ]
    );
    assert_eq!(problems, [""; 0]);

    let before = state(&objects);
    let state = after(&before, &allocate(&before));
    let made = serde_json::to_value(&*state.host_subnets["n1"]).unwrap();
    assert_eq!(
        made,
        json!({
            "apiVersion": "network.openshift.io/v1", "kind": "HostSubnet",
            "metadata": {"name": "n1", "annotations": {"pod.network.openshift.io/node-uid": "uid-n1"}},
            "host": "n1", "hostIP": "192.168.1.1", "subnet": "10.128.0.0/23",
        })
    );
    let made = serde_json::to_value(&*state.net_namespaces["b"]).unwrap();
    assert_eq!(
        made,
        json!({
            "apiVersion": "network.openshift.io/v1", "kind": "NetNamespace",
            "metadata": {"name": "b", "ownerReferences": [{"apiVersion": "v1", "kind": "Namespace", "name": "b", "uid": "uid-b"}]},
            "netname": "b", "netid": 11,
        })
    );
    assert_eq!(allocate(&state), Allocation::default());
}

#[test]
fn the_subnet_plugin_manages_no_net_namespaces() {
    let (changes, problems) = told(&[network(SUBNET), namespace("a"), net_namespace("b", 12)]);
    assert_eq!((changes, problems), (vec![], vec![]));
}

#[test]
fn host_subnets_follow_their_nodes() {
    let n1 = || node("n1", "192.168.1.1");
    let at = |ip: &str, annotations| host_subnet("n1", ip, "10.130.0.0/23", annotations);
    for (what, objects, expected) in [
        ("in line", vec![n1(), at("192.168.1.1", owned("n1"))], vec![]),
        (
            "made by hand or by an old release",
            vec![n1(), at("192.168.1.1", json!({}))],
            vec!["update HostSubnet n1: UID of the Node uid-n1"],
        ),
        (
            "the Node has moved and was registered again",
            vec![n1(), at("192.168.1.9", owned("old"))],
            vec!["update HostSubnet n1: hostIP 192.168.1.1, was 192.168.1.9, UID of the Node uid-n1"],
        ),
        (
            "the Node is gone",
            vec![at("192.168.1.1", owned("n1"))],
            vec!["delete HostSubnet n1: its Node is gone"],
        ),
        ("there never was a Node", vec![at("192.168.1.1", json!({}))], vec![]),
        (
            "there never was a Node, and the UID is empty",
            vec![at("192.168.1.1", json!({"pod.network.openshift.io/node-uid": ""}))],
            vec![],
        ),
        (
            "the Node has two addresses, and the first is IPv6",
            vec![
                json!({
                    "kind": "Node", "metadata": {"name": "n1", "uid": "uid-n1"},
                    "status": {"addresses": [
                        {"type": "ExternalIP", "address": "192.0.2.1"}, {"type": "InternalIP", "address": "fd00::1"},
                        {"type": "InternalIP", "address": "192.168.1.1"}, {"type": "InternalIP", "address": "192.168.1.2"},
                    ]},
                }),
                at("192.168.1.1", owned("n1")),
            ],
            vec![],
        ),
        (
            "a machine outside asks for a subnet",
            vec![host_subnet(
                "f5",
                "192.168.1.50",
                "",
                json!({"pod.network.openshift.io/assign-subnet": ""}),
            )],
            vec!["update HostSubnet f5: subnet 10.128.0.0/23, its request for a subnet is met"],
        ),
        (
            "a machine outside asks, and has chosen itself",
            vec![host_subnet(
                "f5",
                "192.168.1.50",
                "10.131.0.0/23",
                json!({"pod.network.openshift.io/assign-subnet": "true"}),
            )],
            vec!["update HostSubnet f5: its request for a subnet is met"],
        ),
        (
            "a machine outside asks for none",
            vec![host_subnet(
                "f5",
                "192.168.1.50",
                "10.131.0.0/23",
                json!({"pod.network.openshift.io/assign-subnet": "false"}),
            )],
            vec![],
        ),
    ] {
        let objects: Vec<_> = [network(SUBNET)].into_iter().chain(objects).collect();
        let (changes, problems) = told(&objects);
        assert_eq!(changes, expected, "{what}");
        assert_eq!(problems, [""; 0], "{what}");
    }
}

#[test]
fn requests_keep_what_else_the_object_says() {
    let mut f5 = host_subnet(
        "f5",
        "192.168.1.50",
        "",
        json!({"pod.network.openshift.io/assign-subnet": "", "pod.network.openshift.io/fixed-vnid-host": "7"}),
    );
    f5["egressIPs"] = json!(["192.168.1.51"]);
    f5["metadata"]["resourceVersion"] = json!("41");
    let before = state(&[network(SUBNET), f5]);
    let allocation = allocate(&before);
    let Action::Patch(patch) = &allocation.changes[0].action else { panic!("{allocation:?}") };
    assert_eq!(
        *patch,
        json!({
            "subnet": "10.128.0.0/23",
            "metadata": {"annotations": {"pod.network.openshift.io/assign-subnet": null}, "resourceVersion": "41"},
        })
    );
    let f5 = &after(&before, &allocation).host_subnets["f5"];
    assert_eq!(f5.egress_ips, ["192.168.1.51"]);
    let annotations: Vec<_> = f5.metadata.annotations.as_ref().unwrap().iter().collect();
    assert_eq!(annotations, [(&"pod.network.openshift.io/fixed-vnid-host".to_owned(), &"7".to_owned())]);
}

#[test]
fn one_objects_problem_holds_up_no_other() {
    let mut shared = node("n6", "192.168.1.5");
    shared["metadata"]["creationTimestamp"] = json!("2024-01-01T00:00:00Z");
    let (changes, problems) = told(&[
        network(SUBNET),
        json!({"kind": "Node", "metadata": {"name": "n1"}}),
        node("n2", "10.129.3.4"),
        node("n3", "172.30.0.9"),
        node("n4", "127.0.0.1"),
        node("n5", "192.168.1.5"),
        shared,
        host_subnet("a", "192.168.1.50", "10.128.0.0/23", json!({})),
        host_subnet("b", "192.168.1.51", "10.128.1.0/24", json!({})),
        host_subnet("c", "192.168.1.52", "192.168.0.0/24", json!({})),
        host_subnet("d", "10.128.0.4", "10.131.0.0/23", json!({})),
    ]);
    assert_eq!(
        changes,
        [
            "create HostSubnet n5: 10.129.0.0/23 for 192.168.1.5",
            "create HostSubnet n6: 10.130.0.0/23 for 192.168.1.5"
        ]
    );
    assert_eq!(
        problems,
        [
            "HostSubnet c: 192.168.0.0/24 lies in no cluster network: append its network to clusterNetworks of ClusterNetwork default, \
             or delete the HostSubnet",
            "HostSubnet b (10.128.1.0/24) overlaps HostSubnet a (10.128.0.0/23): delete one of them; if it belongs to a Node, that \
             gets another subnet",
            "Node n1 has no IPv4 address of type InternalIP in status.addresses: it gets a HostSubnet when it has one",
            "Node n2: node IP 10.129.3.4 conflicts with cluster network 10.128.0.0/14: give the node an address outside it, or the \
             cluster another network",
            "Node n3: node IP 172.30.0.9 conflicts with service network 172.30.0.0/16: give the node an address outside it, or the \
             cluster another service network",
            "Node n4: 127.0.0.1 can't be a node's IP: use the address under which other nodes reach it",
            "Node n6 and Node n5 have the same InternalIP 192.168.1.5: give each its own, or tunnels go astray",
            "HostSubnet d: node IP 10.128.0.4 conflicts with cluster network 10.128.0.0/14: give the node an address outside it, or \
             the cluster another network",
        ]
    );
}

#[test]
fn without_a_usable_network_nothing_is_done() {
    let (changes, problems) = told(&[node("n1", "192.168.1.1"), namespace("a")]);
    assert_eq!(changes, [""; 0]);
    assert_eq!(
        problems,
        ["there is no ClusterNetwork default: create it with clusterNetworks, serviceNetwork and pluginName"]
    );
    let (changes, problems) = told(&[network("redhat/other"), node("n1", "192.168.1.1")]);
    assert_eq!(changes, [""; 0]);
    assert_eq!(
        problems,
        [
            "ClusterNetwork default: pluginName: Unknown plugin name \"redhat/other\": use one of redhat/openshift-ovs-subnet, \
          redhat/openshift-ovs-multitenant, redhat/openshift-ovs-networkpolicy"
        ]
    );
}

#[test]
fn exhaustion_ends_when_a_node_goes() {
    let mut small = network(SUBNET);
    for field in ["network", "hostsubnetlength"] {
        small.as_object_mut().unwrap().remove(field);
    }
    small["network"] = json!("10.1.0.0/16");
    small["hostsubnetlength"] = json!(15);
    small["clusterNetworks"] = json!([{"CIDR": "10.1.0.0/16", "hostSubnetLength": 15}]);
    let mut current =
        state(&[small, node("n1", "192.168.1.1"), node("n2", "192.168.1.2"), node("n3", "192.168.1.3")]);
    let allocation = allocate(&current);
    assert_eq!(allocation.changes.len(), 2);
    assert_eq!(
        allocation.problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "Node n3 gets no subnet: none is free in 10.1.0.0/16 (a /17 each); append a network to clusterNetworks of ClusterNetwork \
          default, or remove Nodes that are no longer there"
        ]
    );
    assert_eq!(allocation.problems[0].object(), ObjectRef::cluster(Kind::Node, "n3"));

    current = after(&current, &allocation);
    current.nodes.remove("n1");
    let mut told = Vec::new();
    for _ in 0..2 {
        let allocation = allocate(&current);
        told.extend(allocation.changes.iter().map(ToString::to_string));
        current = after(&current, &allocation);
    }
    assert_eq!(
        told,
        ["delete HostSubnet n1: its Node is gone", "create HostSubnet n3: 10.1.0.0/17 for 192.168.1.3"]
    );
    assert_eq!(allocate(&current), Allocation::default());
}

#[test]
fn net_namespaces_made_here_go_with_their_namespace() {
    let made = |uid: &str| {
        let mut object = net_namespace("a", 12);
        object["metadata"]["ownerReferences"] =
            json!([{"apiVersion": "v1", "kind": "Namespace", "name": "a", "uid": uid}]);
        object
    };
    let gone = vec!["delete NetNamespace a: its Namespace is gone".to_owned()];
    for (objects, expected) in [
        (vec![made("uid-a"), namespace("a")], vec![]),
        (vec![made("uid-a")], gone.clone()),
        // Deleted and created again: the new tenant inherits nothing of the old one's.
        (vec![made("uid-old"), namespace("a")], gone),
        (vec![net_namespace("a", 12)], vec![]),
    ] {
        let objects: Vec<_> = [network(MULTITENANT)].into_iter().chain(objects).collect();
        assert_eq!(told(&objects).0, expected);
    }
}

#[test]
fn a_namespace_on_its_way_out_gets_no_vnid() {
    let mut leaving = namespace("a");
    leaving["metadata"]["deletionTimestamp"] = json!("2024-01-01T00:00:00Z");
    assert_eq!(told(&[network(MULTITENANT), leaving]).0, [""; 0]);
}
