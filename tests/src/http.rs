//! HTTP to a program inside a network namespace, in the plainest way.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use controller::node::netns::{NetNs, run_in};

/// Where `sdn-node` serves everything.
pub const ADMIN: u16 = 29101;
/// Where it serves metrics.
pub const METRICS: u16 = 9101;

/// Sends a request to the namespace's loopback; the status and the body of the answer.
///
/// # Errors
/// There is no answer, or it is not HTTP.
pub fn ask(netns: &Path, port: u16, method: &str, path: &str, body: &str) -> anyhow::Result<(u16, String)> {
    let exchange = || -> anyhow::Result<String> {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = run_in(&NetNs::open(netns)?, exchange)??;
    let (head, body) = answer.split_once("\r\n\r\n").with_context(|| answer.clone())?;
    let status = head.split_whitespace().nth(1).with_context(|| answer.clone())?.parse()?;
    Ok((status, body.to_owned()))
}

/// `GET`.
///
/// # Errors
/// As [`ask`].
pub fn get(netns: &Path, port: u16, path: &str) -> anyhow::Result<(u16, String)> {
    ask(netns, port, "GET", path, "")
}

/// The value of a metric, named as in the exposition, with labels.
///
/// # Errors
/// There is none.
pub fn metric(netns: &Path, name: &str) -> anyhow::Result<f64> {
    let (_, text) = get(netns, METRICS, "/metrics")?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(value.with_context(|| format!("no {name} in\n{text}"))?.parse()?)
}
