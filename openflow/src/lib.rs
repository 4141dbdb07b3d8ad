//! OpenFlow 1.3 with the Nicira and ONF extensions of Open vSwitch: codec, `ovs-ofctl` text, client.

#[cfg(test)]
extern crate self as openflow; // The generator of random messages is shared with the tests outside of the crate.

pub mod action;
#[cfg(feature = "tokio")]
mod client;
mod codec;
pub mod field;
mod flow;
mod flow_match;
mod group;
mod instruction;
pub mod message;
mod normal;
mod port;
mod prerequisite;
pub mod session;
mod text;
#[cfg(test)]
mod vectors;
mod wire;

pub use action::{Action, Controller, Ct, CtZone, Nat, NatKind, Subfield};
#[cfg(feature = "tokio")]
pub use client::{
    Backoff, BundleError, ClientError, Connector, Endpoint, Events, FlowMonitor, FlowStream, Listener,
    Modification, MonitorEvent, Switch, SwitchEvent, SwitchOptions, Tls, TlsError,
};
pub use field::{Field, FieldInfo};
pub use flow::{Flow, FlowFlags, FlowMod, FlowModCommand, FlowStats, GROUP_ANY, NO_BUFFER, TABLE_ALL};
pub use flow_match::{Match, WideEntry, WideField};
pub use group::{Bucket, Group, GroupMod, GroupModCommand, GroupType};
pub use instruction::Instruction;
pub use message::{
    Envelope, ErrorCode, ErrorMsg, FlowStatsRequest, MacAddr, Message, MultipartReply, MultipartRequest,
    PortDesc,
};
pub use port::OfPort;
pub use text::{ParseError, parse_actions};
pub use wire::{DecodeError, EncodeError, Reason};
