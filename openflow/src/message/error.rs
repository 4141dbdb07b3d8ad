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
        let is_hello_failed = self.code.kind == ErrorCode::HFC_INCOMPATIBLE.kind;
        std::str::from_utf8(&self.data).ok().filter(|text| is_hello_failed && !text.is_empty())
    }
}

impl fmt::Display for ErrorMsg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.text() {
            Some(text) => write!(f, "{}: {}", self.code, text.trim_end()),
            None => write!(f, "{}", self.code),
        }
    }
}
