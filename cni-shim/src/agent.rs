//! Asking the node agent.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use cni_shim::cni::{CniError, ErrorCode, NetConf};
use cni_shim::contract::{self, ContractError, Request, Response};

/// Sends the request to the agent that the configuration names, and waits for its answer.
///
/// All of it, connecting included, is done by a thread of its own, so that one deadline holds for the whole: a full
/// listen queue would otherwise block `connect` without limit. A thread that misses it ends with the process.
pub(crate) fn ask(conf: &NetConf, request: Request) -> Result<Vec<u8>, CniError> {
    let socket = conf.socket().to_owned();
    let within = conf.timeout();
    let (send, answer) = mpsc::channel();
    let thread = thread::Builder::new().spawn({
        let socket = socket.clone();
        move || {
            // Nobody listens any more if the deadline has passed.
            let _ = send.send(exchange(&socket, &request));
        }
    });
    thread.map_err(|error| CniError::new(ErrorCode::INTERNAL, format!("can't start a thread: {error}")))?;
    match answer.recv_timeout(within) {
        Ok(answer) => answer,
        Err(RecvTimeoutError::Timeout) => Err(timed_out(&socket, within)),
        Err(RecvTimeoutError::Disconnected) => Err(CniError::new(
            ErrorCode::INTERNAL,
            "the thread that asked the node agent ended without an answer",
        )),
    }
}

fn exchange(socket: &PathBuf, request: &Request) -> Result<Vec<u8>, CniError> {
    let mut stream = UnixStream::connect(socket).map_err(|error| not_available(socket, &error))?;
    let sent = contract::write(&mut stream, request);
    if let Err(error @ ContractError::TooLong { .. }) = &sent {
        return Err(CniError::new(
            ErrorCode::INVALID_CONFIG,
            format!("the request to the node agent: {error}"),
        ));
    }
    // An agent that refuses a request may answer and close before it has read all of it: the answer counts.
    match contract::read::<Response>(&mut stream) {
        Ok(response) => response.into_result(),
        Err(error) => Err(interrupted(socket, &sent.err().unwrap_or(error))),
    }
}

fn not_available(socket: &Path, error: &io::Error) -> CniError {
    let what_to_do = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            "see whether the pod of sdn-node on this node is running and ready; the runtime tries again by itself"
        }
        io::ErrorKind::PermissionDenied => "the plugin must be run by root",
        _ => "see whether the key socket in the network configuration is the path that sdn-node listens on",
    };
    CniError::new(ErrorCode::TRY_AGAIN_LATER, "OpenShift SDN network process is not (yet?) available")
        .with_details(format!("{}: {error}; {what_to_do}", socket.display()))
}

fn interrupted(socket: &Path, error: &ContractError) -> CniError {
    let problem = "the OpenShift SDN network process ended the connection before it answered";
    match error {
        ContractError::Malformed(_) | ContractError::TooLong { .. } => CniError::new(
            ErrorCode::DECODE_FAILURE,
            "the answer of the OpenShift SDN network process is not understood; install the plugin and the agent of \
             the same version",
        ),
        ContractError::Truncated { .. } | ContractError::Io(_) => {
            CniError::new(ErrorCode::TRY_AGAIN_LATER, problem)
        }
    }
    .with_details(format!("{}: {error}", socket.display()))
}

fn timed_out(socket: &Path, within: Duration) -> CniError {
    CniError::new(
        ErrorCode::TRY_AGAIN_LATER,
        format!("the OpenShift SDN network process did not answer within {} s", within.as_secs()),
    )
    .with_details(format!(
        "{}: the log of sdn-node on this node, and sdnctl status, tell what it waits for",
        socket.display()
    ))
}
