//! Updates of a replica: RFC 7047 §4.1.6 (`update`) and ovsdb-server(7) (`update2`, `update3`).

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::layout::{Layout, TableLayout};
use super::table::{Cells, Row};
use super::{Replica, ReplicaError};
use crate::schema::ColumnType;
use crate::value::{Atom, Datum, DatumSeed, Strings, Uuid, UuidText};

/// The two ways of writing an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// RFC 7047: whole rows, old and new.
    V1,
    /// Differences.
    V2,
}

/// What an update says of one row.
#[derive(Debug)]
enum RowUpdate {
    /// The whole row.
    Whole(Cells),
    /// The columns that changed, as differences.
    Difference(Vec<(usize, Datum)>),
    Delete,
}

/// Everything one update says: the table's position, the row, its update.
#[derive(Debug, Default)]
pub(crate) struct Updates(Vec<(usize, Uuid, RowUpdate)>);

/// One row's change, as seen by a subscriber.
#[derive(Debug, Clone)]
pub struct RowChange {
    /// The row as it was; `None` if it is new.
    pub old: Option<Arc<Row>>,
    /// The row as it is; `None` if it is gone.
    pub new: Option<Arc<Row>>,
}

/// The kind of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The row is new, or has come to fulfil the monitor's conditions.
    Insert,
    /// Columns have changed.
    Modify,
    /// The row is gone, or does not fulfil the monitor's conditions any more.
    Delete,
}

impl RowChange {
    /// The row, as it is or as it last was.
    pub fn row(&self) -> Option<&Arc<Row>> {
        self.new.as_ref().or(self.old.as_ref())
    }

    /// The name of the row's table.
    pub fn table(&self) -> &str {
        self.row().map_or("", |row| row.table())
    }

    /// The kind of the change.
    pub fn kind(&self) -> Kind {
        match (&self.old, &self.new) {
            (None, _) => Kind::Insert,
            (Some(_), None) => Kind::Delete,
            (Some(_), Some(_)) => Kind::Modify,
        }
    }

    /// The columns that differ between old and new, by name.
    pub fn changed_columns(&self) -> impl Iterator<Item = &str> {
        let both = self.old.as_ref().zip(self.new.as_ref());
        both.into_iter().flat_map(|(old, new)| {
            old.columns()
                .zip(new.columns())
                .filter(|((_, before), (_, after))| before != after)
                .map(|((name, _), _)| name)
        })
    }
}

impl Replica {
    /// Applies an update as a whole or not at all.
    pub(crate) fn apply(&mut self, updates: Updates) -> Result<Vec<RowChange>, ReplicaError> {
        let mut next = self.clone();
        let mut changes = Vec::with_capacity(updates.0.len());
        for (at, uuid, update) in updates.0 {
            let Some(layout) = self.layout.tables().get(at).cloned() else { continue };
            let never_seen = || ReplicaError {
                table: layout.name.to_string(),
                reason: format!("an update of row {uuid}, which was never sent"),
            };
            let old = next.tables.get(at).and_then(|table| table.row(uuid)).cloned();
            let new = match (update, &old) {
                (RowUpdate::Whole(cells), _) => Some(cells),
                (RowUpdate::Difference(differences), Some(old)) => {
                    let mut columns: Vec<(usize, Datum)> =
                        old.positions().map(|(at, value)| (at, value.clone())).collect();
                    for (position, difference) in differences {
                        let column = layout.column(position).zip(columns.get_mut(position));
                        if let Some(((_, column_type), (_, value))) = column {
                            *value = apply_difference(column_type, value, difference);
                        }
                    }
                    Some(Cells::new(&layout, columns))
                }
                (RowUpdate::Delete, Some(_)) => None,
                (RowUpdate::Difference(_) | RowUpdate::Delete, None) => return Err(never_seen()),
            };
            let new = new.map(|cells| Arc::new(Row::new(layout.clone(), uuid, cells)));
            if old == new {
                continue;
            }
            next.put(at, uuid, new.clone());
            changes.push(RowChange { old, new });
        }
        *self = next;
        Ok(changes)
    }

    /// The replica that these updates describe when applied to nothing, and its differences to this one. Rows that
    /// did not change stay shared.
    pub(crate) fn resync(
        &mut self,
        layout: Arc<Layout>,
        updates: Updates,
    ) -> Result<Vec<RowChange>, ReplicaError> {
        let mut next = Replica::empty(layout);
        next.generation = self.generation;
        let mut changes = Vec::new();
        for (at, uuid, update) in updates.0 {
            let Some(table) = next.layout.tables().get(at).cloned() else { continue };
            let RowUpdate::Whole(cells) = update else {
                let reason = format!("the first update has no whole row for {uuid}");
                return Err(ReplicaError { table: table.name.to_string(), reason });
            };
            let old = self.row(&table.name, uuid).cloned();
            let new = match &old {
                Some(old) if *old.layout() == table && *old.cells() == cells => old.clone(),
                _ => Arc::new(Row::new(table, uuid, cells)),
            };
            next.put(at, uuid, Some(new.clone()));
            if old.as_ref() != Some(&new) {
                changes.push(RowChange { old, new: Some(new) });
            }
        }
        let gone = self
            .tables()
            .flat_map(|table| table.rows())
            .filter(|row| next.row(row.table(), row.uuid()).is_none());
        changes.extend(gone.map(|row| RowChange { old: Some(row.clone()), new: None }));
        *self = next;
        Ok(changes)
    }
}

/// ovsdb-server(7), "update2": columns of at most one element are replaced; of sets, elements in just one of value and difference
/// stay; of maps likewise, and a key in both with another value takes the difference's.
fn apply_difference(column: &ColumnType, value: &Datum, difference: Datum) -> Datum {
    if column.holds_one() {
        return difference;
    }
    if column.is_map() {
        let (mut left, mut right) = (value.pairs().peekable(), difference.pairs().peekable());
        let mut merged: Vec<(Atom, Atom)> = Vec::with_capacity(value.len());
        loop {
            let order = match (left.peek(), right.peek()) {
                (None, None) => return Datum::from_sorted_map(merged),
                (Some((a, _)), Some((b, _))) => a.cmp(b),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
            };
            match order {
                Ordering::Less => merged.extend(left.next().cloned()),
                Ordering::Greater => merged.extend(right.next().cloned()),
                Ordering::Equal => {
                    if let (Some(own), Some(other)) = (left.next(), right.next())
                        && own.1 != other.1
                    {
                        merged.push(other.clone());
                    }
                }
            }
        }
    }
    let (mut left, mut right) = (value.atoms().peekable(), difference.atoms().peekable());
    let mut merged: Vec<Atom> = Vec::with_capacity(value.len().saturating_add(difference.len()));
    loop {
        let order = match (left.peek(), right.peek()) {
            (None, None) => return Datum::from_sorted_set(merged),
            (Some(a), Some(b)) => a.cmp(b),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
        };
        match order {
            Ordering::Less => merged.extend(left.next().cloned()),
            Ordering::Greater => merged.extend(right.next().cloned()),
            Ordering::Equal => {
                left.next();
                right.next();
            }
        }
    }
}

/// Reads `<table-updates>` or `<table-updates2>`.
#[derive(Clone, Copy)]
pub(crate) struct UpdatesSeed<'l> {
    pub(crate) layout: &'l Layout,
    pub(crate) form: Form,
}

macro_rules! map_seed {
    ($seed:ident<$l:lifetime> -> $value:ty, $expecting:literal, |$self:ident, $map:ident| $body:block) => {
        impl<'de, $l> DeserializeSeed<'de> for $seed<$l> {
            type Value = $value;
            fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<$value, D::Error> {
                struct Walk<$l>($seed<$l>);
                impl<'de, $l> Visitor<'de> for Walk<$l> {
                    type Value = $value;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }
                    fn visit_map<A: MapAccess<'de>>(self, mut $map: A) -> Result<$value, A::Error> {
                        let $self = self.0;
                        $body
                    }
                }
                deserializer.deserialize_map(Walk(self))
            }
        }
    };
}

map_seed!(UpdatesSeed<'l> -> Updates, "an object of table updates", |seed, map| {
    let mut updates = Vec::new();
    let mut strings = seed.layout.strings();
    while let Some(name) = map.next_key::<std::borrow::Cow<'_, str>>()? {
        let position = seed.layout.position(&name);
        match position.and_then(|at| Some((at, seed.layout.tables().get(at)?))) {
            Some((at, table)) => {
                let into = &mut updates;
                map.next_value_seed(TableSeed { at, table, form: seed.form, strings: &mut strings, into })?;
            }
            // Nobody asked for it.
            None => {
                map.next_value::<IgnoredAny>()?;
            }
        }
    }
    Ok(Updates(updates))
});

struct TableSeed<'l> {
    at: usize,
    table: &'l TableLayout,
    form: Form,
    strings: &'l mut Strings,
    into: &'l mut Vec<(usize, Uuid, RowUpdate)>,
}

map_seed!(TableSeed<'l> -> (), "an object of row updates", |seed, map| {
    while let Some(UuidText(uuid)) = map.next_key()? {
        let update = map.next_value_seed(RowSeed { table: seed.table, form: seed.form, strings: seed.strings })?;
        seed.into.push((seed.at, uuid, update));
    }
    Ok(())
});

struct RowSeed<'l> {
    table: &'l TableLayout,
    form: Form,
    strings: &'l mut Strings,
}

map_seed!(RowSeed<'l> -> RowUpdate, "a row update", |seed, map| {
    let table = seed.table;
    let mut update = None;
    while let Some(key) = map.next_key::<std::borrow::Cow<'_, str>>()? {
        match (seed.form, &*key) {
            (Form::V2, "initial" | "insert") | (Form::V1, "new") => {
                update = Some(RowUpdate::Whole(map.next_value_seed(WholeSeed { table, strings: seed.strings })?));
            }
            (Form::V2, "modify") => {
                update = Some(RowUpdate::Difference(map.next_value_seed(ColumnsSeed { table, strings: seed.strings })?));
            }
            (Form::V2, "delete") => {
                map.next_value::<IgnoredAny>()?;
                update = Some(RowUpdate::Delete);
            }
            (Form::V1, "old") => {
                map.next_value::<IgnoredAny>()?;
                update.get_or_insert(RowUpdate::Delete);
            }
            (_, other) => {
                return Err(de::Error::custom(format_args!("a row update has an unknown member {other:?}")));
            }
        }
    }
    update.ok_or_else(|| de::Error::custom("a row update is empty"))
});

struct WholeSeed<'l> {
    table: &'l TableLayout,
    strings: &'l mut Strings,
}

map_seed!(WholeSeed<'l> -> Cells, "a row", |seed, map| {
    let mut columns = Vec::with_capacity(32);
    while let Some((at, datum)) = next_column(seed.table, seed.strings, &mut map)? {
        columns.extend(at.map(|at| (at, datum)));
    }
    Ok(Cells::new(seed.table, columns))
});

struct ColumnsSeed<'l> {
    table: &'l TableLayout,
    strings: &'l mut Strings,
}

map_seed!(ColumnsSeed<'l> -> Vec<(usize, Datum)>, "a row", |seed, map| {
    let mut columns = Vec::new();
    while let Some((at, datum)) = next_column(seed.table, seed.strings, &mut map)? {
        columns.extend(at.map(|at| (at, datum)));
    }
    Ok(columns)
});

/// The next column of a row; its position is `None` if it is not monitored.
fn next_column<'de, A: MapAccess<'de>>(
    table: &TableLayout,
    strings: &mut Strings,
    map: &mut A,
) -> Result<Option<(Option<usize>, Datum)>, A::Error> {
    let Some(name) = map.next_key::<std::borrow::Cow<'_, str>>()? else { return Ok(None) };
    let position = table.position(&name);
    match position.and_then(|at| Some((at, table.column(at)?))) {
        Some((at, (name, column_type))) => {
            let share_scalars = column_type.key.choices.is_some();
            let datum = map.next_value_seed(DatumSeed { strings: Some(strings), share_scalars })?;
            let datum = column_type.fit(datum).map_err(|reason| {
                de::Error::custom(format_args!("table {}, column {name}: the value {reason}", table.name))
            })?;
            Ok(Some((Some(at), datum)))
        }
        None => {
            map.next_value::<IgnoredAny>()?;
            Ok(Some((None, Datum::empty_set())))
        }
    }
}
