//! Printing whole messages in the words of `ovs-ofctl ofp-print`.

use std::fmt::{self, Write};
use std::net::IpAddr;
use std::time::Duration;

use super::meter::MeterId;
use super::names::{Out, display, sealed};
use super::print_action::write_actions;
use super::print_flow::{write_flags, write_instructions, write_match};
use super::value::{AltHex, Ip6};
use super::{meter, print_async, print_match, print_port, print_request, print_stats};
use crate::Envelope;
use crate::flow::FlowStats;
use crate::message::{
    BundleFlags, ConfigFlags, CtFlush, CtTuple, ErrorMsg, Features, FlowRemoved, HEADER_LEN, Hello, Message,
    MeterMod, MeterModCommand, MultipartReply, MultipartRequest, PacketIn, PacketIn2, PacketOut, Role,
    RoleMsg, SwitchConfig, TlvMap, TlvTable, TlvTableCommand, TlvTableMod,
};

display! {
    /// Readable, in the words of `ovs-ofctl ofp-print`. Of a packet only the length is printed, not its headers.
    Envelope;
    /// One line as `ovs-ofctl dump-flows` prints it, with its leading space.
    FlowStats;
}

impl sealed::Write for Envelope {
    fn write(&self, f: &mut Out<'_>) -> fmt::Result {
        let version = match self.version {
            1 => String::new(),
            2..=6 => format!(" (OF1.{})", self.version - 1),
            other => format!(" (OF {other:#04x})"),
        };
        write!(f, "{}{version} (xid={:#x}):", name(&self.message), self.xid)?;
        write_body(f, &self.message, self.version)
    }
}

/// The name that Open vSwitch prints.
fn name(message: &Message) -> String {
    let nicira = |name: &str| format!("NXT_{name}");
    match message {
        Message::MultipartRequest { request, .. } => format!("{} request", request_name(request)),
        Message::MultipartReply { reply, .. } => format!("{} reply", reply_name(reply)),
        Message::BundleControl(_) => "ONFT_BUNDLE_CONTROL".to_owned(),
        Message::BundleAdd(_) => "ONFT_BUNDLE_ADD_MESSAGE".to_owned(),
        Message::FlowMonitorCancel(_) => "ONFT_FLOW_MONITOR_CANCEL".to_owned(),
        Message::FlowMonitorPaused => "ONFT_FLOW_MONITOR_PAUSED".to_owned(),
        Message::FlowMonitorResumed => "ONFT_FLOW_MONITOR_RESUMED".to_owned(),
        Message::SetPacketInFormat(_) => nicira("SET_PACKET_IN_FORMAT"),
        Message::NxSetAsync(_) => nicira("SET_ASYNC_CONFIG"),
        Message::NxSetAsync2(_) => nicira("SET_ASYNC_CONFIG2"),
        Message::SetControllerId(_) => nicira("SET_CONTROLLER_ID"),
        Message::NxPacketIn(_) => nicira("PACKET_IN"),
        Message::PacketIn2(_) => nicira("PACKET_IN2"),
        Message::Resume(_) => nicira("RESUME"),
        Message::TlvTableMod(_) => nicira("TLV_TABLE_MOD"),
        Message::TlvTableRequest => nicira("TLV_TABLE_REQUEST"),
        Message::TlvTableReply(_) => nicira("TLV_TABLE_REPLY"),
        Message::CtFlushZone(_) => nicira("CT_FLUSH_ZONE"),
        Message::CtFlush(_) => nicira("CT_FLUSH"),
        other => other.kind().to_string(),
    }
}

fn request_name(request: &MultipartRequest) -> &'static str {
    use MultipartRequest as R;
    match request {
        R::Desc => "OFPST_DESC",
        R::Flow(_) => "OFPST_FLOW",
        R::Aggregate(_) => "OFPST_AGGREGATE",
        R::Table => "OFPST_TABLE",
        R::PortStats(_) => "OFPST_PORT",
        R::Queue { .. } => "OFPST_QUEUE",
        R::Group(_) => "OFPST_GROUP",
        R::GroupDesc => "OFPST_GROUP_DESC",
        R::GroupFeatures => "OFPST_GROUP_FEATURES",
        R::Meter(_) => "OFPST_METER",
        R::MeterConfig(_) => "OFPST_METER_CONFIG",
        R::MeterFeatures => "OFPST_METER_FEATURES",
        R::TableFeatures(_) => "OFPST_TABLE_FEATURES",
        R::PortDesc => "OFPST_PORT_DESC",
        R::FlowMonitor(_) => "ONFST_FLOW_MONITOR",
        R::Experimenter { .. } => "OFPST_EXPERIMENTER",
        R::Unknown { .. } => "OFPST_UNKNOWN",
    }
}

fn reply_name(reply: &MultipartReply) -> &'static str {
    use MultipartReply as R;
    match reply {
        R::Desc(_) => "OFPST_DESC",
        R::Flow(_) => "OFPST_FLOW",
        R::Aggregate(_) => "OFPST_AGGREGATE",
        R::Table(_) => "OFPST_TABLE",
        R::PortStats(_) => "OFPST_PORT",
        R::Queue(_) => "OFPST_QUEUE",
        R::Group(_) => "OFPST_GROUP",
        R::GroupDesc(_) => "OFPST_GROUP_DESC",
        R::GroupFeatures(_) => "OFPST_GROUP_FEATURES",
        R::Meter(_) => "OFPST_METER",
        R::MeterConfig(_) => "OFPST_METER_CONFIG",
        R::MeterFeatures(_) => "OFPST_METER_FEATURES",
        R::TableFeatures(_) => "OFPST_TABLE_FEATURES",
        R::PortDesc(_) => "OFPST_PORT_DESC",
        R::FlowMonitor(_) => "ONFST_FLOW_MONITOR",
        R::Experimenter { .. } => "OFPST_EXPERIMENTER",
        R::Unknown { .. } => "OFPST_UNKNOWN",
    }
}

/// Everything after the colon, with the space or line break before it.
fn write_body(f: &mut Out<'_>, message: &Message, version: u8) -> fmt::Result {
    match message {
        Message::FeaturesRequest
        | Message::GetConfigRequest
        | Message::GetAsyncRequest
        | Message::BarrierRequest
        | Message::BarrierReply
        | Message::TlvTableRequest
        | Message::FlowMonitorPaused
        | Message::FlowMonitorResumed => Ok(()),
        Message::Hello(hello) => write_hello(f, hello, version),
        Message::Error(error) => write_error(f, error),
        Message::EchoRequest(data) | Message::EchoReply(data) => {
            write!(f, " {} bytes of payload", data.len())
        }
        Message::FeaturesReply(features) => write_features(f, features),
        Message::SetConfig(config) | Message::GetConfigReply(config) => write_config(f, *config),
        Message::PacketIn(packet) | Message::NxPacketIn(packet) => write_packet_in(f, packet),
        Message::PacketIn2(packet) | Message::Resume(packet) => write_packet_in2(f, packet),
        Message::PacketOut(packet) => write_packet_out(f, packet),
        Message::FlowRemoved(removed) => write_flow_removed(f, removed),
        Message::PortStatus(status) => print_port::write_status(f, status),
        Message::PortMod(port_mod) => print_port::write_mod(f, port_mod),
        Message::TableMod(table_mod) => {
            if table_mod.table == crate::TABLE_ALL {
                return f.write_str(" table_id: ALL_TABLES");
            }
            f.write_str(" table_id=")?;
            f.table(table_mod.table)
        }
        Message::MeterMod(meter_mod) => write_meter_mod(f, meter_mod),
        Message::FlowMod(flow_mod) => {
            f.write_char(' ')?;
            sealed::Write::write(flow_mod, f)
        }
        Message::GroupMod(group_mod) => {
            f.write_str("\n ")?;
            sealed::Write::write(group_mod, f)
        }
        Message::RoleRequest(role) if role.role == Role::NO_CHANGE => f.write_str(" role=nochange"),
        Message::RoleRequest(role) | Message::RoleReply(role) => write_role(f, *role),
        Message::SetAsync(config) | Message::NxSetAsync(config) | Message::GetAsyncReply(config) => {
            print_async::write_async(f, config)
        }
        Message::QueueGetConfigRequest(port) => {
            f.write_str(" port=")?;
            f.port(*port)
        }
        Message::QueueGetConfigReply(config) => print_port::write_queues(f, config),
        Message::BundleControl(control) => {
            write!(f, "\n bundle_id={:#x} type={}", control.id, BundleType(control.kind.0))?;
            write_bundle_flags(f, control.flags)
        }
        Message::BundleAdd(add) => {
            write!(f, "\n bundle_id={:#x}", add.id)?;
            write_bundle_flags(f, add.flags)?;
            f.write_char('\n')?;
            write!(f, "{} (OF1.3) (xid={:#x}):", name(&add.message), add.xid)?;
            write_body(f, &add.message, version)
        }
        Message::SetPacketInFormat(format) => {
            let name = ["standard", "nxt_packet_in", "nxt_packet_in2"].get(*format as usize);
            match name {
                Some(name) => write!(f, " format={name}"),
                None => write!(f, " format={format}"),
            }
        }
        Message::NxSetAsync2(properties) => print_async::write_properties(f, properties),
        Message::SetControllerId(id) => write!(f, " id={id}"),
        Message::CtFlushZone(zone) => write!(f, " zone_id={zone}"),
        Message::CtFlush(flush) => write_ct_flush(f, flush),
        Message::FlowMonitorCancel(id) => write!(f, " id={id}"),
        Message::TlvTableMod(table_mod) => write_tlv_mod(f, table_mod),
        Message::TlvTableReply(table) => write_tlv_table(f, table),
        Message::MultipartRequest { more, request } => {
            write_more(f, *more)?;
            print_request::write_request(f, request)
        }
        Message::MultipartReply { more, reply } => {
            write_more(f, *more)?;
            print_stats::write_reply(f, reply)
        }
        Message::Experimenter { experimenter, kind, body } => {
            write!(f, " experimenter={experimenter:#x} type={kind:#x} ")?;
            write_hex(f, body)
        }
        Message::Unknown { body, .. } => {
            f.write_char(' ')?;
            write_hex(f, body)
        }
    }
}

/// Bytes that we cannot say anything about.
pub(super) fn write_hex(f: &mut Out<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

fn write_more(f: &mut Out<'_>, more: bool) -> fmt::Result {
    f.write_str(if more { " flags=[more]" } else { "" })
}

fn write_hello(f: &mut Out<'_>, hello: &Hello, header_version: u8) -> fmt::Result {
    f.write_str("\n version bitmap: ")?;
    let versions: Vec<String> = match hello.versions {
        // Open vSwitch knows of no more than the first word has bits for.
        None => 1..=header_version.min(31),
        Some(_) => 0..=255,
    }
    .filter(|version| hello.speaks(*version, header_version))
    .map(|version| format!("{version:#04x}"))
    .collect();
    f.write_str(&versions.join(", "))
}

/// The error, and the message that it is about as far as that can be told.
fn write_error(f: &mut Out<'_>, error: &ErrorMsg) -> fmt::Result {
    write!(f, " {}", error.code)?;
    if let Some(text) = error.printable_text() {
        return write!(f, "\n{text}");
    }
    match Envelope::decode(&error.data) {
        Ok(about) => {
            f.write_char('\n')?;
            sealed::Write::write(&about, f)
        }
        Err(_) if error.data.len() >= HEADER_LEN => {
            f.write_char('\n')?;
            write_hex(f, &error.data)
        }
        Err(_) => Ok(()),
    }
}

/// Names of the bits that are set, and what is left of them in hexadecimal; `0` for none.
pub(super) fn write_bits(f: &mut Out<'_>, bits: u32, names: &[(u8, &str)], separator: &str) -> fmt::Result {
    if bits == 0 {
        return f.write_char('0');
    }
    let mut rest = bits;
    let mut before = "";
    for (bit, name) in names {
        if bits >> bit & 1 == 1 {
            write!(f, "{before}{name}")?;
            before = separator;
            rest &= !(1 << bit);
        }
    }
    if rest == 0 { Ok(()) } else { write!(f, "{before}{rest:#x}") }
}

fn write_features(f: &mut Out<'_>, features: &Features) -> fmt::Result {
    write!(f, " dpid:{:016x}", features.datapath_id)?;
    write!(f, "\nn_tables:{}, n_buffers:{}", features.n_tables, features.n_buffers)?;
    if features.auxiliary_id != 0 {
        write!(f, ", auxiliary_id:{}", features.auxiliary_id)?;
    }
    f.write_str("\ncapabilities: ")?;
    let names = [
        (0, "FLOW_STATS"),
        (1, "TABLE_STATS"),
        (2, "PORT_STATS"),
        (3, "GROUP_STATS"),
        (5, "IP_REASM"),
        (6, "QUEUE_STATS"),
        (8, "PORT_BLOCKED"),
    ];
    write_bits(f, features.capabilities.0, &names, " ")
}

fn write_config(f: &mut Out<'_>, config: SwitchConfig) -> fmt::Result {
    let frags = match config.flags {
        ConfigFlags::FRAG_NORMAL => "normal",
        ConfigFlags::FRAG_DROP => "drop",
        ConfigFlags::FRAG_REASM => "reassemble",
        ConfigFlags::FRAG_NX_MATCH => "nx-match",
        _ => "unknown",
    };
    write!(f, " frags={frags} miss_send_len={}", config.miss_send_len)
}

/// How much of a packet came, of how much, and where the rest is.
fn write_packet_len(f: &mut Out<'_>, len: usize, total_len: usize, buffer_id: Option<u32>) -> fmt::Result {
    write!(f, " data_len={len}")?;
    match buffer_id {
        None => {
            f.write_str(" (unbuffered)")?;
            f.write_str(if total_len == len { "" } else { " (***total_len != data_len***)" })
        }
        Some(id) => {
            write!(f, " buffer={id:#010x}")?;
            f.write_str(if total_len < len { " (***total_len < data_len***)" } else { "" })
        }
    }
}

fn write_reason(f: &mut Out<'_>, reason: u8) -> fmt::Result {
    match super::print_action::REASONS.get(usize::from(reason)) {
        Some(name) => write!(f, " (via {name})"),
        None => write!(f, " (via {reason})"),
    }
}

fn write_packet_in(f: &mut Out<'_>, packet: &PacketIn) -> fmt::Result {
    if packet.table != 0 {
        f.write_str(" table_id=")?;
        f.table(packet.table)?;
    }
    write!(f, " cookie={:#x} total_len={} ", packet.cookie, packet.total_len)?;
    print_match::write_fields(f, &packet.fields, "")?;
    write_reason(f, packet.reason.0)?;
    let buffer_id = Some(packet.buffer_id).filter(|id| *id != crate::NO_BUFFER);
    write_packet_len(f, packet.data.len(), packet.total_len.into(), buffer_id)
}

fn write_packet_in2(f: &mut Out<'_>, packet: &PacketIn2) -> fmt::Result {
    if let Some(table) = packet.table.filter(|table| *table != 0) {
        f.write_str(" table_id=")?;
        f.table(table)?;
    }
    if let Some(cookie) = packet.cookie.filter(|cookie| *cookie != u64::MAX) {
        write!(f, " cookie={cookie:#x}")?;
    }
    let total_len = packet.full_len.map_or(packet.packet.len(), |len| len as usize);
    write!(f, " total_len={total_len} ")?;
    print_match::write_fields(f, &packet.fields, "")?;
    write_reason(f, packet.reason.map_or(0, |reason| reason.0))?;
    write_packet_len(f, packet.packet.len(), total_len, packet.buffer_id)?;
    if !packet.userdata.is_empty() {
        let bytes: Vec<String> = packet.userdata.iter().map(|byte| format!("{byte:02x}")).collect();
        write!(f, "\n userdata={}", bytes.join("."))?;
    }
    Ok(())
}

fn write_packet_out(f: &mut Out<'_>, packet: &PacketOut) -> fmt::Result {
    f.write_str(" in_port=")?;
    f.port(packet.in_port)?;
    f.write_str(" actions=")?;
    if packet.actions.is_empty() {
        f.write_str("drop")?;
    }
    write_actions(f, &packet.actions)?;
    match packet.buffer_id {
        crate::NO_BUFFER => write!(f, " data_len={}", packet.data.len()),
        id => write!(f, " buffer={id:#010x}"),
    }
}

/// `OFPRR_*` by number.
pub(super) const REMOVED_REASONS: &[&str] =
    &["idle", "hard", "delete", "group_delete", "meter_delete", "eviction"];

fn write_flow_removed(f: &mut Out<'_>, removed: &FlowRemoved) -> fmt::Result {
    f.write_char(' ')?;
    write_match(f, removed.priority, &removed.fields)?;
    match REMOVED_REASONS.get(usize::from(removed.reason.0)) {
        Some(name) => write!(f, "reason={name}")?,
        None => write!(f, "reason={}", removed.reason.0)?,
    }
    if removed.table != 255 {
        f.write_str(" table_id=")?;
        f.table(removed.table)?;
    }
    if removed.cookie != 0 {
        write!(f, " cookie:{:#x}", removed.cookie)?;
    }
    f.write_str(" duration")?;
    write_duration(f, removed.duration)?;
    write!(f, "s idle{}", removed.idle_timeout)?;
    if removed.hard_timeout != 0 {
        write!(f, " hard{}", removed.hard_timeout)?;
    }
    write!(f, " pkts{} bytes{}", removed.packets, removed.bytes)
}

fn write_meter_mod(f: &mut Out<'_>, meter_mod: &MeterMod) -> fmt::Result {
    f.write_str(match meter_mod.command {
        MeterModCommand::Add => " ADD ",
        MeterModCommand::Modify => " MOD ",
        MeterModCommand::Delete => return write!(f, " DEL meter={} bands=", MeterId(meter_mod.meter.id)),
    })?;
    meter::write_meter(f, &meter_mod.meter, '\n')
}

fn write_role(f: &mut Out<'_>, role: RoleMsg) -> fmt::Result {
    f.write_str(" role=")?;
    match role.role {
        Role::NO_CHANGE => f.write_str("nochange")?,
        Role::EQUAL => f.write_str("equal")?,
        Role::MASTER => f.write_str("primary")?,
        Role::SLAVE => f.write_str("secondary")?,
        Role(other) => write!(f, "{other}")?,
    }
    match role.generation_id {
        u64::MAX => Ok(()),
        id => write!(f, " generation_id={id}"),
    }
}

struct BundleType(u16);

impl fmt::Display for BundleType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = ["OPEN", "CLOSE", "COMMIT", "DISCARD"];
        let side = if self.0.is_multiple_of(2) { "REQUEST" } else { "REPLY" };
        match names.get(usize::from(self.0 / 2)) {
            Some(name) => write!(f, "{name}_{side}"),
            None => write!(f, "{}", self.0),
        }
    }
}

fn write_bundle_flags(f: &mut Out<'_>, flags: BundleFlags) -> fmt::Result {
    f.write_str(" flags=")?;
    write_bits(f, flags.0.into(), &[(0, "atomic"), (1, "ordered")], " ")
}

fn write_tlv_maps(f: &mut Out<'_>, maps: &[TlvMap]) -> fmt::Result {
    f.write_str("\n  class  type  length  match field\n ------  ----  ------  --------------")?;
    // Like `%#x` in C: zero has no prefix.
    let hex = |number: u16| if number == 0 { "0".to_owned() } else { format!("{number:#x}") };
    maps.iter().try_for_each(|map| {
        let (class, kind) = (hex(map.class), hex(map.kind.into()));
        write!(f, "\n {class:>6}  {kind:>4}  {:6}  tun_metadata{}", map.len, map.index)
    })
}

fn write_tlv_mod(f: &mut Out<'_>, table_mod: &TlvTableMod) -> fmt::Result {
    f.write_str(match table_mod.command {
        TlvTableCommand::Add => "\n ADD mapping table:",
        TlvTableCommand::Delete => "\n DEL mapping table:",
        TlvTableCommand::Clear => return f.write_str("\n CLEAR"),
    })?;
    write_tlv_maps(f, &table_mod.maps)
}

fn write_tlv_table(f: &mut Out<'_>, table: &TlvTable) -> fmt::Result {
    let allocated: u32 = table.maps.iter().map(|map| u32::from(map.len)).sum();
    write!(f, "\n max option space={} max fields={}", table.max_option_space, table.max_fields)?;
    write!(f, "\n allocated option space={allocated}\n\n mapping table:")?;
    write_tlv_maps(f, &table.maps)
}

fn write_ct_flush(f: &mut Out<'_>, flush: &CtFlush) -> fmt::Result {
    write!(f, " zone={} '", flush.zone.unwrap_or(0))?;
    let addresses = [flush.original.src, flush.original.dst, flush.reply.src, flush.reply.dst];
    let v4 = addresses.iter().flatten().any(IpAddr::is_ipv4);
    write_tuple(f, &flush.original, flush.ip_proto, v4)?;
    write!(f, ",ct_nw_proto={}' '", flush.ip_proto)?;
    write_tuple(f, &flush.reply, flush.ip_proto, v4)?;
    f.write_char('\'')
}

fn write_tuple(f: &mut Out<'_>, tuple: &CtTuple, proto: u8, v4: bool) -> fmt::Result {
    for (name, address) in [("src", tuple.src), ("dst", tuple.dst)] {
        let family = if v4 { "nw" } else { "ipv6" };
        write!(f, "ct_{family}_{name}=")?;
        match address {
            Some(IpAddr::V4(v4)) => write!(f, "{v4},")?,
            Some(IpAddr::V6(v6)) => write!(f, "{},", Ip6(v6.into()))?,
            None => f.write_str("::,")?,
        }
    }
    if matches!(proto, 1 | 58) {
        let (id, kind) = (tuple.icmp_id.unwrap_or(0), tuple.icmp_type.unwrap_or(0));
        return write!(f, "icmp_id={id},icmp_type={kind},icmp_code={}", tuple.icmp_code.unwrap_or(0));
    }
    write!(f, "ct_tp_src={},ct_tp_dst={}", tuple.src_port.unwrap_or(0), tuple.dst_port.unwrap_or(0))
}

impl sealed::Write for FlowStats {
    fn write(&self, f: &mut Out<'_>) -> fmt::Result {
        let flow = &self.flow;
        write!(f, " cookie={:#x}, duration=", flow.cookie)?;
        write_duration(f, self.duration)?;
        f.write_str("s, table=")?;
        f.table(flow.table)?;
        f.write_str(", ")?;
        for (name, count) in [("n_packets", self.packets), ("n_bytes", self.bytes)] {
            match count {
                Some(count) => write!(f, "{name}={count}, ")?,
                None => write!(f, "{name}=?, ")?,
            }
        }
        if flow.idle_timeout != 0 {
            write!(f, "idle_timeout={}, ", flow.idle_timeout)?;
        }
        if flow.hard_timeout != 0 {
            write!(f, "hard_timeout={}, ", flow.hard_timeout)?;
        }
        write_flags(f, flow.flags)?;
        write_match(f, flow.priority, &flow.fields)?;
        write_instructions(f, &flow.instructions)
    }
}

/// Seconds to the millisecond, if that is exact; otherwise without trailing zeros.
pub(super) fn write_duration(f: &mut Out<'_>, duration: Duration) -> fmt::Result {
    write!(f, "{}", duration.as_secs())?;
    match duration.subsec_nanos() {
        0 => Ok(()),
        nanos if nanos.is_multiple_of(1_000_000) => write!(f, ".{:03}", nanos / 1_000_000),
        nanos => write!(f, ".{}", format!("{nanos:09}").trim_end_matches('0')),
    }
}

/// A cookie as flow monitors print it.
pub(super) fn write_cookie(f: &mut Out<'_>, cookie: u64) -> fmt::Result {
    write!(f, " cookie={} ", AltHex(cookie.into()))
}
