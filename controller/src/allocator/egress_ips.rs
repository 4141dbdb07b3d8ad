//! Egress IPs: the nodes with `egressCIDRs` are given the addresses that namespaces ask for.

mod placement;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::Node;
use serde_json::json;

use self::placement::{Host, Placement, place};
use super::plan::{Action, Allocation, Change, Problem};
use super::tenants::Tenants;
use crate::api::{HostSubnet, Kind, NetNamespace, ObjectRef, Vnid, validate};
use crate::cluster::ClusterState;

/// Plans the `egressIPs` of every HostSubnet with `egressCIDRs`. Those without are left as somebody wrote them, and what they
/// list is placed nowhere else.
pub(super) fn plan(state: &ClusterState, tenants: &Tenants, allocation: &mut Allocation) {
    let mut hosts = BTreeMap::new();
    let mut manual = BTreeSet::new();
    for (name, object) in &state.host_subnets {
        let goes = || {
            allocation.changes.iter().any(|change| {
                change.object.kind == Kind::HostSubnet
                    && change.object.name == *name
                    && change.action == Action::Delete
            })
        };
        // Those without, which are nearly all, are passed over first.
        if (object.egress_cidrs.is_empty() && object.egress_ips.is_empty())
            || object.subnet.is_empty()
            || goes()
        {
            continue;
        }
        if let Err(invalid) = validate::host_subnet(object) {
            let problem = Problem::Invalid(invalid);
            if !allocation.problems.contains(&problem) {
                allocation.problems.push(problem);
            }
        }
        let current: BTreeSet<Ipv4Addr> = object.egress_ips.iter().filter_map(|ip| ip.parse().ok()).collect();
        let cidrs: Vec<_> = object.egress_cidrs.iter().filter_map(|cidr| cidr.parse().ok()).collect();
        if cidrs.len() < object.egress_cidrs.len() || cidrs.is_empty() {
            manual.extend(current);
        } else {
            let online = state.nodes.get(name).is_none_or(|node| is_online(node));
            hosts.insert(name.as_str(), Host { cidrs, online, current });
        }
    }
    let mut wanted = wanted(tenants, &mut allocation.problems);
    for ips in wanted.values_mut() {
        ips.retain(|ip| !manual.contains(ip));
    }
    let placement = place(&hosts, &wanted);
    report(&hosts, &wanted, &placement, &mut allocation.problems);
    for (name, ips) in placement {
        if let Some(object) = state.host_subnets.get(name) {
            // What has another change in this round is looked at again in the next.
            let busy = allocation
                .changes
                .iter()
                .any(|change| change.object.kind == Kind::HostSubnet && change.object.name == name);
            if !busy {
                allocation.changes.extend(change(name, object, &ips));
            }
        }
    }
}

/// Whether a node's agent can be expected to work: what is not known of a node does not count against it.
fn is_online(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .find(|condition| condition.type_ == "Ready")
        .is_none_or(|ready| ready.status == "True")
}

/// What each namespace asks for, by its name. Of those that share a VNID the oldest that asks decides, as on the nodes. What
/// several ask for is left out, and said.
fn wanted<'a>(tenants: &'a Tenants, problems: &mut Vec<Problem>) -> BTreeMap<&'a str, Vec<Ipv4Addr>> {
    let mut asking: Vec<(&str, &NetNamespace)> =
        tenants.with_egress_ips().map(|(name, object)| (name.as_str(), object)).collect();
    asking.sort_by_key(|(name, object)| (object.metadata.creation_timestamp.clone(), *name));
    let mut vnids = BTreeSet::new();
    let mut wanted: BTreeMap<&str, Vec<Ipv4Addr>> = BTreeMap::new();
    let mut users: BTreeMap<Ipv4Addr, BTreeSet<&str>> = BTreeMap::new();
    for (name, object) in asking {
        if Vnid::try_from(object).is_err() || !vnids.insert(object.netid) {
            continue;
        }
        let mut ips: Vec<Ipv4Addr> = Vec::new();
        for ip in object.egress_ips.iter().filter_map(|text| text.parse().ok()) {
            if !ips.contains(&ip) {
                ips.push(ip);
                users.entry(ip).or_default().insert(name);
            }
        }
        wanted.insert(name, ips);
    }
    for (ip, names) in users.into_iter().filter(|(_, names)| names.len() > 1) {
        for name in &names {
            let others: Vec<_> = names.iter().filter(|other| *other != name).copied().collect();
            problems.push(Problem::EgressIp {
                namespace: (*name).to_owned(),
                ip,
                reason: format!("NetNamespace {} asks for it too", others.join(" and NetNamespace ")),
            });
            if let Some(ips) = wanted.get_mut(name) {
                ips.retain(|other| *other != ip);
            }
        }
    }
    wanted
}

/// Says of each address that is placed nowhere, why.
fn report(
    hosts: &BTreeMap<&str, Host>,
    wanted: &BTreeMap<&str, Vec<Ipv4Addr>>,
    placement: &Placement<'_>,
    problems: &mut Vec<Problem>,
) {
    let placed: BTreeSet<_> = placement.values().flatten().collect();
    for (namespace, ips) in wanted {
        for ip in ips.iter().filter(|ip| !placed.contains(ip)) {
            let having: Vec<_> =
                hosts.iter().filter(|(_, host)| host.cidrs.iter().any(|cidr| cidr.contains(ip))).collect();
            let names = || having.iter().map(|(name, _)| (**name).to_owned()).collect::<Vec<_>>().join(", ");
            let reason = if having.is_empty() {
                "no HostSubnet lists it in egressIPs, and none has egressCIDRs that contain it".to_owned()
            } else if having.iter().all(|(_, host)| !host.online) {
                format!("no node that may have it is ready (egressCIDRs of {})", names())
            } else {
                format!(
                    "a node hosts one address of a namespace only, and those that may have this one host another already (egressCIDRs \
                     of {})",
                    names()
                )
            };
            problems.push(Problem::EgressIp { namespace: (*namespace).to_owned(), ip: *ip, reason });
        }
    }
}

fn change(name: &str, object: &HostSubnet, ips: &BTreeSet<Ipv4Addr>) -> Option<Change> {
    let texts: Vec<String> = ips.iter().map(ToString::to_string).collect();
    let now: BTreeSet<&str> = object.egress_ips.iter().map(String::as_str).collect();
    if now == texts.iter().map(String::as_str).collect() && now.len() == object.egress_ips.len() {
        return None;
    }
    let reason = if texts.is_empty() {
        "no egress IPs".to_owned()
    } else {
        format!("egress IPs {}", texts.join(", "))
    };
    let patch = match &object.metadata.resource_version {
        Some(version) => json!({"egressIPs": texts, "metadata": {"resourceVersion": version}}),
        None => json!({"egressIPs": texts}),
    };
    Some(Change {
        object: ObjectRef::cluster(Kind::HostSubnet, name),
        action: Action::Patch(patch),
        reason: format!(
            "{reason}, were {}",
            if now.is_empty() { "none".to_owned() } else { object.egress_ips.join(", ") }
        ),
        notice: None,
    })
}
