//! Pods of a lab: an object in the lab's cluster, and a namespace wired by the CNI plugin.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::{Timestamp, TimestampRound, Unit};
use serde_json::json;

use super::cni::Attachment;
use super::link::without_ipv6;
use super::plan::PlannedPod;
use super::preflight::{self, OwnPrograms};
use super::state::{LabState, PodState, Store};
use super::{LabDir, LabError};
use crate::api::{Kind, ObjectRef};
use crate::cluster::dir::{DirLock, DirWriter, WriteError};
use crate::cluster::{NamespacedName, Object};
use crate::node::netns::{NAMED, NetNs};

/// A pod to add to a lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPod {
    /// Namespace and name. A namespace that the cluster does not have is made.
    pub name: NamespacedName,
    /// The node to run it on.
    pub node: String,
    /// The address that it shall have; the node chooses if there is none.
    pub ip: Option<Ipv4Addr>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// Adds a pod: makes its object in the lab's cluster, its namespace, and has it wired.
///
/// # Errors
/// [`LabError::NoLab`], [`LabError::NoNode`], [`LabError::PodExists`], [`LabError::Bare`]; what keeps it from running.
/// Nothing is left of it then.
pub async fn pod_add(dir: &LabDir, pod: NewPod) -> Result<PodState, LabError> {
    preflight::root()?;
    let (store, state) = Store::open(dir)?;
    state.node(&pod.node)?;
    if state.pods.contains_key(&key(&pod.name)) {
        return Err(LabError::PodExists { lab: state.name, pod: key(&pod.name) });
    }
    let sandboxes = Sandboxes::open(dir, store, &state)?;
    let uid = random_uid()?;
    let (object, node) = (object(&pod, &uid), pod.node.clone());
    let planned = PlannedPod { name: pod.name.clone(), uid: Some(uid), ip: pod.ip };
    change(dir, move |cluster| {
        ensure_namespace(cluster, &pod.name.0)?;
        cluster.create(&object.into())
    })
    .await?;
    let added = sandboxes.add(&node, &planned).await;
    if added.is_err() {
        // The error to tell is the first one.
        let _ = remove_object(dir, &planned.name).await;
    }
    added
}

/// Removes a pod: has it unwired, and removes its namespace and its object.
///
/// # Errors
/// [`LabError::NoLab`], [`LabError::NoPod`]; what the CNI plugin says if it could not unwire the pod: the pod then stays,
/// to be deleted again.
pub async fn pod_delete(dir: &LabDir, pod: &NamespacedName) -> Result<(), LabError> {
    preflight::root()?;
    let (store, state) = Store::open(dir)?;
    let unwired = Sandboxes::open(dir, store, &state)?.delete(pod).await;
    match unwired {
        // An object without a sandbox, as a pod that was never started.
        Ok(()) | Err(LabError::NoPod { .. }) => {}
        Err(error) => return Err(error),
    }
    match (unwired, remove_object(dir, pod).await) {
        (Err(LabError::NoPod { .. }), Ok(())) => Ok(()),
        (Ok(()), Err(LabError::Write(WriteError::NotFound { .. }))) => Ok(()),
        (unwired, removed) => unwired.and(removed),
    }
}

/// Wires and unwires the pods of a lab.
#[derive(Clone, Debug)]
pub(super) struct Sandboxes {
    dir: LabDir,
    store: Store,
    plugin: PathBuf,
}

impl Sandboxes {
    /// Those of a lab that is being made.
    pub(super) fn new(dir: &LabDir, store: &Store, programs: &OwnPrograms) -> Self {
        Self { dir: dir.clone(), store: store.clone(), plugin: programs.cni_plugin.clone() }
    }

    fn open(dir: &LabDir, store: Store, state: &LabState) -> Result<Self, LabError> {
        if state.bare {
            return Err(LabError::Bare { lab: state.name.clone() });
        }
        Ok(Self::new(dir, &store, &OwnPrograms::find()?))
    }

    /// Makes the pod's namespace and has it wired, then notes its address in the pod's object.
    ///
    /// # Errors
    /// [`LabError::PodExists`], [`LabError::NetNs`], [`LabError::Cni`]. The namespace is removed again.
    pub(super) async fn add(&self, node: &str, pod: &PlannedPod) -> Result<PodState, LabError> {
        let key = key(&pod.name);
        let netns = self.dir.pod_netns(&pod.name.0, &pod.name.1);
        let sandbox = PodState {
            node: node.to_owned(),
            netns: netns.clone(),
            container_id: random_hex(32)?,
            uid: match &pod.uid {
                Some(uid) => uid.clone(),
                None => random_uid()?,
            },
            ip: None,
            port: None,
        };
        self.store.update(|state| {
            if state.pods.contains_key(&key) {
                return Err(LabError::PodExists { lab: state.name.clone(), pod: key.clone() });
            }
            if Path::new(NAMED).join(&netns).exists() {
                return Err(LabError::NamespaceTaken { netns: netns.clone() });
            }
            state.pods.insert(key.clone(), sandbox.clone());
            state.namespaces.push(netns.clone());
            Ok(())
        })??;
        match self.attach(pod, sandbox).await {
            Ok(sandbox) => {
                self.store.update(|state| state.pods.insert(key, sandbox.clone()))?;
                Ok(sandbox)
            }
            Err(error) => {
                // As a runtime does after a failed ADD; the error to tell is the first one.
                let _ = self.delete(&pod.name).await;
                Err(error)
            }
        }
    }

    async fn attach(&self, pod: &PlannedPod, sandbox: PodState) -> Result<PodState, LabError> {
        without_ipv6(&NetNs::create_named(&sandbox.netns)?).await?;
        let attached = self.attachment(&pod.name, &sandbox).add(pod.ip).await?;
        if pod.ip != Some(attached.ip) {
            let (namespace, name) = pod.name.clone();
            let status = json!({"status": {"podIP": attached.ip}});
            change(&self.dir, move |cluster| {
                let pod = ObjectRef { kind: Kind::Pod, namespace: Some(namespace), name };
                cluster.merge_patch(&pod, &status).map(drop)
            })
            .await?;
        }
        Ok(PodState { ip: Some(attached.ip), port: attached.port, ..sandbox })
    }

    /// Has the pod unwired and removes its namespace. Everything is tried; the pod is forgotten when its namespace
    /// is gone.
    ///
    /// # Errors
    /// [`LabError::NoPod`]; the first of what did not work.
    pub(super) async fn delete(&self, pod: &NamespacedName) -> Result<(), LabError> {
        let key = key(pod);
        let state = self.store.read()?;
        let sandbox = find(&state, &key)?;
        // As a runtime does: until DEL has succeeded the pod is not gone, and DEL is asked for again.
        self.attachment(pod, sandbox).delete().await?;
        NetNs::delete_named(&sandbox.netns)?;
        self.store.update(|state| {
            state.pods.remove(&key);
            state.namespaces.retain(|name| *name != sandbox.netns);
        })
    }

    fn attachment<'a>(&'a self, pod: &'a NamespacedName, sandbox: &'a PodState) -> Attachment<'a> {
        Attachment {
            plugin: &self.plugin,
            socket: self.dir.node(&sandbox.node).cni_socket(),
            pod,
            uid: &sandbox.uid,
            container_id: &sandbox.container_id,
            netns: Path::new(NAMED).join(&sandbox.netns),
        }
    }
}

/// The sandbox of a pod.
///
/// # Errors
/// [`LabError::NoPod`].
pub(super) fn find<'a>(state: &'a LabState, key: &str) -> Result<&'a PodState, LabError> {
    state.pods.get(key).ok_or_else(|| LabError::NoPod { lab: state.name.clone(), pod: key.to_owned() })
}

/// Changes the lab's cluster directory, without blocking the runtime's thread.
///
/// # Errors
/// [`LabError::Write`].
pub(super) async fn change(
    dir: &LabDir,
    change: impl FnOnce(&mut DirLock) -> Result<(), WriteError> + Send + 'static,
) -> Result<(), LabError> {
    let writer = DirWriter::new(dir.cluster());
    tokio::task::spawn_blocking(move || change(&mut writer.lock()?))
        .await
        .map_err(|error| LabError::io("write to", &dir.cluster(), error.into()))?
        .map_err(LabError::Write)
}

async fn remove_object(dir: &LabDir, (namespace, name): &NamespacedName) -> Result<(), LabError> {
    let pod = ObjectRef { kind: Kind::Pod, namespace: Some(namespace.clone()), name: name.clone() };
    change(dir, move |cluster| cluster.delete(&pod)).await
}

fn ensure_namespace(cluster: &mut DirLock, name: &str) -> Result<(), WriteError> {
    if cluster.state().is_ok_and(|state| state.namespaces.contains_key(name)) {
        return Ok(());
    }
    let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    match cluster.create(&Object::from(core::Namespace { metadata, ..core::Namespace::default() })) {
        Err(WriteError::Exists { .. }) => Ok(()),
        result => result,
    }
}

fn object(pod: &NewPod, uid: &str) -> core::Pod {
    let (namespace, name) = &pod.name;
    let container = core::Container { name: "pod".to_owned(), ..core::Container::default() };
    let spec = core::PodSpec {
        node_name: Some(pod.node.clone()),
        containers: vec![container],
        ..core::PodSpec::default()
    };
    let status = core::PodStatus {
        phase: Some("Running".to_owned()),
        pod_ip: pod.ip.map(|ip| ip.to_string()),
        ..core::PodStatus::default()
    };
    core::Pod {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(namespace.clone()),
            uid: Some(uid.to_owned()),
            labels: (!pod.labels.is_empty()).then(|| pod.labels.clone()),
            creation_timestamp: Some(Time(now())),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        status: Some(status),
    }
}

/// The time, in whole seconds as an API server notes it.
fn now() -> Timestamp {
    let now = Timestamp::now();
    now.round(TimestampRound::new().smallest(Unit::Second)).unwrap_or(now)
}

/// `NAMESPACE/NAME`.
fn key((namespace, name): &NamespacedName) -> String {
    format!("{namespace}/{name}")
}

fn random_hex(bytes: usize) -> Result<String, LabError> {
    let source = Path::new("/dev/urandom");
    let mut buffer = vec![0u8; bytes];
    File::open(source)
        .and_then(|mut file| file.read_exact(&mut buffer))
        .map_err(|error| LabError::io("read", source, error))?;
    Ok(buffer.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A random UUID (RFC 9562 §5.4).
fn random_uid() -> Result<String, LabError> {
    let hex = random_hex(16)?;
    let part = |range: std::ops::Range<usize>| hex.get(range).unwrap_or_default();
    Ok(format!("{}-{}-4{}-a{}-{}", part(0..8), part(8..12), part(13..16), part(17..20), part(20..32)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids() {
        let uid = random_uid().unwrap();
        assert_eq!(uid.len(), 36);
        assert_eq!(uid.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        assert_ne!(uid, random_uid().unwrap());
    }

    #[test]
    fn a_pod_is_an_object_that_the_cluster_accepts() {
        let cluster = tempfile::tempdir().unwrap();
        let pod = NewPod {
            name: ("blue".into(), "web".into()),
            node: "node1".into(),
            ip: None,
            labels: BTreeMap::from([("app".into(), "web".into())]),
        };
        let mut lock = DirWriter::new(cluster.path()).lock().unwrap();
        ensure_namespace(&mut lock, "blue").unwrap();
        lock.create(&object(&pod, "uid").into()).unwrap();
        ensure_namespace(&mut lock, "blue").unwrap();
        drop(lock);
        let state = crate::cluster::dir::load(cluster.path()).unwrap();
        assert!(state.namespaces.contains_key("blue"));
        let stored = state.pods.get(&pod.name).unwrap();
        assert_eq!(stored.metadata.labels, Some(pod.labels));
        assert_eq!(stored.spec.as_ref().unwrap().node_name.as_deref(), Some("node1"));
    }
}
