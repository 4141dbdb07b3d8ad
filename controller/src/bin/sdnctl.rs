//! Everything that a person types.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    controller::cli::main().await
}
