//! [`Controller`]: runs the allocator against a cluster.

use std::future::Future;
use std::time::Duration;

use thiserror::Error;
use tokio::task::JoinError;
use tracing::{debug, info, warn};

use super::in_directory::InDirectory;
use super::in_kubernetes::{Election, InKubernetes};
use super::plan::Problem;
use super::status::Vitals;
use crate::cluster::dir::WriteError;
use crate::cluster::kube::{self, KubeError};
use crate::cluster::{ClusterLocation, SourceError};

/// A state that doesn't settle within this many rounds is changed by somebody else at the same time.
pub(super) const MOST_ROUNDS: usize = 20;

/// The cluster controller of one cluster.
pub enum Controller {
    /// Of a directory.
    Dir(InDirectory),
    /// Of an API server.
    Kube(InKubernetes),
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
    /// The API server refused a request, or did not answer.
    #[error("can't {action}")]
    Request {
        /// What was asked for.
        action: String,
        /// What came instead.
        source: Box<::kube::Error>,
    },
    /// Another controller has begun to allocate.
    #[error("another controller allocates in this cluster")]
    Overtaken,
    /// What was still to be written is out of date.
    #[error(
        "a round took longer than {limit:?}, and another controller may allocate: what it had not written yet is worked out again"
    )]
    Stale {
        /// How long a round may take.
        limit: Duration,
    },
    /// The API server refuses changes; all others are made.
    #[error("not everything is allocated: {0}")]
    Refused(String),
    /// The numbers on their way into objects can't be read.
    #[error(
        "key {key} of ConfigMap {name} is damaged, and nothing is allocated until it is mended; it may be deleted five minutes \
         after the last controller that allocated"
    )]
    Reservations {
        /// The ConfigMap.
        name: &'static str,
        /// Its key.
        key: &'static str,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The election can't be held.
    #[error("can't take part in the election of the leader")]
    Election(#[source] Box<dyn std::error::Error + Send + Sync>),
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

impl From<KubeError> for ControllerError {
    fn from(error: KubeError) -> Self {
        Self::Source(error.into())
    }
}

impl Controller {
    /// Opens the cluster. A directory knows no election: its writers exclude each other by a lock.
    ///
    /// # Errors
    /// Cluster state can't be had.
    pub async fn open(
        location: &ClusterLocation,
        election: Election,
        vitals: Vitals,
    ) -> Result<Self, ControllerError> {
        match location {
            ClusterLocation::Dir(dir) => Ok(Self::Dir(InDirectory::open(dir, vitals)?)),
            ClusterLocation::Kube => {
                Ok(Self::Kube(InKubernetes::new(kube::connect().await?, election, vitals)))
            }
        }
    }

    /// Allocates until nothing is left to do, and returns what stands in the way of the rest.
    ///
    /// # Errors
    /// The cluster can't be read or written, or doesn't settle.
    pub async fn once(&self) -> Result<Vec<Problem>, ControllerError> {
        match self {
            Self::Dir(controller) => controller.once().await,
            Self::Kube(controller) => controller.once().await,
        }
    }

    /// Allocates after every change of the cluster, until `stop` is done.
    ///
    /// A document that can't be read stops all changes until it is mended; a failure to write is tried again.
    ///
    /// # Errors
    /// [`ControllerError::SourceEnded`]; all other failures are logged and overcome.
    pub async fn run(&self, stop: impl Future<Output = ()>) -> Result<(), ControllerError> {
        match self {
            Self::Dir(controller) => controller.run(stop).await,
            Self::Kube(controller) => controller.run(stop).await,
        }
    }
}

/// Logs problems that are new and problems that are gone; returns the new ones.
pub(super) fn report(known: &mut Vec<Problem>, problems: Vec<Problem>) -> Vec<Problem> {
    let news: Vec<_> = problems.iter().filter(|problem| !known.contains(problem)).cloned().collect();
    for problem in &news {
        warn!(object = %problem.object(), "{problem}");
    }
    for problem in known.iter().filter(|problem| !problems.contains(problem)) {
        info!(object = %problem.object(), "solved: {problem}");
    }
    if problems.is_empty() {
        debug!("nothing left to allocate");
    }
    *known = problems;
    news
}
