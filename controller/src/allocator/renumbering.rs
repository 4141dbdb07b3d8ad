//! Requests for another VNID: what the annotation `multitenant.change-network` of a NetNamespace asks for.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value, json};
use thiserror::Error;

use super::plan::{Action, Allocation, Change, Notice, Problem};
use super::tenants::Tenants;
use super::vnids::Vnids;
use crate::api::{
    CHANGE_NETWORK_ANNOTATION, GLOBAL_NAMESPACE, Kind, NetNamespace, ObjectRef, PluginMode, Vnid,
};
use crate::cluster::ClusterState;

/// What a NetNamespace asks for. Its text is the annotation's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeNetwork {
    /// VNID 0: reaches every namespace, and is reached by every namespace.
    Global,
    /// A VNID that nobody else has.
    Isolate,
    /// The VNID that this namespace has now. No lasting bond: neither follows the other later.
    Join(String),
}

/// The annotation's value is none of the three.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("write `global`, `isolate` or `join:NAMESPACE` into the annotation, or remove it")]
pub struct ParseChangeNetworkError;

impl FromStr for ChangeNetwork {
    type Err = ParseChangeNetworkError;

    /// As the original reads it: words separated by colons, of which the first decides; only `join` needs a second one, and
    /// must have no third.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let words: Vec<_> = text.split(':').collect();
        match words.as_slice() {
            ["global", ..] => Ok(Self::Global),
            ["isolate", ..] => Ok(Self::Isolate),
            ["join", namespace] if !namespace.is_empty() => Ok(Self::Join((*namespace).to_owned())),
            _ => Err(ParseChangeNetworkError),
        }
    }
}

impl fmt::Display for ChangeNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Global => f.write_str("global"),
            Self::Isolate => f.write_str("isolate"),
            Self::Join(namespace) => write!(f, "join:{namespace}"),
        }
    }
}

/// Plans every request, in the order of the names. Those of NetNamespaces that are `going` are of no interest.
pub(super) fn plan(
    state: &ClusterState,
    tenants: &Tenants,
    plugin: PluginMode,
    going: &BTreeSet<&str>,
    vnids: &mut Vnids<'_>,
    allocation: &mut Allocation,
) {
    let mut renumbered = BTreeSet::new();
    for (name, object) in tenants.asking() {
        let annotations = object.metadata.annotations.as_ref();
        let Some(text) = annotations.and_then(|annotations| annotations.get(CHANGE_NETWORK_ANNOTATION))
        else {
            continue;
        };
        let (Ok(vnid), false) = (Vnid::try_from(object.netid), going.contains(name.as_str())) else {
            continue;
        };
        if plugin != PluginMode::Multitenant {
            let reason = format!(
                "the request {text:?} is dropped: VNIDs can only be changed with the plugin {}, and this is {}",
                PluginMode::Multitenant.plugin_name(),
                plugin.plugin_name()
            );
            let notice = Notice::Refused("ChangeNetworkRefused");
            allocation.changes.push(change(object, vnid, vnid, reason, notice));
            continue;
        }
        let wanted = text
            .parse()
            .map_err(|error: ParseChangeNetworkError| error.to_string())
            .and_then(|request| wanted(state, &request, name, vnid, vnids, going, &renumbered));
        match wanted {
            // Its target is about to change: the next round knows to what.
            Ok(None) => {}
            Ok(Some(new)) => {
                let reason = if new == vnid {
                    format!("the request {text:?} is met: VNID {vnid} stays")
                } else {
                    renumbered.insert(name.as_str());
                    format!("the request {text:?} is met: VNID {new}, was {vnid}")
                };
                allocation.changes.push(change(object, vnid, new, reason, Notice::Done("NetworkChanged")));
            }
            Err(reason) => allocation.problems.push(Problem::ChangeNetwork {
                name: name.clone(),
                request: format!("{text:?}"),
                reason,
            }),
        }
    }
}

/// The VNID that meets the request; `None` if that is not known in this round.
fn wanted(
    state: &ClusterState,
    request: &ChangeNetwork,
    name: &str,
    vnid: Vnid,
    vnids: &mut Vnids<'_>,
    going: &BTreeSet<&str>,
    renumbered: &BTreeSet<&str>,
) -> Result<Option<Vnid>, String> {
    match request {
        ChangeNetwork::Global => Ok(Some(Vnid::GLOBAL)),
        ChangeNetwork::Join(target) if target == name => Ok(Some(vnid)),
        _ if name == GLOBAL_NAMESPACE => {
            Err(format!("namespace {GLOBAL_NAMESPACE} is always global; remove the annotation"))
        }
        ChangeNetwork::Join(target) => {
            let joined = state.net_namespaces.get(target).filter(|_| !going.contains(target.as_str()));
            match joined.and_then(|joined| Vnid::try_from(joined.netid).ok()) {
                Some(_) if renumbered.contains(target.as_str()) => Ok(None),
                Some(vnid) => Ok(Some(vnid)),
                None => Err(format!(
                    "there is no NetNamespace {target}; it is joined when there is, or remove the annotation"
                )),
            }
        }
        ChangeNetwork::Isolate if vnid >= Vnid::FIRST_ALLOCATABLE && !vnids.is_shared(vnid, name) => {
            Ok(Some(vnid))
        }
        ChangeNetwork::Isolate => match vnids.take(name) {
            Some(vnid) => Ok(Some(vnid)),
            None => {
                Err("all VNIDs are taken; delete Namespaces and NetNamespaces that are no longer used"
                    .to_owned())
            }
        },
    }
}

/// Writes the VNID, if it is another one, and takes the request back: the one that was read, not a later one.
fn change(object: &NetNamespace, old: Vnid, new: Vnid, reason: String, notice: Notice) -> Change {
    let mut metadata = Map::new();
    metadata.insert("annotations".to_owned(), json!({CHANGE_NETWORK_ANNOTATION: null}));
    if let Some(version) = &object.metadata.resource_version {
        metadata.insert("resourceVersion".to_owned(), version.as_str().into());
    }
    let mut patch = Map::new();
    patch.insert("metadata".to_owned(), Value::Object(metadata));
    if new != old {
        patch.insert("netid".to_owned(), new.get().into());
    }
    Change {
        object: ObjectRef::cluster(Kind::NetNamespace, object.metadata.name.as_deref().unwrap_or_default()),
        action: Action::Patch(Value::Object(patch)),
        reason,
        notice: Some(notice),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_as_the_original_reads_them() {
        let parse = |text: &str| text.parse::<ChangeNetwork>().ok();
        assert_eq!(parse("global"), Some(ChangeNetwork::Global));
        assert_eq!(parse("global:x"), Some(ChangeNetwork::Global));
        assert_eq!(parse("isolate"), Some(ChangeNetwork::Isolate));
        assert_eq!(parse("join:a"), Some(ChangeNetwork::Join("a".to_owned())));
        for wrong in ["join", "join:", "join:a:b", "Join:a", "GLOBAL", " global", ""] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
        for text in ["global", "isolate", "join:a"] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
    }
}
