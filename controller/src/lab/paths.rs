//! [`LabName`] and [`LabDir`]: what a lab's files and namespaces are called.

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The environment variable that names another parent directory for labs.
pub const PARENT_VARIABLE: &str = "SDNCTL_LAB_DIR";

/// Where labs live unless [`PARENT_VARIABLE`] says otherwise: gone after a restart of the machine, as are
/// namespaces and processes.
pub const DEFAULT_PARENT: &str = "/run/osdn-lab";

/// The longest path of a Unix socket in bytes: `sun_path` of `sockaddr_un` less the zero at its end (unix(7)).
const MAX_SOCKET_PATH: usize = 107;

/// The longest file name that something puts into a node's run directory: `ovs-vswitchd.PID.ctl`, with the longest
/// PID that Linux gives (7 digits).
const LONGEST_SOCKET_NAME: &str = "ovs-vswitchd.4194304.ctl";

/// The name of a lab: 1 to 20 of `a-z`, `0-9` and `-`, and no `-` at either end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LabName(String);

/// A text is no [`LabName`].
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0:?} can't name a lab: use 1 to 20 of a-z, 0-9 and '-', with no '-' at either end")]
pub struct InvalidLabName(String);

impl LabName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LabName {
    type Err = InvalidLabName;

    fn from_str(text: &str) -> Result<Self, InvalidLabName> {
        let good = (1..=20).contains(&text.len())
            && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
            && !text.starts_with('-')
            && !text.ends_with('-');
        if good { Ok(Self(text.to_owned())) } else { Err(InvalidLabName(text.to_owned())) }
    }
}

impl TryFrom<String> for LabName {
    type Error = InvalidLabName;

    fn try_from(text: String) -> Result<Self, InvalidLabName> {
        text.parse()
    }
}

impl From<LabName> for String {
    fn from(name: LabName) -> Self {
        name.0
    }
}

impl fmt::Display for LabName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A lab's directory, whether it exists or not, and the names of the lab's namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabDir {
    name: LabName,
    root: PathBuf,
}

impl LabDir {
    /// The directory of the lab `name`: below the directory that `SDNCTL_LAB_DIR` names, else `/run/osdn-lab`.
    pub fn new(name: LabName) -> Self {
        let parent = env::var_os(PARENT_VARIABLE).filter(|value| !value.is_empty());
        Self::below(parent.as_deref().unwrap_or(OsStr::new(DEFAULT_PARENT)), name)
    }

    /// The directory of the lab `name` below `parent`. Programs that the lab starts run elsewhere, so a relative
    /// `parent` is taken from the current directory now.
    pub fn below(parent: impl AsRef<Path>, name: LabName) -> Self {
        let parent = parent.as_ref();
        let parent = std::path::absolute(parent).unwrap_or_else(|_| parent.to_owned());
        Self { root: parent.join(name.as_str()), name }
    }

    /// The lab's name.
    pub fn name(&self) -> &LabName {
        &self.name
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// What the lab consists of, as JSON ([`LabState`](super::LabState)).
    pub fn state_file(&self) -> PathBuf {
        self.root.join("lab.json")
    }

    /// The lab's own copy of the cluster directory: the controller and `sdnctl` write to it.
    pub fn cluster(&self) -> PathBuf {
        self.root.join("cluster")
    }

    /// What `sdn-controller` prints.
    pub fn controller_log(&self) -> PathBuf {
        self.root.join("sdn-controller.log")
    }

    /// The files of one node.
    pub fn node(&self, node: &str) -> NodeDir {
        NodeDir { root: self.root.join("nodes").join(node) }
    }

    /// The namespace of the underlay: the switch between the nodes, their router, and the world beyond.
    pub fn underlay_netns(&self) -> String {
        format!("{}-underlay", self.name)
    }

    /// The namespace of a node.
    pub fn node_netns(&self, node: &str) -> String {
        format!("{}-{node}", self.name)
    }

    /// The namespace of a pod.
    pub fn pod_netns(&self, namespace: &str, pod: &str) -> String {
        format!("{}.{namespace}.{pod}", self.name)
    }

    /// How many bytes a node's name may have, so that its sockets' paths fit into an address.
    pub fn longest_node_name(&self) -> usize {
        let with_one_byte = self.node("n").ovs().join(LONGEST_SOCKET_NAME);
        (MAX_SOCKET_PATH + 1).saturating_sub(with_one_byte.as_os_str().len())
    }
}

/// A node's files in a lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeDir {
    root: PathBuf,
}

impl NodeDir {
    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// The run directory of the node's Open vSwitch: database, sockets, PID files and logs, under the names that
    /// the tools of Open vSwitch expect.
    pub fn ovs(&self) -> PathBuf {
        self.root.join("ovs")
    }

    /// The OVSDB server's socket.
    pub fn db_socket(&self) -> PathBuf {
        self.ovs().join("db.sock")
    }

    /// The node agent's CNI socket. It is there once the agent can serve pods.
    pub fn cni_socket(&self) -> PathBuf {
        self.root.join("cni.sock")
    }

    /// The node's leases of pod addresses.
    pub fn leases(&self) -> PathBuf {
        self.root.join("leases")
    }

    /// Where the node's container runtime would look for network configurations.
    pub fn cni_conf(&self) -> PathBuf {
        self.root.join("net.d")
    }

    /// Names the DNS servers that `sdn-node` asks.
    pub fn resolv_conf(&self) -> PathBuf {
        self.root.join("resolv.conf")
    }

    /// What `sdn-node` prints.
    pub fn agent_log(&self) -> PathBuf {
        self.root.join("sdn-node.log")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["lab", "a", "7", "a-b", "abcdefghij0123456789"] {
            assert_eq!(good.parse::<LabName>().unwrap().as_str(), good);
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a/b", "..", "a b", "abcdefghij0123456789x", "ä"] {
            assert!(bad.parse::<LabName>().is_err(), "{bad:?}");
            assert!(serde_json::from_value::<LabName>(bad.into()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn sockets_fit_into_an_address() {
        let dir = LabDir::below(DEFAULT_PARENT, "abcdefghij0123456789".parse().unwrap());
        let longest = dir.longest_node_name();
        assert!(longest >= 32, "{longest}");
        let socket = dir.node(&"n".repeat(longest)).ovs().join(LONGEST_SOCKET_NAME);
        assert_eq!(socket.as_os_str().len(), MAX_SOCKET_PATH);
    }
}
