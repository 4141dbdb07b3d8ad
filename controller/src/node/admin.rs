//! Health, metrics and state of the agent over HTTP.
//!
//! | path | says |
//! |---|---|
//! | `/livez` | 200 as long as the process answers: a slow or absent Open vSwitch is no reason to restart the agent |
//! | `/readyz` | 200 if pods are served and all flows are on the bridge, else 503; a line with the reason for each check |
//! | `/metrics` | OpenMetrics text |
//! | `/debug/state` | what the agent knows and what came of it, as JSON with sorted keys |
//! | `/logging` | the log filter; `PUT` sets it |
//!
//! The address for metrics serves `/metrics` only; everything else is for the node itself.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use super::metrics::{self, Metrics};
use super::status::Status;

/// Connections at a time, each listener.
const CONNECTIONS: usize = 32;
/// How long a client may take to send a request's head.
const HEAD_DEADLINE: Duration = Duration::from_secs(5);
/// How long a connection may stay open.
const CONNECTION_DEADLINE: Duration = Duration::from_secs(60);
/// How long the agent's loop is waited for when it is asked for its state.
const STATE_DEADLINE: Duration = Duration::from_secs(1);
/// The longest log filter, bytes.
const MAX_FILTER: usize = 4096;

/// A question to the agent's loop, answered with what only the loop knows.
pub type Query = oneshot::Sender<Value>;

/// Sets the log filter, or says why it can't.
pub type SetFilter = Box<dyn Fn(&str) -> Result<(), String> + Send + Sync>;
/// The log filter in force.
pub type GetFilter = Box<dyn Fn() -> String + Send + Sync>;

/// What is served.
pub struct Admin {
    /// Name of the Node object that stands for this machine.
    pub node: String,
    /// Version of the program.
    pub version: &'static str,
    /// The result of each reconcile.
    pub status: watch::Receiver<Status>,
    /// The agent's loop.
    pub queries: mpsc::Sender<Query>,
    /// What `/metrics` shows.
    pub registry: Registry,
    /// Reads the log filter.
    pub filter: GetFilter,
    /// Sets the log filter.
    pub set_filter: SetFilter,
}

/// What one listener serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paths {
    /// All of it.
    All,
    /// `/metrics`.
    Metrics,
}

/// An address could not be listened on.
#[derive(Debug, thiserror::Error)]
#[error("can't serve {what} on {address}: {source}; choose another address with {option}")]
pub struct ListenError {
    what: &'static str,
    option: &'static str,
    address: SocketAddr,
    source: std::io::Error,
}

/// Opens a listener.
///
/// # Errors
/// [`ListenError`].
pub async fn listen(address: SocketAddr, paths: Paths) -> Result<TcpListener, ListenError> {
    let (what, option) = match paths {
        Paths::All => ("health and state", "--admin-address"),
        Paths::Metrics => ("metrics", "--metrics-address"),
    };
    TcpListener::bind(address).await.map_err(|source| ListenError { what, option, address, source })
}

/// Serves one listener until the future is dropped.
pub async fn serve(listener: TcpListener, admin: Arc<Admin>, paths: Paths) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let admin = Arc::clone(&admin);
                tokio::spawn(async move {
                    let served = timeout(CONNECTION_DEADLINE, connection(stream, admin, paths)).await;
                    if let Ok(Err(error)) = served {
                        debug!("a connection to the admin server ended: {error}");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                warn!("admin server: {error}");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, admin: Arc<Admin>, paths: Paths) -> Result<(), hyper::Error> {
    let service = service_fn(|request| {
        let admin = Arc::clone(&admin);
        async move { Ok::<_, Infallible>(admin.answer(request, paths).await) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

impl Admin {
    async fn answer(&self, request: Request<Incoming>, paths: Paths) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        let known = match paths {
            Paths::All => {
                ["/livez", "/readyz", "/metrics", "/debug/state", "/logging"].contains(&path.as_str())
            }
            Paths::Metrics => path == "/metrics",
        };
        if !known {
            let there = match paths {
                Paths::All => "/livez /readyz /metrics /debug/state /logging",
                Paths::Metrics => "/metrics",
            };
            return text(StatusCode::NOT_FOUND, format!("there is nothing at {path}; there is: {there}\n"));
        }
        if request.method() == Method::PUT && path == "/logging" {
            return self.put_filter(request).await;
        }
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            return text(StatusCode::METHOD_NOT_ALLOWED, format!("{path} can't be {}\n", request.method()));
        }
        match path.as_str() {
            "/livez" => text(StatusCode::OK, "ok\n".to_owned()),
            "/readyz" => self.readyz(),
            "/metrics" => match Metrics::text(&self.registry) {
                Ok(body) => typed(StatusCode::OK, metrics::CONTENT_TYPE, body),
                Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
            },
            "/debug/state" => {
                let body = format!("{:#}\n", self.state().await);
                typed(StatusCode::OK, "application/json", body)
            }
            _ => text(StatusCode::OK, format!("{}\n", (self.filter)())),
        }
    }

    fn readyz(&self) -> Response<Full<Bytes>> {
        let status = self.status.borrow().clone();
        let mut body = String::new();
        for check in status.checks() {
            // Writing to a String does not fail.
            let _ = match check.missing {
                None => writeln!(body, "[+] {}", check.name),
                Some(reason) => writeln!(body, "[-] {}: {}", check.name, reason.replace('\n', " ")),
            };
        }
        let (code, last) = match status.is_ready() {
            true => (StatusCode::OK, "ready\n"),
            false => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
        };
        text(code, body + last)
    }

    async fn put_filter(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let body = match Limited::new(request.into_body(), MAX_FILTER).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => return text(StatusCode::BAD_REQUEST, format!("{error}\n")),
        };
        let filter = String::from_utf8_lossy(&body).trim().to_owned();
        match (self.set_filter)(&filter) {
            Ok(()) => {
                info!(filter, "log filter changed");
                text(StatusCode::OK, format!("{filter}\n"))
            }
            Err(error) => text(StatusCode::BAD_REQUEST, format!("{filter:?} is no log filter: {error}\n")),
        }
    }

    /// Keys are sorted: serde_json's maps are, unless told otherwise.
    async fn state(&self) -> Value {
        let status = self.status.borrow().clone();
        let checks: serde_json::Map<String, Value> = status
            .checks()
            .into_iter()
            .map(|check| (check.name.to_owned(), check.missing.map_or(json!("ok"), Value::from)))
            .collect();
        let (send, answer) = oneshot::channel();
        let asked = self.queries.try_send(send).is_ok();
        let agent = match timeout(STATE_DEADLINE, answer).await {
            Ok(Ok(state)) if asked => state,
            _ => json!("busy: the loop is waiting for Open vSwitch, or has not begun"),
        };
        let network = status.network.as_deref().map(|network| {
            json!({
                "clusterNetworks": network.cluster_networks,
                "localSubnet": network.local_subnet,
                "mtu": network.mtu,
                "plugin": format!("{:?}", network.plugin).to_lowercase(),
                "serviceNetwork": network.service_network,
            })
        });
        let last_sync = status.last_sync.map(|(at, took)| {
            let at = at.duration_since(UNIX_EPOCH).unwrap_or_default();
            json!({ "unixSeconds": at.as_secs_f64(), "tookSeconds": took.as_secs_f64() })
        });
        let pods: Vec<Value> =
            status.synced.iter().map(|leg| json!({ "port": leg.port.0, "sandbox": leg.sandbox })).collect();
        json!({
            "agent": agent,
            "checks": checks,
            "conflicts": status.conflicts,
            "lastSync": last_sync,
            "leftOut": status.left_out.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "network": network,
            "node": self.node,
            "ready": status.is_ready(),
            "synced": pods,
            "version": self.version,
        })
    }
}

fn text(code: StatusCode, body: String) -> Response<Full<Bytes>> {
    typed(code, "text/plain; charset=utf-8", body)
}

fn typed(code: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
