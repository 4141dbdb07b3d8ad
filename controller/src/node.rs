//! The node agent `sdn-node`.

pub mod admin;
pub mod agent;
pub mod cni;
pub mod host;
pub mod metrics;
pub mod names;
pub mod netns;
pub mod ovs;
pub mod status;
