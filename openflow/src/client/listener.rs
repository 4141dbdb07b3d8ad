//! Switches that connect to us.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use super::endpoint::{Stream, host_and_port};
use super::{ClientError, Switch, SwitchOptions, Tls};

/// Waits for switches: `punix:PATH`, `ptcp:PORT[:HOST]` or `pssl:PORT[:HOST]`.
#[derive(Debug)]
pub struct Listener {
    kind: Kind,
    options: SwitchOptions,
    greetings: Mutex<JoinSet<Option<Switch>>>,
}

#[derive(Debug)]
enum Kind {
    /// The file goes with the listener.
    Unix(UnixListener, PathBuf),
    Tcp(TcpListener),
    Tls(TcpListener, Tls),
}

impl Listener {
    /// Starts to listen. A port of 0 takes a free one, see [`Listener::local_addr`].
    ///
    /// # Errors
    /// If the text names no place to listen, or the place cannot be had.
    pub async fn bind(place: &str, options: SwitchOptions) -> Result<Listener, ClientError> {
        let failed = |source| ClientError::Connect { endpoint: place.to_owned(), source: Arc::new(source) };
        let expected = "expected punix:PATH, ptcp:PORT[:HOST] or pssl:PORT[:HOST]";
        let wrong = || failed(std::io::Error::new(std::io::ErrorKind::InvalidInput, expected));
        let kind = match place.split_once(':') {
            Some(("punix", path)) if !path.is_empty() => {
                Kind::Unix(UnixListener::bind(path).map_err(failed)?, path.into())
            }
            Some((kind @ ("ptcp" | "pssl"), rest)) => {
                let (port, host) = rest.split_once(':').unwrap_or((rest, "0.0.0.0"));
                let port: u16 = port.parse().map_err(|_| wrong())?;
                let (host, _) = host_and_port(host).ok_or_else(wrong)?;
                let listener = TcpListener::bind((host.as_str(), port)).await.map_err(failed)?;
                match (kind, &options.tls) {
                    ("ptcp", _) => Kind::Tcp(listener),
                    (_, Some(tls)) => Kind::Tls(listener, tls.clone()),
                    (_, None) => {
                        return Err(failed(std::io::Error::other(
                            "no certificates given (SwitchOptions::tls)",
                        )));
                    }
                }
            }
            _ => return Err(wrong()),
        };
        Ok(Listener { kind, options, greetings: Mutex::default() })
    }

    /// The address, if it is one of TCP.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.kind {
            Kind::Unix(..) => None,
            Kind::Tcp(listener) | Kind::Tls(listener, _) => listener.local_addr().ok(),
        }
    }

    /// The next switch, once it has agreed on OpenFlow 1.3. Peers that fail to are reported and passed over; one that
    /// stays silent holds up nobody.
    ///
    /// Cancel-safe: who was about to be accepted is accepted by the next call.
    ///
    /// # Errors
    /// If the socket itself fails.
    pub async fn accept(&self) -> Result<Switch, ClientError> {
        let mut greetings = self.greetings.lock().await;
        loop {
            tokio::select! {
                Some(greeted) = greetings.join_next() => if let Ok(Some(switch)) = greeted {
                    return Ok(switch);
                },
                accepted = self.accept_stream(), if greetings.len() < MAX_GREETINGS => {
                    let (stream, peer) = accepted?;
                    greetings.spawn(greet(stream, peer, self.options.clone()));
                }
            }
        }
    }

    async fn accept_stream(&self) -> Result<(Accepted, String), ClientError> {
        match &self.kind {
            Kind::Unix(listener, path) => {
                let (stream, _) = listener.accept().await?;
                Ok((Accepted::Plain(Box::new(stream)), path.display().to_string()))
            }
            Kind::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok((Accepted::Plain(Box::new(stream)), peer.to_string()))
            }
            Kind::Tls(listener, tls) => {
                let (stream, peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok((Accepted::Tls(stream, tls.clone()), peer.to_string()))
            }
        }
    }
}

/// How many peers may be about to say hello at the same time; further ones wait in the system's queue.
const MAX_GREETINGS: usize = 256;

/// A peer before its hello, or its TLS handshake.
enum Accepted {
    Plain(Box<dyn Stream>),
    Tls(TcpStream, Tls),
}

/// The switch, if the peer turns out to be one.
async fn greet(accepted: Accepted, peer: String, options: SwitchOptions) -> Option<Switch> {
    let timeout = options.connect_timeout;
    let greet = async {
        let stream = match accepted {
            Accepted::Plain(stream) => stream,
            Accepted::Tls(stream, tls) => Box::new(tls.accept(stream).await?),
        };
        Switch::over(stream, options).await
    };
    match tokio::time::timeout(timeout, greet).await {
        Ok(Ok(switch)) => return Some(switch),
        Ok(Err(error)) => tracing::warn!(peer, %error, "peer is no switch of ours"),
        Err(_) => tracing::warn!(peer, "peer sends no hello in time"),
    }
    None
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Kind::Unix(_, path) = &self.kind {
            remove(path);
        }
    }
}

/// Removes a socket's file; nobody can be told if that fails.
fn remove(path: &Path) {
    let _ = std::fs::remove_file(path);
}
