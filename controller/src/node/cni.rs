//! The CNI side of the agent: server, pods, address management, sandbox wiring.

mod again;
pub mod alias;
mod background;
mod bandwidth;
pub mod conflist;
mod converge;
pub mod fault;
pub mod ipam;
pub(in crate::node) mod leave;
pub mod pods;
pub mod sandbox;
pub mod server;
mod takeover;
mod undo;
mod verify;
