//! A foreign wallet, and nobody else, gets its mail through our mediator: the quickstart of didcomm-messaging against
//! the real process.

use std::process::Command;

use einmal_interop::{Mediator, play};

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
    play(
        Command::new(python).args(arguments),
        &[
            "mediate and register",
            "send while Alice is away",
            "mail not acknowledged comes again",
            "stranger gets nothing",
            "other account gets nothing",
            "pick up by HTTP",
            "pick up nothing more",
            "damaged mail is refused, repeated mail kept once",
            "mail for nobody is refused",
            "live mode",
        ],
    );
}
