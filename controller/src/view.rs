//! NodeView: cluster state in, inputs of the pipeline's features out, for one node.
//!
//! Pure. [`inputs`] says what the node must know; [`View`] keeps the flows that follow from it and touches only
//! the owners whose input changed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use flowtables::feature::base::Base;
use flowtables::feature::egress_ip::EgressIp;
use flowtables::feature::egress_policy::EgressPolicy;
use flowtables::feature::multicast::{self, Multicast};
use flowtables::feature::nodes::RemoteNode;
use flowtables::feature::pods::Pod;
use flowtables::feature::services::Service;
use flowtables::feature::{Plugin, tenants, version};
use flowtables::flowset::{Conflict, FlowSet, Rendered};
use flowtables::pipeline::cookie::Owner;
use flowtables::pipeline::vnid::Vnid;

mod egress;
mod egress_ips;
mod inputs;
mod nodes;
mod offline;
mod services;
mod tenancy;

pub use egress::{HostedEgressIp, Names};
pub use inputs::{Inputs, Known, PodPort, Problem, ViewError, inputs, inputs_knowing, vnid_of};
pub use offline::{annotated_port, offline_ports};

/// What one owner's flows are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Input {
    Base(Base),
    Version(Plugin),
    Node(RemoteNode),
    Tenant(Vnid),
    Service(Service),
    /// A pod that is being replaced may have two legs for a moment.
    Pod(Vec<Pod>),
    EgressIp(EgressIp),
    EgressPolicy(EgressPolicy),
    Multicast(Multicast),
    MulticastTunnels(Vec<Ipv4Addr>),
}

impl Input {
    fn rendered(&self) -> Rendered {
        match self {
            Input::Base(base) => base.flows().into(),
            Input::Version(plugin) => version::flows(*plugin).into(),
            Input::Node(node) => node.flows().into(),
            Input::Tenant(vnid) => tenants::flows(*vnid).into(),
            Input::Service(service) => service.flows().into(),
            Input::Pod(legs) => legs.iter().flat_map(Pod::flows).collect::<Vec<_>>().into(),
            Input::EgressIp(namespace) => namespace.rendered(),
            Input::EgressPolicy(policy) => policy.flows().into(),
            Input::Multicast(multicast) => multicast.flows().into(),
            Input::MulticastTunnels(nodes) => multicast::tunnels(nodes).into(),
        }
    }
}

/// A node's desired flows, kept up to date owner by owner.
#[derive(Clone, Debug, Default)]
pub struct View {
    inputs: BTreeMap<Owner, Input>,
    flows: FlowSet,
    conflicts: Vec<Conflict>,
}

impl View {
    /// The desired flows of a node that must know `inputs`.
    #[must_use]
    pub fn of(inputs: &Inputs) -> Self {
        let mut view = Self::default();
        view.update(inputs);
        view
    }

    /// Takes over new inputs; returns the owners whose flows changed.
    pub fn update(&mut self, inputs: &Inputs) -> BTreeSet<Owner> {
        let new = by_owner(inputs);
        let mut touched: BTreeSet<Owner> =
            self.inputs.keys().filter(|owner| !new.contains_key(owner)).cloned().collect();
        touched.extend(
            new.iter()
                .filter(|(owner, input)| self.inputs.get(owner) != Some(input))
                .map(|(owner, _)| owner.clone()),
        );
        if !touched.is_empty() {
            // What lost a conflict may win now that others changed.
            touched.extend(self.conflicts.drain(..).map(|conflict| conflict.claimant));
        }
        for owner in &touched {
            self.flows.remove(owner);
        }
        for owner in &touched {
            if let Some(input) = new.get(owner) {
                self.conflicts.extend(self.flows.replace(owner, input.rendered()));
            }
        }
        self.inputs = new;
        touched
    }

    /// The desired flows.
    #[must_use]
    pub fn flows(&self) -> &FlowSet {
        &self.flows
    }

    /// Flows and groups that two owners want. There are none unless an object escaped the checks of [`inputs()`].
    #[must_use]
    pub fn conflicts(&self) -> &[Conflict] {
        &self.conflicts
    }
}

fn by_owner(inputs: &Inputs) -> BTreeMap<Owner, Input> {
    let plugin = inputs.base.plugin;
    let mut owners = BTreeMap::from([
        (Owner::Base, Input::Base(inputs.base.clone())),
        (Owner::Version, Input::Version(plugin)),
    ]);
    owners.extend(inputs.nodes.iter().map(|node| (node.owner(), Input::Node(node.clone()))));
    for pod in &inputs.pods {
        match owners.entry(pod.owner()).or_insert_with(|| Input::Pod(Vec::new())) {
            Input::Pod(legs) => legs.push(pod.clone()),
            other => *other = Input::Pod(vec![pod.clone()]),
        }
        if plugin == Plugin::Multitenant && !pod.vnid.is_global() {
            owners.insert(Owner::Tenant(pod.vnid), Input::Tenant(pod.vnid));
        }
    }
    if plugin == Plugin::Multitenant {
        owners
            .extend(inputs.services.iter().map(|service| (service.owner(), Input::Service(service.clone()))));
    }
    owners.extend(inputs.egress_ips.iter().map(|ip| (ip.owner(), Input::EgressIp(ip.clone()))));
    owners.extend(
        inputs.egress_policies.iter().map(|policy| (policy.owner(), Input::EgressPolicy(policy.clone()))),
    );
    owners.extend(inputs.multicast.iter().map(|vnid| (vnid.owner(), Input::Multicast(vnid.clone()))));
    if !inputs.multicast.is_empty() {
        let nodes = inputs.nodes.iter().map(|node| node.vtep).collect();
        owners.insert(Owner::MulticastTunnels, Input::MulticastTunnels(nodes));
    }
    owners
}

#[cfg(test)]
mod tests;
