//! Reads a directory whole: [`load`], and [`Contents`] for those who read it again and again.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{DirError, Problem};
use super::parse::{File, Place};
use crate::api::ObjectRef;
use crate::cluster::ClusterState;

/// Reads a directory as cluster state.
///
/// # Errors
/// Every problem of every file, if there is any.
pub fn load(dir: &Path) -> Result<ClusterState, DirError> {
    Contents::read(dir, &Files::new()).result
}

/// The files of a directory by name.
pub(super) type Files = BTreeMap<PathBuf, Arc<File>>;

/// Where each object of a directory stands.
pub(super) type Index = BTreeMap<ObjectRef, (Arc<File>, Place)>;

/// A directory, read.
#[derive(Debug)]
pub(super) struct Contents {
    /// Its files, whether good or not.
    pub(super) files: Files,
    /// Where each object that could be read stands; of several with one name, the first.
    pub(super) index: Index,
    /// What the files say together.
    pub(super) result: Result<ClusterState, DirError>,
}

impl Contents {
    /// Reads the directory. Files whose text is as in `previous` are not parsed again, and their objects keep their `Arc`.
    pub(super) fn read(dir: &Path, previous: &Files) -> Self {
        let (files, mut problems) = read_files(dir, previous);
        problems.extend(files.values().flat_map(|file| file.problems.iter().cloned()));
        let (index, state) = assemble(&files, &mut problems);
        problems.sort_by(|a, b| (&a.file, a.document, a.line).cmp(&(&b.file, b.document, b.line)));
        let result =
            if problems.is_empty() { Ok(state) } else { Err(DirError { dir: dir.to_owned(), problems }) };
        Self { files, index, result }
    }
}

/// Whether a file of this name is part of the state.
pub(super) fn is_member(name: &Path) -> bool {
    let hidden = name.as_os_str().as_encoded_bytes().starts_with(b".");
    let known =
        name.extension().is_some_and(|extension| matches!(extension.to_str(), Some("yaml" | "yml" | "json")));
    known && !hidden
}

fn read_files(dir: &Path, previous: &Files) -> (Files, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut files = Files::new();
    let names = match list(dir) {
        Ok(names) => names,
        Err(err) => {
            let reason = match err.kind() {
                io::ErrorKind::NotFound => {
                    "does not exist: create it, or name another with --cluster".to_owned()
                }
                io::ErrorKind::NotADirectory => "is no directory: name one with --cluster".to_owned(),
                _ => format!("can't be listed: {err}"),
            };
            return (files, vec![Problem { reason, ..Problem::default() }]);
        }
    };
    for name in names {
        // Whoever reads from a pipe or a device may wait for ever.
        if fs::metadata(dir.join(&name)).is_ok_and(|metadata| !metadata.is_file()) {
            let reason = "is no regular file: remove it, or give it another name".to_owned();
            problems.push(Problem { file: Some(name), reason, ..Problem::default() });
            continue;
        }
        match fs::read(dir.join(&name)).map(String::from_utf8) {
            Ok(Ok(text)) => {
                let file = match previous.get(&name) {
                    Some(file) if file.text == text => Arc::clone(file),
                    _ => Arc::new(File::parse(name.clone(), text)),
                };
                files.insert(name, file);
            }
            Ok(Err(err)) => {
                let reason =
                    format!("is no UTF-8 text (byte {}): save it as UTF-8", err.utf8_error().valid_up_to());
                problems.push(Problem { file: Some(name), reason, ..Problem::default() });
            }
            // Removed since the directory was listed.
            Err(err) if err.kind() == io::ErrorKind::NotFound => {}
            Err(err) => {
                problems.push(Problem {
                    file: Some(name),
                    reason: format!("can't be read: {err}"),
                    ..Problem::default()
                });
            }
        }
    }
    (files, problems)
}

/// Names of the files that are part of the state, in order.
fn list(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = PathBuf::from(entry.file_name());
        // A link to a file counts, as a mounted ConfigMap is made of such.
        if is_member(&name) && !entry.path().is_dir() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Puts the files' objects together, and notes those that occur twice.
fn assemble(files: &Files, problems: &mut Vec<Problem>) -> (Index, ClusterState) {
    let (mut index, mut state) = (Index::new(), ClusterState::default());
    for file in files.values() {
        for placed in &file.objects {
            match index.entry(placed.object.reference()) {
                Entry::Vacant(entry) => {
                    entry.insert((Arc::clone(file), placed.place.clone()));
                    state.insert(placed.object.clone());
                }
                Entry::Occupied(entry) => {
                    let (other, place) = entry.get();
                    problems.push(Problem {
                        file: Some(file.name.clone()),
                        document: Some(placed.place.document + 1),
                        line: Some(placed.place.line),
                        object: Some(entry.key().clone()),
                        field: None,
                        reason: format!(
                            "is also in {}, document {}, line {}: remove one of the two",
                            other.name.display(),
                            place.document + 1,
                            place.line
                        ),
                    });
                }
            }
        }
    }
    (index, state)
}
