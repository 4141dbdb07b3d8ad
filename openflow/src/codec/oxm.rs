//! OXM and NXM: fields of a match, headers and values (OF1.3.5 §7.2.3).

use crate::field::{Field, Header, ones};
use crate::flow_match::{Match, WideEntry, WideField};
use crate::message::ErrorCode;
use crate::wire::{Reader, Reason, Result, Writer};

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
    let bytes = usize::from(field.info().bytes);
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
    pub(crate) fn field(&self) -> Option<Field> {
        Field::by_header(self.header.class, self.header.field, self.header.experimenter)
    }
}

/// Reads a header, with the experimenter id where there is one.
pub(crate) fn take_header(r: &mut Reader<'_>) -> Result<RawHeader> {
    let class = r.u16()?;
    let field_and_mask = r.u8()?;
    let len = usize::from(r.u8()?);
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
    r.enter("ofp_match");
    let kind = r.u16()?;
    if kind != MATCH_TYPE_OXM {
        return Err(r.invalid(ErrorCode::BMC_BAD_TYPE));
    }
    let len = r.u16()?;
    let body = r.body_len(len, 4)?;
    let mut fields = r.sub(body, "oxm_fields")?;
    let fields = take_fields(&mut fields)?;
    r.skip_padding(usize::from(len).next_multiple_of(8) - usize::from(len));
    Ok(fields)
}

/// Reads fields up to the end, checking masks, values, duplicates and prerequisites as Open vSwitch does.
pub(crate) fn take_fields(r: &mut Reader<'_>) -> Result<Match> {
    let mut fields = Match::new();
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
        let (value, mask) = take_value(&mut payload, field, raw.has_mask, ErrorCode::BMC_BAD_VALUE)?;
        if crate::prerequisite::missing(&fields, field).is_some() {
            return Err(start.invalid(ErrorCode::BMC_BAD_PREREQ));
        }
        if fields.tests_any_of(field) {
            return Err(start.invalid(ErrorCode::BMC_DUP_FIELD));
        }
        let mask = if reports_value_as_mask(field) && mask == value { field.full_mask() } else { mask };
        fields.set(field, value, mask);
    }
    Ok(fields)
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

/// Reads the value and mask of a field with a fixed width, and checks them as Open vSwitch does. `bad_value` is the
/// answer to a value that the field cannot have.
pub(crate) fn take_value(
    r: &mut Reader<'_>,
    field: Field,
    has_mask: bool,
    bad_value: ErrorCode,
) -> Result<(u128, u128)> {
    let info = field.info();
    let bytes = usize::from(info.bytes);
    let expected = bytes * if has_mask { 2 } else { 1 };
    if r.remaining() != expected {
        // Open vSwitch knows fields by their header with the length: another length is another field.
        return Err(r.invalid(ErrorCode::BMC_BAD_FIELD));
    }
    let value = r.number(bytes)?;
    let mut mask = field.full_mask();
    if has_mask {
        let every_bit = ones(u16::from(info.bytes) * 8);
        let sent = r.number(bytes)?;
        if value & !sent != 0 {
            return Err(r.invalid(ErrorCode::BMC_BAD_WILDCARDS));
        }
        if !info.maskable && sent != 0 && sent != every_bit {
            return Err(r.invalid(ErrorCode::BMC_BAD_MASK));
        }
        mask &= sent;
    }
    if !is_possible(field, value) {
        return Err(r.invalid(bad_value));
    }
    Ok((value & field.full_mask(), mask))
}

/// Whether a field can have a value, which is as many bits as the field has bytes.
fn is_possible(field: Field, value: u128) -> bool {
    match field {
        Field::IN_PORT | Field::ACTSET_OUTPUT => !(0xff00..0xffff_ff00).contains(&value),
        // Six of its eight bits are DSCP.
        Field::NW_TOS => value & 3 == 0,
        Field::ARP_OP => value <= 0xff,
        Field::NSH_TTL => value <= 63,
        Field::NSH_MDTYPE => matches!(value, 1 | 2),
        // Open vSwitch takes these in all their bits and looks at the ones that count.
        Field::TUN_ERSPAN_IDX => true,
        _ if reports_value_as_mask(field) => true,
        _ => value & !field.full_mask() == 0,
    }
}

/// A header of a field where only the field matters (`move`, `load`): it may not say "masked".
pub(crate) fn take_field(r: &mut Reader<'_>) -> Result<Field> {
    let start = *r;
    let raw = take_header(r)?;
    match raw.field() {
        Some(field) if !raw.has_mask => Ok(field),
        _ => Err(start.error(Reason::Invalid(ErrorCode::BMC_BAD_FIELD))),
    }
}

/// Writes the header by which Nicira's actions name a field.
pub(crate) fn put_field(w: &mut Writer<'_>, field: Field) {
    let header = field.nxm().map_or_else(|| sent_header(field), |(header, _)| header);
    put_header(w, header, false, usize::from(field.info().bytes));
}

/// Fields of which Open vSwitch 3.1 keeps the value for the mask too, whatever mask it was given: what it reports as
/// `2/2` was an exact 2.
fn reports_value_as_mask(field: Field) -> bool {
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
