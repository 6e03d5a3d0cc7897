//! The main job, end to end: the demo's steps in their order, each as it should be, as separate processes.

use std::{path::PathBuf, process::Command};

use serde_json::Value;

/// The steps the demo promises, in their order.
const STEPS: [&str; 13] = [
    "nodes-up",
    "mediation-granted",
    "resident-card-issued",
    "library-card-issued",
    "library-accepts",
    "false-name-refused",
    "replay-refused",
    "tampered-refused",
    "foreign-issuer-refused",
    "expired-refused",
    "revoked-refused",
    "mediator-killed-and-back",
    "mediator-blind",
];

/// The command, built beside this test: `./check` builds it first.
fn einmal() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(|deps| deps.parent()).unwrap().join("einmal");
    assert!(path.is_file(), "{} is missing; run: cargo build -p einmal", path.display());
    path
}

#[test]
fn whole_story_is_played_and_every_attack_is_refused() {
    let data = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/wetzlar");
    let output = Command::new(einmal()).args(["demo", "--json", "--data"]).arg(data).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let steps: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for step in &steps {
        assert_eq!(step["ok"], true, "{step}");
        assert!(step["ms"].is_u64() && step["detail"].is_string(), "{step}");
    }
    let names: Vec<&str> = steps.iter().map(|step| step["step"].as_str().unwrap()).collect();
    assert_eq!(names, STEPS);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn demo_without_its_input_fails_and_names_the_flag() {
    let output = Command::new(einmal()).args(["demo", "--data", "/nonexistent"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--data"));
}
