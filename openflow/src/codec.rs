//! Encoding and decoding of what messages are made of.

pub(crate) mod action_decode;
pub(crate) mod action_encode;
pub(crate) mod action_kind;
pub(crate) mod flow;
pub(crate) mod group;
pub(crate) mod instruction;
pub(crate) mod learn;
pub(crate) mod oxm;
