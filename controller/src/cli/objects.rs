//! `sdnctl get`, `patch` and `annotate`: the few verbs of `kubectl` that a cluster directory needs.

use anyhow::{Context, bail};
use serde_json::{Map, Value, json};

use super::output::{OutputArgs, print, table};
use super::target::ClusterArgs;
use super::{Exit, WrongUse};
use crate::api::{Kind, ObjectRef};
use crate::cluster::dir::DirWriter;
use crate::cluster::{ClusterLocation, ClusterSource, Object};

/// Names one object
#[derive(Debug, clap::Args)]
struct ObjectArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Kind of the object, for example netnamespace
    kind: Kind,
    /// Its name
    object: String,
    /// Its namespace
    #[arg(short, long, default_value = "default")]
    namespace: String,
}

/// Show objects of the cluster
#[derive(Debug, clap::Args)]
pub struct GetArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Kind of the objects, for example hostsubnets
    kind: Kind,
    /// Only the one of this name
    object: Option<String>,
    /// Only those of this namespace
    #[arg(short, long)]
    namespace: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

/// Change an object by a JSON merge patch
///
/// As `kubectl patch --type=merge`: fields in the patch replace those of the object, null removes one.
#[derive(Debug, clap::Args)]
pub struct PatchArgs {
    #[command(flatten)]
    object: ObjectArgs,
    /// The patch, JSON
    #[arg(short, long)]
    patch: String,
    /// Only `merge` is there; accepted for the sake of habit
    #[arg(long = "type", default_value = "merge", value_parser = ["merge"])]
    kind_of_patch: String,
}

/// Set or remove annotations of an object
#[derive(Debug, clap::Args)]
pub struct AnnotateArgs {
    #[command(flatten)]
    object: ObjectArgs,
    /// KEY=VALUE sets, KEY- removes
    #[arg(required = true, value_name = "KEY=VALUE|KEY-")]
    annotations: Vec<String>,
    /// Replace a value that is there
    #[arg(long)]
    overwrite: bool,
}

/// Runs `sdnctl get`.
///
/// # Errors
/// When the cluster can't be read.
pub async fn get(args: GetArgs) -> anyhow::Result<Exit> {
    let state = ClusterSource::load(&args.cluster.location()?)?;
    let wanted = |object: &Object| {
        let reference = object.reference();
        reference.kind == args.kind
            && args.object.as_ref().is_none_or(|name| *name == reference.name)
            && args.namespace.as_ref().is_none_or(|namespace| reference.namespace.as_ref() == Some(namespace))
    };
    let objects: Vec<Object> = state.objects().filter(wanted).collect();
    if let (Some(name), true) = (&args.object, objects.is_empty()) {
        bail!("there is no {} {name}", args.kind);
    }
    let values = objects.iter().map(Object::to_value).collect::<Result<Vec<_>, _>>()?;
    let document = match (&args.object, values.as_slice()) {
        (Some(_), [one]) => one.clone(),
        _ => json!({ "apiVersion": "v1", "kind": "List", "items": values }),
    };
    args.output.print(&document, |_| {
        let row = |object: &Object| {
            let reference = object.reference();
            [reference.namespace.unwrap_or_default(), reference.name, summary(object)]
        };
        table(["NAMESPACE", "NAME", ""], objects.iter().map(row))
    })?;
    Ok(Exit::Done)
}

/// What matters of an object, in a few words.
fn summary(object: &Object) -> String {
    match object {
        Object::ClusterNetwork(network) => network.plugin_name.clone(),
        Object::HostSubnet(subnet) => format!("{} at {}", subnet.subnet, subnet.host_ip),
        Object::NetNamespace(namespace) => namespace.netid.to_string(),
        Object::Pod(pod) => {
            let ip = pod.status.as_ref().and_then(|status| status.pod_ip.clone()).unwrap_or_default();
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
            format!("{ip} on {node}")
        }
        Object::Service(service) => {
            service.spec.as_ref().and_then(|spec| spec.cluster_ip.clone()).unwrap_or_default()
        }
        _ => String::new(),
    }
}

/// Runs `sdnctl patch`.
///
/// # Errors
/// When the patch is no JSON, there is no such object, or the result would not be valid.
pub async fn patch(args: PatchArgs) -> anyhow::Result<Exit> {
    let patch: Value = serde_json::from_str(&args.patch)
        .map_err(|error| WrongUse(format!("--patch is no JSON: {error}")))?;
    args.object.change(&patch, "patched")
}

/// Runs `sdnctl annotate`.
///
/// # Errors
/// When an annotation is neither `KEY=VALUE` nor `KEY-`, one is there already and not to be replaced, or there is
/// no such object.
pub async fn annotate(args: AnnotateArgs) -> anyhow::Result<Exit> {
    let mut annotations = Map::new();
    for text in &args.annotations {
        let (key, value) = match (text.split_once('='), text.strip_suffix('-')) {
            (Some((key, value)), _) if !key.is_empty() => (key, Value::from(value)),
            (None, Some(key)) if !key.is_empty() => (key, Value::Null),
            _ => return Err(WrongUse(format!("{text:?} is neither KEY=VALUE nor KEY-")).into()),
        };
        annotations.insert(key.to_owned(), value);
    }
    if !args.overwrite {
        let object = args.object.read()?;
        let there = object.metadata().annotations.clone().unwrap_or_default();
        let taken = annotations.iter().find(|(key, value)| {
            !value.is_null() && there.get(*key).is_some_and(|old| Some(old.as_str()) != value.as_str())
        });
        if let Some((key, _)) = taken {
            bail!("{} has the annotation {key} already: say --overwrite to replace it", object.reference());
        }
    }
    args.object.change(&json!({ "metadata": { "annotations": annotations } }), "annotated")
}

impl ObjectArgs {
    fn reference(&self) -> ObjectRef {
        match self.kind.is_namespaced() {
            true => ObjectRef::namespaced(self.kind, &self.namespace, &self.object),
            false => ObjectRef::cluster(self.kind, &self.object),
        }
    }

    fn read(&self) -> anyhow::Result<Object> {
        let state = ClusterSource::load(&self.cluster.location()?)?;
        let reference = self.reference();
        state.get(&reference).with_context(|| format!("there is no {reference}"))
    }

    fn change(&self, patch: &Value, done: &str) -> anyhow::Result<Exit> {
        let ClusterLocation::Dir(dir) = self.cluster.location()? else {
            bail!(
                "on Kubernetes `kubectl` does this; here it changes a cluster directory: say --cluster DIR"
            );
        };
        let reference = self.reference();
        DirWriter::new(dir).merge_patch(self.kind, reference.namespace.as_deref(), &self.object, patch)?;
        print(&format!("{reference} {done}"))?;
        Ok(Exit::Done)
    }
}
