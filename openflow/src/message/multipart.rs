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
use crate::codec::flow::{put_flow_stats, take_flow_stats};
use crate::codec::group::{put_group_desc, take_group_desc};
use crate::flow::FlowStats;
use crate::group::Group;
use crate::port::OfPort;
use crate::wire::{Reader, Result, Writer};

mod parts;

pub use parts::{AggregateStats, FlowStatsRequest, SwitchDesc};

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
    Desc,
    /// `OFPMP_FLOW`: flows.
    Flow(FlowStatsRequest),
    /// `OFPMP_AGGREGATE`: sums over flows.
    Aggregate(FlowStatsRequest),
    /// `OFPMP_TABLE`: counters of all tables.
    Table,
    /// `OFPMP_PORT_STATS`: counters of a port; [`OfPort::ANY`] for all.
    PortStats(OfPort),
    /// `OFPMP_QUEUE`: counters of queues.
    Queue {
        /// Port; [`OfPort::ANY`] for all.
        port: OfPort,
        /// Queue; 0xffffffff for all.
        queue: u32,
    },
    /// `OFPMP_GROUP`: counters of a group; 0xfffffffc for all.
    Group(u32),
    /// `OFPMP_GROUP_DESC`: all groups.
    GroupDesc,
    /// `OFPMP_GROUP_FEATURES`: what groups there can be.
    GroupFeatures,
    /// `OFPMP_METER`: counters of a meter; 0xffffffff for all.
    Meter(u32),
    /// `OFPMP_METER_CONFIG`: a meter; 0xffffffff for all.
    MeterConfig(u32),
    /// `OFPMP_METER_FEATURES`: what meters there can be.
    MeterFeatures,
    /// `OFPMP_TABLE_FEATURES`: what tables can do; with a body, what they shall do.
    TableFeatures(Vec<TableFeatures>),
    /// `OFPMP_PORT_DESC`: all ports.
    PortDesc,
    /// `ONFMP_FLOW_MONITOR`: tell of changes to flows. Further requests follow in the same message.
    FlowMonitor(Vec<FlowMonitorRequest>),
    /// A question of an experimenter that we don't know.
    Experimenter {
        /// Experimenter id.
        experimenter: u32,
        /// Type within the experimenter's.
        kind: u32,
        /// What follows.
        body: Vec<u8>,
    },
    /// A question that we don't know.
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
    Desc(SwitchDesc),
    /// Flows.
    Flow(Vec<FlowStats>),
    /// Sums over flows.
    Aggregate(AggregateStats),
    /// Counters of tables.
    Table(Vec<TableStats>),
    /// Counters of ports.
    PortStats(Vec<PortStats>),
    /// Counters of queues.
    Queue(Vec<QueueStats>),
    /// Counters of groups.
    Group(Vec<GroupStats>),
    /// Groups.
    GroupDesc(Vec<Group>),
    /// What groups there can be.
    GroupFeatures(GroupFeatures),
    /// Counters of meters.
    Meter(Vec<MeterStats>),
    /// Meters.
    MeterConfig(Vec<Meter>),
    /// What meters there can be.
    MeterFeatures(MeterFeatures),
    /// What tables can do.
    TableFeatures(Vec<TableFeatures>),
    /// Ports.
    PortDesc(Vec<PortDesc>),
    /// Changes to flows.
    FlowMonitor(Vec<FlowUpdate>),
    /// An answer of an experimenter that we don't know.
    Experimenter {
        /// Experimenter id.
        experimenter: u32,
        /// Type within the experimenter's.
        kind: u32,
        /// What follows.
        body: Vec<u8>,
    },
    /// An answer that we don't know.
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
        ofpmp::FLOW => Reply::Flow(list(r, take_flow_stats)?),
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
        if r.remaining() == before {
            return Err(r.invalid(ErrorCode::BRC_BAD_LEN));
        }
    }
    Ok(entries)
}
