//! The Open vSwitch side of the agent: the bridge through OVSDB, the flows through OpenFlow.

pub mod bridge;
pub mod ports;
pub mod syncer;
