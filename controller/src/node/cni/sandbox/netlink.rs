//! Netlink for the calling thread's namespace: several requests in one system call, answered in order.
//!
//! The async connection of `rtnetlink` is made for long-lived sockets that many tasks share. A sandbox needs the
//! opposite: a socket in the pod's namespace that lives for one batch, with no round trip between requests that
//! don't need each other's answers. The kernel handles the messages of a datagram one after the other before the
//! system call returns, so all answers can be read at once then.

use std::fmt::Debug;
use std::io;
use std::sync::Arc;
use std::thread;

use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::libc;
use nix::sys::socket::{setsockopt, sockopt::ReceiveTimeout};
use nix::sys::time::{TimeVal, TimeValLike};
use rtnetlink::LinkUnspec;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload,
    NetlinkSerializable,
};
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, SocketAddr};

/// How long the kernel may take for an answer, in seconds. It answers at once: this is against waiting for ever.
const ANSWER_WITHIN: i64 = 5;

const NO_EVENTS: u32 = 0;
/// `RTMGRP_LINK` of linux/rtnetlink.h.
pub(super) const LINK_EVENTS: u32 = 1;

/// A request of a batch, with the flags of its header besides `NLM_F_REQUEST`.
#[derive(Clone, Debug)]
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

/// Sends requests of a netlink protocol in one datagram and waits until the kernel has confirmed each, or refused one.
/// Requests after a refused one may have been carried out. Gives back the messages that came besides confirmations.
pub(super) fn run<T>(protocol: isize, requests: Vec<Request<T>>) -> Result<Vec<T>, Failed>
where
    T: NetlinkSerializable + NetlinkDeserializable + Debug,
{
    let whole = |source: io::Error| Failed { index: 0, source };
    let socket = open(protocol, NO_EVENTS).map_err(whole)?;
    let mut awaited = requests.iter().filter(|request| request.flags & NLM_F_ACK != 0).count();
    send(&socket, &encode(requests)).map_err(whole)?;
    let mut answers = Vec::new();
    while awaited > 0 {
        for NetlinkMessage { header, payload, .. } in receive::<T>(&socket).map_err(whole)? {
            match payload {
                NetlinkPayload::Error(error) if error.code.is_some() => {
                    let index = usize::try_from(header.sequence_number).unwrap_or_default();
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

/// Removes a link; `false` if there is none of that name.
///
/// Returns when the link is gone from its namespace and its name is free, which takes less than a millisecond. The
/// kernel keeps the caller of the removal 10 to 40 ms longer, until no processor can still hold a reference: a thread
/// of its own waits for that.
pub(super) fn delete_link(name: &str) -> io::Result<bool> {
    // Not by its name, which another link may have by the time that the thread comes to it.
    let asked = RouteNetlinkMessage::GetLink(LinkUnspec::new_with_name(name).build());
    let answers = match run(NETLINK_ROUTE, vec![Request::new(0, asked)]) {
        Ok(answers) => answers,
        Err(Failed { source, .. }) if source.raw_os_error() == Some(libc::ENODEV) => return Ok(false),
        Err(Failed { source, .. }) => return Err(source),
    };
    let index = answers.into_iter().find_map(|answer| match answer {
        RouteNetlinkMessage::NewLink(link) => Some(link.header.index),
        _ => None,
    });
    let Some(index) = index else { return Ok(false) };
    let socket = Arc::new(open(NETLINK_ROUTE, LINK_EVENTS)?);
    let link = LinkUnspec::new_with_index(index).build();
    let request = encode(vec![Request::new(0, RouteNetlinkMessage::DelLink(link))]);
    let sender = thread::Builder::new().name("unwire".into()).spawn({
        let socket = socket.clone();
        move || send(&socket, &request)
    })?;
    loop {
        let messages = match receive::<RouteNetlinkMessage>(&socket) {
            Ok(messages) => messages,
            // So many other links changed that the event, or the answer, did not fit in the socket's queue.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                let sent =
                    sender.join().map_err(|_| io::Error::other("the thread that removes it ended early"))?;
                return sent.map(|()| true);
            }
            Err(error) => return Err(error),
        };
        for NetlinkMessage { payload, .. } in messages {
            match payload {
                // Leaving a bridge is told by the same kind of message, of another family.
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(LinkMessage {
                    header, ..
                })) if header.index == index && header.interface_family == AddressFamily::Unspec => {
                    return Ok(true);
                }
                NetlinkPayload::Error(answer) => {
                    return match answer.code {
                        None => Ok(true),
                        Some(_) if answer.to_io().raw_os_error() == Some(libc::ENODEV) => Ok(false),
                        Some(_) => Err(answer.to_io()),
                    };
                }
                _ => {}
            }
        }
    }
}

/// A socket in the calling thread's namespace.
pub(super) fn open(protocol: isize, events: u32) -> io::Result<Socket> {
    let mut socket = Socket::new(protocol)?;
    socket.bind(&SocketAddr::new(0, events))?;
    setsockopt(&socket, ReceiveTimeout, &TimeVal::seconds(ANSWER_WITHIN))?;
    Ok(socket)
}

/// One datagram; the sequence numbers are the requests' places.
fn encode<T: NetlinkSerializable>(requests: Vec<Request<T>>) -> Vec<u8> {
    let mut datagram = Vec::new();
    for (sequence, Request { flags, message }) in (0..).zip(requests) {
        let mut header = NetlinkHeader::default();
        header.flags = flags | NLM_F_REQUEST;
        header.sequence_number = sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        message.finalize();
        let start = datagram.len();
        datagram.resize(start + message.buffer_len().next_multiple_of(4), 0);
        message.serialize(datagram.get_mut(start..).unwrap_or_default());
    }
    datagram
}

fn send(socket: &Socket, datagram: &[u8]) -> io::Result<()> {
    socket.send_to(datagram, &SocketAddr::new(0, 0), 0).map(drop)
}

/// The messages of the next datagram.
pub(super) fn receive<T: NetlinkDeserializable>(socket: &Socket) -> io::Result<Vec<NetlinkMessage<T>>> {
    let received = loop {
        match socket.recv_from_full() {
            Ok((received, _)) => break received,
            // A socket with a deadline is not waited for again by itself when the process stood still (signal(7)).
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    };
    let mut messages = Vec::new();
    let mut rest = received.as_slice();
    while !rest.is_empty() {
        let message = NetlinkMessage::deserialize(rest)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
        let length = usize::try_from(message.header.length).unwrap_or(usize::MAX);
        rest = rest.get(length.next_multiple_of(4).max(1)..).unwrap_or_default();
        messages.push(message);
    }
    Ok(messages)
}
