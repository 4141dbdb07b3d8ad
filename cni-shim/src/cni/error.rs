//! Errors of the specification (section 5, "Error").

use std::fmt;

use serde_json::json;

/// An error's number. 0 to 99 belong to the specification, the rest to the plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ErrorCode(pub u32);

impl ErrorCode {
    /// The version in the network configuration is not supported.
    pub const INCOMPATIBLE_VERSION: ErrorCode = ErrorCode(1);
    /// The network configuration has a field, or a value, that is not supported; the message has both.
    pub const UNSUPPORTED_FIELD: ErrorCode = ErrorCode(2);
    /// The container is not known, or is gone: the runtime need not clean up.
    pub const UNKNOWN_CONTAINER: ErrorCode = ErrorCode(3);
    /// A required environment variable is missing or malformed; the message names it.
    pub const INVALID_ENVIRONMENT: ErrorCode = ErrorCode(4);
    /// Reading or writing failed.
    pub const IO_FAILURE: ErrorCode = ErrorCode(5);
    /// Something could not be decoded.
    pub const DECODE_FAILURE: ErrorCode = ErrorCode(6);
    /// The network configuration is not valid.
    pub const INVALID_CONFIG: ErrorCode = ErrorCode(7);
    /// Something is not ready yet: the runtime shall try again later.
    pub const TRY_AGAIN_LATER: ErrorCode = ErrorCode(11);
    /// STATUS: ADD would not be served.
    pub const NOT_AVAILABLE: ErrorCode = ErrorCode(50);
    /// STATUS: ADD would not be served, and running containers may have lost connectivity.
    pub const NOT_AVAILABLE_AND_IMPAIRED: ErrorCode = ErrorCode(51);
    /// Ours: CHECK found something other than ADD had left it.
    pub const DIFFERENT: ErrorCode = ErrorCode(101);
    /// Ours: anything else that failed in the plugin or the agent.
    pub const INTERNAL: ErrorCode = ErrorCode(100);
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An error that the plugin reports to the runtime.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{msg}{}{details} (CNI error {code})", if details.is_empty() { "" } else { ": " })]
pub struct CniError {
    /// Its number.
    pub code: ErrorCode,
    /// What went wrong and what to do about it, one line.
    pub msg: String,
    /// More about it; may be empty.
    pub details: String,
}

impl CniError {
    /// An error without details.
    pub fn new(code: ErrorCode, msg: impl Into<String>) -> CniError {
        CniError { code, msg: msg.into(), details: String::new() }
    }

    /// The same error with details.
    #[must_use]
    pub fn with_details(mut self, details: impl Into<String>) -> CniError {
        self.details = details.into();
        self
    }

    /// Code 4 for one environment variable.
    pub fn invalid_environment(variable: &str, problem: impl fmt::Display) -> CniError {
        CniError::new(
            ErrorCode::INVALID_ENVIRONMENT,
            format!("invalid environment variable {variable}: {problem}"),
        )
    }

    /// The error as the plugin prints it, for a network configuration of this version.
    pub fn render(&self, version: &str) -> Vec<u8> {
        let mut json = json!({ "cniVersion": version, "code": self.code.0, "msg": self.msg });
        if !self.details.is_empty()
            && let Some(object) = json.as_object_mut()
        {
            object.insert("details".to_owned(), self.details.clone().into());
        }
        json.to_string().into_bytes()
    }
}
