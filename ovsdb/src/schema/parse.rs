//! Schemas from JSON (RFC 7047 §3.2).

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{AtomicType, BaseType, ColumnSchema, ColumnType, DatabaseSchema, Reference, TableSchema};
use crate::value::{Atom, Datum};

#[derive(Deserialize)]
struct RawDatabase {
    name: String,
    version: String,
    #[serde(default)]
    cksum: Option<String>,
    tables: BTreeMap<String, RawTable>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawTable {
    columns: BTreeMap<String, RawColumn>,
    #[serde(default)]
    max_rows: Option<u64>,
    // Schemas written before isRoot existed mean every table to be a root (RFC 7047 §3.2); ovsdb-server
    // resolves that itself and always answers with the attribute where it matters.
    #[serde(default)]
    is_root: bool,
    #[serde(default)]
    indexes: Vec<Vec<String>>,
}

#[derive(Deserialize)]
struct RawColumn {
    #[serde(rename = "type")]
    column_type: RawType,
    #[serde(default)]
    ephemeral: bool,
    #[serde(default = "yes")]
    mutable: bool,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawType {
    Atomic(RawAtomic),
    Full {
        key: RawBase,
        #[serde(default)]
        value: Option<RawBase>,
        #[serde(default)]
        min: Option<u32>,
        #[serde(default)]
        max: Option<RawMax>,
    },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawMax {
    Count(u32),
    Word(Unlimited),
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Unlimited {
    Unlimited,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawBase {
    Atomic(RawAtomic),
    Full(Box<RawConstraints>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawConstraints {
    #[serde(rename = "type")]
    atomic: RawAtomic,
    #[serde(default, rename = "enum")]
    choices: Option<Datum>,
    #[serde(default)]
    min_integer: Option<i64>,
    #[serde(default)]
    max_integer: Option<i64>,
    #[serde(default)]
    min_real: Option<f64>,
    #[serde(default)]
    max_real: Option<f64>,
    #[serde(default)]
    min_length: Option<u64>,
    #[serde(default)]
    max_length: Option<u64>,
    #[serde(default)]
    ref_table: Option<String>,
    #[serde(default)]
    ref_type: Option<RawRefType>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum RawAtomic {
    Integer,
    Real,
    Boolean,
    String,
    Uuid,
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum RawRefType {
    Strong,
    Weak,
}

impl From<RawAtomic> for AtomicType {
    fn from(raw: RawAtomic) -> Self {
        match raw {
            RawAtomic::Integer => AtomicType::Integer,
            RawAtomic::Real => AtomicType::Real,
            RawAtomic::Boolean => AtomicType::Boolean,
            RawAtomic::String => AtomicType::String,
            RawAtomic::Uuid => AtomicType::Uuid,
        }
    }
}

impl From<RawBase> for BaseType {
    fn from(raw: RawBase) -> Self {
        let raw = match raw {
            RawBase::Atomic(atomic) => return BaseType::plain(atomic.into()),
            RawBase::Full(raw) => *raw,
        };
        let real = |bound: Option<f64>| bound.filter(|bound| !bound.is_nan());
        BaseType {
            atomic: raw.atomic.into(),
            choices: raw.choices.map(|choices| choices.atoms().cloned().collect::<Vec<Atom>>()),
            integer_range: (raw.min_integer, raw.max_integer),
            real_range: (real(raw.min_real), real(raw.max_real)),
            length_range: (raw.min_length, raw.max_length),
            reference: raw
                .ref_table
                .map(|table| Reference { table, strong: raw.ref_type != Some(RawRefType::Weak) }),
        }
    }
}

impl From<RawType> for ColumnType {
    fn from(raw: RawType) -> Self {
        match raw {
            RawType::Atomic(atomic) => ColumnType::scalar(atomic.into()),
            RawType::Full { key, value, min, max } => ColumnType {
                key: key.into(),
                value: value.map(Into::into),
                min: min.unwrap_or(1),
                max: match max {
                    None => Some(1),
                    Some(RawMax::Count(count)) => Some(count),
                    Some(RawMax::Word(Unlimited::Unlimited)) => None,
                },
            },
        }
    }
}

impl<'de> Deserialize<'de> for DatabaseSchema {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = RawDatabase::deserialize(deserializer)?;
        let column = |(name, column): (String, RawColumn)| {
            let column_type = column.column_type.into();
            (name, ColumnSchema { column_type, ephemeral: column.ephemeral, mutable: column.mutable })
        };
        let table = |(name, table): (String, RawTable)| {
            let columns = table.columns.into_iter().map(column).collect();
            let RawTable { max_rows, is_root, indexes, .. } = table;
            (name, TableSchema { columns, max_rows, is_root, indexes })
        };
        Ok(DatabaseSchema {
            name: raw.name,
            version: raw.version,
            cksum: raw.cksum,
            tables: raw.tables.into_iter().map(table).collect(),
        })
    }
}
