//! Foreign wallets of the kind that asks for mediation in 2.0 get their mail through our mediator: the SDK of Identus
//! against the real process.

use std::process::Command;

use einmal_interop::{Mediator, play};

#[test]
#[cfg_attr(not(with_identus), ignore = "needs a mediator and Node's packages; use tests/interop/run.sh")]
fn identus_wallets_get_their_mail_once_when_they_ask_and_when_it_is_pushed() {
    let Some(mediator) = Mediator::start() else { return };
    let Some(packages) = std::env::var_os("EINMAL_INTEROP_NODE_PACKAGES") else {
        eprintln!("skipped: EINMAL_INTEROP_NODE_PACKAGES is not set; use tests/interop/run.sh");
        return;
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/node/identus_wallet.mjs");
    play(
        Command::new("node").arg(script).arg(packages).arg(mediator.about("did")),
        &[
            "two wallets get accounts",
            "and have mail kept for an address each",
            "mail is sent while its reader does not ask for any",
            "it is fetched in order, once",
            "mail for an address nobody registered is refused with a report",
            "in live mode mail comes without being asked for, once",
        ],
    );
    // Everything handed out was acknowledged, including pushed messages.
    assert_eq!(mediator.metric("einmal_mail_letters"), "0");
    assert_eq!(mediator.metric("einmal_pushed_total"), "1");
}
