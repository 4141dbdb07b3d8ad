//! [`InDirectory`]: the controller of a cluster that is a directory of YAML.

use std::future::Future;
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tracing::{error, info};

use super::allocate;
use super::controller::{ControllerError, MOST_ROUNDS, report};
use super::plan::{Action, Allocation, Problem};
use super::reservations::Reservations;
use super::status::Vitals;
use super::usage::Usage;
use crate::cluster::SourceError;
use crate::cluster::dir::{DirLock, DirSource, DirWriter, WriteError};

/// The first wait after a failure to write; doubled by each further one.
const FIRST_RETRY: Duration = Duration::from_millis(100);

/// The longest wait after a failure to write.
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// Allocates in a directory.
#[derive(Debug)]
pub struct InDirectory {
    source: DirSource,
    writer: DirWriter,
    vitals: Vitals,
}

impl InDirectory {
    /// Opens the cluster.
    ///
    /// # Errors
    /// Cluster state can't be had.
    pub fn open(dir: &Path, vitals: Vitals) -> Result<Self, ControllerError> {
        let source = DirSource::open(dir).map_err(SourceError::from)?;
        Ok(Self { source, writer: DirWriter::new(dir), vitals })
    }

    /// Allocates until nothing is left to do, and returns what stands in the way of the rest.
    ///
    /// # Errors
    /// The cluster can't be read or written, or doesn't settle.
    pub async fn once(&self) -> Result<Vec<Problem>, ControllerError> {
        for _ in 0..MOST_ROUNDS {
            let allocation = self.round().await?;
            if allocation.changes.is_empty() {
                return Ok(allocation.problems);
            }
        }
        Err(ControllerError::Unsettled)
    }

    /// Allocates after every change of the cluster, until `stop` is done.
    ///
    /// A document that can't be read stops all changes until it is mended; a failure to write is tried again.
    ///
    /// # Errors
    /// [`ControllerError::SourceEnded`]; all other failures are logged and overcome.
    pub async fn run(&self, stop: impl Future<Output = ()>) -> Result<(), ControllerError> {
        tokio::select! {
            // Dropping the work between two writes is safe: each is atomic, and the next start looks at what is there.
            () = stop => Ok(()),
            result = self.run_forever() => result,
        }
    }

    async fn run_forever(&self) -> Result<(), ControllerError> {
        let mut snapshots = self.source.watch();
        let mut known = Vec::new();
        let mut retry = FIRST_RETRY;
        // Others that work in the directory are kept away by a lock, change by change.
        self.vitals.takes_part();
        self.vitals.leads(true);
        loop {
            let snapshot = snapshots.borrow_and_update().clone();
            if snapshot.problem.is_none() {
                let began = Instant::now();
                let allocation = allocate(&snapshot.state);
                if allocation.changes.is_empty() {
                    // Only now: a problem may solve itself as deletions make room.
                    let usage = Usage::of(&snapshot.state, &Reservations::default());
                    self.vitals.round_done(began.elapsed(), usage, Some(&allocation.problems), None);
                    report(&mut known, allocation.problems);
                } else if let Err(err) = self.round().await {
                    let why = crate::causes(&err);
                    error!("nothing allocated, next try in {retry:?}: {why}");
                    self.vitals.round_failed(why);
                    // Cancel-safe: a change that is seen meanwhile stays marked as seen, and is looked at right after.
                    wait(&mut snapshots, retry).await?;
                    retry = (retry * 2).min(LONGEST_RETRY);
                    continue;
                }
            }
            retry = FIRST_RETRY;
            snapshots.changed().await.map_err(|_| ControllerError::SourceEnded)?;
        }
    }

    /// Locks the cluster, allocates from what it is now, and writes the changes.
    async fn round(&self) -> Result<Allocation, ControllerError> {
        let (writer, vitals) = (self.writer.clone(), self.vitals.clone());
        let began = Instant::now();
        spawn_blocking(move || {
            let mut lock = writer.lock()?;
            let state = lock.state().map_err(|err| SourceError::Dir(err.clone()))?;
            let (allocation, usage) = (allocate(state), Usage::of(state, &Reservations::default()));
            for change in &allocation.changes {
                write(&mut lock, change)?;
                info!(object = %change.object, "{change}");
                vitals.changed(change);
            }
            vitals.round_done(began.elapsed(), usage, None, None);
            Ok(allocation)
        })
        .await?
    }
}

fn write(lock: &mut DirLock, change: &super::Change) -> Result<(), WriteError> {
    match &change.action {
        Action::Create(object) => lock.create(object),
        Action::Patch(patch) => lock.merge_patch(&change.object, patch).map(drop),
        Action::Delete => lock.delete(&change.object),
    }
}

/// Waits for the next try: until the cluster changes, but no longer than `limit`.
async fn wait(
    snapshots: &mut watch::Receiver<std::sync::Arc<crate::cluster::Snapshot>>,
    limit: Duration,
) -> Result<(), ControllerError> {
    match tokio::time::timeout(limit, snapshots.changed()).await {
        Ok(Err(_)) => Err(ControllerError::SourceEnded),
        Ok(Ok(())) | Err(_) => Ok(()),
    }
}
