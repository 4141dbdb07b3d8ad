//! Multipart messages: questions with long answers (OF1.3.5 §7.3.5).

use super::change::Meter;
use super::monitor::{self, FlowMonitorRequest, FlowUpdate};
use super::port::PortDesc;
use super::stats::{
    GroupFeatures, GroupStats, MeterFeatures, MeterStats, PortStats, QueueStats, TableStats,
    put_meter_config, take_meter_config,
};
use super::table_features::TableFeatures;
use super::{ErrorCode, ONF};
use crate::codec::flow::{put_flow_stats, retake_flow_stats};
use crate::codec::group::{put_group_desc, take_group_desc};
use crate::flow::FlowStats;
use crate::group::Group;
use crate::port::OfPort;
use crate::wire::{Reader, Result, Writer};

mod parts;
mod reader;

pub use parts::{AggregateStats, FlowStatsRequest, SwitchDesc};
pub use reader::FlowStatsReader;

/// `OFPMPF_REQ_MORE` and `OFPMPF_REPLY_MORE`.
const MORE: u16 = 1;

/// `OFPMP_*`.
mod ofpmp {
    pub(super) const DESC: u16 = 0;
    pub(super) const FLOW: u16 = 1;
    pub(super) const AGGREGATE: u16 = 2;
    pub(super) const TABLE: u16 = 3;
    pub(super) const PORT_STATS: u16 = 4;
    pub(super) const QUEUE: u16 = 5;
    pub(super) const GROUP: u16 = 6;
    pub(super) const GROUP_DESC: u16 = 7;
    pub(super) const GROUP_FEATURES: u16 = 8;
    pub(super) const METER: u16 = 9;
    pub(super) const METER_CONFIG: u16 = 10;
    pub(super) const METER_FEATURES: u16 = 11;
    pub(super) const TABLE_FEATURES: u16 = 12;
    pub(super) const PORT_DESC: u16 = 13;
    pub(super) const EXPERIMENTER: u16 = 0xffff;
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MultipartRequest {
    /// `OFPMP_DESC`: who made the switch.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let request = MultipartRequest::Desc;
    /// let message = Message::MultipartRequest { more: false, request };
    /// assert_eq!(Envelope::new(1, message).to_string(), "OFPST_DESC request (OF1.3) (xid=0x1):");
    /// ```
    Desc,
    /// `OFPMP_FLOW`: flows.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let request = MultipartRequest::Flow(FlowStatsRequest {
    ///     table: 20,
    ///     fields: "ip".parse()?,
    ///     ..FlowStatsRequest::default()
    /// });
    /// let message = Message::MultipartRequest { more: false, request };
    /// assert_eq!(Envelope::new(1, message).to_string(), "OFPST_FLOW request (OF1.3) (xid=0x1): table=20 ip");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    Flow(FlowStatsRequest),
    /// `OFPMP_AGGREGATE`: sums over flows.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let request = MultipartRequest::Aggregate(FlowStatsRequest::default());
    /// let message = Message::MultipartRequest { more: false, request };
    /// assert_eq!(Envelope::new(1, message).to_string(), "OFPST_AGGREGATE request (OF1.3) (xid=0x1):");
    /// ```
    Aggregate(FlowStatsRequest),
    /// `OFPMP_TABLE`: counters of all tables.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let request = MultipartRequest::Table;
    /// let message = Message::MultipartRequest { more: false, request };
    /// assert_eq!(Envelope::new(1, message).to_string(), "OFPST_TABLE request (OF1.3) (xid=0x1):");
    /// ```
    Table,
    /// `OFPMP_PORT_STATS`: counters of a port; [`OfPort::ANY`] for all.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let request = MultipartRequest::PortStats(OfPort::ANY);
    /// let message = Message::MultipartRequest { more: false, request };
    /// assert_eq!(Envelope::new(1, message).to_string(), "OFPST_PORT request (OF1.3) (xid=0x1): port_no=ANY");
    /// ```
    PortStats(OfPort),
    /// `OFPMP_QUEUE`: counters of queues.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let request = MultipartRequest::Queue { port: OfPort(3), queue: 0xffff_ffff };
    /// let message = Message::MultipartRequest { more: false, request };
    /// assert_eq!(Envelope::new(1, message).to_string(), "OFPST_QUEUE request (OF1.3) (xid=0x1): port=3 queue=ALL");
    /// ```
    Queue {
        /// Port; [`OfPort::ANY`] for all.
        port: OfPort,
        /// Queue; 0xffffffff for all.
        queue: u32,
    },
    /// `OFPMP_GROUP`: counters of a group; 0xfffffffc for all.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let request = MultipartRequest::Group(0xffff_fffc);
    /// let message = Message::MultipartRequest { more: false, request };
    /// assert_eq!(Envelope::new(1, message).to_string(), "OFPST_GROUP request (OF1.3) (xid=0x1): group_id=ALL");
    /// ```
    Group(u32),
    /// `OFPMP_GROUP_DESC`: all groups.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let request = MultipartRequest::GroupDesc;
    /// let message = Message::MultipartRequest { more: false, request };
    /// assert_eq!(Envelope::new(1, message).to_string(), "OFPST_GROUP_DESC request (OF1.3) (xid=0x1): group_id=ALL");
    /// ```
    GroupDesc,
    /// `OFPMP_GROUP_FEATURES`: what groups there can be.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let request = MultipartRequest::GroupFeatures;
    /// let message = Message::MultipartRequest { more: false, request };
    /// assert_eq!(Envelope::new(1, message).to_string(), "OFPST_GROUP_FEATURES request (OF1.3) (xid=0x1):");
    /// ```
    GroupFeatures,
    /// `OFPMP_METER`: counters of a meter; 0xffffffff for all.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let request = MultipartRequest::Meter(5);
    /// let message = Message::MultipartRequest { more: false, request };
    /// assert_eq!(Envelope::new(1, message).to_string(), "OFPST_METER request (OF1.3) (xid=0x1): meter=5");
    /// ```
    Meter(u32),
    /// `OFPMP_METER_CONFIG`: a meter; 0xffffffff for all.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let request = MultipartRequest::MeterConfig(Meter::ALL);
    /// let message = Message::MultipartRequest { more: false, request };
    /// assert_eq!(Envelope::new(1, message).to_string(), "OFPST_METER_CONFIG request (OF1.3) (xid=0x1): meter=all");
    /// ```
    MeterConfig(u32),
    /// `OFPMP_METER_FEATURES`: what meters there can be.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let request = MultipartRequest::MeterFeatures;
    /// let message = Message::MultipartRequest { more: false, request };
    /// assert_eq!(Envelope::new(1, message).to_string(), "OFPST_METER_FEATURES request (OF1.3) (xid=0x1):");
    /// ```
    MeterFeatures,
    /// `OFPMP_TABLE_FEATURES`: what tables can do; with a body, what they shall do.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let request = MultipartRequest::TableFeatures(Vec::new());
    /// let message = Message::MultipartRequest { more: false, request };
    /// assert_eq!(Envelope::new(1, message).to_string(), "OFPST_TABLE_FEATURES request (OF1.3) (xid=0x1):");
    /// ```
    TableFeatures(Vec<TableFeatures>),
    /// `OFPMP_PORT_DESC`: all ports.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let request = MultipartRequest::PortDesc;
    /// let message = Message::MultipartRequest { more: false, request };
    /// assert_eq!(Envelope::new(1, message).to_string(), "OFPST_PORT_DESC request (OF1.3) (xid=0x1): port=ANY");
    /// ```
    PortDesc,
    /// `ONFMP_FLOW_MONITOR`: tell of changes to flows. Further requests follow in the same message.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let request = MultipartRequest::FlowMonitor(vec![FlowMonitorRequest {
    ///     id: 7,
    ///     flags: MonitorFlags(MonitorFlags::ADD | MonitorFlags::DELETE),
    ///     ..FlowMonitorRequest::default()
    /// }]);
    /// let message = Message::MultipartRequest { more: false, request };
    /// let text = Envelope::new(1, message).to_string();
    /// assert_eq!(text, "ONFST_FLOW_MONITOR request (OF1.3) (xid=0x1):\n id=7 flags=add,delete");
    /// ```
    FlowMonitor(Vec<FlowMonitorRequest>),
    /// A question of an experimenter that we don't know.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let request = MultipartRequest::Experimenter { experimenter: 0xff00_0001, kind: 2, body: vec![0xab] };
    /// let message = Message::MultipartRequest { more: false, request };
    /// let text = Envelope::new(1, message).to_string();
    /// assert_eq!(text, "OFPST_EXPERIMENTER request (OF1.3) (xid=0x1): experimenter=0xff000001 type=0x2 ab");
    /// ```
    Experimenter {
        /// Experimenter id.
        experimenter: u32,
        /// Type within the experimenter's.
        kind: u32,
        /// What follows.
        body: Vec<u8>,
    },
    /// A question that we don't know.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let request = MultipartRequest::Unknown { kind: 99, body: vec![0xab] };
    /// let message = Message::MultipartRequest { more: false, request };
    /// assert_eq!(Envelope::new(1, message).to_string(), "OFPST_UNKNOWN request (OF1.3) (xid=0x1): type=99 ab");
    /// ```
    Unknown {
        /// Type.
        kind: u16,
        /// What follows.
        body: Vec<u8>,
    },
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MultipartReply {
    /// Who made the switch.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let reply = MultipartReply::Desc(SwitchDesc {
    ///     manufacturer: "Nicira, Inc.".to_owned(),
    ///     ..SwitchDesc::default()
    /// });
    /// let message = Message::MultipartReply { more: false, reply };
    /// let text = Envelope::new(1, message).to_string();
    /// assert!(text.starts_with("OFPST_DESC reply (OF1.3) (xid=0x1):\nManufacturer: Nicira, Inc."));
    /// ```
    Desc(SwitchDesc),
    /// Flows.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// # use std::time::Duration;
    /// let reply = MultipartReply::Flow(vec![FlowStats {
    ///     flow: "priority=5 actions=drop".parse()?,
    ///     packets: Some(2),
    ///     bytes: Some(196),
    ///     duration: Duration::from_millis(1500),
    /// }]);
    /// let message = Message::MultipartReply { more: false, reply };
    /// let text = Envelope::new(1, message).to_string();
    /// assert_eq!(text, "OFPST_FLOW reply (OF1.3) (xid=0x1):\n cookie=0x0, duration=1.500s, table=0, n_packets=2, n_bytes=196, priority=5 actions=drop");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    Flow(Vec<FlowStats>),
    /// Sums over flows.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let reply = MultipartReply::Aggregate(AggregateStats { packets: 5, bytes: 490, flows: 1 });
    /// let message = Message::MultipartReply { more: false, reply };
    /// let text = Envelope::new(1, message).to_string();
    /// assert_eq!(text, "OFPST_AGGREGATE reply (OF1.3) (xid=0x1): packet_count=5 byte_count=490 flow_count=1");
    /// ```
    Aggregate(AggregateStats),
    /// Counters of tables.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let reply = MultipartReply::Table(vec![TableStats { table: 0, active: 3, lookups: 9, matched: 7 }]);
    /// let message = Message::MultipartReply { more: false, reply };
    /// let text = Envelope::new(1, message).to_string();
    /// assert_eq!(text, "OFPST_TABLE reply (OF1.3) (xid=0x1):\n  table 0:\n    active=3, lookup=9, matched=7\n");
    /// ```
    Table(Vec<TableStats>),
    /// Counters of ports.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let reply = MultipartReply::PortStats(vec![PortStats { port: OfPort(3), rx_packets: 5, ..PortStats::default() }]);
    /// let message = Message::MultipartReply { more: false, reply };
    /// let text = Envelope::new(1, message).to_string();
    /// assert!(text.starts_with("OFPST_PORT reply (OF1.3) (xid=0x1): 1 ports\n  port  3: rx pkts=5, bytes=0"));
    /// ```
    PortStats(Vec<PortStats>),
    /// Counters of queues.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let reply = MultipartReply::Queue(vec![QueueStats { port: OfPort(3), queue: 1, tx_bytes: 490, ..QueueStats::default() }]);
    /// let message = Message::MultipartReply { more: false, reply };
    /// let text = Envelope::new(1, message).to_string();
    /// assert!(text.starts_with("OFPST_QUEUE reply (OF1.3) (xid=0x1): 1 queues\n  port 3 queue 1: bytes=490"));
    /// ```
    Queue(Vec<QueueStats>),
    /// Counters of groups.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let reply = MultipartReply::Group(vec![GroupStats { id: 1, ref_count: 2, ..GroupStats::default() }]);
    /// let message = Message::MultipartReply { more: false, reply };
    /// let text = Envelope::new(1, message).to_string();
    /// assert_eq!(text, "OFPST_GROUP reply (OF1.3) (xid=0x1):\n group_id=1,duration=0s,ref_count=2,packet_count=0,byte_count=0");
    /// ```
    Group(Vec<GroupStats>),
    /// Groups.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let reply = MultipartReply::GroupDesc(vec!["group_id=1,type=all,bucket=output:1".parse()?]);
    /// let message = Message::MultipartReply { more: false, reply };
    /// let text = Envelope::new(1, message).to_string();
    /// assert_eq!(text, "OFPST_GROUP_DESC reply (OF1.3) (xid=0x1):\n group_id=1,type=all,bucket=actions=output:1");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    GroupDesc(Vec<Group>),
    /// What groups there can be.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let reply = MultipartReply::GroupFeatures(GroupFeatures { types: 1, ..GroupFeatures::default() });
    /// let message = Message::MultipartReply { more: false, reply };
    /// let text = Envelope::new(1, message).to_string();
    /// assert!(text.starts_with("OFPST_GROUP_FEATURES reply (OF1.3) (xid=0x1):\n Group table:\n    Types:  0x1"));
    /// ```
    GroupFeatures(GroupFeatures),
    /// Counters of meters.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let reply = MultipartReply::Meter(vec![MeterStats { id: 1, flow_count: 2, ..MeterStats::default() }]);
    /// let message = Message::MultipartReply { more: false, reply };
    /// let text = Envelope::new(1, message).to_string();
    /// assert!(text.starts_with("OFPST_METER reply (OF1.3) (xid=0x1):\nmeter:1 flow_count:2 packet_in_count:0"));
    /// ```
    Meter(Vec<MeterStats>),
    /// Meters.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let reply = MultipartReply::MeterConfig(vec!["meter=1 pktps bands=type=drop rate=9".parse()?]);
    /// let message = Message::MultipartReply { more: false, reply };
    /// let text = Envelope::new(1, message).to_string();
    /// assert_eq!(text, "OFPST_METER_CONFIG reply (OF1.3) (xid=0x1):\nmeter=1 pktps bands=\ntype=drop rate=9\n");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    MeterConfig(Vec<Meter>),
    /// What meters there can be.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let reply = MultipartReply::MeterFeatures(MeterFeatures { max_meters: 100, band_types: 2, ..MeterFeatures::default() });
    /// let message = Message::MultipartReply { more: false, reply };
    /// let text = Envelope::new(1, message).to_string();
    /// assert!(text.starts_with("OFPST_METER_FEATURES reply (OF1.3) (xid=0x1):\nmax_meter:100 max_bands:0 max_color:0\nband_types: drop"));
    /// ```
    MeterFeatures(MeterFeatures),
    /// What tables can do.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let reply = MultipartReply::TableFeatures(vec![TableFeatures {
    ///     name: "classify".to_owned(),
    ///     max_entries: 1000,
    ///     ..TableFeatures::default()
    /// }]);
    /// let message = Message::MultipartReply { more: false, reply };
    /// let text = Envelope::new(1, message).to_string();
    /// assert_eq!(text, "OFPST_TABLE_FEATURES reply (OF1.3) (xid=0x1):\n  table 0 (\"classify\"):\n    max_entries=1000\n");
    /// ```
    TableFeatures(Vec<TableFeatures>),
    /// Ports.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let reply = MultipartReply::PortDesc(vec![PortDesc {
    ///     port: OfPort(3),
    ///     name: "veth3".to_owned(),
    ///     ..PortDesc::default()
    /// }]);
    /// let message = Message::MultipartReply { more: false, reply };
    /// let text = Envelope::new(1, message).to_string();
    /// assert!(text.starts_with("OFPST_PORT_DESC reply (OF1.3) (xid=0x1):\n 3(veth3): addr:00:00:00:00:00:00"));
    /// ```
    PortDesc(Vec<PortDesc>),
    /// Changes to flows.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let reply = MultipartReply::FlowMonitor(vec![FlowUpdate::Abbreviated { xid: 9 }]);
    /// let message = Message::MultipartReply { more: false, reply };
    /// assert_eq!(Envelope::new(1, message).to_string(), "ONFST_FLOW_MONITOR reply (OF1.3) (xid=0x1):\n event=ABBREV xid=0x9");
    /// ```
    FlowMonitor(Vec<FlowUpdate>),
    /// An answer of an experimenter that we don't know.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let reply = MultipartReply::Experimenter { experimenter: 0xff00_0001, kind: 2, body: vec![0xab] };
    /// let message = Message::MultipartReply { more: false, reply };
    /// let text = Envelope::new(1, message).to_string();
    /// assert_eq!(text, "OFPST_EXPERIMENTER reply (OF1.3) (xid=0x1): experimenter=0xff000001 type=0x2 ab");
    /// ```
    Experimenter {
        /// Experimenter id.
        experimenter: u32,
        /// Type within the experimenter's.
        kind: u32,
        /// What follows.
        body: Vec<u8>,
    },
    /// An answer that we don't know.
    ///
    /// ```
    /// # use openflow::{message::*, *};
    /// let reply = MultipartReply::Unknown { kind: 99, body: vec![0xab] };
    /// let message = Message::MultipartReply { more: false, reply };
    /// assert_eq!(Envelope::new(1, message).to_string(), "OFPST_UNKNOWN reply (OF1.3) (xid=0x1): type=99 ab");
    /// ```
    Unknown {
        /// Type.
        kind: u16,
        /// What follows.
        body: Vec<u8>,
    },
}

impl MultipartReply {
    /// How many entries a reply has that comes in parts.
    pub(crate) fn entries(&self) -> usize {
        use MultipartReply as Reply;
        match self {
            Reply::Flow(list) => list.len(),
            Reply::Table(list) => list.len(),
            Reply::PortStats(list) => list.len(),
            Reply::Queue(list) => list.len(),
            Reply::Group(list) => list.len(),
            Reply::GroupDesc(list) => list.len(),
            Reply::Meter(list) => list.len(),
            Reply::MeterConfig(list) => list.len(),
            Reply::TableFeatures(list) => list.len(),
            Reply::PortDesc(list) => list.len(),
            Reply::FlowMonitor(list) => list.len(),
            // Of what we don't know, the bytes count, in units of a small entry.
            Reply::Experimenter { body, .. } | Reply::Unknown { body, .. } => body.len().div_ceil(64),
            Reply::Desc(_) | Reply::Aggregate(_) | Reply::GroupFeatures(_) | Reply::MeterFeatures(_) => 1,
        }
    }

    /// Appends the next part; `None` if the two do not fit together.
    pub(crate) fn join(mut self, next: MultipartReply) -> Option<MultipartReply> {
        use MultipartReply as Reply;
        match (&mut self, next) {
            (Reply::Flow(all), Reply::Flow(more)) => all.extend(more),
            (Reply::Table(all), Reply::Table(more)) => all.extend(more),
            (Reply::PortStats(all), Reply::PortStats(more)) => all.extend(more),
            (Reply::Queue(all), Reply::Queue(more)) => all.extend(more),
            (Reply::Group(all), Reply::Group(more)) => all.extend(more),
            (Reply::GroupDesc(all), Reply::GroupDesc(more)) => all.extend(more),
            (Reply::Meter(all), Reply::Meter(more)) => all.extend(more),
            (Reply::MeterConfig(all), Reply::MeterConfig(more)) => all.extend(more),
            (Reply::TableFeatures(all), Reply::TableFeatures(more)) => all.extend(more),
            (Reply::PortDesc(all), Reply::PortDesc(more)) => all.extend(more),
            (Reply::FlowMonitor(all), Reply::FlowMonitor(more)) => all.extend(more),
            (Reply::Unknown { kind, body }, Reply::Unknown { kind: other, body: more }) if *kind == other => {
                body.extend(more);
            }
            (
                Reply::Experimenter { experimenter, kind, body },
                Reply::Experimenter { experimenter: other, kind: other_kind, body: more },
            ) if *experimenter == other && *kind == other_kind => body.extend(more),
            _ => return None,
        }
        Some(self)
    }
}

/// Splits a request that does not fit into one message. Only one that sets table features can be so long.
#[cfg(feature = "tokio")]
pub(crate) fn split_request(request: MultipartRequest) -> Vec<MultipartRequest> {
    /// A table's features take up to some 4 KiB in Open vSwitch's own answer.
    const TABLES_A_MESSAGE: usize = 8;
    match request {
        MultipartRequest::TableFeatures(tables) if tables.len() > TABLES_A_MESSAGE => tables
            .chunks(TABLES_A_MESSAGE)
            .map(|chunk| MultipartRequest::TableFeatures(chunk.to_vec()))
            .collect(),
        other => vec![other],
    }
}

fn put_header(w: &mut Writer<'_>, kind: u16, more: bool) {
    w.u16(kind);
    w.u16(if more { MORE } else { 0 });
    w.zeros(4);
}

pub(super) fn put_request(w: &mut Writer<'_>, more: bool, request: &MultipartRequest) {
    use MultipartRequest as Request;
    let kind = match request {
        Request::Desc => ofpmp::DESC,
        Request::Flow(_) => ofpmp::FLOW,
        Request::Aggregate(_) => ofpmp::AGGREGATE,
        Request::Table => ofpmp::TABLE,
        Request::PortStats(_) => ofpmp::PORT_STATS,
        Request::Queue { .. } => ofpmp::QUEUE,
        Request::Group(_) => ofpmp::GROUP,
        Request::GroupDesc => ofpmp::GROUP_DESC,
        Request::GroupFeatures => ofpmp::GROUP_FEATURES,
        Request::Meter(_) => ofpmp::METER,
        Request::MeterConfig(_) => ofpmp::METER_CONFIG,
        Request::MeterFeatures => ofpmp::METER_FEATURES,
        Request::TableFeatures(_) => ofpmp::TABLE_FEATURES,
        Request::PortDesc => ofpmp::PORT_DESC,
        Request::FlowMonitor(_) | Request::Experimenter { .. } => ofpmp::EXPERIMENTER,
        Request::Unknown { kind, .. } => *kind,
    };
    put_header(w, kind, more);
    match request {
        Request::Desc
        | Request::Table
        | Request::GroupDesc
        | Request::GroupFeatures
        | Request::MeterFeatures
        | Request::PortDesc => {}
        Request::Flow(flows) | Request::Aggregate(flows) => flows.put(w),
        Request::PortStats(OfPort(id))
        | Request::Group(id)
        | Request::Meter(id)
        | Request::MeterConfig(id) => {
            w.u32(*id);
            w.zeros(4);
        }
        Request::Queue { port, queue } => {
            w.u32(port.0);
            w.u32(*queue);
        }
        Request::TableFeatures(tables) => tables.iter().for_each(|table| table.put(w)),
        Request::FlowMonitor(monitors) => {
            w.u32(ONF);
            w.u32(monitor::FLOW_MONITOR);
            monitors.iter().for_each(|monitor| monitor.put(w));
        }
        Request::Experimenter { experimenter, kind, body } => {
            w.u32(*experimenter);
            w.u32(*kind);
            w.bytes(body);
        }
        Request::Unknown { body, .. } => w.bytes(body),
    }
}

pub(super) fn put_reply(w: &mut Writer<'_>, more: bool, reply: &MultipartReply) {
    use MultipartReply as Reply;
    let kind = match reply {
        Reply::Desc(_) => ofpmp::DESC,
        Reply::Flow(_) => ofpmp::FLOW,
        Reply::Aggregate(_) => ofpmp::AGGREGATE,
        Reply::Table(_) => ofpmp::TABLE,
        Reply::PortStats(_) => ofpmp::PORT_STATS,
        Reply::Queue(_) => ofpmp::QUEUE,
        Reply::Group(_) => ofpmp::GROUP,
        Reply::GroupDesc(_) => ofpmp::GROUP_DESC,
        Reply::GroupFeatures(_) => ofpmp::GROUP_FEATURES,
        Reply::Meter(_) => ofpmp::METER,
        Reply::MeterConfig(_) => ofpmp::METER_CONFIG,
        Reply::MeterFeatures(_) => ofpmp::METER_FEATURES,
        Reply::TableFeatures(_) => ofpmp::TABLE_FEATURES,
        Reply::PortDesc(_) => ofpmp::PORT_DESC,
        Reply::FlowMonitor(_) | Reply::Experimenter { .. } => ofpmp::EXPERIMENTER,
        Reply::Unknown { kind, .. } => *kind,
    };
    put_header(w, kind, more);
    match reply {
        Reply::Desc(desc) => desc.put(w),
        Reply::Flow(flows) => flows.iter().for_each(|flow| put_flow_stats(w, flow)),
        Reply::Aggregate(sums) => sums.put(w),
        Reply::Table(tables) => tables.iter().for_each(|table| table.put(w)),
        Reply::PortStats(ports) => ports.iter().for_each(|port| port.put(w)),
        Reply::Queue(queues) => queues.iter().for_each(|queue| queue.put(w)),
        Reply::Group(groups) => groups.iter().for_each(|group| group.put(w)),
        Reply::GroupDesc(groups) => groups.iter().for_each(|group| put_group_desc(w, group)),
        Reply::GroupFeatures(features) => features.put(w),
        Reply::Meter(meters) => meters.iter().for_each(|meter| meter.put(w)),
        Reply::MeterConfig(meters) => meters.iter().for_each(|meter| put_meter_config(w, meter)),
        Reply::MeterFeatures(features) => features.put(w),
        Reply::TableFeatures(tables) => tables.iter().for_each(|table| table.put(w)),
        Reply::PortDesc(ports) => ports.iter().for_each(|port| port.put(w)),
        Reply::FlowMonitor(updates) => {
            w.u32(ONF);
            w.u32(monitor::FLOW_MONITOR);
            updates.iter().for_each(|update| update.put(w));
        }
        Reply::Experimenter { experimenter, kind, body } => {
            w.u32(*experimenter);
            w.u32(*kind);
            w.bytes(body);
        }
        Reply::Unknown { body, .. } => w.bytes(body),
    }
}

fn take_header(r: &mut Reader<'_>) -> Result<(u16, bool)> {
    r.enter("ofp_multipart");
    let kind = r.u16()?;
    let flags = r.u16()?;
    r.skip(4)?;
    Ok((kind, flags & MORE != 0))
}

/// A number and its padding.
fn take_id(r: &mut Reader<'_>) -> Result<u32> {
    let id = r.u32()?;
    r.skip(4)?;
    Ok(id)
}

pub(super) fn take_request(r: &mut Reader<'_>) -> Result<(bool, MultipartRequest)> {
    use MultipartRequest as Request;
    let (kind, more) = take_header(r)?;
    let request = match kind {
        ofpmp::DESC => Request::Desc,
        ofpmp::FLOW => Request::Flow(FlowStatsRequest::take(r)?),
        ofpmp::AGGREGATE => Request::Aggregate(FlowStatsRequest::take(r)?),
        ofpmp::TABLE => Request::Table,
        ofpmp::PORT_STATS => Request::PortStats(OfPort(take_id(r)?)),
        ofpmp::QUEUE => Request::Queue { port: OfPort(r.u32()?), queue: r.u32()? },
        ofpmp::GROUP => Request::Group(take_id(r)?),
        ofpmp::GROUP_DESC => Request::GroupDesc,
        ofpmp::GROUP_FEATURES => Request::GroupFeatures,
        ofpmp::METER => Request::Meter(take_id(r)?),
        ofpmp::METER_CONFIG => Request::MeterConfig(take_id(r)?),
        ofpmp::METER_FEATURES => Request::MeterFeatures,
        ofpmp::TABLE_FEATURES => Request::TableFeatures(list(r, TableFeatures::take)?),
        ofpmp::PORT_DESC => Request::PortDesc,
        ofpmp::EXPERIMENTER => match (r.u32()?, r.u32()?) {
            (ONF, monitor::FLOW_MONITOR) => Request::FlowMonitor(list(r, FlowMonitorRequest::take)?),
            (experimenter, kind) => Request::Experimenter { experimenter, kind, body: r.rest().to_vec() },
        },
        kind => Request::Unknown { kind, body: r.rest().to_vec() },
    };
    Ok((more, request))
}

pub(super) fn take_reply(r: &mut Reader<'_>) -> Result<(bool, MultipartReply)> {
    use MultipartReply as Reply;
    let (kind, more) = take_header(r)?;
    let reply = match kind {
        ofpmp::DESC => Reply::Desc(SwitchDesc::take(r)?),
        ofpmp::FLOW => Reply::Flow(flows(r)?),
        ofpmp::AGGREGATE => Reply::Aggregate(AggregateStats::take(r)?),
        ofpmp::TABLE => Reply::Table(list(r, TableStats::take)?),
        ofpmp::PORT_STATS => Reply::PortStats(list(r, PortStats::take)?),
        ofpmp::QUEUE => Reply::Queue(list(r, QueueStats::take)?),
        ofpmp::GROUP => Reply::Group(list(r, GroupStats::take)?),
        ofpmp::GROUP_DESC => Reply::GroupDesc(list(r, take_group_desc)?),
        ofpmp::GROUP_FEATURES => Reply::GroupFeatures(GroupFeatures::take(r)?),
        ofpmp::METER => Reply::Meter(list(r, MeterStats::take)?),
        ofpmp::METER_CONFIG => Reply::MeterConfig(list(r, take_meter_config)?),
        ofpmp::METER_FEATURES => Reply::MeterFeatures(MeterFeatures::take(r)?),
        ofpmp::TABLE_FEATURES => Reply::TableFeatures(list(r, TableFeatures::take)?),
        ofpmp::PORT_DESC => Reply::PortDesc(list(r, PortDesc::take)?),
        ofpmp::EXPERIMENTER => match (r.u32()?, r.u32()?) {
            (ONF, monitor::FLOW_MONITOR) => Reply::FlowMonitor(list(r, FlowUpdate::take)?),
            (experimenter, kind) => Reply::Experimenter { experimenter, kind, body: r.rest().to_vec() },
        },
        kind => Reply::Unknown { kind, body: r.rest().to_vec() },
    };
    Ok((more, reply))
}

/// Entries up to the end of the message.
fn list<'a, T>(r: &mut Reader<'a>, take: impl Fn(&mut Reader<'a>) -> Result<T>) -> Result<Vec<T>> {
    let mut entries = Vec::new();
    while !r.is_empty() {
        let before = r.remaining();
        entries.push(take(r)?);
        // An entry of no bytes would never end.
        let len = before - r.remaining();
        if len == 0 {
            return Err(r.invalid(ErrorCode::BRC_BAD_LEN));
        }
        if entries.len() == 1 {
            // The others are often as long as the first.
            entries.reserve(r.remaining() / len);
        }
    }
    Ok(entries)
}

/// As [`list`], of the longest lists there are: each entry is read where it stays.
fn flows(r: &mut Reader<'_>) -> Result<Vec<FlowStats>> {
    let (mut entries, mut no_spare) = (Vec::new(), Vec::new());
    while !r.is_empty() {
        let before = r.remaining();
        entries.push(FlowStats::default());
        if let Some(stats) = entries.last_mut() {
            retake_flow_stats(r, stats, &mut no_spare)?;
        }
        if entries.len() == 1 {
            // The others are often as long as the first.
            entries.reserve(r.remaining() / (before - r.remaining()).max(1));
        }
    }
    Ok(entries)
}
