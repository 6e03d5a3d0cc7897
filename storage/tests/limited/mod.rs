//! Runs a test's child with a bound on the length of its files, which acts as a full disk.

use std::{env, path::Path, process::Command};

/// Runs the ignored test `child` of this program, which finds `folder` in the variable `variable`, and returns its
/// output. None of its files may exceed `blocks` of 512 bytes.
///
/// # Panics
///
/// If the child fails.
pub(crate) fn run(child: &str, variable: &str, folder: &Path, blocks: u32) -> String {
    let output = Command::new("sh")
        .args(["-c", &format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"")])
        .arg(env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", child])
        .env(variable, folder)
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{out}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(out.contains("1 passed"), "no such child: {out}");
    out
}
