//! [`Term`]: the time in which one controller allocates.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions};
use kube::core::Status;
use kube::runtime::events::EventType;
use kube::{Client, Error};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tracing::{debug, error, info};

use super::super::Allocator;
use super::super::controller::ControllerError;
use super::super::plan::{Action, Change, Notice, Problem};
use super::super::reservations::{ABANDONED, Reservations};
use super::super::status::Vitals;
use super::InKubernetes;
use super::refusals::Refusals;
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

/// How long after numbers were noted they may be written at most: a request that is sent then has ended, one way or the other,
/// before they are free again for anybody ([`ABANDONED`]).
const LONGEST_ROUND: Duration = Duration::from_secs(ABANDONED.unsigned_abs() / 2);

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
    refusals: Refusals,
    identity: &'a str,
    /// How long after a round has begun it may still write: no longer than a whole term of the Lease. That is no proof that it
    /// still leads, for which the reservations are.
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
        let reservations = text.map(|text| serde_json::from_str(text)).transpose();
        let reservations = reservations.map_err(|source| ControllerError::Reservations {
            name: RESERVATIONS,
            key: KEY,
            source,
        })?;
        let mut term = Self {
            client,
            vitals,
            events: Events::new(client.clone(), MANAGER, &election.identity, "Allocate"),
            allocator: Allocator::default(),
            config_maps,
            reservations: Reservations::default(),
            refusals: Refusals::default(),
            version: found.and_then(|found| found.metadata.resource_version),
            identity: &election.identity,
            fresh: Duration::from_secs(election.lease_seconds.into()).min(LONGEST_ROUND),
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
            // It was replaced, made or deleted by somebody else. One that can't be made has no namespace, which is another matter.
            Err(Error::Api(status))
                if status.code == 409 || (status.code == 404 && self.version.is_some()) =>
            {
                Err(ControllerError::Overtaken)
            }
            Err(err) => Err(request("write the reservations", err)),
        }
    }

    /// Allocates what is missing in this state: notes the numbers, then writes the changes.
    ///
    /// # Errors
    /// The numbers can't be noted, or not all was written in time. That the API server refuses a change is no error but
    /// part of what was done.
    pub(super) async fn round(&mut self, state: &ClusterState) -> Result<Round, ControllerError> {
        let (began, now) = (Instant::now(), Timestamp::now().as_second());
        // What has arrived is forgotten also if nothing is noted now: once its object is deleted the number is free.
        self.reservations.settle(state, now);
        let mut allocation = self.allocator.allocate(state, &self.reservations);
        self.refusals.hold_back(&mut allocation.changes, began);
        let is_whole = allocation.changes.len() <= BATCH;
        allocation.changes.truncate(BATCH);
        let mut reservations = self.reservations.clone();
        if reservations.note(state, &allocation.changes, now) {
            self.write(reservations).await?;
        }
        let (this, until) = (&*self, began + self.fresh);
        let results: Vec<_> = stream::iter(allocation.changes)
            .map(|change| async move {
                let result = no_later_than(until, write(this.client, state, &change)).await?;
                if result.is_ok() {
                    info!(object = %change.object, "{change}");
                    this.vitals.changed(&change);
                    this.tell(state, &change).await;
                }
                Some((change, result))
            })
            .buffer_unordered(IN_PARALLEL)
            .collect()
            .await;
        if results.iter().any(Option::is_none) {
            return Err(ControllerError::Stale { limit: self.fresh });
        }
        let mut written = Vec::new();
        let mut refused = 0;
        for (change, result) in results.into_iter().flatten() {
            match result {
                Ok(seen) => {
                    self.refusals.accepted(&change.object);
                    written.push((change.object, seen));
                }
                // Somebody else was faster. What they wrote is seen in a moment.
                Err(Error::Api(status)) if is_overtaken(&change, &status) => {
                    debug!(object = %change.object, "changed meanwhile: {}", status.message);
                    let known = state.get(&change.object);
                    let version = known.and_then(|object| object.metadata().resource_version.clone());
                    written.push((change.object, Written::OtherThan(version)));
                }
                Err(err) => {
                    let why = crate::causes(&request(change.to_string(), err));
                    debug!(object = %change.object, "{why}");
                    self.refusals.refused(change.object, why, Instant::now());
                    refused += 1;
                }
            }
        }
        if refused > 0 {
            error!("{refused} changes failed, each is tried again after a pause: {}", self.refusals);
        }
        Ok(Round { written, is_whole, problems: allocation.problems })
    }

    /// What is refused and why; `None` if nothing is.
    pub(super) fn refused(&self) -> Option<String> {
        (!self.refusals.is_empty()).then(|| self.refusals.to_string())
    }

    /// How long there is nothing to do as long as nothing changes: until a number is free that nobody has taken or a refused
    /// change is to be tried again.
    pub(super) fn rest(&self) -> Duration {
        let seconds = self.reservations.next_end(Timestamp::now().as_second());
        let numbers = seconds.map_or(LONGEST_REST, |seconds| Duration::from_secs(seconds.max(1)));
        let refused = self.refusals.next().map(|at| at.saturating_duration_since(Instant::now()));
        numbers.min(LONGEST_REST).min(refused.unwrap_or(LONGEST_REST))
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

/// Takes no step of `work` after `until`, and then gives back `None`. Who was asleep for so long may no longer lead, and what it
/// wanted to write may belong to somebody else. A timeout would take one more step, which sends the request if a connection
/// has come about meanwhile.
async fn no_later_than<T>(until: Instant, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    poll_fn(
        |context| {
            if Instant::now() > until { Poll::Ready(None) } else { work.as_mut().poll(context).map(Some) }
        },
    )
    .await
}

/// Whether an object is not as it was, so that what was worked out for it does not hold. What can't be created though there is
/// no such object has another reason, as that its kind is unknown.
fn is_overtaken(change: &Change, status: &Status) -> bool {
    match change.action {
        Action::Create(_) => status.code == 409,
        Action::Patch(_) | Action::Delete => matches!(status.code, 404 | 409),
    }
}

/// What a round has done.
pub(super) struct Round {
    /// What was written, and how to tell that it is seen.
    written: Vec<(ObjectRef, Written)>,
    /// There was no more to write than one round may.
    is_whole: bool,
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
    /// Whether there is nothing to do, but for what is refused.
    pub(super) fn is_idle(&self) -> bool {
        self.written.is_empty() && self.is_whole
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

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_slept_too_long_takes_no_further_step() {
        let until = Instant::now() + Duration::from_secs(5);
        let mut sent = 0;
        let mut asked = async |asleep| {
            let (answer, connected) = oneshot::channel();
            let work = no_later_than(until, async {
                let connected = connected.await;
                sent += 1;
                connected
            });
            let wake = async {
                tokio::time::advance(Duration::from_secs(asleep)).await;
                answer.send(()).is_ok()
            };
            tokio::join!(work, wake).0
        };
        assert_eq!(asked(5).await, Some(Ok(())), "there is time until the end");
        assert_eq!(asked(1).await, None, "it has connected, and is too late");
        assert_eq!(asked(0).await, None, "nor does anything begin");
        assert_eq!(sent, 1);
    }
}
