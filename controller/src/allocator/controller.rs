//! [`Controller`]: runs the allocator against a cluster.

use std::future::Future;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::watch;
use tokio::task::{JoinError, spawn_blocking};
use tracing::{debug, error, info, warn};

use super::allocate;
use super::plan::{Action, Allocation, Problem};
use crate::cluster::dir::{DirLock, DirWriter, WriteError};
use crate::cluster::{ClusterLocation, ClusterSource, SourceError};

/// The first wait after a failure to write; doubled by each further one.
const FIRST_RETRY: Duration = Duration::from_millis(100);

/// The longest wait after a failure to write.
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// A state that doesn't settle within this many rounds is changed by somebody else at the same time.
const MOST_ROUNDS: usize = 20;

/// The cluster controller of one cluster.
#[derive(Debug)]
pub struct Controller {
    source: ClusterSource,
    writer: DirWriter,
}

/// The controller could not do its work.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ControllerError {
    /// Cluster state can't be had.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Cluster state can't be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The source has ended.
    #[error("the cluster is no longer watched: start the controller again")]
    SourceEnded,
    /// Somebody else changes the cluster all the time.
    #[error(
        "the cluster changed {MOST_ROUNDS} times while it was allocated: stop what changes it, or run without --once"
    )]
    Unsettled,
    /// A round was interrupted.
    #[error("a round of allocation was interrupted")]
    Interrupted(#[from] JoinError),
}

impl Controller {
    /// Opens the cluster.
    ///
    /// # Errors
    /// Cluster state can't be had.
    pub fn open(location: &ClusterLocation) -> Result<Self, ControllerError> {
        let source = ClusterSource::open(location)?;
        match location {
            ClusterLocation::Dir(dir) => Ok(Self { source, writer: DirWriter::new(dir) }),
            ClusterLocation::Kube => Err(SourceError::KubeUnsupported.into()),
        }
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
        loop {
            let snapshot = snapshots.borrow_and_update().clone();
            if snapshot.problem.is_none() {
                let allocation = allocate(&snapshot.state);
                if allocation.changes.is_empty() {
                    // Only now: a problem may solve itself as deletions make room.
                    report(&mut known, allocation.problems);
                } else if let Err(err) = self.round().await {
                    error!("nothing allocated, next try in {retry:?}: {}", chain(&err));
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
        let writer = self.writer.clone();
        spawn_blocking(move || {
            let mut lock = writer.lock()?;
            let allocation = allocate(lock.state().map_err(|err| SourceError::Dir(err.clone()))?);
            for change in &allocation.changes {
                write(&mut lock, change)?;
                info!(object = %change.object, "{change}");
            }
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

/// Logs problems that are new and problems that are gone.
fn report(known: &mut Vec<Problem>, problems: Vec<Problem>) {
    for problem in problems.iter().filter(|problem| !known.contains(problem)) {
        warn!(object = %problem.object(), "{problem}");
    }
    for problem in known.iter().filter(|problem| !problems.contains(problem)) {
        info!(object = %problem.object(), "solved: {problem}");
    }
    if problems.is_empty() {
        debug!("nothing left to allocate");
    }
    *known = problems;
}

/// An error and its causes.
fn chain(err: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(err.source(), |cause| cause.source());
    causes.fold(err.to_string(), |text, cause| {
        let cause = cause.to_string();
        if text.contains(&cause) { text } else { format!("{text}: {cause}") }
    })
}
