//! Printing multipart requests.

use std::fmt::{self, Write};

use super::meter::MeterId;
use super::names::Out;
use super::print_match::write_fields;
use super::print_message::{write_bits, write_hex};
use super::print_table_features::write_table_features;
use super::value::AltHex;
use crate::message::{FlowMonitorRequest, FlowStatsRequest, MultipartRequest};
use crate::port::OfPort;

/// `0xfffffffc`: all groups.
const GROUP_ALL: u32 = 0xffff_fffc;
/// All queues.
const QUEUE_ALL: u32 = 0xffff_ffff;

pub(super) fn write_request(f: &mut Out<'_>, request: &MultipartRequest) -> fmt::Result {
    use MultipartRequest as R;
    match request {
        R::Desc | R::Table | R::GroupFeatures | R::MeterFeatures => Ok(()),
        R::Flow(flows) | R::Aggregate(flows) => write_flows(f, flows),
        R::PortStats(port) => {
            f.write_str(" port_no=")?;
            f.port(*port)
        }
        R::Queue { port, queue } => {
            f.write_str(" port=")?;
            f.port(*port)?;
            match *queue {
                QUEUE_ALL => f.write_str(" queue=ALL"),
                queue => write!(f, " queue={queue}"),
            }
        }
        R::Group(id) => write_group(f, *id),
        R::GroupDesc => write_group(f, GROUP_ALL),
        R::Meter(id) | R::MeterConfig(id) => write!(f, " meter={}", MeterId(*id)),
        R::TableFeatures(tables) => write_table_features(f, tables),
        R::PortDesc => f.write_str(" port=ANY"),
        R::FlowMonitor(monitors) => monitors.iter().try_for_each(|monitor| write_monitor(f, monitor)),
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

fn write_group(f: &mut Out<'_>, id: u32) -> fmt::Result {
    match id {
        GROUP_ALL => f.write_str(" group_id=ALL"),
        crate::GROUP_ANY => f.write_str(" group_id=ANY"),
        id => write!(f, " group_id={id}"),
    }
}

fn write_flows(f: &mut Out<'_>, flows: &FlowStatsRequest) -> fmt::Result {
    if flows.table != crate::TABLE_ALL {
        f.write_str(" table=")?;
        f.table(flows.table)?;
    }
    // Open vSwitch leaves out the cookie, without which the request seems to ask for more than it does.
    if flows.cookie_mask != 0 {
        let (value, mask) = (AltHex(flows.cookie.into()), AltHex(flows.cookie_mask.into()));
        write!(f, " cookie={value}/{mask}")?;
    }
    if flows.out_port != OfPort::ANY {
        f.write_str(" out_port=")?;
        f.port(flows.out_port)?;
    }
    if flows.out_group != crate::GROUP_ANY {
        write!(f, " out_group={}", flows.out_group)?;
    }
    write_fields(f, &flows.fields, " ").map(|_| ())
}

fn write_monitor(f: &mut Out<'_>, monitor: &FlowMonitorRequest) -> fmt::Result {
    let names = [(0, "initial"), (1, "add"), (2, "delete"), (3, "modify"), (4, "actions"), (5, "own")];
    write!(f, "\n id={} flags=", monitor.id)?;
    write_bits(f, monitor.flags.0.into(), &names, ",")?;
    if monitor.out_port != OfPort::ANY {
        f.write_str(" out_port=")?;
        f.port(monitor.out_port)?;
    }
    if monitor.table != crate::TABLE_ALL {
        f.write_str(" table=")?;
        f.table(monitor.table)?;
    }
    write_fields(f, &monitor.fields, " ").map(|_| ())
}
