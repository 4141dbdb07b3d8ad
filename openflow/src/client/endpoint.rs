//! Where a switch is.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::{ClientError, Tls};

/// Port of OpenFlow over TCP.
const DEFAULT_PORT: u16 = 6653;

/// Where a switch listens: `unix:PATH`, `tcp:HOST[:PORT]` or `ssl:HOST[:PORT]`.
///
/// ```
/// use openflow::Endpoint;
/// assert_eq!("unix:/run/br0.mgmt".parse(), Ok(Endpoint::Unix("/run/br0.mgmt".into())));
/// assert_eq!("tcp:127.0.0.1".parse(), Ok(Endpoint::Tcp("127.0.0.1".into(), 6653)));
/// assert_eq!("tcp:[::1]:6633".parse(), Ok(Endpoint::Tcp("::1".into(), 6633)));
/// assert!("br0".parse::<Endpoint>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Endpoint {
    /// A Unix socket, such as a bridge's `br0.mgmt` in Open vSwitch's run directory.
    Unix(PathBuf),
    /// Host (a name or an address) and port.
    Tcp(String, u16),
    /// The same under TLS; needs [`crate::SwitchOptions::tls`].
    Tls(String, u16),
}

/// Text that names no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no endpoint; expected unix:PATH, tcp:HOST[:PORT] or ssl:HOST[:PORT]")]
pub struct EndpointError(String);

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(s: &str) -> Result<Self, EndpointError> {
        let wrong = || EndpointError(s.to_owned());
        match s.split_once(':') {
            Some(("unix", path)) if !path.is_empty() => Ok(Endpoint::Unix(path.into())),
            Some((kind @ ("tcp" | "ssl"), rest)) => {
                let (host, port) = host_and_port(rest).ok_or_else(wrong)?;
                Ok(if kind == "tcp" { Endpoint::Tcp(host, port) } else { Endpoint::Tls(host, port) })
            }
            _ => Err(wrong()),
        }
    }
}

/// `HOST`, `HOST:PORT`, `[V6]`, `[V6]:PORT`.
pub(super) fn host_and_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            (host, if after.is_empty() { None } else { Some(after.strip_prefix(':')?) })
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        Some(port) => port.parse().ok()?,
        None => DEFAULT_PORT,
    };
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Unix(path) => write!(f, "unix:{}", path.display()),
            Endpoint::Tcp(host, port) | Endpoint::Tls(host, port) => {
                let kind = if matches!(self, Endpoint::Tcp(..)) { "tcp" } else { "ssl" };
                if host.contains(':') {
                    write!(f, "{kind}:[{host}]:{port}")
                } else {
                    write!(f, "{kind}:{host}:{port}")
                }
            }
        }
    }
}

/// A byte stream to a switch.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Endpoint {
    pub(super) async fn connect(&self, tls: Option<&Tls>) -> Result<Box<dyn Stream>, ClientError> {
        let failed = |source| ClientError::Connect { endpoint: self.to_string(), source: Arc::new(source) };
        Ok(match self {
            Endpoint::Unix(path) => Box::new(UnixStream::connect(path).await.map_err(failed)?),
            Endpoint::Tcp(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(failed)?;
                stream.set_nodelay(true).map_err(failed)?;
                Box::new(stream)
            }
            Endpoint::Tls(host, port) => {
                let Some(tls) = tls else {
                    let missing = std::io::Error::other("no certificates given (SwitchOptions::tls)");
                    return Err(failed(missing));
                };
                let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(failed)?;
                stream.set_nodelay(true).map_err(failed)?;
                Box::new(tls.connect(host, stream).await.map_err(failed)?)
            }
        })
    }
}
