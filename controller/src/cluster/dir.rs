//! Cluster state in a directory of ordinary Kubernetes YAML: for labs, tests and offline work.
//!
//! * Every file `*.yaml`, `*.yml` and `*.json` of the directory itself is read, as `kubectl apply -f DIR` does: not those of
//!   subdirectories, and none whose name begins with a dot. A file holds any number of documents, a document one object or
//!   a list of them (`kind: List`). Kinds that this system doesn't use are ignored.
//! * The directory stands in for the API server: what that would refuse is refused here, and what that would add is added: an
//!   object that should name a namespace and doesn't is in `default`, one without a UID is given one, made from its kind,
//!   namespace and name, a port without a protocol is TCP, and so on.
//! * It is read whole or not at all. [`load`] reports every problem of every file at once, and [`DirSource`] keeps the last
//!   good state in force until all are mended.
//! * [`DirWriter`] changes one object at a time, atomically, and leaves the rest of the file as it is.

mod check;
mod defaults;
mod document;
mod edit;
mod error;
mod parse;
mod read;
mod source;
#[cfg(test)]
mod tests;
mod write;
mod yaml;

pub use error::{DirError, Problem};
pub use read::load;
pub use source::DirSource;
pub use write::{DirLock, DirWriter, WriteError};
