//! Tenants that are joined, isolated and made global, by command and by annotation.

use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::Value;
use tests::kube::{Caller, ControlPlane};
use tests::{binary, run, until};

use super::Test;
use super::allocation::{Controller, DEADLINE, NETWORK, fields};

pub(crate) const TESTS: &[Test] = &[("projects::by_command_and_by_annotation", by_command_and_by_annotation)];

/// `sdnctl ARGUMENTS --cluster kube` as administrator: what it says, or why it failed.
fn sdnctl(plane: &ControlPlane, arguments: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new(binary("sdnctl")?);
    command.args(arguments).args(["--cluster", "kube"]).env("KUBECONFIG", plane.kubeconfig(Caller::Admin)?);
    run(&mut command)
}

fn vnid(plane: &ControlPlane, name: &str) -> anyhow::Result<u64> {
    let vnids = fields(plane, "netnamespaces", "netid")?;
    vnids.get(name).and_then(Value::as_u64).with_context(|| format!("{name} has no VNID: {vnids:?}"))
}

fn by_command_and_by_annotation(plane: &ControlPlane) -> anyhow::Result<()> {
    plane.apply(NETWORK)?;
    let _controller = Controller::start(plane, "projects")?;
    for name in ["red", "blue", "green"] {
        plane.ask(&["create", "namespace", name])?;
    }
    plane.ask(&["label", "namespace", "blue", "green", "tier=cold"])?;
    until(DEADLINE, || ["red", "blue", "green"].iter().try_for_each(|name| vnid(plane, name).map(drop)))?;

    let said = sdnctl(plane, &["join-projects", "--to", "red", "blue", "red"])?;
    let red = vnid(plane, "red")?;
    ensure!(said.trim() == format!("NetNamespace blue: VNID {red}"), "{said}");
    ensure!(vnid(plane, "blue")? == red && vnid(plane, "green")? != red);
    // Who joins itself has what it asks for.
    let said = sdnctl(plane, &["join-projects", "--to", "red", "red"])?;
    ensure!(said.trim() == format!("NetNamespace red: VNID {red}") && vnid(plane, "red")? == red, "{said}");

    sdnctl(plane, &["make-projects-global", "--selector", "tier in (cold,icy)"])?;
    ensure!(vnid(plane, "blue")? == 0 && vnid(plane, "green")? == 0);
    sdnctl(plane, &["isolate-projects", "blue", "green"])?;
    let (blue, green) = (vnid(plane, "blue")?, vnid(plane, "green")?);
    ensure!(
        blue >= 10 && green >= 10 && blue != green && blue != red && green != red,
        "{blue} {green} {red}"
    );

    // As administrators have always done it, and what became of it said at the object.
    let annotate = |value: &str| {
        let annotation = format!("pod.network.openshift.io/multitenant.change-network={value}");
        plane.ask(&["annotate", "--overwrite", "netnamespace", "green", &annotation])
    };
    annotate("join:nobody")?;
    until(DEADLINE, || {
        let events = plane.ask(&["get", "events", "-A", "--field-selector=reason=ChangeNetworkFailed"])?;
        ensure!(events.contains("there is no NetNamespace nobody"), "{events}");
        Ok(())
    })?;
    annotate("join:red")?;
    until(DEADLINE, || {
        ensure!(vnid(plane, "green")? == red);
        let events = plane.ask(&["get", "events", "-A", "--field-selector=reason=NetworkChanged"])?;
        ensure!(events.contains(&format!("VNID {red}, was {green}")), "{events}");
        Ok(())
    })?;

    for (arguments, words) in [
        (
            vec!["join-projects", "--to", "nowhere", "red", "nobody"],
            "there is no project nobody; there is no project nowhere",
        ),
        (vec!["isolate-projects", "default"], "project default is always global"),
        (vec!["isolate-projects"], "name the projects, or give a --selector, not both"),
        (vec!["isolate-projects", "-l", "a b"], "is no requirement of a label selector"),
        (vec!["patch", "netnamespace", "red", "-p", "{}"], "on Kubernetes `kubectl` does this"),
    ] {
        let error = sdnctl(plane, &arguments).err().with_context(|| format!("{arguments:?} was done"))?;
        ensure!(format!("{error:#}").contains(words), "{error:#}");
    }
    // What the API server answers is said once, and as it says it.
    let mut command = Command::new(binary("sdnctl")?);
    command.args(["isolate-projects", "green", "--cluster", "kube"]);
    let output = command
        .env("KUBECONFIG", plane.kubeconfig(Caller::ServiceAccount("openshift-sdn", "ovs"))?)
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(3)
            && said.trim().starts_with("sdnctl: can't list the namespaces: namespaces is forbidden: User ")
            && said.matches("forbidden").count() == 1
            && said.trim().lines().count() == 1
            && !said.contains("Status"),
        "{output:?}"
    );
    let listed = sdnctl(plane, &["get", "netnamespaces"])?;
    ensure!(listed.contains("green"), "{listed}");

    // Another plugin refuses.
    plane.apply(&NETWORK.replace("ovs-multitenant", "ovs-networkpolicy"))?;
    let error = sdnctl(plane, &["isolate-projects", "green"]).err().context("done without tenants")?;
    ensure!(format!("{error:#}").contains("needs the plugin redhat/openshift-ovs-multitenant"), "{error:#}");
    annotate("isolate")?;
    until(DEADLINE, || {
        let events = plane.ask(&["get", "events", "-A", "--field-selector=reason=ChangeNetworkRefused"])?;
        ensure!(events.contains("can only be changed with the plugin"), "{events}");
        ensure!(vnid(plane, "green")? == red);
        Ok(())
    })?;
    plane.ask(&["delete", "namespace", "red", "blue", "green", "--wait=false"])?;
    Ok(())
}
