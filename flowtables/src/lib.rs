//! The OpenShift SDN pipeline as a pure function: no clock, no I/O, no async.
//!
//! | module | is |
//! |---|---|
//! | [`pipeline`] | tables, registers, ports, cookies: written once, typed |
//! | [`feature`] | small inputs in, flows out; one file a feature |
//! | [`flowset`] | the set of flows with owners, and the difference between two |
//! | [`walk`] | a packet's way through a set of flows, explained |

pub mod feature;
pub mod flowset;
pub mod pipeline;
pub mod walk;
