//! What holds for every state.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::Ipv4Net;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::api::validate::overlap;
use crate::cluster::Objects;

/// What the existing HostSubnet of a machine is like.
#[derive(Clone, Debug)]
struct Existing {
    subnet: Option<(u8, u8)>,
    owned: bool,
    asks: bool,
    moved: bool,
}

fn existing() -> impl Strategy<Value = Existing> {
    let subnet = prop_oneof![4 => (0..16_u8, Just(28)), 1 => (0..8_u8, Just(27)), 1 => (0..32_u8, Just(29))];
    (option::weighted(0.8, subnet), any::<bool>(), any::<bool>(), any::<bool>())
        .prop_map(|(subnet, owned, asks, moved)| Existing { subnet, owned, asks, moved })
}

/// A cluster of a /24 with 16 subnets, of which some are taken, for up to 20 machines.
fn states() -> impl Strategy<Value = ClusterState> {
    (
        btree_set(0..20_u8, 0..20),
        btree_map(0..20_u8, existing(), 0..14),
        btree_set(0..12_u8, 0..12),
        btree_map(0..12_u8, 0..20_u32, 0..10),
        vec(0..3_i64, 32),
    )
        .prop_map(|(nodes, host_subnets, namespaces, net_namespaces, ages)| {
            let name = |number: &u8| format!("m{number}");
            let mut objects = vec![json!({
                "kind": "ClusterNetwork", "metadata": {"name": "default"},
                "network": "10.1.0.0/24", "hostsubnetlength": 4,
                "clusterNetworks": [{"CIDR": "10.1.0.0/24", "hostSubnetLength": 4}],
                "serviceNetwork": "172.30.0.0/16", "pluginName": MULTITENANT,
            })];
            for number in &nodes {
                let mut object = node(&name(number), &format!("192.168.1.{number}"));
                object["metadata"]["creationTimestamp"] =
                    json!(format!("2024-01-0{}T00:00:00Z", 1 + ages[usize::from(*number)]));
                objects.push(object);
            }
            for (number, existing) in &host_subnets {
                let subnet = existing.subnet.map_or_else(String::new, |(index, prefix)| {
                    let step = 1_u16 << (32 - prefix);
                    format!("10.1.0.{}/{prefix}", u16::from(index) * step)
                });
                let mut annotations = json!({});
                if existing.owned {
                    annotations["pod.network.openshift.io/node-uid"] = json!(format!("uid-{}", name(number)));
                }
                if existing.asks || subnet.is_empty() {
                    annotations["pod.network.openshift.io/assign-subnet"] = json!("");
                }
                let host = if existing.moved { 100 + number } else { *number };
                objects.push(host_subnet(&name(number), &format!("192.168.1.{host}"), &subnet, annotations));
            }
            objects.extend(namespaces.iter().map(|number| namespace(&name(number))));
            objects.extend(net_namespaces.iter().map(|(number, vnid)| net_namespace(&name(number), *vnid)));
            state(&objects)
        })
}

fn subnets(state: &ClusterState) -> BTreeMap<&String, Ipv4Net> {
    state.host_subnets.iter().filter_map(|(name, object)| Some((name, object.subnet.parse().ok()?))).collect()
}

/// Allocates until nothing changes any more.
fn settle(mut state: ClusterState) -> (ClusterState, Vec<Problem>) {
    for _ in 0..3 {
        let allocation = allocate(&state);
        if allocation.changes.is_empty() {
            return (state, allocation.problems);
        }
        state = after(&state, &allocation);
    }
    panic!("does not settle: {:?}", allocate(&state).changes)
}

proptest! {
    #[test]
    fn existing_subnets_and_vnids_are_kept(before in states()) {
        let (end, _) = settle(before.clone());
        let old = subnets(&before);
        for (name, subnet) in subnets(&end) {
            if let Some(old) = old.get(name) {
                prop_assert_eq!(subnet, *old, "{}", name);
            }
        }
        for (name, object) in &before.net_namespaces {
            prop_assert_eq!(end.net_namespaces.get(name), Some(object));
        }
        for (name, object) in &before.host_subnets {
            let goes = !before.nodes.contains_key(name)
                && object.metadata.annotations.as_ref().is_some_and(|all| all.contains_key("pod.network.openshift.io/node-uid"));
            prop_assert_eq!(end.host_subnets.contains_key(name), !goes, "{}", name);
        }
    }

    #[test]
    fn new_subnets_overlap_nothing_and_lie_in_the_network(before in states()) {
        let allocation = allocate(&before);
        let old = subnets(&before);
        let end = after(&before, &allocation);
        let all = subnets(&end);
        for (name, subnet) in all.iter().filter(|(name, _)| !old.contains_key(**name)) {
            prop_assert_eq!(subnet.prefix_len(), 28);
            prop_assert!("10.1.0.0/24".parse::<Ipv4Net>().unwrap().contains(subnet));
            for (other, other_subnet) in all.iter().filter(|(other, _)| *other != name) {
                prop_assert!(!overlap(subnet, other_subnet), "{} {} and {} {}", name, subnet, other, other_subnet);
            }
            // Nor those that were to go in the same round.
            for (other, other_subnet) in old.iter().filter(|(other, _)| *other != name) {
                prop_assert!(!overlap(subnet, other_subnet), "{} {} and {} {}", name, subnet, other, other_subnet);
            }
        }
    }

    #[test]
    fn new_vnids_are_unique(before in states()) {
        let (end, _) = settle(before.clone());
        let mut used: BTreeSet<u32> = before.net_namespaces.values().map(|object| object.netid).collect();
        for (name, object) in end.net_namespaces.iter().filter(|(name, _)| !before.net_namespaces.contains_key(*name)) {
            prop_assert!(object.netid >= 10 && used.insert(object.netid), "{} {}", name, object.netid);
        }
        prop_assert_eq!(
            end.namespaces.keys().filter(|name| !end.net_namespaces.contains_key(*name)).count(), 0
        );
    }

    #[test]
    fn whoever_has_none_at_the_end_is_reported(before in states()) {
        let (end, problems) = settle(before);
        let has = subnets(&end);
        let without = end.nodes.keys().chain(end.host_subnets.keys()).filter(|name| !has.contains_key(name));
        for name in without.collect::<BTreeSet<_>>() {
            let told = |problem: &Problem| matches!(problem, Problem::SubnetsExhausted { object, .. } if object.name == *name);
            prop_assert!(problems.iter().any(told), "{}", name);
        }
        if problems.iter().any(|problem| matches!(problem, Problem::SubnetsExhausted { .. })) {
            let mut free = (0..16).map(|i| format!("10.1.0.{}/28", i * 16).parse::<Ipv4Net>().unwrap());
            prop_assert!(free.all(|subnet| has.values().any(|other| overlap(&subnet, other))));
        }
        for (name, object) in &end.host_subnets {
            if let Some(node) = end.nodes.get(name) {
                let ip = &node.status.as_ref().unwrap().addresses.as_ref().unwrap()[1].address;
                prop_assert_eq!(&object.host_ip, ip);
            }
        }
    }

    /// Machines and namespaces that come one by one, the oldest first, get what they get when they come at once.
    #[test]
    fn one_by_one_is_as_at_once(mut start in states()) {
        // HostSubnets that wait for their Node as those made by hand do: with a subnet and without an owner.
        start.host_subnets.retain(|_, object| !object.subnet.is_empty());
        for object in start.host_subnets.values_mut() {
            Arc::make_mut(object).metadata.annotations = None;
        }
        let at_once = after(&start, &allocate(&start));

        let mut nodes: Vec<(String, Arc<Node>)> = std::mem::take(&mut start.nodes).into_iter().collect();
        nodes.sort_by_key(|(name, node)| (node.metadata.creation_timestamp.clone(), name.clone()));
        let namespaces = std::mem::take(&mut start.namespaces);
        let mut one_by_one = start;
        for (name, node) in nodes {
            one_by_one.nodes.insert(name, node);
            one_by_one = after(&one_by_one, &allocate(&one_by_one));
        }
        for (name, namespace) in namespaces {
            one_by_one.namespaces.insert(name, namespace);
            one_by_one = after(&one_by_one, &allocate(&one_by_one));
        }
        prop_assert_eq!(one_by_one, at_once);
    }

    /// An allocator that has seen what was before comes to what one comes to that has not: objects come, go and come back, as
    /// what they were or as others of the same name, one by one or all at once, in networks that change.
    #[test]
    fn what_was_seen_before_changes_nothing(
        pool in [states(), states(), states()],
        steps in vec((0..16_u8, 0..20_u8, 0..3_usize), 1..50),
    ) {
        let mut now = pool[0].clone();
        let mut allocator = Allocator::default();
        let mut reservations = Reservations::default();
        for (time, (step, number, which)) in steps.into_iter().enumerate() {
            let name = format!("m{number}");
            let other = &pool[which];
            match step {
                0 => now = after(&now, &allocate_beside(&now, &reservations)),
                1 => drop(now.nodes.remove(&name)),
                2 => drop(now.namespaces.remove(&name)),
                3 => drop(now.net_namespaces.remove(&name)),
                4 => drop(now.host_subnets.remove(&name)),
                5 => take(&mut now.nodes, &other.nodes, &name),
                6 => take(&mut now.namespaces, &other.namespaces, &name),
                7 => take(&mut now.net_namespaces, &other.net_namespaces, &name),
                8 => take(&mut now.host_subnets, &other.host_subnets, &name),
                9 => now = other.clone(),
                10 => now.cluster_network = None,
                11 => now.cluster_network.clone_from(&other.cluster_network),
                12 => if let Some(network) = &mut now.cluster_network {
                    let plugin = ["redhat/openshift-ovs-subnet", MULTITENANT, "nonsense"][which];
                    plugin.clone_into(&mut Arc::make_mut(network).plugin_name);
                },
                13 => if let Some(object) = now.namespaces.get_mut(&name) {
                    Arc::make_mut(object).metadata.uid = Some(format!("u{which}"));
                },
                14 => if let Some(object) = now.net_namespaces.get_mut(&name) {
                    let object = Arc::make_mut(object);
                    object.netid = [0, 8_400_000, u32::MAX][which];
                    let owner = OwnerReference { kind: "Namespace".into(), uid: format!("u{}", number % 3), name, ..OwnerReference::default() };
                    object.metadata.owner_references = Some(vec![owner]);
                },
                _ => if let Some(object) = now.net_namespaces.get_mut(&name) {
                    let object = Arc::make_mut(object);
                    let request = ["isolate", "global", "join:m1"][which];
                    object.metadata.annotations =
                        Some([("pod.network.openshift.io/multitenant.change-network".into(), request.into())].into());
                    object.egress_ips = vec![format!("192.168.1.{number}")];
                },
            }
            // Numbers that are noted and never seen are free again on the way.
            let time = 50 * time as i64;
            reservations.settle(&now, time);
            let allocation = allocator.allocate(&now, &reservations);
            prop_assert_eq!(&allocation, &allocate_beside(&now, &reservations));
            prop_assert_eq!(&allocation, &allocator.allocate(&now, &reservations));
            if which > 0 {
                reservations.note(&now, &allocation.changes, time);
            }
        }
    }
}

/// Puts the very object of another table into this one, if it has one of that name.
fn take<T>(table: &mut Objects<String, T>, other: &Objects<String, T>, name: &str) {
    if let Some(object) = other.get(name) {
        table.insert(name.to_owned(), object.clone());
    }
}
