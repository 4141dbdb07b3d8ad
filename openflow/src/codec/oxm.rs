//! OXM and NXM: fields of a match, headers and values (OF1.3.5 §7.2.3).

use crate::field::{Field, Header, ones};
use crate::flow_match::{Match, WideEntry, WideField};
use crate::message::ErrorCode;
use crate::wire::{Reader, Result, Writer};

mod plain;

pub(crate) use plain::plain_setting;
use plain::take_plain_fields;

/// `OFPMT_OXM`.
const MATCH_TYPE_OXM: u16 = 1;

/// Writes `ofp_match` with its padding.
pub(crate) fn put_match(w: &mut Writer<'_>, fields: &Match) {
    let start = w.len();
    w.u16(MATCH_TYPE_OXM);
    w.u16(0);
    put_fields(w, fields);
    // The length leaves the padding out (OF1.3.5 §7.2.3.1).
    w.patch_len(start + 2, start, "ofp_match");
    w.pad8(start);
}

/// Writes the fields of a match, one after the other, under the headers of OpenFlow 1.3.
pub(crate) fn put_fields(w: &mut Writer<'_>, fields: &Match) {
    put_each(w, fields, |w, field, value, mask| put_value(w, sent_header(field), field, value, mask));
}

/// Writes the fields of a match under the headers that Open vSwitch has under versions that knew no OXM, as in
/// messages of Nicira that are older than that: `NXM_*` where there is one.
pub(crate) fn put_nxm_fields(w: &mut Writer<'_>, fields: &Match) {
    put_each(w, fields, |w, field, value, mask| {
        // In NXM some fields are views of others: the port has 16 bits, and DSCP is the upper part of the TOS.
        let (named, value) = match field {
            Field::IN_PORT => (Field::IN_PORT_16, value & 0xffff),
            Field::IP_DSCP => (Field::NW_TOS, value << 2),
            other => (other, value),
        };
        let header = named.nxm().map_or_else(|| sent_header(named), |(header, _)| header);
        put_value(w, header, named, value, mask);
    });
}

fn put_each(w: &mut Writer<'_>, fields: &Match, put: impl Fn(&mut Writer<'_>, Field, u128, Option<u128>)) {
    let mut wide = fields.wide().peekable();
    for (field, value, mask) in fields.iter() {
        // Tunnel options stand where Open vSwitch writes them: after the other tunnel fields.
        if field >= Field::REG0 {
            while let Some(entry) = wide.next_if(|e| matches!(e.field, WideField::Known(_))) {
                put_wide(w, entry);
            }
        }
        put(w, field, value, (!is_exact(field, mask)).then_some(mask));
    }
    for entry in wide {
        put_wide(w, entry);
    }
}

fn put_value(w: &mut Writer<'_>, header: Header, field: Field, value: u128, mask: Option<u128>) {
    let bytes = field.bytes();
    put_header(w, header, mask.is_some(), bytes * if mask.is_some() { 2 } else { 1 });
    w.number(value, bytes);
    if let Some(mask) = mask {
        w.number(mask, bytes);
    }
}

/// Whether Open vSwitch writes such a mask as "no mask": it fills the field's significant bits. Two fields keep
/// theirs, since most of their bits have no meaning.
fn is_exact(field: Field, mask: u128) -> bool {
    mask == field.full_mask() && field != Field::CT_STATE && field != Field::TUN_FLAGS
}

fn put_wide(w: &mut Writer<'_>, entry: &WideEntry) {
    let header = match entry.field {
        WideField::Known(field) => sent_header(field),
        WideField::Unknown { class, field, experimenter } => Header { class, field, experimenter },
    };
    let len = entry.value.len() + entry.mask.as_ref().map_or(0, Vec::len);
    put_header(w, header, entry.mask.is_some(), len);
    w.bytes(&entry.value);
    if let Some(mask) = &entry.mask {
        w.bytes(mask);
    }
}

/// The header under which a field is sent in a match or `set_field`.
pub(crate) fn sent_header(field: Field) -> Header {
    const UNKNOWN: Header = Header { class: 0, field: 0, experimenter: 0 };
    field.info().headers.first().copied().unwrap_or(UNKNOWN)
}

/// Writes a header for a payload of `len` bytes (value and mask).
pub(crate) fn put_header(w: &mut Writer<'_>, header: Header, has_mask: bool, len: usize) {
    let is_experimenter = header.class == Header::EXPERIMENTER_CLASS;
    let len = len + if is_experimenter { 4 } else { 0 };
    w.u16(header.class);
    w.u8(header.field << 1 | u8::from(has_mask));
    // Values are at most 124 bytes, so that value, mask and experimenter id fit.
    w.u8(u8::try_from(len).unwrap_or(u8::MAX));
    if is_experimenter {
        w.u32(header.experimenter);
    }
}

/// A header as it was read.
pub(crate) struct RawHeader {
    pub(crate) header: Header,
    pub(crate) has_mask: bool,
    /// Bytes of value and mask together.
    pub(crate) len: usize,
}

impl RawHeader {
    #[inline]
    pub(crate) fn field(&self) -> Option<Field> {
        Field::by_header(self.header.class, self.header.field, self.header.experimenter)
    }
}

/// Reads a header, with the experimenter id where there is one.
#[inline(always)]
pub(crate) fn take_header(r: &mut Reader<'_>) -> Result<RawHeader> {
    let [c1, c0, field_and_mask, len] = *r.fixed::<4>(&[2, 1, 1])?;
    let (class, len) = (u16::from_be_bytes([c1, c0]), usize::from(len));
    let (experimenter, len) = if class == Header::EXPERIMENTER_CLASS {
        let Some(len) = len.checked_sub(4) else { return Err(r.invalid(ErrorCode::BMC_BAD_LEN)) };
        (r.u32()?, len)
    } else {
        (0, len)
    };
    let header = Header { class, field: field_and_mask >> 1, experimenter };
    Ok(RawHeader { header, has_mask: field_and_mask & 1 == 1, len })
}

/// Reads `ofp_match` with its padding.
pub(crate) fn take_match(r: &mut Reader<'_>) -> Result<Match> {
    let mut fields = Match::new();
    retake_match(r, &mut fields)?;
    Ok(fields)
}

/// As [`take_match`], in place of another match.
#[inline]
pub(crate) fn retake_match(r: &mut Reader<'_>, fields: &mut Match) -> Result<()> {
    let bytes = r.peek();
    let (len, payload) = match bytes.split_first_chunk() {
        Some((&[0, 1, high, low], payload)) => (usize::from(u16::from_be_bytes([high, low])), payload),
        _ => (0, bytes),
    };
    // Most are nothing but plain fields.
    let body = len.saturating_sub(4).min(payload.len());
    let done = retake_plain_fields(r, payload, body, fields);
    if done + 4 == len
        && let Some(rest) = bytes.get(len.next_multiple_of(8)..)
        && r.may_hurry()
    {
        r.enter("ofp_match");
        r.go_on_at(rest);
        return Ok(());
    }
    retake_other_match(r, done, fields)
}

/// Reads a match whose first fields, `done` bytes, are there already.
#[inline(never)]
fn retake_other_match(r: &mut Reader<'_>, done: usize, fields: &mut Match) -> Result<()> {
    r.enter("ofp_match");
    let kind = r.u16()?;
    if kind != MATCH_TYPE_OXM {
        return Err(r.invalid(ErrorCode::BMC_BAD_TYPE));
    }
    let len = r.u16()?;
    let body = r.body_len(len, 4)?;
    let mut rest = r.sub(body, "oxm_fields")?;
    rest.skip(done)?;
    add_fields(&mut rest, fields)?;
    r.skip_padding(usize::from(len).next_multiple_of(8) - usize::from(len));
    Ok(())
}

/// Reads fields up to the end, checking masks, values, duplicates and prerequisites as Open vSwitch does.
pub(crate) fn take_fields(r: &mut Reader<'_>) -> Result<Match> {
    let mut fields = Match::new();
    let done = retake_plain_fields(r, r.peek(), r.remaining(), &mut fields);
    r.skip(done)?;
    add_fields(r, &mut fields)?;
    Ok(fields)
}

/// Reads, in place of another match, the plain fields with which the first `len` of some bytes begin; returns how many bytes
/// these are.
#[inline(always)]
fn retake_plain_fields(r: &Reader<'_>, bytes: &[u8], len: usize, fields: &mut Match) -> usize {
    let (packed, done) = if r.may_hurry() { take_plain_fields(bytes, len) } else { Default::default() };
    fields.set_packed(&packed);
    done
}

/// Reads fields up to the end and adds them to those that are there.
fn add_fields(r: &mut Reader<'_>, fields: &mut Match) -> Result<()> {
    while !r.is_empty() {
        let start = *r;
        let raw = take_header(r)?;
        let mut payload = r.sub(raw.len, "oxm_field")?;
        let field = match raw.field() {
            Some(field) if !field.is_tun_metadata() => field,
            known => {
                let Header { class, field, experimenter } = raw.header;
                let unknown = WideField::Unknown { class, field, experimenter };
                let field = known.map_or(unknown, WideField::Known);
                let entry = take_wide(&mut payload, field, raw.has_mask)?;
                if fields.has_wide(field) {
                    return Err(start.invalid(ErrorCode::BMC_DUP_FIELD));
                }
                fields.set_raw(entry);
                continue;
            }
        };
        let (value, mask) = take_value(&mut payload, field, raw.has_mask)?;
        if crate::prerequisite::missing(fields, field).is_some() {
            return Err(start.invalid(ErrorCode::BMC_BAD_PREREQ));
        }
        if fields.tests_any_of(field) {
            return Err(start.invalid(ErrorCode::BMC_DUP_FIELD));
        }
        let mask = if reports_value_as_mask(field) && mask == value { field.full_mask() } else { mask };
        fields.set(field, value, mask);
    }
    Ok(())
}

fn take_wide(r: &mut Reader<'_>, field: WideField, has_mask: bool) -> Result<WideEntry> {
    let all = r.rest();
    let (value, mask) = match has_mask {
        false => (all, None),
        true if all.len() % 2 == 1 => return Err(r.invalid(ErrorCode::BMC_BAD_LEN)),
        true => {
            let (value, mask) = all.split_at(all.len() / 2);
            if value.iter().zip(mask).any(|(value, mask)| value & !mask != 0) {
                return Err(r.invalid(ErrorCode::BMC_BAD_WILDCARDS));
            }
            (value, Some(mask))
        }
    };
    Ok(WideEntry { field, value: value.to_vec(), mask: mask.map(<[u8]>::to_vec) })
}

/// Reads the value and mask of a field with a fixed width, and checks them as Open vSwitch does in a match.
fn take_value(r: &mut Reader<'_>, field: Field, has_mask: bool) -> Result<(u128, u128)> {
    // Open vSwitch knows fields by their header with the length: another length is another field.
    let (value, sent) = take_bits(r, field, has_mask, ErrorCode::BMC_BAD_FIELD)?;
    let every_bit = ones(field.bytes() as u16 * 8);
    let mask = match sent {
        None => field.full_mask(),
        Some(sent) if !field.info().maskable && sent != 0 && sent != every_bit => {
            return Err(r.invalid(ErrorCode::BMC_BAD_MASK));
        }
        Some(sent) => sent & field.full_mask(),
    };
    if !is_possible(field, value) {
        return Err(r.invalid(ErrorCode::BMC_BAD_VALUE));
    }
    Ok((value & field.full_mask(), mask))
}

/// Reads the value of a field with a fixed width and its mask, if it has one. `bad_len` is the answer to a length that
/// the field does not have.
pub(crate) fn take_bits(
    r: &mut Reader<'_>,
    field: Field,
    has_mask: bool,
    bad_len: ErrorCode,
) -> Result<(u128, Option<u128>)> {
    let bytes = field.bytes();
    if r.remaining() != bytes * if has_mask { 2 } else { 1 } {
        return Err(r.invalid(bad_len));
    }
    let value = r.number(bytes)?;
    if !has_mask {
        return Ok((value, None));
    }
    let mask = r.number(bytes)?;
    if value & !mask != 0 {
        return Err(r.invalid(ErrorCode::BMC_BAD_WILDCARDS));
    }
    Ok((value, Some(mask)))
}

/// Whether a field can have a value, which is as many bits as the field has bytes.
pub(crate) fn is_possible(field: Field, value: u128) -> bool {
    match field {
        Field::IN_PORT | Field::ACTSET_OUTPUT => !(0xff00..0xffff_ff00).contains(&value),
        // Six of its eight bits are DSCP.
        Field::NW_TOS => value & 3 == 0,
        Field::ARP_OP => value <= 0xff,
        Field::NSH_TTL => value <= 63,
        Field::NSH_MDTYPE => matches!(value, 1 | 2),
        _ if value & !field.full_mask() == 0 => true,
        // Open vSwitch takes these in all their bits and looks at the ones that count.
        _ => field == Field::TUN_ERSPAN_IDX || reports_value_as_mask(field),
    }
}

/// Whether `OFPAT_SET_FIELD` gives a field this value.
pub(crate) fn is_settable(field: Field, value: u128) -> bool {
    match field {
        // OF1.3.5 §7.2.5.8.
        Field::IN_PORT => false,
        // It does not take a tag off.
        Field::VLAN_VID if value & 0x1000 == 0 => false,
        _ => is_possible(field, value),
    }
}

/// Fields that cannot have every value of their bits.
#[inline]
const fn has_few_values(field: Field) -> bool {
    matches!(
        field,
        Field::IN_PORT
            | Field::ACTSET_OUTPUT
            | Field::NW_TOS
            | Field::ARP_OP
            | Field::NSH_TTL
            | Field::NSH_MDTYPE
    )
}

/// A header of a field where only the field matters (`move`, `load`): it may not say "masked".
pub(crate) fn take_field(r: &mut Reader<'_>) -> Result<Field> {
    let start = r.offset();
    let raw = take_header(r)?;
    match raw.field() {
        Some(field) if !raw.has_mask => Ok(field),
        _ => Err(r.invalid_at(start, ErrorCode::BMC_BAD_FIELD)),
    }
}

/// Writes the header by which Nicira's actions name a field.
pub(crate) fn put_field(w: &mut Writer<'_>, field: Field) {
    let header = field.nxm().map_or_else(|| sent_header(field), |(header, _)| header);
    put_header(w, header, false, field.bytes());
}

/// Fields of which Open vSwitch 3.1 keeps the value for the mask too, whatever mask it was given: what it reports as
/// `2/2` was an exact 2.
const fn reports_value_as_mask(field: Field) -> bool {
    matches!(
        field,
        Field::TUN_ERSPAN_VER
            | Field::TUN_ERSPAN_DIR
            | Field::TUN_ERSPAN_HWID
            | Field::TUN_GTPU_FLAGS
            | Field::TUN_GTPU_MSGTYPE
    )
}

/// Bytes that [`put_field`] writes.
pub(crate) fn field_len(field: Field) -> usize {
    match field.nxm() {
        Some((header, _)) if header.class == Header::EXPERIMENTER_CLASS => 8,
        _ => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A field under one of its headers, rarely with a length, value or mask that is not right.
    fn field() -> impl Strategy<Value = Vec<u8>> {
        let fields = Field::all().filter(|field| field.bytes() <= 16).collect::<Vec<_>>();
        let usual =
            [Field::ETH_TYPE, Field::IP_PROTO, Field::IN_PORT, Field::IPV4_DST, Field::reg(1).unwrap()];
        let field = prop_oneof![prop::sample::select(fields), prop::sample::select(usual.to_vec())];
        let number =
            || prop_oneof![Just(0), Just(6), Just(0x0800), Just(0x86dd), Just(u128::MAX), any::<u128>()];
        let wrong = prop::bool::weighted(0.05);
        (field, any::<prop::sample::Index>(), any::<bool>(), number(), number(), wrong).prop_map(
            |(field, header, has_mask, value, mask, is_wrong)| {
                let mut buffer = bytes::BytesMut::new();
                let mut w = Writer::new(&mut buffer);
                let n = field.bytes();
                let len = if has_mask { 2 * n } else { n };
                put_header(&mut w, *header.get(field.info().headers), has_mask, len);
                let keep = if is_wrong { u128::MAX } else { field.full_mask() };
                w.number(if has_mask && !is_wrong { value & mask & keep } else { value & keep }, n);
                if has_mask {
                    w.number(mask, n);
                }
                buffer.to_vec()
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn plain_fields_are_read_as_any_others(fields in prop::collection::vec(field(), 0..6), sorted: bool) {
            let mut fields = fields;
            if sorted {
                fields.sort_by_key(|bytes| take_header(&mut Reader::new(bytes, "")).unwrap().field());
            }
            let bytes = fields.concat();
            let quick = take_fields(&mut Reader::new(&bytes, "oxm_fields"));
            let mut slow = Match::new();
            let slow = add_fields(&mut Reader::new(&bytes, "oxm_fields"), &mut slow).map(|()| slow);
            prop_assert_eq!(quick, slow);
        }
    }
}
