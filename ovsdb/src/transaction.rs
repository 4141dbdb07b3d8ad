//! Transactions: operations that the server carries out together or not at all (RFC 7047 §4.1.3, §5.2).

mod condition;
mod reply;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::ser::{Serialize, SerializeSeq, Serializer};

use crate::schema::{DatabaseSchema, ValueError};
use crate::value::{self, Atom, Datum, Uuid};

pub use condition::{Condition, Function, Mutation, Mutator};
pub(crate) use reply::{Asked, parse_reply};
pub use reply::{ErrorKind, FoundRow, OperationError, OperationResult, Reply, TransactError};

/// Values for some columns of a row, as `insert`, `update` and `wait` take them.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
#[serde(transparent)]
pub struct Columns(BTreeMap<String, Datum>);

impl Columns {
    /// No columns: an `insert` then takes the defaults for all.
    pub fn new() -> Columns {
        Columns::default()
    }

    /// Adds a column, replacing an earlier value for it.
    pub fn with(mut self, column: impl Into<String>, value: impl Into<Datum>) -> Columns {
        self.set(column, value);
        self
    }

    /// Adds a column in place, replacing an earlier value for it.
    pub fn set(&mut self, column: impl Into<String>, value: impl Into<Datum>) {
        self.0.insert(column.into(), value.into());
    }

    /// The columns in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Datum)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// One column's value.
    pub fn get(&self, column: &str) -> Option<&Datum> {
        self.0.get(column)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<C: Into<String>, V: Into<Datum>> FromIterator<(C, V)> for Columns {
    fn from_iter<I: IntoIterator<Item = (C, V)>>(columns: I) -> Self {
        Columns(columns.into_iter().map(|(column, value)| (column.into(), value.into())).collect())
    }
}

/// The position of an operation in its transaction, from 0; finds its result in the [`Reply`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OpIndex(pub usize);

/// A row that this transaction inserts. Use it wherever a later (or earlier) operation of the same transaction
/// refers to the row; after the commit [`Reply::inserted`] has its UUID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRow {
    pub(crate) op: OpIndex,
    name: Box<str>,
}

impl From<&NewRow> for Atom {
    fn from(row: &NewRow) -> Self {
        Atom::NamedUuid(row.name.clone())
    }
}

impl From<&NewRow> for Datum {
    fn from(row: &NewRow) -> Self {
        Datum::Atom(row.into())
    }
}

impl From<NewRow> for Atom {
    fn from(row: NewRow) -> Self {
        Atom::NamedUuid(row.name)
    }
}

impl From<NewRow> for Datum {
    fn from(row: NewRow) -> Self {
        Datum::Atom(row.into())
    }
}

/// Whether a `wait` wants the rows equal or different (RFC 7047 §5.2.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// The rows found are exactly those given.
    Equal,
    /// They are not.
    NotEqual,
}

/// One operation of a transaction (RFC 7047 §5.2).
#[derive(Debug, Clone, PartialEq)]
pub enum Operation {
    /// Adds a row (§5.2.1).
    Insert {
        /// The table.
        table: String,
        /// Values for columns that are not to have their default.
        row: Columns,
        /// The name that other operations of the transaction know the row by.
        uuid_name: Option<Box<str>>,
        /// The row's UUID, if the caller chooses it (ovsdb-server(7), an extension since 2.6).
        uuid: Option<Uuid>,
    },
    /// Reads rows (§5.2.2).
    Select {
        /// The table.
        table: String,
        /// All must hold.
        conditions: Vec<Condition>,
        /// The columns wanted; `None` for all with `_uuid` and `_version`.
        columns: Option<Vec<String>>,
    },
    /// Sets columns of the rows found (§5.2.3).
    Update {
        /// The table.
        table: String,
        /// All must hold.
        conditions: Vec<Condition>,
        /// The new values.
        row: Columns,
    },
    /// Changes columns of the rows found by arithmetic or by adding and removing elements (§5.2.4).
    Mutate {
        /// The table.
        table: String,
        /// All must hold.
        conditions: Vec<Condition>,
        /// The changes, in order.
        mutations: Vec<Mutation>,
    },
    /// Removes the rows found (§5.2.5).
    Delete {
        /// The table.
        table: String,
        /// All must hold.
        conditions: Vec<Condition>,
    },
    /// Holds the transaction until rows are as given, or fails it with `timed out` (§5.2.6).
    Wait {
        /// The table.
        table: String,
        /// All must hold.
        conditions: Vec<Condition>,
        /// The columns compared.
        columns: Vec<String>,
        /// Equal or not.
        until: Until,
        /// The rows compared with.
        rows: Vec<Columns>,
        /// Milliseconds to wait; 0 asks once; `None` waits as long as it takes.
        timeout: Option<u64>,
    },
    /// With `durable`, the commit reaches the disk before the reply (§5.2.7).
    Commit {
        /// Whether to wait for the disk.
        durable: bool,
    },
    /// Fails the transaction with `aborted` (§5.2.8).
    Abort,
    /// Text for the database's log (§5.2.9).
    Comment {
        /// The text.
        comment: String,
    },
    /// Fails the transaction with `not owner` unless the client holds the lock (§5.2.10).
    Assert {
        /// The lock.
        lock: String,
    },
}

impl Operation {
    /// The operation's name on the wire.
    pub fn name(&self) -> &'static str {
        match self {
            Operation::Insert { .. } => "insert",
            Operation::Select { .. } => "select",
            Operation::Update { .. } => "update",
            Operation::Mutate { .. } => "mutate",
            Operation::Delete { .. } => "delete",
            Operation::Wait { .. } => "wait",
            Operation::Commit { .. } => "commit",
            Operation::Abort => "abort",
            Operation::Comment { .. } => "comment",
            Operation::Assert { .. } => "assert",
        }
    }

    /// It in a few words, for errors.
    fn words(&self) -> String {
        let preposition = match self {
            Operation::Insert { .. } => " into ",
            Operation::Select { .. } | Operation::Delete { .. } => " from ",
            Operation::Mutate { .. } | Operation::Update { .. } => " ",
            _ => " for ",
        };
        match self.table() {
            Some(table) => [self.name(), preposition, table].concat(),
            None => self.name().to_owned(),
        }
    }

    /// The values that it writes or compares.
    fn rows(&self) -> &[Columns] {
        match self {
            Operation::Insert { row, .. } | Operation::Update { row, .. } => std::slice::from_ref(row),
            Operation::Wait { rows, .. } => rows,
            _ => &[],
        }
    }

    /// The table it works on, if it works on one.
    pub fn table(&self) -> Option<&str> {
        match self {
            Operation::Insert { table, .. }
            | Operation::Select { table, .. }
            | Operation::Update { table, .. }
            | Operation::Mutate { table, .. }
            | Operation::Delete { table, .. }
            | Operation::Wait { table, .. } => Some(table),
            _ => None,
        }
    }
}

impl Serialize for Operation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("op", self.name())?;
        if let Some(table) = self.table() {
            map.serialize_entry("table", table)?;
        }
        match self {
            Operation::Insert { row, uuid_name, uuid, .. } => {
                map.serialize_entry("row", row)?;
                if let Some(name) = uuid_name {
                    map.serialize_entry("uuid-name", name)?;
                }
                if let Some(uuid) = uuid {
                    map.serialize_entry("uuid", &format_args!("{uuid}"))?;
                }
            }
            Operation::Select { conditions, columns, .. } => {
                map.serialize_entry("where", conditions)?;
                if let Some(columns) = columns {
                    map.serialize_entry("columns", columns)?;
                }
            }
            Operation::Update { conditions, row, .. } => {
                map.serialize_entry("where", conditions)?;
                map.serialize_entry("row", row)?;
            }
            Operation::Mutate { conditions, mutations, .. } => {
                map.serialize_entry("where", conditions)?;
                map.serialize_entry("mutations", mutations)?;
            }
            Operation::Delete { conditions, .. } => map.serialize_entry("where", conditions)?,
            Operation::Wait { conditions, columns, until, rows, timeout, .. } => {
                map.serialize_entry("where", conditions)?;
                map.serialize_entry("columns", columns)?;
                map.serialize_entry("until", if *until == Until::Equal { "==" } else { "!=" })?;
                map.serialize_entry("rows", rows)?;
                if let Some(timeout) = timeout {
                    map.serialize_entry("timeout", timeout)?;
                }
            }
            Operation::Commit { durable } => map.serialize_entry("durable", durable)?,
            Operation::Abort => {}
            Operation::Comment { comment } => map.serialize_entry("comment", comment)?,
            Operation::Assert { lock } => map.serialize_entry("lock", lock)?,
        }
        map.end()
    }
}

/// A transaction under construction. The operations run in the order in which they are added.
///
/// ```
/// use ovsdb::{Columns, Condition, Mutation, Transaction};
///
/// let mut tx = Transaction::new("Open_vSwitch");
/// let interface = tx.insert("Interface", Columns::new().with("name", "veth7"));
/// let port = tx.insert("Port", Columns::new().with("name", "veth7").with("interfaces", &interface));
/// tx.mutate("Bridge", [Condition::eq("name", "br0")], [Mutation::insert("ports", &port)]);
/// assert_eq!(tx.operations().len(), 3);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Transaction {
    database: String,
    operations: Vec<Operation>,
}

impl Transaction {
    /// An empty transaction on a database.
    pub fn new(database: impl Into<String>) -> Transaction {
        Transaction { database: database.into(), operations: Vec::new() }
    }

    /// The database.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// The operations so far.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// Whether it has no operation.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// Adds an operation as it is.
    pub fn push(&mut self, operation: Operation) -> OpIndex {
        self.operations.push(operation);
        OpIndex(self.operations.len().saturating_sub(1))
    }

    /// Takes back all but the first operations.
    #[cfg(feature = "tokio")]
    pub(crate) fn truncate(&mut self, operations: usize) {
        self.operations.truncate(operations);
    }

    /// Adds a row; the handle stands for it in other operations of this transaction.
    pub fn insert(&mut self, table: impl Into<String>, row: impl Into<Columns>) -> NewRow {
        let name: Box<str> = format!("row{}", self.operations.len()).into();
        let uuid_name = Some(name.clone());
        let row = row.into();
        let op = self.push(Operation::Insert { table: table.into(), row, uuid_name, uuid: None });
        NewRow { op, name }
    }

    /// Reads rows; `columns` empty means all.
    pub fn select<C: Into<String>>(
        &mut self,
        table: impl Into<String>,
        conditions: impl Into<Vec<Condition>>,
        columns: impl IntoIterator<Item = C>,
    ) -> OpIndex {
        let columns: Vec<String> = columns.into_iter().map(Into::into).collect();
        let columns = Some(columns).filter(|columns| !columns.is_empty());
        self.push(Operation::Select { table: table.into(), conditions: conditions.into(), columns })
    }

    /// Sets columns of the rows found.
    pub fn update(
        &mut self,
        table: impl Into<String>,
        conditions: impl Into<Vec<Condition>>,
        row: impl Into<Columns>,
    ) -> OpIndex {
        let (conditions, row) = (conditions.into(), row.into());
        self.push(Operation::Update { table: table.into(), conditions, row })
    }

    /// Changes columns of the rows found.
    pub fn mutate(
        &mut self,
        table: impl Into<String>,
        conditions: impl Into<Vec<Condition>>,
        mutations: impl Into<Vec<Mutation>>,
    ) -> OpIndex {
        let (conditions, mutations) = (conditions.into(), mutations.into());
        self.push(Operation::Mutate { table: table.into(), conditions, mutations })
    }

    /// Removes the rows found.
    pub fn delete(&mut self, table: impl Into<String>, conditions: impl Into<Vec<Condition>>) -> OpIndex {
        self.push(Operation::Delete { table: table.into(), conditions: conditions.into() })
    }

    /// Holds the transaction until `columns` of the rows found equal (or differ from) `rows`; `timeout` in
    /// milliseconds, 0 to ask once, `None` to wait as long as it takes.
    pub fn wait<C: Into<String>>(
        &mut self,
        table: impl Into<String>,
        conditions: impl Into<Vec<Condition>>,
        columns: impl IntoIterator<Item = C>,
        until: Until,
        rows: impl Into<Vec<Columns>>,
        timeout: Option<u64>,
    ) -> OpIndex {
        self.push(Operation::Wait {
            table: table.into(),
            conditions: conditions.into(),
            columns: columns.into_iter().map(Into::into).collect(),
            until,
            rows: rows.into(),
            timeout,
        })
    }

    /// Fails the transaction unless `columns` of one row still hold these values: the guard against a second
    /// writer between our look at the replica and the commit. The failure is [`ErrorKind::TimedOut`].
    pub fn guard(&mut self, table: impl Into<String>, row: Uuid, columns: Columns) -> OpIndex {
        let names: Vec<String> = columns.iter().map(|(name, _)| name.to_owned()).collect();
        self.wait(table, [Condition::uuid(row)], names, Until::Equal, [columns], Some(0))
    }

    /// Fails the transaction if a row fulfils all the conditions: the guard of what must be done once. The failure is
    /// [`ErrorKind::TimedOut`].
    pub fn guard_none(&mut self, table: impl Into<String>, conditions: impl Into<Vec<Condition>>) -> OpIndex {
        self.wait(table, conditions, ["_uuid"], Until::Equal, [], Some(0))
    }

    /// Asks that the commit reach the disk before the reply.
    pub fn commit_durably(&mut self) -> OpIndex {
        self.push(Operation::Commit { durable: true })
    }

    /// Fails the transaction on purpose.
    pub fn abort(&mut self) -> OpIndex {
        self.push(Operation::Abort)
    }

    /// Adds text to the database's log.
    pub fn comment(&mut self, comment: impl Into<String>) -> OpIndex {
        self.push(Operation::Comment { comment: comment.into() })
    }

    /// Fails the transaction unless this client holds the lock.
    pub fn assert_lock(&mut self, lock: impl Into<String>) -> OpIndex {
        self.push(Operation::Assert { lock: lock.into() })
    }

    /// Says where this transaction has the NUL character for which it can't be sent.
    pub(crate) fn error_of_nul(&self) -> TransactError {
        let has_nul = |json: serde_json::Result<Vec<u8>>| json.is_ok_and(|json| value::has_nul(&json));
        let op = self.operations.iter().position(|operation| has_nul(serde_json::to_vec(operation)));
        let operation = op.and_then(|op| self.operations.get(op));
        let mut columns = operation.into_iter().flat_map(Operation::rows).flat_map(Columns::iter);
        match columns.find(|(_, value)| has_nul(serde_json::to_vec(value))) {
            Some((column, value)) => {
                let table = operation.and_then(Operation::table).unwrap_or_default();
                let reason = format!("can't be stored: {}", value::NUL);
                ValueError::new(table, column, value, reason).into()
            }
            None => TransactError::Refused(OperationError {
                op: op.map(OpIndex),
                operation: operation.map_or_else(|| "transact".to_owned(), Operation::words),
                kind: ErrorKind::SyntaxError,
                details: value::NUL.to_owned(),
            }),
        }
    }

    /// Checks tables, columns and values against a schema before anything is sent, and fits the values to their
    /// columns. What needs a look at other rows (references, indexes) is left to the server.
    ///
    /// # Errors
    /// The first value that does not fit, with table and column.
    pub fn check(&self, schema: &DatabaseSchema) -> Result<(), ValueError> {
        for operation in &self.operations {
            let Some(table) = operation.table() else { continue };
            if !schema.tables.contains_key(table) {
                let reason = "can't be stored: the database has no such table".to_owned();
                return Err(ValueError::new(table, "", &Datum::empty_set(), reason));
            }
            for (column, value) in operation.rows().iter().flat_map(Columns::iter) {
                let error = |reason| ValueError::new(table, column, value, reason);
                let Some(column_type) = schema.column_type(table, column) else {
                    return Err(error("can't be stored: the table has no such column".to_owned()));
                };
                column_type.check(value.clone()).map_err(error)?;
            }
        }
        Ok(())
    }
}

impl Serialize for Transaction {
    /// As the `params` of `transact`: the database's name, then the operations (RFC 7047 §4.1.3).
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(self.operations.len().saturating_add(1)))?;
        seq.serialize_element(&self.database)?;
        for operation in &self.operations {
            seq.serialize_element(operation)?;
        }
        seq.end()
    }
}
