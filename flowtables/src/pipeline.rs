//! The pipeline, written once: its tables, registers, well-known ports and cookies.
//!
//! Table numbers, register use and port numbers are a contract with users' knowledge and scripts: they are
//! those of OpenShift 3.11, plus table 27 for NetworkPolicy egress.

pub mod cookie;
pub mod port;
pub mod register;
pub(crate) mod rule;
pub mod table;
pub mod vnid;
