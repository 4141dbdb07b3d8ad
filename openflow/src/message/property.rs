//! Properties: type, length, value, padding to 8 bytes.

use crate::wire::{Reader, Result, Writer};

/// Writes a property around what `value` writes.
pub(super) fn put(w: &mut Writer<'_>, kind: u16, value: impl FnOnce(&mut Writer<'_>)) {
    let start = w.len();
    w.u16(kind);
    w.u16(0);
    value(w);
    w.patch_len(start + 2, start, "property");
    w.pad8(start);
}

/// Reads a property: its type and a reader of its value.
pub(super) fn take<'a>(r: &mut Reader<'a>) -> Result<(u16, Reader<'a>)> {
    r.enter("property");
    let (kind, len) = (r.u16()?, r.u16()?);
    let value = r.sub(r.body_len(len, 4)?, "property")?;
    r.skip_padding(usize::from(len).next_multiple_of(8) - usize::from(len));
    Ok((kind, value))
}
