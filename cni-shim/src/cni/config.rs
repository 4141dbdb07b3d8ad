//! The network configuration that the runtime writes to the plugin's standard input (section 1).

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{CniError, CniVersion, ErrorCode, validate};
use crate::contract::DEFAULT_SOCKET;

/// The longest and shortest time to wait for the agent, in seconds.
const TIMEOUTS: RangeInclusive<u64> = 1..=600;

/// In seconds. The agent gives up on an ADD, with the reason, long before.
const DEFAULT_TIMEOUT: u64 = 60;

/// The key of GC's list of attachments, and the one that libcni wrote before the specification was put right and
/// still writes beside it.
const VALID_ATTACHMENTS: [&str; 2] = ["cni.dev/valid-attachments", "cni.dev/attachments"];

/// An attachment that the runtime still uses (section 2, "GC").
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct ValidAttachment {
    /// The container.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// The interface in it.
    pub ifname: String,
}

/// A network configuration in the form that plugins receive.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NetConf {
    /// The version of the specification that the answer shall have. Empty if there is none; see
    /// [`NetConf::version`].
    #[serde(default)]
    pub cni_version: String,
    /// The network's name.
    #[serde(default)]
    pub name: String,
    /// The plugin's name, `openshift-sdn`.
    #[serde(default, rename = "type")]
    pub plugin: String,
    /// Ours: the path of the agent's socket, if it is not [`DEFAULT_SOCKET`]. For nodes that share one file
    /// system, as those of the lab do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
    /// Ours: seconds to wait for the agent's answer, 1 to 600; see [`NetConf::timeout`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u64>,
    /// The result of the plugin before this one in the chain, or of the ADD that a CHECK or DEL belongs to, as it
    /// came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prev_result: Option<Value>,
    /// Keys that this plugin does not know.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

impl NetConf {
    /// Parses and checks a configuration. The version is not checked: see [`NetConf::version`].
    ///
    /// # Errors
    /// Those of [`NetConf::parse_unchecked`] and [`NetConf::check`].
    pub fn parse(json: &[u8]) -> Result<NetConf, CniError> {
        let conf = NetConf::parse_unchecked(json)?;
        conf.check()?;
        Ok(conf)
    }

    /// Checks what every verb but VERSION requires.
    ///
    /// # Errors
    /// Code 7, naming the key.
    pub fn check(&self) -> Result<(), CniError> {
        let invalid = |problem: String| CniError::new(ErrorCode::INVALID_CONFIG, problem);
        validate::network_name(&self.name)?;
        if self.socket.as_deref().is_some_and(Path::is_relative) {
            return Err(invalid("socket in the network configuration must be an absolute path".to_owned()));
        }
        match self.timeout {
            Some(seconds) if !TIMEOUTS.contains(&seconds) => Err(invalid(format!(
                "timeout in the network configuration is {seconds}; it must be {} to {} seconds",
                TIMEOUTS.start(),
                TIMEOUTS.end()
            ))),
            _ => Ok(()),
        }
    }

    /// Parses a configuration of which nothing is required, as VERSION's.
    ///
    /// # Errors
    /// Code 6 if it isn't JSON, code 7 if a key has a wrong type.
    pub fn parse_unchecked(json: &[u8]) -> Result<NetConf, CniError> {
        serde_json::from_slice(json).map_err(|error| {
            if error.is_data() {
                CniError::new(ErrorCode::INVALID_CONFIG, format!("invalid network configuration: {error}"))
            } else {
                CniError::new(
                    ErrorCode::DECODE_FAILURE,
                    format!("the network configuration on standard input is not JSON: {error}"),
                )
            }
        })
    }

    /// The version to answer in.
    ///
    /// # Errors
    /// Code 1.
    pub fn version(&self) -> Result<CniVersion, CniError> {
        CniVersion::negotiate(&self.cni_version)
    }

    /// The attachments that GC leaves. That the list is missing is an error: taken for an empty one it would cost every
    /// pod of the node its network.
    ///
    /// # Errors
    /// Code 7.
    pub fn valid_attachments(&self) -> Result<Vec<ValidAttachment>, CniError> {
        let invalid = |problem: String| CniError::new(ErrorCode::INVALID_CONFIG, problem);
        let [key, _] = VALID_ATTACHMENTS;
        let list = VALID_ATTACHMENTS.iter().find_map(|key| self.unknown.get(*key));
        let list = list.ok_or_else(|| invalid(format!("{key} is missing in the network configuration")))?;
        Vec::deserialize(list)
            .map_err(|error| invalid(format!("{key} in the network configuration is not a list: {error}")))
    }

    /// Where the agent listens.
    pub fn socket(&self) -> &Path {
        self.socket.as_deref().unwrap_or(Path::new(DEFAULT_SOCKET))
    }

    /// How long to wait for the agent's answer.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout.unwrap_or(DEFAULT_TIMEOUT))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_survive() {
        let text = r#"{"cniVersion":"1.1.0","name":"openshift-sdn","type":"openshift-sdn","cniVersions":["1.0.0"],
            "cni.dev/valid-attachments":[{"containerID":"a","ifname":"eth0"}],"prevResult":{"ips":[]},"mtu":1400}"#;
        let conf = NetConf::parse(text.as_bytes()).unwrap();
        assert_eq!(conf.version().unwrap(), CniVersion::V1_1_0);
        assert_eq!(conf.socket(), Path::new(DEFAULT_SOCKET));
        assert!(conf.prev_result.is_some());
        assert_eq!(
            conf.unknown.keys().collect::<Vec<_>>(),
            ["cni.dev/valid-attachments", "cniVersions", "mtu"]
        );
        let again: Value = serde_json::to_value(&conf).unwrap();
        assert_eq!(again, serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn valid_attachments_have_two_names_and_no_default() {
        let conf = |json: &str| NetConf::parse(format!("{{\"name\":\"n\"{json}}}").as_bytes()).unwrap();
        let one = [ValidAttachment { container_id: "a".into(), ifname: "eth0".into() }];
        for key in VALID_ATTACHMENTS {
            let text = format!(",\"{key}\":[{{\"containerID\":\"a\",\"ifname\":\"eth0\"}}]");
            assert_eq!(conf(&text).valid_attachments().unwrap(), one);
            assert_eq!(conf(&format!(",\"{key}\":[]")).valid_attachments().unwrap(), []);
            for bad in ["null", "{}", "[1]", "[{\"containerID\":\"a\"}]"] {
                let error = conf(&format!(",\"{key}\":{bad}")).valid_attachments().unwrap_err();
                assert_eq!(error.code, ErrorCode::INVALID_CONFIG);
            }
        }
        assert_eq!(conf("").valid_attachments().unwrap_err().code, ErrorCode::INVALID_CONFIG);
    }

    #[test]
    fn each_problem_has_its_code() {
        let code = |json: &str| NetConf::parse(json.as_bytes()).unwrap_err().code;
        assert_eq!(code(""), ErrorCode::DECODE_FAILURE);
        assert_eq!(code("{\"name\":"), ErrorCode::DECODE_FAILURE);
        assert_eq!(code("[1]"), ErrorCode::INVALID_CONFIG);
        assert_eq!(code("{\"name\":1}"), ErrorCode::INVALID_CONFIG);
        assert_eq!(code("{}"), ErrorCode::INVALID_CONFIG);
        assert_eq!(code("{\"name\":\"../x\"}"), ErrorCode::INVALID_CONFIG);
        assert_eq!(code("{\"name\":\"n\",\"socket\":\"x\"}"), ErrorCode::INVALID_CONFIG);
        assert_eq!(code("{\"name\":\"n\",\"timeout\":0}"), ErrorCode::INVALID_CONFIG);
        let conf = NetConf::parse(b"{\"name\":\"n\",\"cniVersion\":\"0.2.0\"}").unwrap();
        let error = conf.version().unwrap_err();
        assert_eq!(error.code, ErrorCode::INCOMPATIBLE_VERSION);
        assert!(error.msg.contains("0.2.0") && error.msg.contains("1.1.0"), "{error}");
    }
}
