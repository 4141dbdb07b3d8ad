//! HostSubnets: one for each Node, and those made by hand.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value, json};

use super::order::{AddressSet, FreeSubnets};
use super::plan::{Action, Allocation, Change, Problem};
use super::reservations::{Reservations, Reserved};
use crate::api::{
    ASSIGN_SUBNET_ANNOTATION, HostSubnet, Kind, NODE_UID_ANNOTATION, NetworkConfig, ObjectRef, validate,
};
use crate::cluster::{ClusterState, Objects, Unreadable};

/// The last plan, and what it was made from.
#[derive(Debug, Default)]
pub(super) struct Memory(Option<Made>);

#[derive(Debug)]
struct Made {
    config: NetworkConfig,
    nodes: Objects<String, Node>,
    host_subnets: Objects<String, HostSubnet>,
    unreadable: Objects<ObjectRef, Unreadable>,
    reserved: BTreeMap<String, Reserved<Ipv4Net>>,
    plan: Allocation,
}

impl Memory {
    /// The plan for every HostSubnet, made anew only if something that it depends on has changed: most changes of a cluster
    /// are of other kinds.
    pub(super) fn plan(
        &mut self,
        state: &ClusterState,
        config: &NetworkConfig,
        reservations: &Reservations,
    ) -> Allocation {
        let holds = |made: &Made| {
            made.config == *config
                && made.nodes.is(&state.nodes)
                && made.host_subnets.is(&state.host_subnets)
                && made.unreadable.is(&state.unreadable)
                && made.reserved == reservations.subnets
        };
        if let Some(made) = self.0.as_ref().filter(|made| holds(made)) {
            return made.plan.clone();
        }
        let mut allocation = Allocation::default();
        plan(state, config, reservations, &mut allocation);
        self.0 = Some(Made {
            config: config.clone(),
            nodes: state.nodes.clone(),
            host_subnets: state.host_subnets.clone(),
            unreadable: state.unreadable.clone(),
            reserved: reservations.subnets.clone(),
            plan: allocation.clone(),
        });
        allocation
    }
}

/// Plans every HostSubnet.
fn plan(
    state: &ClusterState,
    config: &NetworkConfig,
    reservations: &Reservations,
    allocation: &mut Allocation,
) {
    let existing = existing_subnets(state, config, allocation);
    let mut taken = AddressSet::default();
    // Also those of HostSubnets that go: they are free when the deletion has been seen.
    existing.values().for_each(|subnet| taken.insert(subnet));
    reservations.subnets.values().for_each(|reserved| taken.insert(&reserved.value));
    let free = FreeSubnets::new(&config.cluster_networks, taken);
    let mut planner = Planner { config, existing, free, reservations, allocation };

    let has_node = |name: &str| {
        state.nodes.contains_key(name) || state.is_unreadable(&ObjectRef::cluster(Kind::Node, name))
    };
    for (name, object) in &state.host_subnets {
        let is_deleted = object.metadata.deletion_timestamp.is_some();
        if !has_node(name) && node_uid(object).is_some() && !is_deleted {
            planner.delete(name);
        }
    }
    let mut nodes: Vec<_> = state.nodes.iter().collect();
    // The oldest first, so that it is not the newest that takes the last subnet.
    nodes.sort_by_key(|(name, node)| (node.metadata.creation_timestamp.clone(), *name));
    let mut users = BTreeMap::new();
    for (name, node) in nodes {
        if let Some(ip) = planner.node_ip(name, node) {
            if let Some(other) = users.insert(ip, name) {
                let (node, other) = (name.clone(), other.clone());
                planner.allocation.problems.push(Problem::SharedNodeIp { node, other, ip });
            }
            if !state.is_unreadable(&ObjectRef::cluster(Kind::HostSubnet, name)) {
                planner.node(name, node, ip, state.host_subnets.get(name).map(AsRef::as_ref));
            }
        }
    }
    for (name, object) in &state.host_subnets {
        if !has_node(name) && node_uid(object).is_none() {
            planner.external(name, object);
        }
    }
}

/// The subnets that HostSubnets have, by name. Overlaps and subnets of no cluster network are reported, and kept.
fn existing_subnets(
    state: &ClusterState,
    config: &NetworkConfig,
    allocation: &mut Allocation,
) -> BTreeMap<String, Ipv4Net> {
    let unreadable = state.unreadable_of(Kind::HostSubnet);
    let existing: BTreeMap<String, Ipv4Net> = state
        .host_subnets
        .iter()
        .filter_map(|(name, object)| Some((name.clone(), subnet_of(object)?)))
        .chain(unreadable.filter_map(|(object, known)| Some((object.name.clone(), known.held.subnet?))))
        .collect();

    for (name, &subnet) in &existing {
        if !config.cluster_networks.iter().any(|network| network.cidr.contains(&subnet)) {
            allocation.problems.push(Problem::Outside { name: name.clone(), subnet });
        }
    }
    let mut sorted: Vec<_> = existing.iter().collect();
    sorted.sort_by_key(|(name, subnet)| (subnet.network(), subnet.prefix_len(), *name));
    // Sorted so, a subnet that overlaps any before it overlaps the one that reaches furthest.
    let mut furthest: Option<(&String, &Ipv4Net)> = None;
    for (name, subnet) in sorted {
        if let Some((other, other_subnet)) = furthest
            && validate::overlap(subnet, other_subnet)
        {
            let (name, other) = (name.clone(), other.clone());
            allocation.problems.push(Problem::Overlap {
                name,
                subnet: *subnet,
                other,
                other_subnet: *other_subnet,
            });
        }
        if furthest.is_none_or(|(_, other)| subnet.broadcast() > other.broadcast()) {
            furthest = Some((name, subnet));
        }
    }
    existing
}

/// The object's subnet, if it is one.
pub(super) fn subnet_of(object: &HostSubnet) -> Option<Ipv4Net> {
    object.subnet.parse().ok().filter(|net: &Ipv4Net| net.addr() == net.network())
}

struct Planner<'a> {
    config: &'a NetworkConfig,
    existing: BTreeMap<String, Ipv4Net>,
    free: FreeSubnets,
    reservations: &'a Reservations,
    allocation: &'a mut Allocation,
}

impl Planner<'_> {
    fn delete(&mut self, name: &str) {
        self.allocation.changes.push(Change {
            object: ObjectRef::cluster(Kind::HostSubnet, name),
            action: Action::Delete,
            reason: "its Node is gone".to_owned(),
            notice: None,
        });
    }

    /// The Node's address, if it has one that can be a node's.
    fn node_ip(&mut self, name: &str, node: &Node) -> Option<Ipv4Addr> {
        let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
        // The first IPv4 one: on a dual-stack node the first of all may be IPv6.
        let ip = addresses
            .filter(|address| address.type_ == "InternalIP")
            .find_map(|address| address.address.parse().ok());
        let Some(ip) = ip else {
            self.allocation.problems.push(Problem::NoNodeIp { node: name.to_owned() });
            return None;
        };
        self.check_ip(&ObjectRef::cluster(Kind::Node, name), ip)
    }

    fn check_ip(&mut self, object: &ObjectRef, ip: Ipv4Addr) -> Option<Ipv4Addr> {
        match self.config.check_node_ip(ip) {
            Ok(()) => Some(ip),
            Err(conflict) => {
                self.allocation.problems.push(Problem::NodeIp { object: object.clone(), conflict });
                None
            }
        }
    }

    fn take_subnet(&mut self, object: ObjectRef) -> Option<Ipv4Net> {
        let noted = self.reservations.subnet(&object.name);
        let noted = noted.filter(|subnet| self.is_only_for(&object.name, subnet));
        let subnet = noted.or_else(|| self.free.take());
        if subnet.is_none() {
            let networks: Vec<_> = self
                .config
                .cluster_networks
                .iter()
                .map(|network| format!("{} (a /{} each)", network.cidr, network.node_prefix_len()))
                .collect();
            self.allocation
                .problems
                .push(Problem::SubnetsExhausted { object, networks: networks.join(" and ") });
        }
        subnet
    }

    /// Whether the subnet that was noted for `name` is still nobody else's: meanwhile a person may have written it into another
    /// HostSubnet, or taken its network out of the ClusterNetwork.
    fn is_only_for(&self, name: &str, subnet: &Ipv4Net) -> bool {
        let others = self.reservations.subnets.iter().filter(|(other, _)| *other != name);
        self.config.cluster_networks.iter().any(|network| network.cidr.contains(subnet))
            && !self.existing.values().any(|other| validate::overlap(other, subnet))
            && !others.into_iter().any(|(_, other)| validate::overlap(&other.value, subnet))
    }

    /// A Node's HostSubnet: made if it is missing, else brought in line with the Node.
    fn node(&mut self, name: &str, node: &Node, ip: Ipv4Addr, object: Option<&HostSubnet>) {
        let uid = node.metadata.uid.as_deref().filter(|uid| !uid.is_empty());
        let Some(object) = object else {
            let Some(subnet) = self.take_subnet(ObjectRef::cluster(Kind::Node, name)) else { return };
            let object = HostSubnet {
                metadata: ObjectMeta {
                    name: Some(name.to_owned()),
                    annotations: uid.map(|uid| [(NODE_UID_ANNOTATION.to_owned(), uid.to_owned())].into()),
                    ..ObjectMeta::default()
                },
                host: name.to_owned(),
                host_ip: ip.to_string(),
                subnet: subnet.to_string(),
                ..HostSubnet::default()
            };
            self.allocation.changes.push(Change::create(object, format!("{subnet} for {ip}")));
            return;
        };

        let mut patch = Patch::new(object);
        if object.host != name {
            patch.set("host", json!(name), format!("host {name}"));
        }
        if object.host_ip != ip.to_string() {
            patch.set("hostIP", json!(ip), format!("hostIP {ip}, was {}", object.host_ip));
        }
        if let Some(uid) = uid
            && node_uid(object) != Some(uid)
        {
            patch.annotate(NODE_UID_ANNOTATION, json!(uid), format!("UID of the Node {uid}"));
        }
        self.assign_subnet(name, object, &mut patch);
        self.allocation.changes.extend(patch.into_change(name));
    }

    /// A HostSubnet for a machine outside the cluster: given a subnet if it asks for one.
    fn external(&mut self, name: &str, object: &HostSubnet) {
        if let Err(invalid) = validate::host_subnet(object) {
            self.allocation.problems.push(Problem::Invalid(invalid));
            return;
        }
        let Ok(ip) = object.host_ip.parse() else { return };
        if self.check_ip(&ObjectRef::cluster(Kind::HostSubnet, name), ip).is_none() {
            return;
        }
        let mut patch = Patch::new(object);
        self.assign_subnet(name, object, &mut patch);
        self.allocation.changes.extend(patch.into_change(name));
    }

    /// Gives a HostSubnet that has no subnet one, and takes back a request that has been met.
    fn assign_subnet(&mut self, name: &str, object: &HostSubnet, patch: &mut Patch) {
        // One that only a finalizer keeps needs none any more.
        if !self.existing.contains_key(name) && object.metadata.deletion_timestamp.is_none() {
            let Some(subnet) = self.take_subnet(ObjectRef::cluster(Kind::HostSubnet, name)) else { return };
            patch.set("subnet", json!(subnet), format!("subnet {subnet}"));
        }
        if annotation(object, ASSIGN_SUBNET_ANNOTATION).is_some_and(|value| value != "false") {
            patch.annotate(
                ASSIGN_SUBNET_ANNOTATION,
                Value::Null,
                "its request for a subnet is met".to_owned(),
            );
        }
    }
}

fn annotation<'a>(object: &'a HostSubnet, key: &str) -> Option<&'a str> {
    object.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// UID of the Node that the object belongs to; `None` if it was made for a machine outside the cluster.
fn node_uid(object: &HostSubnet) -> Option<&str> {
    annotation(object, NODE_UID_ANNOTATION).filter(|uid| !uid.is_empty())
}

/// A merge patch in the making.
struct Patch {
    resource_version: Option<String>,
    fields: Map<String, Value>,
    annotations: Map<String, Value>,
    reasons: Vec<String>,
}

impl Patch {
    fn new(object: &HostSubnet) -> Self {
        Self {
            resource_version: object.metadata.resource_version.clone(),
            fields: Map::new(),
            annotations: Map::new(),
            reasons: Vec::new(),
        }
    }

    fn set(&mut self, field: &str, value: Value, reason: String) {
        self.fields.insert(field.to_owned(), value);
        self.reasons.push(reason);
    }

    fn annotate(&mut self, key: &str, value: Value, reason: String) {
        self.annotations.insert(key.to_owned(), value);
        self.reasons.push(reason);
    }

    /// The change, if there is anything to change.
    fn into_change(mut self, name: &str) -> Option<Change> {
        if self.reasons.is_empty() {
            return None;
        }
        let mut meta = Map::new();
        if !self.annotations.is_empty() {
            meta.insert("annotations".to_owned(), Value::Object(self.annotations));
        }
        if let Some(version) = self.resource_version {
            meta.insert("resourceVersion".to_owned(), Value::String(version));
        }
        if !meta.is_empty() {
            self.fields.insert("metadata".to_owned(), Value::Object(meta));
        }
        Some(Change {
            object: ObjectRef::cluster(Kind::HostSubnet, name),
            action: Action::Patch(Value::Object(self.fields)),
            reason: self.reasons.join(", "),
            notice: None,
        })
    }
}
