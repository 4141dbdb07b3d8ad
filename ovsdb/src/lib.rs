//! OVSDB (RFC 7047) client with a local replica, and the unixctl client of Open vSwitch daemons.

pub mod backoff;
#[cfg(feature = "tokio")]
mod client;
mod endpoint;
pub mod framing;
pub mod monitor;
#[cfg(feature = "tokio")]
pub mod ovs;
pub mod replica;
pub mod rows;
pub mod schema;
pub mod session;
pub mod transaction;
#[cfg(feature = "tokio")]
pub mod unixctl;
pub mod value;

#[cfg(feature = "tokio")]
pub use client::{Client, ClientError, ClientEvent, Lock, Options, Status};
#[cfg(feature = "tls")]
pub use client::{Tls, TlsError};
pub use endpoint::{DEFAULT_PORT, Endpoint, ParseEndpointError};
pub use monitor::Monitored;
pub use replica::{Replica, Row, RowChange};
pub use schema::DatabaseSchema;
pub use session::CallError;
pub use transaction::{
    Columns, Condition, ErrorKind, Function, Mutation, Mutator, NewRow, OpIndex, Operation, OperationError,
    Reply, TransactError, Transaction, Until,
};
pub use value::{Atom, Datum, Uuid};
