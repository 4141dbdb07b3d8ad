//! Real packets: a TCP connection and a ping from one namespace to another.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::LabError;
use crate::node::netns::{self, NetNs};

/// How long the other side may take to answer. A lost first packet is sent again after one second (RFC 6298 §2.1).
const HANDSHAKE: Duration = Duration::from_millis(1200);

/// How long everything after that may take.
const EXCHANGE: Duration = Duration::from_secs(4);

/// How long a ping waits for an answer, in seconds, and how often it asks meanwhile.
const PING: [&str; 4] = ["-w", "1", "-i", "0.2"];

/// What a connection carries in bytes: many full segments, since a wrong checksum offload or MTU loses those and
/// lets a ping pass.
const PAYLOAD: usize = 16 * 1024;

/// A TCP server in a namespace. It says its name and whom it sees, takes what is sent and says how much it was.
#[derive(Debug)]
pub(super) struct Server {
    port: u16,
    task: AbortHandle,
}

impl Server {
    /// Starts one on a free port of every address of the namespace.
    ///
    /// # Errors
    /// [`LabError::Listen`], [`LabError::NetNs`].
    pub(super) async fn start(ns: &NetNs, netns: &str, name: &str) -> Result<Self, LabError> {
        let failed = |source| LabError::Listen { netns: netns.to_owned(), source };
        // A socket stays in the namespace that it was made in, whichever thread uses it.
        let listener = netns::spawn_in(ns, || {
            let listener = std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        })
        .await?
        .map_err(failed)?;
        let listener = TcpListener::from_std(listener).map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        let name = name.to_owned();
        let task = tokio::spawn(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                let name = name.clone();
                tokio::spawn(async move { timeout(EXCHANGE * 4, serve(stream, peer, &name)).await });
            }
        })
        .abort_handle();
        Ok(Self { port, task })
    }

    /// Where it listens.
    pub(super) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, peer: SocketAddr, name: &str) -> io::Result<()> {
    stream.write_all(format!("{name}\n{}\n", peer.ip()).as_bytes()).await?;
    let mut received = vec![0; PAYLOAD];
    stream.read_exact(&mut received).await?;
    stream.write_all(&received).await?;
    stream.shutdown().await
}

/// Connects to a [`Server`] from the namespace, sends the payload and takes it back. The address under which the
/// server saw this end, if it was the server `name` and everything came through. Data is sent when there is a permit
/// in `turns`.
///
/// # Errors
/// [`LabError::Socket`], [`LabError::NetNs`].
pub(super) async fn connect(
    ns: &NetNs,
    to: Ipv4Addr,
    port: u16,
    name: &str,
    turns: &Semaphore,
) -> Result<Option<Ipv4Addr>, LabError> {
    let socket = netns::spawn_in(ns, || {
        socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, None)
    })
    .await?
    .map_err(|errno| LabError::Socket(errno.into()))?;
    let address = SocketAddrV4::new(to, port).into();
    let connecting = TcpSocket::from_std_stream(socket.into()).connect(address);
    let Ok(Ok(stream)) = timeout(HANDSHAKE, connecting).await else { return Ok(None) };
    let _turn = turns.acquire().await;
    let exchanged = timeout(EXCHANGE, exchange(stream, name)).await;
    Ok(exchanged.ok().and_then(Result::ok).flatten())
}

async fn exchange(stream: TcpStream, name: &str) -> io::Result<Option<Ipv4Addr>> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let (mut who, mut seen) = (String::new(), String::new());
    reader.read_line(&mut who).await?;
    reader.read_line(&mut seen).await?;
    let payload: Vec<u8> = (0u8..=250).cycle().take(PAYLOAD).collect();
    let mut back = Vec::new();
    let (sent, read) = tokio::join!(writer.write_all(&payload), reader.read_to_end(&mut back));
    sent.and(read)?;
    let complete = who.trim_end() == name && back == payload;
    Ok(complete.then(|| seen.trim_end().parse().ok()).flatten())
}

/// Whether `to` answers a ping from the namespace.
///
/// # Errors
/// [`LabError::Spawn`], [`LabError::NetNs`].
pub(super) async fn ping(ns: &NetNs, to: Ipv4Addr) -> Result<bool, LabError> {
    let status = netns::spawn_in(ns, move || {
        let mut command = Command::new("ping");
        command.args(["-n", "-q", "-c", "1"]).args(PING).arg(to.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()
    })
    .await?
    .map_err(|source| LabError::Spawn { program: "ping".into(), source })?;
    Ok(status.success())
}
