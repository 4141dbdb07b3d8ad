//! The messages between the CNI plugin and the node agent.
//!
//! One connection carries one [`Request`] and one [`Response`]. Each is a frame: the length of the message in
//! bytes as a 4-byte big-endian integer, then the message in protobuf encoding. A frame longer than
//! [`MAX_MESSAGE`] is refused before it is read. In protobuf's own notation:
//!
//! ```protobuf
//! syntax = "proto3";
//! package openshift.sdn.cni.v1;
//!
//! enum Command { COMMAND_UNSPECIFIED = 0; ADD = 1; DEL = 2; CHECK = 3; GC = 4; STATUS = 5; VERSION = 6; }
//!
//! message Request {
//!   Command command = 1;        // CNI_COMMAND
//!   string container_id = 2;    // CNI_CONTAINERID
//!   string netns = 3;           // CNI_NETNS, empty when not set
//!   string ifname = 4;          // CNI_IFNAME
//!   string args = 5;            // CNI_ARGS as it is
//!   string path = 6;            // CNI_PATH as it is
//!   bytes config = 7;           // the network configuration, standard input as it is
//!   string plugin_version = 8;  // the plugin's own version
//! }
//!
//! message Response { oneof outcome { Success result = 1; Failure error = 2; } }
//! message Success { bytes json = 1; }  // what the plugin prints; empty when the verb prints nothing
//! message Failure { uint32 code = 1; string msg = 2; string details = 3; }  // CNI 1.1.0, section 5 "Error"
//! ```
//!
//! Fields are only ever added, with new numbers: a plugin and an agent of different versions meet on every
//! upgrade, since the plugin's file on the host and the agent's pod are not replaced at the same instant.

use std::io::{self, Read, Write};

use prost::Message;

use crate::cni::{CniError, Command, ErrorCode, validate};

/// Where the agent listens unless it and the network configuration (key `socket`) say otherwise.
pub const DEFAULT_SOCKET: &str = "/var/run/openshift-sdn/cniserver/socket";

/// The longest message in bytes, without its length prefix: 1 MiB.
pub const MAX_MESSAGE: usize = 1 << 20;

/// The length prefix of a frame in bytes.
pub const PREFIX: usize = 4;

/// What the container runtime asks of the plugin, as the plugin received it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Request {
    /// The verb, a [`Command`].
    #[prost(enumeration = "Command", tag = "1")]
    pub command: i32,
    /// The runtime's name of the container (its sandbox): `CNI_CONTAINERID`.
    #[prost(string, tag = "2")]
    pub container_id: String,
    /// The path of the container's network namespace; empty if there is none (any more): `CNI_NETNS`.
    #[prost(string, tag = "3")]
    pub netns: String,
    /// The name that the interface in the container has or shall have: `CNI_IFNAME`.
    #[prost(string, tag = "4")]
    pub ifname: String,
    /// Extra arguments, not parsed yet (see [`CniArgs`](crate::cni::CniArgs)): `CNI_ARGS`.
    #[prost(string, tag = "5")]
    pub args: String,
    /// Where plugins are found: `CNI_PATH`.
    #[prost(string, tag = "6")]
    pub path: String,
    /// The network configuration, not parsed yet (see [`NetConf`](crate::cni::NetConf)): standard input.
    #[prost(bytes = "vec", tag = "7")]
    pub config: Vec<u8>,
    /// The version of the plugin that sent this.
    #[prost(string, tag = "8")]
    pub plugin_version: String,
}

impl Request {
    /// Checks the variables that this request's verb requires (CNI 1.1.0, section 2 "Parameters") and the form of
    /// each that is there, so that what passes is safe as a key, as part of a file's name and as an interface's
    /// name.
    ///
    /// # Errors
    /// Code 4, with the name of the variable in the message.
    pub fn validate(&self) -> Result<Command, CniError> {
        let command = match Command::try_from(self.command) {
            Ok(Command::Unspecified) | Err(_) => {
                return Err(CniError::invalid_environment(
                    "CNI_COMMAND",
                    format!(
                        "the plugin sent command number {}, which this agent does not know; install the plugin and \
                         the agent of the same version",
                        self.command
                    ),
                ));
            }
            Ok(command) => command,
        };
        validate::required(command, |variable| match variable {
            validate::CONTAINERID => !self.container_id.is_empty(),
            validate::NETNS => !self.netns.is_empty(),
            validate::IFNAME => !self.ifname.is_empty(),
            validate::PATH => !self.path.is_empty(),
            _ => true,
        })?;
        if !self.container_id.is_empty() {
            validate::container_id(&self.container_id)?;
        }
        if !self.ifname.is_empty() {
            validate::ifname(&self.ifname)?;
        }
        Ok(command)
    }
}

/// The agent's answer.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Response {
    /// Done or not done. An agent always sets it.
    #[prost(oneof = "Outcome", tags = "1, 2")]
    pub outcome: Option<Outcome>,
}

/// How a request ended.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Outcome {
    /// It was carried out.
    #[prost(message, tag = "1")]
    Result(Success),
    /// It was not.
    #[prost(message, tag = "2")]
    Error(Failure),
}

/// The outcome of a request that was carried out.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Success {
    /// What the plugin prints: the result of ADD in JSON, in the version that the network configuration asks for.
    /// Empty for the verbs that print nothing.
    #[prost(bytes = "vec", tag = "1")]
    pub json: Vec<u8>,
}

/// The outcome of a request that was not carried out: an error of the CNI specification.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Failure {
    /// An [`ErrorCode`].
    #[prost(uint32, tag = "1")]
    pub code: u32,
    /// What went wrong and what to do about it, one line.
    #[prost(string, tag = "2")]
    pub msg: String,
    /// More about it; may be empty.
    #[prost(string, tag = "3")]
    pub details: String,
}

impl Response {
    /// The answer to a request that was carried out; `json` is what the plugin prints.
    pub fn success(json: Vec<u8>) -> Response {
        Response { outcome: Some(Outcome::Result(Success { json })) }
    }

    /// The answer to a request that was not carried out.
    pub fn failure(error: CniError) -> Response {
        let failure = Failure { code: error.code.0, msg: error.msg, details: error.details };
        Response { outcome: Some(Outcome::Error(failure)) }
    }

    /// What the plugin prints, or the error that it reports.
    ///
    /// # Errors
    /// The agent's; [`ErrorCode::INTERNAL`] if the answer has no outcome that this version knows.
    pub fn into_result(self) -> Result<Vec<u8>, CniError> {
        match self.outcome {
            Some(Outcome::Result(success)) => Ok(success.json),
            Some(Outcome::Error(failure)) => {
                Err(CniError { code: ErrorCode(failure.code), msg: failure.msg, details: failure.details })
            }
            None => Err(CniError::new(
                ErrorCode::INTERNAL,
                "the node agent's answer has no outcome that this plugin knows; install the plugin and the agent of \
                 the same version",
            )),
        }
    }
}

impl From<Result<Vec<u8>, CniError>> for Response {
    fn from(outcome: Result<Vec<u8>, CniError>) -> Response {
        match outcome {
            Ok(json) => Response::success(json),
            Err(error) => Response::failure(error),
        }
    }
}

/// Why a frame could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ContractError {
    /// The other end closed the connection before the frame was complete.
    #[error("the connection was closed after {got} of {expected} bytes of {part}")]
    Truncated {
        /// `the length` or `the message`.
        part: &'static str,
        /// Bytes that came.
        got: usize,
        /// Bytes that were to come.
        expected: usize,
    },
    /// The message is too long.
    #[error("a message of {length} bytes is over the limit of {MAX_MESSAGE}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// The bytes are not the message.
    #[error("the message is malformed: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// The connection failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A message as a frame: length prefix and message.
///
/// # Errors
/// [`ContractError::TooLong`].
pub fn encode<M: Message>(message: &M) -> Result<Vec<u8>, ContractError> {
    let length = message.encoded_len();
    let prefix = u32::try_from(length)
        .ok()
        .filter(|_| length <= MAX_MESSAGE)
        .ok_or(ContractError::TooLong { length })?;
    let mut frame = Vec::with_capacity(PREFIX + length);
    frame.extend_from_slice(&prefix.to_be_bytes());
    frame.extend_from_slice(&message.encode_to_vec());
    Ok(frame)
}

/// The length of the message that follows this prefix, in bytes.
///
/// # Errors
/// [`ContractError::TooLong`].
pub fn message_length(prefix: [u8; PREFIX]) -> Result<usize, ContractError> {
    let length = usize::try_from(u32::from_be_bytes(prefix)).unwrap_or(usize::MAX);
    if length > MAX_MESSAGE { Err(ContractError::TooLong { length }) } else { Ok(length) }
}

/// A message from the bytes behind its prefix.
///
/// # Errors
/// [`ContractError::Malformed`].
pub fn decode<M: Message + Default>(message: &[u8]) -> Result<M, ContractError> {
    Ok(M::decode(message)?)
}

/// Reads one frame and decodes its message. Blocks until it is complete, the connection ends or fails.
///
/// # Errors
/// Any [`ContractError`].
pub fn read<M: Message + Default>(from: &mut impl Read) -> Result<M, ContractError> {
    let mut prefix = [0; PREFIX];
    fill(from, &mut prefix, "the length")?;
    let mut message = vec![0; message_length(prefix)?];
    fill(from, &mut message, "the message")?;
    decode(&message)
}

/// Writes a message as one frame.
///
/// # Errors
/// [`ContractError::TooLong`] before anything is written, [`ContractError::Io`].
pub fn write<M: Message>(to: &mut impl Write, message: &M) -> Result<(), ContractError> {
    to.write_all(&encode(message)?)?;
    Ok(to.flush()?)
}

/// As `read_exact`, but tells how far it came.
fn fill(from: &mut impl Read, buffer: &mut [u8], part: &'static str) -> Result<(), ContractError> {
    let expected = buffer.len();
    let mut rest = buffer;
    while !rest.is_empty() {
        match from.read(rest) {
            Ok(0) => return Err(ContractError::Truncated { part, got: expected - rest.len(), expected }),
            Ok(count) => rest = rest.get_mut(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "contract/tests.rs"]
mod tests;
