//! Error messages (OF1.3.5 §7.4.4).

use std::fmt;

use super::error_code::{self, ErrorCode};
use crate::wire::{Reader, Result, Writer};

/// `OFPT_ERROR`: what a switch thinks of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorMsg {
    /// What is wrong.
    pub code: ErrorCode,
    /// At least the first 64 bytes of the message that is wrong; for a failed hello, text.
    pub data: Vec<u8>,
}

impl ErrorMsg {
    pub(super) fn put(&self, w: &mut Writer<'_>) {
        w.u16(self.code.kind);
        w.u16(self.code.code);
        if self.code.kind == error_code::EXPERIMENTER {
            w.u32(self.code.experimenter);
        }
        w.bytes(&self.data);
    }

    pub(super) fn take(r: &mut Reader<'_>) -> Result<Self> {
        let (kind, code) = (r.u16()?, r.u16()?);
        let experimenter = if kind == error_code::EXPERIMENTER { r.u32()? } else { 0 };
        Ok(ErrorMsg { code: ErrorCode { kind, code, experimenter }, data: r.rest().to_vec() })
    }

    /// What a failed hello says, if this is one and it says anything.
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.data).ok().filter(|text| self.is_hello_failed() && !text.is_empty())
    }

    fn is_hello_failed(&self) -> bool {
        self.code.kind == ErrorCode::HFC_INCOMPATIBLE.kind
    }

    /// [`ErrorMsg::text`] for a terminal or a log: bytes that are no plain ASCII are escaped as Open vSwitch does, so
    /// that a peer cannot write control characters there.
    pub(crate) fn printable_text(&self) -> Option<String> {
        if !self.is_hello_failed() || self.data.is_empty() {
            return None;
        }
        let escaped = |&byte: &u8| match byte {
            b'"' | b'\\' => format!("\\{byte:03o}"),
            b' '..=b'~' => char::from(byte).into(),
            _ => format!("\\{byte:03o}"),
        };
        Some(self.data.iter().map(escaped).collect())
    }
}

impl fmt::Display for ErrorMsg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.printable_text() {
            Some(text) => write!(f, "{}: {}", self.code, text.trim_end()),
            None => write!(f, "{}", self.code),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_a_peer_is_escaped() {
        let data = b"no \x1b[2J\n".to_vec();
        let error = ErrorMsg { code: ErrorCode::HFC_INCOMPATIBLE, data };
        assert_eq!(error.to_string(), "OFPHFC_INCOMPATIBLE: no \\033[2J\\012");
    }
}
