//! Running a user's command inside a pod or node.

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::str::FromStr;
use std::thread;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use thiserror::Error;

use super::node::ovs_environment;
use super::state::Store;
use super::{LabDir, LabError, pod};
use crate::node::netns::NetNs;

/// Where a command is to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the pod `NAMESPACE/NAME`.
    Pod(String),
    /// In the node `node/NAME`.
    Node(String),
    /// Between the nodes: `underlay`.
    Underlay,
}

/// A text names no [`Place`].
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0:?} is no place in a lab: use NAMESPACE/POD, node/NAME or underlay")]
pub struct InvalidPlace(String);

impl FromStr for Place {
    type Err = InvalidPlace;

    fn from_str(text: &str) -> Result<Self, InvalidPlace> {
        match text.split_once('/') {
            None if text == "underlay" => Ok(Self::Underlay),
            Some((first, name)) if !first.is_empty() && !name.is_empty() && !name.contains('/') => {
                Ok(if first == "node" { Self::Node(name.to_owned()) } else { Self::Pod(text.to_owned()) })
            }
            _ => Err(InvalidPlace(text.to_owned())),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(key) => f.write_str(key),
            Self::Node(name) => write!(f, "node/{name}"),
            Self::Underlay => f.write_str("underlay"),
        }
    }
}

/// A command of the user's, ready to run at its place.
#[derive(Debug)]
pub struct Inside {
    ns: NetNs,
    command: Command,
}

impl Inside {
    /// A command that runs at `place`. In a node the tools of Open vSwitch find the node's.
    ///
    /// # Errors
    /// [`LabError::NoLab`], [`LabError::NoNode`], [`LabError::NoPod`], [`LabError::NetNs`].
    pub fn new(dir: &LabDir, place: &Place, program: &OsStr, args: &[OsString]) -> Result<Self, LabError> {
        let (_, state) = Store::open(dir)?;
        let mut command = Command::new(program);
        command.args(args);
        let netns = match place {
            Place::Pod(key) => pod::find(&state, key)?.netns.clone(),
            Place::Node(name) => {
                let node = state.node(name)?;
                command.envs(ovs_environment(&dir.node(name)));
                node.netns.clone()
            }
            Place::Underlay => dir.underlay_netns(),
        };
        Ok(Self { ns: NetNs::open_named(&netns)?, command })
    }

    /// Becomes the command: terminal, signals and exit status are its own from then on. Returns only if that could
    /// not be done.
    ///
    /// # Errors
    /// [`LabError::NetNs`], [`LabError::Spawn`].
    pub fn become_it(mut self) -> Result<Infallible, LabError> {
        let program = PathBuf::from(self.command.get_program());
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.ns.enter()?;
                show_own_sysfs();
                // The thread that calls exec goes on as the whole process.
                Err(LabError::Spawn { program, source: self.command.exec() })
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

/// The command that `lab ovs` runs for what its user typed: `ovs-ofctl` is told the version that the bridges speak,
/// unless the user names one.
pub fn ovs_arguments(program: &OsStr, args: &[OsString]) -> Vec<OsString> {
    let named = args
        .iter()
        .filter_map(|arg| arg.to_str())
        .any(|arg| arg.starts_with("-O") || arg == "--protocols" || arg.starts_with("--protocols="));
    let version = (program == "ovs-ofctl" && !named).then(|| OsString::from("-OOpenFlow13"));
    version.into_iter().chain(args.iter().cloned()).collect()
}

/// Mounts a `/sys` that shows the links of the namespace that the calling thread is in, as `ip netns exec` does. For
/// the programs that look there; without it all others still work, so a failure is nothing to stop for.
fn show_own_sysfs() {
    let none = None::<&str>;
    let _ = unshare(CloneFlags::CLONE_NEWNS)
        .and_then(|()| mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none))
        .and_then(|()| umount2("/sys", MntFlags::MNT_DETACH))
        .and_then(|()| mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), none));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        assert_eq!("default/web".parse(), Ok(Place::Pod("default/web".into())));
        assert_eq!("node/node1.ocp.cn".parse(), Ok(Place::Node("node1.ocp.cn".into())));
        assert_eq!("underlay".parse(), Ok(Place::Underlay));
        for bad in ["", "web", "/web", "default/", "a/b/c"] {
            assert_eq!(bad.parse::<Place>(), Err(InvalidPlace(bad.into())));
        }
    }

    #[test]
    fn ofctl_speaks_openflow_13_unless_told_otherwise() {
        let arguments = |program: &str, args: &[&str]| {
            let args: Vec<OsString> = args.iter().map(OsString::from).collect();
            ovs_arguments(OsStr::new(program), &args)
        };
        assert_eq!(arguments("ovs-ofctl", &["dump-flows", "br0"]), ["-OOpenFlow13", "dump-flows", "br0"]);
        assert_eq!(
            arguments("ovs-ofctl", &["-O", "OpenFlow14", "show", "br0"]),
            ["-O", "OpenFlow14", "show", "br0"]
        );
        assert_eq!(arguments("ovs-vsctl", &["show"]), ["show"]);
    }
}
