//! Switches that connect to us.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::{TcpListener, UnixListener};

use super::endpoint::{Stream, host_and_port};
use super::{ClientError, Switch, SwitchOptions};

/// Waits for switches: `punix:PATH`, `ptcp:PORT[:HOST]` or `pssl:PORT[:HOST]`.
#[derive(Debug)]
pub struct Listener {
    kind: Kind,
    options: SwitchOptions,
}

#[derive(Debug)]
enum Kind {
    /// The file goes with the listener.
    Unix(UnixListener, PathBuf),
    Tcp(TcpListener),
    Tls(TcpListener),
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
                if kind == "ptcp" { Kind::Tcp(listener) } else { Kind::Tls(listener) }
            }
            _ => return Err(wrong()),
        };
        Ok(Listener { kind, options })
    }

    /// The address, if it is one of TCP.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.kind {
            Kind::Unix(..) => None,
            Kind::Tcp(listener) | Kind::Tls(listener) => listener.local_addr().ok(),
        }
    }

    /// The next switch, once it has agreed on OpenFlow 1.3. Peers that fail to are reported and passed over.
    ///
    /// One that stays silent holds up the others for [`SwitchOptions::connect_timeout`] at most.
    ///
    /// # Errors
    /// If the socket itself fails.
    pub async fn accept(&self) -> Result<Switch, ClientError> {
        loop {
            let (stream, peer) = self.accept_stream().await?;
            let greet = Switch::over(stream, self.options.clone());
            match tokio::time::timeout(self.options.connect_timeout, greet).await {
                Ok(Ok(switch)) => return Ok(switch),
                Ok(Err(error)) => tracing::warn!(peer, %error, "peer is no switch of ours"),
                Err(_) => tracing::warn!(peer, "peer sends no hello"),
            }
        }
    }

    async fn accept_stream(&self) -> Result<(Box<dyn Stream>, String), ClientError> {
        loop {
            match &self.kind {
                Kind::Unix(listener, path) => {
                    let (stream, _) = listener.accept().await?;
                    return Ok((Box::new(stream), path.display().to_string()));
                }
                Kind::Tcp(listener) => {
                    let (stream, peer) = listener.accept().await?;
                    stream.set_nodelay(true)?;
                    return Ok((Box::new(stream), peer.to_string()));
                }
                Kind::Tls(listener) => {
                    let (stream, peer) = listener.accept().await?;
                    stream.set_nodelay(true)?;
                    let Some(tls) = &self.options.tls else {
                        return Err(
                            std::io::Error::other("no certificates given (SwitchOptions::tls)").into()
                        );
                    };
                    match tokio::time::timeout(self.options.connect_timeout, tls.accept(stream)).await {
                        Ok(Ok(stream)) => return Ok((Box::new(stream), peer.to_string())),
                        Ok(Err(error)) => tracing::warn!(%peer, %error, "TLS handshake failed"),
                        Err(_) => tracing::warn!(%peer, "TLS handshake takes too long"),
                    }
                }
            }
        }
    }
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
