//! A random cluster as its objects say: nodes, tenants, pods, services, egress IPs, policies, multicast.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::Context;
use controller::cluster::ClusterState;
use controller::view::{Inputs, Known, Names, View, inputs_knowing, offline_ports};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::Random;

/// How large a random cluster is.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Nodes, at most 32.
    pub nodes: u8,
    /// Pods on all nodes, at most 200; no node is empty.
    pub pods: u8,
    /// Namespaces with a VNID of their own, besides the global one and one that joined another.
    pub tenants: u8,
    /// Services.
    pub services: u8,
}

impl Default for Shape {
    fn default() -> Self {
        Self { nodes: 3, pods: 20, tenants: 5, services: 8 }
    }
}

/// The objects of a cluster, and what DNS said.
#[derive(Clone, Debug)]
pub struct RandomCluster {
    /// The objects.
    pub state: ClusterState,
    /// What is known besides.
    pub known: Known,
}

fn object<T: DeserializeOwned>(value: Value) -> anyhow::Result<Arc<T>> {
    let text = value.to_string();
    serde_json::from_value(value).map(Arc::new).context(text)
}

/// Addresses that egress IPs are taken from.
fn egress_ip(n: u64) -> String {
    format!("172.17.0.{}", 200 + n)
}

impl RandomCluster {
    /// A cluster under `redhat/openshift-ovs-PLUGIN`.
    ///
    /// # Errors
    /// Never, unless the objects' types changed.
    pub fn new(random: &mut Random, plugin: &str, shape: Shape) -> anyhow::Result<Self> {
        let mut state = ClusterState {
            cluster_network: Some(object(json!({
                "metadata": { "name": "default" },
                "network": "10.128.0.0/14",
                "hostsubnetlength": 9,
                "clusterNetworks": [{ "CIDR": "10.128.0.0/14", "hostSubnetLength": 9 }],
                "serviceNetwork": "172.30.0.0/16",
                "pluginName": format!("redhat/openshift-ovs-{plugin}"),
            }))?),
            ..ClusterState::default()
        };
        let names = namespaces(random, &mut state, shape)?;
        nodes(random, &mut state, shape)?;
        egress_ips(random, &mut state)?;
        pods(random, &mut state, shape, &names)?;
        services(random, &mut state, shape, &names)?;
        policies(random, &mut state, &names)?;
        let resolved = [("one.example.test", &[7][..]), ("two.example.test", &[8, 9])];
        let addresses = |last: &[u8]| last.iter().map(|&last| Ipv4Addr::new(203, 0, 113, last)).collect();
        let names: Names =
            resolved.iter().map(|(name, last)| ((*name).to_owned(), addresses(last))).collect();
        Ok(Self { state, known: Known { names, ..Known::default() } })
    }

    /// Name of the node of that number.
    #[must_use]
    pub fn node(n: u8) -> String {
        format!("node{n}")
    }

    /// What a node must know, and its flows.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn view(&self, node: &str) -> anyhow::Result<(Inputs, View)> {
        let inputs = inputs_knowing(&self.state, node, &offline_ports(&self.state, node), &self.known)?;
        let view = View::of(&inputs);
        anyhow::ensure!(view.conflicts().is_empty(), "{:?}", view.conflicts());
        Ok((inputs, view))
    }
}

/// `global` has VNID 0, `joined` that of `tenant0`; the rest have their own.
fn namespaces(random: &mut Random, state: &mut ClusterState, shape: Shape) -> anyhow::Result<Vec<String>> {
    let mut vnids: BTreeMap<String, u64> = BTreeMap::from([("global".to_owned(), 0)]);
    let mut taken = vec![0];
    for n in 0..shape.tenants {
        let vnid = loop {
            // Small ones, large ones, and numbers that are neighbours.
            let vnid = if random.one_in(4) { 10 + random.below(8) } else { 10 + random.below(0xff_fff6) };
            if !taken.contains(&vnid) {
                break vnid;
            }
        };
        taken.push(vnid);
        vnids.insert(format!("tenant{n}"), vnid);
    }
    if let Some(&vnid) = vnids.get("tenant0") {
        vnids.insert("joined".to_owned(), vnid);
    }
    for (name, vnid) in &vnids {
        let mut metadata = json!({ "name": name });
        if random.one_in(2) {
            metadata["annotations"] =
                json!({ "netnamespace.network.openshift.io/multicast-enabled": "true" });
        }
        let value = json!({ "metadata": metadata, "netname": name, "netid": vnid });
        state.net_namespaces.insert(name.clone(), object(value)?);
    }
    Ok(vnids.into_keys().collect())
}

fn nodes(random: &mut Random, state: &mut ClusterState, shape: Shape) -> anyhow::Result<()> {
    for n in 0..shape.nodes {
        let name = RandomCluster::node(n);
        let value = json!({
            "metadata": { "name": name }, "host": name,
            "hostIP": format!("172.17.0.{}", 10 + n), "subnet": format!("10.128.{}.0/23", 2 * n),
        });
        state.host_subnets.insert(name, object(value)?);
    }
    // A VTEP that is no node of the cluster, whose traffic has one VNID.
    if random.one_in(3) {
        let vnid = random.pick(&["0", "77"]).to_string();
        let value = json!({
            "metadata": { "name": "foreign", "annotations": { "pod.network.openshift.io/fixed-vnid-host": vnid } },
            "host": "foreign", "hostIP": "172.17.0.150", "subnet": "10.128.200.0/23",
        });
        state.host_subnets.insert("foreign".to_owned(), object(value)?);
    }
    Ok(())
}

/// Of each namespace in turn: none, one that no node hosts, one, or two on two nodes.
fn egress_ips(random: &mut Random, state: &mut ClusterState) -> anyhow::Result<()> {
    let nodes: Vec<String> = state.host_subnets.keys().filter(|name| *name != "foreign").cloned().collect();
    let names: Vec<String> = state.net_namespaces.keys().cloned().collect();
    let mut next = 0;
    for name in names {
        let wanted = match random.below(6) {
            0..3 => continue,
            3 | 4 => 1,
            _ => 2,
        };
        let ips: Vec<String> = (next..next + wanted).map(egress_ip).collect();
        next += wanted;
        let first = random.below(nodes.len() as u64) as usize;
        if !random.one_in(4) {
            for (ip, node) in ips.iter().zip(nodes.iter().cycle().skip(first)) {
                let host = state.host_subnets.get_mut(node).context("a node")?;
                Arc::make_mut(host).egress_ips.push(ip.clone());
            }
        }
        let namespace = state.net_namespaces.get_mut(&name).context("a namespace")?;
        Arc::make_mut(namespace).egress_ips = ips;
    }
    Ok(())
}

fn pods(random: &mut Random, state: &mut ClusterState, shape: Shape, names: &[String]) -> anyhow::Result<()> {
    for n in 0..shape.pods {
        let node = if n < shape.nodes { n } else { random.below(shape.nodes.into()) as u8 };
        let (namespace, name) = (random.pick(names).clone(), format!("pod{n}"));
        let value = json!({
            "metadata": { "namespace": namespace, "name": name },
            "spec": { "nodeName": RandomCluster::node(node), "containers": [] },
            "status": { "podIP": format!("10.128.{}.{}", 2 * node + (n & 1), 2 + n) },
        });
        state.pods.insert((namespace, name), object(value)?);
    }
    Ok(())
}

fn services(
    random: &mut Random,
    state: &mut ClusterState,
    shape: Shape,
    names: &[String],
) -> anyhow::Result<()> {
    for n in 0..shape.services {
        let (namespace, name) = (random.pick(names).clone(), format!("service{n}"));
        let second = *random.pick(&["UDP", "SCTP"]);
        let ports = json!([
            { "name": "web", "protocol": "TCP", "port": 80 },
            { "name": "other", "protocol": second, "port": 53 + n },
        ]);
        let value = json!({
            "metadata": { "namespace": namespace, "name": name },
            "spec": { "clusterIP": format!("172.30.0.{}", 10 + n), "ports": if n == 0 { json!([]) } else { ports } },
        });
        state.services.insert((namespace, name), object(value)?);
    }
    Ok(())
}

fn policies(random: &mut Random, state: &mut ClusterState, names: &[String]) -> anyhow::Result<()> {
    for namespace in names.iter().filter(|name| *name != "global") {
        if random.one_in(2) {
            continue;
        }
        let mut rules = Vec::new();
        for _ in 0..1 + random.below(4) {
            let verdict = *random.pick(&["Allow", "Deny"]);
            let to = match random.below(8) {
                0 => json!({ "dnsName": "one.example.test" }),
                1 => json!({ "dnsName": "two.example.test" }),
                2 => json!({ "dnsName": "unknown.example.test" }),
                3 => json!({ "cidrSelector": "0.0.0.0/0" }),
                4 => json!({ "cidrSelector": "198.51.100.0/24" }),
                _ => {
                    json!({ "cidrSelector": format!("192.0.2.{}/{}", random.below(4), 30 + random.below(3)) })
                }
            };
            rules.push(json!({ "type": verdict, "to": to }));
        }
        let value = json!({
            "metadata": { "namespace": namespace, "name": "default" }, "spec": { "egress": rules },
        });
        state.egress_network_policies.insert((namespace.clone(), "default".to_owned()), object(value)?);
    }
    Ok(())
}
