//! [`Picture`]: what a set of watches amounts to.

use std::collections::{BTreeMap, BTreeSet};

use kube::api::DynamicObject;
use kube::runtime::watcher::Event;
use serde_json::{Map, Value};
use tracing::warn;

use crate::api::{Kind, ObjectRef};
use crate::cluster::{ClusterState, Held, Object, ObjectError, Snapshot, Unreadable};

/// Where `kubectl apply` keeps a copy of the whole object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The state of the cluster as events tell it.
pub(super) struct Picture {
    state: ClusterState,
    /// Kinds that have not been listed yet.
    missing: BTreeSet<Kind>,
    /// Lists that are coming in.
    lists: BTreeMap<Kind, ClusterState>,
    /// Kinds that can't be watched now, and why.
    failing: BTreeMap<Kind, String>,
    changed: bool,
}

impl Picture {
    /// Nothing yet of `kinds`.
    pub(super) fn new(kinds: impl IntoIterator<Item = Kind>) -> Self {
        Self {
            state: ClusterState::default(),
            missing: kinds.into_iter().collect(),
            lists: BTreeMap::new(),
            failing: BTreeMap::new(),
            changed: false,
        }
    }

    /// Takes note of what happened to an object of `kind`.
    pub(super) fn apply(&mut self, kind: Kind, event: Event<DynamicObject>) {
        match event {
            Event::Init => {
                self.lists.insert(kind, ClusterState::default());
            }
            Event::InitApply(object) => {
                let (reference, object) = (reference(kind, &object), self.typed(kind, object));
                if let Some(list) = self.lists.get_mut(&kind) {
                    put(list, reference, object);
                }
            }
            Event::InitDone => {
                if let Some(list) = self.lists.remove(&kind) {
                    self.state.replace_kind(kind, list);
                    self.missing.remove(&kind);
                    self.changed = true;
                }
            }
            Event::Apply(object) => {
                let (reference, object) = (reference(kind, &object), self.typed(kind, object));
                put(&mut self.state, reference, object);
                self.changed = true;
            }
            Event::Delete(object) => {
                self.state.remove(&reference(kind, &object));
                self.changed = true;
            }
        }
    }

    /// Notes that `kind` can't be watched; whether that is news.
    pub(super) fn failed(&mut self, kind: Kind, reason: &str) -> bool {
        self.failing.insert(kind, reason.to_owned()).as_deref() != Some(reason)
    }

    /// Notes that `kind` is watched; whether that is news.
    pub(super) fn recovered(&mut self, kind: Kind) -> bool {
        self.failing.remove(&kind).is_some()
    }

    /// The picture, if it is whole and has changed since the last call.
    pub(super) fn take_change(&mut self) -> Option<Snapshot> {
        let show = self.changed && self.missing.is_empty();
        show.then(|| {
            self.changed = false;
            Snapshot { state: self.state.clone(), problem: None }
        })
    }

    /// What there is.
    pub(super) fn into_state(self) -> ClusterState {
        self.state
    }

    /// The object as this system reads it; the one that is known already if it is the same.
    ///
    /// The API server checks ours, so one that has not the form of its kind is older than the definition.
    fn typed(&self, kind: Kind, object: DynamicObject) -> Result<Object, Unreadable> {
        let reference = reference(kind, &object);
        let version = object.metadata.resource_version.clone();
        let known = self.state.get(&reference);
        if let Some(known) =
            known.filter(|known| version.is_some() && known.metadata().resource_version == version)
        {
            return Ok(known);
        }
        let object = reduced(kind, object);
        let held = Held::by(kind, &object.data);
        let value = serde_json::to_value(object)
            .map_err(|error| ObjectError { field: ".".to_owned(), reason: error.to_string() });
        value.and_then(|value| Object::from_value(kind, value)).map_err(|error| {
            warn!(object = %reference, "left out: {error}");
            Unreadable { error, held }
        })
    }
}

/// Puts an object where it belongs, or takes note that it can't be read.
fn put(state: &mut ClusterState, reference: ObjectRef, object: Result<Object, Unreadable>) {
    match object {
        Ok(object) => drop(state.insert(object)),
        Err(unreadable) => state.insert_unreadable(reference, unreadable),
    }
}

fn reference(kind: Kind, object: &DynamicObject) -> ObjectRef {
    ObjectRef {
        kind,
        namespace: kind.is_namespaced().then(|| object.metadata.namespace.clone().unwrap_or_default()),
        name: object.metadata.name.clone().unwrap_or_default(),
    }
}

/// The object without what nobody here reads.
fn reduced(kind: Kind, mut object: DynamicObject) -> DynamicObject {
    object.metadata.managed_fields = None;
    if let Some(annotations) = &mut object.metadata.annotations {
        annotations.remove(LAST_APPLIED);
    }
    let Some(fields) = object.data.as_object_mut() else { return object };
    match kind {
        Kind::Pod => {
            keep(fields, "spec", &["nodeName", "hostNetwork"]);
            keep(fields, "status", &["phase", "podIP", "podIPs"]);
        }
        Kind::Node => {
            fields.remove("spec");
            keep(fields, "status", &["addresses", "conditions"]);
            if let Some(Value::Array(conditions)) =
                fields.get_mut("status").and_then(|status| status.get_mut("conditions"))
            {
                conditions.retain(|condition| condition.get("type").is_some_and(|kind| kind == "Ready"));
                for condition in conditions.iter_mut().filter_map(Value::as_object_mut) {
                    condition.retain(|name, _| matches!(name.as_str(), "type" | "status"));
                }
            }
        }
        Kind::Namespace => {
            fields.remove("spec");
        }
        Kind::Service => {
            fields.remove("status");
        }
        _ => {}
    }
    object
}

/// Keeps only these fields of an object's part.
fn keep(fields: &mut Map<String, Value>, part: &str, names: &[&str]) {
    if let Some(Value::Object(part)) = fields.get_mut(part) {
        part.retain(|name, _| names.contains(&name.as_str()));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(name: &str, version: &str) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "resourceVersion": version, "managedFields": [], "annotations": {LAST_APPLIED: "{}", "a": "b"}},
            "spec": {"podCIDR": "10.0.0.0/24"},
            "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}], "images": [{"names": ["x"]}], "conditions": [
                {"type": "DiskPressure", "status": "False"},
                {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": "2024-01-01T00:00:00Z"},
            ]},
        }))
        .unwrap()
    }

    fn list(picture: &mut Picture, nodes: &[(&str, &str)]) {
        picture.apply(Kind::Node, Event::Init);
        for (name, version) in nodes {
            picture.apply(Kind::Node, Event::InitApply(node(name, version)));
        }
        picture.apply(Kind::Node, Event::InitDone);
    }

    fn names(snapshot: &Snapshot) -> Vec<&str> {
        snapshot.state.nodes.keys().map(String::as_str).collect()
    }

    #[test]
    fn it_is_shown_when_it_is_whole() {
        let mut picture = Picture::new([Kind::Node, Kind::Pod]);
        list(&mut picture, &[("a", "1")]);
        assert!(picture.take_change().is_none());
        picture.apply(Kind::Pod, Event::Init);
        picture.apply(Kind::Pod, Event::InitDone);
        assert_eq!(names(&picture.take_change().unwrap()), ["a"]);
        assert!(picture.take_change().is_none(), "nothing has changed");
    }

    #[test]
    fn a_new_list_replaces_the_old_one_at_once_and_shares_what_is_the_same() {
        let mut picture = Picture::new([Kind::Node]);
        list(&mut picture, &[("a", "1"), ("b", "2"), ("c", "3")]);
        let before = picture.take_change().unwrap();
        picture.apply(Kind::Node, Event::Init);
        picture.apply(Kind::Node, Event::InitApply(node("a", "1")));
        assert!(picture.take_change().is_none(), "half a list is no picture");
        picture.apply(Kind::Node, Event::InitApply(node("c", "4")));
        picture.apply(Kind::Node, Event::InitDone);
        let after = picture.take_change().unwrap();
        assert_eq!(names(&after), ["a", "c"]);
        let same = |name: &str| std::sync::Arc::ptr_eq(&before.state.nodes[name], &after.state.nodes[name]);
        assert!(same("a") && !same("c"));
    }

    #[test]
    fn objects_come_change_and_go() {
        let mut picture = Picture::new([Kind::Node]);
        list(&mut picture, &[("a", "1")]);
        picture.apply(Kind::Node, Event::Apply(node("b", "2")));
        picture.apply(Kind::Node, Event::Delete(node("a", "3")));
        assert_eq!(names(&picture.take_change().unwrap()), ["b"]);
    }

    #[test]
    fn only_what_is_read_is_kept() {
        let mut picture = Picture::new([Kind::Node]);
        list(&mut picture, &[("a", "1")]);
        let node = serde_json::to_value(picture.take_change().unwrap().state.nodes["a"].as_ref()).unwrap();
        assert_eq!(
            node,
            json!({
                "apiVersion": "v1", "kind": "Node",
                "metadata": {"name": "a", "resourceVersion": "1", "annotations": {"a": "b"}},
                "status": {
                    "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}],
                    "conditions": [{"type": "Ready", "status": "True"}],
                },
            })
        );
    }

    fn net_namespace(name: &str, fields: &Value) -> DynamicObject {
        let mut object = json!({"apiVersion": "network.openshift.io/v1", "kind": "NetNamespace", "metadata": {"name": name}});
        json_patch::merge(&mut object, fields);
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn an_object_that_cannot_be_read_is_left_out_and_known_to_be_there() {
        let mut picture = Picture::new([Kind::Node, Kind::NetNamespace]);
        list(&mut picture, &[("a", "1"), ("b", "2")]);
        picture.apply(Kind::NetNamespace, Event::Init);
        let text = json!({"netname": "x", "netid": "17"});
        picture.apply(Kind::NetNamespace, Event::InitApply(net_namespace("x", &text)));
        picture.apply(Kind::NetNamespace, Event::InitDone);
        let mut broken = node("a", "3");
        broken.data = json!({"status": {"addresses": 7}});
        picture.apply(Kind::Node, Event::Apply(broken));
        let told = |snapshot: &Snapshot| -> Vec<_> {
            let told = snapshot.state.unreadable.iter();
            told.map(|(object, known)| (object.to_string(), known.error.field.clone(), known.held.netid))
                .collect()
        };
        let snapshot = picture.take_change().unwrap();
        assert_eq!((names(&snapshot), snapshot.state.net_namespaces.len()), (vec!["b"], 0));
        assert_eq!(
            told(&snapshot),
            [
                ("Node a".to_owned(), "status.addresses".to_owned(), None),
                ("NetNamespace x".to_owned(), "netid".to_owned(), Some(17)),
            ]
        );

        // Mended, deleted, or missing from a new list: no longer unreadable.
        picture.apply(Kind::Node, Event::Apply(node("a", "4")));
        let other = json!({"netname": "y", "netid": 18, "egressIPs": "192.0.2.1"});
        picture.apply(Kind::NetNamespace, Event::Apply(net_namespace("y", &other)));
        picture.apply(Kind::NetNamespace, Event::Delete(net_namespace("x", &text)));
        let snapshot = picture.take_change().unwrap();
        assert_eq!(names(&snapshot), ["a", "b"]);
        assert_eq!(told(&snapshot), [("NetNamespace y".to_owned(), "egressIPs".to_owned(), Some(18))]);
        picture.apply(Kind::NetNamespace, Event::Init);
        picture.apply(Kind::NetNamespace, Event::InitDone);
        assert_eq!(told(&picture.take_change().unwrap()), []);

        // Only one ClusterNetwork is of interest.
        for (name, expected) in [("other", 0), ("default", 1)] {
            let mut network = net_namespace(name, &json!({"serviceNetwork": 7}));
            network.types = None;
            picture.apply(Kind::ClusterNetwork, Event::Apply(network));
            assert_eq!(picture.take_change().unwrap().state.unreadable.len(), expected, "{name}");
        }
    }

    #[test]
    fn failures_are_news_once() {
        let mut picture = Picture::new([Kind::Node]);
        assert!(picture.failed(Kind::Node, "refused"));
        assert!(!picture.failed(Kind::Node, "refused"));
        assert!(picture.recovered(Kind::Node));
        assert!(!picture.recovered(Kind::Node));
    }
}
