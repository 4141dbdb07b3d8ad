//! Events: what a user must know, said at the object that it is about.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tracing::debug;

/// Longest text of an event, in bytes; the API server refuses more than 1024.
const MOST_OF_A_NOTE: usize = 1000;

/// Writes events under the name of a program.
#[derive(Clone)]
pub struct Events {
    client: Client,
    reporter: Reporter,
    /// What the program does when it has something to say, in one word.
    action: &'static str,
}

impl Events {
    /// Of the program `controller`, of which this is `instance`.
    #[must_use]
    pub fn new(client: Client, controller: &str, instance: &str, action: &'static str) -> Self {
        let reporter = Reporter { controller: controller.to_owned(), instance: Some(instance.to_owned()) };
        Self { client, reporter, action }
    }

    /// Says something at an object. Nothing depends on events: that one can't be written is only logged.
    pub async fn publish(&self, about: &ObjectReference, type_: EventType, reason: &str, note: &str) {
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(cut(note).to_owned()),
            action: self.action.to_owned(),
            secondary: None,
        };
        // One of its own for each: it takes two events of one reason for one that happens again, whatever their words.
        let recorder = Recorder::new(self.client.clone(), self.reporter.clone());
        if let Err(error) = recorder.publish(&event, about).await {
            debug!(object = ?about.name, "no event written: {}", crate::causes(&error));
        }
    }
}

/// As much of a note as an event may have.
fn cut(note: &str) -> &str {
    &note[..note.floor_char_boundary(MOST_OF_A_NOTE)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_note_ends_with_a_whole_character() {
        // Three bytes each: neither 1000 nor 1024 is a boundary.
        let long = "€".repeat(400);
        assert_eq!(cut(&long), "€".repeat(333));
        assert_eq!(cut(&format!("a{long}")).len(), 1 + 999);
        let fits = "x".repeat(MOST_OF_A_NOTE);
        assert_eq!((cut(&fits), cut("")), (fits.as_str(), ""));
    }
}
