//! What can go wrong between us and a switch.

use std::sync::Arc;

use super::Modification;
use crate::message::{ErrorCode, ErrorMsg};
use crate::session::{CloseReason, ReassemblyError};
use crate::wire::{DecodeError, EncodeError};

/// Why a request did not succeed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The endpoint cannot be reached.
    #[error("cannot connect to {endpoint}: {source}")]
    Connect {
        /// The endpoint.
        endpoint: String,
        /// What the system says.
        source: Arc<std::io::Error>,
    },
    /// Nobody answered in time.
    #[error("no OpenFlow connection to {endpoint} in time")]
    ConnectTimeout {
        /// The endpoint.
        endpoint: String,
    },
    /// The connection is gone.
    #[error("the connection is closed: {0}")]
    Closed(Arc<ClientError>),
    /// The session ended.
    #[error(transparent)]
    Session(#[from] CloseReason),
    /// The socket failed.
    #[error("input/output: {0}")]
    Io(Arc<std::io::Error>),
    /// The peer closed the connection.
    #[error("the peer closed the connection")]
    EndOfStream,
    /// The peer takes nothing of what we send.
    #[error("the peer does not read what is sent to it")]
    PeerDoesNotRead,
    /// All handles are dropped.
    #[error("no longer used")]
    TaskGone,
    /// The switch answered with an error.
    #[error("the switch refuses: {0}")]
    Refused(ErrorMsg),
    /// The answer cannot be decoded.
    #[error("the answer cannot be decoded: {0}")]
    Decode(#[from] DecodeError),
    /// The request is too long.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The answer is of another kind than the question.
    #[error("the switch answered something else than was asked")]
    UnexpectedReply,
    /// The answer cannot be put together.
    #[error(transparent)]
    Reassembly(#[from] ReassemblyError),
    /// No answer in time.
    #[error("the switch does not answer in time")]
    Timeout,
}

impl ClientError {
    /// The error code of the switch, if it refused.
    pub fn refused(&self) -> Option<ErrorCode> {
        match self {
            ClientError::Refused(error) => Some(error.code),
            _ => None,
        }
    }

    /// Whether the connection is gone, so that only a new one helps.
    pub fn is_closed(&self) -> bool {
        matches!(
            self,
            ClientError::Closed(_)
                | ClientError::Session(_)
                | ClientError::Io(_)
                | ClientError::EndOfStream
                | ClientError::PeerDoesNotRead
                | ClientError::TaskGone
        )
    }
}

impl From<std::io::Error> for ClientError {
    fn from(error: std::io::Error) -> Self {
        ClientError::Io(Arc::new(error))
    }
}

/// Why a bundle was not applied. The switch is as before, unless the connection broke while it was committed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// The switch refused one of the changes.
    #[error("change {index} ({modification}): {error}")]
    Modification {
        /// Which one, from 0.
        index: usize,
        /// The change itself.
        modification: Box<Modification>,
        /// What the switch thinks of it.
        error: ErrorMsg,
    },
    /// One of the changes does not fit into a message.
    #[error("change {index} ({modification}): {error}")]
    TooLong {
        /// Which one, from 0.
        index: usize,
        /// The change itself.
        modification: Box<Modification>,
        /// How long it is.
        error: EncodeError,
    },
    /// Something else than a change failed: opening, committing, or the connection.
    #[error("bundle: {0}")]
    Client(#[from] ClientError),
}
