//! Foreign wallets that play a whole story in their own process and report the result.

use std::process::Command;

use serde_json::{Value, json};

/// Runs a script that plays a story, and requires that it played exactly `steps`, all successfully.
///
/// The script prints one line of JSON: `{"ok": true, "steps": [...]}`, or what failed and why.
///
/// # Panics
///
/// If the story went differently.
pub fn play(script: &mut Command, steps: &[&str]) {
    let played = script.output().expect("the script starts");
    let complaint = String::from_utf8_lossy(&played.stderr);
    let said: Value = serde_json::from_slice(&played.stdout).unwrap_or_else(|_| panic!("{complaint}"));
    assert_eq!(said["ok"], true, "{said}\n{complaint}");
    assert_eq!(said["steps"], json!(steps));
}
