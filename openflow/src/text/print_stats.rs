//! Printing multipart replies.

use std::fmt::{self, Write};

use super::meter::{MeterId, write_flags, write_meter};
use super::names::{Out, sealed};
use super::print_flow::{write_instructions, write_match};
use super::print_message::{REMOVED_REASONS, write_bits, write_cookie, write_duration, write_hex};
use super::print_port;
use super::print_table_features::write_table_features;
use crate::message::{
    FlowUpdate, GroupFeatures, GroupStats, MeterFeatures, MeterStats, MultipartReply, PortStats, QueueStats,
    SwitchDesc, TableStats,
};

pub(super) fn write_reply(f: &mut Out<'_>, reply: &MultipartReply) -> fmt::Result {
    use MultipartReply as R;
    match reply {
        R::Desc(desc) => write_desc(f, desc),
        R::Flow(flows) => flows.iter().try_for_each(|stats| {
            f.write_char('\n')?;
            sealed::Write::write(stats, f)
        }),
        R::Aggregate(sums) => {
            let (packets, bytes, flows) = (sums.packets, sums.bytes, sums.flows);
            write!(f, " packet_count={packets} byte_count={bytes} flow_count={flows}")
        }
        R::Table(tables) => write_table_stats(f, tables),
        R::PortStats(ports) => {
            writeln!(f, " {} ports", ports.len())?;
            ports.iter().try_for_each(|port| write_port_stats(f, port))
        }
        R::Queue(queues) => {
            writeln!(f, " {} queues", queues.len())?;
            queues.iter().try_for_each(|queue| write_queue_stats(f, queue))
        }
        R::Group(groups) => groups.iter().try_for_each(|group| write_group_stats(f, group)),
        R::GroupDesc(groups) => groups.iter().try_for_each(|group| {
            f.write_str("\n ")?;
            sealed::Write::write(group, f)
        }),
        R::GroupFeatures(features) => write_group_features(f, features),
        R::Meter(meters) => meters.iter().try_for_each(|meter| write_meter_stats(f, meter)),
        R::MeterConfig(meters) => meters.iter().try_for_each(|meter| {
            f.write_char('\n')?;
            write_meter(f, meter, '\n')?;
            f.write_char('\n')
        }),
        R::MeterFeatures(features) => write_meter_features(f, *features),
        R::TableFeatures(tables) => write_table_features(f, tables),
        R::PortDesc(ports) => {
            let mut ports: Vec<_> = ports.iter().collect();
            ports.sort_by_key(|port| port.port);
            ports.into_iter().try_for_each(|port| {
                f.write_char('\n')?;
                print_port::write_port(f, port)
            })
        }
        R::FlowMonitor(updates) => updates.iter().try_for_each(|update| write_update(f, update)),
        R::Experimenter { experimenter, kind, body } => {
            write!(f, " experimenter={experimenter:#x} type={kind:#x} ")?;
            write_hex(f, body)
        }
        R::Unknown { kind, body } => {
            write!(f, " type={kind} ")?;
            write_hex(f, body)
        }
    }
}

fn write_desc(f: &mut Out<'_>, desc: &SwitchDesc) -> fmt::Result {
    write!(f, "\nManufacturer: {}\nHardware: {}", desc.manufacturer, desc.hardware)?;
    write!(f, "\nSoftware: {}\nSerial Num: {}", desc.software, desc.serial_number)?;
    write!(f, "\nDP Description: {}", desc.datapath)
}

/// Tables in a row that say the same are told in one line.
fn write_table_stats(f: &mut Out<'_>, tables: &[TableStats]) -> fmt::Result {
    let mut previous: Option<&TableStats> = None;
    let mut ditto: Option<(u8, u8)> = None;
    for table in tables {
        let same = previous.is_some_and(|p| {
            (p.active, p.lookups, p.matched) == (table.active, table.lookups, table.matched)
        });
        previous = Some(table);
        if same && !f.has_table_name(table.table) {
            ditto = Some((ditto.map_or(table.table, |(first, _)| first), table.table));
            continue;
        }
        write_ditto(f, ditto.take())?;
        write!(f, "\n  table {}", table.table)?;
        if f.has_table_name(table.table) {
            f.write_str(" (")?;
            f.table(table.table)?;
            f.write_char(')')?;
        }
        if same {
            f.write_str(": ditto\n")?;
            continue;
        }
        let (active, lookups, matched) = (table.active, table.lookups, table.matched);
        write!(f, ":\n    active={active}, lookup={lookups}, matched={matched}\n")?;
    }
    write_ditto(f, ditto)
}

fn write_ditto(f: &mut Out<'_>, tables: Option<(u8, u8)>) -> fmt::Result {
    match tables {
        None => Ok(()),
        Some((first, last)) if first == last => write!(f, "\n  table {first}: ditto\n"),
        Some((first, last)) => write!(f, "\n  tables {first}...{last}: ditto\n"),
    }
}

/// A count, `?` where the switch does not count.
struct Count(u64);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == u64::MAX { f.write_char('?') } else { write!(f, "{}", self.0) }
    }
}

fn write_port_stats(f: &mut Out<'_>, port: &PortStats) -> fmt::Result {
    // One digit is put under the last of two.
    f.write_str(if port.port.0 < 10 { "  port  " } else { "  port " })?;
    f.port(port.port)?;
    write!(f, ": rx pkts={}, bytes={}", Count(port.rx_packets), Count(port.rx_bytes))?;
    write!(f, ", drop={}, errs={}", Count(port.rx_dropped), Count(port.rx_errors))?;
    write!(f, ", frame={}, over={}", Count(port.rx_frame_errors), Count(port.rx_overrun_errors))?;
    writeln!(f, ", crc={}", Count(port.rx_crc_errors))?;
    write!(f, "           tx pkts={}, bytes={}", Count(port.tx_packets), Count(port.tx_bytes))?;
    write!(f, ", drop={}, errs={}", Count(port.tx_dropped), Count(port.tx_errors))?;
    writeln!(f, ", coll={}", Count(port.collisions))?;
    f.write_str("           duration=")?;
    write_duration(f, port.duration)?;
    f.write_str("s\n")
}

fn write_queue_stats(f: &mut Out<'_>, queue: &QueueStats) -> fmt::Result {
    f.write_str("  port ")?;
    f.port(queue.port)?;
    write!(f, " queue {}: bytes={}", queue.queue, Count(queue.tx_bytes))?;
    write!(f, ", pkts={}, errors={}, duration=", Count(queue.tx_packets), Count(queue.tx_errors))?;
    write_duration(f, queue.duration)?;
    f.write_str("s\n")
}

fn write_group_stats(f: &mut Out<'_>, group: &GroupStats) -> fmt::Result {
    write!(f, "\n group_id={},duration=", group.id)?;
    write_duration(f, group.duration)?;
    write!(f, "s,ref_count={}", group.ref_count)?;
    write!(f, ",packet_count={},byte_count={}", group.total.packets, group.total.bytes)?;
    group.buckets.iter().enumerate().try_for_each(|(n, bucket)| {
        write!(f, ",bucket{n}:packet_count={},byte_count={}", bucket.packets, bucket.bytes)
    })
}

/// Types of action (`OFPAT_*`), in the order in which Open vSwitch prints them.
pub(super) const ACTIONS: &[(u8, &str)] = &[
    (0, "output"),
    (22, "group"),
    (25, "set_field"),
    (18, "strip_vlan"),
    (17, "push_vlan"),
    (23, "mod_nw_ttl"),
    (24, "dec_ttl"),
    (15, "set_mpls_ttl"),
    (16, "dec_mpls_ttl"),
    (19, "push_mpls"),
    (20, "pop_mpls"),
    (21, "set_queue"),
];

fn write_group_features(f: &mut Out<'_>, features: &GroupFeatures) -> fmt::Result {
    write!(f, "\n Group table:\n    Types:  {:#x}\n", features.types)?;
    writeln!(f, "    Capabilities:  {:#x}", features.capabilities)?;
    let names = ["all", "select", "indirect", "fast failover"];
    for (n, name) in names.into_iter().enumerate() {
        if features.types >> n & 1 == 0 {
            continue;
        }
        let (max, actions) = (features.max_groups.get(n), features.actions.get(n).copied().unwrap_or(0));
        write!(f, "    {name} group:\n       max_groups={:#x}\n       actions: ", max.copied().unwrap_or(0))?;
        let known = ACTIONS.iter().fold(0, |bits, (bit, _)| bits | 1 << bit);
        match actions & known {
            0 => f.write_str("(none)")?,
            actions => write_bits(f, actions, ACTIONS, " ")?,
        }
        f.write_char('\n')?;
    }
    Ok(())
}

fn write_meter_stats(f: &mut Out<'_>, meter: &MeterStats) -> fmt::Result {
    write!(f, "\nmeter:{} flow_count:{}", MeterId(meter.id), meter.flow_count)?;
    write!(f, " packet_in_count:{} byte_in_count:{}", meter.total.packets, meter.total.bytes)?;
    f.write_str(" duration:")?;
    write_duration(f, meter.duration)?;
    f.write_str("s bands:\n")?;
    meter
        .bands
        .iter()
        .enumerate()
        .try_for_each(|(n, band)| writeln!(f, "{n}: packet_count:{} byte_count:{}", band.packets, band.bytes))
}

fn write_meter_features(f: &mut Out<'_>, features: MeterFeatures) -> fmt::Result {
    write!(f, "\nmax_meter:{} max_bands:{}", features.max_meters, features.max_bands)?;
    write!(f, " max_color:{}\nband_types: ", features.max_color)?;
    write_bits(f, features.band_types, &[(1, "drop"), (2, "dscp_remark")], " ")?;
    f.write_str("\ncapabilities: ")?;
    match features.capabilities {
        0 => f.write_char('0'),
        capabilities => write_flags(f, capabilities as u16),
    }
}

fn write_update(f: &mut Out<'_>, update: &FlowUpdate) -> fmt::Result {
    let (event, flow) = match update {
        FlowUpdate::Added(flow) => ("ADDED", flow),
        FlowUpdate::Deleted(flow) => ("DELETED", flow),
        FlowUpdate::Modified(flow) => ("MODIFIED", flow),
        FlowUpdate::Abbreviated { xid } => return write!(f, "\n event=ABBREV xid={xid:#x}"),
    };
    write!(f, "\n event={event}")?;
    if matches!(update, FlowUpdate::Deleted(_)) {
        match REMOVED_REASONS.get(usize::from(flow.reason)) {
            Some(reason) => write!(f, " reason={reason}")?,
            None => write!(f, " reason={}", flow.reason)?,
        }
    }
    f.write_str(" table=")?;
    f.table(flow.table)?;
    if flow.idle_timeout != 0 {
        write!(f, " idle_timeout={}", flow.idle_timeout)?;
    }
    if flow.hard_timeout != 0 {
        write!(f, " hard_timeout={}", flow.hard_timeout)?;
    }
    write_cookie(f, flow.cookie)?;
    // Open vSwitch leaves out the priority, without which nobody can tell which flow it was.
    write_match(f, flow.priority, &flow.fields)?;
    write_instructions(f, &flow.instructions)
}
