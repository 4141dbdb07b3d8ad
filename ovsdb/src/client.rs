//! The async client: a handle to a task that owns the connection and keeps the replica.

mod lock;
mod planned;
mod task;
#[cfg(feature = "tls")]
mod tls;
mod waiters;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::endpoint::Endpoint;
use crate::monitor::Monitored;
use crate::replica::{Replica, Row, RowChange};
use crate::schema::DatabaseSchema;
use crate::session::{CallError, Config, SessionError};
use crate::transaction::{Condition, Reply, TransactError, Transaction};
use crate::value::Uuid;
pub use lock::Lock;
use task::{Command, Task, Ticket};
#[cfg(feature = "tls")]
pub use tls::{Tls, TlsError};
use waiters::Waiters;

/// How a client connects.
#[derive(Debug, Clone)]
pub struct Options {
    /// The servers, tried in turn until one answers.
    pub endpoints: Vec<Endpoint>,
    /// What a session is for.
    pub session: Config,
    /// The longest time for a connection and its first snapshot, before the next endpoint is tried. What is asked for
    /// meanwhile waits; between two rounds of attempts it is refused at once.
    pub connect_timeout: Duration,
    /// The first wait after a lost connection, and the longest.
    pub backoff: (Duration, Duration),
    /// For endpoints `ssl:HOST:PORT`.
    #[cfg(feature = "tls")]
    pub tls: Option<Tls>,
}

impl Options {
    /// The defaults: 10 s to connect, 20 ms to 1 s between attempts.
    pub fn new(endpoints: impl Into<Vec<Endpoint>>, db: impl Into<String>, monitored: Monitored) -> Options {
        Options {
            endpoints: endpoints.into(),
            session: Config::new(db, monitored),
            connect_timeout: Duration::from_secs(10),
            backoff: (Duration::from_millis(20), Duration::from_secs(1)),
            #[cfg(feature = "tls")]
            tls: None,
        }
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server can't be reached.
    #[error("no connection to the database at {endpoint}: {source} (is ovsdb-server running?)")]
    Connect {
        /// Where it should be.
        endpoint: Endpoint,
        /// What the system says.
        source: std::io::Error,
    },
    /// The connection was lost or ended by the server.
    #[error("the connection to the database at {endpoint} is gone: {source}")]
    Lost {
        /// Where it was.
        endpoint: Endpoint,
        /// What the system says.
        source: std::io::Error,
    },
    /// The server does not speak OVSDB, or not as it should.
    #[error("the database at {endpoint}: {source}")]
    Session {
        /// The server.
        endpoint: Endpoint,
        /// What is wrong.
        source: SessionError,
    },
    /// Too slow.
    #[error("the database at {endpoint} did not answer within {} ms", .after.as_millis())]
    Timeout {
        /// The server.
        endpoint: Endpoint,
        /// The time it had.
        after: Duration,
    },
    /// [`Options::endpoints`] is empty.
    #[error("no database endpoint is given")]
    NoEndpoint,
    /// The client has been closed.
    #[error("the database client is closed")]
    Closed,
}

/// What subscribers of [`Client::changes`] see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Status {
    /// Counts the changes of the replica, as [`Replica::generation`].
    pub generation: u64,
    /// Whether the replica follows a server now. While it does not, it shows the last known state.
    pub connected: bool,
    /// Counts the complete snapshots: one a connection, and one more for each schema change on the way.
    pub connections: u64,
    /// Counts those of them that fetched only what had changed since the one before.
    pub resumed: u64,
}

/// What an event stream carries.
#[derive(Debug, Clone)]
pub enum ClientEvent {
    /// A transaction changed the replica, or a resync after a reconnect found these differences. The replica is
    /// the one after the changes.
    Changed(Arc<[RowChange]>, Arc<Replica>),
    /// A connection is up and the replica complete.
    Connected,
    /// The connection is gone.
    Disconnected,
}

/// What handles and task share.
#[derive(Debug)]
pub(crate) struct Shared {
    replica: RwLock<Arc<Replica>>,
    schema: RwLock<Option<Arc<DatabaseSchema>>>,
    events: broadcast::Sender<ClientEvent>,
    waiters: Waiters,
    tickets: AtomicU64,
}

impl Shared {
    fn replica(&self) -> Arc<Replica> {
        self.replica.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A connection to one database with a replica of its monitored part. Clones share it; when the last one is
/// dropped the connection ends.
#[derive(Debug, Clone)]
pub struct Client {
    database: Arc<str>,
    commands: mpsc::Sender<Command>,
    unlock: mpsc::UnboundedSender<String>,
    status: watch::Receiver<Status>,
    shared: Arc<Shared>,
}

/// Events a slow subscriber may fall behind by before it has to look at the replica instead.
const EVENT_BACKLOG: usize = 1024;

impl Client {
    /// Connects and fetches the first snapshot. Later disconnects are the client's own business: it reconnects
    /// with a growing wait and swaps in the new snapshot at once.
    ///
    /// # Errors
    /// The first attempt failed; nothing is left behind.
    pub async fn connect(endpoint: &Endpoint, db: &str, monitored: Monitored) -> Result<Client, ClientError> {
        Client::connect_with(Options::new([endpoint.clone()], db, monitored)).await
    }

    /// As [`Client::connect`], with all choices.
    ///
    /// # Errors
    /// The first attempt failed at every endpoint (the error is the last one's); nothing is left behind.
    pub async fn connect_with(options: Options) -> Result<Client, ClientError> {
        let (commands, receiver) = mpsc::channel(256);
        let (status_sender, status) = watch::channel(Status::default());
        let (first, connected) = oneshot::channel();
        let (events, _) = broadcast::channel(EVENT_BACKLOG);
        let empty = Arc::new(Replica::unconnected());
        let shared = Arc::new(Shared {
            replica: RwLock::new(empty),
            schema: RwLock::default(),
            events,
            waiters: Waiters::default(),
            tickets: AtomicU64::default(),
        });
        let database = options.session.database.as_str().into();
        let (unlock, unlocks) = mpsc::unbounded_channel();
        tokio::spawn(Task::new(options, (receiver, unlocks), status_sender, shared.clone(), first).run());
        connected.await.map_err(|_| ClientError::Closed)??;
        Ok(Client { database, commands, unlock, status, shared })
    }

    /// The database's name.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// An empty transaction on this client's database.
    pub fn transaction(&self) -> Transaction {
        Transaction::new(&*self.database)
    }

    /// The replica as it is now: a snapshot that stays as it is.
    pub fn replica(&self) -> Arc<Replica> {
        self.shared.replica()
    }

    /// The server's schema of the database.
    pub fn schema(&self) -> Option<Arc<DatabaseSchema>> {
        self.shared.schema.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Generation and connection, now.
    pub fn status(&self) -> Status {
        *self.status.borrow()
    }

    /// Wakes on each change of the replica and on each loss and return of the connection. Changes in quick
    /// succession wake once.
    pub fn changes(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Every single change with old and new rows, in order. A subscriber that falls behind gets
    /// [`Lagged`](broadcast::error::RecvError::Lagged) and should begin again from the replica.
    pub fn events(&self) -> broadcast::Receiver<ClientEvent> {
        self.shared.events.subscribe()
    }

    /// Waits until `f` finds what it looks for in the replica; it is asked at once and after each change. Put a
    /// timeout around it. Cancel-safe.
    pub async fn wait_for<T>(&self, mut f: impl FnMut(&Replica) -> Option<T>) -> T {
        let mut changes = self.changes();
        loop {
            changes.borrow_and_update();
            if let Some(found) = f(&self.replica()) {
                return found;
            }
            if changes.changed().await.is_err() {
                // The task has ended, which happens only with the runtime: nothing will change any more.
                std::future::pending::<()>().await;
            }
        }
    }

    /// As [`Client::wait_for`], for one row: asked at once and after each change of just this row (`None` while it is
    /// not there). Cancel-safe.
    pub async fn wait_for_row<T>(
        &self,
        table: &str,
        row: Uuid,
        mut f: impl FnMut(Option<&Row>) -> Option<T>,
    ) -> T {
        let waiting = self.shared.waiters.join(row);
        loop {
            let mut changed = std::pin::pin!(waiting.notify().notified());
            // Before the look, or a change right after it would be missed.
            changed.as_mut().enable();
            if let Some(found) = f(self.replica().row(table, row).map(|row| &**row)) {
                return found;
            }
            changed.await;
        }
    }

    /// Waits until the replica follows a server. Cancel-safe.
    pub async fn wait_connected(&self) {
        let mut changes = self.changes();
        if changes.wait_for(|status| status.connected).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Sends a transaction and waits for its outcome. `ovsdb-server` tells of a transaction's changes before it answers
    /// it: when this returns `Ok` the replica shows what it monitors of them.
    ///
    /// If this future is dropped the transaction may still be carried out, even much later if it waits;
    /// [`Client::transact_or_cancel`] takes it back. [`Client::transact_planned`] goes on until the outcome is known.
    ///
    /// # Errors
    /// See [`TransactError`]: refused and not connected mean that nothing was done.
    pub async fn transact(&self, transaction: Transaction) -> Result<Reply, TransactError> {
        self.transact_or_cancel(transaction, std::future::pending()).await
    }

    /// As [`Client::transact`], and takes the transaction back (RFC 7047 §4.1.4, `cancel`) should `cancel` complete before
    /// the answer: for a transaction that waits, with no timeout of its own or with a long one.
    ///
    /// ```no_run
    /// # async fn example(client: ovsdb::Client, tx: ovsdb::Transaction) -> Result<(), ovsdb::TransactError> {
    /// let hour = std::time::Duration::from_secs(3600);
    /// let reply = client.transact_or_cancel(tx, tokio::time::sleep(hour)).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Client::transact`]. Taken back in time it is refused with
    /// [`ErrorKind::Canceled`](crate::ErrorKind::Canceled), or [`TransactError::NotConnected`] if it had not even left:
    /// nothing was done. What the server has carried out by then has its ordinary reply.
    pub async fn transact_or_cancel(
        &self,
        transaction: Transaction,
        cancel: impl Future<Output = ()>,
    ) -> Result<Reply, TransactError> {
        let (reply, mut outcome) = oneshot::channel();
        let ticket = Ticket(self.shared.tickets.fetch_add(1, Ordering::Relaxed));
        let not_sent = |why: &str| Err(TransactError::NotConnected(why.to_owned()));
        let mut cancel = std::pin::pin!(cancel);
        // Every arm is cancel-safe: a command that lost the race was not sent.
        tokio::select! {
            biased;
            sent = self.commands.send(Command::Transact { transaction, ticket, reply }) => {
                if sent.is_err() {
                    return not_sent("the client is closed");
                }
            }
            () = &mut cancel => return not_sent("it was taken back before it was sent"),
        }
        let unknown = |_| Err(TransactError::OutcomeUnknown("the client was closed".to_owned()));
        tokio::select! {
            biased;
            outcome = &mut outcome => return outcome.unwrap_or_else(unknown),
            () = cancel => {}
        }
        // A task that is gone has dropped the other end of `outcome` too.
        let _ = self.commands.send(Command::Cancel(ticket)).await;
        outcome.await.unwrap_or_else(unknown)
    }

    /// Changes at run time which rows of a table the replica holds: those that fulfil one of the conditions, or all
    /// (`None` or an empty list; for none at all use `Condition::Always(false)`). Returns when the replica shows them.
    ///
    /// # Errors
    /// The server refused or knows no conditions, the table is not monitored, or the connection is gone; the
    /// conditions of before then stay in force.
    pub async fn set_conditions(
        &self,
        table: &str,
        conditions: Option<Vec<Condition>>,
    ) -> Result<(), CallError> {
        let closed = || CallError::Disconnected("the client is closed".to_owned());
        let (reply, outcome) = oneshot::channel();
        let command = Command::SetConditions { table: table.to_owned(), conditions, reply };
        self.commands.send(command).await.map_err(|_| closed())?;
        outcome.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Asks for a lock, and again after each reconnect, until the [`Lock`] is dropped. With `steal` the present owner
    /// loses it (once: a reconnect waits for its turn like everyone else). If this future is dropped so is the wish.
    ///
    /// # Errors
    /// The client is closed.
    pub async fn lock(&self, name: &str, steal: bool) -> Result<Lock, ClientError> {
        let (reply, lock) = oneshot::channel();
        let command = Command::Lock { lock: name.to_owned(), steal, unlock: self.unlock.clone(), reply };
        self.commands.send(command).await.map_err(|_| ClientError::Closed)?;
        lock.await.map_err(|_| ClientError::Closed)
    }

    /// Sends any other request, e.g. `list_dbs`, and waits for its result as JSON.
    ///
    /// # Errors
    /// The server refused, or the connection is gone.
    pub async fn call(&self, method: &str, params: &impl Serialize) -> Result<Box<RawValue>, CallError> {
        let closed = || CallError::Disconnected("the client is closed".to_owned());
        let params = serde_json::value::to_raw_value(params)
            .map_err(|error| CallError::Disconnected(format!("the request can't be written: {error}")))?;
        let (reply, outcome) = oneshot::channel();
        let command = Command::Call { method: method.to_owned(), params, reply };
        self.commands.send(command).await.map_err(|_| closed())?;
        outcome.await.unwrap_or_else(|_| Err(closed()))
    }
}
