//! OVSDB (RFC 7047): a client with a local replica, and what Open vSwitch adds to the protocol.
//!
//! A monitor in a few lines:
//!
//! ```no_run
//! # #[cfg(feature = "tokio")] fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(monitor())
//! # }
//! # #[cfg(not(feature = "tokio"))] fn main() {}
//! # #[cfg(feature = "tokio")]
//! # async fn monitor() -> Result<(), Box<dyn std::error::Error>> {
//! use ovsdb::{Client, ClientEvent, Endpoint, Monitored, text};
//!
//! let endpoint: Endpoint = "unix:/run/openvswitch/db.sock".parse()?;
//! let monitored = Monitored::new().table("Interface", ["name", "ofport", "error", "external_ids"]);
//! let client = Client::connect(&endpoint, "Open_vSwitch", monitored).await?;
//! let mut events = client.events();
//! for row in client.replica().rows("Interface") {
//!     println!("{:?} has OpenFlow port {:?}", row.str("name"), row.i64("ofport"));
//! }
//! while let Ok(event) = events.recv().await {
//!     match event {
//!         ClientEvent::Changed(changes, _) => changes.iter().for_each(|c| println!("{}", text::change(c))),
//!         ClientEvent::Connected => println!("connected"),
//!         ClientEvent::Disconnected => println!("the server is away; the last known state stays"),
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What is where
//!
//! | to | use |
//! |---|---|
//! | connect, and stay connected | [`Client`], [`Options`], [`Endpoint`], [`Tls`] |
//! | read what the database holds | [`Replica`] from [`Client::replica`]: a snapshot that never changes; [`rows`] for typed views |
//! | wait for something | [`Client::wait_for`], [`Client::changes`], [`Client::events`] |
//! | write | [`Transaction`] and [`Client::transact`] |
//! | make bridges and ports | [`ovs`]: idempotent, safe beside other writers |
//! | run a daemon's command such as `ofproto/trace` | [`unixctl`] |
//! | speak the protocol without I/O | [`session::Session`], a state machine of bytes and instants |
//!
//! # What can be relied on
//!
//! - A [`Replica`] always shows the database between two transactions. After a reconnect the next snapshot replaces
//!   it as a whole; until then it shows the last known state.
//! - When [`Client::transact`] returns `Ok`, the replica contains what it monitors of the transaction: `ovsdb-server`
//!   sends the changes before the answer.
//! - A transaction whose connection broke before the answer is
//!   [`OutcomeUnknown`](TransactError::OutcomeUnknown), never sent again by itself.
//!   [`Client::transact_planned`], on which the functions of [`ovs`] stand, looks at the replica, sends, and looks again
//!   until it is done, once.
//! - What a server sends costs bounded memory and nesting ([`framing::Limits`]); what makes no sense ends the
//!   connection and leaves the replica as it was.
//!
//! `make fuzz CRATE=ovsdb SECONDS=300` runs the fuzz targets of the splitter, of a session from its first byte, of each
//! notification and of values; `make test` runs the same checks on their seeds.
//!
//! Without the feature `tokio` the crate is pure: values, schemas, transactions, replica and session. The feature
//! `tls` adds `ssl:` endpoints.

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
pub mod text;
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
