//! Client of the control socket that every Open vSwitch daemon has: what `ovs-appctl` uses (unixctl, JSON-RPC 1.0
//! over a Unix socket).
//!
//! ```no_run
//! # async fn example() -> Result<(), ovsdb::unixctl::UnixctlError> {
//! let run_dir = std::path::Path::new("/run/openvswitch");
//! let socket = ovsdb::unixctl::control_socket(run_dir, "ovs-vswitchd")?;
//! print!("{}", ovsdb::unixctl::call(&socket, "ofproto/trace", &["br0", "in_port=1"]).await?);
//! # Ok(())
//! # }
//! ```

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::framing::{FramingError, Limits, Splitter};

/// Why a daemon's command has no output.
#[derive(Debug, thiserror::Error)]
pub enum UnixctlError {
    /// There is no pid file, or it can't be read.
    #[error("{daemon} does not seem to run: {path}: {source}")]
    PidFile {
        /// The daemon.
        daemon: String,
        /// Where its pid file should be.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The pid file does not hold a number.
    #[error("{0} holds no process id")]
    BadPidFile(PathBuf),
    /// The control socket can't be reached, or the daemon went away before it answered.
    #[error("control socket {path}: {source}")]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The daemon is there and does not answer: it hangs, is stopped, or has very much to do.
    #[error("control socket {path}: no answer to {command} within {} s: the daemon runs and is stuck", .after.as_secs_f64())]
    Deadline {
        /// The socket.
        path: PathBuf,
        /// The command.
        command: String,
        /// The time it had.
        after: Duration,
    },
    /// The daemon's answer is no JSON-RPC.
    #[error("control socket {path}: the answer is not understood: {reason}")]
    Answer {
        /// The socket.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The daemon refused the command.
    #[error("{command}: {text}")]
    Refused {
        /// The command.
        command: String,
        /// The daemon's text, without the final newline.
        text: String,
    },
}

/// The control socket of a daemon, `DAEMON.PID.ctl`, found through the pid file `DAEMON.pid` in its run directory.
///
/// # Errors
/// The pid file is missing or holds no number. The socket itself is not tried.
pub fn control_socket(run_dir: &Path, daemon: &str) -> Result<PathBuf, UnixctlError> {
    let path = run_dir.join(format!("{daemon}.pid"));
    let text = std::fs::read_to_string(&path).map_err(|source| UnixctlError::PidFile {
        daemon: daemon.to_owned(),
        path: path.clone(),
        source,
    })?;
    let pid: u32 = text.trim().parse().map_err(|_| UnixctlError::BadPidFile(path))?;
    Ok(run_dir.join(format!("{daemon}.{pid}.ctl")))
}

#[derive(Serialize)]
struct Request<'a> {
    id: u8,
    method: &'a str,
    params: &'a [&'a str],
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    result: Option<String>,
    #[serde(default)]
    error: Option<String>,
}

/// How long [`call`] waits for the answer.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// Runs a command, e.g. `ofproto/trace`, and returns its output.
///
/// # Errors
/// No daemon, no answer within [`DEADLINE`], or the command was refused.
pub async fn call(path: &Path, command: &str, args: &[&str]) -> Result<String, UnixctlError> {
    call_within(DEADLINE, path, command, args).await
}

/// As [`call`], with a deadline of one's own for commands that take longer, or must not. The daemon may still carry
/// out a command whose deadline is over.
///
/// # Errors
/// No daemon, no answer in time, or the command was refused.
pub async fn call_within(
    deadline: Duration,
    path: &Path,
    command: &str,
    args: &[&str],
) -> Result<String, UnixctlError> {
    let answered = tokio::time::timeout(deadline, exchange(path, command, args)).await;
    answered.unwrap_or_else(|_| {
        Err(UnixctlError::Deadline { path: path.to_owned(), command: command.to_owned(), after: deadline })
    })
}

async fn exchange(path: &Path, command: &str, args: &[&str]) -> Result<String, UnixctlError> {
    let failed = |source| UnixctlError::Io { path: path.to_owned(), source };
    let answer = |reason: String| UnixctlError::Answer { path: path.to_owned(), reason };
    let mut stream = UnixStream::connect(path).await.map_err(failed)?;
    let request = serde_json::to_vec(&Request { id: 0, method: command, params: args })
        .map_err(|error| answer(error.to_string()))?;
    stream.write_all(&request).await.map_err(failed)?;
    // Dumps of a big switch are one string.
    let limits = Limits { string: 256 << 20, ..Limits::default() };
    let mut splitter = Splitter::new(limits);
    let mut buffer = Vec::with_capacity(64 << 10);
    let mut found: Option<Result<Answer, String>> = None;
    while found.is_none() {
        buffer.clear();
        if stream.read_buf(&mut buffer).await.map_err(failed)? == 0 {
            return Err(failed(io::ErrorKind::UnexpectedEof.into()));
        }
        splitter
            .push(&buffer, |message| {
                found = Some(serde_json::from_slice(message).map_err(|error| error.to_string()));
            })
            .map_err(|error: FramingError| answer(error.to_string()))?;
    }
    match found {
        Some(Ok(Answer { error: Some(text), .. })) => {
            let text = text.trim_end().to_owned();
            Err(UnixctlError::Refused { command: command.to_owned(), text })
        }
        Some(Ok(Answer { result, .. })) => Ok(result.unwrap_or_default()),
        Some(Err(reason)) => Err(answer(reason)),
        None => Err(answer("nothing".to_owned())),
    }
}
