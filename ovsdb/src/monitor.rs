//! What to monitor: tables, columns, conditions.

use std::collections::{BTreeMap, BTreeSet};

use crate::transaction::Condition;

/// Which part of a database the replica holds.
///
/// Tables and columns that the server's schema lacks are left out silently, so that one program works with
/// several versions of a schema; [`Replica::table`](crate::Replica::table) tells whether a table is there.
///
/// ```
/// use ovsdb::Monitored;
///
/// let monitored = Monitored::new().table("Bridge", ["name", "ports"]).all_columns("Port");
/// assert_eq!(monitored.tables().len(), 2);
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Monitored {
    tables: BTreeMap<String, MonitoredTable>,
    /// What holds for tables not named.
    others: Option<MonitoredTable>,
}

/// Which part of a table the replica holds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MonitoredTable {
    /// `None` for all.
    columns: Option<BTreeSet<String>>,
    indexes: BTreeSet<String>,
    /// Rows must fulfil one of them; `None` for all rows.
    conditions: Option<Vec<Condition>>,
}

impl Monitored {
    /// Nothing yet.
    pub fn new() -> Monitored {
        Monitored::default()
    }

    /// All columns of all tables; what is said of a table besides holds for that one.
    pub fn everything() -> Monitored {
        Monitored { tables: BTreeMap::new(), others: Some(MonitoredTable::default()) }
    }

    /// Adds columns of a table.
    pub fn table<C: Into<String>>(
        mut self,
        table: impl Into<String>,
        columns: impl IntoIterator<Item = C>,
    ) -> Monitored {
        let entry = self.tables.entry(table.into()).or_insert_with(|| MonitoredTable {
            columns: Some(BTreeSet::new()),
            ..MonitoredTable::default()
        });
        if let Some(own) = &mut entry.columns {
            own.extend(columns.into_iter().map(Into::into));
        }
        self
    }

    /// Adds all columns of a table.
    pub fn all_columns(mut self, table: impl Into<String>) -> Monitored {
        self.tables.entry(table.into()).or_default().columns = None;
        self
    }

    /// Asks for an index on a column, for [`Table::find`](crate::replica::Table::find). Columns that the schema
    /// makes unique have one anyway.
    pub fn index(mut self, table: impl Into<String>, column: impl Into<String>) -> Monitored {
        self.tables.entry(table.into()).or_default().indexes.insert(column.into());
        self
    }

    /// Holds only the rows of a table that fulfil at least one of the conditions. A server that knows only
    /// `monitor` (RFC 7047 itself) sends all rows nevertheless.
    pub fn only_rows(mut self, table: impl Into<String>, conditions: impl Into<Vec<Condition>>) -> Monitored {
        self.tables.entry(table.into()).or_default().conditions = Some(conditions.into());
        self
    }

    pub(crate) fn set_conditions(&mut self, table: &str, conditions: Option<Vec<Condition>>) {
        let entry = match &self.others {
            Some(others) => self.tables.entry(table.to_owned()).or_insert_with(|| others.clone()),
            None => match self.tables.get_mut(table) {
                Some(entry) => entry,
                None => return,
            },
        };
        entry.conditions = conditions;
    }

    pub(crate) fn wanted(&self, table: &str) -> Option<&MonitoredTable> {
        self.tables.get(table).or(self.others.as_ref())
    }

    /// The tables that are named.
    pub fn tables(&self) -> &BTreeMap<String, MonitoredTable> {
        &self.tables
    }
}

impl MonitoredTable {
    /// Whether a column is wanted.
    pub fn wants(&self, column: &str) -> bool {
        self.columns.as_ref().is_none_or(|columns| columns.contains(column))
    }

    /// The columns that are to have an index.
    pub fn indexes(&self) -> &BTreeSet<String> {
        &self.indexes
    }

    /// The conditions of which a row must fulfil one; `None` for all rows.
    pub fn conditions(&self) -> Option<&[Condition]> {
        self.conditions.as_deref()
    }
}
