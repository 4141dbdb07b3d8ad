//! The text syntax of `ovs-ofctl`: printing (`Display`) and parsing (`FromStr`).
//!
//! Printing gives exactly what `ovs-ofctl dump-flows` and `ovs-ofctl ofp-print` give under OpenFlow 1.3. Parsing takes
//! what `ovs-ofctl add-flow` takes; an error points at the wrong word.

mod error;
mod lexer;
mod meter;
mod names;
mod parse_action;
mod parse_ct;
mod parse_flow;
mod parse_group;
mod parse_learn;
mod parse_match;
mod parse_nicira;
mod print_action;
mod print_async;
mod print_flow;
mod print_group;
mod print_match;
mod print_message;
mod print_port;
mod print_request;
mod print_stats;
mod print_table_features;
mod value;

pub use error::ParseError;
pub use names::{Names, Show};
pub(crate) use parse_action::canonical_set_field;
pub use parse_action::parse_actions;
pub(crate) use print_action::note_len;
