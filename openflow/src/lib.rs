//! OpenFlow 1.3 with the Nicira and ONF extensions of Open vSwitch: codec, `ovs-ofctl` text, client.
//!
//! A controller that installs a flow, reads the table back and follows the switch's ports:
//!
//! ```no_run
//! use openflow::{Endpoint, Flow, FlowMod, Switch, SwitchEvent, message::SwitchConfig};
//!
//! # #[cfg(feature = "tokio")]
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let endpoint: Endpoint = "unix:/var/run/openvswitch/br0.mgmt".parse()?;
//! let switch = Switch::connect(&endpoint).await?;
//! println!("datapath {:016x}", switch.features().await?.datapath_id);
//!
//! let flow: Flow = "table=0,priority=100,ip,nw_dst=10.0.0.1 actions=output:2".parse()?;
//! switch.bundle(vec![FlowMod::add(flow).into()]).await?;
//!
//! for stats in switch.dump_flows(Default::default()).await? {
//!     println!("{stats}");
//! }
//! let mut events = switch.events();
//! // Over a management socket nothing is told before this.
//! switch.set_config(SwitchConfig { miss_send_len: 128, ..SwitchConfig::default() }).await?;
//! while let Some(event) = events.next().await {
//!     if let SwitchEvent::PortStatus(status) = event {
//!         println!("port {} {:?}", status.desc.name, status.reason);
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Layers
//!
//! - **Types.** [`Flow`], [`Match`], [`Action`], [`Instruction`], [`Group`]; every field in one registry ([`mod@field`]).
//!   Values are in canonical form: what a switch reports of a flow compares equal to what was sent
//!   ([`Flow::normalized`]).
//! - **Text.** `Display` and `FromStr` speak the syntax of `ovs-ofctl`; a [`ParseError`] points at the wrong word.
//! - **Bytes.** [`Envelope::encode`] and [`Envelope::decode`] for every message; what is unknown is kept, what is wrong
//!   is a [`DecodeError`] with its offset. No input makes them panic or take unbounded memory.
//! - **Session.** [`session::Session`]: the connection as a state machine, without sockets and clocks.
//! - **Client** (feature `tokio`, on by default). `Switch`: requests in flight at the same time, streaming dumps, atomic
//!   bundles, events; Unix sockets, TCP and TLS, connecting or listening.

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
pub use instruction::{Instruction, Instructions};
pub use message::{
    Envelope, ErrorCode, ErrorMsg, FlowStatsReader, FlowStatsRequest, MacAddr, Message, MultipartReply,
    MultipartRequest, PortDesc,
};
pub use port::OfPort;
pub use text::{Names, ParseError, Show, parse_actions};
pub use wire::{DecodeError, EncodeError, Reason};
