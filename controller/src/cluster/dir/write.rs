//! [`DirWriter`]: changes a directory, one object at a time.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;
use tracing::debug;

use super::defaults;
use super::edit::{self, Edit, EditError};
use super::error::{DirError, Problem};
use super::parse::{File, Place};
use super::read::{Contents, Files, Index};
use super::yaml::{self, Node};
use crate::api::{Kind, ObjectRef};
use crate::cluster::{ClusterState, Object};

/// Changes the objects of a directory.
///
/// A change rewrites the document that holds the object; the file's other documents keep their text. It is atomic: the file
/// is written under another name, flushed to disk and renamed, so whoever reads the directory, also after a crash, sees the
/// old file or the new one. Writers exclude each other by a lock on the directory (`flock(2)`), which ends with the process.
///
/// The functions block on the disk and on other writers: call them from a thread that may.
#[derive(Clone, Debug)]
pub struct DirWriter {
    dir: PathBuf,
}

/// The directory, locked against other writers until this is dropped.
#[derive(Debug)]
pub struct DirLock {
    dir: PathBuf,
    files: Files,
    index: Index,
    state: Result<ClusterState, DirError>,
    /// Holds the lock.
    _handle: fs::File,
}

/// A change could not be made.
#[derive(Debug, Error)]
pub enum WriteError {
    /// The directory as a whole is in no state to work from.
    #[error(transparent)]
    Dir(#[from] DirError),
    /// There is no such object.
    #[error("{object} is not in {}", dir.display())]
    NotFound {
        /// The object.
        object: ObjectRef,
        /// The directory.
        dir: PathBuf,
    },
    /// There is such an object already.
    #[error("{object} is in {} already", file.display())]
    Exists {
        /// The object.
        object: ObjectRef,
        /// The file that holds it.
        file: PathBuf,
    },
    /// The object would not be accepted.
    #[error("{object} would not be valid, so nothing is changed: {}", list(problems))]
    Invalid {
        /// The object.
        object: ObjectRef,
        /// What would be wrong with it.
        problems: Vec<Problem>,
    },
    /// The change would turn the object into another one.
    #[error("a change can't rename {object}: delete it and create another")]
    Renamed {
        /// The object.
        object: ObjectRef,
    },
    /// The object's document can't be written by this system.
    #[error("the document of {object} in {} can't be rewritten ({reason}): edit the file by hand", file.display())]
    Unwritable {
        /// The object.
        object: ObjectRef,
        /// Its file.
        file: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The disk said no.
    #[error("can't {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn list(problems: &[Problem]) -> String {
    let texts: Vec<_> = problems
        .iter()
        .map(|problem| match &problem.field {
            Some(field) => format!("{field}: {}", problem.reason),
            None => problem.reason.clone(),
        })
        .collect();
    texts.join("; ")
}

impl DirWriter {
    /// A writer for this directory.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Waits until no other writer is at work, locks the directory and reads it.
    ///
    /// # Errors
    /// The directory can't be opened or locked.
    pub fn lock(&self) -> Result<DirLock, WriteError> {
        let io_error = |action| move |source| WriteError::Io { action, path: self.dir.clone(), source };
        let handle = fs::File::open(&self.dir).map_err(io_error("open"))?;
        handle.lock().map_err(io_error("lock"))?;
        let Contents { files, index, result } = Contents::read(&self.dir, &Files::new());
        Ok(DirLock { dir: self.dir.clone(), files, index, state: result, _handle: handle })
    }

    /// Creates the object, or replaces the one of the same name.
    ///
    /// # Errors
    /// See [`WriteError`]; nothing is changed then.
    pub fn apply(&self, object: &Object) -> Result<(), WriteError> {
        self.lock()?.apply(object)
    }

    /// Creates the object.
    ///
    /// # Errors
    /// [`WriteError::Exists`] if there is one of the same name; see [`WriteError`]. Nothing is changed then.
    pub fn create(&self, object: &Object) -> Result<(), WriteError> {
        self.lock()?.create(object)
    }

    /// Changes an object by an RFC 7386 merge patch, as `kubectl patch --type=merge` does, and returns the result.
    ///
    /// # Errors
    /// See [`WriteError`]; nothing is changed then.
    pub fn merge_patch(
        &self,
        kind: Kind,
        namespace: Option<&str>,
        name: &str,
        patch: &serde_json::Value,
    ) -> Result<Object, WriteError> {
        self.lock()?.merge_patch(&reference(kind, namespace, name), patch)
    }

    /// Deletes an object.
    ///
    /// # Errors
    /// See [`WriteError`]; nothing is changed then.
    pub fn delete(&self, kind: Kind, namespace: Option<&str>, name: &str) -> Result<(), WriteError> {
        self.lock()?.delete(&reference(kind, namespace, name))
    }
}

fn reference(kind: Kind, namespace: Option<&str>, name: &str) -> ObjectRef {
    let namespace =
        kind.is_namespaced().then(|| namespace.unwrap_or(crate::api::GLOBAL_NAMESPACE).to_owned());
    ObjectRef { kind, namespace, name: name.to_owned() }
}

impl DirLock {
    /// The state when the lock was taken.
    ///
    /// # Errors
    /// Every problem of every file. Objects can be written all the same, as long as that adds no problem.
    pub fn state(&self) -> Result<&ClusterState, &DirError> {
        self.state.as_ref()
    }

    /// As [`DirWriter::apply`].
    ///
    /// # Errors
    /// See [`WriteError`]; nothing is changed then.
    pub fn apply(&mut self, object: &Object) -> Result<(), WriteError> {
        let reference = object.reference();
        match self.index.get(&reference).cloned() {
            Some((file, place)) => {
                let node = document_of(object, &file.name)?;
                self.change(&reference, &file, &place, Edit::Replace(node)).map(drop)
            }
            None => self.create(object),
        }
    }

    /// As [`DirWriter::create`].
    ///
    /// # Errors
    /// See [`WriteError`]; nothing is changed then.
    pub fn create(&mut self, object: &Object) -> Result<(), WriteError> {
        let reference = object.reference();
        if let Some((file, _)) = self.index.get(&reference) {
            return Err(WriteError::Exists { object: reference, file: file.name.clone() });
        }
        let name = new_file(&reference);
        let before = self.files.get(&name).cloned();
        let text = before.as_ref().map_or("", |file| file.text.as_str());
        let node = document_of(object, &name)?;
        let text = edit::append(text, &node).map_err(|err| unwritable(&reference, &name, err))?;
        self.replace(&reference, &name, before.as_deref(), text, true).map(drop)
    }

    /// As [`DirWriter::merge_patch`].
    ///
    /// # Errors
    /// See [`WriteError`]; nothing is changed then.
    pub fn merge_patch(
        &mut self,
        object: &ObjectRef,
        patch: &serde_json::Value,
    ) -> Result<Object, WriteError> {
        let (file, place) = self.find(object)?;
        let file = self.change(object, &file, &place, Edit::Merge(patch))?;
        let mut objects = file.iter().flat_map(|file| &file.objects);
        let patched = objects.find(|placed| placed.object.reference() == *object);
        patched
            .map(|placed| placed.object.clone())
            .ok_or_else(|| WriteError::Renamed { object: object.clone() })
    }

    /// As [`DirWriter::delete`].
    ///
    /// # Errors
    /// See [`WriteError`]; nothing is changed then.
    pub fn delete(&mut self, object: &ObjectRef) -> Result<(), WriteError> {
        let (file, place) = self.find(object)?;
        self.change(object, &file, &place, Edit::Remove)?;
        self.index.remove(object);
        Ok(())
    }

    fn find(&self, object: &ObjectRef) -> Result<(Arc<File>, Place), WriteError> {
        let found = self.index.get(object).cloned();
        found.ok_or_else(|| WriteError::NotFound { object: object.clone(), dir: self.dir.clone() })
    }
}

impl DirLock {
    /// Edits the document at `place`; `None` if that leaves nothing of the file.
    fn change(
        &mut self,
        object: &ObjectRef,
        file: &File,
        place: &Place,
        edit: Edit<'_>,
    ) -> Result<Option<Arc<File>>, WriteError> {
        let keeps_object = !matches!(edit, Edit::Remove);
        let Some(text) = edit::edit(file, place, edit).map_err(|err| unwritable(object, &file.name, err))?
        else {
            self.remove_file(&file.name)?;
            return Ok(None);
        };
        self.replace(object, &file.name, Some(file), text, keeps_object).map(Some)
    }

    /// Replaces the text of a file, if the new one is as good as the old.
    fn replace(
        &mut self,
        object: &ObjectRef,
        name: &Path,
        before: Option<&File>,
        text: String,
        holds_object: bool,
    ) -> Result<Arc<File>, WriteError> {
        let file = File::parse(name.to_owned(), text);
        let known = before.map_or(0, |before| before.problems.len());
        if file.problems.len() > known {
            let is_about_it = |problem: &Problem| problem.object.as_ref().is_none_or(|other| other == object);
            let problems = file.problems.into_iter().filter(is_about_it).collect();
            return Err(WriteError::Invalid { object: object.clone(), problems });
        }
        if holds_object && !file.objects.iter().any(|placed| placed.object.reference() == *object) {
            return Err(WriteError::Renamed { object: object.clone() });
        }
        persist(&self.dir.join(name), &file.text)?;
        debug!(%object, file = %name.display(), "written");

        let file = Arc::new(file);
        self.files.insert(name.to_owned(), Arc::clone(&file));
        for placed in &file.objects {
            self.index.insert(placed.object.reference(), (Arc::clone(&file), placed.place.clone()));
        }
        Ok(file)
    }

    fn remove_file(&mut self, name: &Path) -> Result<(), WriteError> {
        let path = self.dir.join(name);
        fs::remove_file(&path).map_err(|source| WriteError::Io { action: "remove", path, source })?;
        self.files.remove(name);
        sync_dir(&self.dir)
    }
}

/// Name of the file for an object that is in none yet: `hostsubnet-node1.yaml`, `pod-default-web.yaml`.
fn new_file(object: &ObjectRef) -> PathBuf {
    let kind = object.kind.as_str().to_ascii_lowercase();
    let parts = [Some(kind.as_str()), object.namespace.as_deref(), Some(object.name.as_str())];
    PathBuf::from(parts.into_iter().flatten().collect::<Vec<_>>().join("-") + ".yaml")
}

/// The object as a document, with keys in the usual order and without the UID that the directory gave it.
fn document_of(object: &Object, file: &Path) -> Result<Node, WriteError> {
    let reference = object.reference();
    let mut object = object.clone();
    let meta = object.metadata_mut();
    if meta.uid.as_deref() == Some(&defaults::uid(&reference)) {
        meta.uid = None;
    }
    // By way of JSON text, which keeps the order of the fields.
    let text = object.to_json().map_err(|err| err.to_string());
    text.and_then(|text| yaml::parse(&text).map_err(|err| err.reason))
        .map_err(|reason| unwritable(&reference, file, EditError::Unwritable(reason)))
}

fn unwritable(object: &ObjectRef, file: &Path, err: EditError) -> WriteError {
    let reason = match err {
        EditError::Moved => "it is not where it was".to_owned(),
        EditError::Unwritable(reason) => reason,
    };
    WriteError::Unwritable { object: object.clone(), file: file.to_owned(), reason }
}

/// Puts a text in a file's place at once and for good.
fn persist(path: &Path, text: &str) -> Result<(), WriteError> {
    // A link stays, and what it names is written.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(path.file_name().unwrap_or_default());
    hidden.push(".tmp");
    let temporary = path.with_file_name(hidden);

    let written = (|| {
        let mut file = fs::File::create(&temporary)?;
        if let Ok(meta) = fs::metadata(&path) {
            file.set_permissions(meta.permissions())?;
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, &path)
    })();
    if let Err(source) = written {
        // Hidden, so it does no harm if it stays.
        let _ = fs::remove_file(&temporary);
        return Err(WriteError::Io { action: "write", path, source });
    }
    path.parent().map_or(Ok(()), sync_dir)
}

/// Makes renames and removals in a directory last through a power failure.
fn sync_dir(dir: &Path) -> Result<(), WriteError> {
    let synced = fs::File::open(dir).and_then(|handle| handle.sync_all());
    synced.map_err(|source| WriteError::Io { action: "flush", path: dir.to_owned(), source })
}
