//! What an API server would refuse of an object that has the right form.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer};

use crate::api::{InvalidObject, NetworkConfig, validate};
use crate::cluster::Object;

/// A field and what is wrong with it.
type Fault = (String, String);

/// The rules of `network.openshift.io`.
pub(super) fn network_object(object: &Object) -> Result<(), InvalidObject> {
    match object {
        Object::ClusterNetwork(network) => NetworkConfig::try_from(network.as_ref()).map(drop),
        Object::HostSubnet(subnet) => validate::host_subnet(subnet),
        Object::NetNamespace(namespace) => validate::net_namespace(namespace).map(drop),
        Object::EgressNetworkPolicy(policy) => validate::egress_network_policy(policy),
        _ => Ok(()),
    }
}

/// Addresses, networks and ports of Kubernetes' own kinds, as far as this system reads them.
pub(super) fn kubernetes_object(object: &Object) -> Vec<Fault> {
    match object {
        Object::Node(node) => self::node(node),
        Object::Pod(pod) => self::pod(pod),
        Object::Service(service) => self::service(service),
        Object::EndpointSlice(slice) => self::endpoint_slice(slice),
        Object::NetworkPolicy(policy) => self::network_policy(policy),
        _ => Vec::new(),
    }
}

fn ip(field: String, text: &str) -> Option<Fault> {
    text.parse::<IpAddr>()
        .is_err()
        .then(|| (field, format!("\"{text}\" is no IP address: write one such as 10.128.0.5")))
}

fn port(field: String, port: i32) -> Option<Fault> {
    (!(1..=65535).contains(&port)).then(|| (field, format!("{port} is no port: use 1 to 65535")))
}

fn node(node: &Node) -> Vec<Fault> {
    let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    addresses
        .enumerate()
        .filter(|(_, address)| address.type_ == "InternalIP")
        .filter_map(|(i, address)| ip(format!("status.addresses[{i}].address"), &address.address))
        .collect()
}

fn pod(pod: &Pod) -> Vec<Fault> {
    let Some(status) = &pod.status else { return Vec::new() };
    let first =
        status.pod_ip.iter().filter(|text| !text.is_empty()).map(|text| ("status.podIP".to_owned(), text));
    let all = status
        .pod_ips
        .iter()
        .flatten()
        .enumerate()
        .map(|(i, pod_ip)| (format!("status.podIPs[{i}].ip"), &pod_ip.ip));
    first.chain(all).filter_map(|(field, text)| ip(field, text)).collect()
}

fn service(service: &Service) -> Vec<Fault> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let cluster_ip = spec
        .cluster_ip
        .as_deref()
        .filter(|text| !matches!(*text, "" | "None"))
        .and_then(|text| ip("spec.clusterIP".to_owned(), text));
    let ports = spec
        .ports
        .iter()
        .flatten()
        .enumerate()
        .filter_map(|(i, item)| port(format!("spec.ports[{i}].port"), item.port));
    cluster_ip.into_iter().chain(ports).collect()
}

fn endpoint_slice(slice: &EndpointSlice) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (i, endpoint) in slice.endpoints.iter().enumerate() {
        for (j, text) in endpoint.addresses.iter().enumerate() {
            if slice.address_type == "IPv4" && text.parse::<Ipv4Addr>().is_err() {
                let reason = format!("\"{text}\" is no IPv4 address, which addressType asks for");
                faults.push((format!("endpoints[{i}].addresses[{j}]"), reason));
            }
        }
    }
    let ports = slice.ports.iter().flatten().enumerate();
    faults.extend(ports.filter_map(|(i, item)| port(format!("ports[{i}].port"), item.port?)));
    faults
}

fn network_policy(policy: &NetworkPolicy) -> Vec<Fault> {
    let Some(spec) = &policy.spec else { return Vec::new() };
    let ingress = spec
        .ingress
        .iter()
        .flatten()
        .enumerate()
        .map(|(i, rule)| (format!("spec.ingress[{i}].from"), &rule.from));
    let egress =
        spec.egress.iter().flatten().enumerate().map(|(i, rule)| (format!("spec.egress[{i}].to"), &rule.to));
    ingress
        .chain(egress)
        .flat_map(|(field, peers)| {
            peers.iter().flatten().enumerate().flat_map(move |(j, item)| peer(&format!("{field}[{j}]"), item))
        })
        .collect()
}

fn peer(field: &str, peer: &NetworkPolicyPeer) -> Vec<Fault> {
    let Some(block) = &peer.ip_block else { return Vec::new() };
    let net = |field: String, text: &str| {
        text.parse::<IpNet>()
            .is_err()
            .then(|| (field, format!("\"{text}\" is no network: write one such as 10.1.0.0/16")))
    };
    let except = block.except.iter().flatten().enumerate();
    net(format!("{field}.ipBlock.cidr"), &block.cidr)
        .into_iter()
        .chain(except.filter_map(|(k, text)| net(format!("{field}.ipBlock.except[{k}]"), text)))
        .collect()
}
