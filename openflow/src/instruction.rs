//! Instructions of a flow (OF1.3.5 §7.2.4).

use crate::Action;

/// What a flow does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Instruction {
    /// `OFPIT_METER`.
    Meter(u32),
    /// `OFPIT_APPLY_ACTIONS`.
    ApplyActions(Vec<Action>),
    /// `OFPIT_CLEAR_ACTIONS`.
    ClearActions,
    /// `OFPIT_WRITE_ACTIONS`.
    WriteActions(Vec<Action>),
    /// `OFPIT_WRITE_METADATA`.
    WriteMetadata {
        /// New bits.
        value: u64,
        /// Which bits change.
        mask: u64,
    },
    /// `OFPIT_GOTO_TABLE`.
    GotoTable(u8),
    /// An instruction that we don't know, with its header.
    Unknown {
        /// Type.
        kind: u16,
        /// All of its bytes, header included.
        raw: Vec<u8>,
    },
}
