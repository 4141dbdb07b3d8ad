//! The node agent `sdn-node`.

pub mod admin;
pub mod agent;
pub mod cni;
pub mod cri;
pub mod findings;
pub mod host;
pub mod inquiry;
pub mod memory;
pub mod metrics;
pub mod names;
pub mod netns;
pub mod ovs;
pub mod reachability;
pub mod status;
