//! Requests for another VNID.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;

const POLICY: &str = "redhat/openshift-ovs-networkpolicy";
const ANNOTATION: &str = "pod.network.openshift.io/multitenant.change-network";

fn asking(name: &str, vnid: u32, request: &str) -> serde_json::Value {
    let mut object = net_namespace(name, vnid);
    object["metadata"]["annotations"] = json!({ANNOTATION: request, "kept": "yes"});
    object
}

/// Allocates until nothing changes any more: VNIDs, changes in words, and what is left undone.
fn settled(mut state: ClusterState) -> (BTreeMap<String, u32>, Vec<String>, Vec<String>) {
    let mut told = Vec::new();
    for _ in 0..10 {
        let allocation = allocate(&state);
        told.extend(allocation.changes.iter().map(ToString::to_string));
        if allocation.changes.is_empty() {
            let vnids =
                state.net_namespaces.iter().map(|(name, object)| (name.clone(), object.netid)).collect();
            return (vnids, told, allocation.problems.iter().map(ToString::to_string).collect());
        }
        state = after(&state, &allocation);
    }
    panic!("does not settle: {told:?}")
}

/// Request, VNID before, VNID after, words; beside a (10), b (11, shared with c), g (0).
#[test]
fn each_request() {
    for (request, before, expected, words) in [
        ("global", 20, 0, "the request \"global\" is met: VNID 0, was 20"),
        ("global:x", 20, 0, "the request \"global:x\" is met: VNID 0, was 20"),
        ("global", 0, 0, "the request \"global\" is met: VNID 0 stays"),
        ("join:a", 20, 10, "the request \"join:a\" is met: VNID 10, was 20"),
        ("join:g", 20, 0, "the request \"join:g\" is met: VNID 0, was 20"),
        ("join:x", 20, 20, "the request \"join:x\" is met: VNID 20 stays"),
        ("isolate", 20, 20, "the request \"isolate\" is met: VNID 20 stays"),
        ("isolate", 11, 12, "the request \"isolate\" is met: VNID 12, was 11"),
        // Also the only one that is global, or that has a reserved number.
        ("isolate", 0, 12, "the request \"isolate\" is met: VNID 12, was 0"),
        ("isolate", 1, 12, "the request \"isolate\" is met: VNID 12, was 1"),
    ] {
        let before = state(&[
            network(MULTITENANT),
            net_namespace("a", 10),
            net_namespace("b", 11),
            net_namespace("c", 11),
            net_namespace("g", 0),
            asking("x", before, request),
        ]);
        let allocation = allocate(&before);
        assert_eq!(allocation.changes.len(), 1, "{request}");
        assert_eq!(allocation.changes[0].to_string(), format!("update NetNamespace x: {words}"));
        assert_eq!(allocation.changes[0].notice, Some(Notice::Done("NetworkChanged")));
        let after = after(&before, &allocation);
        let x = &after.net_namespaces["x"];
        assert_eq!(x.netid, expected, "{request}");
        let annotations: Vec<_> = x.metadata.annotations.as_ref().unwrap().keys().collect();
        assert_eq!(annotations, ["kept"]);
        assert_eq!(allocate(&after), Allocation::default());
    }
}

#[test]
fn the_patch_takes_back_only_the_request_that_was_read() {
    let mut object = asking("x", 20, "global");
    object["metadata"]["resourceVersion"] = json!("7");
    let allocation = allocate(&state(&[network(MULTITENANT), object]));
    let Action::Patch(patch) = &allocation.changes[0].action else { panic!("{allocation:?}") };
    assert_eq!(
        *patch,
        json!({"netid": 0, "metadata": {"annotations": {ANNOTATION: null}, "resourceVersion": "7"}})
    );
}

#[test]
fn what_cannot_be_done_stays_and_is_told() {
    for (name, request, reason) in [
        ("x", "", "write `global`, `isolate` or `join:NAMESPACE` into the annotation, or remove it"),
        ("x", "Join:a", "write `global`, `isolate` or `join:NAMESPACE` into the annotation, or remove it"),
        ("x", "join:a:b", "write `global`, `isolate` or `join:NAMESPACE` into the annotation, or remove it"),
        ("x", "join:b", "there is no NetNamespace b; it is joined when there is, or remove the annotation"),
        ("default", "isolate", "namespace default is always global; remove the annotation"),
        ("default", "join:a", "namespace default is always global; remove the annotation"),
    ] {
        let objects = [network(MULTITENANT), net_namespace("a", 10), asking(name, 0, request)];
        let (changes, problems) = told(&objects);
        assert_eq!(changes, [""; 0], "{request}");
        assert_eq!(
            problems,
            [format!("NetNamespace {name} asks to {request:?}, which is not done: {reason}")]
        );
    }
}

#[test]
fn a_namespace_is_joined_once_it_is_there() {
    let mut current = state(&[network(MULTITENANT), asking("x", 20, "join:b"), namespace("b")]);
    assert_eq!(allocate(&current).problems.len(), 1);
    current = after(&current, &allocate(&current));
    let (vnids, _, problems) = settled(current);
    assert_eq!((vnids["x"], vnids["b"]), (10, 10));
    assert_eq!(problems, [""; 0]);
}

#[test]
fn other_plugins_drop_requests_and_say_so() {
    let before = state(&[network(POLICY), asking("x", 20, "global")]);
    let allocation = allocate(&before);
    assert_eq!(allocation.changes[0].notice, Some(Notice::Refused("ChangeNetworkRefused")));
    assert_eq!(
        allocation.changes[0].to_string(),
        "update NetNamespace x: the request \"global\" is dropped: VNIDs can only be changed with the plugin \
         redhat/openshift-ovs-multitenant, and this is redhat/openshift-ovs-networkpolicy"
    );
    let (vnids, _, problems) = settled(before);
    assert_eq!((vnids["x"], problems.len()), (20, 0));
    assert_eq!(told(&[network(SUBNET), asking("x", 20, "global")]), (vec![], vec![]));
}

#[test]
fn requests_that_hang_together() {
    // Each joins the other: they end up together.
    let (vnids, ..) =
        settled(state(&[network(MULTITENANT), asking("a", 10, "join:b"), asking("b", 11, "join:a")]));
    assert_eq!(vnids, [("a".to_owned(), 11), ("b".to_owned(), 11)].into());
    // The target moves first: its follower gets where it has gone.
    let (vnids, ..) =
        settled(state(&[network(MULTITENANT), asking("a", 10, "global"), asking("b", 11, "join:a")]));
    assert_eq!(vnids, [("a".to_owned(), 0), ("b".to_owned(), 0)].into());
    // Both leave a shared number: one may keep it, never both.
    let (vnids, ..) =
        settled(state(&[network(MULTITENANT), asking("a", 10, "isolate"), asking("b", 10, "isolate")]));
    assert!(vnids["a"] != vnids["b"] && vnids.values().all(|vnid| *vnid >= 10), "{vnids:?}");
}

#[test]
fn a_new_tenant_inherits_no_number_that_was_shared() {
    let joined = state(&[network(MULTITENANT), net_namespace("b", 10), asking("a", 11, "join:b")]);
    let mut reservations = Reservations::default();
    reservations.note(&joined, &allocate(&joined).changes, 0);
    // The namespace was deleted before its number was seen, and another one has its name.
    let recreated = state(&[network(MULTITENANT), net_namespace("b", 10), namespace("a")]);
    let allocation = allocate_beside(&recreated, &reservations);
    let made = after(&recreated, &allocation).net_namespaces["a"].netid;
    assert!(made >= 12, "{made}: 10 is b's, and 11 was given up a moment ago");

    let global = state(&[network(MULTITENANT), asking("a", 11, "global")]);
    let mut reservations = Reservations::default();
    reservations.note(&global, &allocate(&global).changes, 0);
    let recreated = state(&[network(MULTITENANT), namespace("a")]);
    let allocation = allocate_beside(&recreated, &reservations);
    assert_eq!(after(&recreated, &allocation).net_namespaces["a"].netid, 10);
}

#[test]
fn a_controller_that_takes_over_gives_the_number_that_was_noted() {
    let before =
        state(&[network(MULTITENANT), net_namespace("b", 10), asking("a", 10, "isolate"), namespace("n")]);
    let first = allocate(&before);
    let mut reservations = Reservations::default();
    reservations.note(&before, &first.changes, 0);
    assert_eq!(allocate_beside(&before, &reservations).changes, first.changes);
}

fn requests() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => Just(String::new()),
        1 => Just("global".to_owned()),
        2 => Just("isolate".to_owned()),
        2 => (0..8_u8).prop_map(|target| format!("join:t{target}")),
    ]
}

proptest! {
    /// Whatever is asked: who asked for nothing keeps its number, who asked to be alone is, and nobody new shares a
    /// number that it did not ask to share.
    #[test]
    fn nobody_is_joined_who_did_not_ask(
        tenants in btree_map(0..8_u8, (10..16_u32, requests()), 1..8),
        comers in vec(8..12_u8, 0..4),
    ) {
        let mut objects = vec![network(MULTITENANT)];
        for (number, (vnid, request)) in &tenants {
            let name = format!("t{number}");
            objects.push(if request.is_empty() { net_namespace(&name, *vnid) } else { asking(&name, *vnid, request) });
        }
        objects.extend(comers.iter().collect::<BTreeSet<_>>().iter().map(|number| namespace(&format!("t{number}"))));
        let (vnids, ..) = settled(state(&objects));
        for (number, (vnid, request)) in &tenants {
            let name = format!("t{number}");
            match request.as_str() {
                "" => prop_assert_eq!(vnids[&name], *vnid),
                "global" => prop_assert_eq!(vnids[&name], 0),
                "isolate" => {
                    for (other, theirs) in vnids.iter().filter(|(other, _)| **other != name) {
                        let number: u8 = other[1..].parse().unwrap();
                        let asked = tenants.get(&number).map_or("", |(_, request)| request.as_str());
                        // Who asked to join anybody may have joined it, directly or by way of another.
                        prop_assert!(*theirs != vnids[&name] || asked.starts_with("join:"), "{} {}", name, other);
                    }
                }
                _ => {}
            }
        }
        for number in &comers {
            let name = format!("t{number}");
            let shares = vnids.iter().any(|(other, vnid)| *other != name && *vnid == vnids[&name]);
            prop_assert!(!shares, "{}: {:?}", name, vnids);
        }
    }
}
