//! Objects that are there and can't be read.

use super::*;
use crate::cluster::{Held, ObjectError, Unreadable};

/// `objects` in a cluster with others that can't be read: kind, name and JSON form of each.
fn beside(objects: &[serde_json::Value], unreadable: &[(Kind, &str, serde_json::Value)]) -> ClusterState {
    let mut state = state(objects);
    for (kind, name, value) in unreadable {
        let error = ObjectError { field: "x".to_owned(), reason: "y".to_owned() };
        let known = Unreadable { error, held: Held::by(*kind, value) };
        state.insert_unreadable(ObjectRef::cluster(*kind, *name), known);
    }
    state
}

fn told(state: &ClusterState) -> (Vec<String>, Vec<String>) {
    let allocation = allocate(state);
    (
        allocation.changes.iter().map(ToString::to_string).collect(),
        allocation.problems.iter().map(ToString::to_string).collect(),
    )
}

#[test]
fn none_is_made_in_their_place_and_what_they_hold_is_not_given() {
    let state = beside(
        &[
            network(MULTITENANT),
            node("n1", "192.168.1.1"),
            node("n2", "192.168.1.2"),
            namespace("a"),
            namespace("b"),
        ],
        &[
            (Kind::HostSubnet, "n1", json!({"subnet": "10.128.0.0/23", "egressIPs": "192.0.2.1"})),
            (Kind::NetNamespace, "a", json!({"netid": "10"})),
        ],
    );
    let (changes, problems) = told(&state);
    assert_eq!(
        changes,
        ["create HostSubnet n2: 10.129.0.0/23 for 192.168.1.2", "create NetNamespace b: VNID 11"]
    );
    assert_eq!(
        problems,
        [
            "HostSubnet n1 can't be read: x: y; repair it, or delete it",
            "NetNamespace a can't be read: x: y; repair it, or delete it",
        ]
    );
    assert_eq!(allocate(&state).problems[0].object(), ObjectRef::cluster(Kind::HostSubnet, "n1"));
    let usage = Usage::of(&state, &Reservations::default());
    assert_eq!((usage.subnets[0].allocated, usage.vnids.unwrap().allocated), (1, 1));
}

#[test]
fn an_owner_that_cannot_be_read_is_not_gone() {
    let mut tenant = net_namespace("a", 10);
    tenant["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "v1", "kind": "Namespace", "name": "a", "uid": "uid-a"}]);
    let objects =
        [network(MULTITENANT), host_subnet("n1", "192.168.1.1", "10.128.0.0/23", owned("n1")), tenant];
    let unreadable = [(Kind::Node, "n1", json!({})), (Kind::Namespace, "a", json!({}))];
    assert_eq!(told(&beside(&objects, &unreadable)).0, [""; 0]);
    assert_eq!(told(&beside(&objects, &[])).0.len(), 2, "they go with their owners");
}

#[test]
fn a_network_that_cannot_be_read_is_not_missing() {
    let (changes, problems) = told(&beside(
        &[node("n1", "192.168.1.1")],
        &[(Kind::ClusterNetwork, "default", json!({"pluginName": 7}))],
    ));
    assert_eq!(changes, [""; 0]);
    assert_eq!(problems, ["ClusterNetwork default can't be read: x: y; repair it, or delete it"]);
}

/// An allocator that has seen the cluster before notices.
#[test]
fn what_becomes_unreadable_is_news() {
    let objects = [network(SUBNET), node("n2", "192.168.1.2")];
    let mut allocator = Allocator::default();
    let mut state = state(&objects);
    let given = |allocation: &Allocation| allocation.changes[0].to_string();
    assert_eq!(
        given(&allocator.allocate(&state, &Reservations::default())),
        "create HostSubnet n2: 10.128.0.0/23 for 192.168.1.2"
    );
    let error = ObjectError { field: "x".to_owned(), reason: "y".to_owned() };
    let held = Held { subnet: "10.128.0.0/23".parse().ok(), netid: None };
    state.insert_unreadable(ObjectRef::cluster(Kind::HostSubnet, "n1"), Unreadable { error, held });
    assert_eq!(
        given(&allocator.allocate(&state, &Reservations::default())),
        "create HostSubnet n2: 10.129.0.0/23 for 192.168.1.2"
    );
}
