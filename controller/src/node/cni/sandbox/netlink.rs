//! Netlink for the calling thread's namespace: several requests in one system call, answered in order.
//!
//! The async connection of `rtnetlink` is made for long-lived sockets that many tasks share. A sandbox needs the
//! opposite: a socket in the pod's namespace that lives for one batch, with no round trip between requests that
//! don't need each other's answers. The kernel handles the messages of a datagram one after the other before the
//! system call returns, so all answers can be read at once then.

use std::fmt::Debug;
use std::io;

use nix::sys::socket::{setsockopt, sockopt::ReceiveTimeout};
use nix::sys::time::{TimeVal, TimeValLike};
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload,
    NetlinkSerializable,
};
use rtnetlink::sys::{Socket, SocketAddr};

/// How long the kernel may take for an answer, in seconds. It answers at once: this is against waiting for ever.
const ANSWER_WITHIN: i64 = 5;

/// A netlink socket of one protocol.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: Socket,
    sequence: u32,
}

/// A request of a batch, with the flags of its header besides `NLM_F_REQUEST`.
#[derive(Debug)]
pub(super) struct Request<T> {
    flags: u16,
    message: T,
}

impl<T> Request<T> {
    /// A request that the kernel confirms.
    pub(super) fn new(flags: u16, message: T) -> Request<T> {
        Request { flags: flags | NLM_F_ACK, message }
    }

    /// A request that is not answered.
    pub(super) fn unconfirmed(message: T) -> Request<T> {
        Request { flags: 0, message }
    }
}

/// The first request of a batch that failed.
#[derive(Debug)]
pub(super) struct Failed {
    /// Its place in the batch.
    pub(super) index: usize,
    /// The kernel's answer.
    pub(super) source: io::Error,
}

impl Netlink {
    /// A socket in the calling thread's namespace.
    pub(super) fn open(protocol: isize) -> io::Result<Netlink> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        setsockopt(&socket, ReceiveTimeout, &TimeVal::seconds(ANSWER_WITHIN))?;
        Ok(Netlink { socket, sequence: 0 })
    }

    /// Sends requests in one datagram and waits until the kernel has confirmed each, or refused one. Requests after
    /// a refused one may have been carried out. Gives back the messages that came besides confirmations.
    pub(super) fn run<T>(mut self, requests: Vec<Request<T>>) -> Result<Vec<T>, Failed>
    where
        T: NetlinkSerializable + NetlinkDeserializable + Debug,
    {
        let whole = |source: io::Error| Failed { index: 0, source };
        let first = self.sequence;
        let mut datagram = Vec::new();
        let mut awaited = 0;
        for Request { flags, message } in requests {
            let mut header = NetlinkHeader::default();
            header.flags = flags | NLM_F_REQUEST;
            header.sequence_number = self.sequence;
            self.sequence += 1;
            awaited += usize::from(flags & NLM_F_ACK != 0);
            let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
            message.finalize();
            let start = datagram.len();
            datagram.resize(start + message.buffer_len().next_multiple_of(4), 0);
            message.serialize(datagram.get_mut(start..).unwrap_or_default());
        }
        self.socket.send_to(&datagram, &SocketAddr::new(0, 0), 0).map_err(whole)?;
        let mut answers = Vec::new();
        while awaited > 0 {
            let (received, _) = self.socket.recv_from_full().map_err(whole)?;
            let mut rest = received.as_slice();
            while !rest.is_empty() {
                let message = NetlinkMessage::<T>::deserialize(rest)
                    .map_err(|error| whole(io::Error::new(io::ErrorKind::InvalidData, error.to_string())))?;
                let length = usize::try_from(message.header.length).unwrap_or(usize::MAX);
                rest = rest.get(length.next_multiple_of(4).max(1)..).unwrap_or_default();
                match message.payload {
                    NetlinkPayload::Error(error) if error.code.is_some() => {
                        let index = message.header.sequence_number.wrapping_sub(first);
                        let index = usize::try_from(index).unwrap_or_default();
                        return Err(Failed { index, source: error.to_io() });
                    }
                    NetlinkPayload::Error(_) => awaited = awaited.saturating_sub(1),
                    NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                    _ => {}
                }
            }
        }
        Ok(answers)
    }
}
