//! The manifests: that they can be installed, and what people see then.

use std::collections::BTreeSet;
use std::process::Output;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tests::kube::{Caller, ControlPlane};
use tests::{both, checkout, until};

use super::Test;
use super::allocation::{Controller, DEADLINE, add_nodes, fields};

pub(crate) const TESTS: &[Test] = &[
    ("install::what_people_see", what_people_see),
    ("install::every_overlay_is_accepted", every_overlay_is_accepted),
    ("install::every_alert_has_a_runbook_and_a_metric", every_alert_has_a_runbook_and_a_metric),
    ("install::what_is_scraped_and_probed_is_served", what_is_scraped_and_probed_is_served),
];

fn manifests(path: &str) -> String {
    checkout().join("manifests").join(path).display().to_string()
}

/// A control plane with everything that the manifests make, in the two steps that the documentation names.
pub(crate) fn installed() -> anyhow::Result<ControlPlane> {
    let plane = ControlPlane::start()?;
    plane.ask(&["apply", "-k", &manifests("base/crds")])?;
    plane.ask(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"])?;
    plane.ask(&["apply", "-k", &manifests("overlays/multitenant")])?;
    Ok(plane)
}

/// The columns of OpenShift, with what a controller under its own account has made of Nodes and Namespaces.
fn what_people_see(plane: &ControlPlane) -> anyhow::Result<()> {
    let _controller = Controller::start(plane, "install")?;
    add_nodes(plane, &[("node-a".into(), "192.168.1.10".into()), ("node-b".into(), "192.168.1.11".into())])?;
    plane.ask(&["create", "namespace", "web"])?;
    until(DEADLINE, || {
        let (subnets, vnids) =
            (fields(plane, "hostsubnets", "subnet")?, fields(plane, "netnamespaces", "netid")?);
        ensure!(subnets.contains_key("node-a") && subnets.contains_key("node-b"), "{subnets:?}");
        ensure!(vnids.contains_key("web") && vnids.contains_key("default"), "{vnids:?}");
        Ok(())
    })?;
    let web = fields(plane, "netnamespaces", "netid")?.remove("web").unwrap_or_default();
    plane.ask(&[
        "patch",
        "hostsubnet",
        "node-b",
        "--type=merge",
        "-p",
        r#"{"egressCIDRs": ["192.168.1.0/24"]}"#,
    ])?;
    plane.ask(&[
        "patch",
        "netnamespace",
        "web",
        "--type=merge",
        "-p",
        r#"{"egressIPs": ["192.168.1.100"]}"#,
    ])?;
    let vnid = format!("web {web} [\"192.168.1.100\"]");
    until(DEADLINE, || {
        for (kind, rows) in [
            (
                "clusternetworks",
                vec![
                    "NAME CLUSTER NETWORK SERVICE NETWORK PLUGIN NAME",
                    "default 10.128.0.0/14 172.30.0.0/16 redhat/openshift-ovs-multitenant",
                ],
            ),
            (
                "hostsubnets",
                vec![
                    "NAME HOST HOST IP SUBNET EGRESS CIDRS EGRESS IPS",
                    "node-a node-a 192.168.1.10 10.128.0.0/23",
                    r#"node-b node-b 192.168.1.11 10.129.0.0/23 ["192.168.1.0/24"] ["192.168.1.100"]"#,
                ],
            ),
            ("netnamespaces", vec!["NAME NETID EGRESS IPS", "default 0", "kube-system 0", &vnid]),
            ("hs", vec!["NAME HOST HOST IP SUBNET EGRESS CIDRS EGRESS IPS"]),
            ("netns", vec!["NAME NETID EGRESS IPS"]),
            ("cn", vec!["NAME CLUSTER NETWORK SERVICE NETWORK PLUGIN NAME"]),
        ] {
            let text = plane.ask(&["get", kind])?;
            let seen: Vec<String> =
                text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
            ensure!(seen.first().map(String::as_str) == rows.first().copied(), "{text}");
            for row in rows {
                ensure!(seen.iter().any(|line| line == row), "{kind}: no {row:?} in\n{text}");
            }
        }
        Ok(())
    })?;
    println!("{}", plane.ask(&["get", "clusternetworks"])?);
    println!("{}", plane.ask(&["get", "hostsubnets"])?);
    println!("{}", plane.ask(&["get", "netnamespaces"])?);
    plane.ask(&["delete", "node", "node-a", "node-b", "--wait=false"])?;
    plane.ask(&["delete", "namespace", "web", "--wait=false"])?;
    until(DEADLINE, || {
        ensure!(fields(plane, "hostsubnets", "subnet")?.is_empty());
        Ok(())
    })
}

/// What `kubectl` says of a kustomization, if it has nothing to object to.
fn accepted(plane: &ControlPlane, arguments: &[&str]) -> anyhow::Result<String> {
    let output: Output = plane.kubectl(Caller::Admin)?.args(arguments).output()?;
    ensure!(output.status.success(), "{arguments:?}: {}", both(&output));
    let warnings = String::from_utf8_lossy(&output.stderr);
    ensure!(warnings.is_empty(), "{arguments:?}: {warnings}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The objects of a kustomization.
fn objects(plane: &ControlPlane, path: &str) -> anyhow::Result<Vec<Value>> {
    let json =
        accepted(plane, &["create", "-k", path, "--dry-run=client", "--validate=false", "-o", "json"])?;
    let mut objects = Vec::new();
    for object in serde_json::Deserializer::from_str(&json).into_iter::<Value>() {
        let object = object?;
        objects.extend(object["items"].as_array().cloned().unwrap_or_else(|| vec![object]));
    }
    Ok(objects)
}

fn every_overlay_is_accepted(plane: &ControlPlane) -> anyhow::Result<()> {
    // The kinds of the Prometheus operator, of which okd has objects.
    plane.apply(include_str!("monitoring-crds.yaml"))?;
    plane.ask(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"])?;
    let overlays = std::fs::read_dir(manifests("overlays"))?.collect::<Result<Vec<_>, _>>()?;
    let mut names: Vec<_> =
        overlays.iter().map(|entry| format!("overlays/{}", entry.file_name().to_string_lossy())).collect();
    names.sort();
    ensure!(names.len() >= 5, "{names:?}");
    names.push("monitoring".to_owned());
    let mut pods = BTreeSet::new();
    for name in &names {
        let path = manifests(name);
        let said = accepted(plane, &["apply", "-k", &path, "--dry-run=server", "--validate=strict"])?;
        println!("{name}: {} objects accepted", said.lines().count());

        // The pods of its templates too, which only the admission of pods looks at.
        for item in objects(plane, &path)?.iter().filter(|item| item["spec"]["template"]["spec"].is_object())
        {
            let mut pod = item["spec"]["template"].clone();
            pod["apiVersion"] = json!("v1");
            pod["kind"] = json!("Pod");
            let base = item["metadata"]["name"].as_str().context("a workload without a name")?;
            pod["metadata"]["name"] = json!(format!("{base}-0"));
            pod["metadata"]["namespace"] = item["metadata"]["namespace"].clone();
            plane.feed(&["create", "--dry-run=server", "--validate=strict", "-f", "-"], &pod.to_string())?;
            pods.insert(base.to_owned());
        }
    }
    ensure!(pods.iter().eq(["kube-proxy", "ovs", "sdn", "sdn-controller"]), "{pods:?}");
    Ok(())
}

fn every_alert_has_a_runbook_and_a_metric(_: &ControlPlane) -> anyhow::Result<()> {
    let runbooks = std::fs::read_to_string(checkout().join("docs/runbooks.md"))?;
    let headings: BTreeSet<_> =
        runbooks.lines().filter_map(|line| line.strip_prefix("## ")).map(str::to_owned).collect();
    let alerts = std::fs::read_to_string(manifests("monitoring/alerts.yaml"))?;
    let after = |prefix: &str| {
        alerts
            .lines()
            .filter_map(|line| line.trim().strip_prefix(prefix).map(|rest| rest.trim().to_owned()))
            .collect::<Vec<_>>()
    };
    let names = after("- alert:");
    ensure!(names.iter().cloned().collect::<BTreeSet<_>>() == headings, "{names:?} {headings:?}");
    let links: Vec<_> =
        names.iter().map(|name| format!("docs/runbooks.md#{}", name.to_lowercase())).collect();
    ensure!(after("runbook:") == links, "{links:?}");

    // And what it looks at is measured.
    let metrics = std::fs::read_to_string(checkout().join("docs/metrics.md"))?;
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let expressions = after("expr:").join(" ");
    let used: BTreeSet<_> =
        expressions.split(|c| !is_word(c)).filter(|word| word.starts_with("sdn_")).collect();
    ensure!(used.len() >= 5, "{used:?}");
    for name in used {
        ensure!(metrics.contains(&format!("`{name}`")), "nothing is called {name}: docs/metrics.md");
    }
    Ok(())
}

/// From each ServiceMonitor to its Service, to its pods, to the port that the program listens on by its own default; and
/// likewise from each probe.
fn what_is_scraped_and_probed_is_served(plane: &ControlPlane) -> anyhow::Result<()> {
    plane.apply(include_str!("monitoring-crds.yaml"))?;
    let objects = objects(plane, &manifests("overlays/okd"))?;
    let of_kind = |kind: &'static str| objects.iter().filter(move |object| object["kind"] == kind);
    let has = |labels: &Value, selector: &Value| {
        selector.as_object().is_some_and(|selector| {
            !selector.is_empty() && selector.iter().all(|(name, value)| labels[name] == *value)
        })
    };
    let alerts = std::fs::read_to_string(manifests("monitoring/alerts.yaml"))?;
    let mut scraped = BTreeSet::new();
    for monitor in of_kind("ServiceMonitor") {
        let service = of_kind("Service")
            .find(|service| has(&service["metadata"]["labels"], &monitor["spec"]["selector"]["matchLabels"]))
            .with_context(|| format!("selects no Service: {monitor:#}"))?;
        let workload = objects
            .iter()
            .find(|object| {
                has(&object["spec"]["template"]["metadata"]["labels"], &service["spec"]["selector"])
            })
            .with_context(|| format!("selects no pods: {service:#}"))?;
        let container = &workload["spec"]["template"]["spec"]["containers"][0];
        let endpoint = &monitor["spec"]["endpoints"][0];
        ensure!(endpoint["path"] == "/metrics", "{endpoint}");
        let port = &service["spec"]["ports"][0];
        ensure!(port["name"] == endpoint["port"], "{port} {endpoint}");
        let target = container["ports"].as_array().into_iter().flatten();
        let target = target.filter(|target| target["name"] == port["targetPort"]).collect::<Vec<_>>();
        ensure!(target.len() == 1 && target[0]["containerPort"] == port["port"], "{port} {container:#}");

        let program = container["command"][0].as_str().context("no command")?;
        let help = tests::run(std::process::Command::new(tests::binary(program)?).arg("--help"))?;
        let default = |option: &str| -> anyhow::Result<String> {
            let rest = help.split(option).nth(1).with_context(|| format!("{program} has no {option}"))?;
            let value = rest.split("[default: ").nth(1).and_then(|rest| rest.split(']').next());
            Ok(value.with_context(|| format!("{program} {option} has no default"))?.to_owned())
        };
        ensure!(default("--metrics-address")? == format!("0.0.0.0:{}", port["port"]), "{help}");
        for (probe, path) in [("livenessProbe", "/livez"), ("readinessProbe", "/readyz")] {
            let probe = &container[probe]["httpGet"];
            ensure!(probe["path"] == path, "{program}: {probe}");
            let address = format!("{}:{}", probe["host"].as_str().unwrap_or_default(), probe["port"]);
            ensure!(default("--admin-address")? == address, "{program}: {probe}");
        }
        scraped.insert(program.to_owned());
        if let Some(job) = alerts.split("job=\"").nth(1).and_then(|rest| rest.split('"').next()) {
            ensure!(of_kind("Service").any(|service| service["metadata"]["labels"]["app"] == job), "{job}");
        }
    }
    ensure!(scraped.iter().eq(["sdn-controller", "sdn-node"]), "{scraped:?}");
    Ok(())
}
