//! Bytes: checked reading with offsets, and writing with lengths filled in afterwards.

use bytes::{BufMut, BytesMut};

use crate::message::ErrorCode;

/// Bytes that are no valid OpenFlow, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("offset {offset}: {what}: {why}")]
pub struct DecodeError {
    /// Byte offset from the start of the message.
    pub offset: usize,
    /// The structure being read, by its name in the specification.
    pub what: &'static str,
    /// What is wrong with it.
    pub why: Reason,
}

/// What a [`DecodeError`] is about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The structure ends before its last field.
    #[error("{needed} bytes needed, {left} left")]
    Truncated {
        /// Bytes that the field has.
        needed: usize,
        /// Bytes that are left.
        left: usize,
    },
    /// A length field that cannot be.
    #[error("length {0} is not possible here")]
    BadLength(usize),
    /// A value that the specification does not allow, with the error code that a switch would answer.
    #[error("{0}")]
    Invalid(ErrorCode),
    /// Actions inside actions inside actions ...
    #[error("nested too deep")]
    TooDeep,
    /// Another version of the protocol.
    #[error("protocol version {0:#04x}, not 0x04 (OpenFlow 1.3)")]
    Version(u8),
}

impl DecodeError {
    /// The error code that Open vSwitch answers to such a message.
    pub fn code(&self) -> ErrorCode {
        match self.why {
            Reason::Invalid(code) => code,
            Reason::Version(_) => ErrorCode::BRC_BAD_VERSION,
            Reason::TooDeep => ErrorCode::BRC_BAD_LEN,
            Reason::Truncated { .. } | Reason::BadLength(_) => match self.what {
                "ofp_match" | "oxm_fields" => ErrorCode::BMC_BAD_LEN,
                "ofp_action" | "nx_action" => ErrorCode::BAC_BAD_LEN,
                "property" => ErrorCode::BPC_BAD_LEN,
                _ => ErrorCode::BRC_BAD_LEN,
            },
        }
    }
}

/// A message that does not fit into the 16-bit lengths of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} is {len} bytes long; the protocol allows 65535")]
pub struct EncodeError {
    /// The structure that is too long.
    pub what: &'static str,
    /// Its length in bytes.
    pub len: usize,
}

/// Result of reading. A [`DecodeError`] is larger than most of what is read, and would be made room for with each.
pub(crate) type Result<T> = std::result::Result<T, Box<DecodeError>>;

/// Reads big-endian fields and remembers where in the message it stands.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    /// Offset of the end of `rest`, so that to read is to change `rest` alone.
    end: usize,
    what: &'static str,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Reader { rest: bytes, end: bytes.len(), what }
    }

    /// Names the structure that is read from here on.
    #[inline]
    pub(crate) fn enter(&mut self, what: &'static str) {
        self.what = what;
    }

    /// Where it stands in the message.
    #[inline]
    pub(crate) fn offset(&self) -> usize {
        self.end - self.rest.len()
    }

    #[inline]
    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn error(&self, why: Reason) -> Box<DecodeError> {
        self.error_at(self.offset(), why)
    }

    /// An error in what began at an offset.
    #[cold]
    fn error_at(&self, offset: usize, why: Reason) -> Box<DecodeError> {
        Box::new(DecodeError { offset, what: self.what, why })
    }

    pub(crate) fn invalid(&self, code: ErrorCode) -> Box<DecodeError> {
        self.invalid_at(self.offset(), code)
    }

    /// As [`Reader::invalid`], of what began at an offset.
    #[cold]
    pub(crate) fn invalid_at(&self, offset: usize, code: ErrorCode) -> Box<DecodeError> {
        self.error_at(offset, Reason::Invalid(code))
    }

    #[cold]
    fn truncated(&self, needed: usize) -> Box<DecodeError> {
        self.error(Reason::Truncated { needed, left: self.rest.len() })
    }

    #[inline]
    pub(crate) fn bytes(&mut self, n: usize) -> Result<&'a [u8]> {
        let Some((head, tail)) = self.rest.split_at_checked(n) else { return Err(self.truncated(n)) };
        #[cfg(test)]
        trace::note(self.offset(), n, self.what);
        self.rest = tail;
        Ok(head)
    }

    #[inline(always)]
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let Some((head, tail)) = self.rest.split_first_chunk::<N>() else { return Err(self.truncated(N)) };
        #[cfg(test)]
        trace::note(self.offset(), N, self.what);
        self.rest = tail;
        Ok(*head)
    }

    /// Fields that are `N` bytes together, and how many each has: where all are there, one look at the length is enough.
    #[inline(always)]
    pub(crate) fn fixed<const N: usize>(&mut self, parts: &'static [usize]) -> Result<&'a [u8; N]> {
        debug_assert_eq!(parts.iter().sum::<usize>(), N);
        let Some((head, tail)) = self.rest.split_first_chunk::<N>() else { return Err(self.missing(parts)) };
        #[cfg(test)]
        self.note(parts);
        self.rest = tail;
        Ok(head)
    }

    /// Which of several fields is not there.
    #[cold]
    fn missing(&self, parts: &[usize]) -> Box<DecodeError> {
        let mut r = *self;
        parts.iter().find_map(|n| r.skip(*n).err()).unwrap_or_else(|| self.truncated(0))
    }

    /// Goes on at `rest`, which is what was left by those that looked ahead with [`Reader::peek`].
    #[inline(always)]
    pub(crate) fn go_on_at(&mut self, rest: &'a [u8]) {
        debug_assert!(self.rest.ends_with(rest));
        self.rest = rest;
    }

    /// Whether quick ways, which read several fields as one, may be taken. They do not tell what is where.
    #[inline(always)]
    pub(crate) fn may_hurry(&self) -> bool {
        #[cfg(test)]
        return !trace::is_on();
        #[cfg(not(test))]
        true
    }

    #[cfg(test)]
    fn note(&self, parts: &[usize]) {
        let mut offset = self.offset();
        for n in parts {
            trace::note(offset, *n, self.what);
            offset += n;
        }
    }

    #[inline(always)]
    pub(crate) fn u8(&mut self) -> Result<u8> {
        self.array().map(|[byte]| byte)
    }

    #[inline(always)]
    pub(crate) fn u16(&mut self) -> Result<u16> {
        self.array().map(u16::from_be_bytes)
    }

    #[inline(always)]
    pub(crate) fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_be_bytes)
    }

    #[inline(always)]
    pub(crate) fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_be_bytes)
    }

    pub(crate) fn u128(&mut self) -> Result<u128> {
        self.array().map(u128::from_be_bytes)
    }

    pub(crate) fn mac(&mut self) -> Result<[u8; 6]> {
        self.array()
    }

    /// A big-endian number of 1 to 16 bytes.
    #[inline]
    pub(crate) fn number(&mut self, n: usize) -> Result<u128> {
        self.bytes(n).map(number)
    }

    #[inline(always)]
    pub(crate) fn skip(&mut self, n: usize) -> Result<()> {
        self.bytes(n).map(|_| ())
    }

    /// Skips up to `n` bytes of padding; a peer that leaves out the padding at the very end does no harm.
    #[inline]
    pub(crate) fn skip_padding(&mut self, n: usize) {
        let n = n.min(self.remaining());
        let _ = self.skip(n);
    }

    /// Everything that is left.
    #[inline]
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        let rest = self.rest;
        #[cfg(test)]
        trace::note(self.offset(), rest.len(), self.what);
        self.rest = &[];
        rest
    }

    /// What is left, without taking it.
    #[inline]
    pub(crate) fn peek(&self) -> &'a [u8] {
        self.rest
    }

    /// A reader of the next `n` bytes.
    #[inline]
    pub(crate) fn sub(&mut self, n: usize, what: &'static str) -> Result<Reader<'a>> {
        let Some((head, tail)) = self.rest.split_at_checked(n) else { return Err(self.truncated(n)) };
        let sub = Reader { rest: head, end: self.offset() + n, what };
        self.rest = tail;
        Ok(sub)
    }

    /// Type and length, with which most structures begin.
    #[inline(always)]
    pub(crate) fn kind_and_len(&mut self) -> Result<(u16, u16)> {
        let [k1, k0, l1, l0] = *self.fixed::<4>(&[2, 2])?;
        Ok((u16::from_be_bytes([k1, k0]), u16::from_be_bytes([l1, l0])))
    }

    /// A length field of a structure of which `read` bytes are read already: what is left of it.
    #[inline]
    pub(crate) fn body_len(&self, len: u16, read: usize) -> Result<usize> {
        usize::from(len).checked_sub(read).ok_or_else(|| self.error(Reason::BadLength(len.into())))
    }

    /// A fixed-width name, up to the first zero; the last byte is one, whatever it holds.
    pub(crate) fn name(&mut self, n: usize) -> Result<String> {
        let bytes = self.bytes(n)?;
        let bytes = bytes.get(..n.saturating_sub(1)).unwrap_or(bytes);
        Ok(name_from(bytes.split(|&b| b == 0).next().unwrap_or(bytes)))
    }
}

/// Takes fields apart that [`Reader::fixed`] has found to be there.
pub(crate) struct Fixed<'a>(pub(crate) &'a [u8]);

impl Fixed<'_> {
    #[inline(always)]
    fn array<const N: usize>(&mut self) -> [u8; N] {
        debug_assert!(self.0.len() >= N);
        let Some((head, tail)) = self.0.split_first_chunk() else { return [0; N] };
        self.0 = tail;
        *head
    }

    #[inline(always)]
    pub(crate) fn u8(&mut self) -> u8 {
        u8::from_be_bytes(self.array())
    }

    #[inline(always)]
    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.array())
    }

    #[inline(always)]
    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.array())
    }

    #[inline(always)]
    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.array())
    }

    #[inline(always)]
    pub(crate) fn skip<const N: usize>(&mut self) {
        self.array::<N>();
    }
}

/// A big-endian number of at most 16 bytes.
#[inline]
pub(crate) fn number(bytes: &[u8]) -> u128 {
    // Most fields are as wide as a machine's own numbers.
    match *bytes {
        [a] => a.into(),
        [a, b] => u16::from_be_bytes([a, b]).into(),
        [a, b, c, d] => u32::from_be_bytes([a, b, c, d]).into(),
        [a, b, c, d, e, f, g, h] => u64::from_be_bytes([a, b, c, d, e, f, g, h]).into(),
        _ => bytes.iter().fold(0, |number, &byte| number << 8 | u128::from(byte)),
    }
}

/// Names on the wire are bytes, and nothing says that they are UTF-8. A byte that is none becomes the character of the
/// private use area that is this far from it, so that a name goes back as it came.
const ESCAPES: u32 = 0xf700;

fn name_from(bytes: &[u8]) -> String {
    let escape =
        |byte: &u8| char::from_u32(ESCAPES + u32::from(*byte)).unwrap_or(char::REPLACEMENT_CHARACTER);
    let is_escape = |c: char| (ESCAPES + 0x80..=ESCAPES + 0xff).contains(&u32::from(c));
    let mut name = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            // The same characters as they stand would go back as single bytes.
            match is_escape(c) {
                true => name.extend(c.encode_utf8(&mut [0; 4]).as_bytes().iter().map(escape)),
                false => name.push(c),
            }
        }
        name.extend(chunk.invalid().iter().map(escape));
    }
    name
}

/// Writes big-endian fields, and lengths once they are known.
pub(crate) struct Writer<'a> {
    buf: &'a mut BytesMut,
    too_long: Option<EncodeError>,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(buf: &'a mut BytesMut) -> Self {
        Writer { buf, too_long: None }
    }

    /// Whether every length has fitted.
    pub(crate) fn finish(self) -> std::result::Result<(), EncodeError> {
        self.too_long.map_or(Ok(()), Err)
    }

    pub(crate) fn len(&self) -> usize {
        self.buf.len()
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.buf.put_u8(value);
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.buf.put_u16(value);
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.buf.put_u32(value);
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.buf.put_u64(value);
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.buf.put_slice(bytes);
    }

    pub(crate) fn zeros(&mut self, n: usize) {
        self.buf.put_bytes(0, n);
    }

    /// The low `n` bytes of a number, 1 to 16.
    pub(crate) fn number(&mut self, value: u128, n: usize) {
        let bytes = value.to_be_bytes();
        self.bytes(bytes.get(16usize.saturating_sub(n)..).unwrap_or(&bytes));
    }

    /// Zeros up to the next multiple of 8 after `start`.
    pub(crate) fn pad8(&mut self, start: usize) {
        let len = self.buf.len() - start;
        self.zeros(len.next_multiple_of(8) - len);
    }

    /// Writes the number of bytes since `start` at `at`.
    pub(crate) fn patch_len(&mut self, at: usize, start: usize, what: &'static str) {
        self.patch_u16(at, self.buf.len() - start, what);
    }

    pub(crate) fn patch_u16(&mut self, at: usize, value: usize, what: &'static str) {
        match (u16::try_from(value), self.buf.get_mut(at..at + 2)) {
            (Ok(value), Some(slot)) => slot.copy_from_slice(&value.to_be_bytes()),
            _ => self.too_long = self.too_long.or(Some(EncodeError { what, len: value })),
        }
    }

    /// Copies 16 bits that were written at `from` to `to`.
    pub(crate) fn copy_u16(&mut self, from: usize, to: usize) {
        if let Some(&[high, low]) = self.buf.get(from..from + 2)
            && let Some(slot) = self.buf.get_mut(to..to + 2)
        {
            slot.copy_from_slice(&[high, low]);
        }
    }

    /// A name in a field of `n` bytes, cut between characters to leave a zero at its end.
    pub(crate) fn name(&mut self, name: &str, n: usize) {
        let end = self.buf.len() + n;
        let mut utf8 = [0; 4];
        for c in name.chars() {
            let escaped;
            let bytes = match u32::from(c).checked_sub(ESCAPES) {
                Some(byte @ 0x80..=0xff) => {
                    escaped = [byte as u8];
                    &escaped[..]
                }
                _ => c.encode_utf8(&mut utf8).as_bytes(),
            };
            if self.buf.len() + bytes.len() >= end {
                break;
            }
            self.bytes(bytes);
        }
        self.zeros(end - self.buf.len());
    }
}

/// What was read where, to write vectors with a line for each field.
#[cfg(test)]
pub(crate) mod trace {
    use std::cell::RefCell;

    /// Offset, length and structure of a read.
    type Read = (usize, usize, &'static str);

    thread_local! {
        static READS: RefCell<Option<Vec<Read>>> = const { RefCell::new(None) };
    }

    pub(super) fn note(offset: usize, len: usize, what: &'static str) {
        READS.with_borrow_mut(|reads| {
            if let Some(reads) = reads {
                reads.push((offset, len, what));
            }
        });
    }

    pub(super) fn is_on() -> bool {
        READS.with_borrow(Option::is_some)
    }

    /// All reads that `work` does, none of them by quick ways.
    pub(crate) fn record(work: impl FnOnce()) -> Vec<Read> {
        READS.set(Some(Vec::new()));
        work();
        READS.take().unwrap_or_default()
    }
}
