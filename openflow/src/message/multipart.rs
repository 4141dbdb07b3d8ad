//! Multipart messages: questions with long answers (OF1.3.5 §7.3.5).

use super::ErrorCode;
use super::port::PortDesc;
use crate::codec::flow::{put_flow_stats, take_flow_stats};
use crate::codec::group::{put_group_desc, take_group_desc};
use crate::codec::oxm::{put_match, take_match};
use crate::flow::{FlowStats, GROUP_ANY, TABLE_ALL};
use crate::flow_match::Match;
use crate::group::Group;
use crate::port::OfPort;
use crate::wire::{Reader, Result, Writer};

/// `OFPMPF_REQ_MORE` and `OFPMPF_REPLY_MORE`.
const MORE: u16 = 1;

/// `OFPMP_*`.
pub(super) mod ofpmp {
    pub(in super::super) const DESC: u16 = 0;
    pub(in super::super) const FLOW: u16 = 1;
    pub(in super::super) const AGGREGATE: u16 = 2;
    pub(in super::super) const GROUP_DESC: u16 = 7;
    pub(in super::super) const PORT_DESC: u16 = 13;
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
    /// `OFPMP_GROUP_DESC`: all groups.
    GroupDesc,
    /// `OFPMP_PORT_DESC`: all ports.
    PortDesc,
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
    /// Groups.
    GroupDesc(Vec<Group>),
    /// Ports.
    PortDesc(Vec<PortDesc>),
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
        match self {
            MultipartReply::Flow(list) => list.len(),
            MultipartReply::GroupDesc(list) => list.len(),
            MultipartReply::PortDesc(list) => list.len(),
            MultipartReply::Desc(_) | MultipartReply::Aggregate(_) | MultipartReply::Unknown { .. } => 1,
        }
    }

    /// Appends the next part; `None` if the two do not fit together.
    pub(crate) fn join(mut self, next: MultipartReply) -> Option<MultipartReply> {
        match (&mut self, next) {
            (MultipartReply::Flow(all), MultipartReply::Flow(more)) => all.extend(more),
            (MultipartReply::GroupDesc(all), MultipartReply::GroupDesc(more)) => all.extend(more),
            (MultipartReply::PortDesc(all), MultipartReply::PortDesc(more)) => all.extend(more),
            (MultipartReply::Unknown { kind, body }, MultipartReply::Unknown { kind: other, body: more })
                if *kind == other =>
            {
                body.extend(more)
            }
            _ => return None,
        }
        Some(self)
    }
}

/// Which flows a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowStatsRequest {
    /// Table; [`TABLE_ALL`] for all.
    pub table: u8,
    /// Only flows that output to this port; [`OfPort::ANY`] for all.
    pub out_port: OfPort,
    /// Only flows that use this group; [`GROUP_ANY`] for all.
    pub out_group: u32,
    /// Only flows whose cookie has these bits ...
    pub cookie: u64,
    /// ... under this mask.
    pub cookie_mask: u64,
    /// Only flows at least as specific as this.
    pub fields: Match,
}

impl Default for FlowStatsRequest {
    /// All flows.
    fn default() -> Self {
        FlowStatsRequest {
            table: TABLE_ALL,
            out_port: OfPort::ANY,
            out_group: GROUP_ANY,
            cookie: 0,
            cookie_mask: 0,
            fields: Match::new(),
        }
    }
}

impl FlowStatsRequest {
    fn put(&self, w: &mut Writer<'_>) {
        w.u8(self.table);
        w.zeros(3);
        w.u32(self.out_port.0);
        w.u32(self.out_group);
        w.zeros(4);
        w.u64(self.cookie);
        w.u64(self.cookie_mask);
        put_match(w, &self.fields);
    }

    fn take(r: &mut Reader<'_>) -> Result<Self> {
        r.enter("ofp_flow_stats_request");
        let table = r.u8()?;
        r.skip(3)?;
        let (out_port, out_group) = (OfPort(r.u32()?), r.u32()?);
        r.skip(4)?;
        let (cookie, cookie_mask) = (r.u64()?, r.u64()?);
        Ok(FlowStatsRequest { table, out_port, out_group, cookie, cookie_mask, fields: take_match(r)? })
    }
}

/// Who made the switch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SwitchDesc {
    /// Manufacturer.
    pub manufacturer: String,
    /// Hardware.
    pub hardware: String,
    /// Software.
    pub software: String,
    /// Serial number.
    pub serial_number: String,
    /// Description of the datapath.
    pub datapath: String,
}

/// Bytes of the long texts of [`SwitchDesc`].
const DESC_LEN: usize = 256;
/// Bytes of its serial number.
const SERIAL_LEN: usize = 32;

impl SwitchDesc {
    fn put(&self, w: &mut Writer<'_>) {
        w.name(&self.manufacturer, DESC_LEN);
        w.name(&self.hardware, DESC_LEN);
        w.name(&self.software, DESC_LEN);
        w.name(&self.serial_number, SERIAL_LEN);
        w.name(&self.datapath, DESC_LEN);
    }

    fn take(r: &mut Reader<'_>) -> Result<Self> {
        r.enter("ofp_desc");
        Ok(SwitchDesc {
            manufacturer: r.name(DESC_LEN)?,
            hardware: r.name(DESC_LEN)?,
            software: r.name(DESC_LEN)?,
            serial_number: r.name(SERIAL_LEN)?,
            datapath: r.name(DESC_LEN)?,
        })
    }
}

/// Sums over flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AggregateStats {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
    /// Flows.
    pub flows: u32,
}

impl AggregateStats {
    fn put(self, w: &mut Writer<'_>) {
        w.u64(self.packets);
        w.u64(self.bytes);
        w.u32(self.flows);
        w.zeros(4);
    }

    fn take(r: &mut Reader<'_>) -> Result<Self> {
        r.enter("ofp_aggregate_stats");
        let stats = AggregateStats { packets: r.u64()?, bytes: r.u64()?, flows: r.u32()? };
        r.skip(4)?;
        Ok(stats)
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
        Request::GroupDesc => ofpmp::GROUP_DESC,
        Request::PortDesc => ofpmp::PORT_DESC,
        Request::Unknown { kind, .. } => *kind,
    };
    put_header(w, kind, more);
    match request {
        Request::Desc | Request::GroupDesc | Request::PortDesc => {}
        Request::Flow(flows) | Request::Aggregate(flows) => flows.put(w),
        Request::Unknown { body, .. } => w.bytes(body),
    }
}

pub(super) fn put_reply(w: &mut Writer<'_>, more: bool, reply: &MultipartReply) {
    use MultipartReply as Reply;
    let kind = match reply {
        Reply::Desc(_) => ofpmp::DESC,
        Reply::Flow(_) => ofpmp::FLOW,
        Reply::Aggregate(_) => ofpmp::AGGREGATE,
        Reply::GroupDesc(_) => ofpmp::GROUP_DESC,
        Reply::PortDesc(_) => ofpmp::PORT_DESC,
        Reply::Unknown { kind, .. } => *kind,
    };
    put_header(w, kind, more);
    match reply {
        Reply::Desc(desc) => desc.put(w),
        Reply::Flow(flows) => flows.iter().for_each(|flow| put_flow_stats(w, flow)),
        Reply::Aggregate(sums) => sums.put(w),
        Reply::GroupDesc(groups) => groups.iter().for_each(|group| put_group_desc(w, group)),
        Reply::PortDesc(ports) => ports.iter().for_each(|port| port.put(w)),
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

pub(super) fn take_request(r: &mut Reader<'_>) -> Result<(bool, MultipartRequest)> {
    let (kind, more) = take_header(r)?;
    let request = match kind {
        ofpmp::DESC => MultipartRequest::Desc,
        ofpmp::FLOW => MultipartRequest::Flow(FlowStatsRequest::take(r)?),
        ofpmp::AGGREGATE => MultipartRequest::Aggregate(FlowStatsRequest::take(r)?),
        ofpmp::GROUP_DESC => MultipartRequest::GroupDesc,
        ofpmp::PORT_DESC => MultipartRequest::PortDesc,
        kind => MultipartRequest::Unknown { kind, body: r.rest().to_vec() },
    };
    Ok((more, request))
}

pub(super) fn take_reply(r: &mut Reader<'_>) -> Result<(bool, MultipartReply)> {
    let (kind, more) = take_header(r)?;
    let reply = match kind {
        ofpmp::DESC => MultipartReply::Desc(SwitchDesc::take(r)?),
        ofpmp::FLOW => MultipartReply::Flow(list(r, take_flow_stats)?),
        ofpmp::AGGREGATE => MultipartReply::Aggregate(AggregateStats::take(r)?),
        ofpmp::GROUP_DESC => MultipartReply::GroupDesc(list(r, take_group_desc)?),
        ofpmp::PORT_DESC => MultipartReply::PortDesc(list(r, PortDesc::take)?),
        kind => MultipartReply::Unknown { kind, body: r.rest().to_vec() },
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
