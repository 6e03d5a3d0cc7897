//! A wallet nobody here wrote gets its mail through our mediator, and nobody else gets it: the quickstart of
//! didcomm-messaging against the real process.

use std::process::Command;

use einmal_interop::Mediator;
use serde_json::{Value, json};

#[test]
#[cfg_attr(not(with_mediator), ignore = "needs a mediator and an environment; use tests/interop/run.sh")]
fn foreign_wallet_gets_its_mail_through_our_mediator_once_and_nobody_else_does() {
    let Some(mediator) = Mediator::start() else { return };
    let Some(python) = std::env::var_os("EINMAL_INTEROP_MESSAGING_PYTHON") else {
        eprintln!("skipped: EINMAL_INTEROP_MESSAGING_PYTHON is not set; use tests/interop/run.sh");
        return;
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/python/quickstart_mediated.py");
    let arguments = [script, "--websocket", mediator.about("invitation")];
    let played = Command::new(python).args(arguments).output().unwrap();
    let complaint = String::from_utf8_lossy(&played.stderr);
    let said: Value = serde_json::from_slice(&played.stdout).unwrap_or_else(|_| panic!("{complaint}"));
    assert_eq!(said["ok"], true, "{said}\n{complaint}");
    // Every act was played, and no other.
    assert_eq!(
        said["steps"],
        json!([
            "mediate and register",
            "send while Alice is away",
            "mail not acknowledged comes again",
            "stranger gets nothing",
            "other account gets nothing",
            "pick up by HTTP",
            "pick up nothing more",
            "damaged mail is refused, repeated mail kept once",
            "mail for nobody is refused",
            "live mode"
        ])
    );
}
