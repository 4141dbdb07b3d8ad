//! [`LabState`]: what a lab consists of, kept in the file `lab.json`.
//!
//! Everything is written down before it is made, so that `lab down` finds it whatever happened in between. The
//! file is the only copy: each change locks it, reads it, and replaces it, so that several `sdnctl` can work on one
//! lab at the same time.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::process::ProcessId;
use super::{LabDir, LabError, LabName};

/// Which datapath carries the packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Datapath {
    /// In user space, inside `ovs-vswitchd`: works on any kernel.
    #[default]
    Netdev,
    /// In the kernel, by its openvswitch module.
    System,
}

impl Datapath {
    /// The value of `datapath_type`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Netdev => "netdev",
            Self::System => "system",
        }
    }
}

/// A program that a lab keeps running.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Daemon {
    /// The OVSDB server.
    OvsdbServer,
    /// The switch.
    OvsVswitchd,
    /// The node agent.
    SdnNode,
}

impl Daemon {
    /// Those of a node, in the order of their start.
    pub const ALL: [Self; 3] = [Self::OvsdbServer, Self::OvsVswitchd, Self::SdnNode];

    /// The program's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OvsdbServer => "ovsdb-server",
            Self::OvsVswitchd => "ovs-vswitchd",
            Self::SdnNode => "sdn-node",
        }
    }
}

impl fmt::Display for Daemon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The network between the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Underlay {
    /// The network.
    pub network: Ipv4Net,
    /// The nodes' router.
    pub router: Ipv4Addr,
    /// A host beyond the router.
    pub outside: Ipv4Addr,
}

/// A node of a lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeState {
    /// Its address in the underlay.
    pub ip: Ipv4Addr,
    /// Its network namespace.
    pub netns: String,
    /// The programs that were started, as they were started last.
    #[serde(default)]
    pub daemons: BTreeMap<Daemon, ProcessId>,
}

/// A pod of a lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodState {
    /// The node it runs on.
    pub node: String,
    /// Its network namespace.
    pub netns: String,
    /// What the container runtime would call its sandbox.
    pub container_id: String,
    /// Its UID.
    pub uid: String,
    /// Its address, once the CNI plugin has answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<Ipv4Addr>,
    /// The name of its port on the node, once the CNI plugin has answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
}

/// What a lab consists of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LabState {
    /// The lab's name.
    pub name: LabName,
    /// The `lab up` that is still at work; what it has made so far is only a part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starting: Option<ProcessId>,
    /// The datapath of every node.
    pub datapath: Datapath,
    /// Whether there is only the network and Open vSwitch, without the project's own programs.
    #[serde(default)]
    pub bare: bool,
    /// The network between the nodes.
    pub underlay: Underlay,
    /// Every network namespace of the lab.
    pub namespaces: Vec<String>,
    /// The cluster controller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller: Option<ProcessId>,
    /// The nodes by name.
    pub nodes: BTreeMap<String, NodeState>,
    /// The pods by `NAMESPACE/NAME`.
    #[serde(default)]
    pub pods: BTreeMap<String, PodState>,
}

impl LabState {
    /// The node of that name.
    ///
    /// # Errors
    /// [`LabError::NoNode`], which lists those there are.
    pub fn node(&self, name: &str) -> Result<&NodeState, LabError> {
        self.nodes.get(name).ok_or_else(|| LabError::NoNode {
            lab: self.name.clone(),
            node: name.to_owned(),
            known: self.nodes.keys().cloned().collect(),
        })
    }

    /// Every process that was started, and is known by number.
    pub fn processes(&self) -> impl Iterator<Item = ProcessId> + '_ {
        self.controller.into_iter().chain(self.nodes.values().flat_map(|node| node.daemons.values().copied()))
    }
}

/// Reads and changes a lab's `lab.json`.
#[derive(Clone, Debug)]
pub struct Store {
    dir: LabDir,
}

impl Store {
    /// Makes the lab's directory, and the file with its first content.
    ///
    /// # Errors
    /// [`LabError::Exists`] if the directory exists; [`LabError::Io`].
    pub fn create(dir: &LabDir, state: &LabState) -> Result<Self, LabError> {
        let path = dir.path();
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|source| LabError::io("create", parent, source))?;
        }
        match fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(LabError::Exists { name: dir.name().clone() });
            }
            result => result.map_err(|source| LabError::io("create", path, source))?,
        }
        let store = Self { dir: dir.clone() };
        store.write(state)?;
        Ok(store)
    }

    /// The store of a lab that exists.
    ///
    /// # Errors
    /// [`LabError::NoLab`], [`LabError::Io`], [`LabError::State`].
    pub fn open(dir: &LabDir) -> Result<(Self, LabState), LabError> {
        let store = Self { dir: dir.clone() };
        let state = store.read()?;
        Ok((store, state))
    }

    /// What the file says.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn read(&self) -> Result<LabState, LabError> {
        let path = self.dir.state_file();
        let text = fs::read(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => LabError::NoLab { name: self.dir.name().clone() },
            _ => LabError::io("read", &path, source),
        })?;
        serde_json::from_slice(&text).map_err(|source| LabError::State { path, source })
    }

    /// Changes what the file says.
    ///
    /// # Errors
    /// As [`Store::open`]; nothing was changed then.
    pub fn update<T>(&self, change: impl FnOnce(&mut LabState) -> T) -> Result<T, LabError> {
        let path = self.dir.path();
        // The directory is what is locked: the file itself is another one after each change.
        let directory = File::open(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => LabError::NoLab { name: self.dir.name().clone() },
            _ => LabError::io("open", path, source),
        })?;
        directory.lock().map_err(|source| LabError::io("lock", path, source))?;
        let mut state = self.read()?;
        let result = change(&mut state);
        self.write(&state)?;
        Ok(result)
    }

    fn write(&self, state: &LabState) -> Result<(), LabError> {
        let path = self.dir.state_file();
        let new = path.with_extension("json.new");
        let text = serde_json::to_vec_pretty(state)
            .map_err(|source| LabError::State { path: path.clone(), source })?;
        File::create(&new)
            .and_then(|mut file| file.write_all(&text))
            .and_then(|()| fs::rename(&new, &path))
            .map_err(|source| LabError::io("write", &path, source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(name: &LabName) -> LabState {
        LabState {
            name: name.clone(),
            starting: None,
            datapath: Datapath::Netdev,
            bare: false,
            underlay: Underlay {
                network: "192.168.108.0/24".parse().unwrap(),
                router: Ipv4Addr::new(192, 168, 108, 1),
                outside: Ipv4Addr::new(203, 0, 113, 1),
            },
            namespaces: Vec::new(),
            controller: None,
            nodes: BTreeMap::new(),
            pods: BTreeMap::new(),
        }
    }

    #[test]
    fn a_second_lab_of_the_same_name_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let dir = LabDir::below(parent.path().join("labs"), "x".parse().unwrap());
        assert!(matches!(Store::open(&dir), Err(LabError::NoLab { .. })));
        let store = Store::create(&dir, &state(dir.name())).unwrap();
        assert_eq!(store.read().unwrap(), state(dir.name()));
        assert!(matches!(Store::create(&dir, &state(dir.name())), Err(LabError::Exists { .. })));
    }

    #[test]
    fn changes_from_many_sides_are_all_kept() {
        let parent = tempfile::tempdir().unwrap();
        let dir = LabDir::below(parent.path(), "x".parse().unwrap());
        let store = Store::create(&dir, &state(dir.name())).unwrap();
        std::thread::scope(|scope| {
            for n in 0..8 {
                let store = store.clone();
                scope.spawn(move || store.update(|state| state.namespaces.push(format!("n{n}"))).unwrap());
            }
        });
        let mut names = store.read().unwrap().namespaces;
        names.sort();
        assert_eq!(names, (0..8).map(|n| format!("n{n}")).collect::<Vec<_>>());
    }
}
