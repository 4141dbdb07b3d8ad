//! A byte-cutting proxy between client and server.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

/// Forwards a Unix socket to another, until a cut is due: then both sides of every connection are closed, in the
/// midst of a message if that is where the byte count ends.
pub(crate) struct Proxy {
    state: Arc<State>,
    task: JoinHandle<()>,
}

struct State {
    /// Bytes that may still pass, of both directions together.
    left: AtomicI64,
    cut: Notify,
    /// What servers say is kept back.
    held: watch::Sender<bool>,
    /// Transactions that clients have sent.
    transactions: watch::Sender<u32>,
}

/// Which way bytes go.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    ToServer,
    ToClient,
}

impl Proxy {
    pub(crate) fn new(listen: &Path, to: PathBuf) -> Proxy {
        let listener = UnixListener::bind(listen).unwrap();
        let state = Arc::new(State {
            left: AtomicI64::new(i64::MAX),
            cut: Notify::new(),
            held: watch::Sender::new(false),
            transactions: watch::Sender::new(0),
        });
        let task = tokio::spawn({
            let state = state.clone();
            async move {
                loop {
                    let (client, _) = listener.accept().await.unwrap();
                    let Ok(server) = UnixStream::connect(&to).await else { continue };
                    let state = state.clone();
                    tokio::spawn(async move {
                        let (client_in, client_out) = client.into_split();
                        let (server_in, server_out) = server.into_split();
                        tokio::select! {
                            () = state.pump(Way::ToServer, client_in, server_out) => {}
                            () = state.pump(Way::ToClient, server_in, client_out) => {}
                            () = state.cut.notified() => {}
                        }
                    });
                }
            }
        });
        Proxy { state, task }
    }

    /// Cuts everything after this many more bytes.
    pub(crate) fn cut_after(&self, bytes: u32) {
        self.state.left.store(bytes.into(), Ordering::SeqCst);
    }

    /// Keeps back what servers say.
    pub(crate) fn hold(&self) {
        self.state.held.send_replace(true);
        self.state.transactions.send_replace(0);
    }

    /// Until a client has sent a transaction since [`Proxy::hold`].
    pub(crate) async fn transaction_sent(&self) {
        self.state.transactions.subscribe().wait_for(|count| *count > 0).await.unwrap();
    }

    pub(crate) fn release(&self) {
        self.state.held.send_replace(false);
    }
}

impl State {
    async fn pump(&self, way: Way, mut from: impl AsyncReadExt + Unpin, mut to: impl AsyncWriteExt + Unpin) {
        let mut buffer = vec![0; 4096];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            if way == Way::ToClient {
                let _ = self.held.subscribe().wait_for(|held| !held).await;
            }
            let left = self.left.fetch_sub(i64::try_from(count).unwrap(), Ordering::SeqCst);
            let pass = usize::try_from(left.max(0)).unwrap().min(count);
            if to.write_all(&buffer[..pass]).await.is_err() {
                return;
            }
            let method = br#""method":"transact""#;
            if way == Way::ToServer && buffer[..pass].windows(method.len()).any(|window| window == method) {
                self.transactions.send_modify(|count| *count += 1);
            }
            if pass < count {
                self.left.store(i64::MAX, Ordering::SeqCst);
                self.cut.notify_waiters();
                return;
            }
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}
