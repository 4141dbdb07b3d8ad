//! The names that dashboards and alerts of the replaced system ask for (`--legacy-metrics`).
//!
//! As it had them: counters without `_total`, the latency in microseconds and as sum and count only.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};

use super::{Metrics, Request, Verb};

/// Translates when asked.
#[derive(Debug)]
pub(super) struct Legacy(pub(super) Metrics);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Operation {
    operation_type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OvsResult {
    result_type: &'static str,
}

const OPERATIONS: [(&str, &str); 2] = [("ADD", "setup"), ("DEL", "teardown")];

impl Collector for Legacy {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let metrics = &self.0;
        let mut one = |name: &str, help, value: i64| {
            let metric = ConstGauge::new(value);
            metric.encode(encoder.encode_descriptor(
                &format!("openshift_sdn_{name}"),
                help,
                None,
                metric.metric_type(),
            )?)
        };
        one("ovs_flows", "As sdn_flows", metrics.flows.get())?;
        one("pod_ips", "As sdn_leased_addresses", metrics.leases.get())?;
        one(
            "vnid_not_found_errors",
            "As sdn_namespace_vnid_missing_total",
            count(metrics.without_vnid.get()),
        )?;
        if let Some(free) = free_arp_entries() {
            one("arp_cache_entries", "Neighbours that the kernel can still remember", free)?;
        }
        let (errors, sums, counts) = (
            Family::<Operation, Gauge>::default(),
            Family::<Operation, Gauge>::default(),
            Family::<Operation, Gauge>::default(),
        );
        for (command, operation_type) in OPERATIONS {
            let operation = Operation { operation_type };
            let failed = metrics.requests.get_or_create(&Request { command, result: "failure" }).get();
            errors.get_or_create(&operation).set(count(failed));
            let (sum, number) = sum_and_count(metrics, command);
            sums.get_or_create(&operation).set(sum);
            counts.get_or_create(&operation).set(number);
        }
        let ovs = Family::<OvsResult, Gauge>::default();
        for result_type in ["success", "failure"] {
            let done = metrics.reconciles.get_or_create(&super::Outcome { result: result_type }).get();
            ovs.get_or_create(&OvsResult { result_type }).set(count(done));
        }
        let mut family = |name: &str, help, family: &dyn EncodeMetric| {
            family.encode(encoder.encode_descriptor(
                &format!("openshift_sdn_{name}"),
                help,
                None,
                family.metric_type(),
            )?)
        };
        family("pod_operations_errors", "CNI requests that failed", &errors)?;
        family("pod_operations_latency_sum", "Microseconds spent on CNI requests", &sums)?;
        family("pod_operations_latency_count", "CNI requests answered", &counts)?;
        family("ovs_operations", "As sdn_reconciles_total", &ovs)
    }
}

fn count(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A histogram tells its sum to an encoder only: read it from its text.
fn sum_and_count(metrics: &Metrics, command: &'static str) -> (i64, i64) {
    let mut registry = prometheus_client::registry::Registry::default();
    registry.register("d", "", metrics.request.get_or_create(&Verb { command }).clone());
    let text = crate::metrics::text(&registry).unwrap_or_default();
    let value = |name: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok()).unwrap_or_default()
    };
    #[allow(clippy::cast_possible_truncation, reason = "microseconds since the start fit")]
    let whole = |value: f64| value.round() as i64;
    (whole(value("d_sum") * 1e6), whole(value("d_count")))
}

/// As the replaced system counted them: the threshold at which the kernel starts to forget neighbours, less those it has.
fn free_arp_entries() -> Option<i64> {
    let limit: i64 =
        fs::read_to_string("/proc/sys/net/ipv4/neigh/default/gc_thresh2").ok()?.trim().parse().ok()?;
    let used = fs::read_to_string("/proc/net/arp").ok()?.lines().skip(1).count();
    Some((limit - i64::try_from(used).ok()?).max(0))
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::*;
    use crate::node::status::Status;

    #[test]
    fn old_names_say_the_same_as_the_new_ones() {
        let metrics = Metrics::default();
        metrics.flows.set(42);
        metrics.request.get_or_create(&Verb { command: "ADD" }).observe(0.25);
        metrics.request.get_or_create(&Verb { command: "ADD" }).observe(0.5);
        metrics.requests.get_or_create(&Request { command: "DEL", result: "failure" }).inc();
        let (_, status) = watch::channel(Status::default());
        let text = crate::metrics::text(&metrics.registry(status.clone(), true)).unwrap();
        for line in [
            "openshift_sdn_ovs_flows 42",
            "openshift_sdn_pod_operations_errors{operation_type=\"teardown\"} 1",
            "openshift_sdn_pod_operations_latency_sum{operation_type=\"setup\"} 750000",
            "openshift_sdn_pod_operations_latency_count{operation_type=\"setup\"} 2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(!crate::metrics::text(&metrics.registry(status, false)).unwrap().contains("openshift_sdn_"));
    }
}
