//! [`Term`]: the time in which one controller allocates.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::events::EventType;
use kube::{Client, Error};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tracing::{debug, info};

use super::super::Allocator;
use super::super::controller::ControllerError;
use super::super::plan::{Action, Change, Notice, Problem};
use super::super::reservations::Reservations;
use super::super::status::Vitals;
use super::InKubernetes;
use crate::api::ObjectRef;
use crate::cluster::kube as cluster;
use crate::cluster::kube::events::Events;
use crate::cluster::{ClusterState, Snapshot};

/// Name of the ConfigMap with the reservations.
const RESERVATIONS: &str = "sdn-controller-reservations";

/// Key of the ConfigMap.
const KEY: &str = "reservations.json";

/// Annotation of the ConfigMap: who wrote it last, for people.
const HOLDER: &str = "network.openshift.io/holder";

/// Who writes, for the API server's records.
const MANAGER: &str = "sdn-controller";

/// Changes made in one round. Their reservations must fit an object (1 MiB in etcd).
const BATCH: usize = 1000;

/// Requests under way at the same time.
pub(super) const IN_PARALLEL: usize = 32;

/// How long a round waits to see what it has written.
pub(super) const SEEN: Duration = Duration::from_secs(5);

/// How long a leader rests at most when nothing changes.
const LONGEST_REST: Duration = Duration::from_secs(3600);

/// What a leader knows beyond the cluster's state.
pub(super) struct Term<'a> {
    client: &'a Client,
    vitals: &'a Vitals,
    pub(super) events: Events,
    allocator: Allocator,
    config_maps: Api<ConfigMap>,
    /// The reservations as they stand in the ConfigMap, but those that have ended since it was written; and its version.
    pub(super) reservations: Reservations,
    version: Option<String>,
    identity: &'a str,
    /// How long after the numbers were noted they may be written.
    fresh: Duration,
}

impl<'a> Term<'a> {
    /// Takes the reservations over: whoever allocated before can note nothing more.
    pub(super) async fn begin(controller: &'a InKubernetes) -> Result<Self, ControllerError> {
        let InKubernetes { client, election, vitals } = controller;
        let config_maps = Api::namespaced(client.clone(), &election.namespace);
        let found: Option<ConfigMap> =
            config_maps.get_opt(RESERVATIONS).await.map_err(|err| request("read the reservations", err))?;
        let text = found.as_ref().and_then(|found| found.data.as_ref()?.get(KEY));
        let reservations = text.map(|text| serde_json::from_str(text)).transpose().map_err(|err| {
            request(format!("read ConfigMap {RESERVATIONS}: repair or delete it"), Error::SerdeError(err))
        })?;
        let mut term = Self {
            client,
            vitals,
            events: Events::new(client.clone(), MANAGER, &election.identity, "Allocate"),
            allocator: Allocator::default(),
            config_maps,
            reservations: Reservations::default(),
            version: found.and_then(|found| found.metadata.resource_version),
            identity: &election.identity,
            fresh: Duration::from_secs(election.lease_seconds.into()),
        };
        term.write(reservations.unwrap_or_default()).await?;
        Ok(term)
    }

    /// Replaces the reservations, if they are still as this controller wrote them.
    async fn write(&mut self, reservations: Reservations) -> Result<(), ControllerError> {
        let text = serde_json::to_string(&reservations)
            .map_err(|err| request("write the reservations", Error::SerdeError(err)))?;
        let object = ConfigMap {
            metadata: ObjectMeta {
                name: Some(RESERVATIONS.to_owned()),
                annotations: Some(BTreeMap::from([(HOLDER.to_owned(), self.identity.to_owned())])),
                resource_version: self.version.clone(),
                ..ObjectMeta::default()
            },
            data: Some(BTreeMap::from([(KEY.to_owned(), text)])),
            ..ConfigMap::default()
        };
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        let written = if self.version.is_some() {
            self.config_maps.replace(RESERVATIONS, &params, &object).await
        } else {
            self.config_maps.create(&params, &object).await
        };
        match written {
            Ok(written) => {
                self.version = written.metadata.resource_version;
                self.reservations = reservations;
                Ok(())
            }
            Err(Error::Api(status)) if status.code == 409 || status.code == 404 => {
                Err(ControllerError::Overtaken)
            }
            Err(err) => Err(request("write the reservations", err)),
        }
    }

    /// Allocates what is missing in this state: notes the numbers, then writes the changes.
    pub(super) async fn round(&mut self, state: &ClusterState) -> Result<Round, ControllerError> {
        let now = Timestamp::now().as_second();
        // What has arrived is forgotten also if nothing is noted now: once its object is deleted the number is free.
        self.reservations.settle(state, now);
        let mut reservations = self.reservations.clone();
        let began = Instant::now();
        let mut allocation = self.allocator.allocate(state, &reservations);
        allocation.changes.truncate(BATCH);
        if reservations.note(state, &allocation.changes, now) {
            self.write(reservations).await?;
        }
        let (client, until) = (self.client, began + self.fresh);
        let written: Vec<_> = stream::iter(allocation.changes)
            .map(|change| async move {
                // Who was asleep for so long may no longer lead, and what it wanted to write may belong to somebody else.
                if Instant::now() > until {
                    return None;
                }
                let result = write(client, state, &change).await;
                Some((change, result))
            })
            .buffer_unordered(IN_PARALLEL)
            .collect()
            .await;
        let is_stale = written.iter().any(Option::is_none);
        let mut round = Round { written: Vec::new(), problems: allocation.problems };
        let mut failure = None;
        for (change, result) in written.into_iter().flatten() {
            match result {
                Ok(version) => {
                    info!(object = %change.object, "{change}");
                    self.vitals.changed(&change);
                    self.tell(state, &change).await;
                    round.written.push((change.object, version));
                }
                // Somebody else was faster. What they wrote is seen in a moment.
                Err(Error::Api(status)) if matches!(status.code, 404 | 409) => {
                    debug!(object = %change.object, "changed meanwhile: {}", status.message);
                    let known = state.get(&change.object);
                    let version = known.and_then(|object| object.metadata().resource_version.clone());
                    round.written.push((change.object, Written::OtherThan(version)));
                }
                Err(err) => failure = Some(request(change.to_string(), err)),
            }
        }
        match failure {
            Some(failure) => Err(failure),
            None if is_stale => Err(ControllerError::Stale),
            None => Ok(round),
        }
    }

    /// Tells whoever asked for a change that it is made, or why not.
    async fn tell(&self, state: &ClusterState, change: &Change) {
        let (type_, reason) = match change.notice {
            None => return,
            Some(Notice::Done(reason)) => (EventType::Normal, reason),
            Some(Notice::Refused(reason)) => (EventType::Warning, reason),
        };
        self.events.publish(&about(state, &change.object), type_, reason, &change.reason).await;
    }
}

/// How long until the next of the numbers that rest is free.
pub(super) fn reservations_end(reservations: &Reservations) -> Duration {
    let seconds = reservations.next_end(Timestamp::now().as_second());
    seconds.map_or(LONGEST_REST, |seconds| Duration::from_secs(seconds.max(1)))
}

/// What a round has done.
pub(super) struct Round {
    /// What was written, and how to tell that it is seen.
    written: Vec<(ObjectRef, Written)>,
    pub(super) problems: Vec<Problem>,
}

/// What the cluster's state shows once a write is seen.
enum Written {
    /// The object has this version, or a later one that is not the one before.
    OtherThan(Option<String>),
    /// The object is gone.
    Gone {
        /// UID of the one that was deleted.
        uid: Option<String>,
    },
}

impl Round {
    pub(super) fn is_idle(&self) -> bool {
        self.written.is_empty()
    }

    /// Waits until the state shows what was written, but not for ever: the next round sees what is.
    pub(super) async fn wait_until_seen(
        mut self,
        snapshots: &mut watch::Receiver<Arc<Snapshot>>,
    ) -> Result<(), ControllerError> {
        let deadline = Instant::now() + SEEN;
        loop {
            {
                let snapshot = snapshots.borrow_and_update();
                self.written.retain(|(object, written)| !written.is_seen(snapshot.state.get(object)));
            }
            if self.written.is_empty() {
                return Ok(());
            }
            match timeout_at(deadline, snapshots.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(ControllerError::SourceEnded),
                Err(_) => return Ok(()),
            }
        }
    }
}

impl Written {
    fn is_seen(&self, object: Option<crate::cluster::Object>) -> bool {
        match self {
            Self::OtherThan(before) => {
                let version = object.and_then(|object| object.metadata().resource_version.clone());
                version != *before
            }
            // One that a finalizer keeps is as good as gone: it goes without another word.
            Self::Gone { uid } => object.is_none_or(|object| {
                object.metadata().uid != *uid || object.metadata().deletion_timestamp.is_some()
            }),
        }
    }
}

/// Makes one change.
async fn write(client: &Client, state: &ClusterState, change: &Change) -> Result<Written, Error> {
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &cluster::resource(change.object.kind));
    let known = state.get(&change.object);
    let before = known.as_ref().and_then(|object| object.metadata().resource_version.clone());
    match &change.action {
        Action::Create(object) => {
            let value = object.to_value().and_then(serde_json::from_value).map_err(Error::SerdeError)?;
            let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
            api.create(&params, &value).await?;
            Ok(Written::OtherThan(before))
        }
        Action::Patch(patch) => {
            let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
            api.patch(&change.object.name, &params, &Patch::Merge(patch)).await?;
            Ok(Written::OtherThan(before))
        }
        Action::Delete => {
            let uid = known.and_then(|object| object.metadata().uid.clone());
            // Only the object that was looked at, as it was: not one that has come in its place.
            let preconditions = Preconditions { uid: uid.clone(), resource_version: before };
            let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
            api.delete(&change.object.name, &params).await?;
            Ok(Written::Gone { uid })
        }
    }
}

/// An object as an event refers to it.
pub(super) fn about(state: &ClusterState, object: &ObjectRef) -> ObjectReference {
    let meta = state.get(object).map(|object| object.metadata().clone()).unwrap_or_default();
    ObjectReference {
        api_version: Some(object.kind.api_version().to_owned()),
        kind: Some(object.kind.as_str().to_owned()),
        namespace: object.namespace.clone(),
        name: Some(object.name.clone()),
        uid: meta.uid,
        resource_version: meta.resource_version,
        ..ObjectReference::default()
    }
}

fn request(action: impl Into<String>, source: Error) -> ControllerError {
    ControllerError::Request { action: action.into(), source: Box::new(source) }
}
