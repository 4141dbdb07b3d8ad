//! The connection as a state machine, without sockets and clocks.
//!
//! A [`Session`] takes the bytes that arrive and the current time; it gives back events, bytes to send and the time at
//! which it wants to be called again. It negotiates the version, answers echoes, probes a silent peer, and cuts the
//! stream into messages.
//!
//! ```
//! use std::time::Instant;
//! use openflow::session::{Event, Session, SessionConfig};
//!
//! let now = Instant::now();
//! let mut session = Session::new(SessionConfig::default(), now);
//! // ... write `session.transmit()` to the socket; then a switch answers:
//! session.receive(&[4, 0, 0, 8, 0, 0, 0, 1], now);
//! assert!(matches!(session.poll(now), Some(Event::Up)));
//! assert_eq!(session.poll(now), None);
//! ```

use std::time::{Duration, Instant};

use bytes::BytesMut;

use crate::message::{self, ErrorCode, ErrorMsg, HEADER_LEN, Hello, Message, MessageType, VERSION};
use crate::wire::{DecodeError, EncodeError};
use crate::{Envelope, MultipartReply};

#[cfg(test)]
mod tests;

/// Times and limits of a [`Session`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionConfig {
    /// How long the peer may take for its hello.
    pub hello_timeout: Duration,
    /// After how much silence the peer is probed with an echo request. The end of a peer on the same machine is noticed
    /// without that: a probe finds one that stands still, or is cut off, and wakes up both.
    pub echo_interval: Duration,
    /// How long a probed peer may stay silent. A switch in the middle of a large change does not answer at once.
    pub echo_timeout: Duration,
}

impl Default for SessionConfig {
    fn default() -> Self {
        SessionConfig {
            hello_timeout: Duration::from_secs(10),
            echo_interval: Duration::from_secs(15),
            echo_timeout: Duration::from_secs(20),
        }
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Both sides have agreed on OpenFlow 1.3.
    Up,
    /// A message, neither hello nor echo.
    Message(Envelope),
    /// A message that cannot be decoded. The connection goes on.
    Undecodable {
        /// Its transaction id.
        xid: u32,
        /// What is wrong with it.
        error: DecodeError,
    },
    /// The connection is over; nothing follows.
    Closed(CloseReason),
}

/// Why a connection is over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer does not speak OpenFlow 1.3.
    #[error(
        "the peer does not speak OpenFlow 1.3 (it offers up to version {highest:#04x}); allow OpenFlow13 on it"
    )]
    Version {
        /// The highest version that the peer offers.
        highest: u8,
    },
    /// The peer refused our hello.
    #[error("the peer refused the connection: {0}")]
    Refused(ErrorMsg),
    /// The first message was no hello.
    #[error("the peer does not speak OpenFlow: its first message is no hello")]
    NotOpenFlow,
    /// A header whose length is below its own 8 bytes: the stream has no message boundaries any more.
    #[error("the peer sent a message header with length {0}")]
    Framing(u16),
    /// No hello in time.
    #[error("the peer sent no hello in time")]
    HelloTimeout,
    /// No answer to an echo request.
    #[error("the peer does not answer echo requests")]
    EchoTimeout,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    AwaitHello,
    Up,
    Closed,
}

/// One side of a connection.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    state: State,
    received: BytesMut,
    outgoing: BytesMut,
    next_xid: u32,
    started: Instant,
    last_heard: Instant,
    probed: Option<Instant>,
    /// Why the session ended, until [`Session::poll`] has told.
    closing: Option<CloseReason>,
}

impl Session {
    /// A session that offers exactly OpenFlow 1.3; its hello is ready in [`Session::transmit`].
    pub fn new(config: SessionConfig, now: Instant) -> Self {
        let mut session = Session {
            config,
            state: State::AwaitHello,
            received: BytesMut::new(),
            outgoing: BytesMut::new(),
            next_xid: 1,
            started: now,
            last_heard: now,
            probed: None,
            closing: None,
        };
        session.queue(&Message::Hello(Hello::openflow13()));
        session
    }

    /// Takes bytes from the peer. Call [`Session::poll`] until it has nothing more before the next call, and what is
    /// held of them stays within one message and one read. Each may be an echo request whose answer goes to
    /// [`Session::transmit`]: read no more while the peer does not take what is there.
    pub fn receive(&mut self, bytes: &[u8], now: Instant) {
        if self.state == State::Closed {
            return;
        }
        self.last_heard = now;
        self.probed = None;
        self.received.extend_from_slice(bytes);
    }

    /// The next event, `None` until there are more bytes.
    pub fn poll(&mut self, now: Instant) -> Option<Event> {
        loop {
            if let Some(reason) = self.closing.take() {
                return Some(Event::Closed(reason));
            }
            if self.state == State::Closed {
                return None;
            }
            self.check_time(now);
            if self.closing.is_some() {
                continue;
            }
            let frame = self.next_frame()?;
            if let Some(event) = self.handle(&frame) {
                return Some(event);
            }
        }
    }

    /// Cuts one message off the stream.
    fn next_frame(&mut self) -> Option<BytesMut> {
        // What begins with anything else has no length either: of another protocol all of it might never come.
        if let (State::AwaitHello, Some(&kind)) = (self.state, self.received.get(1))
            && !matches!(MessageType(kind), MessageType::HELLO | MessageType::ERROR)
        {
            self.close(CloseReason::NotOpenFlow);
            return Some(BytesMut::new());
        }
        let &[_, _, high, low, ..] = &self.received[..] else { return None };
        let len = u16::from_be_bytes([high, low]);
        if usize::from(len) < HEADER_LEN {
            self.close(CloseReason::Framing(len));
            return Some(BytesMut::new());
        }
        (self.received.len() >= usize::from(len)).then(|| self.received.split_to(usize::from(len)))
    }

    fn handle(&mut self, frame: &[u8]) -> Option<Event> {
        if frame.is_empty() {
            return None;
        }
        let xid = frame.get(4..8).and_then(|b| b.try_into().ok()).map_or(0, u32::from_be_bytes);
        let envelope = match Envelope::decode(frame) {
            Ok(envelope) => envelope,
            Err(_) if self.state == State::AwaitHello => {
                self.close(CloseReason::NotOpenFlow);
                return None;
            }
            Err(error) => return Some(Event::Undecodable { xid, error }),
        };
        if self.state == State::AwaitHello {
            return self.handle_hello(envelope);
        }
        match envelope.message {
            Message::EchoRequest(data) => {
                self.queue_with(xid, &Message::EchoReply(data));
                None
            }
            // An answer to our probe has done its work by arriving.
            Message::EchoReply(_) if xid == PROBE_XID => None,
            Message::Hello(_) => None,
            _ => Some(Event::Message(envelope)),
        }
    }

    fn handle_hello(&mut self, envelope: Envelope) -> Option<Event> {
        match envelope.message {
            Message::Hello(hello) if hello.speaks(VERSION, envelope.version) => {
                self.state = State::Up;
                return Some(Event::Up);
            }
            Message::Hello(hello) => {
                let highest = (0..=31).rev().find(|&v| hello.speaks(v, envelope.version));
                let text = b"only OpenFlow 1.3 (version 0x04) is spoken here".to_vec();
                self.queue_with(
                    envelope.xid,
                    &Message::Error(ErrorMsg { code: ErrorCode::HFC_INCOMPATIBLE, data: text }),
                );
                self.close(CloseReason::Version { highest: highest.unwrap_or(0) });
            }
            Message::Error(error) => self.close(CloseReason::Refused(error)),
            _ => self.close(CloseReason::NotOpenFlow),
        }
        None
    }

    fn close(&mut self, reason: CloseReason) {
        self.state = State::Closed;
        self.closing = Some(reason);
        self.received.clear();
    }

    /// When to call [`Session::poll`] again even if nothing arrives.
    pub fn timeout(&self) -> Option<Instant> {
        match (self.state, self.probed) {
            (State::Closed, _) => None,
            (State::AwaitHello, _) => Some(self.started + self.config.hello_timeout),
            (State::Up, Some(probed)) => Some(probed + self.config.echo_timeout),
            (State::Up, None) => Some(self.last_heard + self.config.echo_interval),
        }
    }

    fn check_time(&mut self, now: Instant) {
        if self.timeout().is_none_or(|due| now < due) {
            return;
        }
        match (self.state, self.probed) {
            (State::AwaitHello, _) => self.close(CloseReason::HelloTimeout),
            (_, Some(_)) => self.close(CloseReason::EchoTimeout),
            (_, None) => {
                self.probed = Some(now);
                self.queue_with(PROBE_XID, &Message::EchoRequest(Vec::new()));
            }
        }
    }

    /// Tells that for some time nothing was read, so that the silence was ours and not the peer's.
    pub fn excuse_silence(&mut self, now: Instant) {
        self.last_heard = now;
        self.probed = None;
    }

    /// Bytes to send; take off what was sent with `advance`. Its length is what back-pressure goes by.
    pub fn transmit(&mut self) -> &mut BytesMut {
        &mut self.outgoing
    }

    /// Queues a message under a transaction id of the caller's choice (0 is this session's own).
    ///
    /// # Errors
    /// If the message is too long for the protocol.
    pub fn send(&mut self, xid: u32, message: &Message) -> Result<(), EncodeError> {
        message::encode(&mut self.outgoing, VERSION, xid, message)
    }

    /// Whether the version is agreed upon and the connection is not over.
    pub fn is_up(&self) -> bool {
        self.state == State::Up
    }

    fn queue(&mut self, message: &Message) {
        let xid = self.next_xid;
        self.next_xid = self.next_xid.wrapping_add(1);
        self.queue_with(xid, message);
    }

    /// Only for messages that are never too long: hello, echo (as long as what came) and errors of ours.
    fn queue_with(&mut self, xid: u32, message: &Message) {
        let result = message::encode(&mut self.outgoing, VERSION, xid, message);
        debug_assert!(result.is_ok(), "{result:?}");
    }
}

/// Transaction id of the session's own echo requests.
const PROBE_XID: u32 = 0;

/// Puts the parts of a multipart reply together, within a limit.
#[derive(Debug)]
pub struct Reassembly {
    reply: Option<MultipartReply>,
    entries_left: usize,
}

/// A multipart reply that is no answer to be put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReassemblyError {
    /// It has more entries than we want to hold.
    #[error("the reply has more entries than allowed; use the streaming form")]
    TooLong,
    /// Its parts are of different types.
    #[error("the parts of the reply are of different types")]
    Mixed,
}

impl Reassembly {
    /// Holds at most `max_entries` entries (flows, groups, ports).
    pub fn new(max_entries: usize) -> Self {
        Reassembly { reply: None, entries_left: max_entries }
    }

    /// Adds a part; the whole reply once `more` is false.
    ///
    /// # Errors
    /// If there are too many entries, or the parts do not fit together.
    pub fn add(
        &mut self,
        more: bool,
        part: MultipartReply,
    ) -> Result<Option<MultipartReply>, ReassemblyError> {
        self.entries_left =
            self.entries_left.checked_sub(part.entries().max(1)).ok_or(ReassemblyError::TooLong)?;
        let whole = match self.reply.take() {
            None => part,
            Some(whole) => whole.join(part).ok_or(ReassemblyError::Mixed)?,
        };
        if more {
            self.reply = Some(whole);
            return Ok(None);
        }
        Ok(Some(whole))
    }
}
