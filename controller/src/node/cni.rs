//! The CNI side of the agent: server, pods, address management, sandbox wiring.

pub mod ipam;
pub mod pods;
pub mod sandbox;
pub mod server;
