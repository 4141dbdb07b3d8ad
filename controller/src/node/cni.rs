//! The CNI side of the agent: server, address management, sandbox wiring.

pub mod ipam;
pub mod sandbox;
