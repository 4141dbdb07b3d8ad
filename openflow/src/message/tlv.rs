//! Which Geneve options the `tun_metadata` fields stand for (`NXT_TLV_TABLE_*`).

use super::ErrorCode;
use crate::wire::{Reader, Result, Writer};

/// An option and the field that stands for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TlvMap {
    /// Class of the option.
    pub class: u16,
    /// Type within the class.
    pub kind: u8,
    /// Bytes of the option: a multiple of 4 up to 124.
    pub len: u8,
    /// Number of the `tun_metadata` field, 0 to 63.
    pub index: u16,
}

/// `NXTTMC_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TlvTableCommand {
    /// Add these.
    Add,
    /// Delete these.
    Delete,
    /// Delete all.
    Clear,
}

/// `NXT_TLV_TABLE_MOD`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlvTableMod {
    /// What to do.
    pub command: TlvTableCommand,
    /// With which.
    pub maps: Vec<TlvMap>,
}

/// `NXT_TLV_TABLE_REPLY`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlvTable {
    /// Bytes of options that the switch can hold for a packet.
    pub max_option_space: u32,
    /// How many fields there can be.
    pub max_fields: u16,
    /// What is mapped.
    pub maps: Vec<TlvMap>,
}

fn put_maps(w: &mut Writer<'_>, maps: &[TlvMap]) {
    for map in maps {
        w.u16(map.class);
        w.u8(map.kind);
        w.u8(map.len);
        w.u16(map.index);
        w.zeros(2);
    }
}

fn take_maps(r: &mut Reader<'_>) -> Result<Vec<TlvMap>> {
    let mut maps = Vec::new();
    while !r.is_empty() {
        r.enter("nx_tlv_map");
        let map = TlvMap { class: r.u16()?, kind: r.u8()?, len: r.u8()?, index: r.u16()? };
        r.skip(2)?;
        maps.push(map);
    }
    Ok(maps)
}

impl TlvTableMod {
    pub(super) fn put(&self, w: &mut Writer<'_>) {
        w.u16(match self.command {
            TlvTableCommand::Add => 0,
            TlvTableCommand::Delete => 1,
            TlvTableCommand::Clear => 2,
        });
        w.zeros(6);
        put_maps(w, &self.maps);
    }

    pub(super) fn take(r: &mut Reader<'_>) -> Result<Self> {
        let command = match r.u16()? {
            0 => TlvTableCommand::Add,
            1 => TlvTableCommand::Delete,
            2 => TlvTableCommand::Clear,
            _ => return Err(r.invalid(ErrorCode::NXTTMFC_BAD_COMMAND)),
        };
        r.skip(6)?;
        Ok(TlvTableMod { command, maps: take_maps(r)? })
    }
}

impl TlvTable {
    pub(super) fn put(&self, w: &mut Writer<'_>) {
        w.u32(self.max_option_space);
        w.u16(self.max_fields);
        w.zeros(10);
        put_maps(w, &self.maps);
    }

    pub(super) fn take(r: &mut Reader<'_>) -> Result<Self> {
        let (max_option_space, max_fields) = (r.u32()?, r.u16()?);
        r.skip(10)?;
        Ok(TlvTable { max_option_space, max_fields, maps: take_maps(r)? })
    }
}
