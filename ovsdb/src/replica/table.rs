//! Tables and rows of a replica.

use std::fmt;
use std::sync::Arc;

use super::layout::TableLayout;
use super::sharded::{Few, Hash, Sharded};
use crate::schema::ColumnType;
use crate::value::{Datum, Uuid};

/// The values of a row.
///
/// Most columns of most rows have their default, so only the others are stored: of the first 128 columns those that
/// `present` has a bit for, and all beyond.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cells {
    present: u128,
    values: Box<[Datum]>,
}

impl Cells {
    /// From columns by position, in any order; those not named have their default, of a name given twice the last
    /// value counts.
    pub(super) fn new(layout: &TableLayout, mut columns: Vec<(usize, Datum)>) -> Cells {
        columns.sort_by_key(|(at, _)| *at);
        let mut present = 0;
        let mut values = Vec::with_capacity(columns.len());
        let mut columns = columns.into_iter().peekable();
        let mut next_dense = SPARSE;
        while let Some((at, value)) = columns.next() {
            if columns.peek().is_some_and(|(next, _)| *next == at) {
                continue;
            }
            match bit(at) {
                Some(bit) if layout.defaults.get(at) != Some(&value) => {
                    present |= bit;
                    values.push(value);
                }
                Some(_) => {}
                None => {
                    values.extend(layout.defaults.get(next_dense..at).into_iter().flatten().cloned());
                    values.push(value);
                    next_dense = at.saturating_add(1);
                }
            }
        }
        values.extend(layout.defaults.get(next_dense..).into_iter().flatten().cloned());
        Cells { present, values: values.into_boxed_slice() }
    }
}

/// How many columns are stored only where they differ from their default.
const SPARSE: usize = 128;

/// A column's bit in [`Cells::present`]; `None` beyond the first [`SPARSE`].
fn bit(position: usize) -> Option<u128> {
    1u128.checked_shl(u32::try_from(position).ok()?)
}

/// One row: the values of its table's monitored columns.
#[derive(Clone)]
pub struct Row {
    layout: Arc<TableLayout>,
    uuid: Uuid,
    cells: Cells,
}

impl PartialEq for Row {
    fn eq(&self, other: &Self) -> bool {
        self.uuid == other.uuid
            && self.cells == other.cells
            && (Arc::ptr_eq(&self.layout, &other.layout) || self.layout == other.layout)
    }
}

impl Row {
    pub(super) fn new(layout: Arc<TableLayout>, uuid: Uuid, cells: Cells) -> Row {
        Row { layout, uuid, cells }
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
        self.layout.column_names().enumerate().filter_map(|(at, name)| Some((name, self.at(at)?)))
    }

    pub(super) fn layout(&self) -> &Arc<TableLayout> {
        &self.layout
    }

    pub(super) fn at(&self, position: usize) -> Option<&Datum> {
        let Cells { present, values } = &self.cells;
        let Some(bit) = bit(position) else {
            let sparse = present.count_ones() as usize;
            return values.get(position.checked_sub(SPARSE)?.checked_add(sparse)?);
        };
        if present & bit == 0 {
            return self.layout.defaults.get(position);
        }
        let before = present & bit.wrapping_sub(1);
        values.get(before.count_ones() as usize)
    }

    /// The columns with their positions.
    pub(super) fn positions(&self) -> impl Iterator<Item = (usize, &Datum)> {
        (0..self.layout.defaults.len()).filter_map(|at| Some((at, self.at(at)?)))
    }

    pub(super) fn cells(&self) -> &Cells {
        &self.cells
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
    /// One for each indexed column, in the layout's order: the rows by the hash of their value, which a look-up
    /// compares. Several rows may share a value for a moment within an update, and for good where the caller asked
    /// for an index that the schema does not promise to be unique.
    indexes: Box<[Sharded<Hash, Few<Uuid>>]>,
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
        let (hits, walk) = match index {
            Some(index) => (index.get(&Hash::of(&value)).map(Few::as_slice).unwrap_or_default(), None),
            None => (&[][..], Some(self.rows())),
        };
        let hits = hits.iter().filter_map(|uuid| self.row(*uuid));
        let walk = walk.into_iter().flatten();
        hits.chain(walk).filter(move |row| position.and_then(|position| row.at(position)) == Some(&value))
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
                let hash = Hash::of(before);
                let uuids = index.entry(hash);
                uuids.remove(&uuid);
                if uuids.as_slice().is_empty() {
                    index.remove(&hash);
                }
            }
            if let Some(after) = after {
                index.entry(Hash::of(after)).push(uuid);
            }
        }
        old
    }
}
