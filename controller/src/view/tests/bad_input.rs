//! Objects that nobody should have written: each is named with the reason, and opens nothing that was closed.

use openflow::Flow;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::api::{Kind, ObjectRef};
use crate::cluster::{Held, ObjectError, Unreadable};

const NODE: &str = "node2.ocp.cn";

fn object<T: DeserializeOwned>(value: Value) -> Arc<T> {
    Arc::new(serde_json::from_value(value).unwrap())
}

fn at(node: &str, state: &ClusterState, legs: &[PodPort]) -> (View, Vec<String>) {
    let found = inputs(state, node, legs).unwrap();
    let view = View::of(&found);
    assert_eq!(view.conflicts(), []);
    (view, found.problems.iter().map(ToString::to_string).collect())
}

/// What the change to a cluster opens on its node: flows that were not there and let packets pass, and flows that were
/// there and dropped. With what is said of it.
fn opened(
    before: (&ClusterState, &[PodPort]),
    after: (&ClusterState, &[PodPort]),
) -> (Vec<String>, Vec<String>) {
    let (old, _) = at(NODE, before.0, before.1);
    let (new, problems) = at(NODE, after.0, after.1);
    let drops = |flow: &&Flow| flow.instructions.is_empty();
    let lost = old.flows().iter().filter(drops).filter(|flow| new.flows().get(flow).is_none());
    let won =
        new.flows().iter().filter(|flow| !drops(flow)).filter(|flow| old.flows().get(flow) != Some(*flow));
    (lost.chain(won).map(ToString::to_string).collect(), problems)
}

#[track_caller]
fn opens_nothing(before: &ClusterState, after: &ClusterState, said: &[&str]) {
    let legs = offline_ports(before, NODE);
    let (opened, problems) = opened((before, &legs), (after, &legs));
    assert_eq!(opened, [""; 0]);
    assert_eq!(problems, said);
}

#[test]
fn a_number_that_is_no_vnid_cuts_its_pods_off() {
    let before = cluster("multitenant");
    let legs = [leg("kube-system", "a", [10, 130, 0, 20], 8)];
    let mut after = before.clone();
    let value =
        json!({ "metadata": { "name": "kube-system" }, "netname": "kube-system", "netid": 0x100_0000 });
    after.net_namespaces.insert("kube-system".into(), object(value));
    let (opened, problems) = opened((&before, &legs), (&after, &legs));
    assert_eq!(opened, [""; 0]);
    assert_eq!(
        problems,
        [
            "Pod kube-system/a: the netid of NetNamespace kube-system is no VNID: it is cut off",
            "NetNamespace kube-system: netid 16777216 is no VNID: use 0 to 16777215; its pods are cut off",
        ]
    );
    let (view, _) = at(NODE, &after, &legs);
    assert!(!view.flows().owners().contains(&pod("kube-system", "a")));
}

fn host(name: &str, ip: &str, subnet: &str) -> Value {
    json!({ "metadata": { "name": name }, "host": name, "hostIP": ip, "subnet": subnet })
}

#[test]
fn nodes_that_contradict_others_are_not_heard() {
    // None says its age, so the name decides: `zz-bad` is the youngest.
    let before = cluster("subnet");
    for (ip, subnet, said) in [
        (
            "192.168.108.77",
            "10.131.0.0/24",
            "its subnet 10.131.0.0/24 overlaps 10.131.0.0/23 of node1.ocp.cn: its tunnel is ignored",
        ),
        (
            "192.168.108.77",
            "10.128.0.0/9",
            "its subnet 10.128.0.0/9 overlaps this node's own 10.130.0.0/23: its tunnel is ignored",
        ),
        (
            "192.168.108.111",
            "10.129.2.0/23",
            "has the same address 192.168.108.111 as node1.ocp.cn: its tunnel is ignored",
        ),
        (
            "192.168.108.112",
            "10.129.2.0/23",
            "has this node's own address 192.168.108.112: its tunnel is ignored",
        ),
    ] {
        let mut after = before.clone();
        after.host_subnets.insert("zz-bad".into(), object(host("zz-bad", ip, subnet)));
        opens_nothing(&before, &after, &[&format!("HostSubnet zz-bad: {said}")]);
    }
}

#[test]
fn a_host_subnet_that_cannot_be_read_is_named() {
    let before = cluster("subnet");
    for (ip, subnet) in [
        ("192.168.108", "10.129.2.0/23"),
        ("10.129.2.9", "10.129.2.0/23"),
        ("192.168.108.77", "10.129.2.0/33"),
    ] {
        let mut after = before.clone();
        after.host_subnets.insert("zz-bad".into(), object(host("zz-bad", ip, subnet)));
        let legs = offline_ports(&before, NODE);
        let (opened, problems) = opened((&before, &legs), (&after, &legs));
        assert_eq!(opened, [""; 0], "{ip} {subnet}");
        assert!(problems.len() == 1 && problems[0].starts_with("HostSubnet zz-bad: "), "{problems:?}");
    }
}

#[test]
fn of_two_pods_with_one_address_the_older_keeps_it() {
    let mut state = cluster("multitenant");
    let created = |name: &str, time: &str| {
        object(json!({ "metadata": { "namespace": "kube-system", "name": name, "creationTimestamp": time } }))
    };
    for (name, time) in [("a-younger", "2024-01-02T00:00:00Z"), ("b-older", "2024-01-01T00:00:00Z")] {
        state.pods.insert(("kube-system".into(), name.into()), created(name, time));
    }
    let older = leg("kube-system", "b-older", [10, 130, 0, 20], 8);
    let younger = leg("kube-system", "a-younger", [10, 130, 0, 20], 9);
    let (opened, problems) =
        opened((&state, std::slice::from_ref(&older)), (&state, &[younger, older.clone()]));
    assert_eq!(opened, [""; 0]);
    assert_eq!(
        problems,
        [
            "Pod kube-system/a-younger: has the same address 10.130.0.20 as kube-system/b-older at port 8, which came \
             first: it is cut off until it is started anew"
        ]
    );
}

#[test]
fn pods_with_addresses_that_are_not_the_nodes_to_give_are_cut_off() {
    let state = cluster("multitenant");
    // Another node's, a service's, somebody's outside, the node's own gateway.
    for ip in [[10, 131, 0, 4], [172, 30, 0, 1], [8, 8, 8, 8], [10, 130, 0, 1]] {
        let (opened, problems) = opened((&state, &[]), (&state, &[leg("default", "bad", ip, 8)]));
        assert_eq!(opened, [""; 0]);
        let ip = Ipv4Addr::from(ip);
        let said = format!(
            "Pod default/bad: its address {ip} is not for pods of this node's subnet 10.130.0.0/23: it is cut off until \
             it is started anew"
        );
        assert_eq!(problems, [said]);
    }
}

fn service(
    name: &str,
    ip: &str,
    ports: &Value,
) -> ((String, String), Arc<k8s_openapi::api::core::v1::Service>) {
    let value = json!({
        "metadata": { "namespace": "default", "name": name },
        "spec": { "clusterIP": ip, "ports": ports },
    });
    (("default".to_owned(), name.to_owned()), object(value))
}

#[test]
fn services_that_make_no_sense_let_nobody_through() {
    let before = cluster("multitenant");
    let web = json!([{ "name": "web", "protocol": "TCP", "port": 80 }]);
    for (ip, ports, said) in [
        ("172.30.9.9", json!([]), vec!["has no ports: nobody is let through to it"]),
        (
            "172.30.9.9",
            json!([{ "port": 0 }]),
            vec!["port 0 is not between 1 and 65535", "has no ports: nobody is let through to it"],
        ),
        (
            "172.30.9.9",
            json!([{ "port": 70000 }]),
            vec!["port 70000 is not between 1 and 65535", "has no ports: nobody is let through to it"],
        ),
        (
            "172.30.9.9",
            json!([{ "port": 80, "protocol": "ICMP" }]),
            vec![
                "protocol ICMP of port 80 is none of TCP, UDP, SCTP",
                "has no ports: nobody is let through to it",
            ],
        ),
        ("172.30.9", web.clone(), vec!["clusterIP 172.30.9 is no IPv4 address"]),
        ("fd00::9", web.clone(), vec!["clusterIP fd00::9 is no IPv4 address"]),
        (
            "8.8.8.8",
            web.clone(),
            vec![
                "clusterIP 8.8.8.8 is not of the service network 172.30.0.0/16: nobody is let through to it",
            ],
        ),
        (
            "172.30.161.148",
            web.clone(),
            vec![
                "has the same clusterIP 172.30.161.148 as default/tomcat-service, which is older: nobody is let through to it",
            ],
        ),
    ] {
        let mut after = before.clone();
        after.services.extend([service("zz-bad", ip, &ports)]);
        let legs = offline_ports(&before, NODE);
        let (opened, problems) = opened((&before, &legs), (&after, &legs));
        assert!(opened.is_empty(), "{ip} {ports}: {opened:?}");
        let said: Vec<String> = said.iter().map(|said| format!("Service default/zz-bad: {said}")).collect();
        assert_eq!(problems, said);
    }
}

#[test]
fn a_port_that_a_service_has_twice_is_one_and_said() {
    let mut state = cluster("multitenant");
    let ports = json!([{ "name": "a", "port": 80 }, { "name": "b", "port": 80, "protocol": "TCP" }]);
    state.services.extend([service("twice", "172.30.9.9", &ports)]);
    let (view, problems) = at(NODE, &state, &[]);
    assert_eq!(problems, ["Service default/twice: has port 80 of TCP twice: once is enough"]);
    let flows: Vec<_> = view.flows().iter().filter(|flow| flow.to_string().contains("172.30.9.9")).collect();
    let mut once = flows.clone();
    once.dedup();
    assert_eq!(flows, once);
}

#[test]
fn egress_policies_that_cannot_be_read_close_the_namespace_and_are_named() {
    let before = cluster("multitenant");
    let legs = [leg("kube-public", "a", [10, 130, 0, 20], 8)];
    for (rules, said) in [
        (vec![("Allow", "1.2.3.0/33")], "spec.egress[0]: \"1.2.3.0/33\" is no IPv4 network"),
        (vec![("Deny", "0.0.0.0/0"), ("Allow", "10.1")], "spec.egress[1]: \"10.1\" is no IPv4 network"),
        (vec![("Permit", "1.2.3.0/24")], "spec.egress[0]: type \"Permit\" is neither Allow nor Deny"),
        (vec![("Allow", "")], "spec.egress[0]: it names neither cidrSelector nor dnsName"),
    ] {
        let mut after = before.clone();
        add_policy(&mut after, policy("kube-public", "bad", &rules));
        let (opened, problems) = opened((&before, &legs), (&after, &legs));
        assert_eq!(opened, [""; 0]);
        let said = format!(
            "EgressNetworkPolicy kube-public/bad: {said}: nothing leaves the cluster until it is mended"
        );
        assert_eq!(problems, [said]);
        let (view, _) = at(NODE, &after, &legs);
        let closed: Vec<String> = view
            .flows()
            .table(101)
            .filter(|(flow, _)| flow.instructions.is_empty())
            .map(|(flow, _)| flow.fields.to_string())
            .collect();
        assert_eq!(closed, ["reg0=0x82f8b2"]);
    }
}

#[test]
fn egress_ips_that_cannot_be_read_let_nothing_out_under_the_nodes_address() {
    let before = cluster("multitenant");
    let mut after = before.clone();
    let mut namespace = after.net_namespaces["kube-public"].as_ref().clone();
    namespace.egress_ips = vec!["192.168.108.".to_owned()];
    after.net_namespaces.insert("kube-public".into(), Arc::new(namespace));
    opens_nothing(
        &before,
        &after,
        &["NetNamespace kube-public: egress IP 192.168.108. is no IPv4 address: it is not used"],
    );
    assert!(trace(&after, "master.ocp.cn", &out("192.168.108.1")).is_drop());
}

#[test]
fn without_a_readable_host_subnet_of_its_own_a_node_does_nothing() {
    let mut state = cluster("multitenant");
    let mut host = state.host_subnets[NODE].as_ref().clone();
    host.egress_ips = vec!["fd00::1".to_owned()];
    state.host_subnets.insert(NODE.into(), Arc::new(host));
    let error = inputs(&state, NODE, &[]).unwrap_err().to_string();
    assert!(error.starts_with("HostSubnet node2.ocp.cn: egressIPs[0]: "), "{error}");
}

/// The same cluster, with an object that has not the form of its kind.
fn with_unreadable(state: &ClusterState, object: ObjectRef) -> ClusterState {
    let error = ObjectError { field: "x".to_owned(), reason: "y".to_owned() };
    let mut state = state.clone();
    state.insert_unreadable(object, Unreadable { error, held: Held::default() });
    state
}

#[test]
fn objects_without_the_form_of_their_kind_open_nothing_and_are_named() {
    let before = cluster("multitenant");
    let legs = [leg("kube-public", "a", [10, 130, 0, 20], 8)];
    let policy = ObjectRef::namespaced(Kind::EgressNetworkPolicy, "kube-public", "bad");
    let after = with_unreadable(&before, policy);
    assert_eq!(
        opened((&before, &legs), (&after, &legs)),
        (
            vec![],
            vec![
                "EgressNetworkPolicy kube-public/bad: x: y: nothing leaves the cluster until it is mended"
                    .to_owned()
            ]
        )
    );
    let (view, _) = at(NODE, &after, &legs);
    let closed = view.flows().table(101).filter(|(flow, _)| flow.instructions.is_empty());
    assert_eq!(closed.map(|(flow, _)| flow.fields.to_string()).collect::<Vec<_>>(), ["reg0=0x82f8b2"]);

    let after = with_unreadable(&before, ObjectRef::cluster(Kind::NetNamespace, "kube-public"));
    assert_eq!(
        opened((&before, &legs), (&after, &legs)),
        (
            vec![],
            vec![
                "NetNamespace kube-public: can't be read, and is as if it were not there: x: y".to_owned(),
                "Pod kube-public/a: NetNamespace kube-public can't be read: it is cut off".to_owned(),
            ]
        )
    );

    for object in
        [ObjectRef::cluster(Kind::HostSubnet, NODE), ObjectRef::cluster(Kind::ClusterNetwork, "default")]
    {
        let error = inputs(&with_unreadable(&before, object.clone()), NODE, &[]).unwrap_err();
        assert_eq!(error.to_string(), format!("{object} can't be read: x: y"));
    }
}
