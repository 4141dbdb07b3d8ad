//! [`InKubernetes`]: the controller of a cluster that an API server holds.
//!
//! Of several replicas one is elected by a Lease; the others do nothing but wait. The Lease makes overlap rare, not
//! impossible: a controller that was asleep may wake after another was elected. So what is handed out does not rest on it
//! but on [`Reservations`], kept in a ConfigMap. Whoever begins to allocate first takes that object over, and only then lists
//! the cluster: every number that a predecessor wrote is seen in the list, and every one that it may still write is noted
//! in the object.

mod refusals;
mod term;

use std::future::Future;
use std::ops::Range;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::api::{Api, PostParams};
use kube::runtime::events::EventType;
use kube_lease_manager::{LeaseCreateMode, LeaseManager, LeaseManagerBuilder};
use tokio::time::{Instant, timeout_at};
use tracing::{debug, error, info, warn};

use self::term::{IN_PARALLEL, SEEN, Term, about};
use super::controller::{ControllerError, MOST_ROUNDS, report};
use super::plan::Problem;
use super::status::Vitals;
use super::usage::Usage;
use crate::cluster::kube::{Interest, KubeSource};

/// Name of the Lease.
const LEASE: &str = "sdn-controller";

/// Pauses after a failure: the first, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// Pause between attempts to join the election.
const JOIN: Duration = Duration::from_secs(1);

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

impl InKubernetes {
    /// A controller that takes part in an election.
    pub fn new(client: Client, election: Election, vitals: Vitals) -> Self {
        Self { client, election, vitals }
    }

    /// Allocates until nothing is left to do, elected or not, and returns what stands in the way of the rest.
    ///
    /// # Errors
    /// The API server refuses something, and all else is done; or the cluster doesn't settle.
    pub async fn once(&self) -> Result<Vec<Problem>, ControllerError> {
        let mut rounds = 0..MOST_ROUNDS;
        loop {
            match self.settle(&mut rounds).await {
                Err(err @ ControllerError::Stale { .. }) => warn!("{err}"),
                result => return result,
            }
        }
    }

    /// Allocates until nothing is left to do, in no more rounds than these.
    async fn settle(&self, rounds: &mut Range<usize>) -> Result<Vec<Problem>, ControllerError> {
        let mut term = Term::begin(self).await?;
        let source = KubeSource::open(&self.client, &Interest::Controller).await;
        let mut snapshots = source.watch();
        for _ in rounds {
            let snapshot = snapshots.borrow_and_update().clone();
            let round = term.round(&snapshot.state).await?;
            if round.is_idle() {
                return term.refused().map_or(Ok(round.problems), |text| Err(ControllerError::Refused(text)));
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
            self.stand_back().await;
        }
    }

    /// Waits as long as another holds the Lease. Who was asleep may not know yet that it no longer leads, and would take the
    /// reservations from who does.
    async fn stand_back(&self) {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), &self.election.namespace);
        // A Lease that can't be read says nothing: the reservations are safe without it.
        while let Ok(Some(lease)) = leases.get_opt(LEASE).await
            && let Some(holder) = lease.spec.and_then(|spec| spec.holder_identity)
            && holder != self.election.identity
        {
            debug!("{holder} leads");
            tokio::time::sleep(JOIN).await;
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
        let mut term = Term::begin(self).await?;
        let mut pause = Pause::default();
        let source = KubeSource::open(&self.client, &Interest::Controller).await;
        let mut snapshots = source.watch();
        loop {
            let snapshot = snapshots.borrow_and_update().clone();
            let began = Instant::now();
            let round = match term.round(&snapshot.state).await {
                // The reservations are still this controller's, and so is the picture: no reason to ask for all of it again.
                Err(err @ ControllerError::Request { .. }) => {
                    self.failed(&err, &mut pause).await;
                    continue;
                }
                round => round?,
            };
            pause = Pause::default();
            let settled = round.is_idle().then_some(round.problems.as_slice());
            let usage = Usage::of(&snapshot.state, &term.reservations);
            self.vitals.round_done(began.elapsed(), usage, settled, term.refused());
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
                // A number that rests becomes free, and what was refused is tried again, without anything else happening.
                match timeout_at(Instant::now() + term.rest(), snapshots.changed()).await {
                    Ok(changed) => changed.map_err(|_| ControllerError::SourceEnded)?,
                    Err(_) => debug!("time to look again"),
                }
            } else {
                round.wait_until_seen(&mut snapshots).await?;
            }
        }
    }
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
