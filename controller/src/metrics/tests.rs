#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::path::Path;

use tokio::sync::watch;

use super::*;
use crate::allocator::{self, Status};
use crate::node::{self, metrics::Metrics};

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

/// The expositions of the programs: the agent, with the old names or without, and the cluster controller.
fn agent(legacy: bool) -> String {
    let (_, status) = watch::channel(node::status::Status::default());
    text(&Metrics::default().registry(status, legacy)).unwrap()
}

fn cluster_controller() -> String {
    let (vitals, _) = allocator::Vitals::new(Status::default());
    text(&vitals.registry()).unwrap()
}

fn page() -> String {
    let all = described(&agent(true));
    let legacy = |name: &str| name.starts_with("openshift_sdn_");
    format!(
        "# Metrics\n\nMade from the code by `make docs`; a test fails when this page is not as the code has it.\n\
         Ask for them at `/metrics` (operations.md has the ports).\n\n## sdn-node\n\n{}\n\
         With `--legacy-metrics` also under the names that the replaced system had:\n\n{}\n\
         ## sdn-controller\n\nWhat it knows of the cluster only the one that leads shows.\n\n{}",
        table(&all, |name| !legacy(name)),
        table(&all, legacy),
        table(&described(&cluster_controller()), |_| true)
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
    for (exposition, prefix) in [(agent(false), "sdn_"), (cluster_controller(), "sdn_controller_")] {
        let all = described(&exposition);
        assert!(all.len() > 10, "{exposition}");
        for (name, (kind, help)) in &all {
            assert!(name.starts_with(prefix) || name.starts_with("process_"), "{name}");
            assert!(!help.is_empty() && !kind.is_empty(), "{name}");
            if kind == "histogram" {
                assert!(name.ends_with("_seconds"), "{name} is not in a base unit");
            }
            assert!(!name.contains("millisecond") && !name.contains("microsecond"), "{name}");
        }
        for name in ["process_resident_memory_bytes ", "process_cpu_seconds_total "] {
            assert!(exposition.contains(name), "{exposition}");
        }
    }
}
