//! The fields that a match usually begins with, and most consist of: read by a table, without searching what is there
//! already.

use super::{has_few_values, is_possible, reports_value_as_mask};
use crate::field::{Field, Prerequisite};
use crate::flow_match::{PackedMatch, Wire, split_register};
use crate::prerequisite::Met;

/// A field that, added to a match of fields before it in wire order, changes nothing but its own bits, of which there are
/// at most 64, and is not looked at for what others mean, but for the Ethernet type and the IP protocol.
///
/// Values and masks stand as they do on the wire: their bytes come first, zeros follow.
#[derive(Clone, Copy)]
struct Plain {
    /// All ones over the bytes of the value.
    bytes: Wire,
    /// As [`Field::full_mask`].
    full: Wire,
    field: Field,
    /// As [`Field::bytes`].
    len: u8,
    prerequisite: Prerequisite,
    maskable: bool,
    has_few_values: bool,
    /// Whether its value is what other fields require.
    is_required: bool,
    /// Whether actions may give it every value of its bits.
    takes_any_setting: bool,
}

/// Plain fields by their class and number: the two classes of NXM, then two of OXM.
static PLAIN: [[Option<Plain>; 128]; 4] =
    [of_class(0x0000), of_class(0x0001), of_class(0x8000), of_class(0x8001)];

#[allow(clippy::indexing_slicing)] // Evaluated by the compiler: out of bounds does not build.
const fn of_class(class: u16) -> [Option<Plain>; 128] {
    let mut row = [None; 128];
    let mut i = 0;
    while let Some(field) = Field::from_index(i) {
        let info = field.info();
        let mut h = 0;
        while h < info.headers.len() && is_plain(field) {
            if info.headers[h].class == class {
                row[info.headers[h].field as usize] = Some(Plain {
                    bytes: Wire::from_number(u64::MAX, field.bytes()),
                    full: Wire::from_number(field.full_mask() as u64, field.bytes()),
                    field,
                    len: field.bytes() as u8,
                    prerequisite: match info.prerequisite {
                        // A packet type that says otherwise is no plain field.
                        Prerequisite::Ethernet => Prerequisite::None,
                        other => other,
                    },
                    maskable: info.maskable,
                    has_few_values: has_few_values(field),
                    is_required: matches!(field, Field::ETH_TYPE | Field::IP_PROTO),
                    takes_any_setting: info.writable
                        && !has_few_values(field)
                        && !matches!(field, Field::VLAN_VID),
                });
            }
            h += 1;
        }
        i += 1;
    }
    row
}

const fn is_plain(field: Field) -> bool {
    let is_special = matches!(
        field,
        Field::PACKET_TYPE | Field::IN_PORT_16 | Field::VLAN_PCP | Field::VLAN_TCI | Field::NW_TOS
    );
    field.bytes() <= 8 && !is_special && split_register(field).is_none() && !reports_value_as_mask(field)
}

#[inline(always)]
fn by_header(header: u32) -> Option<&'static Plain> {
    // All but the first and the last bit of the class.
    if header & 0x7ffe_0000 != 0 {
        return None;
    }
    let row = header >> 30 & 2 | header >> 16 & 1;
    PLAIN.get(row as usize)?.get((header >> 9 & 0x7f) as usize)?.as_ref()
}

/// Reads plain fields in wire order off the first `len` of some bytes. Returns them, and how many bytes they are; the first
/// that is no plain field or is wrong, [`super::add_fields`] has to read.
#[inline(always)]
pub(super) fn take_plain_fields(bytes: &[u8], len: usize) -> (PackedMatch, usize) {
    let mut packed = PackedMatch::default();
    let (mut done, mut next, mut met) = (0, 0, Met::always());
    while done < len
        && let Some((&header, payload)) = bytes.get(done..).and_then(<[u8]>::split_first_chunk)
    {
        let header = u32::from_be_bytes(header);
        let Some(plain) = by_header(header) else { break };
        let n = usize::from(plain.len);
        let value = Wire::first_of(payload).and(plain.bytes);
        let (mut mask, mut payload_len) = (plain.full, n);
        if header & HAS_MASK != 0 {
            mask = Wire::first_of(payload.get(n..).unwrap_or_default()).and(plain.full);
            payload_len = 2 * n;
            if !plain.maskable || mask.is_zero() {
                break;
            }
        }
        let end = done + 4 + payload_len;
        if plain.field.index() < next
            || (header & 0xff) as usize != payload_len
            || end > len
            || !met.has(plain.prerequisite)
            || !value.is_within(mask)
            || plain.has_few_values && !has_possible(plain.field, value, n)
            || !packed.push(plain.field, n, value, mask)
        {
            break;
        }
        if plain.is_required && mask == plain.full {
            met = met.with(plain.field, value.number(n));
        }
        next = plain.field.index() + 1;
        done = end;
    }
    (packed, done)
}

#[inline(never)]
fn has_possible(field: Field, value: Wire, n: usize) -> bool {
    is_possible(field, value.number(n).into())
}

/// `oxm_hasmask` in a header.
const HAS_MASK: u32 = 0x100;

/// The field, value and mask that `OFPAT_SET_FIELD` has, by the header of the field and the 8 bytes after it. `None` if it is
/// no plain field, or there is anything to be checked.
#[inline(always)]
pub(crate) fn plain_setting(header: u32, payload: &[u8; 8]) -> Option<(Field, u64, u64)> {
    let plain = by_header(header)?;
    let (n, value) = (usize::from(plain.len), Wire::first_of(payload));
    // What comes after the value is padding.
    let is_right =
        header & 0x1ff == u32::from(plain.len) && value.is_within(plain.full) && plain.takes_any_setting;
    is_right.then(|| (plain.field, value.number(n), plain.full.number(n)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_plain_field_but_a_few_can_have_any_value() {
        for field in Field::all().filter(|field| is_plain(*field) && !has_few_values(*field)) {
            let full = field.full_mask();
            assert!((0..=full.min(0xffff)).all(|value| is_possible(field, value)), "{field}");
            assert!(
                [full, full - full / 3, full / 2].into_iter().all(|value| is_possible(field, value)),
                "{field}"
            );
        }
    }

    #[test]
    fn plain_fields_are_found_under_all_their_headers_in_the_four_classes() {
        for field in Field::all() {
            for header in field.info().headers {
                let found = by_header(u32::from(header.class) << 16 | u32::from(header.field) << 9);
                let expected = (header.class & 0x7ffe == 0 && is_plain(field)).then_some(field);
                assert_eq!(found.map(|plain| plain.field), expected, "{field} {header:?}");
            }
        }
    }
}
