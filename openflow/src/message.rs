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

pub use async_config::{AsyncConfig, AsyncEvent, AsyncProperty};
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
pub use multipart::{
    AggregateStats, FlowStatsReader, FlowStatsRequest, MultipartReply, MultipartRequest, SwitchDesc,
};
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
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let message = Message::Hello(Hello::openflow13());
    /// assert_eq!(Envelope::new(1, message).to_string(), "OFPT_HELLO (OF1.3) (xid=0x1):\n version bitmap: 0x04");
    /// ```
    Hello(Hello),
    /// `OFPT_ERROR`.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let message = Message::Error(ErrorMsg { code: ErrorCode::FMFC_TABLE_FULL, data: vec![] });
    /// assert_eq!(Envelope::new(1, message).to_string(), "OFPT_ERROR (OF1.3) (xid=0x1): OFPFMFC_TABLE_FULL");
    /// ```
    Error(ErrorMsg),
    /// `OFPT_ECHO_REQUEST`: any bytes, to be sent back.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let message = Message::EchoRequest(b"ping".to_vec());
    /// assert_eq!(Envelope::new(1, message).to_string(), "OFPT_ECHO_REQUEST (OF1.3) (xid=0x1): 4 bytes of payload");
    /// ```
    EchoRequest(Vec<u8>),
    /// `OFPT_ECHO_REPLY`.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let message = Message::EchoReply(b"ping".to_vec());
    /// assert_eq!(Envelope::new(1, message).to_string(), "OFPT_ECHO_REPLY (OF1.3) (xid=0x1): 4 bytes of payload");
    /// ```
    EchoReply(Vec<u8>),
    /// `OFPT_FEATURES_REQUEST`.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let message = Message::FeaturesRequest;
    /// assert_eq!(Envelope::new(1, message).to_string(), "OFPT_FEATURES_REQUEST (OF1.3) (xid=0x1):");
    /// ```
    FeaturesRequest,
    /// `OFPT_FEATURES_REPLY`.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let message = Message::FeaturesReply(Features { datapath_id: 0xa, n_tables: 254, ..Features::default() });
    /// let text = Envelope::new(1, message).to_string();
    /// assert_eq!(text, "OFPT_FEATURES_REPLY (OF1.3) (xid=0x1): dpid:000000000000000a\nn_tables:254, n_buffers:0\ncapabilities: 0");
    /// ```
    FeaturesReply(Features),
    /// `OFPT_GET_CONFIG_REQUEST`.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let message = Message::GetConfigRequest;
    /// assert_eq!(Envelope::new(1, message).to_string(), "OFPT_GET_CONFIG_REQUEST (OF1.3) (xid=0x1):");
    /// ```
    GetConfigRequest,
    /// `OFPT_GET_CONFIG_REPLY`.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let message = Message::GetConfigReply(SwitchConfig { miss_send_len: 128, ..SwitchConfig::default() });
    /// let text = Envelope::new(1, message).to_string();
    /// assert_eq!(text, "OFPT_GET_CONFIG_REPLY (OF1.3) (xid=0x1): frags=normal miss_send_len=128");
    /// ```
    GetConfigReply(SwitchConfig),
    /// `OFPT_SET_CONFIG`.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let message = Message::SetConfig(SwitchConfig { miss_send_len: 0xffff, ..SwitchConfig::default() });
    /// assert_eq!(Envelope::new(1, message).to_string(), "OFPT_SET_CONFIG (OF1.3) (xid=0x1): frags=normal miss_send_len=65535");
    /// ```
    SetConfig(SwitchConfig),
    /// `OFPT_PACKET_IN`.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let message = Message::PacketIn(PacketIn {
    ///     buffer_id: NO_BUFFER,
    ///     total_len: 60,
    ///     reason: PacketInReason::ACTION,
    ///     table: 3,
    ///     cookie: 0x1234,
    ///     fields: "in_port=7".parse()?,
    ///     data: vec![0; 60],
    /// });
    /// let text = Envelope::new(1, message).to_string();
    /// assert_eq!(text, "OFPT_PACKET_IN (OF1.3) (xid=0x1): table_id=3 cookie=0x1234 total_len=60 in_port=7 (via action) data_len=60 (unbuffered)");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    PacketIn(PacketIn),
    /// `OFPT_FLOW_REMOVED`.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// # use std::time::Duration;
    /// let message = Message::FlowRemoved(FlowRemoved {
    ///     cookie: 0,
    ///     priority: 100,
    ///     reason: FlowRemovedReason::IDLE_TIMEOUT,
    ///     table: 20,
    ///     duration: Duration::from_secs(61),
    ///     idle_timeout: 60,
    ///     hard_timeout: 0,
    ///     packets: 5,
    ///     bytes: 490,
    ///     fields: "ip,nw_dst=10.0.0.1".parse()?,
    /// });
    /// let text = Envelope::new(1, message).to_string();
    /// assert_eq!(text, "OFPT_FLOW_REMOVED (OF1.3) (xid=0x1): priority=100,ip,nw_dst=10.0.0.1 reason=idle table_id=20 duration61s idle60 pkts5 bytes490");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    FlowRemoved(FlowRemoved),
    /// `OFPT_PORT_STATUS`.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let message = Message::PortStatus(PortStatus {
    ///     reason: PortReason::Add,
    ///     desc: PortDesc { port: OfPort(3), name: "veth3".to_owned(), ..PortDesc::default() },
    /// });
    /// let text = Envelope::new(1, message).to_string();
    /// assert!(text.starts_with("OFPT_PORT_STATUS (OF1.3) (xid=0x1): ADD: 3(veth3): addr:00:00:00:00:00:00"));
    /// ```
    PortStatus(PortStatus),
    /// `OFPT_PACKET_OUT`.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let message = Message::PacketOut(PacketOut::new(OfPort::LOCAL, vec![Action::Output(OfPort(3))], vec![0; 60]));
    /// let text = Envelope::new(1, message).to_string();
    /// assert_eq!(text, "OFPT_PACKET_OUT (OF1.3) (xid=0x1): in_port=LOCAL actions=output:3 data_len=60");
    /// ```
    PacketOut(PacketOut),
    /// `OFPT_FLOW_MOD`.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let message = Message::FlowMod(FlowMod::add("table=20,ip,nw_dst=10.0.0.1 actions=output:3".parse()?));
    /// let text = Envelope::new(1, message).to_string();
    /// assert_eq!(text, "OFPT_FLOW_MOD (OF1.3) (xid=0x1): ADD table:20 ip,nw_dst=10.0.0.1 actions=output:3");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    FlowMod(FlowMod),
    /// `OFPT_GROUP_MOD`.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let message = Message::GroupMod(GroupMod::add("group_id=1,type=all,bucket=output:1,bucket=output:2".parse()?));
    /// let text = Envelope::new(1, message).to_string();
    /// assert_eq!(text, "OFPT_GROUP_MOD (OF1.3) (xid=0x1):\n ADD group_id=1,type=all,bucket=actions=output:1,bucket=actions=output:2");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    GroupMod(GroupMod),
    /// `OFPT_PORT_MOD`.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let message = Message::PortMod(PortMod {
    ///     port: OfPort(3),
    ///     config: PortConfig::PORT_DOWN,
    ///     mask: PortConfig::PORT_DOWN,
    ///     ..PortMod::default()
    /// });
    /// let text = Envelope::new(1, message).to_string();
    /// assert!(text.starts_with("OFPT_PORT_MOD (OF1.3) (xid=0x1): port: 3: addr:00:00:00:00:00:00\n     config: PORT_DOWN"));
    /// ```
    PortMod(PortMod),
    /// `OFPT_TABLE_MOD`.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let message = Message::TableMod(TableMod { table: 3, config: 0 });
    /// assert_eq!(Envelope::new(1, message).to_string(), "OFPT_TABLE_MOD (OF1.3) (xid=0x1): table_id=3");
    /// ```
    TableMod(TableMod),
    /// `OFPT_METER_MOD`.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let message = Message::MeterMod(MeterMod::parse(
    ///     MeterModCommand::Add,
    ///     "meter=1 kbps bands=type=drop rate=1000",
    /// )?);
    /// let text = Envelope::new(1, message).to_string();
    /// assert_eq!(text, "OFPT_METER_MOD (OF1.3) (xid=0x1): ADD meter=1 kbps bands=\ntype=drop rate=1000");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    MeterMod(MeterMod),
    /// `OFPT_MULTIPART_REQUEST`.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let message = Message::MultipartRequest { more: false, request: MultipartRequest::Table };
    /// assert_eq!(Envelope::new(1, message).to_string(), "OFPST_TABLE request (OF1.3) (xid=0x1):");
    /// ```
    MultipartRequest {
        /// Whether more parts of this request follow.
        more: bool,
        /// What is asked.
        request: MultipartRequest,
    },
    /// `OFPT_MULTIPART_REPLY`.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let message = Message::MultipartReply {
    ///     more: true,
    ///     reply: MultipartReply::Aggregate(AggregateStats { packets: 5, bytes: 490, flows: 1 }),
    /// };
    /// let text = Envelope::new(1, message).to_string();
    /// assert_eq!(text, "OFPST_AGGREGATE reply (OF1.3) (xid=0x1): flags=[more] packet_count=5 byte_count=490 flow_count=1");
    /// ```
    MultipartReply {
        /// Whether more parts of this reply follow.
        more: bool,
        /// This part of the answer.
        reply: MultipartReply,
    },
    /// `OFPT_BARRIER_REQUEST`.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let message = Message::BarrierRequest;
    /// assert_eq!(Envelope::new(1, message).to_string(), "OFPT_BARRIER_REQUEST (OF1.3) (xid=0x1):");
    /// ```
    BarrierRequest,
    /// `OFPT_BARRIER_REPLY`.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let message = Message::BarrierReply;
    /// assert_eq!(Envelope::new(1, message).to_string(), "OFPT_BARRIER_REPLY (OF1.3) (xid=0x1):");
    /// ```
    BarrierReply,
    /// `OFPT_QUEUE_GET_CONFIG_REQUEST`: the queues of a port; [`OfPort::ANY`] for all.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let message = Message::QueueGetConfigRequest(OfPort(3));
    /// assert_eq!(Envelope::new(1, message).to_string(), "OFPT_QUEUE_GET_CONFIG_REQUEST (OF1.3) (xid=0x1): port=3");
    /// ```
    QueueGetConfigRequest(OfPort),
    /// `OFPT_QUEUE_GET_CONFIG_REPLY`.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let message = Message::QueueGetConfigReply(QueueConfig {
    ///     port: OfPort(3),
    ///     queues: vec![Queue { id: 1, port: OfPort(3), properties: vec![QueueProperty::MinRate(500)] }],
    /// });
    /// let text = Envelope::new(1, message).to_string();
    /// assert_eq!(text, "OFPT_QUEUE_GET_CONFIG_REPLY (OF1.3) (xid=0x1): port=3\nqueue 1: min_rate:50.0%");
    /// ```
    QueueGetConfigReply(QueueConfig),
    /// `OFPT_GET_ASYNC_REQUEST`.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let message = Message::GetAsyncRequest;
    /// assert_eq!(Envelope::new(1, message).to_string(), "OFPT_GET_ASYNC_REQUEST (OF1.3) (xid=0x1):");
    /// ```
    GetAsyncRequest,
    /// `OFPT_GET_ASYNC_REPLY`.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let message = Message::GetAsyncReply(AsyncConfig { port_status: [7, 0], ..AsyncConfig::default() });
    /// let text = Envelope::new(1, message).to_string();
    /// assert!(text.starts_with("OFPT_GET_ASYNC_REPLY (OF1.3) (xid=0x1):\n primary:\n       PACKET_IN: (off)\n     PORT_STATUS: add delete modify"));
    /// ```
    GetAsyncReply(AsyncConfig),
    /// `OFPT_SET_ASYNC`.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let message = Message::SetAsync(AsyncConfig { packet_in: [0b11, 0], ..AsyncConfig::default() });
    /// let text = Envelope::new(1, message).to_string();
    /// assert!(text.starts_with("OFPT_SET_ASYNC (OF1.3) (xid=0x1):\n primary:\n       PACKET_IN: no_match action"));
    /// ```
    SetAsync(AsyncConfig),
    /// `OFPT_ROLE_REQUEST`.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let message = Message::RoleRequest(RoleMsg { role: Role::MASTER, generation_id: 5 });
    /// assert_eq!(Envelope::new(1, message).to_string(), "OFPT_ROLE_REQUEST (OF1.3) (xid=0x1): role=primary generation_id=5");
    /// ```
    RoleRequest(RoleMsg),
    /// `OFPT_ROLE_REPLY`.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let message = Message::RoleReply(RoleMsg { role: Role::SLAVE, generation_id: 5 });
    /// assert_eq!(Envelope::new(1, message).to_string(), "OFPT_ROLE_REPLY (OF1.3) (xid=0x1): role=secondary generation_id=5");
    /// ```
    RoleReply(RoleMsg),
    /// `ONFT_BUNDLE_CONTROL`.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let message = Message::BundleControl(BundleControl {
    ///     id: 1,
    ///     kind: BundleControlType::COMMIT_REQUEST,
    ///     flags: BundleFlags::ATOMIC_ORDERED,
    /// });
    /// let text = Envelope::new(1, message).to_string();
    /// assert_eq!(text, "ONFT_BUNDLE_CONTROL (OF1.3) (xid=0x1):\n bundle_id=0x1 type=COMMIT_REQUEST flags=atomic ordered");
    /// ```
    BundleControl(BundleControl),
    /// `ONFT_BUNDLE_ADD_MESSAGE`.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let message = Message::BundleAdd(BundleAdd {
    ///     id: 1,
    ///     flags: BundleFlags::ATOMIC_ORDERED,
    ///     xid: 1,
    ///     message: Box::new(Message::FlowMod(FlowMod::add("actions=drop".parse()?))),
    /// });
    /// let text = Envelope::new(1, message).to_string();
    /// assert_eq!(text, "ONFT_BUNDLE_ADD_MESSAGE (OF1.3) (xid=0x1):\n bundle_id=0x1 flags=atomic ordered\nOFPT_FLOW_MOD (OF1.3) (xid=0x1): ADD actions=drop");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    BundleAdd(BundleAdd),
    /// `ONFT_FLOW_MONITOR_CANCEL`: end the monitor of this number.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let message = Message::FlowMonitorCancel(7);
    /// assert_eq!(Envelope::new(1, message).to_string(), "ONFT_FLOW_MONITOR_CANCEL (OF1.3) (xid=0x1): id=7");
    /// ```
    FlowMonitorCancel(u32),
    /// `ONFT_FLOW_MONITOR_PAUSED`: too many changes; they are held back until this side has caught up.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let message = Message::FlowMonitorPaused;
    /// assert_eq!(Envelope::new(1, message).to_string(), "ONFT_FLOW_MONITOR_PAUSED (OF1.3) (xid=0x1):");
    /// ```
    FlowMonitorPaused,
    /// `ONFT_FLOW_MONITOR_RESUMED`: the changes held back are told, and all is as before.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let message = Message::FlowMonitorResumed;
    /// assert_eq!(Envelope::new(1, message).to_string(), "ONFT_FLOW_MONITOR_RESUMED (OF1.3) (xid=0x1):");
    /// ```
    FlowMonitorResumed,
    /// `NXT_SET_PACKET_IN_FORMAT`: 0 [`Message::PacketIn`], 1 [`Message::NxPacketIn`], 2 [`Message::PacketIn2`].
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let message = Message::SetPacketInFormat(2);
    /// assert_eq!(Envelope::new(1, message).to_string(), "NXT_SET_PACKET_IN_FORMAT (OF1.3) (xid=0x1): format=nxt_packet_in2");
    /// ```
    SetPacketInFormat(u32),
    /// `NXT_SET_ASYNC_CONFIG`.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let message = Message::NxSetAsync(AsyncConfig { flow_removed: [0b111, 0], ..AsyncConfig::default() });
    /// let text = Envelope::new(1, message).to_string();
    /// assert!(text.starts_with("NXT_SET_ASYNC_CONFIG (OF1.3) (xid=0x1):\n primary:\n       PACKET_IN: (off)\n     PORT_STATUS: (off)\n    FLOW_REMOVED: idle hard delete"));
    /// ```
    NxSetAsync(AsyncConfig),
    /// `NXT_SET_ASYNC_CONFIG2`: like OpenFlow 1.4's own message, property by property.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let status = AsyncProperty { event: AsyncEvent::PortStatus, slave: false, mask: 0b101 };
    /// let text = Envelope::new(1, Message::NxSetAsync2(vec![status])).to_string();
    /// assert!(text.starts_with("NXT_SET_ASYNC_CONFIG2 (OF1.3) (xid=0x1):\n primary:\n       PACKET_IN: (off)\n     PORT_STATUS: add modify"));
    /// ```
    NxSetAsync2(Vec<AsyncProperty>),
    /// `NXT_SET_CONTROLLER_ID`: which `controller` actions come to this connection.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let message = Message::SetControllerId(5);
    /// assert_eq!(Envelope::new(1, message).to_string(), "NXT_SET_CONTROLLER_ID (OF1.3) (xid=0x1): id=5");
    /// ```
    SetControllerId(u16),
    /// `NXT_PACKET_IN`: a packet in Nicira's first format, 1 in [`Message::SetPacketInFormat`].
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let message = Message::NxPacketIn(PacketIn {
    ///     buffer_id: NO_BUFFER,
    ///     total_len: 60,
    ///     reason: PacketInReason::NO_MATCH,
    ///     table: 3,
    ///     cookie: 0x1234,
    ///     fields: "reg0=5,in_port=7".parse()?,
    ///     data: vec![0; 60],
    /// });
    /// let text = Envelope::new(1, message).to_string();
    /// assert_eq!(text, "NXT_PACKET_IN (OF1.3) (xid=0x1): table_id=3 cookie=0x1234 total_len=60 reg0=0x5,in_port=7 (via no_match) data_len=60 (unbuffered)");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    NxPacketIn(PacketIn),
    /// `NXT_PACKET_IN2`.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let message = Message::PacketIn2(PacketIn2 {
    ///     packet: vec![0; 60],
    ///     fields: "reg0=0x5,in_port=7".parse()?,
    ///     userdata: vec![1, 2],
    ///     ..PacketIn2::default()
    /// });
    /// let text = Envelope::new(1, message).to_string();
    /// assert_eq!(text, "NXT_PACKET_IN2 (OF1.3) (xid=0x1): total_len=60 reg0=0x5,in_port=7 (via no_match) data_len=60 (unbuffered)\n userdata=01.02");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    PacketIn2(PacketIn2),
    /// `NXT_RESUME`.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let message = Message::Resume(PacketIn2 { packet: vec![0; 60], fields: "in_port=7".parse()?, ..PacketIn2::default() });
    /// let text = Envelope::new(1, message).to_string();
    /// assert_eq!(text, "NXT_RESUME (OF1.3) (xid=0x1): total_len=60 in_port=7 (via no_match) data_len=60 (unbuffered)");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    Resume(PacketIn2),
    /// `NXT_TLV_TABLE_MOD`.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let message = Message::TlvTableMod(TlvTableMod {
    ///     command: TlvTableCommand::Add,
    ///     maps: vec![TlvMap { class: 0xffff, kind: 0, len: 4, index: 0 }],
    /// });
    /// let text = Envelope::new(1, message).to_string();
    /// assert!(text.starts_with("NXT_TLV_TABLE_MOD (OF1.3) (xid=0x1):\n ADD mapping table:"));
    /// ```
    TlvTableMod(TlvTableMod),
    /// `NXT_TLV_TABLE_REQUEST`.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let message = Message::TlvTableRequest;
    /// assert_eq!(Envelope::new(1, message).to_string(), "NXT_TLV_TABLE_REQUEST (OF1.3) (xid=0x1):");
    /// ```
    TlvTableRequest,
    /// `NXT_TLV_TABLE_REPLY`.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let message = Message::TlvTableReply(TlvTable { max_option_space: 256, max_fields: 64, maps: vec![] });
    /// let text = Envelope::new(1, message).to_string();
    /// assert!(text.starts_with("NXT_TLV_TABLE_REPLY (OF1.3) (xid=0x1):\n max option space=256 max fields=64"));
    /// ```
    TlvTableReply(TlvTable),
    /// `NXT_CT_FLUSH_ZONE`: forget all tracked connections of a zone.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let message = Message::CtFlushZone(5);
    /// assert_eq!(Envelope::new(1, message).to_string(), "NXT_CT_FLUSH_ZONE (OF1.3) (xid=0x1): zone_id=5");
    /// ```
    CtFlushZone(u16),
    /// `NXT_CT_FLUSH`.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let message = Message::CtFlush(CtFlush {
    ///     ip_proto: 6,
    ///     zone: Some(5),
    ///     original: CtTuple { src: Some("10.0.0.1".parse()?), dst_port: Some(80), ..CtTuple::default() },
    ///     ..CtFlush::default()
    /// });
    /// let text = Envelope::new(1, message).to_string();
    /// assert!(text.starts_with("NXT_CT_FLUSH (OF1.3) (xid=0x1): zone=5 'ct_nw_src=10.0.0.1,"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    CtFlush(CtFlush),
    /// An experimenter message that we don't know.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let message = Message::Experimenter { experimenter: 0xff00_0001, kind: 2, body: vec![0xab] };
    /// let text = Envelope::new(1, message).to_string();
    /// assert_eq!(text, "OFPT_EXPERIMENTER (OF1.3) (xid=0x1): experimenter=0xff000001 type=0x2 ab");
    /// ```
    Experimenter {
        /// Experimenter id.
        experimenter: u32,
        /// Type within the experimenter's messages.
        kind: u32,
        /// What follows.
        body: Vec<u8>,
    },
    /// A message of a type that we don't know.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let message = Message::Unknown { kind: 99, body: vec![0xab] };
    /// assert_eq!(Envelope::new(1, message).to_string(), "type 99 (OF1.3) (xid=0x1): ab");
    /// ```
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
        decode(bytes, 0).map_err(|error| *error)
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
    end(&r, bytes.len())?;
    Ok(envelope)
}

/// Checks that a message of `len` bytes ends here.
fn end(r: &Reader<'_>, len: usize) -> Result<()> {
    if r.is_empty() { Ok(()) } else { Err(r.error(Reason::BadLength(len))) }
}

/// Reads a message; what the reader has left after it is not touched.
fn take_message(r: &mut Reader<'_>, depth: u8) -> Result<Envelope> {
    let header = take_header(r)?;
    let Header { version, kind, xid, mut body, len } = header;
    let message = take_body(&mut body, kind, depth)?;
    end(&body, len)?;
    Ok(Envelope { version, xid, message })
}

/// `ofp_header`, and what follows it.
struct Header<'a> {
    version: u8,
    kind: MessageType,
    xid: u32,
    body: Reader<'a>,
    /// Of header and body.
    len: usize,
}

fn take_header<'a>(r: &mut Reader<'a>) -> Result<Header<'a>> {
    let start = *r;
    let version = r.u8()?;
    let kind = MessageType(r.u8()?);
    let len = r.u16()?;
    let xid = r.u32()?;
    let body_len = start.body_len(len, HEADER_LEN)?;
    let body = r.sub(body_len, kind.name().unwrap_or("ofp_header"))?;
    // Hello and error look alike in all versions, and tell which version the peer has.
    if version != VERSION && !matches!(kind, MessageType::HELLO | MessageType::ERROR) {
        return Err(start.error(Reason::Version(version)));
    }
    Ok(Header { version, kind, xid, body, len: len.into() })
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
