//! The local copy of the monitored tables.
//!
//! A [`Replica`] is a value: cloning one is cheap, a clone never changes, and it always shows the database as it
//! was between two transactions. The session makes the next one from the last one; what did not change is shared.

mod layout;
mod sharded;
mod table;
#[cfg(test)]
mod tests;
mod update;

use std::cmp::Ordering;
use std::sync::Arc;

use crate::value::{Datum, Uuid};

pub(crate) use layout::Layout;
use sharded::{Few, Sharded};
pub use table::{Row, Table};
pub(crate) use update::{Form, Updates, UpdatesSeed};
pub use update::{Kind, RowChange};

/// An update that does not fit the replica: the replica is not to be trusted any more and has to be fetched anew.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("table {table}: {reason}")]
pub struct ReplicaError {
    table: String,
    reason: String,
}

/// The monitored tables of one database at one moment.
#[derive(Debug, Clone)]
pub struct Replica {
    layout: Arc<Layout>,
    /// One for each table of the layout, in its order.
    tables: Vec<Arc<Table>>,
    /// Who refers to a row: table (position in the layout) and row, once for each column that does.
    referrers: Sharded<Uuid, Few<(u16, Uuid)>>,
    generation: u64,
    last_transaction: Option<Uuid>,
}

impl Replica {
    /// The empty replica of a layout.
    pub(crate) fn empty(layout: Arc<Layout>) -> Replica {
        let tables = layout.tables().iter().map(|table| Arc::new(Table::empty(table.clone()))).collect();
        Replica { layout, tables, referrers: Sharded::default(), generation: 0, last_transaction: None }
    }

    /// What a client has before its first snapshot.
    pub(crate) fn unconnected() -> Replica {
        Replica::empty(Arc::default())
    }

    /// Counts the changes of the replica: two replicas of one client with the same generation are equal.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The database's last transaction that this replica contains, where the server tells
    /// (`monitor_cond_since`).
    pub fn last_transaction(&self) -> Option<Uuid> {
        self.last_transaction
    }

    pub(crate) fn set_last_transaction(&mut self, id: Option<Uuid>) {
        self.last_transaction = id;
    }

    pub(crate) fn set_generation(&mut self, generation: u64) {
        self.generation = generation;
    }

    pub(crate) fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// The monitored tables that the server has, in the order of their names.
    pub fn tables(&self) -> impl Iterator<Item = &Table> {
        self.tables.iter().map(|table| &**table)
    }

    /// A monitored table; `None` also if the server's schema lacks it.
    pub fn table(&self, name: &str) -> Option<&Table> {
        self.tables.get(self.layout.position(name)?).map(|table| &**table)
    }

    /// The rows of a table in no particular order; none if the table is not monitored.
    pub fn rows(&self, table: &str) -> impl Iterator<Item = &Arc<Row>> {
        self.table(table).into_iter().flat_map(Table::rows)
    }

    /// A row by its UUID.
    pub fn row(&self, table: &str, uuid: Uuid) -> Option<&Arc<Row>> {
        self.table(table)?.row(uuid)
    }

    /// The row whose column has this value, of several the one with the lowest UUID; see [`Table::find`].
    pub fn find(&self, table: &str, column: &str, value: impl Into<Datum>) -> Option<&Arc<Row>> {
        self.table(table)?.find(column, value).min_by_key(|row| row.uuid())
    }

    /// The row of a table that has a `name`.
    pub fn named(&self, table: &str, name: &str) -> Option<&Arc<Row>> {
        self.find(table, "name", name)
    }

    /// The rows that a column of `row` refers to, by the table that the schema names. References to rows that are
    /// not there (a weak one about to vanish, an unmonitored table) are left out.
    pub fn follow<'a>(&'a self, row: &'a Row, column: &str) -> impl Iterator<Item = &'a Arc<Row>> {
        let table = row.layout().reference(column).and_then(|table| self.table(table));
        let datum = row.get(column);
        table.into_iter().flat_map(move |table| {
            datum.into_iter().flat_map(Datum::references).filter_map(|uuid| table.row(uuid))
        })
    }

    /// The rows of a table that refer to a row, through whatever column.
    pub fn referrers<'a>(&'a self, table: &str, to: Uuid) -> impl Iterator<Item = &'a Arc<Row>> {
        let position = self.layout.position(table);
        let referrers = self.referrers.get(&to).map(Few::as_slice).unwrap_or_default();
        referrers
            .iter()
            .filter(move |(at, _)| position == Some(usize::from(*at)))
            .filter_map(|&(at, uuid)| self.tables.get(usize::from(at))?.row(uuid))
    }

    /// Replaces one row (`new` of `None` removes it) and keeps the indexes; returns the old one.
    fn put(&mut self, at: usize, uuid: Uuid, new: Option<Arc<Row>>) -> Option<Arc<Row>> {
        let table = Arc::make_mut(self.tables.get_mut(at)?);
        let old = table.put(uuid, new.clone());
        let layout = self.layout.tables().get(at)?;
        let at = u16::try_from(at).ok()?;
        for column in layout.reference_columns() {
            let of = |row: &Option<Arc<Row>>| row.as_ref().and_then(|row| row.at(column)).cloned();
            let (before, after) = (of(&old), of(&new));
            if before == after {
                continue;
            }
            // A bridge with a thousand ports gets one more: only that one is of interest.
            let (gone, come) = reference_differences(before.as_ref(), after.as_ref());
            for to in gone {
                let referrers = self.referrers.entry(to);
                referrers.remove(&(at, uuid));
                if referrers.as_slice().is_empty() {
                    self.referrers.remove(&to);
                }
            }
            for to in come {
                self.referrers.entry(to).push((at, uuid));
            }
        }
        old
    }
}

/// The references only in the first value and those only in the second.
fn reference_differences(before: Option<&Datum>, after: Option<&Datum>) -> (Vec<Uuid>, Vec<Uuid>) {
    let sorted = |datum: Option<&Datum>| {
        let mut uuids: Vec<Uuid> = datum.into_iter().flat_map(Datum::references).collect();
        uuids.sort_unstable();
        uuids
    };
    let (before, after) = (sorted(before), sorted(after));
    let (mut left, mut right) = (before.into_iter().peekable(), after.into_iter().peekable());
    let (mut gone, mut come) = (Vec::new(), Vec::new());
    loop {
        let order = match (left.peek(), right.peek()) {
            (None, None) => return (gone, come),
            (Some(a), Some(b)) => a.cmp(b),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
        };
        match order {
            Ordering::Less => gone.extend(left.next()),
            Ordering::Greater => come.extend(right.next()),
            Ordering::Equal => {
                left.next();
                right.next();
            }
        }
    }
}
