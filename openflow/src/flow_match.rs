//! [`Match`]: what packets a flow applies to, in one canonical form.

use smallvec::SmallVec;

use crate::field::{Field, Prerequisite, ones};
use crate::wire::number;

/// A conjunction of field tests: `field & mask == value`, in canonical form.
///
/// Canonical means: sorted in wire order, one entry a field, value bits outside the mask cleared, fields with an
/// empty mask left out, and overlapping views of the same bits (`xreg0`, `vlan_tci`, `nw_tos`) replaced by the
/// fields that a switch reports back. Two matches are equal if and only if a switch treats them as one flow key.
///
/// ```
/// use openflow::{Field, Match};
/// let m = Match::new().with(Field::ETH_TYPE, 0x0806u16).with(Field::IN_PORT, 3u32);
/// assert_eq!(m.get(Field::IN_PORT), Some((3, 0xffff_ffff)));
/// ```
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Match {
    /// Of each entry the field, its value and its mask, big-endian and as wide as on the wire: a node keeps tens of
    /// thousands of matches, most of which test an Ethernet type and two addresses or registers. Such bytes compare as
    /// the entries themselves would.
    entries: SmallVec<[u8; INLINE]>,
    wide: Vec<WideEntry>,
}

struct Entry {
    field: Field,
    value: u128,
    mask: u128,
}

/// Takes one entry off the front of the packed form.
fn unpack(bytes: &mut &[u8]) -> Option<Entry> {
    let (&index, rest) = bytes.split_first()?;
    let field = Field::from_index(index)?;
    let (value, rest) = rest.split_at_checked(field.bytes())?;
    let (mask, rest) = rest.split_at_checked(value.len())?;
    *bytes = rest;
    Some(Entry { field, value: number(value), mask: number(mask) })
}

/// An entry as it stands among the others: field, value, mask.
struct Packed {
    bytes: [u8; 33],
    len: usize,
}

impl Entry {
    #[inline]
    fn packed(&self) -> Packed {
        let n = self.field.bytes();
        // All 16 bytes are copied, whatever the width: what follows the value is overwritten or left out.
        let shift = 128 - 8 * n as u32;
        let mut bytes = [0; 33];
        bytes[0] = self.field.index() as u8;
        for (at, number) in [(1, self.value), (1 + n, self.mask)] {
            if let Some(slot) = bytes.get_mut(at..at + 16) {
                slot.copy_from_slice(&(number << shift).to_be_bytes());
            }
        }
        Packed { bytes, len: 1 + 2 * n }
    }
}

/// Bytes of entries that a [`Match`] holds without an allocation.
const INLINE: usize = 32;

/// Up to 8 bytes of a value or mask as they stand on the wire, with zeros after them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wire(u64);

impl Wire {
    /// The low `n` bytes of a number, 1 to 8.
    pub(crate) const fn from_number(number: u64, n: usize) -> Wire {
        Wire((number << (64 - 8 * n)).to_be())
    }

    /// The first 8 bytes, or as many as there are.
    #[inline(always)]
    pub(crate) fn first_of(bytes: &[u8]) -> Wire {
        Wire(match bytes.first_chunk() {
            Some(chunk) => u64::from_ne_bytes(*chunk),
            None => fewer_than_8(bytes),
        })
    }

    /// The number that the first `n` bytes are, 1 to 8.
    #[inline(always)]
    pub(crate) fn number(self, n: usize) -> u64 {
        u64::from_be(self.0) >> (64 - 8 * n)
    }

    #[inline(always)]
    pub(crate) fn and(self, mask: Wire) -> Wire {
        Wire(self.0 & mask.0)
    }

    /// Whether it has no bits outside of a mask.
    #[inline(always)]
    pub(crate) fn is_within(self, mask: Wire) -> bool {
        self.0 & !mask.0 == 0
    }

    #[inline(always)]
    pub(crate) fn is_zero(self) -> bool {
        self.0 == 0
    }
}

#[inline(never)] // Only at the end of a message.
fn fewer_than_8(bytes: &[u8]) -> u64 {
    let mut all = [0; 8];
    all.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    u64::from_ne_bytes(all)
}

/// The entries of a match that are known to be in order, while it is read.
pub(crate) struct PackedMatch {
    /// More bytes than fit, since a number is written in eight, whatever its width.
    bytes: [u8; INLINE + 16],
    len: usize,
}

impl Default for PackedMatch {
    fn default() -> Self {
        PackedMatch { bytes: [0; INLINE + 16], len: 0 }
    }
}

impl PackedMatch {
    /// Adds an entry of a field of `n` bytes, at most 8, that comes after all others; `false` if there is no room.
    #[inline(always)]
    pub(crate) fn push(&mut self, field: Field, n: usize, value: Wire, mask: Wire) -> bool {
        let end = self.len + 1 + 2 * n;
        if end > INLINE {
            return false;
        }
        // What follows the value is the mask, and what follows that is overwritten or left out.
        for (at, number) in [(self.len + 1, value), (self.len + 1 + n, mask)] {
            if let Some(slot) = self.bytes.get_mut(at..at + 8) {
                slot.copy_from_slice(&number.0.to_ne_bytes());
            }
        }
        if let Some(slot) = self.bytes.get_mut(self.len) {
            *slot = field.index() as u8;
        }
        self.len = end;
        true
    }
}

impl std::ops::Deref for Packed {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&self.bytes)
    }
}

/// An entry of a [`Match`] whose value has no fixed width: a tunnel option, or a field that we don't know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WideEntry {
    /// Which field.
    pub field: WideField,
    /// Value, big-endian, bits outside the mask cleared.
    pub value: Vec<u8>,
    /// Mask of the same length; `None` is an exact match.
    pub mask: Option<Vec<u8>>,
}

/// The field of a [`WideEntry`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WideField {
    /// A `tun_metadata` field.
    Known(Field),
    /// A field that the registry does not have; kept as it came.
    Unknown {
        /// `oxm_class`.
        class: u16,
        /// `oxm_field`, 7 bits.
        field: u8,
        /// Experimenter id, for class 0xffff; otherwise 0.
        experimenter: u32,
    },
}

impl Match {
    /// Replaces all entries.
    #[inline(always)]
    pub(crate) fn set_packed(&mut self, packed: &PackedMatch) {
        let mut entries = [0; INLINE];
        if let Some(bytes) = packed.bytes.first_chunk() {
            entries = *bytes;
        }
        self.entries = SmallVec::from_buf_and_len(entries, packed.len);
        self.wide.clear();
    }

    /// The match of every packet.
    pub const fn new() -> Self {
        Match { entries: SmallVec::new_const(), wide: Vec::new() }
    }

    /// Adds (or replaces) an exact test of `field`.
    ///
    /// Bits of `value` above the field's width are ignored.
    #[must_use]
    pub fn with(self, field: Field, value: impl Into<u128>) -> Self {
        let value = value.into();
        // `vlan_vid` as an exact value means a tagged packet, as in `OFPVID_PRESENT | vid`.
        self.with_masked(field, value, field.full_mask())
    }

    /// Adds (or replaces) a test of the bits of `field` in `mask`; an empty mask removes the field.
    #[must_use]
    pub fn with_masked(mut self, field: Field, value: impl Into<u128>, mask: impl Into<u128>) -> Self {
        self.set(field, value.into(), mask.into());
        self
    }

    /// Adds (or replaces) a test of the bits of `field` in `mask`; an empty mask removes the field.
    pub fn set(&mut self, field: Field, value: u128, mask: u128) {
        if field.is_tun_metadata() {
            self.set_wide(minimal_wide(field, value, mask));
            return;
        }
        let mask = mask & field.full_mask();
        let value = value & mask;
        if let Some((first, n, width)) = split_register(field) {
            for i in 0..n {
                let shift = u32::from(width) * u32::from(n - 1 - i);
                if let Some(part) = Field::reg(first + i) {
                    self.put(part, (value >> shift) & ones(width), (mask >> shift) & ones(width));
                }
            }
            return;
        }
        match field {
            Field::NW_TOS => self.put(Field::IP_DSCP, value >> 2, mask >> 2),
            Field::IN_PORT_16 => self.put(Field::IN_PORT, u128::from(widen_port(value)), ones(32)),
            // The PCP bits have no mask of their own under OXM; a partial one can only be said as a TCI.
            Field::VLAN_TCI if matches!(mask >> 13, 0 | 7) => {
                self.put(Field::VLAN_VID, value & 0x1fff, mask & 0x1fff);
                // Without a tag there is no priority either.
                let untagged = mask & 0x1000 != 0 && value & 0x1000 == 0;
                self.put(Field::VLAN_PCP, value >> 13, if untagged { 0 } else { mask >> 13 });
            }
            // A priority code point only exists in a tag, so a switch adds "there is a tag".
            Field::VLAN_PCP => {
                self.put(field, value, mask);
                if mask != 0 && self.get(Field::VLAN_VID).is_none() {
                    self.put(Field::VLAN_VID, 0x1000, 0x1000);
                }
            }
            _ => self.put(field, value, mask),
        }
        // An Ethernet type says that the packet is Ethernet.
        if matches!(field, Field::ETH_TYPE | Field::PACKET_TYPE)
            && self.get(Field::ETH_TYPE).is_some()
            && self.exact(Field::PACKET_TYPE) == Some(0)
        {
            self.put(Field::PACKET_TYPE, 0, 0);
        }
    }

    fn put(&mut self, field: Field, value: u128, mask: u128) {
        let (start, end) = self.place(field);
        if start < end {
            self.entries.drain(start..end);
        }
        if mask != 0 {
            self.entries.insert_from_slice(start, &Entry { field, value, mask }.packed());
        }
    }

    /// Where the entry of a field stands among the packed bytes; where it would stand, if there is none.
    fn place(&self, field: Field) -> (usize, usize) {
        let mut start = 0;
        while let Some(found) = self.entries.get(start).and_then(|&index| Field::from_index(index)) {
            if found > field {
                break;
            }
            let end = start + 1 + 2 * found.bytes();
            if found == field {
                return (start, end);
            }
            start = end;
        }
        (start, start)
    }

    fn has(&self, field: Field) -> bool {
        let (start, end) = self.place(field);
        start < end
    }

    /// Whether it tests any bit of `field`, which is no tunnel option, be it under the name of another field.
    pub(crate) fn tests_any_of(&self, field: Field) -> bool {
        if let Some((first, n, _)) = split_register(field) {
            return (first..first + n).filter_map(Field::reg).any(|part| self.has(part));
        }
        let tci = |bits| self.get(Field::VLAN_TCI).is_some_and(|(_, mask)| mask & bits != 0);
        match field {
            Field::NW_TOS => self.has(Field::IP_DSCP),
            Field::IN_PORT_16 => self.has(Field::IN_PORT),
            Field::VLAN_TCI => {
                [field, Field::VLAN_VID, Field::VLAN_PCP].into_iter().any(|part| self.has(part))
            }
            Field::VLAN_VID => self.has(field) || tci(0x1fff),
            Field::VLAN_PCP => self.has(field) || tci(0xe000),
            // Every test of an Ethernet header is one of the packet type too.
            Field::PACKET_TYPE => {
                let ethernet = |field: Field| field.prerequisite() == Prerequisite::Ethernet;
                self.has(field) || self.iter().any(|(field, ..)| ethernet(field))
            }
            _ => self.has(field),
        }
    }

    pub(crate) fn has_wide(&self, field: WideField) -> bool {
        self.wide.iter().any(|entry| entry.field == field)
    }

    /// Adds (or replaces) a test of a tunnel option or unknown field.
    ///
    /// An empty mask removes the field.
    pub fn set_wide(&mut self, mut entry: WideEntry) {
        if let Some(mask) = &mut entry.mask {
            mask.resize(entry.value.len(), 0);
            for (v, m) in entry.value.iter_mut().zip(mask.iter()) {
                *v &= *m;
            }
        }
        let found = self.wide.binary_search_by(|e| e.field.cmp(&entry.field));
        let wildcard = entry.mask.as_ref().is_some_and(|m| m.iter().all(|&b| b == 0));
        match (found, wildcard) {
            (Ok(at), true) => {
                self.wide.remove(at);
            }
            (Ok(at), false) => {
                if let Some(slot) = self.wide.get_mut(at) {
                    *slot = entry;
                }
            }
            (Err(_), true) => {}
            (Err(at), false) => self.wide.insert(at, entry),
        }
    }

    /// Adds an entry as it came from the wire. Unlike [`Match::set_wide`] it keeps an empty mask, which asks that a
    /// tunnel option be there, whatever its value.
    pub fn set_raw(&mut self, entry: WideEntry) {
        self.wide.retain(|e| e.field != entry.field);
        let at = self.wide.partition_point(|e| e.field < entry.field);
        self.wide.insert(at, entry);
    }

    /// Value and mask of a field, `None` if every value matches.
    ///
    /// Ask for the canonical fields: `reg0`, not `xreg0`; `vlan_vid`, not `vlan_tci`; `ip_dscp`, not `nw_tos`.
    pub fn get(&self, field: Field) -> Option<(u128, u128)> {
        let (start, _) = self.place(field);
        let entry = unpack(&mut self.entries.get(start..)?).filter(|entry| entry.field == field)?;
        Some((entry.value, entry.mask))
    }

    /// The value of a field that must match exactly.
    pub fn exact(&self, field: Field) -> Option<u128> {
        self.get(field).filter(|&(_, mask)| mask == field.full_mask()).map(|(value, _)| value)
    }

    /// Field, value and mask of each entry up to 128 bits wide, in wire order.
    pub fn iter(&self) -> impl Iterator<Item = (Field, u128, u128)> + '_ {
        let mut rest = self.entries.as_slice();
        std::iter::from_fn(move || unpack(&mut rest)).map(|entry| (entry.field, entry.value, entry.mask))
    }

    /// Whether both test the same bits, for whatever values. Tunnel options and unknown fields must be equal.
    pub fn same_tests(&self, other: &Match) -> bool {
        let (mut ours, mut theirs) = (self.entries.as_slice(), other.entries.as_slice());
        if ours.len() != theirs.len() || self.wide != other.wide {
            return false;
        }
        while let (Some(a), Some(b)) = (unpack(&mut ours), unpack(&mut theirs)) {
            if a.field != b.field || a.mask != b.mask {
                return false;
            }
        }
        true
    }

    /// The match that tests the same bits for other values: of each field those that `value` gives. Tunnel options
    /// and unknown fields stay.
    ///
    /// What a packet must be to hit this match is so compared as a whole, or looked up in a hash table of all matches
    /// that test the same bits.
    ///
    /// ```
    /// # use openflow::{Field, Match};
    /// let subnet = Match::new().with_masked(Field::IPV4_DST, 0x0a80_0000_u32, 0xffff_0000_u32);
    /// assert_eq!(subnet.with_values(|_| 0x0a80_0203), subnet);
    /// assert_ne!(subnet.with_values(|_| 0x0a81_0203), subnet);
    /// ```
    #[must_use]
    pub fn with_values(&self, value: impl Fn(Field) -> u128) -> Match {
        let mut entries = SmallVec::with_capacity(self.entries.len());
        for (field, _, mask) in self.iter() {
            entries.extend_from_slice(&Entry { field, value: value(field) & mask, mask }.packed());
        }
        Match { entries, wide: self.wide.clone() }
    }

    /// Tunnel options and unknown fields, in order.
    pub fn wide(&self) -> impl Iterator<Item = &WideEntry> {
        self.wide.iter()
    }

    /// Whether it matches every packet.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.wide.is_empty()
    }

    /// How many fields it tests.
    pub fn len(&self) -> usize {
        self.iter().count() + self.wide.len()
    }
}

/// First 32-bit register, number of registers and width of each, of `xregN` and `xxregN`.
#[inline]
pub(crate) const fn split_register(field: Field) -> Option<(u8, u8, u16)> {
    const XREG: usize = Field::XREG0.index();
    const XXREG: usize = Field::XXREG0.index();
    match field.index() {
        n @ XREG.. if n - XREG < 8 => Some(((n - XREG) as u8 * 2, 2, 32)),
        n @ XXREG.. if n - XXREG < 4 => Some(((n - XXREG) as u8 * 4, 4, 32)),
        _ => None,
    }
}

/// A 16-bit port number of OpenFlow 1.0 in 32 bits: the reserved ones from 0xff00 move to 0xffffff00.
pub(crate) fn widen_port(port: u128) -> u32 {
    let port = (port & 0xffff) as u32;
    if port >= 0xff00 { port | 0xffff_0000 } else { port }
}

/// A tunnel option in as few bytes as its value (or mask) needs.
fn minimal_wide(field: Field, value: u128, mask: u128) -> WideEntry {
    let significant = if mask == u128::MAX { value } else { value | mask };
    let skip = (significant.leading_zeros() / 8) as usize;
    let tail = |v: u128| v.to_be_bytes().into_iter().skip(skip).collect::<Vec<u8>>();
    let mask = (mask != u128::MAX).then(|| tail(mask));
    WideEntry { field: WideField::Known(field), value: tail(value), mask }
}

impl std::fmt::Debug for Match {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut map = f.debug_map();
        for (field, value, mask) in self.iter() {
            map.entry(&field, &format_args!("{value:#x}/{mask:#x}"));
        }
        for entry in self.wide() {
            map.entry(&entry.field, &(&entry.value, &entry.mask));
        }
        map.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entries() -> impl Strategy<Value = Vec<(Field, u128, u128)>> {
        // Few values, so that two matches often share a beginning; small fields and wide ones, views and their parts.
        let fields = Field::all().filter(|field| !field.is_tun_metadata()).collect::<Vec<_>>();
        let bits = || prop_oneof![Just(0), Just(1), Just(0xff00), Just(u128::MAX), any::<u128>()];
        prop::collection::vec((prop::sample::select(fields), bits(), bits()), 0..5)
    }

    proptest! {
        #[test]
        fn packed_matches_compare_as_their_entries(a in entries(), b in entries()) {
            let of = |entries: &[(Field, u128, u128)]| {
                entries.iter().fold(Match::new(), |m, &(field, value, mask)| m.with_masked(field, value, mask))
            };
            let (m, n) = (of(&a), of(&b));
            prop_assert_eq!(m.cmp(&n), m.iter().cmp(n.iter()));
            prop_assert!(m.iter().is_sorted_by(|a, b| a.0 < b.0));
            prop_assert_eq!(m.with_values(|field| m.get(field).map_or(0, |(value, _)| value)), m.clone());
            let last = a.last().filter(|(.., mask)| *mask != 0);
            if let Some(&(field, value, mask)) = last && m.get(field).is_some() {
                let mask = mask & field.full_mask();
                prop_assert_eq!(m.get(field), Some((value & mask, mask)));
            }
        }
    }
}
