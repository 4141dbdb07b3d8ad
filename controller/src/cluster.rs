//! Where cluster state comes from.
//!
//! [`ClusterState`] is one consistent picture of every object that this system reads. A [`ClusterSource`] delivers such
//! pictures: the first one at once and whole, then another after each change; what is missing from a picture is gone.
//! [`dir`] makes them from a directory of ordinary Kubernetes YAML, and writes to it; [`kube`] has them from an API server.

pub mod dir;
pub mod kube;
mod state;

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;
use tokio::sync::watch;

use self::dir::{DirError, DirSource};
pub use self::kube::Interest;
use self::kube::{KubeError, KubeSource};
pub use self::state::{ClusterState, Held, NamespacedName, Object, ObjectError, Objects, Unreadable};

/// A picture of the cluster, and whether a newer one could not be read.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The last good state.
    pub state: ClusterState,
    /// Why the newest state could not be read; `None` if `state` is the newest.
    pub problem: Option<DirError>,
}

/// The value of `--cluster`: `kube`, or a directory. A directory named `kube` is written `./kube`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterLocation {
    /// A Kubernetes API server.
    Kube,
    /// A directory of Kubernetes YAML.
    Dir(PathBuf),
}

impl FromStr for ClusterLocation {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(if text == "kube" { Self::Kube } else { Self::Dir(PathBuf::from(text)) })
    }
}

impl fmt::Display for ClusterLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kube => f.write_str("kube"),
            Self::Dir(dir) => dir.display().fmt(f),
        }
    }
}

/// Cluster state could not be had. Programs end with exit status 3.
#[derive(Debug, Error)]
pub enum SourceError {
    /// The API server can't be used.
    #[error(transparent)]
    Kube(#[from] KubeError),
    /// The directory could not be read.
    #[error(transparent)]
    Dir(#[from] DirError),
    /// The system refused what a request needs.
    #[error("can't ask the API server")]
    Io(#[from] std::io::Error),
}

/// Delivers pictures of the cluster.
#[derive(Debug)]
pub enum ClusterSource {
    /// From a directory.
    Dir(DirSource),
    /// From an API server.
    Kube(KubeSource),
}

impl ClusterSource {
    /// Opens the source; the first picture is complete when this returns. A directory is read whole, whatever the
    /// interest.
    ///
    /// # Errors
    /// The first picture can't be had. An API server that does not answer is waited for.
    pub async fn open(location: &ClusterLocation, interest: &Interest) -> Result<Self, SourceError> {
        match location {
            ClusterLocation::Kube => {
                Ok(Self::Kube(KubeSource::open(&kube::connect().await?, interest).await))
            }
            ClusterLocation::Dir(dir) => Ok(Self::Dir(DirSource::open(dir)?)),
        }
    }

    /// Reads one picture and watches nothing. Blocks.
    ///
    /// # Errors
    /// The picture can't be had.
    pub fn load(location: &ClusterLocation) -> Result<ClusterState, SourceError> {
        match location {
            ClusterLocation::Kube => {
                let ask = || -> Result<ClusterState, SourceError> {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                    Ok(runtime.block_on(async { kube::load(&kube::connect().await?).await })?)
                };
                // On a thread of its own, as the caller may be within a runtime, which can't hold another.
                let result = std::thread::scope(|scope| scope.spawn(ask).join());
                result.unwrap_or_else(|_| Err(std::io::Error::other("the question was given up").into()))
            }
            ClusterLocation::Dir(dir) => Ok(dir::load(dir)?),
        }
    }

    /// The newest picture now and after each change. The channel closes when the source is dropped.
    pub fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        match self {
            Self::Dir(source) => source.watch(),
            Self::Kube(source) => source.watch(),
        }
    }
}
