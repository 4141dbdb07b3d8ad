//! Printing which events a controller wants.

use std::fmt::{self, Write};

use super::names::Out;
use super::print_action::REASONS;
use super::print_message::REMOVED_REASONS;
use crate::message::AsyncConfig;

pub(super) fn write_async(f: &mut Out<'_>, config: &AsyncConfig) -> fmt::Result {
    let [packet_in, packet_in_slave] = config.packet_in;
    let [port_status, port_status_slave] = config.port_status;
    let [flow_removed, flow_removed_slave] = config.flow_removed;
    for (role, packet_in, port_status, flow_removed) in [
        ("\n primary", packet_in, port_status, flow_removed),
        ("\n\n secondary", packet_in_slave, port_status_slave, flow_removed_slave),
    ] {
        write!(f, "{role}:")?;
        for (name, mask, reasons) in [
            ("PACKET_IN", packet_in, REASONS),
            ("PORT_STATUS", port_status, &["add", "delete", "modify"]),
            ("FLOW_REMOVED", flow_removed, REMOVED_REASONS),
            // OpenFlow 1.4 has more kinds of events; here they are always off.
            ("ROLE_STATUS", 0, &[]),
            ("TABLE_STATUS", 0, &[]),
            ("REQUESTFORWARD", 0, &[]),
        ] {
            write!(f, "\n{name:>16}:")?;
            if mask == 0 {
                f.write_str(" (off)")?;
            }
            for bit in (0..32).filter(|bit| mask >> bit & 1 == 1) {
                match reasons.get(bit) {
                    Some(reason) => write!(f, " {reason}")?,
                    None => write!(f, " {bit}")?,
                }
            }
        }
    }
    Ok(())
}
