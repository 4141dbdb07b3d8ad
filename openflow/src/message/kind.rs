//! Types of messages.

use std::fmt;

/// `OFPT_*` (OF1.3.5 §7.1): the type of a message.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageType(pub u8);

macro_rules! types {
    ($($name:ident = $number:literal;)*) => {
        #[allow(missing_docs)] // The names are those of the specification.
        impl MessageType {
            $(pub const $name: MessageType = MessageType($number);)*

            /// Name in the specification.
            pub fn name(self) -> Option<&'static str> {
                match self {
                    $(MessageType::$name => Some(concat!("OFPT_", stringify!($name))),)*
                    _ => None,
                }
            }
        }
    };
}

types! {
    HELLO = 0;
    ERROR = 1;
    ECHO_REQUEST = 2;
    ECHO_REPLY = 3;
    EXPERIMENTER = 4;
    FEATURES_REQUEST = 5;
    FEATURES_REPLY = 6;
    GET_CONFIG_REQUEST = 7;
    GET_CONFIG_REPLY = 8;
    SET_CONFIG = 9;
    PACKET_IN = 10;
    FLOW_REMOVED = 11;
    PORT_STATUS = 12;
    PACKET_OUT = 13;
    FLOW_MOD = 14;
    GROUP_MOD = 15;
    PORT_MOD = 16;
    TABLE_MOD = 17;
    MULTIPART_REQUEST = 18;
    MULTIPART_REPLY = 19;
    BARRIER_REQUEST = 20;
    BARRIER_REPLY = 21;
    QUEUE_GET_CONFIG_REQUEST = 22;
    QUEUE_GET_CONFIG_REPLY = 23;
    ROLE_REQUEST = 24;
    ROLE_REPLY = 25;
    GET_ASYNC_REQUEST = 26;
    GET_ASYNC_REPLY = 27;
    SET_ASYNC = 28;
    METER_MOD = 29;
}

impl fmt::Display for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "type {}", self.0),
        }
    }
}

impl fmt::Debug for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
