//! [`DirSource`]: a directory, watched.

use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::error::{DirError, Problem};
use super::read::{Contents, Files, is_member};
use crate::cluster::{ClusterState, Objects, Snapshot};

/// A burst of changes counts as one when it pauses for this long.
const QUIET: Duration = Duration::from_millis(20);

/// A burst that doesn't pause is read after this long all the same.
const LONGEST_BURST: Duration = Duration::from_millis(250);

/// How often a directory is looked for whose parent has vanished too. Only then is anything polled.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Cluster state from a directory, kept up to date while this lives.
///
/// Reading and watching happen on a thread of their own, which sleeps until the kernel reports a change.
#[derive(Debug)]
pub struct DirSource {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    wake: mpsc::Sender<Wake>,
}

/// Why the thread wakes.
enum Wake {
    /// Something in or about the directory has changed.
    Changed,
    /// The source was dropped.
    Stop,
}

impl DirSource {
    /// Reads the directory and begins to watch it.
    ///
    /// # Errors
    /// Every problem of every file, or that the directory can't be watched.
    pub fn open(dir: &Path) -> Result<Self, DirError> {
        // Watched before it is read, so that no change falls in between.
        let (wake, woken) = mpsc::channel();
        let watched = Watched::new(dir, wake.clone()).map_err(|err| watch_error(dir, &err))?;
        let Contents { files, result, .. } = Contents::read(dir, &Files::new());
        let state = result?;
        let (sender, snapshots) = watch::channel(Arc::new(Snapshot { state, problem: None }));
        let reader = Reader { dir: dir.to_owned(), files, watched, sender };
        thread::Builder::new()
            .name("cluster-dir".to_owned())
            .spawn(move || reader.run(&woken))
            .map_err(|err| watch_error(dir, &err))?;
        Ok(Self { snapshots, wake })
    }

    /// The newest snapshot now and after each change. The channel closes when the source is dropped.
    pub fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.clone()
    }
}

impl Drop for DirSource {
    fn drop(&mut self) {
        // Fails only if the thread has ended already.
        let _ = self.wake.send(Wake::Stop);
    }
}

fn watch_error(dir: &Path, err: &dyn std::error::Error) -> DirError {
    let reason = format!("can't be watched for changes: {err}");
    DirError { dir: dir.to_owned(), problems: vec![Problem { reason, ..Problem::default() }] }
}

/// What the thread works on.
struct Reader {
    dir: PathBuf,
    files: Files,
    watched: Watched,
    sender: watch::Sender<Arc<Snapshot>>,
}

impl Reader {
    fn run(mut self, woken: &mpsc::Receiver<Wake>) {
        while self.wait(woken) {
            self.watched.renew();
            let contents = Contents::read(&self.dir, &self.files);
            self.files = contents.files;
            self.publish(contents.result);
        }
    }

    /// Waits for a change and for the end of its burst; false when the source is gone.
    fn wait(&self, woken: &mpsc::Receiver<Wake>) -> bool {
        let first = if self.watched.is_blind() {
            match woken.recv_timeout(LOOK_AGAIN) {
                Err(mpsc::RecvTimeoutError::Timeout) => return true,
                other => other.ok(),
            }
        } else {
            woken.recv().ok()
        };
        if !matches!(first, Some(Wake::Changed)) {
            return false;
        }
        let deadline = Instant::now() + LONGEST_BURST;
        loop {
            let left = deadline.saturating_duration_since(Instant::now()).min(QUIET);
            match woken.recv_timeout(left) {
                Ok(Wake::Changed) if !left.is_zero() => {}
                Ok(Wake::Changed) | Err(mpsc::RecvTimeoutError::Timeout) => return true,
                Ok(Wake::Stop) | Err(mpsc::RecvTimeoutError::Disconnected) => return false,
            }
        }
    }

    /// Passes on what is new.
    fn publish(&self, result: Result<ClusterState, DirError>) {
        self.sender.send_if_modified(|current| {
            let next = match result {
                Ok(state) => Snapshot { state: reuse(state, &current.state), problem: None },
                Err(problem) => Snapshot { state: current.state.clone(), problem: Some(problem) },
            };
            if next.problem == current.problem && next.state == current.state {
                return false;
            }
            match (&next.problem, &current.problem) {
                (Some(problem), _) => warn!("the last good state stays in force: {problem}"),
                (None, Some(_)) => info!(dir = %self.dir.display(), "the directory is good again"),
                (None, None) => debug!(dir = %self.dir.display(), "the directory has changed"),
            }
            *current = Arc::new(next);
            true
        });
    }
}

/// The new state, with the old one's `Arc` for every object that is the same.
fn reuse(mut new: ClusterState, old: &ClusterState) -> ClusterState {
    fn keep<K: Clone + Ord, T: PartialEq>(new: &mut Objects<K, T>, old: &Objects<K, T>) {
        if new == old {
            new.clone_from(old);
            return;
        }
        for (key, object) in new.iter_mut() {
            if let Some(same) = old.get(key).filter(|same| *same == object) {
                *object = Arc::clone(same);
            }
        }
    }

    if new.cluster_network == old.cluster_network {
        new.cluster_network.clone_from(&old.cluster_network);
    }
    keep(&mut new.host_subnets, &old.host_subnets);
    keep(&mut new.net_namespaces, &old.net_namespaces);
    keep(&mut new.namespaces, &old.namespaces);
    keep(&mut new.nodes, &old.nodes);
    keep(&mut new.pods, &old.pods);
    keep(&mut new.services, &old.services);
    keep(&mut new.endpoint_slices, &old.endpoint_slices);
    keep(&mut new.network_policies, &old.network_policies);
    keep(&mut new.egress_network_policies, &old.egress_network_policies);
    new
}

/// The kernel's watches on the directory and on its parent, which tells when the directory vanishes and comes back.
struct Watched {
    watcher: RecommendedWatcher,
    /// Each path with the device and inode that is watched under it; `None` while there is nothing to watch.
    paths: Vec<(PathBuf, Option<(u64, u64)>)>,
}

impl Watched {
    fn new(dir: &Path, wake: mpsc::Sender<Wake>) -> notify::Result<Self> {
        let dir = std::path::absolute(dir)?;
        let paths: Vec<_> =
            dir.parent().into_iter().chain([dir.as_path()]).map(|path| (path.to_owned(), None)).collect();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let relevant = event.as_ref().map_or(true, |event| matters(event, &dir));
            if relevant {
                // Fails only when the thread has ended; then nobody is left to tell.
                let _ = wake.send(Wake::Changed);
            }
        })?;
        let mut watched = Self { watcher, paths };
        watched.renew();
        Ok(watched)
    }

    /// Watches what the paths name now, if that isn't watched already.
    fn renew(&mut self) {
        for (path, watched) in &mut self.paths {
            let found = identity(path);
            if *watched == found {
                continue;
            }
            // Fails if the kernel dropped the watch together with the directory.
            let _ = self.watcher.unwatch(path);
            *watched = found.filter(|_| match self.watcher.watch(path, RecursiveMode::NonRecursive) {
                Ok(()) => true,
                Err(err) => {
                    warn!(path = %path.display(), "can't be watched for changes: {err}");
                    false
                }
            });
        }
    }

    /// Whether the kernel wouldn't report that the directory comes back.
    fn is_blind(&self) -> bool {
        self.paths.iter().all(|(_, watched)| watched.is_none())
    }
}

/// Device and inode of a directory.
fn identity(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;

    std::fs::metadata(path).ok().filter(std::fs::Metadata::is_dir).map(|meta| (meta.dev(), meta.ino()))
}

/// Whether an event can change what the directory says.
fn matters(event: &notify::Event, dir: &Path) -> bool {
    let is_change = match event.kind {
        // Not Modify(Data): a file being written is read when its writer closes it, not half-way.
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) | EventKind::Modify(ModifyKind::Data(_)) => false,
        _ => true,
    };
    let is_ours = |path: &PathBuf| {
        if path.parent() != Some(dir) {
            // The directory itself, or its parent.
            return dir.starts_with(path);
        }
        let name = path.strip_prefix(dir).unwrap_or(path);
        // `..data` is the link that a mounted ConfigMap swaps.
        is_member(name) || name.as_os_str().as_encoded_bytes().starts_with(b"..")
    };
    is_change && (event.need_rescan() || event.paths.is_empty() || event.paths.iter().any(is_ours))
}

#[cfg(test)]
mod tests {
    use super::*;
    use notify::event::{CreateKind, DataChange, MetadataKind, RemoveKind, RenameMode};

    #[test]
    fn reading_and_half_written_files_wake_nobody() {
        let dir = Path::new("/c/d");
        for (kind, path, expected) in [
            (EventKind::Access(AccessKind::Open(AccessMode::Any)), "/c/d/a.yaml", false),
            (EventKind::Modify(ModifyKind::Data(DataChange::Any)), "/c/d/a.yaml", false),
            (EventKind::Access(AccessKind::Close(AccessMode::Write)), "/c/d/a.yaml", true),
            (EventKind::Access(AccessKind::Close(AccessMode::Write)), "/c/d/.a.yaml.tmp", false),
            (EventKind::Create(CreateKind::File), "/c/d/a.yaml", true),
            (EventKind::Create(CreateKind::File), "/c/d/a.txt", false),
            (EventKind::Modify(ModifyKind::Name(RenameMode::To)), "/c/d/..data", true),
            (EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any)), "/c/d/a.json", true),
            (EventKind::Remove(RemoveKind::Folder), "/c/d", true),
            (EventKind::Remove(RemoveKind::Folder), "/c", true),
            (EventKind::Create(CreateKind::File), "/c/other.yaml", false),
        ] {
            assert_eq!(
                matters(&notify::Event::new(kind).add_path(path.into()), dir),
                expected,
                "{kind:?} {path}"
            );
        }
        assert!(matters(&notify::Event::new(EventKind::Other).set_flag(notify::event::Flag::Rescan), dir));
    }
}
