//! The note in table 253 that says which plugin and which version of the pipeline the bridge carries.

use openflow::{Action, Flow};

use super::Plugin;
use crate::pipeline::cookie::Owner;
use crate::pipeline::rule::rule;
use crate::pipeline::table::Table::Version;

/// Version of the pipeline. Greater with every change of the flows' meaning.
///
/// Ours start at 0x80: the replaced system, whose versions never left the low half, must not take a bridge of
/// ours for one of its own when a node moves back to it.
pub const PIPELINE_VERSION: u8 = 0x80;

/// The note, in the form the replaced system wrote: plugin, version.
#[must_use]
pub fn flows(plugin: Plugin) -> Vec<Flow> {
    // Six bytes fill the action to the end; the switch would pad a shorter note and return it longer.
    let note = vec![plugin.id(), PIPELINE_VERSION, 0, 0, 0, 0];
    vec![rule(Version, 32768).action(Action::Note(note)).of(&Owner::Version)]
}
