//! One connection to an OVSDB server as a state machine without I/O.
//!
//! A [`Session`] takes bytes and instants; it gives back [`Event`]s, bytes to send and the next instant at which it wants to be called.
//! It asks for the schema, starts the monitor in the best form that the server knows, keeps the replica, answers
//! echoes and sends its own when the line is silent.

mod envelope;
mod monitoring;
mod serving;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::value::RawValue;

use crate::framing::{FramingError, Limits, Splitter};
use crate::monitor::Monitored;
use crate::replica::{Replica, ReplicaError, RowChange};
use crate::schema::DatabaseSchema;
use crate::transaction::{Asked, Condition, OperationError, Reply, TransactError, Transaction, parse_reply};
use crate::value::{NUL, has_nul};
use envelope::Envelope;
use monitoring::{Method, Monitoring};

/// What a session is for; the same for every connection of a client.
#[derive(Debug, Clone)]
pub struct Config {
    /// The database.
    pub database: String,
    /// What the replica holds of it.
    pub monitored: Monitored,
    /// What the server may make us buffer.
    pub limits: Limits,
    /// After this long without a byte from the server an echo request goes out; after as long again without an
    /// answer the connection counts as dead. `None` never probes.
    pub probe_interval: Option<Duration>,
    /// Of a cluster, stay only with its leader: transactions are faster there, and two clients on the leader see the
    /// same order of events.
    pub leader_only: bool,
}

impl Config {
    /// The default limits, probes every 10 s.
    pub fn new(database: impl Into<String>, monitored: Monitored) -> Config {
        let probe_interval = Some(Duration::from_secs(10));
        Config {
            database: database.into(),
            monitored,
            limits: Limits::default(),
            probe_interval,
            leader_only: false,
        }
    }
}

/// Identifies a request until its answer comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(u64);

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// The replica is complete and follows the server from now on.
    Synced {
        /// The changes since the replica that the session began with.
        changes: Vec<RowChange>,
        /// Whether the server sent only these instead of everything (`monitor_cond_since` found the last
        /// transaction).
        resumed: bool,
    },
    /// A transaction changed the replica.
    Changed(Vec<RowChange>),
    /// The answer to [`Session::transact`].
    Transacted(RequestId, Result<Reply, TransactError>),
    /// A lock asked for is held now, or not: granted, waiting for its turn, or stolen.
    Lock {
        /// The lock.
        lock: String,
        /// Whether this session holds it.
        held: bool,
    },
    /// The answer to [`Session::set_conditions`]; the replica shows the rows of the new conditions.
    ConditionsSet(RequestId, Result<(), CallError>),
    /// The answer to [`Session::call`]: the result or the error, as JSON.
    Called(RequestId, Result<Box<RawValue>, CallError>),
}

/// Why a plain call has no result.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallError {
    /// The server's error, as JSON.
    #[error("the database server refused: {0}")]
    Refused(Box<RawValue>),
    /// It can't be asked for.
    #[error("{0}")]
    Impossible(String),
    /// The connection ended before the answer.
    #[error("the connection to the database server ended before its answer: {0}")]
    Disconnected(String),
}

/// Why a connection can't go on. The remedy is a new one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The stream is not JSON objects within the limits.
    #[error("the server's stream is broken: {0}")]
    Framing(#[from] FramingError),
    /// A message is not JSON, not JSON-RPC or not what its method says.
    #[error("a message of the server is not understood: {0}")]
    Message(String),
    /// An answer to something that was not asked.
    #[error("the server answered request {0}, which was never made")]
    UnexpectedReply(String),
    /// An update that does not fit.
    #[error("the server's update does not fit the replica: {0}")]
    Replica(#[from] ReplicaError),
    /// The server refuses what the session can't do without.
    #[error("the server refused {method}: {error}")]
    Refused {
        /// The JSON-RPC method.
        method: &'static str,
        /// Its error, as JSON.
        error: String,
    },
    /// The server has the database but can't serve it; another endpoint may.
    #[error("the server of {database} {what}")]
    NotServing {
        /// The database.
        database: String,
        /// Why.
        what: &'static str,
    },
    /// The server asks and asks (echo requests) and does not read the answers.
    #[error("the server does not read: answers of more than {limit} bytes wait for it")]
    NotReading {
        /// [`Limits::answers`].
        limit: usize,
    },
    /// The server sent nothing, not even the answer to an echo request.
    #[error("the server has been silent for {0:?}")]
    Silent(Duration),
}

/// What an outstanding request was about.
#[derive(Debug)]
enum Pending {
    Schema,
    Monitor(Method),
    Transact(Asked),
    Conditions(String, Option<Vec<Condition>>),
    Lock(String),
    Unlock,
    Serving,
    /// Whatever the answer is.
    Aside,
    Call,
    Echo,
}

/// The state machine of one connection.
#[derive(Debug)]
pub struct Session {
    splitter: Splitter,
    core: Core,
}

#[derive(Debug)]
struct Core {
    config: Arc<Config>,
    outgoing: Vec<u8>,
    /// Bytes of `outgoing` that have been sent already.
    sent: usize,
    /// Bytes of answers since `outgoing` was last empty.
    answers: usize,
    next_id: u64,
    pending: HashMap<u64, Pending>,
    events: VecDeque<Event>,
    schema: Option<Arc<DatabaseSchema>>,
    replica: Arc<Replica>,
    monitoring: Monitoring,
    /// The database `_server`, where there is one.
    server: Option<Replica>,
    last_received: Instant,
    probing: bool,
}

impl Session {
    /// A session on a fresh connection. `replica` is what an earlier connection of the same client left, or
    /// `None`; it stays visible until the new one is complete.
    pub fn new(config: Arc<Config>, replica: Option<Arc<Replica>>, now: Instant) -> Session {
        let mut core = Core {
            outgoing: Vec::new(),
            sent: 0,
            answers: 0,
            next_id: 0,
            pending: HashMap::new(),
            events: VecDeque::new(),
            schema: None,
            replica: replica.unwrap_or_else(|| Arc::new(Replica::unconnected())),
            monitoring: Monitoring::default(),
            server: None,
            last_received: now,
            probing: false,
            config,
        };
        core.ask_for_schema();
        core.ask_about_serving();
        Session { splitter: Splitter::new(core.config.limits), core }
    }

    /// Takes bytes from the server.
    ///
    /// # Errors
    /// The connection can't go on; call [`Session::close`] and connect again.
    pub fn receive(&mut self, bytes: &[u8], now: Instant) -> Result<(), SessionError> {
        self.core.last_received = now;
        self.core.probing = false;
        let core = &mut self.core;
        let mut outcome = Ok(());
        let framing = self.splitter.push(bytes, |message| {
            if outcome.is_ok() {
                outcome = core.handle(message);
            }
        });
        outcome.and(framing.map_err(Into::into))
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.core.events.pop_front()
    }

    /// Bytes to send to the server.
    pub fn outgoing(&self) -> &[u8] {
        self.core.outgoing.get(self.core.sent..).unwrap_or_default()
    }

    /// Tells that the first `count` bytes of [`Session::outgoing`] have been sent.
    pub fn sent(&mut self, count: usize) {
        let core = &mut self.core;
        core.sent = core.sent.saturating_add(count).min(core.outgoing.len());
        if core.sent == core.outgoing.len() {
            core.outgoing.clear();
            // One huge transaction must not pin its memory for the life of the connection.
            core.outgoing.shrink_to(64 << 10);
            core.answers = 0;
        } else if core.sent > core.outgoing.len() / 2 {
            core.outgoing.drain(..core.sent);
        } else {
            return;
        }
        core.sent = 0;
    }

    /// When [`Session::handle_timeout`] wants to be called.
    pub fn timeout(&self) -> Option<Instant> {
        let interval = self.core.config.probe_interval?;
        let silences = if self.core.probing { 2 } else { 1 };
        self.core.last_received.checked_add(interval.checked_mul(silences)?)
    }

    /// Lets time pass: sends an echo request or gives the connection up.
    ///
    /// # Errors
    /// The server has been silent for too long.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), SessionError> {
        match self.timeout() {
            Some(timeout) if now >= timeout => {}
            _ => return Ok(()),
        }
        if self.core.probing {
            return Err(SessionError::Silent(now.saturating_duration_since(self.core.last_received)));
        }
        self.core.probing = true;
        self.core.request("echo", &[(); 0], Pending::Echo);
        Ok(())
    }

    /// Sends a transaction.
    pub fn transact(&mut self, transaction: &Transaction) -> RequestId {
        let pending = Pending::Transact(Asked::of(transaction));
        self.core.request_or("transact", transaction, pending, |id| {
            Event::Transacted(id, Err(transaction.error_of_nul()))
        })
    }

    /// Takes a transaction back (RFC 7047 §4.1.4). Its [`Event::Transacted`] comes all the same:
    /// [`ErrorKind::Canceled`](crate::ErrorKind::Canceled), or the outcome if it had one before the server read this. Does
    /// nothing once the answer has come.
    pub fn cancel(&mut self, transaction: RequestId) {
        #[derive(Serialize)]
        struct Notification<'a> {
            id: (),
            method: &'a str,
            params: [u64; 1],
        }
        let RequestId(id) = transaction;
        if matches!(self.core.pending.get(&id), Some(Pending::Transact(_))) {
            self.core.send(&Notification { id: (), method: "cancel", params: [id] });
        }
    }

    /// Sends any other request, e.g. `list_dbs` (RFC 7047 §4.1.1).
    pub fn call(&mut self, method: &str, params: &impl Serialize) -> RequestId {
        let impossible = |id, reason: &str| Event::Called(id, Err(CallError::Impossible(reason.to_owned())));
        match serde_json::value::to_raw_value(params) {
            Ok(params) if params.get().starts_with('[') => {
                self.core.request_or(method, &params, Pending::Call, |id| impossible(id, NUL))
            }
            // To anything else the server answers by hanging up.
            _ => {
                let id = self.core.new_id();
                self.core.events.push_back(impossible(id, "the params of a request are an array"));
                id
            }
        }
    }

    /// Asks for a lock (RFC 7047 §4.1.8). The answer and every later change comes as [`Event::Lock`]. With `steal` the
    /// current owner loses it and has to wait; use it to take over from an owner known to be dead.
    pub fn lock(&mut self, lock: &str, steal: bool) {
        let method = if steal { "steal" } else { "lock" };
        self.core.request_or(method, &[lock], Pending::Lock(lock.to_owned()), |_| {
            tracing::error!(lock, "no lock can have this name: {NUL}");
            Event::Lock { lock: lock.to_owned(), held: false }
        });
    }

    /// Gives a lock back, or stops to wait for it.
    pub fn unlock(&mut self, lock: &str) {
        // Of a name that no lock can have none was asked for.
        if !lock.contains('\0') {
            self.core.request("unlock", &[lock], Pending::Unlock);
        }
    }

    /// Changes which rows of a table the replica holds: those that fulfil one of the conditions, or all
    /// (ovsdb-server(7), "monitor_cond_change"). `None` if the server knows no conditions or the monitor does not
    /// run yet.
    pub fn set_conditions(&mut self, table: &str, conditions: Option<Vec<Condition>>) -> Option<RequestId> {
        self.core.change_conditions(table, conditions)
    }

    /// What this session is for, with the conditions as they are now.
    pub fn config(&self) -> &Arc<Config> {
        &self.core.config
    }

    /// Whether the replica follows the server: not before the first snapshot, nor from the announcement of a schema
    /// change to the snapshot after it.
    pub fn is_following(&self) -> bool {
        self.core.monitoring.is_running()
    }

    /// The replica as it is now.
    pub fn replica(&self) -> &Arc<Replica> {
        &self.core.replica
    }

    /// The schema, once the server has sent it.
    pub fn schema(&self) -> Option<&Arc<DatabaseSchema>> {
        self.core.schema.as_ref()
    }

    /// Ends the session: every outstanding request gets its event, saying that the outcome is unknown.
    pub fn close(&mut self, reason: &str) {
        let mut pending: Vec<(u64, Pending)> = self.core.pending.drain().collect();
        pending.sort_unstable_by_key(|(id, _)| *id);
        for (id, pending) in pending {
            let id = RequestId(id);
            let event = match pending {
                Pending::Transact(_) => {
                    Some(Event::Transacted(id, Err(TransactError::OutcomeUnknown(reason.to_owned()))))
                }
                Pending::Call => Some(Event::Called(id, Err(CallError::Disconnected(reason.to_owned())))),
                Pending::Conditions(..) => {
                    // The server may have switched to the new conditions or not, so nothing can be resumed.
                    self.core.forget_last_transaction();
                    Some(Event::ConditionsSet(id, Err(CallError::Disconnected(reason.to_owned()))))
                }
                Pending::Lock(lock) => Some(Event::Lock { lock, held: false }),
                Pending::Schema
                | Pending::Monitor(_)
                | Pending::Serving
                | Pending::Aside
                | Pending::Unlock
                | Pending::Echo => None,
            };
            self.core.events.extend(event);
        }
    }
}

impl Core {
    fn request(&mut self, method: &str, params: &(impl Serialize + ?Sized), pending: Pending) -> RequestId {
        #[derive(Serialize)]
        struct Request<'a, P: ?Sized> {
            id: u64,
            method: &'a str,
            params: &'a P,
        }
        let RequestId(id) = self.new_id();
        self.pending.insert(id, pending);
        self.send(&Request { id, method, params });
        RequestId(id)
    }

    fn new_id(&mut self) -> RequestId {
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        RequestId(id)
    }

    /// As [`Core::request`], for what a caller has written: with [`NUL`] in it, it is not sent but has an event at once. The
    /// server would hang up, and cost every other request its answer.
    fn request_or(
        &mut self,
        method: &str,
        params: &(impl Serialize + ?Sized),
        pending: Pending,
        unsendable: impl FnOnce(RequestId) -> Event,
    ) -> RequestId {
        let start = self.outgoing.len();
        let id = self.request(method, params, pending);
        if self.outgoing.get(start..).is_some_and(has_nul) {
            self.outgoing.truncate(start);
            self.pending.remove(&id.0);
            self.events.push_back(unsendable(id));
        }
        id
    }

    fn send(&mut self, message: &impl Serialize) {
        // Our own messages have string keys and finite depth, and a Vec takes every byte: this can't fail.
        if let Err(error) = serde_json::to_writer(&mut self.outgoing, message) {
            tracing::error!(%error, "a message could not be written");
        }
    }

    fn handle(&mut self, message: &[u8]) -> Result<(), SessionError> {
        match Envelope::parse(message)? {
            Envelope::Reply { id, result } => self.handle_reply(id, result),
            Envelope::Notification { method, params } => self.handle_notification(&method, params),
            Envelope::Request { id, method, params } => self.handle_request(id, &method, params),
        }
    }

    /// RFC 7047 §4.1.11: an echo request is answered with its own params. Servers have no other requests.
    fn handle_request(&mut self, id: &RawValue, method: &str, params: &RawValue) -> Result<(), SessionError> {
        self.answers = self.answers.saturating_add(id.get().len()).saturating_add(params.get().len());
        let limit = self.config.limits.answers;
        if self.answers > limit {
            return Err(SessionError::NotReading { limit });
        }
        #[derive(Serialize)]
        struct Response<'a> {
            id: &'a RawValue,
            result: Option<&'a RawValue>,
            error: Option<&'a str>,
        }
        match method {
            "echo" => self.send(&Response { id, result: Some(params), error: None }),
            _ => self.send(&Response { id, result: None, error: Some("unknown method") }),
        }
        Ok(())
    }

    fn handle_reply(
        &mut self,
        id: &RawValue,
        result: Result<&RawValue, &RawValue>,
    ) -> Result<(), SessionError> {
        let unexpected = || SessionError::UnexpectedReply(id.get().chars().take(40).collect());
        let number: u64 = id.get().parse().map_err(|_| unexpected())?;
        match self.pending.remove(&number).ok_or_else(unexpected)? {
            Pending::Echo => {}
            Pending::Schema => self.handle_schema(result)?,
            Pending::Monitor(method) => self.handle_monitor_reply(method, result)?,
            Pending::Transact(asked) => {
                let reply = match result {
                    Ok(result) => parse_reply(&asked, result.get()),
                    Err(error) => Err(TransactError::Refused(OperationError::of_transaction(error.get()))),
                };
                self.events.push_back(Event::Transacted(RequestId(number), reply));
            }
            Pending::Conditions(table, conditions) => {
                let result = result.map(|_| ()).map_err(|error| CallError::Refused(error.to_owned()));
                if result.is_ok() {
                    Arc::make_mut(&mut self.config).monitored.set_conditions(&table, conditions);
                }
                self.events.push_back(Event::ConditionsSet(RequestId(number), result));
            }
            Pending::Lock(lock) => {
                #[derive(serde::Deserialize)]
                struct Locked {
                    locked: bool,
                }
                let answer = result.ok().and_then(|result| serde_json::from_str::<Locked>(result.get()).ok());
                self.events.push_back(Event::Lock { lock, held: answer.is_some_and(|answer| answer.locked) });
            }
            Pending::Unlock | Pending::Aside => {}
            Pending::Serving => self.handle_serving(result)?,
            Pending::Call => {
                let result =
                    result.map(ToOwned::to_owned).map_err(|error| CallError::Refused(error.to_owned()));
                self.events.push_back(Event::Called(RequestId(number), result));
            }
        }
        Ok(())
    }

    fn ask_for_schema(&mut self) {
        let database = self.config.database.clone();
        self.request("get_schema", &[database], Pending::Schema);
    }

    fn handle_schema(&mut self, result: Result<&RawValue, &RawValue>) -> Result<(), SessionError> {
        let schema = result.map_err(|error| refused("get_schema", error))?;
        let schema: DatabaseSchema = serde_json::from_str(schema.get())
            .map_err(|error| SessionError::Message(format!("the schema: {error}")))?;
        self.schema = Some(Arc::new(schema));
        self.start_monitor(Method::BEST);
        Ok(())
    }
}

fn refused(method: &'static str, error: &RawValue) -> SessionError {
    SessionError::Refused { method, error: error.get().chars().take(300).collect() }
}
