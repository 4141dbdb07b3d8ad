//! What the API server refuses, and in which words; and what it accepts.

use std::time::Instant;

use anyhow::{Context, ensure};
use controller::api::Kind;
use controller::cluster::kube::resource;
use futures::StreamExt;
use kube::api::{Api, DynamicObject, PostParams};
use serde_json::{Value, json};
use tests::kube::{Caller, ControlPlane};
use tests::{checkout, until};

use super::Test;
use super::allocation::DEADLINE;

pub(crate) const TESTS: &[Test] = &[
    ("objects::invalid_ones_are_refused", invalid_ones_are_refused),
    ("objects::valid_ones_are_accepted", valid_ones_are_accepted),
    ("objects::a_subnet_is_not_changed", a_subnet_is_not_changed),
    ("objects::what_broke_a_rule_before_can_be_changed", what_broke_a_rule_before_can_be_changed),
];

/// Requests under way at the same time.
const IN_PARALLEL: usize = 32;

/// A change that makes a valid object invalid.
struct Case {
    kind: Kind,
    change: Value,
    /// The field that must be named.
    field: String,
    /// What must be said of it.
    reason: String,
}

impl Case {
    fn new(kind: Kind, change: Value, field: &str, reason: &str) -> Self {
        Self { kind, change, field: field.to_owned(), reason: reason.to_owned() }
    }

    /// A line of the table.
    fn parse(line: &str) -> anyhow::Result<Self> {
        let columns: Vec<_> = line.split('\t').collect();
        let [kind, change, field, reason] = columns.as_slice() else {
            anyhow::bail!("{line:?} has not four columns");
        };
        Ok(Self::new(
            kind.parse()?,
            serde_json::from_str(change).context((*change).to_owned())?,
            field,
            reason,
        ))
    }
}

/// A valid object of a kind.
fn valid(kind: Kind) -> Value {
    let mut object = match kind {
        Kind::ClusterNetwork => json!({
            "network": "10.128.0.0/14", "hostsubnetlength": 9, "serviceNetwork": "172.30.0.0/16",
            "clusterNetworks": [{"CIDR": "10.128.0.0/14", "hostSubnetLength": 9}],
            "pluginName": "redhat/openshift-ovs-networkpolicy",
        }),
        Kind::HostSubnet => json!({"host": "object", "hostIP": "192.168.1.10", "subnet": "10.128.0.0/23"}),
        Kind::NetNamespace => json!({"netname": "object", "netid": 4711}),
        _ => json!({"spec": {"egress": [{"type": "Allow", "to": {"cidrSelector": "1.2.3.0/24"}}]}}),
    };
    let name = if kind == Kind::ClusterNetwork { "default" } else { "object" };
    object["apiVersion"] = json!(kind.api_version());
    object["kind"] = json!(kind.as_str());
    object["metadata"] = json!({"name": name});
    object
}

/// Those of the table, and those that are too long for it.
fn cases() -> anyhow::Result<Vec<Case>> {
    let lines = include_str!("invalid.tsv").lines().filter(|line| !line.starts_with('#'));
    let mut cases = lines.map(Case::parse).collect::<anyhow::Result<Vec<_>>>()?;
    let ips: Vec<_> = (0..513).map(|i| format!("10.1.{}.{}", i / 256, i % 256)).collect();
    let cidrs: Vec<_> = (0..513).map(|i| format!("10.{}.{}.0/24", i / 256, i % 256)).collect();
    let networks: Vec<_> =
        (0..17).map(|i| json!({"CIDR": format!("10.{i}.0.0/16"), "hostSubnetLength": 9})).collect();
    let rules: Vec<_> =
        (0..1001).map(|_| json!({"type": "Deny", "to": {"cidrSelector": "0.0.0.0/0"}})).collect();
    let long_name = "a".repeat(62) + "." + &("b".repeat(62) + ".").repeat(3) + "com";
    cases.extend([
        Case::new(Kind::HostSubnet, json!({"egressIPs": ips}), "egressIPs", "must have at most 512 items"),
        Case::new(Kind::NetNamespace, json!({"egressIPs": ips}), "egressIPs", "must have at most 512 items"),
        Case::new(
            Kind::HostSubnet,
            json!({"egressCIDRs": cidrs}),
            "egressCIDRs",
            "must have at most 512 items",
        ),
        Case::new(
            Kind::ClusterNetwork,
            json!({"network": "10.0.0.0/16", "clusterNetworks": networks}),
            "clusterNetworks",
            "must have at most 16 items",
        ),
        Case::new(
            Kind::EgressNetworkPolicy,
            json!({"spec": {"egress": rules}}),
            "spec.egress",
            "must have at most 1000 items",
        ),
        Case::new(
            Kind::EgressNetworkPolicy,
            json!({"spec": {"egress": [{"type": "Deny", "to": {"dnsName": long_name}}]}}),
            "spec.egress[0].to.dnsName",
            "may not be more than 254 bytes",
        ),
    ]);
    Ok(cases)
}

fn invalid_ones_are_refused(plane: &ControlPlane) -> anyhow::Result<()> {
    let cases = cases()?;
    ensure!(cases.len() >= 200, "{} are not enough", cases.len());
    let began = Instant::now();
    let runtime = tokio::runtime::Runtime::new()?;
    let wrong: Vec<String> = runtime.block_on(async {
        let client = plane.client(Caller::Admin).await?;
        let answers = futures::stream::iter(&cases).map(|case| {
            let client = client.clone();
            async move {
                let mut object = valid(case.kind);
                json_patch::merge(&mut object, &case.change);
                let object: DynamicObject = serde_json::from_value(object).map_err(|err| err.to_string())?;
                let resource = resource(case.kind);
                let api: Api<DynamicObject> = match case.kind.is_namespaced() {
                    true => Api::namespaced_with(client, "default", &resource),
                    false => Api::all_with(client, &resource),
                };
                let params = PostParams { dry_run: true, ..PostParams::default() };
                match api.create(&params, &object).await {
                    Ok(_) => Err("accepted".to_owned()),
                    Err(kube::Error::Api(status)) if status.code == 422 => Ok(status.message.clone()),
                    Err(error) => Err(error.to_string()),
                }
            }
        });
        let answers: Vec<Result<String, String>> = answers.buffered(IN_PARALLEL).collect().await;
        let wrong = cases.iter().zip(answers).filter_map(|(case, answer)| {
            let words = answer.unwrap_or_else(|error| error);
            let named = words.contains(&format!(" {}: ", case.field))
                || words.contains(&format!("[{}: ", case.field));
            let fits = named && words.contains(&case.reason);
            (!fits).then(|| {
                let Case { kind, change, field, reason } = case;
                format!("{kind} {change}: expected {field}: {reason}\n    answer: {words}")
            })
        });
        anyhow::Ok(wrong.collect())
    })?;
    ensure!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    println!("{} invalid objects refused, in {} ms", cases.len(), began.elapsed().as_millis());
    Ok(())
}

/// Objects in the form that the documentation of OpenShift 3 and 4 shows, and as exports hold them.
fn valid_ones_are_accepted(plane: &ControlPlane) -> anyhow::Result<()> {
    let said = plane.ask(&[
        "apply",
        "--dry-run=server",
        "--validate=false",
        "-f",
        &checkout().join("tests/tests/kube/valid.yaml").to_string_lossy(),
    ])?;
    let documents = include_str!("valid.yaml").split("\n---\n").count();
    ensure!(said.lines().count() == documents, "{documents} documents: {said}");
    Ok(())
}

fn a_subnet_is_not_changed(plane: &ControlPlane) -> anyhow::Result<()> {
    let object = |fields: &str| {
        format!(
            "apiVersion: network.openshift.io/v1\nkind: HostSubnet\nmetadata: {{name: fixed}}\nhost: fixed\nhostIP: 192.168.4.1\n{fields}"
        )
    };
    plane.apply(&object(""))?;
    plane.apply(&object("subnet: 10.128.8.0/23\n"))?;
    for patch in [r#"{"subnet": "10.128.10.0/23"}"#, r#"{"subnet": null}"#, r#"{"subnet": ""}"#] {
        let refused = plane.ask(&["patch", "hostsubnet", "fixed", "--type=merge", "-p", patch]);
        let words = refused.err().with_context(|| format!("{patch} was accepted"))?.to_string();
        ensure!(words.contains("subnet: ") && words.contains("the subnet can not be changed"), "{words}");
    }
    plane.ask(&["patch", "hostsubnet", "fixed", "--type=merge", "-p", r#"{"hostIP": "192.168.4.2"}"#])?;
    plane.ask(&["delete", "hostsubnet", "fixed"])?;
    Ok(())
}

/// Writes objects as they could be written before the definitions had a schema: each is refused by the definition as it is.
pub(crate) fn write_older(plane: &ControlPlane, plurals: &[&str], documents: &str) -> anyhow::Result<()> {
    const SCHEMA: &str = "/spec/versions/0/schema/openAPIV3Schema";
    let define = |plural: &str, schema: &Value| {
        let patch = json!([{"op": "replace", "path": SCHEMA, "value": schema}]).to_string();
        let name = format!("{plural}.network.openshift.io");
        plane.feed(&["patch", "crd", &name, "--type=json", "--patch-file=/dev/stdin"], &patch)
    };
    let mut schemas = Vec::new();
    for plural in plurals {
        let definition = plane.json(&["get", "crd", &format!("{plural}.network.openshift.io")])?;
        schemas.push((plural, definition.pointer(SCHEMA).context("no schema")?.clone()));
        define(plural, &json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}))?;
    }
    // The API server hears of its own definitions a moment later.
    let written = until(DEADLINE, || plane.feed(&["apply", "--validate=false", "-f", "-"], documents));
    for (plural, schema) in schemas {
        define(plural, &schema)?;
    }
    written?;
    until(DEADLINE, || {
        // Others of the same kind: what is unchanged is not checked.
        for document in documents.replace("{name: ", "{name: probe-").split("---\n") {
            let answer = plane.feed(&["create", "--dry-run=server", "--validate=false", "-f", "-"], document);
            ensure!(answer.is_err(), "not refused yet: {document}");
        }
        Ok(())
    })
}

/// Each breaks rules: those of one field, those between fields, and those between a field and the name.
const OLDER: &str = "\
apiVersion: network.openshift.io/v1
kind: ClusterNetwork
metadata: {name: older}
network: 10.0.0.0/16
hostsubnetlength: 8
clusterNetworks: [{CIDR: 10.0.0.0/14, hostSubnetLength: 9}]
serviceNetwork: 10.1.0.0/16
pluginName: another
---
apiVersion: network.openshift.io/v1
kind: ClusterNetwork
metadata: {name: empty}
clusterNetworks: []
serviceNetwork: 172.30.0.0/16
---
apiVersion: network.openshift.io/v1
kind: HostSubnet
metadata: {name: older}
host: another
hostIP: 192.0.2.300
subnet: 10.128.0.1/23
egressIPs: [somewhere]
---
apiVersion: network.openshift.io/v1
kind: NetNamespace
metadata: {name: older}
netname: another
netid: 16777216
egressIPs: [somewhere]
";

/// A change of another field is accepted, and one of the field itself only if it keeps the rule.
fn what_broke_a_rule_before_can_be_changed(plane: &ControlPlane) -> anyhow::Result<()> {
    write_older(plane, &["clusternetworks", "hostsubnets", "netnamespaces"], OLDER)?;
    let patch = |object: &str, patch: &str| {
        let (kind, name) = object.split_once('/').unwrap_or_default();
        plane.ask(&["patch", kind, name, "--type=merge", "-p", patch])
    };
    for (object, harmless, mended, worse, field) in [
        (
            "clusternetwork/older",
            r#"{"mtu": 1400, "metadata": {"annotations": {"a": "b"}}}"#,
            r#"{"network": "10.0.0.0/14"}"#,
            r#"{"network": "10.0.0.0/15"}"#,
            "network",
        ),
        (
            "clusternetwork/older",
            r#"{"mtu": 1401}"#,
            r#"{"serviceNetwork": "172.30.0.0/16"}"#,
            r#"{"serviceNetwork": "10.2.0.0/16"}"#,
            "serviceNetwork",
        ),
        (
            "clusternetwork/empty",
            r#"{"mtu": 1400}"#,
            r#"{"network": "10.0.0.0/14", "hostsubnetlength": 9}"#,
            r#"{"network": "10.0.0.0/14"}"#,
            "clusterNetworks",
        ),
        (
            "hostsubnet/older",
            r#"{"egressCIDRs": ["192.0.2.0/24"], "metadata": {"annotations": {"a": "b"}}}"#,
            r#"{"host": "older"}"#,
            r#"{"host": "third"}"#,
            "host",
        ),
        (
            "netnamespace/older",
            r#"{"metadata": {"annotations": {"pod.network.openshift.io/multitenant.change-network": "global"}}}"#,
            r#"{"netname": "older", "netid": 5}"#,
            r#"{"netname": "third"}"#,
            "netname",
        ),
    ] {
        patch(object, harmless).with_context(|| format!("{object}: {harmless}"))?;
        let refused = patch(object, worse).err().with_context(|| format!("{object}: {worse} is accepted"))?;
        ensure!(format!("{refused:#}").contains(&format!("{field}: ")), "{object}: {refused:#}");
        patch(object, mended).with_context(|| format!("{object}: {mended}"))?;
    }
    for kind in ["clusternetwork/older", "clusternetwork/empty", "hostsubnet/older", "netnamespace/older"] {
        plane.ask(&["delete", kind])?;
    }
    Ok(())
}
