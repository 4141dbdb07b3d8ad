//! Where a server listens, in the syntax of Open vSwitch (ovsdb(7), "Active OVSDB Connection Methods").

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// An active connection method.
///
/// ```
/// use ovsdb::Endpoint;
///
/// let endpoint: Endpoint = "unix:/run/openvswitch/db.sock".parse()?;
/// assert_eq!(endpoint.to_string(), "unix:/run/openvswitch/db.sock");
/// # Ok::<(), ovsdb::ParseEndpointError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `unix:PATH`: a Unix domain socket.
    Unix(PathBuf),
    /// `tcp:HOST:PORT`: plain TCP. The host is an address (IPv6 in brackets) or a name.
    Tcp {
        /// Address or name, without brackets.
        host: String,
        /// TCP port, 1-65535.
        port: u16,
    },
    /// `ssl:HOST:PORT`: TLS over TCP.
    Tls {
        /// Address or name, without brackets; the server's certificate must be for it.
        host: String,
        /// TCP port, 1-65535.
        port: u16,
    },
}

/// The port that IANA gave to OVSDB (RFC 7047 §7), used where none is written.
pub const DEFAULT_PORT: u16 = 6640;

/// The text is no endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a database endpoint: want unix:PATH, tcp:HOST:PORT or ssl:HOST:PORT")]
pub struct ParseEndpointError {
    text: String,
}

impl Endpoint {
    /// Reads endpoints separated by commas, as `--db` and `ovn-remote` take them.
    ///
    /// # Errors
    /// One of them is none, or there is none at all.
    pub fn parse_list(text: &str) -> Result<Vec<Endpoint>, ParseEndpointError> {
        text.split(',').map(|part| part.trim().parse()).collect()
    }
}

impl FromStr for Endpoint {
    type Err = ParseEndpointError;

    fn from_str(text: &str) -> Result<Self, ParseEndpointError> {
        let error = || ParseEndpointError { text: text.to_owned() };
        let (kind, rest) = text.split_once(':').ok_or_else(error)?;
        if kind == "unix" && !rest.is_empty() {
            return Ok(Endpoint::Unix(rest.into()));
        }
        let (host, port) = match rest.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or_else(error)?;
                (host, port.strip_prefix(':').or(port.is_empty().then_some("")).ok_or_else(error)?)
            }
            None => rest.split_once(':').unwrap_or((rest, "")),
        };
        let port = match port {
            "" => DEFAULT_PORT,
            port => port.parse().ok().filter(|port| *port != 0).ok_or_else(error)?,
        };
        let host = Some(host.to_owned()).filter(|host| !host.is_empty()).ok_or_else(error)?;
        match kind {
            "tcp" => Ok(Endpoint::Tcp { host, port }),
            "ssl" => Ok(Endpoint::Tls { host, port }),
            _ => Err(error()),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bracketed = |host: &str| if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        match self {
            Endpoint::Unix(path) => write!(f, "unix:{}", path.display()),
            Endpoint::Tcp { host, port } => write!(f, "tcp:{}:{port}", bracketed(host)),
            Endpoint::Tls { host, port } => write!(f, "ssl:{}:{port}", bracketed(host)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_round_trip() {
        for text in ["unix:/run/db.sock", "tcp:127.0.0.1:6640", "ssl:ovsdb.example:1", "tcp:[::1]:6641"] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        assert_eq!("tcp:h".parse::<Endpoint>().unwrap(), Endpoint::Tcp { host: "h".into(), port: 6640 });
        assert_eq!(
            "ssl:[::1]".parse::<Endpoint>().unwrap(),
            Endpoint::Tls { host: "::1".into(), port: 6640 }
        );
        assert_eq!(Endpoint::parse_list("unix:a, tcp:b:1").unwrap().len(), 2);
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in [
            "",
            "unix:",
            "/run/db.sock",
            "tcp:",
            "tcp::1",
            "tcp:h:0",
            "tcp:h:65536",
            "ptcp:1",
            "tcp:[::1",
            "tcp:[::1]x",
        ] {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
        assert!(Endpoint::parse_list("").is_err());
    }
}
