//! Numbers that are neither where they were nor where they will be.

use super::*;

/// What `changes` come to for people, one line each.
fn lines(allocation: &Allocation) -> Vec<String> {
    allocation.changes.iter().map(ToString::to_string).collect()
}

/// Reservations as they are after what `state` asks for was noted.
fn noted(state: &ClusterState) -> Reservations {
    let mut reservations = Reservations::default();
    reservations.note(state, &allocate(state).changes, 1000);
    reservations
}

#[test]
fn a_noted_subnet_is_for_whom_it_was_noted() {
    let n2 = node("n2", "192.168.1.2");
    let reservations = noted(&state(&[network(SUBNET), n2.clone()]));
    let both = [network(SUBNET), node("n1", "192.168.1.1"), n2.clone()];
    assert_eq!(
        lines(&allocate_beside(&state(&both), &reservations)),
        [
            "create HostSubnet n1: 10.129.0.0/23 for 192.168.1.1",
            "create HostSubnet n2: 10.128.0.0/23 for 192.168.1.2"
        ]
    );

    // Meanwhile somebody has taken half of it.
    let by_hand = host_subnet("x", "192.168.1.9", "10.128.1.0/24", json!({}));
    let objects = [network(SUBNET), n2.clone(), by_hand];
    assert_eq!(
        lines(&allocate_beside(&state(&objects), &reservations)),
        ["create HostSubnet n2: 10.129.0.0/23 for 192.168.1.2"]
    );

    // Or it is of a network that is no longer the cluster's.
    let mut other = network(SUBNET);
    other["network"] = json!("10.160.0.0/14");
    other["clusterNetworks"][0]["CIDR"] = json!("10.160.0.0/14");
    assert_eq!(
        lines(&allocate_beside(&state(&[other, n2]), &reservations)),
        ["create HostSubnet n2: 10.160.0.0/23 for 192.168.1.2"]
    );
}

/// As the API server leaves an object that was deleted while a finalizer keeps it.
fn kept(mut object: serde_json::Value) -> serde_json::Value {
    object["metadata"]["deletionTimestamp"] = json!("2024-01-01T00:00:00Z");
    object["metadata"]["finalizers"] = json!(["example.com/keep"]);
    object
}

#[test]
fn what_a_finalizer_keeps_is_neither_deleted_again_nor_given() {
    let mut tenant = net_namespace("gone", 10);
    tenant["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "v1", "kind": "Namespace", "name": "gone", "uid": "uid-gone"}]);
    let subnet = host_subnet("n1", "192.168.1.1", "10.128.0.0/23", owned("n1"));
    let rest = [network(MULTITENANT), node("n2", "192.168.1.2"), namespace("new")];
    let with =
        |objects: [serde_json::Value; 2]| state(&rest.iter().cloned().chain(objects).collect::<Vec<_>>());

    let deletions =
        ["delete HostSubnet n1: its Node is gone", "delete NetNamespace gone: its Namespace is gone"];
    let creations =
        ["create HostSubnet n2: 10.129.0.0/23 for 192.168.1.2", "create NetNamespace new: VNID 11"];
    let mut before = lines(&allocate(&with([subnet.clone(), tenant.clone()])));
    before.sort();
    assert_eq!(before, [creations, deletions].concat());
    assert_eq!(lines(&allocate(&with([kept(subnet), kept(tenant)]))), creations);
    // When they are gone so is what they held.
    assert_eq!(
        lines(&allocate(&state(&rest))),
        ["create HostSubnet n2: 10.128.0.0/23 for 192.168.1.2", "create NetNamespace new: VNID 10"]
    );
    // One that is on its way out needs no number any more.
    let asks =
        kept(host_subnet("x", "192.168.1.9", "", json!({"pod.network.openshift.io/assign-subnet": ""})));
    assert!(
        !lines(&allocate(&state(&[network(SUBNET), asks]))).iter().any(|line| line.contains("subnet 10."))
    );
}
