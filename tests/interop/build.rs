//! Sets `with_mediator` and `with_identus` if the environment names what tests against a running mediator need;
//! otherwise those tests are ignored.

use std::{env, path::Path};

/// The command.
const COMMAND: &str = "EINMAL_BIN";
/// Each setting and its requirements: the peers' interpreters, or the list of their packages.
const SETS: [(&str, &[&str]); 2] = [
    ("with_mediator", &[COMMAND, "EINMAL_INTEROP_PYTHON", "EINMAL_INTEROP_MESSAGING_PYTHON"]),
    ("with_identus", &[COMMAND, "EINMAL_INTEROP_NODE_PACKAGES"]),
];

fn is_there(name: &str) -> bool {
    println!("cargo::rerun-if-env-changed={name}");
    env::var(name).is_ok_and(|path| {
        println!("cargo::rerun-if-changed={path}");
        Path::new(&path).is_file()
    })
}

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for (set, needed) in SETS {
        println!("cargo::rustc-check-cfg=cfg({set})");
        // Checks every one, so that a change of any is noticed.
        if needed.iter().filter(|name| is_there(name)).count() == needed.len() {
            println!("cargo::rustc-cfg={set}");
        }
    }
}
