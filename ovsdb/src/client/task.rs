//! The task behind a [`Client`](super::Client).

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use serde_json::value::RawValue;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};

use super::lock::{Lock, Locks};
use super::{ClientError, ClientEvent, Options, Shared, Status};
use crate::backoff::Backoff;
use crate::endpoint::Endpoint;
use crate::session::{CallError, Config, Event, RequestId, Session};
use crate::transaction::{Condition, Reply, TransactError, Transaction};

/// Names a transaction that may be taken back before it has a request's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket(pub(super) u64);

/// What a handle asks of the task.
#[derive(Debug)]
pub(super) enum Command {
    Transact {
        transaction: Transaction,
        ticket: Ticket,
        reply: oneshot::Sender<Result<Reply, TransactError>>,
    },
    /// Comes through the same channel as the transaction, so never before it.
    Cancel(Ticket),
    SetConditions {
        table: String,
        conditions: Option<Vec<Condition>>,
        reply: oneshot::Sender<Result<(), CallError>>,
    },
    Lock {
        lock: String,
        steal: bool,
        /// For the handle that is to come back.
        unlock: mpsc::UnboundedSender<String>,
        /// Takes the handle itself: where nobody waits for it any more it is dropped, and the wish given up.
        reply: oneshot::Sender<Lock>,
    },
    Call {
        method: String,
        params: Box<RawValue>,
        reply: oneshot::Sender<Result<Box<RawValue>, CallError>>,
    },
}

impl Command {
    fn refuse(self, reason: &str) {
        // A caller that is gone does not care.
        match self {
            Command::Transact { reply, .. } => {
                let _ = reply.send(Err(TransactError::NotConnected(reason.to_owned())));
            }
            Command::SetConditions { reply, .. } => {
                let _ = reply.send(Err(CallError::Disconnected(reason.to_owned())));
            }
            Command::Call { reply, .. } => {
                let _ = reply.send(Err(CallError::Disconnected(reason.to_owned())));
            }
            // Its transaction has been refused before it.
            Command::Cancel(_) => {}
            // Not refused but remembered, see `Task::pause`.
            Command::Lock { .. } => {}
        }
    }
}

/// Beyond this many unsent bytes no further command is taken: callers wait instead of filling our memory.
const MOST_UNSENT: usize = 1 << 20;

/// Bytes asked of the socket at once.
const READ_SIZE: usize = 256 << 10;

async fn in_time<T>(
    deadline: tokio::time::Instant,
    work: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    match tokio::time::timeout_at(deadline, work).await {
        Ok(done) => done,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "timed out")),
    }
}

/// Sends some of the bytes; once there are none left, what the layers below have kept: TLS takes bytes that the socket
/// does not, and sends them when it is asked to the next time.
async fn send_some(writer: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<usize> {
    if bytes.is_empty() {
        return writer.flush().await.map(|()| 0);
    }
    match writer.write(bytes).await? {
        0 => Err(io::ErrorKind::WriteZero.into()),
        count => Ok(count),
    }
}

/// Why a connection ended.
enum End {
    /// All handles are gone.
    Unwanted,
    Failed(ClientError),
}

pub(super) struct Task {
    options: Options,
    config: Arc<Config>,
    commands: mpsc::Receiver<Command>,
    unlocks: mpsc::UnboundedReceiver<String>,
    locks: Locks,
    status: watch::Sender<Status>,
    shared: Arc<Shared>,
    /// Until the first connection is complete or has failed.
    first: Option<oneshot::Sender<Result<(), ClientError>>>,
    backoff: Backoff,
    transactions: HashMap<RequestId, (Ticket, oneshot::Sender<Result<Reply, TransactError>>)>,
    calls: HashMap<RequestId, oneshot::Sender<Result<Box<RawValue>, CallError>>>,
    conditions: HashMap<RequestId, oneshot::Sender<Result<(), CallError>>>,
}

impl Task {
    pub(super) fn new(
        options: Options,
        (commands, unlocks): (mpsc::Receiver<Command>, mpsc::UnboundedReceiver<String>),
        status: watch::Sender<Status>,
        shared: Arc<Shared>,
        first: oneshot::Sender<Result<(), ClientError>>,
    ) -> Task {
        Task {
            config: Arc::new(options.session.clone()),
            backoff: Backoff::new(options.backoff.0, options.backoff.1),
            options,
            commands,
            unlocks,
            locks: Locks::default(),
            status,
            shared,
            first: Some(first),
            transactions: HashMap::new(),
            calls: HashMap::new(),
            conditions: HashMap::new(),
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            let mut error = ClientError::NoEndpoint;
            for endpoint in self.options.endpoints.clone() {
                error = match self.connect(&endpoint).await {
                    End::Unwanted => return,
                    End::Failed(error) => error,
                };
                tracing::debug!(%error, "no database connection");
            }
            if let Some(first) = self.first.take() {
                let _ = first.send(Err(error));
                return;
            }
            if self.pause(&error.to_string()).await.is_err() {
                return;
            }
        }
    }

    /// Waits before the next round of attempts, and refuses what is asked meanwhile.
    async fn pause(&mut self, reason: &str) -> Result<(), ()> {
        let end = tokio::time::Instant::now() + self.backoff.wait();
        loop {
            // Both arms are cancel-safe.
            tokio::select! {
                () = tokio::time::sleep_until(end) => return Ok(()),
                command = self.commands.recv() => match command {
                    Some(Command::Lock { lock, unlock, reply, .. }) => {
                        let (held, _) = self.locks.wish(&lock);
                        let _ = reply.send(Lock::new(lock, held, unlock));
                    }
                    Some(command) => command.refuse(reason),
                    None => return Err(()),
                },
                Some(lock) = self.unlocks.recv() => {
                    self.locks.give_up(&lock);
                }
            }
        }
    }

    fn disconnected(&mut self, error: &ClientError) {
        if self.status.borrow().connected {
            tracing::warn!(%error, "database connection lost");
            self.status.send_modify(|status| status.connected = false);
            let _ = self.shared.events.send(ClientEvent::Disconnected);
        }
    }

    async fn connect(&mut self, endpoint: &Endpoint) -> End {
        let failed = |source| End::Failed(ClientError::Connect { endpoint: endpoint.clone(), source });
        let deadline = tokio::time::Instant::now() + self.options.connect_timeout;
        let tcp = async |host: &str, port: u16| {
            let stream = TcpStream::connect((host, port)).await?;
            // Transactions are small and wait for their answer.
            stream.set_nodelay(true)?;
            io::Result::Ok(stream)
        };
        match endpoint {
            Endpoint::Unix(path) => match in_time(deadline, UnixStream::connect(path)).await {
                Ok(stream) => self.drive(endpoint, stream, deadline).await,
                Err(source) => failed(source),
            },
            Endpoint::Tcp { host, port } => match in_time(deadline, tcp(host, *port)).await {
                Ok(stream) => self.drive(endpoint, stream, deadline).await,
                Err(source) => failed(source),
            },
            #[cfg(feature = "tls")]
            Endpoint::Tls { host, port } => {
                let Some(tls) = self.options.tls.clone() else {
                    let reason = "TLS needs a private key, a certificate and the authority's certificate";
                    return failed(io::Error::new(io::ErrorKind::InvalidInput, reason));
                };
                let connect = async { tls.connect(host, tcp(host, *port).await?).await };
                match in_time(deadline, connect).await {
                    Ok(stream) => self.drive(endpoint, stream, deadline).await,
                    Err(source) => failed(source),
                }
            }
            #[cfg(not(feature = "tls"))]
            Endpoint::Tls { .. } => {
                failed(io::Error::new(io::ErrorKind::Unsupported, "this program is built without TLS"))
            }
        }
    }

    /// Runs one connection to its end.
    async fn drive(
        &mut self,
        endpoint: &Endpoint,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        deadline: tokio::time::Instant,
    ) -> End {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let mut session = Session::new(self.config.clone(), Some(self.shared.replica()), Instant::now());
        for lock in self.locks.names() {
            session.lock(lock, false);
        }
        let mut buffer = Vec::with_capacity(READ_SIZE);
        let mut snapshot_deadline = Some(deadline);
        let mut unflushed = false;
        let end = loop {
            if let Err(source) = session.handle_timeout(Instant::now()) {
                break ClientError::Session { endpoint: endpoint.clone(), source };
            }
            let lost = |source| ClientError::Lost { endpoint: endpoint.clone(), source };
            let never = Duration::from_secs(3600);
            let timeout = session.timeout().unwrap_or_else(|| Instant::now() + never);
            let far = |instant: Option<tokio::time::Instant>| {
                instant.unwrap_or_else(|| (Instant::now() + never).into())
            };
            let synced = self.status.borrow().connected;
            if session.is_following() {
                snapshot_deadline = None;
            } else if snapshot_deadline.is_none() {
                // The schema changes: the next snapshot has to come as soon as the first.
                snapshot_deadline = Some(tokio::time::Instant::now() + self.options.connect_timeout);
            }
            let unsent = !session.outgoing().is_empty();
            // Every arm is cancel-safe: a read, write or flush that lost the race has lost no byte.
            tokio::select! {
                read = reader.read_buf(&mut buffer) => {
                    match read {
                        Ok(0) => break lost(io::ErrorKind::UnexpectedEof.into()),
                        Ok(_) => {}
                        Err(source) => break lost(source),
                    }
                    let received = session.receive(&buffer, Instant::now());
                    buffer.clear();
                    self.publish(&mut session);
                    if let Err(source) = received {
                        break ClientError::Session { endpoint: endpoint.clone(), source };
                    }
                }
                sent = send_some(&mut writer, session.outgoing()), if unsent || unflushed => match sent {
                    Ok(count) => {
                        session.sent(count);
                        unflushed = unsent;
                    }
                    Err(source) => break lost(source),
                },
                command = self.commands.recv(), if synced && session.outgoing().len() < MOST_UNSENT => {
                    let Some(command) = command else { return End::Unwanted };
                    self.send(&mut session, command);
                    // What else is waiting shares the write.
                    while session.outgoing().len() < MOST_UNSENT
                        && let Ok(command) = self.commands.try_recv()
                    {
                        self.send(&mut session, command);
                    }
                    // What could not be sent has its event already.
                    self.publish(&mut session);
                }
                Some(lock) = self.unlocks.recv() => {
                    if self.locks.give_up(&lock) {
                        session.unlock(&lock);
                    }
                }
                () = tokio::time::sleep_until(timeout.into()) => {}
                () = tokio::time::sleep_until(far(snapshot_deadline)), if snapshot_deadline.is_some() => {
                    break ClientError::Timeout { endpoint: endpoint.clone(), after: self.options.connect_timeout };
                }
            }
        };
        // First the status, then the outcomes: whoever learns that an outcome is unknown and waits for the connection
        // must not take the old one for the next one.
        self.disconnected(&end);
        self.locks.lose_all();
        session.close(&end.to_string());
        self.publish(&mut session);
        End::Failed(end)
    }

    fn send(&mut self, session: &mut Session, command: Command) {
        match command {
            Command::Transact { transaction, ticket, reply } => {
                self.transactions.insert(session.transact(&transaction), (ticket, reply));
            }
            Command::Cancel(ticket) => {
                let of_ticket = self.transactions.iter().find(|(_, (other, _))| *other == ticket);
                if let Some((id, _)) = of_ticket {
                    session.cancel(*id);
                }
            }
            Command::SetConditions { table, conditions, reply } => {
                match session.set_conditions(&table, conditions) {
                    Some(id) => {
                        self.conditions.insert(id, reply);
                    }
                    None => {
                        let reason = format!("the server knows no conditions, or {table} is not monitored");
                        let _ = reply.send(Err(CallError::Impossible(reason)));
                    }
                }
            }
            Command::Lock { lock, steal, unlock, reply } => {
                let (held, first) = self.locks.wish(&lock);
                if !first && steal {
                    // A session that waits for a lock may not ask for it a second time.
                    session.unlock(&lock);
                }
                if first || steal {
                    session.lock(&lock, steal);
                }
                let _ = reply.send(Lock::new(lock, held, unlock));
            }
            Command::Call { method, params, reply } => {
                self.calls.insert(session.call(&method, &params), reply);
            }
        }
    }

    /// Hands on what happened: the replica first, so that whoever is woken finds it.
    fn publish(&mut self, session: &mut Session) {
        let replica = session.replica().clone();
        let generation = replica.generation();
        *self.shared.replica.write().unwrap_or_else(PoisonError::into_inner) = replica.clone();
        while let Some(event) = session.poll_event() {
            match event {
                Event::Synced { changes, resumed } => {
                    *self.shared.schema.write().unwrap_or_else(PoisonError::into_inner) =
                        session.schema().cloned();
                    self.backoff.reset();
                    if !changes.is_empty() {
                        // What someone waits for may have happened while the server was away.
                        self.shared.waiters.wake(&changes);
                        let _ =
                            self.shared.events.send(ClientEvent::Changed(changes.into(), replica.clone()));
                    }
                    let _ = self.shared.events.send(ClientEvent::Connected);
                    self.status.send_modify(|status| {
                        status.connected = true;
                        status.connections = status.connections.wrapping_add(1);
                        status.resumed = status.resumed.wrapping_add(u64::from(resumed));
                        status.generation = generation;
                    });
                    if let Some(first) = self.first.take() {
                        let _ = first.send(Ok(()));
                    }
                }
                Event::Changed(changes) => {
                    self.shared.waiters.wake(&changes);
                    let _ = self.shared.events.send(ClientEvent::Changed(changes.into(), replica.clone()));
                }
                // A caller that is gone does not care.
                Event::Transacted(id, outcome) => {
                    if let Some((_, reply)) = self.transactions.remove(&id) {
                        let _ = reply.send(outcome);
                    }
                }
                Event::Lock { lock, held } => self.locks.set(&lock, held),
                Event::ConditionsSet(id, outcome) => {
                    self.config = session.config().clone();
                    if let Some(reply) = self.conditions.remove(&id) {
                        let _ = reply.send(outcome);
                    }
                }
                Event::Called(id, outcome) => {
                    if let Some(reply) = self.calls.remove(&id) {
                        let _ = reply.send(outcome);
                    }
                }
            }
        }
        self.status
            .send_if_modified(|status| std::mem::replace(&mut status.generation, generation) != generation);
    }
}
