//! Envelopes the target ought to understand: forms of DID, curves, hidden and signing senders, unknown headers.

use einmal_did::Did;
use einmal_didcomm::SenderProtection;
use einmal_keys::KeyKind;
use serde_json::{Value, json};

use super::{Run, ids::id, knock::is_answered, outcome::Outcome};

/// All checks of envelopes.
pub(super) async fn run(run: &mut Run) {
    let plain = [
        (id!("DCv2.1-envelope-did-peer-4"), run.probe.stranger_peer_4(run.probe.curve)),
        (id!("DCv2.1-envelope-did-key"), run.probe.stranger_key()),
        (id!("DCv2.1-envelope-curve-p256"), run.probe.stranger_peer_4(KeyKind::P256)),
    ];
    for (id, sender) in plain {
        // A curve on which the target has no key cannot be tried, and no rule requires it: then it is not checked.
        let answered = answered(run, sender, SenderProtection::Authcrypt).await;
        run.report.settle(id, answered);
    }
    let protected = [
        (id!("DCv2.1-envelope-anoncrypt-authcrypt"), SenderProtection::AuthcryptHidden),
        (id!("DCv2.1-envelope-signed-anoncrypt"), SenderProtection::SignedAnoncrypt),
    ];
    for (id, protection) in protected {
        let answered = answered(run, run.probe.stranger(), protection).await;
        run.report.settle(id, answered);
    }
    let headers = unknown_headers(run).await;
    run.report.settle(id!("DCv2.1-envelope-unknown-headers"), headers);
}

async fn answered(run: &Run, sender: Outcome<Did>, protection: SenderProtection) -> Outcome {
    let request = run.knock.request(&run.probe, &sender?)?;
    is_answered(run, &request, protection).await
}

async fn unknown_headers(run: &Run) -> Outcome {
    let me = run.probe.stranger()?;
    let mut request = run.knock.request(&run.probe, &me)?;
    request.body.insert("x-unknown".to_owned(), json!([1]));
    request.extra.insert("x-unknown".to_owned(), json!({"deep": [true, null]}));
    request.extra.insert("accept-lang".to_owned(), Value::Array(vec!["de".into(), "en".into()]));
    is_answered(run, &request, SenderProtection::Authcrypt).await
}
