//! A packet as the switch sees it: header fields, registers, metadata.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use openflow::{Field, Flow, Match, OfPort, Subfield};

use crate::pipeline::register::Register;

/// Field values; a field that was never set is 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packet {
    values: BTreeMap<Field, u128>,
}

impl From<&Match> for Packet {
    /// The packet that `ofproto/trace` makes of a flow: what is wildcarded is 0.
    fn from(fields: &Match) -> Self {
        Self { values: fields.iter().map(|(field, value, _)| (field, value)).collect() }
    }
}

impl Packet {
    /// The value of a field.
    #[must_use]
    pub fn get(&self, field: Field) -> u128 {
        self.values.get(&field).copied().unwrap_or(0)
    }

    /// The value of a named range of register bits.
    #[must_use]
    pub fn register(&self, register: &Register) -> u32 {
        u32::try_from(self.read(register.subfield())).unwrap_or(u32::MAX)
    }

    /// A field that holds an IPv4 address.
    #[must_use]
    pub fn ipv4(&self, field: Field) -> Ipv4Addr {
        Ipv4Addr::from(self.low_32(field))
    }

    /// The port the packet came in through.
    #[must_use]
    pub fn in_port(&self) -> OfPort {
        OfPort(self.low_32(Field::IN_PORT))
    }

    fn low_32(&self, field: Field) -> u32 {
        (self.get(field) & u128::from(u32::MAX)) as u32
    }

    pub(super) fn set(&mut self, field: Field, value: u128) {
        self.values.insert(field, value);
    }

    pub(super) fn read(&self, bits: Subfield) -> u128 {
        self.get(bits.field) >> bits.ofs & ones(bits.n_bits)
    }

    pub(super) fn write(&mut self, bits: Subfield, value: u128) {
        let mask = ones(bits.n_bits) << bits.ofs;
        let rest = self.get(bits.field) & !mask;
        self.set(bits.field, rest | (value << bits.ofs & mask));
    }

    pub(super) fn hits(&self, flow: &Flow) -> bool {
        flow.fields.iter().all(|(field, value, mask)| self.get(field) & mask == value)
    }
}

fn ones(bits: u16) -> u128 {
    if bits >= 128 { u128::MAX } else { (1 << bits) - 1 }
}
