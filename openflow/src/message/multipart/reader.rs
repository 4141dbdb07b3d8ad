//! Reading a dump flow by flow.

use super::{ofpmp, take_header};
use crate::action::Action;
use crate::codec::flow::retake_flow_stats;
use crate::flow::FlowStats;
use crate::message::{self, Header, MessageType};
use crate::wire::{self, DecodeError, Reader};

/// The flows of one part of a dump, one after the other.
///
/// Each is read in the place of the one before, with the room that its lists had, so that flows like the first allocate
/// nothing. Where flows are looked at but not kept, this takes about half the time of
/// [`Envelope::decode`](crate::Envelope::decode), which reads the same and refuses the same.
///
/// ```
/// # use openflow::{message::*, *};
/// # let flow: Flow = "table=20,ip actions=output:2".parse()?;
/// # let reply = MultipartReply::Flow(vec![FlowStats { flow, packets: Some(5), ..FlowStats::default() }; 2]);
/// # let mut message = bytes::BytesMut::new();
/// # Envelope::new(7, Message::MultipartReply { more: false, reply }).encode(&mut message)?;
/// let mut packets = 0;
/// if let Some(mut flows) = FlowStatsReader::open(&message)? {
///     while let Some(stats) = flows.next()? {
///         packets += stats.packets.unwrap_or(0);
///     }
/// }
/// assert_eq!(packets, 10);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct FlowStatsReader<'a> {
    xid: u32,
    more: bool,
    rest: Reader<'a>,
    /// What is wrong with what follows the message.
    end: wire::Result<()>,
    stats: FlowStats,
    spare: Vec<Action>,
}

impl<'a> FlowStatsReader<'a> {
    /// Begins to read a whole message; `None` if it is another than a flow statistics reply.
    ///
    /// # Errors
    /// If its header is wrong.
    pub fn open(bytes: &'a [u8]) -> Result<Option<Self>, DecodeError> {
        let open = || {
            let mut r = Reader::new(bytes, "ofp_header");
            let Header { kind, xid, mut body, .. } = message::take_header(&mut r)?;
            if kind != MessageType::MULTIPART_REPLY {
                return Ok(None);
            }
            let (kind, more) = take_header(&mut body)?;
            if kind != ofpmp::FLOW {
                return Ok(None);
            }
            let end = message::end(&r, bytes.len());
            Ok(Some(FlowStatsReader {
                xid,
                more,
                rest: body,
                end,
                stats: FlowStats::default(),
                spare: Vec::new(),
            }))
        };
        open().map_err(|error: Box<DecodeError>| *error)
    }

    /// The transaction id of the message.
    pub fn xid(&self) -> u32 {
        self.xid
    }

    /// Whether other parts of the same dump follow.
    pub fn more(&self) -> bool {
        self.more
    }

    /// The next flow, `None` after the last. After an error, what follows has no beginning: there is no next.
    ///
    /// # Errors
    /// Says where the bytes are wrong, counted from the start of the message.
    #[expect(clippy::should_implement_trait, reason = "what it gives lives until the next call only")]
    pub fn next(&mut self) -> Result<Option<&FlowStats>, DecodeError> {
        if self.rest.is_empty() {
            return match std::mem::replace(&mut self.end, Ok(())) {
                Ok(()) => Ok(None),
                Err(error) => Err(*error),
            };
        }
        match retake_flow_stats(&mut self.rest, &mut self.stats, &mut self.spare) {
            Ok(()) => Ok(Some(&self.stats)),
            Err(error) => {
                (self.rest, self.end) = (Reader::new(&[], ""), Ok(()));
                Err(*error)
            }
        }
    }
}
