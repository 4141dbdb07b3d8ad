//! Health, metrics, state and log filter of a program over HTTP: the same for the agent and the cluster controller.
//!
//! | path | says |
//! |---|---|
//! | `/livez` | 200 as long as the process answers: that what it works with is slow or absent is no reason to restart it |
//! | `/readyz` | 200 if every check holds, else 503; a line with the reason for each check |
//! | `/metrics` | OpenMetrics text |
//! | `/debug/state` | what the program knows and what came of it, as JSON with sorted keys |
//! | `/logging` | the log filter; `PUT` sets it |
//!
//! The address for metrics serves `/metrics` only; everything else is for the node itself.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::registry::Registry;
use serde_json::{Map, Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use crate::metrics;

/// Connections at a time, each listener.
const CONNECTIONS: usize = 32;
/// How long a client may take to send a request's head.
const HEAD_DEADLINE: Duration = Duration::from_secs(5);
/// How long a connection may stay open.
const CONNECTION_DEADLINE: Duration = Duration::from_secs(60);
/// The longest log filter, bytes.
const MAX_FILTER: usize = 4096;

/// The log filter in force, which can be changed.
pub type LogFilter = reload::Handle<EnvFilter, tracing_subscriber::Registry>;

/// Starts to log to standard error. Directives of `filter` that can't be read are named there and left out: a typo in a
/// ConfigMap is no reason to keep a program from its work.
#[must_use]
pub fn log(filter: &str) -> LogFilter {
    let (layer, handle) = reload::Layer::new(EnvFilter::new(filter));
    tracing_subscriber::registry()
        .with(layer)
        .with(tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false))
        .init();
    handle
}

/// Where to listen, if at all: `none`, or an address and a port.
#[derive(Clone, Copy, Debug)]
pub struct Address(pub Option<SocketAddr>);

impl std::str::FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self(None)),
            text => text
                .parse()
                .map(|address| Self(Some(address)))
                .map_err(|_| "neither none nor an IP address and a port such as 127.0.0.1:8080".to_owned()),
        }
    }
}

/// One thing that must hold for a program to be ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Its name.
    pub name: &'static str,
    /// Why it does not hold.
    pub missing: Option<String>,
}

impl Check {
    /// A check that says `why` when it does not hold.
    #[must_use]
    pub fn new(name: &'static str, holds: bool, why: &str) -> Self {
        Self { name, missing: (!holds).then(|| why.to_owned()) }
    }
}

/// A program that can be asked how it is.
pub trait Program: Send + Sync + 'static {
    /// What must hold for it to be ready, in the order in which a start goes through it.
    fn checks(&self) -> Vec<Check>;

    /// What it knows and what came of it, for `/debug/state`. The checks, whether they all hold, and the version are added.
    fn state(&self) -> impl Future<Output = Map<String, Value>> + Send;
}

/// What is served.
pub struct Admin<P> {
    /// Whom it is about.
    pub program: P,
    /// What `/metrics` shows.
    pub registry: Registry,
    /// What `/logging` shows and sets.
    pub log: LogFilter,
}

/// What one listener serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Paths {
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

impl<P: Program> Admin<P> {
    /// Listens on both addresses, and serves as long as the result lives.
    ///
    /// # Errors
    /// [`ListenError`].
    pub async fn serve(self, all: Address, metrics: Address) -> Result<JoinSet<()>, ListenError> {
        let admin = Arc::new(self);
        let mut servers = JoinSet::new();
        for (address, paths) in [(all, Paths::All), (metrics, Paths::Metrics)] {
            if let Address(Some(address)) = address {
                servers.spawn(serve(listen(address, paths).await?, Arc::clone(&admin), paths));
            }
        }
        Ok(servers)
    }
}

async fn listen(address: SocketAddr, paths: Paths) -> Result<TcpListener, ListenError> {
    let (what, option) = match paths {
        Paths::All => ("health and state", "--admin-address"),
        Paths::Metrics => ("metrics", "--metrics-address"),
    };
    TcpListener::bind(address).await.map_err(|source| ListenError { what, option, address, source })
}

/// Serves one listener until the future is dropped.
async fn serve<P: Program>(listener: TcpListener, admin: Arc<Admin<P>>, paths: Paths) {
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

async fn connection<P: Program>(
    stream: TcpStream,
    admin: Arc<Admin<P>>,
    paths: Paths,
) -> Result<(), hyper::Error> {
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

impl<P: Program> Admin<P> {
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
            "/metrics" => match metrics::text(&self.registry) {
                Ok(body) => typed(StatusCode::OK, metrics::CONTENT_TYPE, body),
                Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
            },
            "/debug/state" => {
                let body = format!("{:#}\n", self.state().await);
                typed(StatusCode::OK, "application/json", body)
            }
            _ => match self.log.with_current(ToString::to_string) {
                Ok(filter) => text(StatusCode::OK, format!("{filter}\n")),
                Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
            },
        }
    }

    fn readyz(&self) -> Response<Full<Bytes>> {
        let checks = self.program.checks();
        let mut body = String::new();
        for check in &checks {
            // Writing to a String does not fail.
            let _ = match &check.missing {
                None => writeln!(body, "[+] {}", check.name),
                Some(reason) => writeln!(body, "[-] {}: {}", check.name, reason.replace('\n', " ")),
            };
        }
        let (code, last) = match hold(&checks) {
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
        let parsed = EnvFilter::try_new(&filter).map_err(|error| error.to_string());
        match parsed.and_then(|parsed| self.log.reload(parsed).map_err(|error| error.to_string())) {
            Ok(()) => {
                info!(filter, "log filter changed");
                text(StatusCode::OK, format!("{filter}\n"))
            }
            Err(error) => text(StatusCode::BAD_REQUEST, format!("{filter:?} is no log filter: {error}\n")),
        }
    }

    /// Keys are sorted: serde_json's maps are, unless told otherwise.
    async fn state(&self) -> Value {
        let checks = self.program.checks();
        let mut state = self.program.state().await;
        state.insert("ready".to_owned(), hold(&checks).into());
        state.insert("version".to_owned(), crate::cli::VERSION.into());
        let checks: Map<String, Value> = checks
            .into_iter()
            .map(|check| (check.name.to_owned(), check.missing.map_or(json!("ok"), Value::from)))
            .collect();
        state.insert("checks".to_owned(), checks.into());
        state.into()
    }
}

/// Whether every check holds.
#[must_use]
pub fn hold(checks: &[Check]) -> bool {
    checks.iter().all(|check| check.missing.is_none())
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
