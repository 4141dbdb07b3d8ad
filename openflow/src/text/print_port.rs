//! Printing ports and queues.

use std::fmt::{self, Write};

use super::names::Out;
use super::print_message::{write_bits, write_hex};
use crate::message::{PortDesc, PortMod, PortReason, PortStatus, QueueConfig, QueueProperty};

const CONFIG: &[(u8, &str)] = &[(0, "PORT_DOWN"), (2, "NO_RECV"), (5, "NO_FWD"), (6, "NO_PACKET_IN")];
const STATE: &[(u8, &str)] = &[(0, "LINK_DOWN"), (1, "BLOCKED"), (2, "LIVE")];
/// `OFPPF_*` by bit.
const FEATURES: &[(u8, &str)] = &[
    (0, "10MB-HD"),
    (1, "10MB-FD"),
    (2, "100MB-HD"),
    (3, "100MB-FD"),
    (4, "1GB-HD"),
    (5, "1GB-FD"),
    (6, "10GB-FD"),
    (7, "40GB-FD"),
    (8, "100GB-FD"),
    (9, "1TB-FD"),
    (10, "OTHER"),
    (11, "COPPER"),
    (12, "FIBER"),
    (13, "AUTO_NEG"),
    (14, "AUTO_PAUSE"),
    (15, "AUTO_PAUSE_ASYM"),
];

/// Several lines, with a space before the first and a line break after the last.
pub(super) fn write_port(f: &mut Out<'_>, port: &PortDesc) -> fmt::Result {
    // A name is printed up to the first byte that cannot be.
    let printable: String = port.name.chars().take_while(|c| matches!(c, ' '..='~')).collect();
    write!(f, " {}({printable}): addr:{}\n     config:     ", port.port, port.hw_addr)?;
    write_bits(f, port.config.0, CONFIG, " ")?;
    f.write_str("\n     state:      ")?;
    write_bits(f, port.state.0, STATE, " ")?;
    for (name, features) in [
        ("current:    ", port.current),
        ("advertised: ", port.advertised),
        ("supported:  ", port.supported),
        ("peer:       ", port.peer),
    ] {
        if features != 0 {
            write!(f, "\n     {name}")?;
            write_bits(f, features, FEATURES, " ")?;
        }
    }
    let (now, max) = (port.current_speed / 1000, port.max_speed / 1000);
    write!(f, "\n     speed: {now} Mbps now, {max} Mbps max")
}

pub(super) fn write_status(f: &mut Out<'_>, status: &PortStatus) -> fmt::Result {
    f.write_str(match status.reason {
        PortReason::Add => " ADD:",
        PortReason::Delete => " DEL:",
        PortReason::Modify => " MOD:",
    })?;
    write_port(f, &status.desc)
}

pub(super) fn write_mod(f: &mut Out<'_>, change: &PortMod) -> fmt::Result {
    f.write_str(" port: ")?;
    f.port(change.port)?;
    write!(f, ": addr:{}\n     config: ", change.hw_addr)?;
    write_bits(f, change.config & change.mask, CONFIG, " ")?;
    f.write_str("\n     mask:   ")?;
    write_bits(f, change.mask, CONFIG, " ")?;
    f.write_str("\n     advertise: ")?;
    match change.advertise {
        0 => f.write_str("UNCHANGED"),
        features => write_bits(f, features, FEATURES, " "),
    }
}

pub(super) fn write_queues(f: &mut Out<'_>, config: &QueueConfig) -> fmt::Result {
    if config.queues.is_empty() {
        return Ok(());
    }
    f.write_str(" port=")?;
    f.port(config.port)?;
    let mut queues: Vec<_> = config.queues.iter().collect();
    queues.sort_by_key(|queue| queue.id);
    for queue in queues {
        write!(f, "\nqueue {}:", queue.id)?;
        for property in &queue.properties {
            let (name, rate) = match property {
                QueueProperty::MinRate(rate) => ("min_rate", *rate),
                QueueProperty::MaxRate(rate) => ("max_rate", *rate),
                QueueProperty::Unknown { kind, body } => {
                    write!(f, " property {kind}:")?;
                    write_hex(f, body)?;
                    continue;
                }
            };
            match rate {
                0..=1000 => write!(f, " {name}:{}.{}%", rate / 10, rate % 10)?,
                u16::MAX => {}
                _ => write!(f, " {name}:(disabled)")?,
            }
        }
    }
    Ok(())
}
