//! What a lab needs, checked before anything is made.

use std::collections::BTreeSet;
use std::env;
use std::path::{Path, PathBuf};

use super::state::Datapath;
use super::{LabDir, LabError};
use crate::node::netns::NAMED;

/// Where programs are beside those of PATH: it often lacks the directories of administrators' programs.
const SBIN: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Where installations of Open vSwitch keep the schema of their database.
const SCHEMAS: [&str; 2] = ["/usr/share/openvswitch", "/usr/local/share/openvswitch"];

/// The programs that a lab starts.
#[derive(Clone, Debug)]
pub struct Programs {
    /// Makes a database file.
    pub ovsdb_tool: PathBuf,
    /// The OVSDB server.
    pub ovsdb_server: PathBuf,
    /// The switch.
    pub ovs_vswitchd: PathBuf,
    /// The schema of the switch's database.
    pub schema: PathBuf,
    /// The firewall's tool, which the node agent uses as well.
    pub nft: PathBuf,
    /// This project's programs; a bare lab has none.
    pub own: Option<OwnPrograms>,
}

/// The programs of this project.
#[derive(Clone, Debug)]
pub struct OwnPrograms {
    /// The node agent.
    pub sdn_node: PathBuf,
    /// The cluster controller.
    pub sdn_controller: PathBuf,
    /// The CNI plugin.
    pub cni_plugin: PathBuf,
}

impl Programs {
    /// Finds them.
    ///
    /// # Errors
    /// [`LabError::MissingTools`] with everything that is missing, [`LabError::MissingProgram`].
    pub fn find(bare: bool) -> Result<Self, LabError> {
        let mut missing = Vec::new();
        let mut tool = |name: &str| {
            in_path(name).unwrap_or_else(|| {
                missing.push(name.to_owned());
                PathBuf::new()
            })
        };
        let (ovsdb_tool, ovsdb_server, ovs_vswitchd) =
            (tool("ovsdb-tool"), tool("ovsdb-server"), tool("ovs-vswitchd"));
        let nft = tool("nft");
        let directories = env::var_os("OVS_PKGDATADIR").map(PathBuf::from).into_iter();
        let schema = directories
            .chain(SCHEMAS.map(PathBuf::from))
            .map(|directory| directory.join("vswitch.ovsschema"))
            .find(|schema| schema.is_file())
            .unwrap_or_else(|| {
                missing.push("vswitch.ovsschema (part of Open vSwitch)".to_owned());
                PathBuf::new()
            });
        if !missing.is_empty() {
            return Err(LabError::MissingTools { missing });
        }
        let own = if bare { None } else { Some(OwnPrograms::find()?) };
        Ok(Self { ovsdb_tool, ovsdb_server, ovs_vswitchd, schema, nft, own })
    }
}

impl OwnPrograms {
    /// Finds them beside the running program, else in PATH.
    ///
    /// # Errors
    /// [`LabError::MissingProgram`].
    pub fn find() -> Result<Self, LabError> {
        Ok(Self {
            sdn_node: own("sdn-node")?,
            sdn_controller: own("sdn-controller")?,
            cni_plugin: own("openshift-sdn")?,
        })
    }
}

/// Checks that this process may make a lab.
///
/// # Errors
/// [`LabError::NotRoot`].
pub fn root() -> Result<(), LabError> {
    if nix::unistd::geteuid().is_root() { Ok(()) } else { Err(LabError::NotRoot) }
}

/// Checks that the kernel can do the datapath.
///
/// # Errors
/// [`LabError::NoKernelDatapath`].
pub fn datapath(datapath: Datapath) -> Result<(), LabError> {
    match datapath {
        Datapath::System if !Path::new("/sys/module/openvswitch").exists() => Err(LabError::NoKernelDatapath),
        Datapath::System | Datapath::Netdev => Ok(()),
    }
}

/// Checks that the names of the lab and of its namespaces are free.
///
/// # Errors
/// [`LabError::Exists`], [`LabError::NamespaceTaken`].
pub fn names(dir: &LabDir, namespaces: &BTreeSet<String>) -> Result<(), LabError> {
    if dir.path().exists() {
        return Err(LabError::Exists { name: dir.name().clone() });
    }
    match namespaces.iter().find(|name| Path::new(NAMED).join(name).exists()) {
        Some(netns) => Err(LabError::NamespaceTaken { netns: netns.clone() }),
        None => Ok(()),
    }
}

/// Checks that tools of the distribution are installed.
///
/// # Errors
/// [`LabError::MissingTools`].
pub fn tools(names: &[&str]) -> Result<(), LabError> {
    let missing: Vec<_> =
        names.iter().filter(|name| in_path(name).is_none()).map(|name| (*name).to_owned()).collect();
    if missing.is_empty() { Ok(()) } else { Err(LabError::MissingTools { missing }) }
}

/// The program of that name.
pub fn in_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(SBIN.map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|program| program.is_file())
}

fn own(program: &'static str) -> Result<PathBuf, LabError> {
    let this = env::current_exe().unwrap_or_default();
    let directory = this.parent().unwrap_or(Path::new(""));
    // Cargo puts programs one directory above the tests that run them.
    let above = directory.parent().filter(|_| directory.ends_with("deps"));
    [Some(directory), above]
        .into_iter()
        .flatten()
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
        .or_else(|| in_path(program))
        .ok_or(LabError::MissingProgram { program, beside: this.clone() })
}
