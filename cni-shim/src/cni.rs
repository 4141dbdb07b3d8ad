//! Types of the Container Network Interface specification, versions 0.3.0 to 1.1.0.
//!
//! Section numbers are those of the specification's text of version 1.1.0.

mod args;
mod config;
mod error;
mod result;
pub mod validate;
mod version;

pub use args::CniArgs;
pub use config::{NetConf, ValidAttachment};
pub use error::{CniError, ErrorCode};
pub use result::{CniResult, Dns, Interface, IpConfig, Route};
pub use version::{CniVersion, version_answer};

/// A verb of the specification (section 2, "CNI operations"), with its number in the [contract](crate::contract).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum Command {
    /// No verb: protobuf's default, never sent.
    Unspecified = 0,
    /// Attach a container to the network.
    Add = 1,
    /// Detach it.
    Del = 2,
    /// Is the attachment as ADD left it?
    Check = 3,
    /// Remove every attachment but the named ones.
    Gc = 4,
    /// Would ADD be served?
    Status = 5,
    /// Which versions of the specification are supported?
    Version = 6,
}

impl Command {
    /// The verb that `CNI_COMMAND` names.
    pub fn parse(name: &str) -> Option<Command> {
        [Self::Add, Self::Del, Self::Check, Self::Gc, Self::Status, Self::Version]
            .into_iter()
            .find(|command| command.name() == name)
    }

    /// The word in `CNI_COMMAND`; empty for [`Command::Unspecified`].
    pub fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "",
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Gc => "GC",
            Self::Status => "STATUS",
            Self::Version => "VERSION",
        }
    }
}
