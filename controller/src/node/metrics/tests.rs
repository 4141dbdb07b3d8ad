#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::path::Path;

use super::*;

/// Name, kind and help text of each metric in an exposition.
fn described(text: &str) -> BTreeMap<String, (String, String)> {
    let mut all: BTreeMap<String, (String, String)> = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            all.entry(name.to_owned()).or_default().1 = help.trim_end_matches('.').to_owned();
        }
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            all.entry(name.to_owned()).or_default().0 = kind.to_owned();
        }
    }
    all
}

fn table(metrics: &BTreeMap<String, (String, String)>, ours: impl Fn(&str) -> bool) -> String {
    let rows = metrics.iter().filter(|(name, _)| ours(name)).map(|(name, (kind, help))| {
        let shown = match kind.as_str() {
            "counter" => format!("{name}_total"),
            "info" => format!("{name}_info"),
            _ => name.clone(),
        };
        format!("| `{shown}` | {kind} | {help} |\n")
    });
    ["| name | kind | is |\n|---|---|---|\n".to_owned()].into_iter().chain(rows).collect()
}

fn page() -> String {
    let metrics = Metrics::default();
    let text = Metrics::text(&metrics.registry("0", true)).unwrap();
    let all = described(&text);
    let legacy = |name: &str| name.starts_with("openshift_sdn_");
    format!(
        "# Metrics of sdn-node\n\nMade from the code by `make docs`; a test fails when this page is not as the code has it.\n\
         Ask for them at `/metrics` (operations.md has the ports).\n\n{}\n\
         With `--legacy-metrics` also under the names that the replaced system had:\n\n{}",
        table(&all, |name| !legacy(name)),
        table(&all, legacy)
    )
}

#[test]
fn the_page_is_as_the_code_has_it() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let page = page();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), page, "run make docs");
}

#[test]
fn names_are_as_prometheus_wants_them() {
    let text = Metrics::text(&Metrics::default().registry("0", false)).unwrap();
    let all = described(&text);
    assert!(all.len() > 15, "{text}");
    for (name, (kind, help)) in &all {
        assert!(name.starts_with("sdn_") || name.starts_with("process_"), "{name}");
        assert!(!help.is_empty() && !kind.is_empty(), "{name}");
        if kind == "histogram" {
            assert!(name.ends_with("_seconds"), "{name} is not in a base unit");
        }
        assert!(!name.contains("millisecond") && !name.contains("microsecond"), "{name}");
    }
    assert!(
        text.contains("process_resident_memory_bytes ") && text.contains("process_cpu_seconds_total "),
        "{text}"
    );
}

#[test]
fn old_names_say_the_same_as_the_new_ones() {
    let metrics = Metrics::default();
    metrics.flows.set(42);
    metrics.request.get_or_create(&Verb { command: "ADD" }).observe(0.25);
    metrics.request.get_or_create(&Verb { command: "ADD" }).observe(0.5);
    metrics.requests.get_or_create(&Request { command: "DEL", result: "failure" }).inc();
    let text = Metrics::text(&metrics.registry("0", true)).unwrap();
    for line in [
        "openshift_sdn_ovs_flows 42",
        "openshift_sdn_pod_operations_errors{operation_type=\"teardown\"} 1",
        "openshift_sdn_pod_operations_latency_sum{operation_type=\"setup\"} 750000",
        "openshift_sdn_pod_operations_latency_count{operation_type=\"setup\"} 2",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert!(!Metrics::text(&metrics.registry("0", false)).unwrap().contains("openshift_sdn_"));
}
