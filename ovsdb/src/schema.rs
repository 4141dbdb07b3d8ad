//! A database's schema (RFC 7047 §3.2): its tables, their columns, and what a column may hold.

mod check;
mod parse;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::value::{Atom, Datum, Uuid};

pub use check::ValueError;

/// The schema of one database, as `get_schema` answers it (RFC 7047 §4.1.2).
#[derive(Debug, Clone, PartialEq)]
pub struct DatabaseSchema {
    /// The database's name, e.g. `Open_vSwitch`.
    pub name: String,
    /// The schema's version, three numbers with dots.
    pub version: String,
    /// The implementation's checksum, if it has one.
    pub cksum: Option<String>,
    /// The tables by name.
    pub tables: BTreeMap<String, TableSchema>,
}

/// One table.
#[derive(Debug, Clone, PartialEq)]
pub struct TableSchema {
    /// The columns by name, without the implicit `_uuid` and `_version`.
    pub columns: BTreeMap<String, ColumnSchema>,
    /// The largest number of rows, if limited.
    pub max_rows: Option<u64>,
    /// Whether rows stay without a strong reference to them; other rows are garbage-collected.
    pub is_root: bool,
    /// The sets of columns whose values no two rows may share.
    pub indexes: Vec<Vec<String>>,
}

/// One column.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnSchema {
    /// What it may hold.
    pub column_type: ColumnType,
    /// Whether its content is lost when the server restarts.
    pub ephemeral: bool,
    /// Whether it may change after the row's insertion.
    pub mutable: bool,
}

/// What a column may hold: scalar, optional scalar, set or map (RFC 7047 §3.2 `<type>`).
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnType {
    /// The type of the scalar, of the set's elements, or of the map's keys.
    pub key: BaseType,
    /// The type of the map's values; `None` if it is not a map.
    pub value: Option<BaseType>,
    /// The fewest elements: 0 or 1.
    pub min: u32,
    /// The most elements; `None` is unlimited.
    pub max: Option<u32>,
}

/// The type of atoms and their constraints (RFC 7047 §3.2 `<base-type>`).
#[derive(Debug, Clone, PartialEq)]
pub struct BaseType {
    /// The kind of atom.
    pub atomic: AtomicType,
    /// The only values allowed, sorted, if there is such a list.
    pub choices: Option<Vec<Atom>>,
    /// Bounds of an integer, inclusive.
    pub integer_range: (Option<i64>, Option<i64>),
    /// Bounds of a real, inclusive.
    pub real_range: (Option<f64>, Option<f64>),
    /// Bounds of a string's length in characters, inclusive.
    pub length_range: (Option<u64>, Option<u64>),
    /// The table whose rows a UUID refers to, and how.
    pub reference: Option<Reference>,
}

/// That a UUID refers to a row of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The table.
    pub table: String,
    /// A strong reference keeps its row alive; a weak one vanishes with its row.
    pub strong: bool,
}

/// The kinds of atoms (RFC 7047 §3.2 `<atomic-type>`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AtomicType {
    /// 64-bit signed integers.
    Integer,
    /// Double-precision reals.
    Real,
    /// Booleans.
    Boolean,
    /// Strings.
    String,
    /// UUIDs.
    Uuid,
}

impl AtomicType {
    /// The name that schemas use.
    pub fn name(self) -> &'static str {
        match self {
            AtomicType::Integer => "integer",
            AtomicType::Real => "real",
            AtomicType::Boolean => "boolean",
            AtomicType::String => "string",
            AtomicType::Uuid => "uuid",
        }
    }

    /// The value of a column that an `insert` does not mention (RFC 7047 §5.2.1).
    pub fn default_atom(self) -> Atom {
        match self {
            AtomicType::Integer => Atom::Integer(0),
            AtomicType::Real => Atom::Real(0.0),
            AtomicType::Boolean => Atom::Boolean(false),
            AtomicType::String => Atom::String("".into()),
            AtomicType::Uuid => Atom::Uuid(Uuid::ZERO),
        }
    }
}

impl BaseType {
    /// A type without constraints.
    pub fn plain(atomic: AtomicType) -> BaseType {
        BaseType {
            atomic,
            choices: None,
            integer_range: (None, None),
            real_range: (None, None),
            length_range: (None, None),
            reference: None,
        }
    }
}

impl ColumnType {
    /// A required scalar without constraints.
    pub fn scalar(atomic: AtomicType) -> ColumnType {
        ColumnType { key: BaseType::plain(atomic), value: None, min: 1, max: Some(1) }
    }

    /// Whether it is a map.
    pub fn is_map(&self) -> bool {
        self.value.is_some()
    }

    /// Whether it may hold at most one element: changes then replace it instead of adding and removing elements
    /// (ovsdb-server(7), "update2").
    pub fn holds_one(&self) -> bool {
        self.max == Some(1)
    }

    /// The value of a column that an `insert` does not mention (RFC 7047 §5.2.1).
    pub fn default_datum(&self) -> Datum {
        match (self.min, &self.value) {
            (0, None) => Datum::empty_set(),
            (0, Some(_)) => Datum::empty_map(),
            (_, None) => Datum::Atom(self.key.atomic.default_atom()),
            (_, Some(value)) => Datum::map([(self.key.atomic.default_atom(), value.atomic.default_atom())]),
        }
    }
}

impl DatabaseSchema {
    /// Whether a table has a column (the implicit ones not counted).
    pub fn has_column(&self, table: &str, column: &str) -> bool {
        self.tables.get(table).is_some_and(|table| table.columns.contains_key(column))
    }

    /// A table's column, or the implicit `_uuid` and `_version`.
    pub fn column_type(&self, table: &str, column: &str) -> Option<ColumnType> {
        let table = self.tables.get(table)?;
        match column {
            "_uuid" | "_version" => Some(ColumnType::scalar(AtomicType::Uuid)),
            _ => table.columns.get(column).map(|column| column.column_type.clone()),
        }
    }
}
