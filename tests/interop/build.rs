//! Sets `with_mediator` if the environment names what tests against a running mediator need; else they are ignored.

use std::{env, path::Path};

/// The command, and the interpreters of the peers that talk to it.
const NEEDED: [&str; 3] = ["EINMAL_BIN", "EINMAL_INTEROP_PYTHON", "EINMAL_INTEROP_MESSAGING_PYTHON"];

fn main() {
    println!("cargo::rustc-check-cfg=cfg(with_mediator)");
    println!("cargo::rerun-if-changed=build.rs");
    let mut all = true;
    for name in NEEDED {
        println!("cargo::rerun-if-env-changed={name}");
        let there = env::var(name).is_ok_and(|path| {
            println!("cargo::rerun-if-changed={path}");
            Path::new(&path).is_file()
        });
        all &= there;
    }
    if all {
        println!("cargo::rustc-cfg=with_mediator");
    }
}
