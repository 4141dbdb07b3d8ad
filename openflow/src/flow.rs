//! Flows and how they change.

use std::time::Duration;

use crate::{Instructions, Match, OfPort};

/// Table number that means "all tables" in a request, and "you choose" in an add.
pub const TABLE_ALL: u8 = 0xff;
/// Group number that means "any", where a group is a filter.
pub const GROUP_ANY: u32 = 0xffff_ffff;
/// Buffer number that means "none".
pub const NO_BUFFER: u32 = 0xffff_ffff;

/// A flow: an entry of a flow table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow {
    /// Table, 0 to 254.
    pub table: u8,
    /// Priority; higher wins.
    pub priority: u16,
    /// Opaque to the switch.
    pub cookie: u64,
    /// Which packets.
    pub fields: Match,
    /// What to do with them.
    pub instructions: Instructions,
    /// Seconds without a packet until the flow goes; 0 is never.
    pub idle_timeout: u16,
    /// Seconds until the flow goes; 0 is never.
    pub hard_timeout: u16,
    /// Eviction precedence (OpenFlow 1.4; not on the wire in 1.3).
    pub importance: u16,
    /// Flags.
    pub flags: FlowFlags,
}

impl Flow {
    /// `OFP_DEFAULT_PRIORITY`.
    pub const DEFAULT_PRIORITY: u16 = 32768;
}

impl Default for Flow {
    fn default() -> Self {
        Flow {
            table: 0,
            priority: Flow::DEFAULT_PRIORITY,
            cookie: 0,
            fields: Match::new(),
            instructions: Instructions::new(),
            idle_timeout: 0,
            hard_timeout: 0,
            importance: 0,
            flags: FlowFlags::default(),
        }
    }
}

/// `OFPFF_*` (OF1.3.5 §7.3.4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowFlags(pub u16);

impl FlowFlags {
    /// Tell the controller when the flow goes.
    pub const SEND_FLOW_REM: FlowFlags = FlowFlags(1);
    /// Refuse to add a flow that overlaps another of the same priority.
    pub const CHECK_OVERLAP: FlowFlags = FlowFlags(2);
    /// Zero the counters.
    pub const RESET_COUNTS: FlowFlags = FlowFlags(4);
    /// Don't count packets.
    pub const NO_PKT_COUNTS: FlowFlags = FlowFlags(8);
    /// Don't count bytes.
    pub const NO_BYT_COUNTS: FlowFlags = FlowFlags(16);

    /// Whether all flags of `other` are set.
    pub fn contains(self, other: FlowFlags) -> bool {
        self.0 & other.0 == other.0
    }
}

impl std::ops::BitOr for FlowFlags {
    type Output = FlowFlags;
    fn bitor(self, other: FlowFlags) -> FlowFlags {
        FlowFlags(self.0 | other.0)
    }
}

/// A flow with its counters, from a dump.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowStats {
    /// The flow.
    pub flow: Flow,
    /// Packets so far; `None` if the switch does not count them.
    pub packets: Option<u64>,
    /// Bytes so far; `None` if the switch does not count them.
    pub bytes: Option<u64>,
    /// How long it has been there.
    pub duration: Duration,
}

/// `OFPFC_*` (OF1.3.5 §7.3.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FlowModCommand {
    /// Add, replacing a flow of the same match and priority.
    Add,
    /// Change all flows that the match covers; none is added.
    Modify,
    /// Change the flow of exactly this match and priority.
    ModifyStrict,
    /// Delete all flows that the match covers.
    Delete,
    /// Delete the flow of exactly this match and priority.
    DeleteStrict,
}

/// `OFPT_FLOW_MOD`: a change to the flow tables.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FlowMod {
    /// What to do.
    pub command: FlowModCommand,
    /// The flow, or what selects flows.
    pub flow: Flow,
    /// For modify and delete: the bits of the cookie that must agree.
    pub cookie_mask: u64,
    /// For delete: only flows that output to this port; [`OfPort::ANY`] for all.
    pub out_port: OfPort,
    /// For delete: only flows that use this group; [`GROUP_ANY`] for all.
    pub out_group: u32,
    /// Packet to send through the flow; [`NO_BUFFER`] for none.
    pub buffer_id: u32,
}

impl FlowMod {
    /// A change without cookie, port or group filter.
    pub fn new(command: FlowModCommand, flow: Flow) -> Self {
        FlowMod {
            command,
            flow,
            cookie_mask: 0,
            out_port: OfPort::ANY,
            out_group: GROUP_ANY,
            buffer_id: NO_BUFFER,
        }
    }

    /// Adds `flow`, replacing one of the same table, priority and match.
    pub fn add(flow: Flow) -> Self {
        FlowMod::new(FlowModCommand::Add, flow)
    }

    /// Gives the flow of the same table, priority and match new instructions; its counters stay.
    pub fn modify_strict(flow: Flow) -> Self {
        FlowMod::new(FlowModCommand::ModifyStrict, flow)
    }

    /// Deletes the flow of the same table, priority and match, whatever its cookie and instructions.
    pub fn delete_strict(flow: &Flow) -> Self {
        let key = Flow {
            table: flow.table,
            priority: flow.priority,
            fields: flow.fields.clone(),
            ..Flow::default()
        };
        FlowMod::new(FlowModCommand::DeleteStrict, key)
    }
}
