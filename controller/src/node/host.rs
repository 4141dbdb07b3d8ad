//! The node's own network stack: the link `tun0` by which it meets the pods, egress IPs, and its firewall.
//!
//! Everything here acts on the network namespace that the process is in, compares what is there with what shall be,
//! and changes only the difference: called again with nothing changed, it changes nothing.

pub mod egress_ips;
pub mod firewall;
pub mod links;
pub mod obstacles;
pub mod watch;
