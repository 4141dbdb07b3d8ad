//! From Service objects to what a node must know of them.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use flowtables::feature::Plugin;
use flowtables::feature::services::{Protocol, Service};
use ipnet::Ipv4Net;

use super::inputs::{Problem, vnid_of};
use super::tenancy::age;
use crate::cluster::ClusterState;

/// The services with a ClusterIP. Of two with one address the older stays.
pub(super) fn services(
    state: &ClusterState,
    service_network: Ipv4Net,
    problems: &mut Vec<Problem>,
) -> Vec<Service> {
    let mut objects: Vec<_> = state.services.iter().collect();
    objects.sort_by_cached_key(|(_, object)| age(&object.metadata));
    let mut services: BTreeMap<Ipv4Addr, Service> = BTreeMap::new();
    for ((namespace, name), object) in objects {
        let Some(spec) = &object.spec else { continue };
        let Some(cluster_ip) = spec.cluster_ip.as_deref().filter(|ip| !matches!(*ip, "" | "None")) else {
            continue;
        };
        let mut problem =
            |reason: String| problems.push(Problem { object: format!("Service {namespace}/{name}"), reason });
        let Ok(cluster_ip) = cluster_ip.parse() else {
            problem(format!("clusterIP {cluster_ip} is no IPv4 address"));
            continue;
        };
        if !service_network.contains(&cluster_ip) {
            problem(format!(
                "clusterIP {cluster_ip} is not of the service network {service_network}: nobody is let through to it"
            ));
            continue;
        }
        if let Some(holder) = services.get(&cluster_ip) {
            problem(format!(
                "has the same clusterIP {cluster_ip} as {}/{}, which is older: nobody is let through to it",
                holder.namespace, holder.name
            ));
            continue;
        }
        let Some(vnid) = vnid_of(state, Plugin::Multitenant, namespace) else {
            problem(format!("namespace {namespace} has no NetNamespace yet"));
            continue;
        };
        let mut ports = Vec::new();
        for port in spec.ports.as_deref().unwrap_or_default() {
            let protocol = match port.protocol.as_deref().unwrap_or("TCP") {
                "TCP" => Protocol::Tcp,
                "UDP" => Protocol::Udp,
                "SCTP" => Protocol::Sctp,
                other => {
                    problem(format!("protocol {other} of port {} is none of TCP, UDP, SCTP", port.port));
                    continue;
                }
            };
            match u16::try_from(port.port) {
                Ok(number) if number > 0 && ports.contains(&(protocol, number)) => {
                    problem(format!("has port {number} of {} twice: once is enough", protocol.name()));
                }
                Ok(number) if number > 0 => ports.push((protocol, number)),
                _ => problem(format!("port {} is not between 1 and 65535", port.port)),
            }
        }
        if ports.is_empty() {
            problem("has no ports: nobody is let through to it".to_owned());
        }
        let (namespace, name) = (namespace.clone(), name.clone());
        services.insert(cluster_ip, Service { namespace, name, cluster_ip, ports, vnid });
    }
    services.into_values().collect()
}
