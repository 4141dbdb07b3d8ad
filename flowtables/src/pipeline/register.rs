//! Which bits of which register hold what.
//!
//! Two uses of the same bits do not compile: the check at the end of the file runs in the compiler.
//!
//! ```
//! use flowtables::pipeline::register::{Register, disjoint};
//!
//! const LOW: Register = Register::new("low half", 3, 0, 16);
//! const HIGH: Register = Register::new("high half", 3, 16, 16);
//! const _: () = assert!(disjoint(&[LOW, HIGH]));
//! ```
//!
//! The same with one bit in common:
//!
//! ```compile_fail,E0080
//! use flowtables::pipeline::register::{Register, disjoint};
//!
//! const LOW: Register = Register::new("low half", 3, 0, 17);
//! const HIGH: Register = Register::new("high half", 3, 16, 16);
//! const _: () = assert!(disjoint(&[LOW, HIGH]));
//! ```
//!
//! Nor does a register that Open vSwitch does not have:
//!
//! ```compile_fail,E0080
//! use flowtables::pipeline::register::Register;
//!
//! const NONE: Register = Register::new("nothing", 16, 0, 32);
//! ```

use openflow::{Action, Field, Match, Subfield};

/// A named range of bits in one of the packet registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register {
    /// What the bits hold, in words.
    pub holds: &'static str,
    field: Field,
    number: u8,
    first_bit: u8,
    bits: u8,
}

/// VNID of the packet's source.
pub const SOURCE_VNID: Register = Register::new("source VNID", 0, 0, 32);
/// VNID of the destination pod.
pub const DESTINATION_VNID: Register = Register::new("destination VNID", 1, 0, 32);
/// OpenFlow port of the destination pod.
pub const DESTINATION_PORT: Register = Register::new("destination port", 2, 0, 32);
/// How many parts of the list of nodes a multicast packet has been sent to.
pub const MULTICAST_PART: Register = Register::new("parts of the multicast list done", 3, 0, 16);

/// Every register in use.
pub const ALL: [Register; 4] = [SOURCE_VNID, DESTINATION_VNID, DESTINATION_PORT, MULTICAST_PART];

const FIELDS: [Field; 16] = [
    Field::REG0,
    Field::REG1,
    Field::REG2,
    Field::REG3,
    Field::REG4,
    Field::REG5,
    Field::REG6,
    Field::REG7,
    Field::REG8,
    Field::REG9,
    Field::REG10,
    Field::REG11,
    Field::REG12,
    Field::REG13,
    Field::REG14,
    Field::REG15,
];

impl Register {
    /// `bits` bits of `reg<number>` from `first_bit` on.
    ///
    /// # Panics
    /// When Open vSwitch has no such bits. In a constant that is an error of the compiler.
    #[expect(clippy::indexing_slicing, reason = "a number that is no register does not compile")]
    #[must_use]
    pub const fn new(holds: &'static str, number: u8, first_bit: u8, bits: u8) -> Self {
        assert!(number < 16, "Open vSwitch has the registers 0 to 15");
        assert!(bits > 0 && first_bit + bits <= 32, "a register has 32 bits");
        Self { holds, field: FIELDS[number as usize], number, first_bit, bits }
    }

    const fn overlaps(&self, other: &Self) -> bool {
        self.number == other.number
            && self.first_bit < other.first_bit + other.bits
            && other.first_bit < self.first_bit + self.bits
    }

    /// The register as a match field.
    #[must_use]
    pub const fn field(&self) -> Field {
        self.field
    }

    /// The bits as `move` and `load` name them.
    #[must_use]
    pub fn subfield(&self) -> Subfield {
        Subfield { field: self.field(), ofs: self.first_bit.into(), n_bits: self.bits.into() }
    }

    /// The action that writes `value`.
    #[must_use]
    pub fn load(&self, value: u32) -> Action {
        Action::Load { dst: self.subfield(), value: value.into() }
    }

    /// Adds to a match that the bits hold `value`.
    #[must_use]
    pub fn matches(&self, fields: Match, value: u32) -> Match {
        let mask = (u64::MAX >> (64 - u32::from(self.bits))) << self.first_bit;
        fields.with_masked(self.field(), u64::from(value) << self.first_bit, mask)
    }
}

/// Whether no two of them share a bit.
#[expect(clippy::indexing_slicing, reason = "runs in the compiler, where iterators do not")]
#[must_use]
pub const fn disjoint(registers: &[Register]) -> bool {
    let mut i = 0;
    while i < registers.len() {
        let mut j = i + 1;
        while j < registers.len() {
            if registers[i].overlaps(&registers[j]) {
                return false;
            }
            j += 1;
        }
        i += 1;
    }
    true
}

const _: () = assert!(disjoint(&ALL), "two registers share bits");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlap_is_seen() {
        let low = Register::new("low half", 3, 0, 16);
        let high = Register::new("high half", 3, 16, 16);
        let middle = Register::new("middle", 3, 8, 16);
        assert!(disjoint(&[low, high]));
        assert!(!disjoint(&[low, middle]));
        assert!(!disjoint(&[middle, high]));
    }
}
