//! Port numbers and their reserved names.

use std::fmt;

/// A port number, in the 32 bits of OpenFlow 1.1 and later (OF1.3.5 §7.2.1).
///
/// Open vSwitch itself has 16-bit ports: 1 to 0xfeff are ports, and the reserved ones map onto 0xfffffff8 and up.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OfPort(pub u32);

macro_rules! ports {
    ($($(#[$doc:meta])* $name:ident = $value:literal $text:literal;)*) => {
        impl OfPort {
            $($(#[$doc])* pub const $name: OfPort = OfPort($value);)*

            /// Name of a reserved port, in the capitals in which Open vSwitch prints it.
            pub fn reserved_name(self) -> Option<&'static str> {
                match self {
                    $(OfPort::$name => Some($text),)*
                    _ => None,
                }
            }

            /// The reserved port of a name, in any case.
            pub fn by_reserved_name(name: &str) -> Option<OfPort> {
                $(if name.eq_ignore_ascii_case($text) { return Some(OfPort::$name); })*
                None
            }
        }
    };
}

ports! {
    /// No port: in OpenFlow 1.0 numbering 0 is not a port, yet Open vSwitch uses it for "unset".
    UNSET = 0xffff_fff7 "UNSET";
    /// Back out of the port of ingress, which a plain output refuses.
    IN_PORT = 0xffff_fff8 "IN_PORT";
    /// Through the flow tables (packet-out only).
    TABLE = 0xffff_fff9 "TABLE";
    /// Ordinary L2/L3 switching.
    NORMAL = 0xffff_fffa "NORMAL";
    /// All ports but the one of ingress and those with flooding off.
    FLOOD = 0xffff_fffb "FLOOD";
    /// All ports but the one of ingress.
    ALL = 0xffff_fffc "ALL";
    /// The controller, in a packet-in.
    CONTROLLER = 0xffff_fffd "CONTROLLER";
    /// The bridge's own port.
    LOCAL = 0xffff_fffe "LOCAL";
    /// Any port, where a port is a filter.
    ANY = 0xffff_ffff "ANY";
}

impl fmt::Display for OfPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reserved_name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{}", self.0),
        }
    }
}

impl fmt::Debug for OfPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<u32> for OfPort {
    fn from(number: u32) -> Self {
        OfPort(number)
    }
}

impl From<OfPort> for u128 {
    fn from(port: OfPort) -> Self {
        u128::from(port.0)
    }
}
