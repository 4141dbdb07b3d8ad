//! The socket that the CNI plugin asks: one request and one response a connection.
//!
//! One agent has it, by a lock on the file beside it; and the socket comes back should somebody remove it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::future::pending;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cni_shim::cni::{CniError, Command, ErrorCode};
use cni_shim::contract::{self, ContractError, PREFIX, Request, Response};
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::socket::{MsgFlags, recv};
use nix::unistd;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tracing::{Instrument, debug, info, info_span, warn};

use super::pods::PodNetwork;
use crate::node::agent::RESYNC;
use crate::node::metrics::{self, Verb};
use crate::node::status::Status;

/// How long a plugin may take to send its request. It has it in hand when it connects.
const REQUEST_DEADLINE: Duration = Duration::from_secs(5);

/// The pause between two attempts to open the socket again, however soon it is known that it has gone: whoever else claims the
/// place may be as quick.
const AGAIN: Duration = Duration::from_secs(5);

/// The pause before what must not be done in a circle, nor half-way into what others do.
const SHORT: Duration = Duration::from_millis(100);

/// Why the socket could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("could not open the CNI socket {path}: {step}: {source}")]
pub struct ServerError {
    path: PathBuf,
    step: &'static str,
    source: std::io::Error,
}

/// The right to the socket: no other agent has it as long as this lives, however this one ends.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    _lock: File,
}

impl Claim {
    /// Claims a socket. Its directory is made, for root only.
    ///
    /// # Errors
    /// Another agent has it; the directory or the lock file can't be made.
    pub fn new(path: &Path) -> Result<Self, ServerError> {
        let fail = |step| move |source| ServerError { path: path.to_owned(), step, source };
        if let Some(dir) = path.parent() {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(dir)
                .map_err(fail("making its directory"))?;
        }
        let mut lock = path.as_os_str().to_owned();
        lock.push(".lock");
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(lock)
            .map_err(fail("opening its lock file"))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => {
                fail("claiming it")(std::io::Error::other("another sdn-node serves it: end that one first"))
            }
            TryLockError::Error(source) => fail("locking its lock file")(source),
        })?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }
}

/// The open socket.
pub struct Server {
    claim: Claim,
    listener: UnixListener,
    file: SocketFile,
}

/// The file by which the socket is found.
struct SocketFile {
    /// Device and inode.
    identity: (u64, u64),
    /// Tells when it is removed or renamed; none: the kernel gives no more of them (`fs.inotify.max_user_instances`).
    watch: Option<AsyncFd<OwnedFd>>,
    since: Instant,
}

impl SocketFile {
    fn new(path: &Path) -> std::io::Result<Self> {
        let watch = Self::watch(path)
            .inspect_err(|error| debug!("only looks tell whether the CNI socket is there: {error}"))
            .ok();
        // After the kernel was asked to tell of it: that it is removed before is seen here.
        let found = fs::symlink_metadata(path)?;
        Ok(Self { identity: (found.dev(), found.ino()), watch, since: Instant::now() })
    }

    #[allow(unsafe_code)] // Of a file descriptor that is no socket, tokio's safe constructors are deprecated.
    fn watch(path: &Path) -> std::io::Result<AsyncFd<OwnedFd>> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        // A socket that is served outlives its name: removing that is a change of its link count.
        inotify.add_watch(path, AddWatchFlags::IN_ATTRIB | AddWatchFlags::IN_MOVE_SELF)?;
        // SAFETY: an `OwnedFd` has one file descriptor, which is open as long as it lives, and nobody takes it out.
        Ok(unsafe { AsyncFd::register_with_interest(inotify.into(), Interest::READABLE) }?)
    }

    fn is_at(&self, path: &Path) -> bool {
        fs::symlink_metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == self.identity)
    }

    /// Waits until something is done to the file. May be cancelled.
    async fn touched(&self) {
        let Some(watch) = &self.watch else { return pending().await };
        match watch.readable().await {
            Ok(mut ready) => {
                // What it was does not matter.
                let read = |inotify: &AsyncFd<OwnedFd>| Ok(unistd::read(inotify.get_ref(), &mut [0; 256])?);
                while matches!(ready.try_io(read), Ok(Ok(_))) {}
            }
            // The runtime ends.
            Err(_) => pending().await,
        }
    }
}

impl Server {
    /// Opens the socket, for root only, instead of one that an earlier run left.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn bind(claim: Claim) -> Result<Self, ServerError> {
        let (listener, file) = listen(&claim.path)?;
        Ok(Self { claim, listener, file })
    }

    /// Serves requests, each in a task of its own: a request that waits holds up no other.
    pub async fn serve(mut self, pods: Arc<PodNetwork>, status: watch::Sender<Status>) {
        let mut is_open = true;
        loop {
            let may_open = self.file.since.elapsed() >= AGAIN;
            let told = may_open && self.file.watch.is_some();
            // All arms may be cancelled: a connection that was not accepted waits.
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        tokio::spawn(connection(stream, Arc::clone(&pods)));
                    }
                    Err(error) => {
                        warn!("CNI socket: {error}");
                        sleep(SHORT).await;
                    }
                },
                // Who removes the whole directory is through with it by then.
                () = self.file.touched(), if told => sleep(SHORT).await,
                () = sleep(if told && is_open { RESYNC } else { AGAIN }) => {}
            }
            is_open = self.look();
            status.send_if_modified(|status| std::mem::replace(&mut status.serving, is_open) != is_open);
        }
    }

    /// Opens the socket again if its file has gone, or is another's. Tells whether it is open.
    fn look(&mut self) -> bool {
        let path = &self.claim.path.clone();
        if self.file.is_at(path) {
            return true;
        }
        let opened = listen(path).or_else(|error| {
            if path.parent().is_some_and(Path::exists) {
                return Err(error);
            }
            // The lock has gone with the directory.
            self.claim = Claim::new(path)?;
            listen(path)
        });
        match opened {
            Ok((listener, file)) => {
                warn!(socket = %path.display(), "somebody had removed the CNI socket: opened again");
                (self.listener, self.file) = (listener, file);
                true
            }
            Err(error) => {
                warn!("somebody has removed the CNI socket: {error}");
                false
            }
        }
    }
}

fn listen(path: &Path) -> Result<(UnixListener, SocketFile), ServerError> {
    let fail = |step| move |source| ServerError { path: path.to_owned(), step, source };
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(fail("removing the old one")(error));
        }
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(fail("binding"))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(fail("restricting it to root"))?;
    let file = SocketFile::new(path).map_err(fail("looking at it"))?;
    Ok((listener, file))
}

async fn connection(mut stream: UnixStream, pods: Arc<PodNetwork>) {
    let response = match stream.peer_cred() {
        Ok(peer) if peer.uid() == unistd::geteuid().as_raw() => {
            match timeout(REQUEST_DEADLINE, read(&mut stream)).await {
                Ok(Ok(request)) => answer(&request, &pods, &Caller(&stream)).await,
                Ok(Err(error)) => {
                    Response::failure(CniError::new(ErrorCode::DECODE_FAILURE, error.to_string()))
                }
                Err(_) => return,
            }
        }
        Ok(peer) => {
            warn!(uid = peer.uid(), "refused a CNI request: only the agent's own user may ask");
            return;
        }
        Err(error) => {
            warn!("CNI socket: {error}");
            return;
        }
    };
    match contract::encode(&response) {
        Ok(frame) => {
            if let Err(error) = stream.write_all(&frame).await {
                debug!("the CNI plugin did not wait for its answer: {error}");
            }
        }
        Err(error) => warn!("CNI answer: {error}"),
    }
}

/// The plugin that has asked.
pub(super) struct Caller<'a>(&'a UnixStream);

impl Caller<'_> {
    /// To be asked before anything is changed, and after whatever had to be waited for. Of one who has gone the runtime may have
    /// asked for the opposite since, as DEL after an ADD that it gave up, and that may be done already.
    ///
    /// # Errors
    /// Code 11 if it has gone.
    pub(super) fn waits(&self) -> Result<(), CniError> {
        match recv(self.0.as_raw_fd(), &mut [0], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT) {
            Ok(1..) | Err(Errno::EAGAIN | Errno::EINTR) => Ok(()),
            Ok(0) | Err(_) => {
                let text = "the CNI plugin has not waited for its answer: nothing is changed";
                Err(CniError::new(ErrorCode::TRY_AGAIN_LATER, text))
            }
        }
    }
}

async fn read(stream: &mut UnixStream) -> Result<Request, ContractError> {
    let mut prefix = [0; PREFIX];
    stream.read_exact(&mut prefix).await?;
    let mut message = vec![0; contract::message_length(prefix)?];
    stream.read_exact(&mut message).await?;
    contract::decode(&message)
}

async fn answer(request: &Request, pods: &PodNetwork, caller: &Caller<'_>) -> Response {
    let command = match request.validate() {
        Ok(command) => command,
        Err(error) => return Response::failure(error),
    };
    let start = Instant::now();
    let span = info_span!("cni", command = command.name(), sandbox = %request.container_id);
    let outcome = async {
        match command {
            Command::Add => pods.add(request, caller).await,
            Command::Del => pods.del(request, caller).await.map(|()| Vec::new()),
            Command::Check => pods.check(request).await.map(|()| Vec::new()),
            Command::Gc => pods.gc(request, caller).await.map(|()| Vec::new()),
            Command::Status => pods.status().map(|()| Vec::new()),
            Command::Unspecified | Command::Version => Err(CniError::new(
                ErrorCode::INVALID_ENVIRONMENT,
                format!("CNI_COMMAND {} is answered by the plugin itself", command.name()),
            )),
        }
    }
    .instrument(span.clone())
    .await;
    let (metrics, command) = (&pods.metrics, command.name());
    metrics.request.get_or_create(&Verb { command }).observe(start.elapsed().as_secs_f64());
    let result = if outcome.is_ok() { "success" } else { "failure" };
    metrics.requests.get_or_create(&metrics::Request { command, result }).inc();
    span.in_scope(|| match outcome {
        Ok(json) => {
            info!("done");
            Response::success(json)
        }
        Err(error) => {
            warn!("{}: {}", error.msg, error.details);
            Response::failure(error)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_socket_comes_back_with_its_directory() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path().join("cniserver");
        let path = dir.join("socket");
        let mut server = Server::bind(Claim::new(&path).unwrap()).unwrap();
        assert!(server.look());
        for remove in
            [|path: &Path| fs::remove_file(path), |path: &Path| fs::remove_dir_all(path.parent().unwrap())]
        {
            assert!(timeout(Duration::from_millis(1), server.file.touched()).await.is_err());
            remove(&path).unwrap();
            timeout(Duration::from_secs(30), server.file.touched()).await.unwrap();
            assert!(server.look());
            let (asked, accepted) = tokio::join!(UnixStream::connect(&path), server.listener.accept());
            assert!(asked.is_ok() && accepted.is_ok());
            assert!(Claim::new(&path).is_err(), "a second agent could claim it");
        }
    }
}
