//! What a switch tells without being asked.

use tokio::sync::broadcast;

use crate::message::{
    ErrorMsg, FlowRemoved, FlowUpdate, Message, MultipartReply, PacketIn, PacketIn2, PortStatus,
};

/// Something that nobody asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SwitchEvent {
    /// A port came, went or changed.
    PortStatus(PortStatus),
    /// A flow went.
    FlowRemoved(FlowRemoved),
    /// A packet.
    PacketIn(PacketIn),
    /// A packet with the state of the pipeline ([`Message::SetPacketInFormat`] 2).
    PacketIn2(PacketIn2),
    /// Changes to flows that a monitor covers, see [`crate::Switch::monitor_flows`].
    FlowUpdates(Vec<FlowUpdate>),
    /// Too many changes: the switch holds them back until this side has caught up.
    FlowMonitorPaused,
    /// All changes that were held back are told.
    FlowMonitorResumed,
    /// An error about a message that had no answer.
    Error {
        /// Transaction id of that message.
        xid: u32,
        /// What is wrong with it.
        error: ErrorMsg,
    },
    /// Any other message.
    Other {
        /// Its transaction id.
        xid: u32,
        /// The message.
        message: Message,
    },
    /// This stream was read too slowly: so many events are lost. What was learned from events must be read afresh.
    Lost(u64),
}

impl SwitchEvent {
    pub(super) fn new(xid: u32, message: Message) -> Self {
        match message {
            Message::PortStatus(status) => SwitchEvent::PortStatus(status),
            Message::FlowRemoved(removed) => SwitchEvent::FlowRemoved(removed),
            Message::PacketIn(packet) => SwitchEvent::PacketIn(packet),
            Message::PacketIn2(packet) => SwitchEvent::PacketIn2(packet),
            Message::MultipartReply { reply: MultipartReply::FlowMonitor(updates), .. } => {
                SwitchEvent::FlowUpdates(updates)
            }
            Message::FlowMonitorPaused => SwitchEvent::FlowMonitorPaused,
            Message::FlowMonitorResumed => SwitchEvent::FlowMonitorResumed,
            Message::Error(error) => SwitchEvent::Error { xid, error },
            message => SwitchEvent::Other { xid, message },
        }
    }
}

/// A stream of events, see [`crate::Switch::events`].
#[derive(Debug)]
pub struct Events {
    receiver: broadcast::Receiver<SwitchEvent>,
}

impl Events {
    pub(super) fn new(receiver: broadcast::Receiver<SwitchEvent>) -> Self {
        Events { receiver }
    }

    /// The next event; `None` when the connection is gone.
    ///
    /// Cancel-safe: no event is lost if the future is dropped.
    pub async fn next(&mut self) -> Option<SwitchEvent> {
        match self.receiver.recv().await {
            Ok(event) => Some(event),
            Err(broadcast::error::RecvError::Lagged(lost)) => Some(SwitchEvent::Lost(lost)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}
