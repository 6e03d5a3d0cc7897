//! The `einmal` command: verbs, their flags, and what they print.

mod args;
mod ask;
mod init;
mod output;
mod verbs;

use std::process::ExitCode;

use clap::Parser;

pub use args::{Cli, Verb};

use crate::error::SetupError;

/// Runs the command line and returns the exit status: 0 done, 1 failed, 2 wrong use.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            // Asking for help or version is not misuse.
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let json = cli.json;
    match verbs::run(cli) {
        Ok(status) => status,
        Err(error) => {
            output::error(&error, json);
            ExitCode::from(error.exit_status())
        }
    }
}

/// A runtime for verbs that run a node.
fn runtime() -> Result<tokio::runtime::Runtime, SetupError> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(SetupError::internal)
}
