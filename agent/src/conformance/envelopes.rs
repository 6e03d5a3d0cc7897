//! Envelopes the target ought to understand: forms of DID, curves, hidden and signing senders, unknown headers.

use einmal_did::Did;
use einmal_didcomm::SenderProtection;
use einmal_keys::KeyKind;
use serde_json::{Value, json};

use super::{
    Run,
    outcome::Outcome,
    ping::{PING, answers_ping},
};

/// All checks of envelopes.
pub(super) async fn run(run: &mut Run) {
    let plain = [
        ("did-peer-4", run.probe.stranger_peer_4(run.probe.curve)),
        ("did-key", run.probe.stranger_key()),
        ("curve-p256", run.probe.stranger_peer_4(KeyKind::P256)),
    ];
    for (point, sender) in plain {
        // A curve on which the target has no key cannot be tried, and no rule requires it: then it is not checked.
        let answered = answered(run, sender, SenderProtection::Authcrypt).await;
        run.report.settle(format!("DCv2.1-envelope-{point}"), answered);
    }
    let protected = [
        ("anoncrypt-authcrypt", SenderProtection::AuthcryptHidden),
        ("signed-anoncrypt", SenderProtection::SignedAnoncrypt),
    ];
    for (point, protection) in protected {
        let answered = answered(run, run.probe.stranger(), protection).await;
        run.report.settle(format!("DCv2.1-envelope-{point}"), answered);
    }
    let headers = unknown_headers(run).await;
    run.report.settle("DCv2.1-envelope-unknown-headers", headers);
}

async fn answered(run: &Run, sender: Outcome<Did>, protection: SenderProtection) -> Outcome {
    let ping = run.probe.request(PING, &sender?, &json!({"response_requested": true}))?;
    answers_ping(run, &ping, protection).await
}

async fn unknown_headers(run: &Run) -> Outcome {
    let me = run.probe.stranger()?;
    let mut ping = run.probe.request(PING, &me, &json!({"response_requested": true, "x-unknown": [1]}))?;
    ping.extra.insert("x-unknown".to_owned(), json!({"deep": [true, null]}));
    ping.extra.insert("accept-lang".to_owned(), Value::Array(vec!["de".into(), "en".into()]));
    answers_ping(run, &ping, SenderProtection::Authcrypt).await
}
