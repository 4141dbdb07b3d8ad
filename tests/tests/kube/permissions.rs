//! What each account may do: what its program does, and nothing else. The API server's own record says what that was.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use serde_json::Value;
use tests::kube::{Caller, ControlPlane};
use tests::until;

use super::Test;
use super::agents::Agents;
use super::allocation::{Controller, DEADLINE, NETWORK, add_nodes, fields};

pub(crate) const TESTS: &[Test] = &[
    ("permissions::what_is_granted_is_used", what_is_granted_is_used),
    ("permissions::what_is_not_granted_is_refused", what_is_not_granted_is_refused),
];

const NAMESPACE: &str = "openshift-sdn";

/// Verb, group, resource and, where the rule names one, object.
type Permission = (String, String, String, Option<String>);

/// What the rules of `role` (`clusterrole NAME` or `role NAME`) grant.
fn granted(plane: &ControlPlane, role: &[&str]) -> anyhow::Result<BTreeSet<Permission>> {
    let role = plane.json(&[&["get", "-n", NAMESPACE], role].concat())?;
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut granted = BTreeSet::new();
    for rule in role["rules"].as_array().context("no rules")? {
        let names = texts(&rule["resourceNames"]);
        let names = if names.is_empty() { vec![None] } else { names.into_iter().map(Some).collect() };
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                for verb in texts(&rule["verbs"]) {
                    for name in &names {
                        granted.insert((verb.clone(), group.clone(), resource.clone(), name.clone()));
                    }
                }
            }
        }
    }
    Ok(granted)
}

/// Whether one of the rights is for this.
fn covered(rights: &BTreeSet<Permission>, (verb, group, resource, name): &Permission) -> bool {
    rights.iter().any(|right| {
        (&right.0, &right.1, &right.2) == (verb, group, resource) && (right.3.is_none() || right.3 == *name)
    })
}

/// What `account` has done, and what it was refused.
fn done(plane: &ControlPlane, account: &str) -> anyhow::Result<(BTreeSet<Permission>, BTreeSet<Permission>)> {
    let user = format!("system:serviceaccount:{NAMESPACE}:{account}");
    let (mut done, mut refused) = (BTreeSet::new(), BTreeSet::new());
    for event in plane.audit()?.iter().filter(|event| event["user"]["username"] == user.as_str()) {
        let object = &event["objectRef"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let name = object["name"].as_str().map(str::to_owned);
        let permission = (text(&event["verb"]), text(&object["apiGroup"]), text(&object["resource"]), name);
        if event["responseStatus"]["code"] == 403 {
            refused.insert(permission);
        } else if object.is_object() {
            done.insert(permission);
        }
    }
    Ok((done, refused))
}

fn what_is_granted_is_used(plane: &ControlPlane) -> anyhow::Result<()> {
    plane.apply(NETWORK)?;
    let controller = Controller::start(plane, "permissions")?;
    let agents = Agents::of(plane, 1)?;
    // Makes, changes and deletes one of each, and says what it can't do.
    add_nodes(plane, &[("p1".into(), "192.168.5.1".into())])?;
    plane.ask(&["create", "namespace", "passing"])?;
    until(DEADLINE, || {
        ensure!(fields(plane, "hostsubnets", "subnet")?.contains_key("p1"));
        ensure!(fields(plane, "netnamespaces", "netid")?.contains_key("passing"));
        Ok(())
    })?;
    let annotation = "pod.network.openshift.io/multitenant.change-network";
    plane.ask(&["annotate", "netnamespace", "passing", &format!("{annotation}=join:nobody")])?;
    until(DEADLINE, || {
        let events = plane.ask(&["get", "events", "-A", "--field-selector=reason=ChangeNetworkFailed"])?;
        ensure!(events.contains("netnamespace/passing"), "{events}");
        Ok(())
    })?;
    plane.ask(&["annotate", "netnamespace", "passing", "--overwrite", &format!("{annotation}=isolate")])?;
    until(DEADLINE, || {
        let object = plane.json(&["get", "netnamespace", "passing"])?;
        ensure!(object["metadata"]["annotations"].get(annotation).is_none(), "{object}");
        Ok(())
    })?;
    plane.feed(
        &["replace", "--subresource=status", "-f", "-"],
        "apiVersion: v1\nkind: Node\nmetadata: {name: p1}\nstatus: {addresses: [{type: InternalIP, address: 192.168.5.9}]}\n",
    )?;
    until(DEADLINE, || {
        ensure!(fields(plane, "hostsubnets", "hostIP")?.get("p1").is_some_and(|ip| ip == "192.168.5.9"));
        Ok(())
    })?;
    drop(agents);
    plane.ask(&["delete", "node", "--all", "--wait=false"])?;
    plane.ask(&["delete", "namespace", "passing", "--wait=false"])?;
    // No controller of namespaces runs here: this is its last step.
    plane.feed(
        &["replace", "--raw", "/api/v1/namespaces/passing/finalize", "-f", "-"],
        r#"{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "passing"}, "spec": {"finalizers": []}}"#,
    )?;
    until(DEADLINE, || {
        ensure!(!fields(plane, "hostsubnets", "subnet")?.contains_key("p1"), "p1 is left");
        ensure!(!fields(plane, "netnamespaces", "netid")?.contains_key("passing"), "passing is left");
        Ok(())
    })?;
    // Gives its Lease back.
    controller.stop()?;

    for (account, roles) in [
        ("sdn", vec![vec!["clusterrole", "openshift-sdn"]]),
        (
            "sdn-controller",
            vec![vec!["clusterrole", "openshift-sdn-controller"], vec!["role", "sdn-controller"]],
        ),
    ] {
        until(DEADLINE, || {
            let mut rights = BTreeSet::new();
            for role in &roles {
                rights.extend(granted(plane, role)?);
            }
            let (done, refused) = done(plane, account)?;
            // An API server that has just started refuses everybody: it has not read the rights yet.
            let refused: Vec<_> = refused.iter().filter(|asked| !covered(&rights, asked)).collect();
            ensure!(refused.is_empty(), "{account} was refused: {refused:?}");
            let idle: Vec<_> = rights
                .iter()
                .filter(|(verb, group, resource, name)| {
                    !done.iter().any(|(did, at, what, whom)| {
                        did == verb && at == group && what == resource && (name.is_none() || whom == name)
                    })
                })
                .collect();
            ensure!(idle.is_empty(), "{account} may, and never does: {idle:?}");
            println!("{account}: {} permissions, each used", rights.len());
            Ok(())
        })?;
    }
    Ok(())
}

fn what_is_not_granted_is_refused(plane: &ControlPlane) -> anyhow::Result<()> {
    const AGENT: &[&str] = &[
        "get pods",
        "create pods",
        "delete pods",
        "list nodes",
        "patch nodes",
        "list secrets",
        "list configmaps",
        "create events",
        "patch netnamespaces.network.openshift.io",
        "patch hostsubnets.network.openshift.io",
        "create hostsubnets.network.openshift.io",
        "delete hostsubnets.network.openshift.io",
        "update clusternetworks.network.openshift.io",
        "get leases.coordination.k8s.io",
    ];
    const CONTROLLER: &[&str] = &[
        "list pods",
        "create pods",
        "list services",
        "list secrets",
        "get secrets",
        "patch nodes",
        "delete nodes",
        "delete namespaces",
        "create namespaces",
        "list configmaps",
        "get configmaps/other",
        "update configmaps/other",
        "delete configmaps/sdn-controller-reservations",
        "get leases.coordination.k8s.io/other",
        "delete leases.coordination.k8s.io/sdn-controller",
        "patch clusternetworks.network.openshift.io",
        "delete clusternetworks.network.openshift.io",
        "create clusternetworks.network.openshift.io",
        "patch egressnetworkpolicies.network.openshift.io",
        "escalate clusterroles.rbac.authorization.k8s.io",
        "impersonate users",
    ];
    for (account, questions) in
        [("sdn", AGENT), ("sdn-controller", CONTROLLER), ("ovs", &["list pods", "get secrets"])]
    {
        for question in questions {
            let (verb, resource) = question.split_once(' ').context("no verb")?;
            let mut command = plane.kubectl(Caller::ServiceAccount(NAMESPACE, account))?;
            command.args(["auth", "can-i", verb, resource, "-n", NAMESPACE]);
            let output = command.output()?;
            let answer = String::from_utf8_lossy(&output.stdout);
            ensure!(
                answer.trim() == "no",
                "may {account} {question}? {answer}{}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        println!("{account}: {} requests refused", questions.len());
    }
    Ok(())
}
