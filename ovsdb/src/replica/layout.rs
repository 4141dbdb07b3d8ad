//! Which columns of which tables a replica holds, and where.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::monitor::Monitored;
use crate::schema::{ColumnType, DatabaseSchema};
use crate::value::{Datum, Strings};

/// The monitored part of a schema.
#[derive(Debug, Default)]
pub(crate) struct Layout {
    tables: Vec<Arc<TableLayout>>,
    /// What the rows have in common; locked while an update is read.
    strings: Mutex<Strings>,
}

impl PartialEq for Layout {
    fn eq(&self, other: &Self) -> bool {
        self.tables == other.tables
    }
}

/// The monitored columns of a table, in the order of their names.
#[derive(Debug, PartialEq)]
pub(crate) struct TableLayout {
    pub(crate) name: Box<str>,
    columns: Box<[(Box<str>, ColumnType)]>,
    /// A row in which every column has its default: servers leave defaults out.
    pub(super) defaults: Box<[Datum]>,
    /// Positions of the columns that have an index of their own.
    pub(super) indexed: Box<[usize]>,
    /// Positions of the columns that refer to rows.
    references: Box<[usize]>,
}

impl Layout {
    /// What is wanted and exists in the schema.
    pub(crate) fn new(schema: &DatabaseSchema, monitored: &Monitored) -> Layout {
        let tables = schema.tables.iter().filter_map(|(name, table)| {
            let wanted = monitored.wanted(name)?;
            let columns: BTreeMap<&String, &ColumnType> = table
                .columns
                .iter()
                .filter(|(column, _)| wanted.wants(column))
                .map(|(column, schema)| (column, &schema.column_type))
                .collect();
            let position = |wanted: &String| columns.keys().position(|column| *column == wanted);
            let single = |index: &Vec<String>| match index.as_slice() {
                [column] => position(column),
                _ => None,
            };
            let mut indexed: Vec<usize> = table.indexes.iter().filter_map(single).collect();
            indexed.extend(wanted.indexes().iter().filter_map(position));
            indexed.sort_unstable();
            indexed.dedup();
            let refers = |column: &ColumnType| {
                column.key.reference.is_some()
                    || column.value.as_ref().is_some_and(|value| value.reference.is_some())
            };
            Some(Arc::new(TableLayout {
                name: name.as_str().into(),
                defaults: columns.values().map(|column| column.default_datum()).collect(),
                indexed: indexed.into(),
                references: columns
                    .values()
                    .enumerate()
                    .filter_map(|(at, column)| refers(column).then_some(at))
                    .collect(),
                columns: columns
                    .into_iter()
                    .map(|(name, column)| (name.as_str().into(), column.clone()))
                    .collect(),
            }))
        });
        Layout { tables: tables.collect(), strings: Mutex::default() }
    }

    pub(super) fn strings(&self) -> MutexGuard<'_, Strings> {
        self.strings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn tables(&self) -> &[Arc<TableLayout>] {
        &self.tables
    }

    pub(crate) fn position(&self, table: &str) -> Option<usize> {
        self.tables.binary_search_by(|candidate| (*candidate.name).cmp(table)).ok()
    }
}

impl TableLayout {
    pub(crate) fn position(&self, column: &str) -> Option<usize> {
        self.columns.binary_search_by(|(candidate, _)| (**candidate).cmp(column)).ok()
    }

    pub(crate) fn column(&self, at: usize) -> Option<(&str, &ColumnType)> {
        self.columns.get(at).map(|(name, column)| (&**name, column))
    }

    pub(crate) fn column_names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|(name, _)| &**name)
    }

    pub(super) fn reference_columns(&self) -> impl Iterator<Item = usize> + '_ {
        self.references.iter().copied()
    }

    /// The table that a column's UUIDs refer to.
    pub(super) fn reference(&self, column: &str) -> Option<&str> {
        let (_, column) = self.column(self.position(column)?)?;
        column
            .key
            .reference
            .as_ref()
            .or_else(|| column.value.as_ref()?.reference.as_ref())
            .map(|reference| reference.table.as_str())
    }
}
