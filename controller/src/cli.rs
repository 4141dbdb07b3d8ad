//! The commands of `sdnctl`, one file a command.
//!
//! A command is a module with `pub struct Args` (what it takes, for clap) and `pub async fn run(args)` (what it
//! does); `Command` names them. Commands are thin: they parse, call the library and print.

pub mod diff;
pub mod flows;
pub mod lab;
pub mod objects;
pub mod openflow;
pub mod output;
pub mod ovsdb;
pub mod projects;
pub mod render;
pub mod status;
pub mod target;
pub mod tls;
pub mod trace;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use tracing_subscriber::EnvFilter;

/// Version and git hash of this build.
pub const VERSION: &str = env!("OSDN_VERSION");

/// How a command ended. A command that could not do its work returns an error instead, which is shown and becomes
/// exit status 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Exit {
    /// Done, or the answer is yes.
    Done,
    /// The answer is no: not equal, not reachable, not ready.
    No,
}

/// What was typed makes no sense, in a way that only the command could find out. Exit status 2, as clap's own errors.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct WrongUse(pub String);

/// OpenShift SDN: labs, flows, traces.
#[derive(Debug, Parser)]
#[command(
    name = "sdnctl",
    version = VERSION,
    max_term_width = 110,
    after_help = "Exit status: 0 done, 1 the answer is no, 2 wrong use, 3 could not be done."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// A cluster on this machine: network namespaces as nodes and pods, one real Open vSwitch a node
    Lab(lab::Args),
    Render(render::Args),
    Trace(trace::Args),
    Diff(diff::Args),
    Status(status::Args),
    Flows(flows::Args),
    Get(objects::GetArgs),
    Patch(objects::PatchArgs),
    Annotate(objects::AnnotateArgs),
    JoinProjects(projects::JoinArgs),
    IsolateProjects(projects::IsolateArgs),
    MakeProjectsGlobal(projects::GlobalArgs),
    Openflow(openflow::Args),
    Ovsdb(ovsdb::Args),
    /// Print the completions of a shell
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Runs `sdnctl`: parses the command line, runs the command, shows its error.
pub async fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let result = match cli.command {
        Command::Lab(args) => lab::run(args).await,
        Command::Render(args) => render::run(args).await,
        Command::Trace(args) => trace::run(args).await,
        Command::Diff(args) => diff::run(args).await,
        Command::Status(args) => status::run(args).await,
        Command::Flows(args) => flows::run(args).await,
        Command::Get(args) => objects::get(args).await,
        Command::Patch(args) => objects::patch(args).await,
        Command::Annotate(args) => objects::annotate(args).await,
        Command::JoinProjects(args) => projects::join(args).await,
        Command::IsolateProjects(args) => projects::isolate(args).await,
        Command::MakeProjectsGlobal(args) => projects::make_global(args).await,
        Command::Openflow(args) => openflow::run(args).await,
        Command::Ovsdb(args) => ovsdb::run(args).await,
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "sdnctl", &mut std::io::stdout());
            Ok(Exit::Done)
        }
    };
    match result {
        Ok(Exit::Done) => ExitCode::SUCCESS,
        Ok(Exit::No) => ExitCode::from(1),
        Err(error) => {
            eprintln!("sdnctl: {}", crate::describe(&error));
            ExitCode::from(if error.is::<WrongUse>() { 2 } else { 3 })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
