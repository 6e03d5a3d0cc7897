//! The `einmal` command once more, so that the stories always run the one they were built with.

use std::process::ExitCode;

fn main() -> ExitCode {
    einmal::cli::main()
}
