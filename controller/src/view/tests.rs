use std::net::Ipv4Addr;
use std::sync::Arc;

use flowtables::feature::egress_ip::Route;
use flowtables::pipeline::cookie::Owner;
use flowtables::walk::{Assumptions, Packet, Walk, walk};
use openflow::{Field, OfPort};

use super::*;
use crate::api::{EgressNetworkPolicy, NetNamespace};
use crate::cluster::ClusterState;

mod bad_input;

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
    let both = inputs(&state, "node2.ocp.cn", &legs).unwrap();
    let mut view = View::of(&both);
    assert_eq!(
        both.problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "Pod default/b: has the same address 10.130.0.20 as default/a at port 8, which came first: it is cut off \
          until it is started anew"
        ]
    );
    assert!(view.conflicts().is_empty());
    view.update(&inputs(&state, "node2.ocp.cn", &legs[1..]).unwrap());
    let alone = View::of(&inputs(&state, "node2.ocp.cn", &legs[1..]).unwrap());
    assert!(view.flows().iter().eq(alone.flows().iter()));
}

/// The demo's cluster with an egress IP of kube-public on infra, as the documented walks 7 and 8 have it.
fn with_egress_ip(hosts: &[&str], ips: &[&str]) -> ClusterState {
    let mut state = cluster("multitenant");
    for (host, ip) in hosts.iter().zip(ips) {
        let mut subnet = state.host_subnets[*host].as_ref().clone();
        subnet.egress_ips = vec![(*ip).to_owned()];
        state.host_subnets.insert((*host).to_owned(), Arc::new(subnet));
    }
    let mut namespace = state.net_namespaces["kube-public"].as_ref().clone();
    namespace.egress_ips = ips.iter().map(|&ip| ip.to_owned()).collect();
    state.net_namespaces.insert("kube-public".into(), Arc::new(namespace));
    state
}

fn policy(namespace: &str, name: &str, rules: &[(&str, &str)]) -> EgressNetworkPolicy {
    let rules: Vec<_> = rules
        .iter()
        .map(|(verdict, to)| {
            let field = if to.starts_with(|c: char| c.is_ascii_digit()) { "cidrSelector" } else { "dnsName" };
            serde_json::json!({ "type": verdict, "to": { field: to } })
        })
        .collect();
    let object = serde_json::json!({
        "metadata": { "namespace": namespace, "name": name }, "spec": { "egress": rules },
    });
    serde_json::from_value(object).unwrap()
}

fn add_policy(state: &mut ClusterState, policy: EgressNetworkPolicy) {
    let key = (policy.metadata.namespace.clone().unwrap(), policy.metadata.name.clone().unwrap());
    state.egress_network_policies.insert(key, Arc::new(policy));
}

fn trace(state: &ClusterState, node: &str, packet: &str) -> Walk {
    let inputs = inputs(state, node, &offline_ports(state, node)).unwrap();
    let view = View::of(&inputs);
    assert_eq!(view.conflicts(), []);
    let fields: openflow::Match = packet.parse().unwrap();
    walk(view.flows(), Packet::from(&fields), &Assumptions::default())
}

fn ports(walk: &Walk) -> Vec<u32> {
    walk.outputs.iter().map(|output| output.port.0).collect()
}

/// A packet of kube-public's pod on master to `to`.
fn out(to: &str) -> String {
    format!("in_port=4,tcp,nw_src=10.128.0.56,nw_dst={to},ct_state=trk")
}

#[test]
fn walk_7_to_the_node_that_hosts_the_egress_ip() {
    let state = with_egress_ip(&["infra.ocp.cn"], &["192.168.108.200"]);
    let walk = trace(&state, "master.ocp.cn", &out("192.168.108.1"));
    assert_eq!((walk.path(), ports(&walk)), (vec![0, 20, 21, 30, 100], vec![1]));
    let sent = &walk.outputs[0].packet;
    assert_eq!(sent.get(Field::REG0), 0x82_f8b2);
    assert_eq!(sent.get(Field::TUN_ID), 0x82_f8b2);
    assert_eq!(sent.ipv4(Field::TUN_DST), Ipv4Addr::new(192, 168, 108, 113));
}

#[test]
fn walk_8_on_the_node_that_hosts_the_egress_ip() {
    let state = with_egress_ip(&["infra.ocp.cn"], &["192.168.108.200"]);
    let packet = "in_port=1,tcp,tun_src=192.168.108.110,tun_id=0x82f8b2,nw_src=10.128.0.56,nw_dst=192.168.108.1,\
                  ct_state=trk";
    let walk = trace(&state, "infra.ocp.cn", packet);
    assert_eq!((walk.path(), ports(&walk)), (vec![0, 10, 30, 100, 101], vec![2]));
    let sent = &walk.outputs[0].packet;
    assert_eq!(sent.get(Field::PKT_MARK), 0x82_f8b2);
    assert_eq!(sent.get(Field::ETH_DST), 0x0a58_0a81_0001);
}

#[test]
fn an_egress_ip_that_no_node_hosts_lets_nothing_out() {
    let mut state = with_egress_ip(&[], &[]);
    let mut namespace = state.net_namespaces["kube-public"].as_ref().clone();
    namespace.egress_ips = vec!["192.168.108.200".to_owned()];
    state.net_namespaces.insert("kube-public".into(), Arc::new(namespace));
    assert!(trace(&state, "master.ocp.cn", &out("192.168.108.1")).is_drop());
}

#[test]
fn several_nodes_share_the_traffic_of_a_namespace() {
    let hosts = ["infra.ocp.cn", "node1.ocp.cn"];
    let state = with_egress_ip(&hosts, &["192.168.108.200", "192.168.108.201"]);
    let found = inputs(&state, "master.ocp.cn", &[]).unwrap();
    let view = View::of(&found);
    let group = view.flows().group(0x82_f8b2).unwrap();
    assert_eq!(group.buckets.len(), 2);
    let here = inputs(&state, "infra.ocp.cn", &[]).unwrap();
    assert!(View::of(&here).flows().group(0x82_f8b2).is_none(), "what is hosted here leaves here");
}

#[test]
fn an_egress_node_that_does_not_answer_is_passed_over() {
    let hosts = ["infra.ocp.cn", "node1.ocp.cn"];
    let state = with_egress_ip(&hosts, &["192.168.108.200", "192.168.108.201"]);
    let route = |node: &str, unreachable: &[&str]| {
        let unreachable = unreachable.iter().map(|&name| name.to_owned()).collect();
        let known = Known { unreachable, ..Known::default() };
        let found = inputs_knowing(&state, node, &offline_ports(&state, node), &known).unwrap();
        let asked: Vec<_> = found.egress_nodes.into_iter().map(|(name, ip)| format!("{name} {ip}")).collect();
        let problems: Vec<_> = found.problems.iter().map(ToString::to_string).collect();
        (found.egress_ips.into_iter().next().unwrap().route, asked, problems)
    };
    let (infra, node1) = (Ipv4Addr::new(192, 168, 108, 113), Ipv4Addr::new(192, 168, 108, 111));
    let both = vec!["infra.ocp.cn 10.129.0.1".to_owned(), "node1.ocp.cn 10.131.0.1".to_owned()];
    assert_eq!(route("master.ocp.cn", &[]), (Route::Elsewhere(vec![infra, node1]), both.clone(), vec![]));
    let (to, asked, problems) = route("master.ocp.cn", &["infra.ocp.cn"]);
    assert_eq!(
        (to, &asked),
        (Route::Elsewhere(vec![node1]), &both),
        "it is asked on, to know when it is back"
    );
    assert_eq!(
        problems,
        [
            "egress IP 192.168.108.200: its node infra.ocp.cn does not answer: until it does, namespace kube-public leaves by its \
          other egress IPs"
        ]
    );
    let (to, asked, problems) = route("master.ocp.cn", &hosts);
    assert_eq!((to, asked, problems.len()), (Route::Nowhere, both, 2));
    assert!(problems[0].ends_with("nothing of namespace kube-public leaves the cluster"), "{problems:?}");
    // Whoever hosts one itself asks nobody, nor does a node without pods of the namespace.
    let (to, asked, problems) = route("node1.ocp.cn", &["infra.ocp.cn"]);
    assert!(
        matches!(to, Route::Here { .. }) && asked.is_empty() && problems.is_empty(),
        "{to:?} {asked:?} {problems:?}"
    );
    let (to, asked, problems) = route("node2.ocp.cn", &[]);
    assert_eq!((to, asked, problems), (Route::Elsewhere(vec![infra, node1]), vec![], vec![]));
}

#[test]
fn a_policy_holds_where_the_pod_is_also_when_another_node_lets_its_packets_out() {
    for (hosts, ips) in [
        (&["infra.ocp.cn"][..], &["192.168.108.200"][..]),
        (&["infra.ocp.cn", "node1.ocp.cn"][..], &["192.168.108.200", "192.168.108.201"][..]),
    ] {
        let mut state = with_egress_ip(hosts, ips);
        let rules = [("Allow", "192.0.2.1/32"), ("Deny", "192.0.2.0/24")];
        add_policy(&mut state, policy("kube-public", "p", &rules));
        let denied = trace(&state, "master.ocp.cn", &out("192.0.2.9"));
        assert_eq!((denied.path(), denied.is_drop()), (vec![0, 20, 21, 30, 100, 101], true));
        let exit = if hosts.len() == 1 { "output:1" } else { "group:8583346" };
        for allowed in ["192.0.2.1", "198.51.100.1"] {
            let walk = trace(&state, "master.ocp.cn", &out(allowed));
            let last = walk.steps.last().and_then(|step| step.flow.clone()).unwrap().to_string();
            assert!(last.ends_with(exit), "{allowed}: {last}");
        }
        let dns = "in_port=4,udp,nw_src=10.128.0.56,nw_dst=192.168.108.110,tp_dst=53,ct_state=trk";
        assert_eq!(ports(&trace(&state, "master.ocp.cn", dns)), [2]);
    }
}

#[test]
fn policies_that_are_not_clear_let_nothing_out() {
    let reaches = |state: &ClusterState| !trace(state, "master.ocp.cn", &out("203.0.113.1")).is_drop();
    let problems = |state: &ClusterState| inputs(state, "master.ocp.cn", &[]).unwrap().problems.len();
    let rules = [("Allow", "203.0.113.0/24")];

    let mut state = cluster("multitenant");
    add_policy(&mut state, policy("kube-public", "one", &rules));
    assert_eq!((reaches(&state), problems(&state)), (true, 0));
    add_policy(&mut state, policy("kube-public", "empty", &[]));
    assert!(reaches(&state), "one without rules is none");
    add_policy(&mut state, policy("kube-public", "two", &rules));
    assert_eq!((reaches(&state), problems(&state)), (false, 2));

    let mut shared = cluster("multitenant");
    add_policy(&mut shared, policy("kube-public", "one", &rules));
    let mut other = shared.net_namespaces["kube-system"].as_ref().clone();
    other.netid = 0x82_f8b2;
    shared.net_namespaces.insert("kube-system".into(), Arc::new(other));
    assert_eq!((reaches(&shared), problems(&shared)), (false, 1));

    let mut bad = cluster("multitenant");
    add_policy(
        &mut bad,
        policy("kube-public", "one", &[("Allow", "203.0.113.0/24"), ("Deny", "1.2.3.400/24")]),
    );
    assert_eq!((reaches(&bad), problems(&bad)), (false, 1));

    let mut global = cluster("multitenant");
    add_policy(&mut global, policy("default", "one", &[("Deny", "0.0.0.0/0")]));
    let found = inputs(&global, "master.ocp.cn", &[]).unwrap();
    assert_eq!((found.egress_policies.len(), found.problems.len()), (0, 1));
}

#[test]
fn a_name_counts_once_it_has_addresses() {
    let mut state = cluster("multitenant");
    add_policy(&mut state, policy("kube-public", "p", &[("Allow", "Example.com"), ("Deny", "0.0.0.0/32")]));
    let legs = offline_ports(&state, "master.ocp.cn");
    let destinations = |known: &Known| {
        let found = inputs_knowing(&state, "master.ocp.cn", &legs, known).unwrap();
        let flows = found.egress_policies.iter().flat_map(EgressPolicy::flows);
        flows.map(|flow| (flow.priority, flow.fields.to_string())).collect::<Vec<_>>()
    };
    let any = (1, "ip,reg0=0x82f8b2".to_owned());
    assert_eq!(destinations(&Known::default()), std::slice::from_ref(&any));
    let addresses = BTreeSet::from([Ipv4Addr::new(192, 0, 2, 7)]);
    let known = Known { names: Names::from([("example.com".into(), addresses)]), ..Known::default() };
    assert_eq!(destinations(&known), [(2, "ip,reg0=0x82f8b2,nw_dst=192.0.2.7".to_owned()), any]);
}

/// What a rule means whose name was never resolved: it opens nothing, whatever its verdict.
#[test]
fn a_name_that_was_never_resolved_opens_nothing() {
    let mut state = cluster("multitenant");
    add_policy(
        &mut state,
        policy("kube-public", "p", &[("Deny", "Bad.example.com."), ("Allow", "good.example.com")]),
    );
    let legs = offline_ports(&state, "master.ocp.cn");
    let rules = |names: &[(&str, &[u8])]| {
        let addresses = |last: &[u8]| last.iter().map(|&last| Ipv4Addr::new(192, 0, 2, last)).collect();
        let names = names.iter().map(|(name, last)| ((*name).to_owned(), addresses(last))).collect();
        let found =
            inputs_knowing(&state, "master.ocp.cn", &legs, &Known { names, ..Known::default() }).unwrap();
        assert_eq!(found.dns_names.iter().collect::<Vec<_>>(), ["bad.example.com", "good.example.com"]);
        let flows = found.egress_policies.iter().flat_map(EgressPolicy::flows);
        let flows = flows.map(|flow| (flow.priority, flow.fields.get(openflow::Field::IPV4_DST).is_some()));
        (flows.collect::<Vec<_>>(), found.problems.len())
    };
    // Unknown: what is to be denied may be anywhere, what is to be allowed nowhere.
    assert_eq!(rules(&[]), (vec![(2, false)], 2));
    // Known to have no addresses: there is nothing to deny.
    assert_eq!(rules(&[("bad.example.com", &[]), ("good.example.com", &[])]), (vec![], 2));
    let known = [("bad.example.com", &[1, 2][..]), ("good.example.com", &[3])];
    assert_eq!(rules(&known), (vec![(2, true), (2, true), (1, true)], 0));
}

#[test]
fn multicast_asks_all_namespaces_of_a_vnid() {
    let mut state = cluster("multitenant");
    let annotate = |state: &mut ClusterState, name: &str, netid: u32, on: bool| {
        let mut object = state.net_namespaces[name].as_ref().clone();
        object.netid = netid;
        let key = "netnamespace.network.openshift.io/multicast-enabled".to_owned();
        object.metadata.annotations.get_or_insert_default().insert(key, on.to_string());
        state.net_namespaces.insert(name.to_owned(), Arc::new(object));
    };
    let legs = [leg("kube-public", "a", [10, 130, 0, 20], 9), leg("kube-public", "b", [10, 130, 0, 21], 8)];
    let enabled = |state: &ClusterState| inputs(state, "node2.ocp.cn", &legs).unwrap().multicast;
    assert_eq!(enabled(&state), []);
    annotate(&mut state, "kube-public", 0x82_f8b2, true);
    let expected = Multicast { vnid: vnid(0x82_f8b2), ports: vec![OfPort(8), OfPort(9)] };
    assert_eq!(enabled(&state), [expected]);
    annotate(&mut state, "kube-system", 0x82_f8b2, false);
    assert_eq!(enabled(&state), []);
    annotate(&mut state, "kube-system", 0x82_f8b2, true);
    assert_eq!(enabled(&state).len(), 1);
    let flat = cluster("subnet");
    state.cluster_network = flat.cluster_network;
    assert_eq!(enabled(&state), []);
}

#[test]
fn a_node_whose_subnet_overlaps_an_older_one_is_left_out() {
    let mut state = cluster("subnet");
    let mut wide = state.host_subnets["node2.ocp.cn"].as_ref().clone();
    wide.metadata.name = Some("wide".into());
    wide.host = "wide".into();
    wide.host_ip = "192.168.108.77".into();
    wide.subnet = "10.128.0.0/15".into();
    state.host_subnets.insert("wide".into(), Arc::new(wide));
    let inputs = inputs(&state, "node1.ocp.cn", &[]).unwrap();
    assert_eq!(inputs.nodes.len(), 3, "{:?}", inputs.problems);
    assert_eq!(inputs.problems.len(), 1);
}

#[test]
fn a_node_that_moves_to_another_address_is_heard_there_only() {
    let mut state = cluster("subnet");
    let mut view = View::of(&inputs(&state, "node1.ocp.cn", &[]).unwrap());
    let mut moved = state.host_subnets["node2.ocp.cn"].as_ref().clone();
    moved.host_ip = "192.168.108.177".into();
    state.host_subnets.insert("node2.ocp.cn".into(), Arc::new(moved));
    let touched = view.update(&inputs(&state, "node1.ocp.cn", &[]).unwrap());
    assert_eq!(touched, BTreeSet::from([Owner::Node("node2.ocp.cn".into())]));
    let text: String = view.flows().iter().map(|flow| format!("{flow}\n")).collect();
    assert!(text.contains("192.168.108.177") && !text.contains("192.168.108.112"), "{text}");
}
