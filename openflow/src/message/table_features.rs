//! What a table can do (OF1.3.5 §7.3.5.5).

use super::property;
use crate::wire::{Reader, Result, Writer};

/// Bytes of a table's name.
const NAME_LEN: usize = 32;

/// `OFPMP_TABLE_FEATURES`: one table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableFeatures {
    /// The table.
    pub table: u8,
    /// Its name, up to 31 bytes.
    pub name: String,
    /// Bits of metadata that it can match.
    pub metadata_match: u64,
    /// Bits of metadata that it can write.
    pub metadata_write: u64,
    /// `OFPTC_*`.
    pub config: u32,
    /// Most flows in it.
    pub max_entries: u32,
    /// The rest.
    pub properties: Vec<TableProperty>,
}

/// A property of a table: its type (`OFPTFPT_*`; odd ones are for the table-miss flow) and the list that it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableProperty {
    /// Type.
    pub kind: u16,
    /// List.
    pub list: TableList,
}

/// The list of a [`TableProperty`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableList {
    /// Instructions (types 0, 1) or actions (types 4 to 7): type, and for experimenters what follows it.
    Ids(Vec<(u16, Vec<u8>)>),
    /// Next tables (types 2, 3).
    Tables(Vec<u8>),
    /// Fields (types 8, 10, 12 to 15): OXM headers, with the experimenter id where the class is 0xffff.
    Fields(Vec<(u32, Option<u32>)>),
    /// Any other type.
    Unknown(Vec<u8>),
}

impl TableFeatures {
    pub(super) fn put(&self, w: &mut Writer<'_>) {
        let start = w.len();
        w.u16(0);
        w.u8(self.table);
        w.zeros(5);
        w.name(&self.name, NAME_LEN);
        w.u64(self.metadata_match);
        w.u64(self.metadata_write);
        w.u32(self.config);
        w.u32(self.max_entries);
        for property in &self.properties {
            property::put(w, property.kind, |w| property.list.put(w));
        }
        w.patch_len(start, start, "ofp_table_features");
    }

    pub(super) fn take(r: &mut Reader<'_>) -> Result<Self> {
        r.enter("ofp_table_features");
        let len = r.u16()?;
        let mut r = r.sub(r.body_len(len, 2)?, "ofp_table_features")?;
        let table = r.u8()?;
        r.skip(5)?;
        let name = r.name(NAME_LEN)?;
        let (metadata_match, metadata_write) = (r.u64()?, r.u64()?);
        let (config, max_entries) = (r.u32()?, r.u32()?);
        let mut properties = Vec::new();
        while !r.is_empty() {
            let (kind, mut value) = property::take(&mut r)?;
            properties.push(TableProperty { kind, list: TableList::take(kind, &mut value)? });
        }
        Ok(TableFeatures { table, name, metadata_match, metadata_write, config, max_entries, properties })
    }
}

impl TableList {
    fn put(&self, w: &mut Writer<'_>) {
        match self {
            TableList::Ids(ids) => {
                for (kind, rest) in ids {
                    let start = w.len();
                    w.u16(*kind);
                    w.u16(0);
                    w.bytes(rest);
                    w.patch_len(start + 2, start, "ofp_table_feature_prop");
                }
            }
            TableList::Tables(tables) => w.bytes(tables),
            TableList::Fields(fields) => {
                for (header, experimenter) in fields {
                    w.u32(*header);
                    if let Some(id) = experimenter {
                        w.u32(*id);
                    }
                }
            }
            TableList::Unknown(bytes) => w.bytes(bytes),
        }
    }

    fn take(kind: u16, r: &mut Reader<'_>) -> Result<Self> {
        Ok(match kind {
            0 | 1 | 4..=7 => {
                let mut ids = Vec::new();
                while !r.is_empty() {
                    let (id, len) = (r.u16()?, r.u16()?);
                    let rest = r.bytes(r.body_len(len, 4)?)?;
                    ids.push((id, rest.to_vec()));
                }
                TableList::Ids(ids)
            }
            2 | 3 => TableList::Tables(r.rest().to_vec()),
            8 | 10 | 12..=15 => {
                let mut fields = Vec::new();
                while !r.is_empty() {
                    let header = r.u32()?;
                    let experimenter = if header >> 16 == 0xffff { Some(r.u32()?) } else { None };
                    fields.push((header, experimenter));
                }
                TableList::Fields(fields)
            }
            _ => TableList::Unknown(r.rest().to_vec()),
        })
    }
}
