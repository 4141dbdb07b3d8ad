//! Messages, and the header that they travel under.

use bytes::BytesMut;

use crate::codec::flow::{put_flow_mod, take_flow_mod};
use crate::codec::group::{put_group_mod, take_group_mod};
use crate::flow::FlowMod;
use crate::group::GroupMod;
use crate::port::OfPort;
use crate::wire::{DecodeError, EncodeError, Reader, Reason, Result, Writer};

mod async_config;
mod bundle;
mod change;
mod ct_flush;
mod error;
mod error_code;
mod experimenter;
mod hello;
mod kind;
mod monitor;
mod multipart;
mod packet;
mod packet_in2;
mod port;
mod property;
mod queue;
mod role;
mod stats;
mod switch;
mod table_features;
mod tlv;

pub use async_config::AsyncConfig;
#[cfg(feature = "tokio")]
pub(crate) use bundle::encode_bundle_add;
pub use bundle::{BundleAdd, BundleControl, BundleControlType, BundleFlags};
pub use change::{Meter, MeterBand, MeterFlags, MeterMod, MeterModCommand, PortMod, TableMod};
pub use ct_flush::{CtFlush, CtTuple};
pub use error::ErrorMsg;
pub use error_code::ErrorCode;
pub(crate) use error_code::{NICIRA, ONF};
pub use hello::Hello;
pub use kind::MessageType;
pub use monitor::{FlowMonitorRequest, FlowUpdate, MonitorFlags, UpdatedFlow};
#[cfg(feature = "tokio")]
pub(crate) use multipart::split_request;
pub use multipart::{AggregateStats, FlowStatsRequest, MultipartReply, MultipartRequest, SwitchDesc};
pub use packet::{FlowRemoved, FlowRemovedReason, PacketIn, PacketInReason, PacketOut};
pub use packet_in2::PacketIn2;
pub use port::{MacAddr, PortConfig, PortDesc, PortReason, PortState, PortStatus};
pub use queue::{Queue, QueueConfig, QueueProperty};
pub use role::{Role, RoleMsg};
pub use stats::{
    Counters, GroupFeatures, GroupStats, MeterFeatures, MeterStats, PortStats, QueueStats, TableStats,
};
pub use switch::{Capabilities, ConfigFlags, Features, SwitchConfig};
pub use table_features::{TableFeatures, TableList, TableProperty};
pub use tlv::{TlvMap, TlvTable, TlvTableCommand, TlvTableMod};

/// Version number of OpenFlow 1.3 on the wire.
pub const VERSION: u8 = 0x04;
/// Bytes of the header of every message (OF1.3.5 §7.1).
pub const HEADER_LEN: usize = 8;

/// A message with its header.
///
/// ```
/// use openflow::{Envelope, Message};
/// let mut buffer = bytes::BytesMut::new();
/// Envelope::new(7, Message::BarrierRequest).encode(&mut buffer)?;
/// assert_eq!(buffer[..], [4, 20, 0, 8, 0, 0, 0, 7]);
/// assert_eq!(Envelope::decode(&buffer).unwrap().message, Message::BarrierRequest);
/// # Ok::<(), openflow::EncodeError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Protocol version.
    pub version: u8,
    /// Transaction id: a reply has that of its request.
    pub xid: u32,
    /// The message.
    pub message: Message,
}

/// Every kind of message (OF1.3.5 §7, and the extensions of the ONF and Nicira).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Message {
    /// `OFPT_HELLO`.
    Hello(Hello),
    /// `OFPT_ERROR`.
    Error(ErrorMsg),
    /// `OFPT_ECHO_REQUEST`: any bytes, to be sent back.
    EchoRequest(Vec<u8>),
    /// `OFPT_ECHO_REPLY`.
    EchoReply(Vec<u8>),
    /// `OFPT_FEATURES_REQUEST`.
    FeaturesRequest,
    /// `OFPT_FEATURES_REPLY`.
    FeaturesReply(Features),
    /// `OFPT_GET_CONFIG_REQUEST`.
    GetConfigRequest,
    /// `OFPT_GET_CONFIG_REPLY`.
    GetConfigReply(SwitchConfig),
    /// `OFPT_SET_CONFIG`.
    SetConfig(SwitchConfig),
    /// `OFPT_PACKET_IN`.
    PacketIn(PacketIn),
    /// `OFPT_FLOW_REMOVED`.
    FlowRemoved(FlowRemoved),
    /// `OFPT_PORT_STATUS`.
    PortStatus(PortStatus),
    /// `OFPT_PACKET_OUT`.
    PacketOut(PacketOut),
    /// `OFPT_FLOW_MOD`.
    FlowMod(FlowMod),
    /// `OFPT_GROUP_MOD`.
    GroupMod(GroupMod),
    /// `OFPT_PORT_MOD`.
    PortMod(PortMod),
    /// `OFPT_TABLE_MOD`.
    TableMod(TableMod),
    /// `OFPT_METER_MOD`.
    MeterMod(MeterMod),
    /// `OFPT_MULTIPART_REQUEST`.
    MultipartRequest {
        /// Whether more parts of this request follow.
        more: bool,
        /// What is asked.
        request: MultipartRequest,
    },
    /// `OFPT_MULTIPART_REPLY`.
    MultipartReply {
        /// Whether more parts of this reply follow.
        more: bool,
        /// This part of the answer.
        reply: MultipartReply,
    },
    /// `OFPT_BARRIER_REQUEST`.
    BarrierRequest,
    /// `OFPT_BARRIER_REPLY`.
    BarrierReply,
    /// `OFPT_QUEUE_GET_CONFIG_REQUEST`: the queues of a port; [`OfPort::ANY`] for all.
    QueueGetConfigRequest(OfPort),
    /// `OFPT_QUEUE_GET_CONFIG_REPLY`.
    QueueGetConfigReply(QueueConfig),
    /// `OFPT_GET_ASYNC_REQUEST`.
    GetAsyncRequest,
    /// `OFPT_GET_ASYNC_REPLY`.
    GetAsyncReply(AsyncConfig),
    /// `OFPT_SET_ASYNC`.
    SetAsync(AsyncConfig),
    /// `OFPT_ROLE_REQUEST`.
    RoleRequest(RoleMsg),
    /// `OFPT_ROLE_REPLY`.
    RoleReply(RoleMsg),
    /// `ONFT_BUNDLE_CONTROL`.
    BundleControl(BundleControl),
    /// `ONFT_BUNDLE_ADD_MESSAGE`.
    BundleAdd(BundleAdd),
    /// `ONFT_FLOW_MONITOR_CANCEL`: end the monitor of this number.
    FlowMonitorCancel(u32),
    /// `ONFT_FLOW_MONITOR_PAUSED`: too many changes; they are held back until this side has caught up.
    FlowMonitorPaused,
    /// `ONFT_FLOW_MONITOR_RESUMED`: the changes held back are told, and all is as before.
    FlowMonitorResumed,
    /// `NXT_SET_PACKET_IN_FORMAT`: 0 OpenFlow's, 1 Nicira's first, 2 [`PacketIn2`].
    SetPacketInFormat(u32),
    /// `NXT_SET_ASYNC_CONFIG`.
    NxSetAsync(AsyncConfig),
    /// `NXT_SET_CONTROLLER_ID`: which `controller` actions come to this connection.
    SetControllerId(u16),
    /// `NXT_PACKET_IN2`.
    PacketIn2(PacketIn2),
    /// `NXT_RESUME`.
    Resume(PacketIn2),
    /// `NXT_TLV_TABLE_MOD`.
    TlvTableMod(TlvTableMod),
    /// `NXT_TLV_TABLE_REQUEST`.
    TlvTableRequest,
    /// `NXT_TLV_TABLE_REPLY`.
    TlvTableReply(TlvTable),
    /// `NXT_CT_FLUSH_ZONE`: forget all tracked connections of a zone.
    CtFlushZone(u16),
    /// `NXT_CT_FLUSH`.
    CtFlush(CtFlush),
    /// An experimenter message that we don't know.
    Experimenter {
        /// Experimenter id.
        experimenter: u32,
        /// Type within the experimenter's messages.
        kind: u32,
        /// What follows.
        body: Vec<u8>,
    },
    /// A message of a type that we don't know.
    Unknown {
        /// Type.
        kind: u8,
        /// What follows the header.
        body: Vec<u8>,
    },
}

impl Envelope {
    /// A message under OpenFlow 1.3.
    pub fn new(xid: u32, message: Message) -> Self {
        Envelope { version: VERSION, xid, message }
    }

    /// Appends the encoded message to `buffer`.
    ///
    /// # Errors
    /// If the message is too long for the protocol; `buffer` is then as before.
    pub fn encode(&self, buffer: &mut BytesMut) -> std::result::Result<(), EncodeError> {
        encode(buffer, self.version, self.xid, &self.message)
    }

    /// Decodes one whole message.
    ///
    /// # Errors
    /// Says where the bytes are wrong. Unknown types, actions and fields are no error: they are kept.
    pub fn decode(bytes: &[u8]) -> std::result::Result<Envelope, DecodeError> {
        decode(bytes, 0)
    }
}

/// Encodes without taking the message apart first.
pub(crate) fn encode(
    buffer: &mut BytesMut,
    version: u8,
    xid: u32,
    message: &Message,
) -> std::result::Result<(), EncodeError> {
    let start = buffer.len();
    let mut w = Writer::new(buffer);
    put_message(&mut w, version, xid, message);
    let result = w.finish();
    if result.is_err() {
        buffer.truncate(start);
    }
    result
}

/// How deep messages may sit in messages: a bundle holds one, and that is no bundle.
const MAX_NESTING: u8 = 1;

fn put_message(w: &mut Writer<'_>, version: u8, xid: u32, message: &Message) {
    let start = w.len();
    w.u8(version);
    w.u8(message.kind().0);
    w.u16(0);
    w.u32(xid);
    put_body(w, message);
    w.patch_len(start + 2, start, "ofp_header");
}

fn put_body(w: &mut Writer<'_>, message: &Message) {
    match message {
        Message::Hello(hello) => hello.put(w),
        Message::Error(error) => error.put(w),
        Message::EchoRequest(bytes) | Message::EchoReply(bytes) => w.bytes(bytes),
        Message::FeaturesRequest
        | Message::GetConfigRequest
        | Message::GetAsyncRequest
        | Message::BarrierRequest
        | Message::BarrierReply => {}
        Message::PortMod(port_mod) => port_mod.put(w),
        Message::TableMod(table_mod) => table_mod.put(w),
        Message::MeterMod(meter_mod) => meter_mod.put(w),
        Message::QueueGetConfigRequest(port) => {
            w.u32(port.0);
            w.zeros(4);
        }
        Message::QueueGetConfigReply(config) => config.put(w),
        Message::GetAsyncReply(config) | Message::SetAsync(config) => config.put(w),
        Message::FeaturesReply(features) => features.put(w),
        Message::GetConfigReply(config) | Message::SetConfig(config) => config.put(w),
        Message::PacketIn(packet) => packet.put(w),
        Message::FlowRemoved(removed) => removed.put(w),
        Message::PortStatus(status) => status.put(w),
        Message::PacketOut(packet) => packet.put(w),
        Message::FlowMod(flow_mod) => put_flow_mod(w, flow_mod),
        Message::GroupMod(group_mod) => put_group_mod(w, group_mod),
        Message::MultipartRequest { more, request } => multipart::put_request(w, *more, request),
        Message::MultipartReply { more, reply } => multipart::put_reply(w, *more, reply),
        Message::RoleRequest(role) | Message::RoleReply(role) => role.put(w),
        Message::Unknown { body, .. } => w.bytes(body),
        other => experimenter::put(w, other),
    }
}

fn decode(bytes: &[u8], depth: u8) -> Result<Envelope> {
    let mut r = Reader::new(bytes, "ofp_header");
    let envelope = take_message(&mut r, depth)?;
    if !r.is_empty() {
        return Err(r.error(Reason::BadLength(bytes.len())));
    }
    Ok(envelope)
}

/// Reads a message; what the reader has left after it is not touched.
fn take_message(r: &mut Reader<'_>, depth: u8) -> Result<Envelope> {
    let start = *r;
    let version = r.u8()?;
    let kind = MessageType(r.u8()?);
    let len = r.u16()?;
    let xid = r.u32()?;
    let body_len = start.body_len(len, HEADER_LEN)?;
    let mut body = r.sub(body_len, kind.name().unwrap_or("ofp_header"))?;
    // Hello and error look alike in all versions, and tell which version the peer has.
    if version != VERSION && !matches!(kind, MessageType::HELLO | MessageType::ERROR) {
        return Err(start.error(Reason::Version(version)));
    }
    let message = take_body(&mut body, kind, depth)?;
    if !body.is_empty() {
        return Err(body.error(Reason::BadLength(len.into())));
    }
    Ok(Envelope { version, xid, message })
}

fn take_body(r: &mut Reader<'_>, kind: MessageType, depth: u8) -> Result<Message> {
    Ok(match kind {
        MessageType::HELLO => Message::Hello(Hello::take(r)?),
        MessageType::ERROR => Message::Error(ErrorMsg::take(r)?),
        MessageType::ECHO_REQUEST => Message::EchoRequest(r.rest().to_vec()),
        MessageType::ECHO_REPLY => Message::EchoReply(r.rest().to_vec()),
        MessageType::EXPERIMENTER => experimenter::take(r, depth)?,
        MessageType::FEATURES_REQUEST => Message::FeaturesRequest,
        MessageType::FEATURES_REPLY => Message::FeaturesReply(Features::take(r)?),
        MessageType::GET_CONFIG_REQUEST => Message::GetConfigRequest,
        MessageType::GET_CONFIG_REPLY => Message::GetConfigReply(SwitchConfig::take(r)?),
        MessageType::SET_CONFIG => Message::SetConfig(SwitchConfig::take(r)?),
        MessageType::PACKET_IN => Message::PacketIn(PacketIn::take(r)?),
        MessageType::FLOW_REMOVED => Message::FlowRemoved(FlowRemoved::take(r)?),
        MessageType::PORT_STATUS => Message::PortStatus(PortStatus::take(r)?),
        MessageType::PACKET_OUT => Message::PacketOut(PacketOut::take(r)?),
        MessageType::FLOW_MOD => Message::FlowMod(take_flow_mod(r)?),
        MessageType::GROUP_MOD => Message::GroupMod(take_group_mod(r)?),
        MessageType::MULTIPART_REQUEST => {
            let (more, request) = multipart::take_request(r)?;
            Message::MultipartRequest { more, request }
        }
        MessageType::MULTIPART_REPLY => {
            let (more, reply) = multipart::take_reply(r)?;
            Message::MultipartReply { more, reply }
        }
        MessageType::BARRIER_REQUEST => Message::BarrierRequest,
        MessageType::BARRIER_REPLY => Message::BarrierReply,
        MessageType::PORT_MOD => Message::PortMod(PortMod::take(r)?),
        MessageType::TABLE_MOD => Message::TableMod(TableMod::take(r)?),
        MessageType::METER_MOD => Message::MeterMod(MeterMod::take(r)?),
        MessageType::QUEUE_GET_CONFIG_REQUEST => {
            let port = OfPort(r.u32()?);
            r.skip(4)?;
            Message::QueueGetConfigRequest(port)
        }
        MessageType::QUEUE_GET_CONFIG_REPLY => Message::QueueGetConfigReply(QueueConfig::take(r)?),
        MessageType::GET_ASYNC_REQUEST => Message::GetAsyncRequest,
        MessageType::GET_ASYNC_REPLY => Message::GetAsyncReply(AsyncConfig::take(r)?),
        MessageType::SET_ASYNC => Message::SetAsync(AsyncConfig::take(r)?),
        MessageType::ROLE_REQUEST => Message::RoleRequest(RoleMsg::take(r)?),
        MessageType::ROLE_REPLY => Message::RoleReply(RoleMsg::take(r)?),
        MessageType(kind) => Message::Unknown { kind, body: r.rest().to_vec() },
    })
}

impl Message {
    /// The type in the header.
    pub fn kind(&self) -> MessageType {
        match self {
            Message::Hello(_) => MessageType::HELLO,
            Message::Error(_) => MessageType::ERROR,
            Message::EchoRequest(_) => MessageType::ECHO_REQUEST,
            Message::EchoReply(_) => MessageType::ECHO_REPLY,
            Message::FeaturesRequest => MessageType::FEATURES_REQUEST,
            Message::FeaturesReply(_) => MessageType::FEATURES_REPLY,
            Message::GetConfigRequest => MessageType::GET_CONFIG_REQUEST,
            Message::GetConfigReply(_) => MessageType::GET_CONFIG_REPLY,
            Message::SetConfig(_) => MessageType::SET_CONFIG,
            Message::PacketIn(_) => MessageType::PACKET_IN,
            Message::FlowRemoved(_) => MessageType::FLOW_REMOVED,
            Message::PortStatus(_) => MessageType::PORT_STATUS,
            Message::PacketOut(_) => MessageType::PACKET_OUT,
            Message::FlowMod(_) => MessageType::FLOW_MOD,
            Message::GroupMod(_) => MessageType::GROUP_MOD,
            Message::MultipartRequest { .. } => MessageType::MULTIPART_REQUEST,
            Message::MultipartReply { .. } => MessageType::MULTIPART_REPLY,
            Message::BarrierRequest => MessageType::BARRIER_REQUEST,
            Message::BarrierReply => MessageType::BARRIER_REPLY,
            Message::PortMod(_) => MessageType::PORT_MOD,
            Message::TableMod(_) => MessageType::TABLE_MOD,
            Message::MeterMod(_) => MessageType::METER_MOD,
            Message::QueueGetConfigRequest(_) => MessageType::QUEUE_GET_CONFIG_REQUEST,
            Message::QueueGetConfigReply(_) => MessageType::QUEUE_GET_CONFIG_REPLY,
            Message::GetAsyncRequest => MessageType::GET_ASYNC_REQUEST,
            Message::GetAsyncReply(_) => MessageType::GET_ASYNC_REPLY,
            Message::SetAsync(_) => MessageType::SET_ASYNC,
            Message::RoleRequest(_) => MessageType::ROLE_REQUEST,
            Message::RoleReply(_) => MessageType::ROLE_REPLY,
            Message::Unknown { kind, .. } => MessageType(*kind),
            _ => MessageType::EXPERIMENTER,
        }
    }
}
