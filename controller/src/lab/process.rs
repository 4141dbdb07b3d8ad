//! Processes of a lab: starting them inside a namespace, knowing them again, ending them.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::LabError;
use crate::node::netns::{self, NetNs};

/// How often the end of a process is looked for. There is no event for the end of a process that is not a child.
const POLL: Duration = Duration::from_millis(5);

/// A process, known by its number and the time of its start: the number alone may be another process's by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessId {
    /// The process number.
    pub pid: i32,
    /// When it started, in clock ticks since the machine's start (field 22 of proc_pid_stat(5)).
    pub start: u64,
}

impl ProcessId {
    /// The process that has this number now, unless it has ended (and only its parent has not noticed).
    pub fn of(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (state, start) = state_and_start(&stat)?;
        (!matches!(state, 'Z' | 'X')).then_some(Self { pid, start })
    }

    /// This process.
    pub fn current() -> Option<Self> {
        i32::try_from(std::process::id()).ok().and_then(Self::of)
    }

    /// The process that a PID file names.
    pub fn from_pid_file(path: &Path) -> Option<Self> {
        Self::of(fs::read_to_string(path).ok()?.trim().parse().ok()?)
    }

    /// Whether it runs.
    pub fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Sends it a signal; a process that has ended is no error.
    fn signal(self, signal: Signal) -> Result<(), Errno> {
        if !self.is_alive() {
            return Ok(());
        }
        match kill(Pid::from_raw(self.pid), signal) {
            Err(Errno::ESRCH) => Ok(()),
            result => result,
        }
    }
}

/// Field 3 and field 22. The name in field 2 may contain anything, also `)`.
fn state_and_start(stat: &str) -> Option<(char, u64)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

/// The processes inside any of these namespaces (given by [`NetNs::inode`]), other than this one.
pub(super) fn inside(namespaces: &HashSet<u64>) -> Vec<ProcessId> {
    let own = std::process::id();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|&pid| pid != own)
        .filter(|pid| {
            fs::metadata(format!("/proc/{pid}/ns/net")).is_ok_and(|ns| namespaces.contains(&ns.ino()))
        })
        .filter_map(|pid| ProcessId::of(i32::try_from(pid).ok()?))
        .collect()
}

/// Ends processes: SIGTERM, and SIGKILL for those that are still there after `grace`. Gives back those that even
/// that did not end, each with the kernel's reason if it gave one.
pub(super) async fn end(processes: &[ProcessId], grace: Duration) -> Vec<(ProcessId, Option<Errno>)> {
    for (signal, grace) in [(Signal::SIGTERM, grace), (Signal::SIGKILL, Duration::from_secs(5))] {
        let refused: Vec<_> =
            processes.iter().filter_map(|p| p.signal(signal).err().map(|errno| (*p, Some(errno)))).collect();
        let deadline = Instant::now() + grace;
        while processes.iter().any(|p| p.is_alive()) && Instant::now() < deadline {
            sleep(POLL).await;
        }
        if signal == Signal::SIGKILL {
            return processes
                .iter()
                .filter(|p| p.is_alive())
                .map(|p| (*p, refused.iter().find(|(q, _)| q == p).and_then(|(_, errno)| *errno)))
                .collect();
        }
    }
    Vec::new()
}

/// A program to start inside a namespace. It gets no standard input, and a process group of its own, so that
/// Ctrl-C at the terminal is `sdnctl`'s alone.
#[derive(Clone, Debug)]
pub(super) struct Launch {
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
}

impl Launch {
    /// Starts `program`.
    pub(super) fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), args: Vec::new(), env: Vec::new() }
    }

    /// Adds an argument.
    pub(super) fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds an option and its value as two arguments.
    pub(super) fn option(self, name: &str, value: impl Into<OsString>) -> Self {
        self.arg(name).arg(value)
    }

    /// Sets environment variables.
    pub(super) fn envs(mut self, env: impl IntoIterator<Item = (&'static str, PathBuf)>) -> Self {
        self.env.extend(env.into_iter().map(|(name, value)| (name.into(), value.into())));
        self
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args).envs(self.env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).process_group(0);
        command
    }

    fn failed(&self, source: io::Error) -> LabError {
        LabError::Spawn { program: self.program.clone(), source }
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// [`LabError::Spawn`]; [`LabError::Failed`], with what it said, if its exit status is not 0.
    pub(super) async fn run(&self, ns: &NetNs) -> Result<(), LabError> {
        let mut command = self.command();
        let Output { status, stderr, .. } =
            netns::spawn_in(ns, move || command.output()).await?.map_err(|source| self.failed(source))?;
        if status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&stderr).trim().to_owned();
        Err(LabError::Failed { program: self.program.clone(), status, said })
    }

    /// Starts it with its output going to the end of the file `log`.
    ///
    /// # Errors
    /// [`LabError::Spawn`], [`LabError::Io`].
    pub(super) async fn spawn(&self, ns: &NetNs, log: &Path) -> Result<Child, LabError> {
        let mut command = self.command();
        let out = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .map_err(|source| LabError::io("open", log, source))?;
        let err = out.try_clone().map_err(|source| LabError::io("open", log, source))?;
        command.stdout(out).stderr(err);
        netns::spawn_in(ns, move || command.spawn()).await?.map_err(|source| self.failed(source))
    }
}

/// The last lines of a log, at most `lines`, to be shown in an error.
pub(super) fn tail(log: &Path, lines: usize) -> String {
    const MOST: u64 = 16 * 1024;
    let read = || -> io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(MOST)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_stat() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 1 2";
        assert_eq!(state_and_start(stat), Some(('S', 12345)));
        assert_eq!(state_and_start("7 (x) Z 1"), None);
        assert_eq!(state_and_start(""), None);
    }

    #[tokio::test]
    async fn a_process_is_known_again_and_ended() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let id = ProcessId::of(i32::try_from(child.id()).unwrap()).unwrap();
        assert!(id.is_alive());
        assert!(!ProcessId { start: id.start + 1, ..id }.is_alive());
        // Not ours by its start: must not be signalled.
        assert!(end(&[ProcessId { start: id.start + 1, ..id }], Duration::ZERO).await.is_empty());
        assert!(id.is_alive());
        assert!(end(&[id], Duration::from_secs(5)).await.is_empty());
        assert!(!id.is_alive(), "a zombie counts as ended");
        child.wait().unwrap();
    }

    #[tokio::test]
    async fn a_deaf_process_is_killed() {
        let mut child =
            Command::new("sh").args(["-c", "trap '' TERM; while :; do sleep 60; done"]).spawn().unwrap();
        let id = ProcessId::of(i32::try_from(child.id()).unwrap()).unwrap();
        assert!(end(&[id], Duration::from_millis(50)).await.is_empty());
        assert!(!id.is_alive());
        child.wait().unwrap();
    }

    #[test]
    fn tails() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        assert_eq!(tail(&log, 3), "");
        fs::write(&log, "1\n2\n3\n4\n").unwrap();
        assert_eq!(tail(&log, 2), "3\n4");
        assert_eq!(tail(&log, 9), "1\n2\n3\n4");
    }
}
