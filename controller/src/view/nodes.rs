//! From HostSubnets to the nodes that a node must know: tunnels, and the egress IPs that they host.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv4Addr;

use flowtables::feature::nodes::RemoteNode;
use flowtables::pipeline::vnid::Vnid;
use ipnet::Ipv4Net;

use super::egress_ips::Host;
use super::inputs::Problem;
use super::tenancy::age;
use crate::api::validate::overlap;
use crate::api::{NetworkConfig, Subnet};
use crate::cluster::ClusterState;

/// The other nodes. Of two with one address, or with subnets that overlap, the older stays; the node's own
/// HostSubnet stays whatever its age.
pub(super) fn remote_nodes(
    state: &ClusterState,
    node: &str,
    own: &Subnet,
    network: &NetworkConfig,
    problems: &mut Vec<Problem>,
) -> Vec<RemoteNode> {
    let mut objects: Vec<_> = state.host_subnets.iter().filter(|(name, _)| *name != node).collect();
    objects.sort_by_cached_key(|(_, object)| age(&object.metadata));
    let mut nodes: Vec<RemoteNode> = Vec::with_capacity(objects.len());
    let mut vteps: HashMap<Ipv4Addr, usize> = HashMap::new();
    // No two of these overlap, so only the next lower and the next higher one can overlap another.
    let mut subnets: BTreeMap<Ipv4Net, usize> = BTreeMap::new();
    for (name, object) in objects {
        let mut problem =
            |reason: String| problems.push(Problem { object: format!("HostSubnet {name}"), reason });
        let subnet = match Subnet::checked(object, network) {
            Ok(subnet) => subnet,
            Err(error) => {
                problem(error.to_string());
                continue;
            }
        };
        if subnet.host_ip == own.host_ip {
            problem(format!("has this node's own address {}: its tunnel is ignored", subnet.host_ip));
            continue;
        }
        let named = |index: &usize| nodes.get(*index).map_or("", |other| other.name.as_str());
        if let Some(other) = vteps.get(&subnet.host_ip) {
            problem(format!(
                "has the same address {} as {}: its tunnel is ignored",
                subnet.host_ip,
                named(other)
            ));
            continue;
        }
        if overlap(&subnet.subnet, &own.subnet) {
            problem(format!(
                "its subnet {} overlaps this node's own {}: its tunnel is ignored",
                subnet.subnet, own.subnet
            ));
            continue;
        }
        let neighbours = [subnets.range(..=subnet.subnet).next_back(), subnets.range(subnet.subnet..).next()];
        if let Some((other, index)) =
            neighbours.into_iter().flatten().find(|(other, _)| overlap(&subnet.subnet, other))
        {
            problem(format!(
                "its subnet {} overlaps {other} of {}: its tunnel is ignored",
                subnet.subnet,
                named(index)
            ));
            continue;
        }
        vteps.insert(subnet.host_ip, nodes.len());
        subnets.insert(subnet.subnet, nodes.len());
        nodes.push(RemoteNode {
            name: name.clone(),
            vtep: subnet.host_ip,
            subnet: subnet.subnet,
            fixed_vnid: subnet.fixed_vnid.and_then(|vnid| Vnid::try_from(vnid).ok()),
        });
    }
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    nodes
}

/// The nodes with the egress IPs that their HostSubnets list.
pub(super) fn hosts(
    state: &ClusterState,
    own: &Subnet,
    nodes: &[RemoteNode],
    unreachable: &BTreeSet<String>,
    problems: &mut Vec<Problem>,
) -> Vec<Host> {
    let others = nodes.iter().map(|node| (node.name.as_str(), node.vtep));
    let mut hosts = Vec::new();
    for (name, vtep) in std::iter::once((own.name.as_str(), own.host_ip)).chain(others) {
        let Some(object) = state.host_subnets.get(name).filter(|object| !object.egress_ips.is_empty()) else {
            continue;
        };
        let mut ips = BTreeSet::new();
        for text in &object.egress_ips {
            match text.parse() {
                Ok(ip) => {
                    ips.insert(ip);
                }
                Err(_) => problems.push(Problem {
                    object: format!("HostSubnet {name}"),
                    reason: format!("egress IP {text} is no IPv4 address: it is not used"),
                }),
            }
        }
        hosts.push(Host { name: name.to_owned(), vtep, online: !unreachable.contains(name), ips });
    }
    hosts
}
