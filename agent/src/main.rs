//! The `einmal` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    einmal::cli::main()
}
