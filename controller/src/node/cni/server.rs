//! The socket that the CNI plugin asks: one request and one response a connection.

use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cni_shim::cni::{CniError, Command, ErrorCode};
use cni_shim::contract::{self, ContractError, PREFIX, Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{Instant, timeout};
use tracing::{Instrument, debug, info, info_span, warn};

use super::pods::PodNetwork;
use crate::node::metrics::{self, Verb};

/// How long a plugin may take to send its request. It has it in hand when it connects.
const REQUEST_DEADLINE: Duration = Duration::from_secs(5);

/// Why the socket could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("could not open the CNI socket {path}: {step}: {source}")]
pub struct ServerError {
    path: PathBuf,
    step: &'static str,
    source: std::io::Error,
}

/// The open socket.
pub struct Server {
    listener: UnixListener,
}

impl Server {
    /// Opens the socket, for root only, instead of one that an earlier run left.
    ///
    /// # Errors
    /// When its directory cannot be made or the address cannot be bound.
    pub fn bind(path: &Path) -> Result<Self, ServerError> {
        let fail = |step| move |source| ServerError { path: path.to_owned(), step, source };
        if let Some(dir) = path.parent() {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(dir)
                .map_err(fail("making its directory"))?;
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(fail("removing the old one")(error));
            }
            _ => {}
        }
        let listener = UnixListener::bind(path).map_err(fail("binding"))?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
            .map_err(fail("restricting it to root"))?;
        Ok(Self { listener })
    }

    /// Serves requests, each in a task of its own: a request that waits holds up no other.
    pub async fn serve(self, pods: Arc<PodNetwork>) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    tokio::spawn(connection(stream, Arc::clone(&pods)));
                }
                Err(error) => {
                    warn!("CNI socket: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

async fn connection(mut stream: UnixStream, pods: Arc<PodNetwork>) {
    let response = match stream.peer_cred() {
        Ok(peer) if peer.uid() == nix::unistd::geteuid().as_raw() => {
            match timeout(REQUEST_DEADLINE, read(&mut stream)).await {
                Ok(Ok(request)) => answer(&request, &pods).await,
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

async fn read(stream: &mut UnixStream) -> Result<Request, ContractError> {
    let mut prefix = [0; PREFIX];
    stream.read_exact(&mut prefix).await?;
    let mut message = vec![0; contract::message_length(prefix)?];
    stream.read_exact(&mut message).await?;
    contract::decode(&message)
}

async fn answer(request: &Request, pods: &PodNetwork) -> Response {
    let command = match request.validate() {
        Ok(command) => command,
        Err(error) => return Response::failure(error),
    };
    let start = Instant::now();
    let span = info_span!("cni", command = command.name(), sandbox = %request.container_id);
    let outcome = async {
        match command {
            Command::Add => pods.add(request).await,
            Command::Del => pods.del(request).await.map(|()| Vec::new()),
            Command::Check => pods.check(request).await.map(|()| Vec::new()),
            Command::Gc => pods.gc(request).await.map(|()| Vec::new()),
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
