//! The CNI plugin `openshift-sdn`: checks what the container runtime hands over, asks the node agent, prints its
//! answer.
//!
//! Environment variables and standard input are those of the CNI specification (sections 2 and 3). In the network
//! configuration the plugin knows, besides the specification's keys:
//!
//! | key | is | if missing |
//! |---|---|---|
//! | `socket` | the path of the agent's socket | `/var/run/openshift-sdn/cniserver/socket` |
//! | `timeout` | how long to wait for the agent's answer, in seconds, 1 to 600 | 60 |
//!
//! Standard output has what the specification wants there and nothing else: the result of ADD, the answer to VERSION,
//! or an error. The exit status is 0 if the verb was carried out and 1 if not.

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;

mod agent;
mod plugin;

/// Version and commit.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("SDN_COMMIT"), ")");

const HELP: &str = "\
The CNI plugin of OpenShift SDN. Container runtimes run it; there is nothing to run by hand.

Usage: CNI_COMMAND=VERB CNI_...=... openshift-sdn < NETWORK-CONFIGURATION
       openshift-sdn --help | --version

Verbs: ADD, DEL, CHECK, GC, STATUS, VERSION. Keys of the network configuration besides those of the CNI specification:
  socket   path of the node agent's socket [default: /var/run/openshift-sdn/cniserver/socket]
  timeout  seconds to wait for the node agent, 1 to 600 [default: 60]
";

fn main() -> ExitCode {
    if env::var_os("CNI_COMMAND").is_none()
        && let Some(argument) = env::args().nth(1)
    {
        return by_hand(&argument);
    }
    let (output, status) = match plugin::run(|name| env::var_os(name), io::stdin().lock()) {
        Ok(output) => (output, ExitCode::SUCCESS),
        Err(failure) => (failure.error.render(&failure.version), ExitCode::FAILURE),
    };
    if output.is_empty() {
        return status;
    }
    match print(&output) {
        Ok(()) => status,
        // Nobody reads standard output: the error can only be told by the status.
        Err(_) => ExitCode::FAILURE,
    }
}

fn by_hand(argument: &str) -> ExitCode {
    let text = match argument {
        "--version" | "-V" => format!("openshift-sdn {VERSION}\n"),
        "--help" | "-h" => HELP.to_owned(),
        other => {
            eprintln!("openshift-sdn: unknown argument {other:?}; try --help");
            return ExitCode::from(2);
        }
    };
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn print(output: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(output)?;
    stdout.write_all(b"\n")?;
    stdout.flush()
}
