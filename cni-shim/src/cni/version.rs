//! Versions of the specification, and the answer to VERSION.

use std::fmt;

use serde_json::json;

use super::{CniError, Command, ErrorCode};

/// A version of the specification that this plugin speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CniVersion {
    /// 0.3.0: the result has interfaces and a list of addresses.
    V0_3_0,
    /// 0.3.1.
    V0_3_1,
    /// 0.4.0: CHECK.
    V0_4_0,
    /// 1.0.0: no address family in the result.
    V1_0_0,
    /// 1.1.0: GC and STATUS; MTU in the result.
    V1_1_0,
}

impl CniVersion {
    /// Every version, oldest first.
    pub const ALL: [CniVersion; 5] = [Self::V0_3_0, Self::V0_3_1, Self::V0_4_0, Self::V1_0_0, Self::V1_1_0];

    /// The newest version.
    pub const LATEST: CniVersion = Self::V1_1_0;

    /// The version with this number, e.g. `1.0.0`.
    pub fn parse(number: &str) -> Option<CniVersion> {
        Self::ALL.into_iter().find(|version| version.as_str() == number)
    }

    /// Its number.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V0_3_0 => "0.3.0",
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// Whether this version of the specification has the verb.
    ///
    /// # Errors
    /// Code 1, naming the version that brought the verb.
    pub fn allows(self, command: Command) -> Result<(), CniError> {
        let since = match command {
            Command::Check => Self::V0_4_0,
            Command::Gc | Command::Status => Self::V1_1_0,
            Command::Unspecified | Command::Add | Command::Del | Command::Version => return Ok(()),
        };
        if self >= since {
            return Ok(());
        }
        Err(CniError::new(
            ErrorCode::INCOMPATIBLE_VERSION,
            format!(
                "cniVersion {self} of the network configuration has no {}: it came with {since}",
                command.name()
            ),
        ))
    }

    /// As [`CniVersion::parse`].
    ///
    /// # Errors
    /// Code 1, naming the version asked for and those supported.
    pub fn negotiate(number: &str) -> Result<CniVersion, CniError> {
        Self::parse(number).ok_or_else(|| {
            let supported = Self::ALL.map(Self::as_str).join(", ");
            let asked = if number.is_empty() { "no cniVersion" } else { number };
            CniError::new(
                ErrorCode::INCOMPATIBLE_VERSION,
                format!("incompatible CNI versions: the network configuration has {asked}, the plugin supports {supported}"),
            )
            .with_details("set cniVersion in the network configuration to a supported version")
        })
    }
}

impl fmt::Display for CniVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The answer to VERSION (section 5, "Version"): the asker's `cniVersion` again, and the versions supported.
pub fn version_answer(asked: &str) -> Vec<u8> {
    let echoed = if asked.is_empty() { CniVersion::LATEST.as_str() } else { asked };
    json!({ "cniVersion": echoed, "supportedVersions": CniVersion::ALL.map(CniVersion::as_str) })
        .to_string()
        .into_bytes()
}
