//! A wallet nobody here wrote gets its mail through our mediator: the quickstart of didcomm-messaging against the real
//! process.
//!
//! `run.sh` builds the command and the Python environment and names both; without them the test says it was skipped.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use serde_json::Value;

/// The mediator's process; killed when the test ends, however it ends.
struct Mediator(Child);

impl Drop for Mediator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(binary: &str, dir: &std::path::Path) -> (Mediator, Value) {
    let made = Command::new(binary).args(["init", "mediator", "--dir"]).arg(dir).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut child = Command::new(binary)
        .args(["run", "--json", "--listen", "127.0.0.1:0", "--dir"])
        .arg(dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (Mediator(child), serde_json::from_str(&line).unwrap())
}

#[test]
fn foreign_wallet_gets_its_mail_through_our_mediator_and_only_once() {
    let (Ok(binary), Ok(python)) =
        (std::env::var("EINMAL_BIN"), std::env::var("EINMAL_INTEROP_MESSAGING_PYTHON"))
    else {
        eprintln!("skipped: EINMAL_BIN and EINMAL_INTEROP_MESSAGING_PYTHON are set by tests/interop/run.sh");
        return;
    };
    let dir = std::env::temp_dir().join(format!("einmal-quickstart-{}", std::process::id()));
    let (_mediator, about) = start(&binary, &dir.join("mediator"));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/python/quickstart_mediated.py");
    // Live mode needs a WebSocket, which the mediator does not serve yet.
    let played = Command::new(python)
        .args([script, about["invitation"].as_str().unwrap(), "--no-websocket"])
        .output()
        .unwrap();
    let _ = std::fs::remove_dir_all(&dir);
    let said: Value = serde_json::from_slice(&played.stdout).unwrap();
    assert_eq!(said["ok"], true, "{said}\n{}", String::from_utf8_lossy(&played.stderr));
    let steps: Vec<&str> = said["steps"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(
        steps,
        [
            "mediate and register",
            "send while Alice is away",
            "pick up by HTTP",
            "read what was picked up",
            "pick up nothing more"
        ]
    );
}
