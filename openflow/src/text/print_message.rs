//! Printing whole messages in the words of `ovs-ofctl ofp-print`.

use std::fmt::{self, Write};
use std::time::Duration;

use super::print_flow::{write_flags, write_instructions, write_match};
use crate::Envelope;
use crate::flow::FlowStats;
use crate::message::{
    BundleFlags, ConfigFlags, ErrorMsg, Features, FlowUpdate, HEADER_LEN, Hello, Message, MultipartReply,
    MultipartRequest, PacketIn, PacketOut, SwitchConfig, TlvTableCommand,
};

/// Readable, in the words of `ovs-ofctl ofp-print` for all messages that people look at often: flows, groups, bundles,
/// errors, packets, features, hello and the like. Statistics and set-up messages print their name and then their
/// fields as Rust's `Debug` shows them.
impl fmt::Display for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = match self.version {
            1 => String::new(),
            2..=6 => format!(" (OF1.{})", self.version - 1),
            other => format!(" (OF {other:#04x})"),
        };
        write!(f, "{}{version} (xid={:#x}):", name(&self.message), self.xid)?;
        let mut body = String::new();
        write_body(&mut body, &self.message)?;
        // Bodies of several lines start on a line of their own.
        match body.starts_with('\n') || body.is_empty() {
            true => f.write_str(&body),
            false => write!(f, " {body}"),
        }
    }
}

/// The name that Open vSwitch prints.
fn name(message: &Message) -> String {
    let nicira = |name: &str| format!("NXT_{name}");
    match message {
        Message::MultipartRequest { request, .. } => match multipart_name(&format!("{request:?}")) {
            "ONFST_FLOW_MONITOR" => "ONFST_FLOW_MONITOR request".to_owned(),
            name => format!("OFPST_{name} request"),
        },
        Message::MultipartReply { reply, .. } => match multipart_name(&format!("{reply:?}")) {
            "ONFST_FLOW_MONITOR" => "ONFST_FLOW_MONITOR reply".to_owned(),
            name => format!("OFPST_{name} reply"),
        },
        Message::BundleControl(_) => "ONFT_BUNDLE_CONTROL".to_owned(),
        Message::BundleAdd(_) => "ONFT_BUNDLE_ADD_MESSAGE".to_owned(),
        Message::FlowMonitorCancel(_) => "ONFT_FLOW_MONITOR_CANCEL".to_owned(),
        Message::FlowMonitorPaused => "ONFT_FLOW_MONITOR_PAUSED".to_owned(),
        Message::FlowMonitorResumed => "ONFT_FLOW_MONITOR_RESUMED".to_owned(),
        Message::SetPacketInFormat(_) => nicira("SET_PACKET_IN_FORMAT"),
        Message::NxSetAsync(_) => nicira("SET_ASYNC_CONFIG"),
        Message::SetControllerId(_) => nicira("SET_CONTROLLER_ID"),
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

/// The name of a multipart type from that of the variant.
fn multipart_name(variant: &str) -> &'static str {
    let word = variant.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or("");
    match word {
        "Desc" => "DESC",
        "Flow" => "FLOW",
        "Aggregate" => "AGGREGATE",
        "Table" => "TABLE",
        "PortStats" => "PORT",
        "Queue" => "QUEUE",
        "Group" => "GROUP",
        "GroupDesc" => "GROUP_DESC",
        "GroupFeatures" => "GROUP_FEATURES",
        "Meter" => "METER",
        "MeterConfig" => "METER_CONFIG",
        "MeterFeatures" => "METER_FEATURES",
        "TableFeatures" => "TABLE_FEATURES",
        "PortDesc" => "PORT_DESC",
        "FlowMonitor" => "ONFST_FLOW_MONITOR",
        "Experimenter" => "EXPERIMENTER",
        _ => "UNKNOWN",
    }
}

fn write_body(f: &mut String, message: &Message) -> fmt::Result {
    match message {
        Message::FeaturesRequest
        | Message::GetConfigRequest
        | Message::GetAsyncRequest
        | Message::BarrierRequest
        | Message::BarrierReply
        | Message::TlvTableRequest
        | Message::FlowMonitorPaused
        | Message::FlowMonitorResumed => Ok(()),
        Message::Hello(hello) => write_hello(f, hello),
        Message::Error(error) => write_error(f, error),
        Message::EchoRequest(data) | Message::EchoReply(data) => write!(f, "{} bytes of payload", data.len()),
        Message::FeaturesReply(features) => write_features(f, features),
        Message::SetConfig(config) | Message::GetConfigReply(config) => write_config(f, config),
        Message::PacketIn(packet) => write_packet_in(f, packet),
        Message::PacketOut(packet) => write_packet_out(f, packet),
        Message::FlowMod(flow_mod) => write!(f, "{flow_mod}"),
        Message::GroupMod(group_mod) => write!(f, "\n {group_mod}"),
        Message::BundleControl(control) => {
            write!(f, "\n bundle_id={:#x} type=", control.id)?;
            let names = [
                "OPEN_REQUEST",
                "OPEN_REPLY",
                "CLOSE_REQUEST",
                "CLOSE_REPLY",
                "COMMIT_REQUEST",
                "COMMIT_REPLY",
                "DISCARD_REQUEST",
                "DISCARD_REPLY",
            ];
            match names.get(usize::from(control.kind.0)) {
                Some(name) => f.push_str(name),
                None => write!(f, "{}", control.kind.0)?,
            }
            write_bundle_flags(f, control.flags)
        }
        Message::BundleAdd(add) => {
            write!(f, "\n bundle_id={:#x}", add.id)?;
            write_bundle_flags(f, add.flags)?;
            write!(f, "\n{}", Envelope::new(add.xid, (*add.message).clone()))
        }
        Message::SetPacketInFormat(format) => {
            let name = ["standard", "nxt_packet_in", "nxt_packet_in2"].get(*format as usize);
            write!(f, "format={}", name.map_or_else(|| format.to_string(), |n| (*n).to_owned()))
        }
        Message::SetControllerId(id) => write!(f, "id={id}"),
        Message::CtFlushZone(zone) => write!(f, "zone_id={zone}"),
        Message::FlowMonitorCancel(id) => write!(f, "id={id}"),
        Message::TlvTableMod(table_mod) => {
            f.push_str(match table_mod.command {
                TlvTableCommand::Add => "\n ADD mapping table:",
                TlvTableCommand::Delete => "\n DEL mapping table:",
                TlvTableCommand::Clear => "\n CLEAR",
            });
            if table_mod.command != TlvTableCommand::Clear {
                f.push_str("\n  class  type  length  match field\n ------  ----  ------  --------------");
            }
            table_mod.maps.iter().try_for_each(|map| {
                let (class, kind) = (map.class, map.kind);
                write!(f, "\n {class:#06x}  {kind:#4x}  {:6}  tun_metadata{}", map.len, map.index)
            })
        }
        Message::MultipartRequest { more, request } => {
            write_more(f, *more);
            match request {
                MultipartRequest::Flow(flows) | MultipartRequest::Aggregate(flows) => {
                    let fields = flows.fields.to_string();
                    if flows.table != crate::TABLE_ALL {
                        write!(f, "table={}", flows.table)?;
                    }
                    let comma = if fields.is_empty() || flows.table == crate::TABLE_ALL { "" } else { "," };
                    write!(f, "{comma}{fields}")
                }
                MultipartRequest::PortDesc => f.write_str("port=ANY"),
                other => write!(f, "{other:?}"),
            }
        }
        Message::MultipartReply { more, reply } => {
            write_more(f, *more);
            match reply {
                MultipartReply::Flow(flows) => flows.iter().try_for_each(|stats| write!(f, "\n{stats}")),
                MultipartReply::GroupDesc(groups) => {
                    groups.iter().try_for_each(|group| write!(f, "\n {group}"))
                }
                MultipartReply::Aggregate(sums) => write!(
                    f,
                    "packet_count={} byte_count={} flow_count={}",
                    sums.packets, sums.bytes, sums.flows
                ),
                MultipartReply::FlowMonitor(updates) => {
                    updates.iter().try_for_each(|update| write_update(f, update))
                }
                other => write!(f, "{other:?}"),
            }
        }
        other => write!(f, "{other:?}"),
    }
}

fn write_more(f: &mut String, more: bool) {
    if more {
        f.push_str("[more]");
    }
}

fn write_hello(f: &mut String, hello: &Hello) -> fmt::Result {
    f.push_str("\n version bitmap: ");
    let words = hello.versions.as_deref().unwrap_or(&[]);
    let versions: Vec<String> = (0u8..=255)
        .filter(|v| words.get(usize::from(v / 32)).is_some_and(|word| word >> (v % 32) & 1 == 1))
        .map(|v| format!("{v:#04x}"))
        .collect();
    f.push_str(&versions.join(", "));
    Ok(())
}

/// The error, and the message that it is about as far as that can be told.
fn write_error(f: &mut String, error: &ErrorMsg) -> fmt::Result {
    write!(f, "{}", error.code)?;
    if let Some(text) = error.text() {
        return write!(f, "\n{text}");
    }
    match Envelope::decode(&error.data) {
        Ok(about) => write!(f, "\n{about}"),
        Err(_) if error.data.len() >= HEADER_LEN => {
            f.push('\n');
            error.data.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
        }
        Err(_) => Ok(()),
    }
}

fn write_features(f: &mut String, features: &Features) -> fmt::Result {
    write!(f, "dpid:{:016x}", features.datapath_id)?;
    write!(f, "\nn_tables:{}, n_buffers:{}", features.n_tables, features.n_buffers)?;
    if features.auxiliary_id != 0 {
        write!(f, ", auxiliary_id:{}", features.auxiliary_id)?;
    }
    f.push_str("\ncapabilities:");
    let names = [
        (0, "FLOW_STATS"),
        (1, "TABLE_STATS"),
        (2, "PORT_STATS"),
        (3, "GROUP_STATS"),
        (5, "IP_REASM"),
        (6, "QUEUE_STATS"),
        (8, "PORT_BLOCKED"),
    ];
    let mut none = true;
    for (bit, name) in names {
        if features.capabilities.0 >> bit & 1 == 1 {
            write!(f, " {name}")?;
            none = false;
        }
    }
    if none { f.write_str(" 0") } else { Ok(()) }
}

fn write_config(f: &mut String, config: &SwitchConfig) -> fmt::Result {
    let frags = match config.flags {
        ConfigFlags::FRAG_NORMAL => "normal",
        ConfigFlags::FRAG_DROP => "drop",
        ConfigFlags::FRAG_REASM => "reassemble",
        ConfigFlags::FRAG_NX_MATCH => "nx-match",
        _ => "unknown",
    };
    write!(f, "frags={frags} miss_send_len={}", config.miss_send_len)
}

fn write_packet_in(f: &mut String, packet: &PacketIn) -> fmt::Result {
    if packet.table != 0 {
        write!(f, "table_id={} ", packet.table)?;
    }
    write!(f, "cookie={:#x} total_len={} {}", packet.cookie, packet.total_len, packet.fields)?;
    let reason = super::print_action::REASONS.get(usize::from(packet.reason.0)).copied().unwrap_or("unknown");
    write!(f, " (via {reason}) data_len={}", packet.data.len())?;
    if packet.buffer_id == crate::NO_BUFFER {
        return f.write_str(" (unbuffered)");
    }
    write!(f, " buffer={:#010x}", packet.buffer_id)
}

fn write_packet_out(f: &mut String, packet: &PacketOut) -> fmt::Result {
    write!(f, "in_port={} actions=", packet.in_port)?;
    if packet.actions.is_empty() {
        f.push_str("drop");
    }
    super::print_action::write_actions(f, &packet.actions)?;
    match packet.buffer_id {
        crate::NO_BUFFER => write!(f, " data_len={}", packet.data.len()),
        id => write!(f, " buffer={id:#010x}"),
    }
}

fn write_bundle_flags(f: &mut String, flags: BundleFlags) -> fmt::Result {
    f.push_str(" flags=");
    f.push_str(match flags.0 & 3 {
        0 => "0",
        1 => "atomic",
        2 => "ordered",
        _ => "atomic ordered",
    });
    Ok(())
}

fn write_update(f: &mut String, update: &FlowUpdate) -> fmt::Result {
    let (event, flow) = match update {
        FlowUpdate::Added(flow) => ("ADDED", flow),
        FlowUpdate::Deleted(flow) => ("DELETED", flow),
        FlowUpdate::Modified(flow) => ("MODIFIED", flow),
        FlowUpdate::Abbreviated { xid } => return write!(f, "\n event=ABBREV xid={xid:#x}"),
    };
    write!(f, "\n event={event}")?;
    if matches!(update, FlowUpdate::Deleted(_)) {
        let reasons = ["idle", "hard", "delete", "group_delete", "meter_delete", "eviction"];
        match reasons.get(usize::from(flow.reason)) {
            Some(reason) => write!(f, " reason={reason}")?,
            None => write!(f, " reason={}", flow.reason)?,
        }
    }
    write!(f, " table={}", flow.table)?;
    if flow.idle_timeout != 0 {
        write!(f, " idle_timeout={}", flow.idle_timeout)?;
    }
    if flow.hard_timeout != 0 {
        write!(f, " hard_timeout={}", flow.hard_timeout)?;
    }
    write!(f, " cookie={} ", super::value::AltHex(flow.cookie.into()))?;
    write_match(f, flow.priority, &flow.fields)?;
    write_instructions(f, &flow.instructions)
}

/// One line as `ovs-ofctl dump-flows` prints it, with its leading space.
impl fmt::Display for FlowStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flow = &self.flow;
        write!(f, " cookie={:#x}, duration=", flow.cookie)?;
        write_duration(f, self.duration)?;
        write!(f, "s, table={}, ", flow.table)?;
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

/// Seconds without trailing zeros.
fn write_duration(f: &mut impl Write, duration: Duration) -> fmt::Result {
    write!(f, "{}", duration.as_secs())?;
    match duration.subsec_nanos() {
        0 => Ok(()),
        nanos => write!(f, ".{}", format!("{nanos:09}").trim_end_matches('0')),
    }
}
