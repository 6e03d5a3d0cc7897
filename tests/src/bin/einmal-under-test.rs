//! The `einmal` command again, so that the tests always run the one they were built with.

use std::process::ExitCode;

fn main() -> ExitCode {
    einmal::cli::main()
}
