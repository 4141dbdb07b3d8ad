//! What a server answers to a transaction (RFC 7047 §4.1.3), operation by operation.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

use super::{NewRow, OpIndex, Operation, Transaction};
use crate::value::{Datum, Uuid};

/// The results of a committed transaction.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reply {
    results: Vec<OperationResult>,
}

/// The result of one operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OperationResult {
    /// `insert`: the new row's UUID.
    Inserted(Uuid),
    /// `select`: the rows found.
    Rows(Vec<FoundRow>),
    /// `update`, `mutate`, `delete`: how many rows matched.
    Count(u64),
    /// The operation has nothing to say: `wait`, `commit`, `comment`, `assert`.
    Done,
}

/// A row of a `select`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(transparent)]
pub struct FoundRow(BTreeMap<String, Datum>);

impl FoundRow {
    /// One column's value.
    pub fn get(&self, column: &str) -> Option<&Datum> {
        self.0.get(column)
    }

    /// The row's `_uuid`, if it was selected.
    pub fn uuid(&self) -> Option<Uuid> {
        self.get("_uuid")?.as_uuid()
    }

    /// The columns in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Datum)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }
}

impl Reply {
    /// The result of each operation, in order.
    pub fn results(&self) -> &[OperationResult] {
        &self.results
    }

    /// The UUID of a row that the transaction inserted.
    pub fn inserted(&self, row: &NewRow) -> Option<Uuid> {
        match self.results.get(row.op.0)? {
            OperationResult::Inserted(uuid) => Some(*uuid),
            _ => None,
        }
    }

    /// The rows that a `select` found; empty for other operations.
    pub fn rows(&self, op: OpIndex) -> &[FoundRow] {
        match self.results.get(op.0) {
            Some(OperationResult::Rows(rows)) => rows,
            _ => &[],
        }
    }

    /// How many rows an `update`, `mutate` or `delete` matched; 0 for other operations.
    pub fn count(&self, op: OpIndex) -> u64 {
        match self.results.get(op.0) {
            Some(OperationResult::Count(count)) => *count,
            _ => 0,
        }
    }
}

macro_rules! error_kinds {
    ($($(#[$doc:meta])* $variant:ident = $text:literal,)*) => {
        /// What went wrong, by the server's `error` string (RFC 7047 §3.1, §4.1.3, §5.2; the rest is ovsdb-server's own).
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorKind {
            $($(#[$doc])* $variant,)*
            /// A string this list does not have.
            Other(String),
        }
        impl ErrorKind {
            /// The server's string.
            pub fn text(&self) -> &str {
                match self {
                    $(ErrorKind::$variant => $text,)*
                    ErrorKind::Other(text) => text,
                }
            }
        }
        impl From<&str> for ErrorKind {
            fn from(text: &str) -> Self {
                match text {
                    $($text => ErrorKind::$variant,)*
                    other => ErrorKind::Other(other.to_owned()),
                }
            }
        }
    };
}

error_kinds! {
    /// An `abort` operation.
    Aborted = "aborted",
    /// A value outside of its column's type, range, enum or size, or a duplicate in an index.
    ConstraintViolation = "constraint violation",
    /// A strong reference to a row that does not exist, or would not any more.
    ReferentialIntegrityViolation = "referential integrity violation",
    /// A `wait` that did not come true in time.
    TimedOut = "timed out",
    /// Two rows given the same `uuid-name`.
    DuplicateUuidName = "duplicate uuid-name",
    /// A chosen UUID is in use.
    DuplicateUuid = "duplicate uuid",
    /// An `assert` of a lock that this client does not hold.
    NotOwner = "not owner",
    /// A `wait` with a timeout or a durable `commit`, where the server has no such thing.
    NotSupported = "not supported",
    /// The client took the request back (RFC 7047 §4.1.4).
    Canceled = "canceled",
    /// Memory or disk ran out.
    ResourcesExhausted = "resources exhausted",
    /// The database's file could not be written.
    IoError = "I/O error",
    /// A `mutate` outside of what numbers can hold.
    RangeError = "range error",
    /// A `mutate` that divides by zero.
    DomainError = "domain error",
    /// The request does not follow the protocol.
    SyntaxError = "syntax error",
    /// No such table.
    UnknownTable = "unknown table",
    /// No such column.
    UnknownColumn = "unknown column",
    /// No such database, or not served now.
    UnknownDatabase = "unknown database",
    /// The server does not let this client write (a replica, or a read-only remote).
    NotAllowed = "not allowed",
    /// The role of this client does not permit it.
    PermissionError = "permission error",
    /// The cluster has no leader now, or the connection to it was lost in between: the outcome is not known.
    NotLeader = "not leader",
    /// The cluster lost its database in between: the outcome is not known.
    ClusterError = "cluster error",
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// A server's `<error>` (RFC 7047 §3.1) with the operation that caused it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{operation}: {kind}{}{}", if details.is_empty() { "" } else { ": " }, details)]
pub struct OperationError {
    /// The operation that failed; `None` if all succeeded and the commit failed.
    pub op: Option<OpIndex>,
    /// The operation in words, e.g. `insert into Port` or `commit`.
    pub operation: String,
    /// What went wrong.
    pub kind: ErrorKind,
    /// The server's explanation; may be empty.
    pub details: String,
}

impl OperationError {
    /// From the error of the JSON-RPC reply itself: the transaction as a whole was not understood.
    pub(crate) fn of_transaction(error: &str) -> OperationError {
        #[derive(Deserialize)]
        struct Raw {
            error: String,
            #[serde(default)]
            details: String,
        }
        let (kind, details) = match serde_json::from_str::<Raw>(error) {
            Ok(raw) => (raw.error.as_str().into(), raw.details),
            Err(_) => match serde_json::from_str::<String>(error) {
                Ok(text) => (text.as_str().into(), String::new()),
                Err(_) => (ErrorKind::Other(error.chars().take(300).collect()), String::new()),
            },
        };
        OperationError { op: None, operation: "transact".to_owned(), kind, details }
    }
}

/// Why a transaction has no [`Reply`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransactError {
    /// The server refused it; nothing of it was done, unless the [kind](ErrorKind) says otherwise.
    #[error("the database refused the transaction: {0}")]
    Refused(#[from] OperationError),
    /// The transaction could not be built or sent; nothing of it was done.
    #[error("not connected to the database: {0}")]
    NotConnected(String),
    /// A value does not fit its column; nothing was sent.
    #[error("the transaction does not fit the schema: {0}")]
    Value(#[from] crate::schema::ValueError),
    /// The connection ended between request and reply. The transaction may have been committed or not: look at
    /// the replica after the reconnect, then decide.
    #[error(
        "the connection to the database ended before its answer: {0}; the transaction may be done or not"
    )]
    OutcomeUnknown(String),
    /// The server's answer makes no sense; the transaction may have been committed or not.
    #[error("the database's answer is not understood: {0}")]
    Malformed(String),
}

impl TransactError {
    /// The server's error, if it refused.
    pub fn refused(&self) -> Option<&OperationError> {
        match self {
            TransactError::Refused(error) => Some(error),
            _ => None,
        }
    }

    /// Whether the transaction may have been committed although there is no reply.
    pub fn is_outcome_unknown(&self) -> bool {
        matches!(self, TransactError::OutcomeUnknown(_) | TransactError::Malformed(_))
    }
}

/// One element of the answer: a result object, an error object, or null for what was not tried.
#[derive(Deserialize)]
struct RawResult {
    #[serde(default)]
    uuid: Option<Datum>,
    #[serde(default)]
    rows: Option<Vec<FoundRow>>,
    #[serde(default)]
    count: Option<u64>,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    details: Option<String>,
}

/// What a `transact` asked for, kept until its reply comes.
#[derive(Debug, Clone)]
pub(crate) struct Asked(Vec<String>);

impl Asked {
    pub(crate) fn of(transaction: &Transaction) -> Asked {
        Asked(transaction.operations().iter().map(Operation::words).collect())
    }
}

/// Reads the `result` of a `transact` reply.
pub(crate) fn parse_reply(asked: &Asked, result: &str) -> Result<Reply, TransactError> {
    let malformed = |reason: String| TransactError::Malformed(reason);
    let raw: Vec<Option<RawResult>> = serde_json::from_str(result).map_err(|e| malformed(e.to_string()))?;
    // Errors first: results of operations before the failed one were rolled back and mean nothing.
    for (at, entry) in raw.iter().enumerate() {
        if let Some(RawResult { error: Some(kind), details, .. }) = entry {
            let words = asked.0.get(at);
            return Err(TransactError::Refused(OperationError {
                op: words.map(|_| OpIndex(at)),
                operation: words.cloned().unwrap_or_else(|| "commit".to_owned()),
                kind: kind.as_str().into(),
                details: details.clone().unwrap_or_default(),
            }));
        }
    }
    if raw.len() != asked.0.len() {
        return Err(malformed(format!("{} results for {} operations", raw.len(), asked.0.len())));
    }
    let result = |entry: Option<RawResult>| match entry {
        Some(RawResult { uuid: Some(uuid), .. }) => {
            uuid.as_uuid().map(OperationResult::Inserted).ok_or_else(|| malformed("a bad uuid".into()))
        }
        Some(RawResult { rows: Some(rows), .. }) => Ok(OperationResult::Rows(rows)),
        Some(RawResult { count: Some(count), .. }) => Ok(OperationResult::Count(count)),
        Some(_) => Ok(OperationResult::Done),
        None => Err(malformed("an operation without result".into())),
    };
    Ok(Reply { results: raw.into_iter().map(result).collect::<Result<_, _>>()? })
}
