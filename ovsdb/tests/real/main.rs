//! Everything that needs a real `ovsdb-server`, and partly a real `ovs-vswitchd` with dummy devices.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops at the first surprise")]

mod authority;
mod cluster;
mod fake;
mod faults;
mod features;
#[allow(dead_code, reason = "the benchmarks use the rest")]
mod harness;
mod older;
mod ovs;
mod proxy;
mod remotes;
mod replica;
mod replies;
mod together;
mod unixctl;
mod waiting;
mod writers;
