//! The task that owns the socket.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::{ClientError, SwitchEvent};
use crate::message::{ErrorMsg, Message, MultipartReply};
use crate::session::{Event, Session, SessionConfig};

/// The answer to a request.
pub(super) type Reply = Result<Message, ClientError>;
/// A part of the answer to a multipart request, and whether more follow.
pub(super) type Part = Result<(bool, MultipartReply), ClientError>;

/// Who waits for an answer.
#[derive(Debug)]
pub(super) enum Pending {
    /// For one message.
    One(oneshot::Sender<Reply>),
    /// For the parts of a multipart reply.
    Parts(mpsc::Sender<Part>),
}

impl Pending {
    /// Whether nobody waits any more: a timeout, or a dropped future.
    fn is_abandoned(&self) -> bool {
        match self {
            Pending::One(sender) => sender.is_closed(),
            Pending::Parts(sender) => sender.is_closed(),
        }
    }
}

/// Errors to messages in a range of transaction ids, which else have no answer: the content of a bundle.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) first_xid: u32,
    pub(super) count: u32,
    pub(super) first_error: FirstError,
}

/// Position and error of the first refused message. However many errors a peer sends, one is kept.
#[derive(Clone, Debug, Default)]
pub(super) struct FirstError(Arc<Mutex<Option<(u32, ErrorMsg)>>>);

impl FirstError {
    fn note(&self, position: u32, error: ErrorMsg) {
        let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if first.as_ref().is_none_or(|(earlier, _)| position < *earlier) {
            *first = Some((position, error));
        }
    }

    pub(super) fn take(&self) -> Option<(u32, ErrorMsg)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether only the task still knows of it.
    fn is_forgotten(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

/// Something to write, and who waits for what comes of it.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) bytes: BytesMut,
    pub(super) pending: Option<(u32, Pending)>,
    pub(super) watch: Option<Watch>,
}

/// While more than this waits to be written, no further commands are taken.
const WRITE_HIGH_WATER: usize = 256 * 1024;
/// While more than this waits to be written, nothing is read: only the answers to echo requests of a peer that does not
/// read itself make it so much.
const ECHO_HIGH_WATER: usize = 4 * WRITE_HIGH_WATER;
/// From this many open requests on, those that nobody waits for are cleared away.
const PENDING_SWEEP: usize = 1024;
/// How much is read at once.
const READ_SIZE: usize = 64 * 1024;

/// Owns the socket until the connection ends.
pub(super) struct Task<S> {
    reader: ReadHalf<S>,
    writer: WriteHalf<S>,
    session: Session,
    commands: mpsc::Receiver<Command>,
    events: broadcast::Sender<SwitchEvent>,
    closed: watch::Sender<Option<Arc<ClientError>>>,
    up: Option<oneshot::Sender<()>>,
    pending: HashMap<u32, Pending>,
    watches: Vec<Watch>,
    /// A part whose reader is busy: nothing more is read until it has room.
    stalled: Option<(mpsc::Sender<Part>, Part)>,
    /// How long the peer may leave bytes of ours untaken, and since when it does.
    write_timeout: Duration,
    unwritten_since: Option<Instant>,
    /// Bytes may be in the stream's own buffer (TLS has one).
    unflushed: bool,
    warned: bool,
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Task<S> {
    pub(super) fn new(
        stream: S,
        config: SessionConfig,
        commands: mpsc::Receiver<Command>,
        events: broadcast::Sender<SwitchEvent>,
        closed: watch::Sender<Option<Arc<ClientError>>>,
        up: oneshot::Sender<()>,
    ) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        Task {
            reader,
            writer,
            session: Session::new(config, Instant::now()),
            commands,
            events,
            closed,
            up: Some(up),
            pending: HashMap::new(),
            watches: Vec::new(),
            stalled: None,
            write_timeout: config.echo_timeout,
            unwritten_since: None,
            unflushed: false,
            warned: false,
        }
    }

    pub(super) async fn run(mut self) {
        let reason = Arc::new(self.serve().await);
        tracing::debug!(%reason, "OpenFlow connection closed");
        // What is still queued (the reason for a refused version) may go out, if it goes at once.
        let last_words = async {
            self.writer.write_all(self.session.transmit()).await?;
            self.writer.flush().await
        };
        let _ = tokio::time::timeout(LAST_WORDS, last_words).await;
        for (_, pending) in self.pending.drain() {
            let error = ClientError::Closed(reason.clone());
            match pending {
                Pending::One(sender) => drop(sender.send(Err(error))),
                Pending::Parts(sender) => drop(sender.try_send(Err(error))),
            }
        }
        self.closed.send_replace(Some(reason));
    }

    /// Returns why the connection ended.
    async fn serve(&mut self) -> ClientError {
        let mut buffer = vec![0; READ_SIZE];
        loop {
            if let Err(error) = self.handle_events() {
                return error;
            }
            let now = Instant::now();
            let session_timeout = self.session.timeout();
            let is_up = self.session.is_up();
            let outgoing = self.session.transmit();
            let may_take = is_up && outgoing.len() < WRITE_HIGH_WATER;
            let has_output = !outgoing.is_empty();
            let may_read = self.stalled.is_none() && outgoing.len() < ECHO_HIGH_WATER;
            // A peer may not read because we don't, so the clock stands still while a reader here is busy.
            self.unwritten_since = match self.unwritten_since {
                _ if !(has_output || self.unflushed) || self.stalled.is_some() => None,
                None => Some(now),
                since => since,
            };
            let write_timeout = self.unwritten_since.map(|since| since + self.write_timeout);
            if write_timeout.is_some_and(|due| now >= due) {
                return ClientError::PeerDoesNotRead;
            }
            // Who is not listened to cannot be told to be silent.
            let timeout = session_timeout.filter(|_| may_read).into_iter().chain(write_timeout).min();
            // Every arm only waits; what it gets is handled below the `select!`, so nothing is lost when another
            // arm wins. A write that is cancelled has written nothing.
            tokio::select! {
                room = reserve(&self.stalled), if self.stalled.is_some() => {
                    self.end_stall(room);
                }
                read = self.reader.read(&mut buffer), if may_read => match read {
                    Ok(0) => return ClientError::EndOfStream,
                    Ok(n) => self.session.receive(buffer.get(..n).unwrap_or(&buffer), Instant::now()),
                    Err(error) => return error.into(),
                },
                sent = write_or_flush(&mut self.writer, outgoing), if has_output || self.unflushed => match sent {
                    Ok(Sent::Bytes(0)) => return ClientError::EndOfStream,
                    Ok(Sent::Bytes(n)) => self.written(n),
                    Ok(Sent::Flushed) => self.unflushed = false,
                    Err(error) => return error.into(),
                },
                command = self.commands.recv(), if may_take => match command {
                    Some(command) => self.take(command),
                    None => return ClientError::TaskGone,
                },
                () = sleep_until(timeout) => {}
            }
        }
    }

    fn written(&mut self, n: usize) {
        let outgoing = self.session.transmit();
        let was_full = outgoing.len() >= ECHO_HIGH_WATER;
        outgoing.advance(n.min(outgoing.len()));
        if was_full && outgoing.len() < ECHO_HIGH_WATER {
            self.session.excuse_silence(Instant::now());
        }
        self.unwritten_since = None;
        self.unflushed = true;
    }

    fn take(&mut self, command: Command) {
        if let Some((xid, pending)) = command.pending {
            if self.pending.len() >= PENDING_SWEEP {
                self.pending.retain(|_, pending| !pending.is_abandoned());
            }
            self.pending.insert(xid, pending);
        }
        if let Some(watch) = command.watch {
            self.watches.retain(|watch| !watch.first_error.is_forgotten());
            self.watches.push(watch);
        }
        let outgoing = self.session.transmit();
        if outgoing.is_empty() {
            *outgoing = command.bytes;
        } else {
            outgoing.extend_from_slice(&command.bytes);
        }
    }

    /// Hands out what has arrived, until there is nothing more or a reader is busy.
    fn handle_events(&mut self) -> Result<(), ClientError> {
        let now = Instant::now();
        while self.stalled.is_none() {
            match self.session.poll(now) {
                None => break,
                Some(Event::Up) => {
                    if let Some(up) = self.up.take() {
                        let _ = up.send(());
                    }
                }
                Some(Event::Message(envelope)) => self.dispatch(envelope.xid, envelope.message),
                Some(Event::Undecodable { xid, error }) => {
                    // A peer that sends such without end must not fill the log.
                    if std::mem::replace(&mut self.warned, true) {
                        tracing::debug!(xid, %error, "undecodable OpenFlow message");
                    } else {
                        tracing::warn!(xid, %error, "undecodable OpenFlow message; more are logged at debug level");
                    }
                    self.fail(xid, error.into());
                }
                Some(Event::Closed(reason)) => return Err(reason.into()),
            }
        }
        Ok(())
    }

    fn dispatch(&mut self, xid: u32, message: Message) {
        if let Message::Error(error) = &message
            && let Some(watch) = self.watches.iter().find(|w| xid.wrapping_sub(w.first_xid) < w.count)
        {
            watch.first_error.note(xid.wrapping_sub(watch.first_xid), error.clone());
            return;
        }
        // What a switch says on its own has a transaction id of 0 or of its own counting.
        let unasked = matches!(
            message,
            Message::PacketIn(_)
                | Message::PacketIn2(_)
                | Message::PortStatus(_)
                | Message::FlowRemoved(_)
                | Message::FlowMonitorPaused
                | Message::FlowMonitorResumed
        );
        let entry = match self.pending.entry(xid) {
            Entry::Occupied(entry) if !unasked => entry,
            _ => {
                let _ = self.events.send(SwitchEvent::new(xid, message));
                return;
            }
        };
        match message {
            Message::Error(error) => {
                let pending = entry.remove();
                self.deliver_error(pending, ClientError::Refused(error));
            }
            Message::MultipartReply { more, reply } => {
                let sender = match entry.get() {
                    Pending::Parts(sender) => sender.clone(),
                    Pending::One(_) => {
                        if let Pending::One(sender) = entry.remove() {
                            let _ = sender.send(Ok(Message::MultipartReply { more, reply }));
                        }
                        return;
                    }
                };
                // A reader that went away still has its parts coming; they are dropped one by one.
                if !more {
                    entry.remove();
                }
                self.deliver_part(sender, Ok((more, reply)));
            }
            message => match entry.remove() {
                Pending::One(sender) => drop(sender.send(Ok(message))),
                pending @ Pending::Parts(_) => self.deliver_error(pending, ClientError::UnexpectedReply),
            },
        }
    }

    fn fail(&mut self, xid: u32, error: ClientError) {
        if let Some(pending) = self.pending.remove(&xid) {
            self.deliver_error(pending, error);
        }
    }

    fn deliver_error(&mut self, pending: Pending, error: ClientError) {
        match pending {
            Pending::One(sender) => drop(sender.send(Err(error))),
            Pending::Parts(sender) => self.deliver_part(sender, Err(error)),
        }
    }

    fn deliver_part(&mut self, sender: mpsc::Sender<Part>, part: Part) {
        if let Err(mpsc::error::TrySendError::Full(part)) = sender.try_send(part) {
            self.stalled = Some((sender, part));
        }
    }

    fn end_stall(&mut self, reader_is_there: bool) {
        if let Some((sender, part)) = self.stalled.take()
            && reader_is_there
        {
            // There is room: this task is the only one that sends.
            let _ = sender.try_send(part);
        }
        self.session.excuse_silence(Instant::now());
    }
}

enum Sent {
    Bytes(usize),
    Flushed,
}

/// Writes some of `bytes`; if there are none, sees to it that none wait in the stream's own buffer.
async fn write_or_flush<S: AsyncWrite>(writer: &mut WriteHalf<S>, bytes: &[u8]) -> std::io::Result<Sent> {
    if bytes.is_empty() {
        return writer.flush().await.map(|()| Sent::Flushed);
    }
    writer.write(bytes).await.map(Sent::Bytes)
}

/// How long the last bytes may take when the connection ends.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Waits until the reader of a stalled part has room; false if it went away.
async fn reserve(stalled: &Option<(mpsc::Sender<Part>, Part)>) -> bool {
    match stalled {
        Some((sender, _)) => sender.reserve().await.is_ok(),
        None => std::future::pending().await,
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
