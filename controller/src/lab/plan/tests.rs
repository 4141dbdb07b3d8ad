use super::*;

fn dir() -> LabDir {
    LabDir::below("/run/osdn-lab", "lab".parse().unwrap())
}

/// A cluster of YAML documents.
fn cluster(text: &str) -> ClusterState {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("cluster.yaml"), text).unwrap();
    crate::cluster::dir::load(directory.path()).unwrap()
}

const NETWORK: &str = "
apiVersion: network.openshift.io/v1
kind: ClusterNetwork
metadata: {name: default}
network: 10.128.0.0/14
hostsubnetlength: 9
serviceNetwork: 172.30.0.0/16
pluginName: redhat/openshift-ovs-subnet
clusterNetworks: [{CIDR: 10.128.0.0/14, hostSubnetLength: 9}]
";

fn node(name: &str, ip: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\n\
         status: {{addresses: [{{type: Hostname, address: {name}}}, {{type: InternalIP, address: {ip}}}]}}\n"
    )
}

fn pod(namespace: &str, name: &str, node: &str, time: &str, more: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{namespace: {namespace}, name: {name}, creationTimestamp: {time:?}}}\n\
         spec: {{nodeName: {node:?}, containers: [{{name: c}}]{more}}}\n"
    )
}

fn plan(nodes: &[(&str, &str)]) -> Result<Plan, PlanError> {
    let nodes: String = nodes.iter().map(|(name, ip)| node(name, ip)).collect();
    Plan::new(&cluster(&format!("{NETWORK}{nodes}")), None, &dir())
}

#[test]
fn the_generated_cluster_can_be_made() {
    let state = generated_cluster(3).unwrap();
    assert_eq!(cluster(&to_yaml(&state).unwrap()).nodes.len(), 3);
    let plan = Plan::new(&state, Some(PluginMode::Multitenant), &dir()).unwrap();
    assert_eq!(plan.plugin, PluginMode::Multitenant);
    assert_eq!(plan.nodes.keys().collect::<Vec<_>>(), ["node1", "node2", "node3"]);
    assert_eq!(plan.underlay.network.to_string(), "192.168.108.0/24");
    assert_eq!(plan.underlay.router, Ipv4Addr::new(192, 168, 108, 1));
    assert_eq!(plan.underlay.outside, Ipv4Addr::new(203, 0, 113, 1));
    let expected = ["lab-node1", "lab-node2", "lab-node3", "lab-underlay"].map(str::to_owned);
    assert_eq!(plan.namespaces(&dir()), BTreeSet::from(expected));
    assert!(generated_cluster(u8::MAX).is_ok());
}

#[test]
fn the_underlay_takes_in_every_node_and_a_router() {
    let underlay = |nodes: &[(&str, &str)]| plan(nodes).map(|plan| plan.underlay);
    let one = underlay(&[("a", "192.0.2.1")]).unwrap();
    assert_eq!((one.network.to_string().as_str(), one.router), ("192.0.2.0/24", Ipv4Addr::new(192, 0, 2, 2)));
    assert_eq!(one.outside, Ipv4Addr::new(203, 0, 113, 1));
    let wide = underlay(&[("a", "192.168.3.9"), ("b", "192.168.8.9")]).unwrap();
    assert_eq!(
        (wide.network.to_string().as_str(), wide.router),
        ("192.168.0.0/20", Ipv4Addr::new(192, 168, 0, 1))
    );
    let documentation = underlay(&[("a", "203.0.113.5")]).unwrap();
    assert_eq!(documentation.outside, Ipv4Addr::new(198, 51, 100, 1));

    let error = underlay(&[("a", "192.168.0.1"), ("b", "192.169.0.1")]).unwrap_err();
    assert!(matches!(error, PlanError::ScatteredNodes { .. }), "{error}");
}

#[test]
fn nodes_that_can_not_be() {
    let error = plan(&[]).unwrap_err();
    assert!(matches!(error, PlanError::NoNodes), "{error}");
    let error = plan(&[("a", "10.129.0.7")]).unwrap_err();
    assert!(error.to_string().contains("Node a: status.addresses: node IP 10.129.0.7 conflicts"), "{error}");
    let error = plan(&[("a", "192.168.1.7"), ("b", "192.168.1.7")]).unwrap_err();
    assert_eq!(error.to_string(), "Nodes a and b both have the address 192.168.1.7: give each its own");
    let error = plan(&[("underlay", "192.168.1.7")]).unwrap_err();
    assert!(matches!(error, PlanError::SameNamespace(_)), "{error}");
    let error = plan(&[("a", "fd00::1")]).unwrap_err();
    assert!(matches!(error, PlanError::NoAddress { .. }), "{error}");
    let error = plan(&[(&"n".repeat(60), "192.168.1.7")]).unwrap_err();
    assert!(matches!(error, PlanError::LongName { what: "Node", .. }), "{error}");
}

#[test]
fn clusters_that_can_not_be() {
    let state = cluster(&node("a", "192.168.1.7"));
    assert!(matches!(Plan::new(&state, None, &dir()), Err(PlanError::NoClusterNetwork)));
    let unsupported = NETWORK.replace("ovs-subnet", "ovs-networkpolicy") + &node("a", "192.168.1.7");
    let error = Plan::new(&cluster(&unsupported), None, &dir()).unwrap_err().to_string();
    assert!(
        error.contains("networkpolicy is not supported yet") && error.contains("ovs-multitenant"),
        "{error}"
    );
    let other = Plan::new(&cluster(&unsupported), Some(PluginMode::Subnet), &dir()).unwrap();
    assert_eq!(other.plugin, PluginMode::Subnet);
}

#[test]
fn pods_start_in_the_order_of_their_creation_then_of_their_names() {
    let text = [
        NETWORK.to_owned(),
        node("n1", "192.168.1.7"),
        node("n2", "192.168.1.8"),
        pod("b", "x", "n1", "2018-11-06T03:05:00Z", ""),
        pod("a", "y", "n1", "2018-11-06T03:05:00Z", ""),
        pod("c", "first", "n1", "2018-11-06T03:00:00Z", ""),
        pod("a", "unscheduled", "", "2018-11-06T03:00:00Z", ""),
        pod("a", "host", "n1", "2018-11-06T03:00:00Z", ", hostNetwork: true"),
    ];
    let plan = Plan::new(&cluster(&text.concat()), None, &dir()).unwrap();
    let names: Vec<_> =
        plan.pods.values().flatten().map(|pod| format!("{}/{}", pod.name.0, pod.name.1)).collect();
    assert_eq!(names, ["c/first", "a/y", "b/x"]);
    assert_eq!(plan.pods.keys().collect::<Vec<_>>(), ["n1"]);

    let lost = text.concat() + &pod("a", "z", "n3", "2018-11-06T03:05:00Z", "");
    let error = Plan::new(&cluster(&lost), None, &dir()).unwrap_err();
    assert_eq!(error.to_string(), "Pod a/z: spec.nodeName: there is no Node \"n3\"");
}
