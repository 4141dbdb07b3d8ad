//! A packet's way through a set of flows, computed and explained without a switch.

use openflow::{Flow, OfPort};

use crate::flowset::FlowSet;
use crate::pipeline::cookie::Owner;
use crate::pipeline::table::Table;

mod act;
mod conntrack;
mod explain;
mod lookup;
mod packet;
mod reading;
mod walker;

pub use conntrack::{Assumptions, StateError, ct_state_text, parse_ct_state};
pub use packet::Packet;
pub use reading::reading;

/// One table on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The table's number.
    pub table: u8,
    /// The flow that the packet hit; none where the table has nothing for it.
    pub flow: Option<Flow>,
    /// Whose flow it is.
    pub owner: Option<Owner>,
    /// What happened here, in words.
    pub why: String,
    /// What else is worth knowing: flows of the same priority that match too, outputs that a switch refuses,
    /// actions that the walk does not follow.
    pub notes: Vec<String>,
}

impl Step {
    /// The table's name; empty for a table that is not ours.
    #[must_use]
    pub fn table_name(&self) -> &'static str {
        Table::from_number(self.table).map_or("", Table::name)
    }
}

/// The packet left through a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The port.
    pub port: OfPort,
    /// The packet as it was then: rewritten headers, tunnel fields, mark.
    pub packet: Packet,
    /// The buckets that the switch must have chosen for this; empty where it has no choice.
    pub choices: Vec<Choice>,
}

/// A bucket of a group of which the switch takes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The group's number.
    pub group: u32,
    /// The bucket's place in the group, from 0.
    pub bucket: usize,
}

/// A packet's whole way.
#[derive(Clone, Debug)]
pub struct Walk {
    /// The tables in the order visited. A packet that conntrack sends back visits a table twice.
    pub steps: Vec<Step>,
    /// Where it left; several for multicast, none when it was dropped.
    pub outputs: Vec<Output>,
    /// The packet at the end of its last branch.
    pub packet: Packet,
    /// Why nothing was sent, in words. Empty when something was, and where that is not known.
    pub drop_reason: String,
    /// Why the way is not known beyond the last step, in words: something on it depends on what a walk does not know,
    /// or is unknown to it. What was sent until then is in `outputs`; more may follow.
    pub not_walked: Option<String>,
}

impl Walk {
    /// The tables' numbers in the order visited.
    #[must_use]
    pub fn path(&self) -> Vec<u8> {
        self.steps.iter().map(|step| step.table).collect()
    }

    /// Whether nothing was sent anywhere, for certain.
    #[must_use]
    pub fn is_drop(&self) -> bool {
        self.outputs.is_empty() && self.not_walked.is_none()
    }
}

/// Walks `packet` through `flows` from table 0 on.
///
/// What the walk cannot follow ends it, with [`Walk::not_walked`] saying why, rather than with a guess: actions that depend
/// on more of the packet than its fields (`check_pkt_larger`, `multipath`), on what is alive (`bundle`), on a controller
/// (`controller(pause)`), actions that put the packet into another header or take it out (MPLS, PBB, NSH, `encap`,
/// `decap`), and actions, instructions and match fields that this version does not know.
#[must_use]
pub fn walk(flows: &FlowSet, packet: Packet, assumptions: &Assumptions) -> Walk {
    walker::Walker::new(flows, assumptions).walk(packet)
}

#[cfg(test)]
mod tests;
