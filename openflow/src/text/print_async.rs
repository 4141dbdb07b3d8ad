//! Printing which events a controller wants.

use std::fmt::{self, Write};

use super::names::Out;
use super::print_action::REASONS;
use super::print_message::REMOVED_REASONS;
use crate::message::{AsyncConfig, AsyncEvent, AsyncProperty};

/// Kinds of events in the order of [`AsyncEvent::ALL`], and their reasons by bit. OpenFlow 1.3 has the first three.
const EVENTS: [(&str, &[&str]); 6] = [
    ("PACKET_IN", REASONS),
    ("PORT_STATUS", &["add", "delete", "modify"]),
    ("FLOW_REMOVED", REMOVED_REASONS),
    ("ROLE_STATUS", &["primary_request", "configuration_changed", "experimenter_data_changed"]),
    ("TABLE_STATUS", &["", "", "", "vacancy_down", "vacancy_up"]),
    ("REQUESTFORWARD", &["group_mod_request", "meter_mod_request"]),
];

pub(super) fn write_async(f: &mut Out<'_>, config: &AsyncConfig) -> fmt::Result {
    let none = [0; 2];
    write_masks(f, [config.packet_in, config.port_status, config.flow_removed, none, none, none])
}

/// What these properties set, and all else as off.
pub(super) fn write_properties(f: &mut Out<'_>, properties: &[AsyncProperty]) -> fmt::Result {
    let masks = AsyncEvent::ALL.map(|event| {
        [false, true].map(|slave| {
            let mut given = properties.iter().filter(|p| p.event == event && p.slave == slave);
            given.next_back().map_or(0, |property| property.mask)
        })
    });
    write_masks(f, masks)
}

/// For each kind of event the mask of equal and master, and that of slave.
fn write_masks(f: &mut Out<'_>, masks: [[u32; 2]; 6]) -> fmt::Result {
    for (role, slave) in [("\n primary", false), ("\n\n secondary", true)] {
        write!(f, "{role}:")?;
        for ((name, reasons), [primary, secondary]) in EVENTS.iter().zip(masks) {
            let mask = if slave { secondary } else { primary };
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
