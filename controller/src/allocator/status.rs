//! What the cluster controller says of itself: for probes, for Prometheus, and for whoever asks for its state.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use super::plan::{Action, Change, Problem};
use super::usage::Usage;
use crate::admin::{Check, Program};
use crate::api::Kind;
use crate::metrics::{durations, label, of_a_program};

/// How the controller is.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// The name under which it takes part in the election.
    pub identity: String,
    /// It has joined the election.
    pub takes_part: bool,
    /// It is the one that allocates.
    pub leads: bool,
    /// Since it leads, it has found nothing left to do once.
    pub settled: bool,
    /// What failed in the last round of allocation, and why.
    pub failure: Option<String>,
    /// Objects that can't be given what they need.
    pub problems: Vec<Problem>,
    /// What is given and what is left.
    pub usage: Usage,
}

label!(Outcome, result);

/// The kind of an object and what was done with it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Changed {
    kind: &'static str,
    change: &'static str,
}

/// By what a controller tells how it is. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Vitals {
    status: watch::Sender<Status>,
    elections: Counter,
    rounds: Family<Outcome, Counter>,
    round: Histogram,
    changes: Family<Changed, Counter>,
}

impl Vitals {
    /// Of a controller that has just started, and what it says.
    #[must_use]
    pub fn new(status: Status) -> (Self, watch::Receiver<Status>) {
        let (status, receiver) = watch::channel(status);
        let vitals = Self {
            status,
            elections: Counter::default(),
            rounds: Family::default(),
            round: durations(),
            changes: Family::default(),
        };
        // There from the start, so that the first of each shows as an increase.
        for result in ["success", "failure"] {
            drop(vitals.rounds.get_or_create(&Outcome { result }));
        }
        for kind in [Kind::HostSubnet, Kind::NetNamespace] {
            for change in ["created", "updated", "deleted"] {
                drop(vitals.changes.get_or_create(&Changed { kind: kind.as_str(), change }));
            }
        }
        (vitals, receiver)
    }

    /// It has joined the election.
    pub(super) fn takes_part(&self) {
        self.status.send_modify(|status| status.takes_part = true);
    }

    /// It leads from now on, or no longer. What it knows is then out of date.
    pub(super) fn leads(&self, leads: bool) {
        if leads {
            self.elections.inc();
        }
        self.status.send_modify(|status| {
            let identity = std::mem::take(&mut status.identity);
            *status = Status { identity, leads, takes_part: status.takes_part, ..Status::default() };
        });
    }

    /// A change was made.
    pub(super) fn changed(&self, change: &Change) {
        let what = match change.action {
            Action::Create(_) => "created",
            Action::Patch(_) => "updated",
            Action::Delete => "deleted",
        };
        self.changes.get_or_create(&Changed { kind: change.object.kind.as_str(), change: what }).inc();
    }

    /// A round of allocation is done. Its problems count when nothing is left to do: before, they may solve themselves. What is
    /// `refused` makes it a failed one.
    pub(super) fn round_done(
        &self,
        took: Duration,
        usage: Usage,
        settled: Option<&[Problem]>,
        refused: Option<String>,
    ) {
        let result = if refused.is_some() { "failure" } else { "success" };
        self.rounds.get_or_create(&Outcome { result }).inc();
        self.round.observe(took.as_secs_f64());
        self.status.send_modify(|status| {
            status.failure = refused;
            status.usage = usage;
            if let Some(problems) = settled {
                status.settled = true;
                status.problems = problems.to_vec();
            }
        });
    }

    /// A round of allocation has failed.
    pub(super) fn round_failed(&self, why: String) {
        self.rounds.get_or_create(&Outcome { result: "failure" }).inc();
        self.status.send_modify(|status| status.failure = Some(why));
    }

    /// Everything that is measured, under its name.
    #[must_use]
    pub fn registry(&self) -> Registry {
        const PREFIX: &str = "sdn_controller";
        let mut registry = of_a_program(PREFIX, "sdn-controller");
        let all = registry.sub_registry_with_prefix(PREFIX);
        all.register("elections", "How often this controller was elected", self.elections.clone());
        all.register(
            "rounds",
            "Rounds of allocation, by result; a failed one is tried again",
            self.rounds.clone(),
        );
        all.register("round_duration_seconds", "How long a round took, with its writes", self.round.clone());
        all.register(
            "changes",
            "Objects created, updated or deleted, by kind and change",
            self.changes.clone(),
        );
        registry.register_collector(Box::new(Figures(self.status.subscribe())));
        registry
    }
}

/// What the status says in numbers, read whenever it is asked: one picture, not one that changes under the reader.
#[derive(Debug)]
struct Figures(watch::Receiver<Status>);

label!(State, state);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Subnets {
    network: String,
    state: &'static str,
}

label!(Reason, reason);

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let status = self.0.borrow().clone();
        let leader = ConstGauge::new(i64::from(status.leads));
        leader.encode(encoder.encode_descriptor(
            "sdn_controller_leader",
            "Whether this controller is the one that allocates: 1 or 0",
            None,
            leader.metric_type(),
        )?)?;
        // Only who leads knows. The others have no such series, or a dashboard would add them up.
        let usage = if status.leads { status.usage } else { Usage::default() };
        let problems = if status.leads { status.problems } else { Vec::new() };

        let subnets = Family::<Subnets, Gauge>::default();
        for network in &usage.subnets {
            for (state, count) in [("allocated", network.allocated), ("free", network.free)] {
                let labels = Subnets { network: network.cidr.to_string(), state };
                subnets.get_or_create(&labels).set(gauge(count));
            }
        }
        let (vnids, egress_ips) = (Family::<State, Gauge>::default(), Family::<State, Gauge>::default());
        for (family, counts) in [
            (&vnids, usage.vnids.map(|vnids| [("allocated", vnids.allocated), ("free", vnids.free)])),
            (&egress_ips, usage.egress_ips.map(|ips| [("placed", ips.placed), ("unplaced", ips.unplaced)])),
        ] {
            for (state, count) in counts.into_iter().flatten() {
                family.get_or_create(&State { state }).set(gauge(count));
            }
        }
        let blocked = Family::<Reason, Gauge>::default();
        for problem in &problems {
            blocked.get_or_create(&Reason { reason: problem.reason() }).inc();
        }
        let mut family = |name: &str, help, family: &dyn EncodeMetric| {
            let name = format!("sdn_controller_{name}");
            family.encode(encoder.encode_descriptor(&name, help, None, MetricType::Gauge)?)
        };
        family("subnets", "Subnets of each cluster network, by state: allocated or free", &subnets)?;
        family("vnids", "VNIDs of namespaces, by state: allocated or free", &vnids)?;
        family(
            "egress_ips",
            "Egress IPs that namespaces ask for, by state: placed on a node or not",
            &egress_ips,
        )?;
        family(
            "problems",
            "Objects that can't be given what they need, by reason, which is also that of the event at the object",
            &blocked,
        )
    }
}

fn gauge(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl Program for watch::Receiver<Status> {
    fn checks(&self) -> Vec<Check> {
        let status = self.borrow();
        let mut checks = vec![Check::new(
            "election",
            status.takes_part,
            "not joined yet: does the API server answer, and may this account write the Lease?",
        )];
        if status.leads {
            let failure = status.failure.clone();
            let missing =
                failure.or_else(|| (!status.settled).then(|| "the first rounds are not done yet".into()));
            checks.push(Check { name: "allocation", missing });
        }
        checks
    }

    async fn state(&self) -> Map<String, Value> {
        let status = self.borrow().clone();
        let problems: Vec<_> = status
            .problems
            .iter()
            .map(|problem| {
                json!({
                    "object": problem.object().to_string(),
                    "reason": problem.reason(),
                    "text": problem.to_string(),
                })
            })
            .collect();
        let subnets: BTreeMap<String, Value> = status
            .usage
            .subnets
            .iter()
            .map(|network| {
                (network.cidr.to_string(), json!({"allocated": network.allocated, "free": network.free}))
            })
            .collect();
        let vnids = status.usage.vnids.map(|vnids| json!({"allocated": vnids.allocated, "free": vnids.free}));
        let egress_ips =
            status.usage.egress_ips.map(|ips| json!({"placed": ips.placed, "unplaced": ips.unplaced}));
        [
            ("egressIPs", json!(egress_ips)),
            ("identity", json!(status.identity)),
            ("leads", json!(status.leads)),
            ("problems", json!(problems)),
            ("subnets", json!(subnets)),
            ("vnids", json!(vnids)),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
    }
}
