//! [`DirError`]: everything that is wrong with a directory.

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

use crate::api::ObjectRef;

/// One thing that is wrong, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problem {
    /// Name of the file in the directory; `None` for the directory itself.
    pub file: Option<PathBuf>,
    /// Number of the document in the file, from 1.
    pub document: Option<usize>,
    /// Line of the file, from 1.
    pub line: Option<u64>,
    /// The object.
    pub object: Option<ObjectRef>,
    /// Path of the field in the object.
    pub field: Option<String>,
    /// What is wrong and what to do.
    pub reason: String,
}

impl fmt::Display for Problem {
    /// `nodes.yaml, document 2, line 14: Node node1: metadata.name: is missing: every object needs a name`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}", file.display())?;
            if let Some(document) = self.document {
                write!(f, ", document {document}")?;
            }
            if let Some(line) = self.line {
                write!(f, ", line {line}")?;
            }
            f.write_str(": ")?;
        }
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        if let Some(field) = &self.field {
            write!(f, "{field}: ")?;
        }
        f.write_str(&self.reason)
    }
}

/// A directory could not be read as cluster state.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub struct DirError {
    /// The directory.
    pub dir: PathBuf,
    /// Every problem, by file and place in it; never empty.
    pub problems: Vec<Problem>,
}

impl fmt::Display for DirError {
    /// One line for one problem, else a line of its own for each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cluster directory {}: ", self.dir.display())?;
        if let [problem] = self.problems.as_slice() {
            return problem.fmt(f);
        }
        write!(f, "{} problems:", self.problems.len())?;
        self.problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}
