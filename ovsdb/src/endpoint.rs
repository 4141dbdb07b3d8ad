//! Where a server listens, in the syntax of Open vSwitch (ovsdb(7), "Active OVSDB Connection Methods").

use std::fmt;
use std::net::Ipv6Addr;
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
    /// `ssl:HOST:PORT`: TLS over TCP. Whose certificates count is said by the client's options; the name in them does
    /// not matter, as with the tools of Open vSwitch.
    Tls {
        /// Address or name, without brackets.
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
    /// Reads endpoints separated by commas, as `--db` and `ovn-remote` take them. A comma that no connection method
    /// follows is part of the path before it.
    ///
    /// # Errors
    /// One of them is none, or there is none at all.
    pub fn parse_list(text: &str) -> Result<Vec<Endpoint>, ParseEndpointError> {
        let begins =
            |part: &str| ["unix:", "tcp:", "ssl:"].iter().any(|method| part.trim_start().starts_with(method));
        let mut parts: Vec<String> = Vec::new();
        for part in text.split(',') {
            match parts.last_mut().filter(|last| !begins(part) && last.trim_start().starts_with("unix:")) {
                Some(path) => {
                    path.push(',');
                    path.push_str(part);
                }
                None => parts.push(part.to_owned()),
            }
        }
        parts.iter().map(|part| part.trim().parse()).collect()
    }
}

impl FromStr for Endpoint {
    type Err = ParseEndpointError;

    fn from_str(text: &str) -> Result<Self, ParseEndpointError> {
        let error = || ParseEndpointError { text: text.to_owned() };
        let (kind, rest) = text.split_once(':').ok_or_else(error)?;
        if kind == "unix" && !rest.is_empty() && !rest.contains('\0') {
            return Ok(Endpoint::Unix(rest.into()));
        }
        let (host, port) = match rest.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or_else(error)?;
                let address = host.split_once('%').map_or(host, |(address, _zone)| address);
                address.parse::<Ipv6Addr>().map_err(|_| error())?;
                (host, port.strip_prefix(':').or(port.is_empty().then_some("")).ok_or_else(error)?)
            }
            None => {
                let (host, port) = rest.split_once(':').unwrap_or((rest, ""));
                let in_names = |c: char| c.is_alphanumeric() || matches!(c, '-' | '.' | '_');
                if !host.chars().all(in_names) {
                    return Err(error());
                }
                (host, port)
            }
        };
        let port = match port {
            "" => DEFAULT_PORT,
            port if !port.bytes().all(|digit| digit.is_ascii_digit()) => return Err(error()),
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
        let paths = Endpoint::parse_list("unix:/a,b/db.sock,tcp:[::1%lo]:1,unix:/c").unwrap();
        let paths: Vec<String> = paths.iter().map(ToString::to_string).collect();
        assert_eq!(paths, ["unix:/a,b/db.sock", "tcp:[::1%lo]:1", "unix:/c"]);
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
            "tcp:h:+80",
            "tcp:h:-1",
            "tcp: h :1",
            "tcp:h:1 ",
            "tcp:h:80:81",
            "tcp:::1:6640",
            "tcp:[h]:1",
            "tcp:[]:1",
            "tcp:h\0:1",
            "unix:a\0b",
            "TCP:h:1",
        ] {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
        for text in ["", ",", "unix:a,,tcp:b:1x", "tcp:a:1,b", "tcp:a:1,"] {
            assert!(Endpoint::parse_list(text).is_err(), "{text}");
        }
    }
}
