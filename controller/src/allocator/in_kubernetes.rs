//! [`InKubernetes`]: the controller of a cluster that an API server holds.
//!
//! Of several replicas one is elected by a Lease; the others do nothing but wait. The Lease makes overlap rare, not
//! impossible: a controller that was asleep may wake after another was elected. So what is handed out does not rest on it
//! but on [`Reservations`], kept in a ConfigMap. Whoever begins to allocate first takes that object over, and only then lists
//! the cluster: every number that a predecessor wrote is seen in the list, and every one that it may still write is noted
//! in the object.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::events::EventType;
use kube::{Client, Error};
use kube_lease_manager::{LeaseCreateMode, LeaseManager, LeaseManagerBuilder};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tracing::{debug, error, info, warn};

use super::Allocator;
use super::controller::{ControllerError, MOST_ROUNDS, report};
use super::plan::{Action, Change, Notice, Problem};
use super::reservations::Reservations;
use super::status::Vitals;
use super::usage::Usage;
use crate::api::ObjectRef;
use crate::cluster::kube::events::Events;
use crate::cluster::kube::{self as cluster, Interest, KubeSource};
use crate::cluster::{ClusterState, Snapshot};

/// Name of the Lease and of the ConfigMap with the reservations.
const LEASE: &str = "sdn-controller";
const RESERVATIONS: &str = "sdn-controller-reservations";

/// Key of the ConfigMap.
const KEY: &str = "reservations.json";

/// Who writes, for the API server's records.
const MANAGER: &str = "sdn-controller";

/// Changes made in one round. Their reservations must fit an object (1 MiB in etcd).
const BATCH: usize = 1000;

/// Requests under way at the same time.
const IN_PARALLEL: usize = 32;

/// How long a round waits to see what it has written.
const SEEN: Duration = Duration::from_secs(5);

/// Pauses after a failure: the first, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// How long a leader rests at most when nothing changes.
const LONGEST_REST: Duration = Duration::from_secs(3600);

/// Pause between attempts to join the election.
const JOIN: Duration = Duration::from_secs(1);

/// Annotation of the ConfigMap: who wrote it last, for people.
const HOLDER: &str = "network.openshift.io/holder";

/// How the leader is elected.
#[derive(Clone, Debug)]
pub struct Election {
    /// Namespace of the Lease, and of the ConfigMap with the reservations.
    pub namespace: String,
    /// Who takes part; no two may have one name.
    pub identity: String,
    /// Seconds after which another may lead when the leader is not heard of.
    pub lease_seconds: u32,
}

/// Allocates through an API server.
pub struct InKubernetes {
    client: Client,
    election: Election,
    vitals: Vitals,
}

/// What a leader knows beyond the cluster's state.
struct Term<'a> {
    client: &'a Client,
    vitals: &'a Vitals,
    events: Events,
    allocator: Allocator,
    config_maps: Api<ConfigMap>,
    /// The reservations as they stand in the ConfigMap, but those that have ended since it was written; and its version.
    reservations: Reservations,
    version: Option<String>,
    identity: &'a str,
    /// How long after the numbers were noted they may be written.
    fresh: Duration,
}

impl InKubernetes {
    /// A controller that takes part in an election.
    pub fn new(client: Client, election: Election, vitals: Vitals) -> Self {
        Self { client, election, vitals }
    }

    /// Allocates until nothing is left to do, elected or not, and returns what stands in the way of the rest.
    ///
    /// # Errors
    /// The API server refuses, or the cluster doesn't settle.
    pub async fn once(&self) -> Result<Vec<Problem>, ControllerError> {
        let mut term = self.term().await?;
        let source = KubeSource::open(&self.client, &Interest::Controller).await;
        let mut snapshots = source.watch();
        for _ in 0..MOST_ROUNDS {
            let snapshot = snapshots.borrow_and_update().clone();
            let round = term.round(&snapshot.state).await?;
            if round.is_idle() {
                return Ok(round.problems);
            }
            round.wait_until_seen(&mut snapshots).await?;
        }
        Err(ControllerError::Unsettled)
    }

    /// Takes part in the election, and allocates while it leads, until `stop` is done.
    ///
    /// # Errors
    /// The election can't be held; all other failures are logged and overcome.
    pub async fn run(&self, stop: impl Future<Output = ()>) -> Result<(), ControllerError> {
        tokio::pin!(stop);
        let candidate = tokio::select! {
            () = &mut stop => return Ok(()),
            candidate = self.candidate() => candidate,
        };
        let (mut leads, election) = candidate.watch().await;
        self.vitals.takes_part();
        info!(identity = %self.election.identity, "waiting to be elected");
        let work = async {
            loop {
                if !*leads.borrow_and_update() {
                    leads.changed().await.map_err(|_| ControllerError::SourceEnded)?;
                    continue;
                }
                info!("elected");
                self.vitals.leads(true);
                tokio::select! {
                    // Dropping the work is safe at every await: each write is atomic, and numbers are noted before.
                    changed = leads.changed() => changed.map_err(|_| ControllerError::SourceEnded)?,
                    () = self.lead() => {}
                }
                self.vitals.leads(false);
                info!("no longer the leader");
            }
        };
        let result = tokio::select! {
            () = &mut stop => Ok(()),
            result = work => result,
            never = self.keep_the_lease() => match never {},
        };
        // Without a receiver the election ends and gives the Lease back, so that the next one need not wait for its end.
        drop(leads);
        let _ = tokio::time::timeout(SEEN, election).await;
        result
    }

    /// Makes the Lease again when somebody has deleted it: without, nobody could be elected any more.
    async fn keep_the_lease(&self) -> std::convert::Infallible {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), &self.election.namespace);
        let lease = Lease {
            metadata: ObjectMeta { name: Some(LEASE.to_owned()), ..ObjectMeta::default() },
            ..Lease::default()
        };
        loop {
            tokio::time::sleep(Duration::from_secs(self.election.lease_seconds.into())).await;
            // Failures are the election's to report; here the next look is the next try.
            if let Ok(None) = leases.get_opt(LEASE).await {
                match leases.create(&PostParams::default(), &lease).await {
                    Ok(_) => warn!("the Lease {LEASE} was deleted, and is there again"),
                    Err(err) => debug!("the Lease {LEASE} is gone: {}", crate::causes(&err)),
                }
            }
        }
    }

    /// Joins the election, which makes the Lease if there is none. Tries until it succeeds.
    async fn candidate(&self) -> LeaseManager {
        loop {
            let builder = LeaseManagerBuilder::new(self.client.clone(), LEASE)
                .with_namespace(&self.election.namespace)
                .with_create_mode(LeaseCreateMode::AutoCreate)
                .with_identity(&self.election.identity)
                .with_duration(self.election.lease_seconds.into())
                .with_grace((self.election.lease_seconds / 3).max(1).into());
            match builder.build().await {
                Ok(candidate) => return candidate,
                Err(err) => {
                    warn!("can't take part in the election, next try in {JOIN:?}: {}", crate::causes(&err));
                }
            }
            tokio::time::sleep(JOIN).await;
        }
    }

    /// Allocates after every change, without end.
    async fn lead(&self) {
        let mut pause = Pause::default();
        let mut known = Vec::new();
        loop {
            let began = Instant::now();
            let Err(err) = self.follow(&mut known).await;
            // Two that overtake each other again and again must not do so as fast as they can.
            if began.elapsed() > RETRY.1 {
                pause = Pause::default();
            }
            self.failed(&err, &mut pause).await;
        }
    }

    /// Says what has failed, and waits before the next try.
    async fn failed(&self, err: &ControllerError, pause: &mut Pause) {
        let (why, pause) = (crate::causes(err), pause.next());
        error!("next try in {pause:?}: {why}");
        self.vitals.round_failed(why);
        tokio::time::sleep(pause).await;
    }

    /// Allocates after every change until it can't go on with what it has.
    async fn follow(&self, known: &mut Vec<Problem>) -> Result<std::convert::Infallible, ControllerError> {
        let mut term = self.term().await?;
        let mut pause = Pause::default();
        let source = KubeSource::open(&self.client, &Interest::Controller).await;
        let mut snapshots = source.watch();
        loop {
            let snapshot = snapshots.borrow_and_update().clone();
            let began = Instant::now();
            let round = match term.round(&snapshot.state).await {
                // The reservations are still this controller's, and so is the picture: no reason to ask for all of it again.
                Err(err @ ControllerError::Request { .. }) => {
                    tokio::select! {
                        biased;
                        () = self.failed(&err, &mut pause) => {}
                        // The others need not wait because one object is refused.
                        changed = snapshots.changed() => {
                            changed.map_err(|_| ControllerError::SourceEnded)?;
                            tokio::time::sleep(RETRY.0).await;
                        }
                    }
                    continue;
                }
                round => round?,
            };
            pause = Pause::default();
            let settled = round.is_idle().then_some(round.problems.as_slice());
            let usage = Usage::of(&snapshot.state, &term.reservations);
            self.vitals.round_done(began.elapsed(), usage, settled);
            if round.is_idle() {
                // Only now: a problem may solve itself as deletions make room.
                let (term, state) = (&term, &snapshot.state);
                stream::iter(report(known, round.problems))
                    .for_each_concurrent(IN_PARALLEL, |problem| async move {
                        let about = about(state, &problem.object());
                        let note = problem.to_string();
                        term.events.publish(&about, EventType::Warning, problem.reason(), &note).await;
                    })
                    .await;
                // A number that rests becomes free without anything else happening.
                let rests = reservations_end(&term.reservations);
                match timeout_at(Instant::now() + rests, snapshots.changed()).await {
                    Ok(changed) => changed.map_err(|_| ControllerError::SourceEnded)?,
                    Err(_) => debug!("numbers that rested are free"),
                }
            } else {
                round.wait_until_seen(&mut snapshots).await?;
            }
        }
    }

    /// Takes the reservations over: whoever allocated before can note nothing more.
    async fn term(&self) -> Result<Term<'_>, ControllerError> {
        let config_maps = Api::namespaced(self.client.clone(), &self.election.namespace);
        let found: Option<ConfigMap> =
            config_maps.get_opt(RESERVATIONS).await.map_err(|err| request("read the reservations", err))?;
        let text = found.as_ref().and_then(|found| found.data.as_ref()?.get(KEY));
        let reservations = text.map(|text| serde_json::from_str(text)).transpose().map_err(|err| {
            request(format!("read ConfigMap {RESERVATIONS}: repair or delete it"), Error::SerdeError(err))
        })?;
        let mut term = Term {
            client: &self.client,
            vitals: &self.vitals,
            events: Events::new(self.client.clone(), MANAGER, &self.election.identity, "Allocate"),
            allocator: Allocator::default(),
            config_maps,
            reservations: Reservations::default(),
            version: found.and_then(|found| found.metadata.resource_version),
            identity: &self.election.identity,
            fresh: Duration::from_secs(self.election.lease_seconds.into()),
        };
        term.write(reservations.unwrap_or_default()).await?;
        Ok(term)
    }
}

impl Term<'_> {
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
    async fn round(&mut self, state: &ClusterState) -> Result<Round, ControllerError> {
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
fn reservations_end(reservations: &Reservations) -> Duration {
    let seconds = reservations.next_end(Timestamp::now().as_second());
    seconds.map_or(LONGEST_REST, |seconds| Duration::from_secs(seconds.max(1)))
}

/// Pauses after failures in a row, each twice as long as the one before.
#[derive(Default)]
struct Pause(u32);

impl Pause {
    fn next(&mut self) -> Duration {
        let pause = RETRY.0.saturating_mul(1 << self.0.min(16)).min(RETRY.1);
        self.0 += 1;
        pause
    }
}

/// What a round has done.
struct Round {
    /// What was written, and how to tell that it is seen.
    written: Vec<(ObjectRef, Written)>,
    problems: Vec<Problem>,
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
    fn is_idle(&self) -> bool {
        self.written.is_empty()
    }

    /// Waits until the state shows what was written, but not for ever: the next round sees what is.
    async fn wait_until_seen(
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
fn about(state: &ClusterState, object: &ObjectRef) -> ObjectReference {
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
