//! Tables and rows of a replica.

use std::fmt;
use std::sync::Arc;

use super::layout::TableLayout;
use super::sharded::Sharded;
use crate::schema::ColumnType;
use crate::value::{Datum, Uuid};

/// One row: the values of its table's monitored columns.
#[derive(Clone, PartialEq)]
pub struct Row {
    layout: Arc<TableLayout>,
    uuid: Uuid,
    values: Box<[Datum]>,
}

impl Row {
    pub(super) fn new(layout: Arc<TableLayout>, uuid: Uuid, values: Box<[Datum]>) -> Row {
        Row { layout, uuid, values }
    }

    /// Its `_uuid`.
    pub fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// The name of its table.
    pub fn table(&self) -> &str {
        &self.layout.name
    }

    /// A column's value; `None` if the column is not monitored or the server's schema lacks it.
    pub fn get(&self, column: &str) -> Option<&Datum> {
        self.at(self.layout.position(column)?)
    }

    /// A column's only atom, if that is a string.
    pub fn str(&self, column: &str) -> Option<&str> {
        self.get(column)?.as_str()
    }

    /// A column's only atom, if that is an integer.
    pub fn i64(&self, column: &str) -> Option<i64> {
        self.get(column)?.as_i64()
    }

    /// A column's only atom, if that is a boolean.
    pub fn bool(&self, column: &str) -> Option<bool> {
        self.get(column)?.as_bool()
    }

    /// The string that a column's map has under a key.
    pub fn map_get(&self, column: &str, key: &str) -> Option<&str> {
        self.get(column)?.as_map_get(key)
    }

    /// The monitored columns in the order of their names.
    pub fn columns(&self) -> impl Iterator<Item = (&str, &Datum)> {
        self.layout.column_names().zip(&self.values)
    }

    pub(super) fn layout(&self) -> &Arc<TableLayout> {
        &self.layout
    }

    pub(super) fn at(&self, position: usize) -> Option<&Datum> {
        self.values.get(position)
    }

    pub(super) fn values(&self) -> &[Datum] {
        &self.values
    }
}

/// Only what differs from the column's default, so that a failed assertion shows a row readably.
impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {{", self.layout.name, self.uuid)?;
        for ((name, value), default) in self.columns().zip(&self.layout.defaults) {
            if value != default {
                write!(f, " {name}: {value}")?;
            }
        }
        f.write_str(" }")
    }
}

/// One table of a replica.
#[derive(Debug, Clone)]
pub struct Table {
    layout: Arc<TableLayout>,
    rows: Sharded<Uuid, Arc<Row>>,
    /// One for each indexed column, in the layout's order. Several rows may share a value for a moment within an
    /// update, and for good where the caller asked for an index that the schema does not promise to be unique.
    indexes: Box<[Sharded<Datum, Vec<Uuid>>]>,
}

impl Table {
    pub(super) fn empty(layout: Arc<TableLayout>) -> Table {
        let indexes = layout.indexed.iter().map(|_| Sharded::default()).collect();
        Table { layout, rows: Sharded::default(), indexes }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.layout.name
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The monitored columns and their types.
    pub fn columns(&self) -> impl Iterator<Item = (&str, &ColumnType)> {
        (0..).map_while(|at| self.layout.column(at))
    }

    /// The rows in no particular order.
    pub fn rows(&self) -> impl Iterator<Item = &Arc<Row>> {
        self.rows.values()
    }

    /// A row by its UUID.
    pub fn row(&self, uuid: Uuid) -> Option<&Arc<Row>> {
        self.rows.get(&uuid)
    }

    /// The rows whose column has this value. Through an index if the schema has one on just this column or the
    /// monitor asked for one, by a walk over all rows otherwise.
    pub fn find(&self, column: &str, value: impl Into<Datum>) -> impl Iterator<Item = &Arc<Row>> {
        let value = value.into();
        let position = self.layout.position(column);
        let index = position
            .and_then(|position| self.layout.indexed.iter().position(|indexed| *indexed == position))
            .and_then(|at| self.indexes.get(at));
        let (hits, walk) = match (index, position) {
            (Some(index), _) => (index.get(&value).map(Vec::as_slice).unwrap_or_default(), None),
            (None, Some(position)) => (&[][..], Some((position, self.rows()))),
            (None, None) => (&[][..], None),
        };
        let walked = walk.into_iter().flat_map(move |(position, rows)| {
            let value = value.clone();
            rows.filter(move |row| row.at(position) == Some(&value))
        });
        hits.iter().filter_map(|uuid| self.row(*uuid)).chain(walked)
    }

    /// Replaces a row and keeps the indexes; returns the old one.
    pub(super) fn put(&mut self, uuid: Uuid, new: Option<Arc<Row>>) -> Option<Arc<Row>> {
        let old = match new.clone() {
            Some(row) => self.rows.insert(uuid, row),
            None => self.rows.remove(&uuid),
        };
        for (index, &position) in self.indexes.iter_mut().zip(&self.layout.indexed) {
            let before = old.as_ref().and_then(|row| row.at(position));
            let after = new.as_ref().and_then(|row| row.at(position));
            if before == after {
                continue;
            }
            if let Some(before) = before {
                let uuids = index.entry(before.clone());
                uuids.retain(|candidate| *candidate != uuid);
                if uuids.is_empty() {
                    index.remove(before);
                }
            }
            if let Some(after) = after {
                index.entry(after.clone()).push(uuid);
            }
        }
        old
    }
}
