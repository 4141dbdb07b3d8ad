//! Real packets: a TCP connection and a ping from one namespace to another.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::LabError;
use crate::node::netns::{self, NetNs};

/// How long a connection may take from the first packet to the last. A lost first packet is sent again after one
/// second (RFC 6298 §2.1).
const CONNECTION: Duration = Duration::from_millis(2500);

/// How long a ping waits for an answer, in seconds, and how often it asks meanwhile.
const PING: [&str; 4] = ["-w", "1", "-i", "0.2"];

/// What a connection carries in bytes: many full segments, since a wrong checksum offload or MTU loses those and
/// lets a ping pass.
const PAYLOAD: usize = 64 * 1024;

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
    pub(super) async fn start(netns: &str, name: &str) -> Result<Self, LabError> {
        let failed = |source| LabError::Listen { netns: netns.to_owned(), source };
        // A socket stays in the namespace that it was made in, whichever thread uses it.
        let listener = netns::spawn_in(&NetNs::open_named(netns)?, || {
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
                tokio::spawn(async move { timeout(CONNECTION, serve(stream, peer, &name)).await });
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

/// TCP sockets of a namespace, not connected yet.
///
/// # Errors
/// [`LabError::Listen`], [`LabError::NetNs`].
pub(super) async fn sockets(netns: &str, count: usize) -> Result<Vec<OwnedFd>, LabError> {
    let made: Result<Vec<_>, nix::Error> = netns::spawn_in(&NetNs::open_named(netns)?, move || {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        (0..count).map(|_| socket(AddressFamily::Inet, SockType::Stream, flags, None)).collect()
    })
    .await?;
    made.map_err(|errno| LabError::Listen { netns: netns.to_owned(), source: errno.into() })
}

/// Connects to a [`Server`], sends the payload and takes it back. The address under which the server saw this end,
/// if it was the server `name` and everything came through.
pub(super) async fn connect(socket: OwnedFd, to: Ipv4Addr, port: u16, name: &str) -> Option<Ipv4Addr> {
    let exchange = async {
        let socket = TcpSocket::from_std_stream(socket.into());
        let stream = socket.connect(SocketAddrV4::new(to, port).into()).await?;
        let (reader, mut writer) = stream.into_split();
        let mut reader = BufReader::new(reader);
        let (mut who, mut seen) = (String::new(), String::new());
        reader.read_line(&mut who).await?;
        reader.read_line(&mut seen).await?;
        let payload: Vec<u8> = (0u8..=250).cycle().take(PAYLOAD).collect();
        let mut back = Vec::new();
        // Both at once: the server sends back only when it has everything, but neither end can hold everything.
        let (sent, read) = tokio::join!(writer.write_all(&payload), reader.read_to_end(&mut back));
        sent.and(read)?;
        io::Result::Ok(
            (who.trim_end() == name && back == payload).then(|| seen.trim_end().parse().ok()).flatten(),
        )
    };
    timeout(CONNECTION, exchange).await.ok()?.ok()?
}

/// Whether `to` answers a ping from the namespace.
///
/// # Errors
/// [`LabError::Spawn`], [`LabError::NetNs`].
pub(super) async fn ping(netns: &str, to: Ipv4Addr) -> Result<bool, LabError> {
    let status = netns::spawn_in(&NetNs::open_named(netns)?, move || {
        let mut command = Command::new("ping");
        command.args(["-n", "-q", "-c", "1"]).args(PING).arg(to.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()
    })
    .await?
    .map_err(|source| LabError::Spawn { program: "ping".into(), source })?;
    Ok(status.success())
}
