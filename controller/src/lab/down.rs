//! Removing a lab, whatever is left of it.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io;
use std::time::Duration;

use serde::Serialize;

use super::process::{self, ProcessId};
use super::state::{LabState, Store};
use super::{LabDir, LabError};
use crate::node::netns::NetNs;

/// How long programs may take to end by themselves.
const GRACE: Duration = Duration::from_secs(3);

/// How often the namespaces are searched for processes: one that was being started when the first search was made
/// is found by the second.
const SEARCHES: usize = 5;

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether there was a lab.
    pub existed: bool,
    /// How many processes were ended.
    pub processes: usize,
    /// The namespaces that were removed.
    pub namespaces: Vec<String>,
}

/// Removes a lab: its processes, its namespaces, its directory. No lab is no error. What can't be removed does not
/// keep the rest from being removed.
///
/// # Errors
/// [`LabError::Starting`] if a `lab up` of another process is still at work. [`LabError::Leftovers`] with everything
/// that could not be removed; the record of the lab is kept then, so that another try finds it.
pub async fn down(dir: &LabDir) -> Result<Report, LabError> {
    super::preflight::root()?;
    if let Ok((_, LabState { starting: Some(process), .. })) = Store::open(dir)
        && process.is_alive()
        && Some(process) != ProcessId::current()
    {
        return Err(LabError::Starting { name: dir.name().clone(), process });
    }
    let mut report = Report::default();
    remove(dir, &mut report).await?;
    Ok(report)
}

/// As [`down()`], also for a lab that is being made.
pub(super) async fn remove(dir: &LabDir, report: &mut Report) -> Result<(), LabError> {
    report.existed = dir.path().exists();
    if !report.existed {
        return Ok(());
    }
    let mut left = Vec::new();
    let state = match Store::open(dir) {
        Ok((_, state)) => Some(state),
        // A `lab up` that was killed between its first two steps: there is only the directory.
        Err(LabError::NoLab { .. }) => None,
        Err(error) => return Err(LabError::Leftovers(vec![error.to_string()])),
    };
    if let Some(state) = &state {
        end_processes(state, report, &mut left).await;
        remove_namespaces(dir, state, report, &mut left);
    }
    if !left.is_empty() {
        return Err(LabError::Leftovers(left));
    }
    match fs::remove_dir_all(dir.path()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(LabError::Leftovers(vec![format!(
                "could not remove {}: {error}",
                dir.path().display()
            )]));
        }
        _ => {}
    }
    if let Some(parent) = dir.path().parent() {
        // Only if no other lab is in it.
        let _ = fs::remove_dir(parent);
    }
    Ok(())
}

async fn end_processes(state: &LabState, report: &mut Report, left: &mut Vec<String>) {
    let namespaces: HashSet<u64> =
        state.namespaces.iter().filter_map(|name| NetNs::open_named(name).ok()?.inode().ok()).collect();
    let mut known: Vec<ProcessId> = state.processes().filter(|process| process.is_alive()).collect();
    for _ in 0..SEARCHES {
        let mut processes = process::inside(&namespaces);
        processes.append(&mut known);
        let processes: Vec<_> = processes.into_iter().collect::<HashSet<_>>().into_iter().collect();
        if processes.is_empty() {
            return;
        }
        report.processes += processes.len();
        let deaf = process::end(&processes, GRACE).await;
        left.extend(deaf.iter().map(|(process, errno)| match errno {
            Some(errno) => format!("could not end process {}: {errno}", process.pid),
            None => format!("process {} did not end, although it was killed", process.pid),
        }));
        if !deaf.is_empty() {
            return;
        }
    }
    left.push(
        "programs are being started in the lab's namespaces as fast as they are ended: stop what does it"
            .into(),
    );
}

fn remove_namespaces(dir: &LabDir, state: &LabState, report: &mut Report, left: &mut Vec<String>) {
    // Pods first: they are the ones that hang on the others.
    let pods: BTreeSet<&String> = state.pods.values().map(|pod| &pod.netns).collect();
    let (first, rest): (Vec<_>, Vec<_>) = state.namespaces.iter().partition(|name| pods.contains(name));
    for name in first.into_iter().chain(rest) {
        match NetNs::delete_named(name) {
            Ok(true) => report.namespaces.push(name.clone()),
            Ok(false) => {}
            Err(error) => left.push(format!("lab {}: {error}", dir.name())),
        }
    }
}
