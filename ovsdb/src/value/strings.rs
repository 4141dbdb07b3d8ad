//! Strings that a replica holds many times over, held once.

use std::collections::HashSet;
use std::sync::Arc;

/// Beyond this many different strings no more are remembered: they are not as repetitive as thought.
const MOST: usize = 4096;

/// Strings met so far.
#[derive(Debug, Default)]
pub(crate) struct Strings(HashSet<Arc<str>>);

impl Strings {
    /// The string, shared with the earlier ones of the same text if there were any.
    pub(super) fn share(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.0.get(text) {
            return known.clone();
        }
        let new: Arc<str> = text.into();
        if self.0.len() < MOST {
            self.0.insert(new.clone());
        }
        new
    }
}
