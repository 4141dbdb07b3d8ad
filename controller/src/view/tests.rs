use std::net::Ipv4Addr;
use std::sync::Arc;

use flowtables::pipeline::cookie::Owner;
use openflow::OfPort;

use super::*;
use crate::api::NetNamespace;
use crate::cluster::ClusterState;

/// The cluster of the demo under a plugin.
fn cluster(plugin: &str) -> ClusterState {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests/demo");
    let mut state = crate::cluster::dir::load(dir.as_ref()).unwrap();
    let network = Arc::make_mut(state.cluster_network.as_mut().unwrap());
    network.plugin_name = format!("redhat/openshift-ovs-{plugin}");
    state
}

fn leg(namespace: &str, name: &str, ip: [u8; 4], port: u32) -> PodPort {
    PodPort {
        namespace: namespace.into(),
        name: name.into(),
        sandbox: format!("sandbox-of-{name}"),
        ip: Ipv4Addr::from(ip),
        port: OfPort(port),
    }
}

fn pod(namespace: &str, name: &str) -> Owner {
    Owner::Pod { namespace: namespace.into(), name: name.into() }
}

fn vnid(n: u32) -> Vnid {
    Vnid::try_from(n).unwrap()
}

#[test]
fn the_documented_pods_have_the_documented_ports() {
    let state = cluster("subnet");
    let port = |node: &str, name: &str| {
        offline_ports(&state, node)
            .into_iter()
            .find(|port| port.name == name)
            .map(|port| (port.ip.to_string(), port.port.0))
    };
    assert_eq!(port("node2.ocp.cn", "web-76c94f7546-t8pfq"), Some(("10.130.0.5".into(), 3)));
    assert_eq!(port("node2.ocp.cn", "tomcat-nginx-6cf8c89cd7"), Some(("10.130.0.6".into(), 4)));
    assert_eq!(port("node1.ocp.cn", "tomcat-7f646bb995-b8bhr"), Some(("10.131.0.4".into(), 3)));
    assert_eq!(port("master.ocp.cn", "tomcat-nginx-6cf8c89cd7-6hhmf"), Some(("10.128.0.56".into(), 4)));
}

#[test]
fn a_node_hears_the_others_and_not_itself() {
    let inputs = inputs(&cluster("subnet"), "node1.ocp.cn", &[]).unwrap();
    let peers: Vec<String> = inputs.nodes.iter().map(|node| node.vtep.to_string()).collect();
    assert_eq!(peers, ["192.168.108.113", "192.168.108.110", "192.168.108.112"]);
    assert_eq!(inputs.problems, []);
}

#[test]
fn tenants_have_rules_only_where_they_have_pods() {
    let legs = [leg("kube-public", "a", [10, 130, 0, 20], 8), leg("default", "b", [10, 130, 0, 21], 9)];
    let inputs = inputs(&cluster("multitenant"), "node2.ocp.cn", &legs).unwrap();
    let view = View::of(&inputs);
    let tenants: Vec<&Owner> =
        view.flows().owners().into_iter().filter(|owner| matches!(owner, Owner::Tenant(_))).collect();
    assert_eq!(tenants, [&Owner::Tenant(vnid(8_583_346))]);
}

#[test]
fn without_a_vnid_a_pod_is_cut_off_and_said_to_be() {
    let legs = [leg("unheard-of", "a", [10, 130, 0, 20], 8)];
    let found = inputs(&cluster("multitenant"), "node2.ocp.cn", &legs).unwrap();
    assert_eq!(found.pods, []);
    assert_eq!(found.problems.first().unwrap().object, "Pod unheard-of/a");
    let flat = inputs(&cluster("subnet"), "node2.ocp.cn", &legs).unwrap();
    assert_eq!(flat.pods.first().unwrap().vnid, Vnid::GLOBAL);
}

#[test]
fn what_is_missing_is_named() {
    let mut state = cluster("subnet");
    let error = inputs(&state, "nowhere", &[]).unwrap_err().to_string();
    assert!(error.starts_with("node nowhere has no HostSubnet"), "{error}");
    state.cluster_network = None;
    assert_eq!(inputs(&state, "node1.ocp.cn", &[]).unwrap_err(), ViewError::NoClusterNetwork);
    assert_eq!(inputs(&cluster("networkpolicy"), "node1.ocp.cn", &[]).unwrap_err(), ViewError::Unsupported);
}

#[test]
fn two_nodes_with_one_address_are_one_and_a_problem() {
    let mut state = cluster("subnet");
    let mut twin = state.host_subnets["node2.ocp.cn"].as_ref().clone();
    twin.metadata.name = Some("twin".into());
    twin.host = "twin".into();
    twin.subnet = "10.129.2.0/23".into();
    state.host_subnets.insert("twin".into(), Arc::new(twin));
    let inputs = inputs(&state, "node1.ocp.cn", &[]).unwrap();
    assert_eq!(inputs.nodes.len(), 3);
    assert_eq!(
        inputs.problems.first().unwrap().to_string(),
        "HostSubnet twin: has the same address 192.168.108.112 as node2.ocp.cn: its tunnel is ignored"
    );
}

#[test]
fn an_update_touches_only_the_owners_that_changed() {
    let mut state = cluster("multitenant");
    let mut legs = vec![leg("kube-public", "a", [10, 130, 0, 20], 8)];
    let of = |state: &ClusterState, legs: &[PodPort]| inputs(state, "node2.ocp.cn", legs).unwrap();
    let mut view = View::of(&of(&state, &legs));
    assert!(view.update(&of(&state, &legs)).is_empty());

    legs.push(leg("kube-system", "b", [10, 130, 0, 21], 9));
    let touched = view.update(&of(&state, &legs));
    assert_eq!(touched, BTreeSet::from([pod("kube-system", "b"), Owner::Tenant(vnid(272_037))]));

    // The namespace gets another VNID: its pod, the old tenant and the new one; nobody else.
    let mut moved: NetNamespace = state.net_namespaces["kube-system"].as_ref().clone();
    moved.netid = 77;
    state.net_namespaces.insert("kube-system".into(), Arc::new(moved));
    let touched = view.update(&of(&state, &legs));
    let expected = [pod("kube-system", "b"), Owner::Tenant(vnid(272_037)), Owner::Tenant(vnid(77))];
    assert_eq!(touched, BTreeSet::from(expected));

    let fresh = View::of(&of(&state, &legs));
    assert!(view.flows().iter().eq(fresh.flows().iter()), "updated step by step as made at once");
}

#[test]
fn of_two_pods_with_one_address_one_is_reachable_and_the_other_takes_over() {
    let state = cluster("subnet");
    let legs = [leg("default", "a", [10, 130, 0, 20], 8), leg("default", "b", [10, 130, 0, 20], 9)];
    let mut view = View::of(&inputs(&state, "node2.ocp.cn", &legs).unwrap());
    assert!(!view.conflicts().is_empty());
    view.update(&inputs(&state, "node2.ocp.cn", &legs[1..]).unwrap());
    assert!(view.conflicts().is_empty());
    let alone = View::of(&inputs(&state, "node2.ocp.cn", &legs[1..]).unwrap());
    assert!(view.flows().iter().eq(alone.flows().iter()));
}
