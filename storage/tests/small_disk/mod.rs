//! Runs a test's child in a folder on a small disk of its own.

use std::{env, path::Path, process::Command};

/// Runs the ignored test `child` of this program, which finds `folder` in the variable `variable`, with a disk of so many MiB
/// there. `None` where the system lets only its administrator have one.
///
/// # Panics
///
/// If the child fails.
pub(crate) fn run(child: &str, variable: &str, folder: &Path, mib: u32) -> Option<()> {
    let mount = format!("mount -t tmpfs -o size={mib}m tmpfs \"${variable}\" && exec \"$0\" \"$@\"");
    let output = Command::new("unshare")
        .args(["-Urm", "sh", "-c", &mount])
        .arg(env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", child])
        .env(variable, folder)
        .output()
        .ok()?;
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    if !out.contains("running 1 test") {
        eprintln!("skipped: no small disk can be had here: {}", String::from_utf8_lossy(&output.stderr));
        return None;
    }
    assert!(output.status.success(), "{mib} MiB: {out}\n{}", String::from_utf8_lossy(&output.stderr));
    Some(())
}
