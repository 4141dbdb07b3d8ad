//! The node agent against real Open vSwitch: what it says of itself, and what becomes of it when things are changed
//! or break under it.

#![allow(clippy::indexing_slicing, reason = "a test may stop at the first surprise")]

#[path = "node/bandwidth.rs"]
mod bandwidth;
#[path = "node/chain.rs"]
mod chain;
#[path = "node/contract.rs"]
mod contract;
#[path = "node/crash.rs"]
mod crash;
#[path = "node/drift.rs"]
mod drift;
#[path = "node/firewall.rs"]
mod firewall;
#[path = "node/health.rs"]
mod health;
#[path = "node/host.rs"]
mod host;
#[path = "node/lifecycle.rs"]
mod lifecycle;
#[path = "node/soak.rs"]
mod soak;
#[path = "node/takeover.rs"]
mod takeover;
#[path = "node/trouble.rs"]
mod trouble;
