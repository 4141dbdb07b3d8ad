//! What the agent counts and measures, for Prometheus.
//!
//! Names start with `sdn_` and end in a base unit; no label has values that grow with the number of pods. `docs/metrics.md`
//! is made from what is registered here.

use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use super::status::Status;
use crate::metrics::{Durations, durations, label, of_a_program};

mod legacy;

label!(Outcome, result);
label!(Change, change);
label!(Part, part);
label!(Peer, peer);
label!(Step, step);
label!(Verb, command);

/// Verb and outcome of a CNI request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(in crate::node) struct Request {
    pub(in crate::node) command: &'static str,
    pub(in crate::node) result: &'static str,
}

/// What `/readyz` says, at the moment at which it is asked for: who asks for both is told the same.
#[derive(Debug)]
struct Ready(watch::Receiver<Status>);

impl EncodeMetric for Ready {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> std::fmt::Result {
        encoder.encode_gauge(&i64::from(self.0.borrow().is_ready()))
    }

    fn metric_type(&self) -> MetricType {
        <Gauge>::TYPE
    }
}

/// Everything that is measured. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(in crate::node) connected: Family<Peer, Gauge>,
    pub(in crate::node) connections: Family<Peer, Counter>,
    pub(in crate::node) reconciles: Family<Outcome, Counter>,
    pub(in crate::node) reconcile: Histogram,
    pub(in crate::node) flows: Gauge,
    pub(in crate::node) groups: Gauge,
    pub(in crate::node) flow_changes: Family<Change, Counter>,
    pub(in crate::node) flow_repairs: Family<Change, Counter>,
    pub(in crate::node) repairs: Family<Part, Counter>,
    pub(in crate::node) pods: Gauge,
    pub(in crate::node) leases: Gauge,
    pub(in crate::node) addresses: Gauge,
    pub(in crate::node) left_out: Gauge,
    pub(in crate::node) conflicts: Gauge,
    pub(in crate::node) obstacles: Gauge,
    pub(in crate::node) requests: Family<Request, Counter>,
    pub(in crate::node) request: Durations<Verb>,
    pub(in crate::node) steps: Durations<Step>,
    pub(in crate::node) without_vnid: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            connected: Family::default(),
            connections: Family::default(),
            reconciles: Family::default(),
            reconcile: durations(),
            flows: Gauge::default(),
            groups: Gauge::default(),
            flow_changes: Family::default(),
            flow_repairs: Family::default(),
            repairs: Family::default(),
            pods: Gauge::default(),
            leases: Gauge::default(),
            addresses: Gauge::default(),
            left_out: Gauge::default(),
            conflicts: Gauge::default(),
            obstacles: Gauge::default(),
            requests: Family::default(),
            request: Family::new_with_constructor(durations),
            steps: Family::new_with_constructor(durations),
            without_vnid: Counter::default(),
        }
    }
}

/// The parts that [`Metrics::repairs`] counts; each is there from the start, so that a first repair shows as an increase.
pub(in crate::node) const LINKS: Part = Part { part: "links" };
pub(in crate::node) const FIREWALL: Part = Part { part: "firewall" };
pub(in crate::node) const PORT: Part = Part { part: "port" };
pub(in crate::node) const LEASE: Part = Part { part: "lease" };
pub(in crate::node) const SANDBOX: Part = Part { part: "sandbox" };

pub(in crate::node) const OVSDB: Peer = Peer { peer: "ovsdb" };
pub(in crate::node) const OPENFLOW: Peer = Peer { peer: "openflow" };

impl Metrics {
    /// Everything under its name, and with `legacy` what the replaced system had under its names. Whether the node is ready is
    /// read from `status`.
    #[must_use]
    pub fn registry(&self, status: watch::Receiver<Status>, legacy: bool) -> Registry {
        for part in [LINKS, FIREWALL, PORT, LEASE, SANDBOX] {
            drop(self.repairs.get_or_create(&part));
        }
        for change in ["added", "removed", "changed"] {
            drop(self.flow_changes.get_or_create(&Change { change }));
            drop(self.flow_repairs.get_or_create(&Change { change }));
        }
        for peer in [OVSDB, OPENFLOW] {
            drop(self.connected.get_or_create(&peer));
            drop(self.connections.get_or_create(&peer));
        }
        let mut registry = of_a_program("sdn", "sdn-node");
        let all = registry.sub_registry_with_prefix("sdn");
        all.register(
            "ready",
            "Whether the node serves pods and has all flows: 1 or 0, as /readyz says",
            Ready(status),
        );
        all.register(
            "connected",
            "Whether there is a connection to ovsdb-server and to the bridge, by peer",
            self.connected.clone(),
        );
        all.register("connections", "Connections made to ovsdb-server and to the bridge, by peer; more than 1 means that it was restarted", self.connections.clone());
        all.register(
            "reconciles",
            "Comparisons of what is with what shall be, by result",
            self.reconciles.clone(),
        );
        all.register(
            "reconcile_duration_seconds",
            "How long a comparison takes, with what it leads to",
            self.reconcile.clone(),
        );
        all.register("flows", "Flows that the bridge shall have", self.flows.clone());
        all.register("groups", "Groups that the bridge shall have", self.groups.clone());
        all.register(
            "flow_changes",
            "Flows that the agent has added, removed or changed, for whatever reason",
            self.flow_changes.clone(),
        );
        all.register("flow_repairs", "Flows found other than the agent had left them, and put right: added for one that someone deleted, removed for one that someone added", self.flow_repairs.clone());
        all.register(
            "repairs",
            "Other things found other than the agent had left them, and put right, by part",
            self.repairs.clone(),
        );
        all.register("pods", "Pods' interfaces with flows", self.pods.clone());
        all.register(
            "leased_addresses",
            "Addresses of the node's subnet that are leased to pods",
            self.leases.clone(),
        );
        all.register(
            "addresses",
            "Addresses of the node's subnet that pods can have",
            self.addresses.clone(),
        );
        all.register(
            "left_out_objects",
            "Objects of the cluster that are not valid and were left out; /debug/state names them",
            self.left_out.clone(),
        );
        all.register(
            "network_conflicts",
            "Networks of the node that overlap with the cluster's; /debug/state names them",
            self.conflicts.clone(),
        );
        all.register(
            "firewall_obstacles",
            "Kinds of the cluster's traffic that another firewall of the node stops; /debug/state names them",
            self.obstacles.clone(),
        );
        all.register("cni_requests", "CNI requests answered, by command and result", self.requests.clone());
        all.register(
            "cni_request_duration_seconds",
            "How long the agent took to answer a CNI request, by command",
            self.request.clone(),
        );
        all.register(
            "cni_step_duration_seconds",
            "How long a step of CNI ADD or DEL took",
            self.steps.clone(),
        );
        all.register(
            "namespace_vnid_missing",
            "CNI ADDs that were refused since the namespace had no VNID",
            self.without_vnid.clone(),
        );
        if legacy {
            registry.register_collector(Box::new(legacy::Legacy(self.clone())));
        }
        registry
    }
}
