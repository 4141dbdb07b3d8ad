//! What the CNI plugin `openshift-sdn` and the node agent `sdn-node` agree on.
//!
//! The plugin is a small program that the container runtime starts for every pod. It checks what the runtime
//! handed to it, passes it over a Unix socket to the agent and prints the agent's answer. All knowledge of Open
//! vSwitch, addresses and policy is in the agent; this library holds what both ends need:
//!
//! | module | is |
//! |---|---|
//! | [`cni`] | the types of the Container Network Interface specification, versions 0.3.0 to 1.1.0 |
//! | [`contract`] | the messages between plugin and agent, and how they are framed |
//!
//! The plugin is started for every pod, so neither it nor this library uses an async runtime: reading and writing
//! are over [`std::io::Read`] and [`std::io::Write`]. An async program uses the functions of [`contract`] that
//! work on bytes.

pub mod cni;
pub mod contract;
