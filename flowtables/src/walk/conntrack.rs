//! What a walk assumes of connection tracking, and the states of a connection as text.

use openflow::{Field, Match};

const NEW: u32 = 0x01;
const ESTABLISHED: u32 = 0x02;
const REPLY: u32 = 0x08;
const INVALID: u32 = 0x10;
const TRACKED: u32 = 0x20;

/// What the walker cannot know and the caller assumes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assumptions {
    /// The connection state that conntrack finds for a packet. `ofproto/trace` assumes a new connection too.
    pub ct_state: u32,
    /// States for the first visits to conntrack, in order, instead of `ct_state`: `--ct-next` of `ofproto/trace`.
    pub ct_next: Vec<u32>,
}

impl Default for Assumptions {
    fn default() -> Self {
        Self { ct_state: TRACKED | NEW, ct_next: Vec::new() }
    }
}

/// Why a text is no state that a connection can be in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// A flag that does not exist.
    #[error("{0}: the flags are trk, new, est, rel, rpl, inv, snat and dnat, joined by commas")]
    Flags(String),
    /// Flags that cannot come together.
    #[error("{0}: {1}")]
    Together(String, &'static str),
}

/// Reads the state of a connection, such as `trk,est` or `trk|est|rpl`.
///
/// # Errors
/// When conntrack never gives a packet that state: it always sets `trk`, `inv` excludes every other flag, and a new
/// connection is neither established nor has it replies.
pub fn parse_ct_state(text: &str) -> Result<u32, StateError> {
    let flags = format!("ct_state={}", text.replace(',', "|"));
    let known = flags.parse::<Match>().ok().filter(|_| !text.contains(['+', '-', '=', '/', ' ']));
    let state = known
        .and_then(|fields| fields.exact(Field::CT_STATE))
        .and_then(|state| u32::try_from(state).ok())
        .ok_or_else(|| StateError::Flags(text.to_owned()))?;
    let together = |why| Err(StateError::Together(text.to_owned(), why));
    if state & TRACKED == 0 {
        return together("behind connection tracking every packet is trk");
    }
    if state & INVALID != 0 && state & !(TRACKED | INVALID) != 0 {
        return together("an invalid packet has no other state than trk,inv");
    }
    if state & NEW != 0 && state & (ESTABLISHED | REPLY) != 0 {
        return together("a new connection is not established and has no replies");
    }
    Ok(state)
}

/// The flags of a state as `ofproto/trace --ct-next` takes them.
#[must_use]
pub fn ct_state_text(state: u32) -> String {
    let text = Match::new().with(Field::CT_STATE, state).to_string();
    text.strip_prefix("ct_state=").unwrap_or(&text).replace('|', ",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_read_and_written() {
        for (text, state) in [("trk,new", 0x21), ("trk|est|rpl", 0x2a), ("inv,trk", 0x30), ("trk", 0x20)] {
            assert_eq!(parse_ct_state(text), Ok(state), "{text}");
            assert_eq!(parse_ct_state(&ct_state_text(state)), Ok(state), "{text}");
        }
    }

    #[test]
    fn states_that_never_come_are_refused() {
        for text in
            ["", "trck", "new", "trk,new,est", "trk,new,rpl", "trk,inv,est", "+trk", "0x20/0x20", "trk est"]
        {
            assert!(parse_ct_state(text).is_err(), "{text}");
        }
    }
}
