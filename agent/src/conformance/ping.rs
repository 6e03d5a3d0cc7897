//! Trust ping in all its forms, and answers to the sender's own endpoint.

use einmal_did::Did;
use einmal_didcomm::Message;
use serde_json::json;

use super::{
    Run,
    answer::{Answer, Heard},
    callback::Callback,
    ids::id,
    knock::Knock,
    outcome::{Needed, Outcome, Problem, holds},
    probe::in_thread,
    transport,
};

/// A ping.
pub(super) const PING: &str = "https://didcomm.org/trust-ping/2.0/ping";
/// Its answer.
pub(super) const PONG: &str = "https://didcomm.org/trust-ping/2.0/ping-response";
/// The protocol.
pub(super) const TRUST_PING: &str = "https://didcomm.org/trust-ping/2.0";
/// Most envelopes read at our endpoint while the awaited one does not come.
const MAX_CALLS: usize = 16;

/// Trust ping, in all of its forms.
pub(super) async fn ping(run: &mut Run) {
    let Ok(me) = run.probe.stranger() else { return };
    let Ok(request) = run.probe.request(PING, &me, &json!({"response_requested": true})) else { return };
    let answer = run.probe.say_twice(&request).await;
    transport::reply(run, &me, &request, &answer);
    // Agents that answer only to endpoints are heard there.
    if answer.is_silent() && elsewhere(run).await {
        run.worked.insert(TRUST_PING);
        run.report.passed(id!("TP2-response"), "at the endpoint of the sender");
        run.report.not_checked("TP2", "answers do not come on the connection");
        return;
    }
    let pong = answer.expect_kind(PONG);
    if !run.opens("TP2", TRUST_PING, id!("TP2-response"), pong) {
        return;
    }
    let default = run.probe.ask(PING, &me, &json!({})).await;
    run.report.settle(id!("TP2-response-default"), default.expect_kind(PONG));
    let unasked = run.probe.ask(PING, &me, &json!({"response_requested": false})).await;
    let mut silent = unasked.expect_refusal();
    if silent.is_ok() {
        // Silence from a target that answers nothing at all proves nothing.
        let after = run.probe.ask(PING, &me, &json!({"response_requested": true})).await;
        silent = after.expect_kind(PONG).needed("afterwards a ping that wants an answer");
    }
    run.report.settle(id!("TP2-response-not-requested"), silent);
    elsewhere(run).await;
}

/// Checks answers to the sender's own endpoint; returns whether they arrive there.
pub(super) async fn elsewhere(run: &mut Run) -> bool {
    let Some(address) = run.listen else {
        run.report
            .not_checked("TP2-response-", "needs an address the target can call: --listen ADDRESS:PORT");
        return false;
    };
    let listening = Callback::listen(address, run.public_url.as_deref()).await;
    let Ok(mut callback) = listening else {
        run.report.not_checked("TP2-response-", "our own endpoint could not be opened");
        return false;
    };
    let body = json!({"response_requested": true});
    // Each ping has a sender of its own, so that a late answer to one is not mistaken for an answer to another.
    let (Ok(first), Ok(second)) =
        (run.probe.stranger_at(&callback.uri), run.probe.stranger_at(&callback.uri))
    else {
        return false;
    };
    let answer = run.probe.ask(PING, &first, &body).await;
    let twice = || Problem::Broken("the answer came on the connection and at the endpoint".to_owned());
    let mut once = match answer.opened() {
        None => Err(Problem::Unknown(format!("on the connection: {}", answer.describe()))),
        Some(_) => match callback.next(run.probe.quiet()).await {
            None => Ok(()),
            Some(_) => Err(twice()),
        },
    };
    let Ok(ping) = run.probe.message(PING, &second, &run.probe.target, &body) else { return false };
    let sent = run.probe.say(&ping).await;
    let (came, late) = called_back(run, &mut callback, (Knock::Ping, &ping), &second, &sent).await;
    if late && once.is_ok() {
        once = Err(twice());
    }
    run.calls_back |= !matches!(came, Err(Problem::Silent(_) | Problem::Unknown(_)));
    let called = run.report.settle(id!("TP2-response-async"), came);
    run.report.settle(id!("TP2-response-once"), once);
    called
}

/// Looks whether anything but a ping is answered at the sender's endpoint.
pub(super) async fn others_elsewhere(run: &mut Run) {
    let Some(address) = run.listen else { return };
    let Ok(mut callback) = Callback::listen(address, run.public_url.as_deref()).await else { return };
    for knock in Knock::all().skip(1) {
        let Ok(me) = run.probe.stranger_at(&callback.uri) else { return };
        let Ok(request) = knock.one_way(&run.probe, &me) else { return };
        let sent = run.probe.say(&request).await;
        let (came, _) = called_back(run, &mut callback, (knock, &request), &me, &sent).await;
        if came.is_ok() {
            run.calls_back = true;
            return;
        }
    }
}

/// Waits for the answer to a request at our endpoint; also returns whether something arrived for another sender meanwhile.
async fn called_back(
    run: &Run,
    callback: &mut Callback,
    (knock, request): (Knock, &Message),
    me: &Did,
    sent: &Answer,
) -> (Outcome, bool) {
    if let Err(problem) = sent.arrived() {
        return (Err(problem), false);
    }
    let end = tokio::time::Instant::now() + run.probe.patience();
    let mut late = false;
    for _ in 0..MAX_CALLS {
        let left = end.saturating_duration_since(tokio::time::Instant::now());
        let Some(bytes) = callback.next(left).await else { break };
        match run.probe.hear(&bytes).await {
            Heard::Message(opened) if !opened.recipient().is_some_and(|to| to.same_as(me)) => late = true,
            Heard::Message(opened) if knock.is_answer(&opened.message.kind) => {
                let proved = holds(run.probe.is_from_target(&opened), || {
                    "the answer does not prove to come from the target".to_owned()
                });
                return (proved.and_then(|()| in_thread(&opened.message, request)), late);
            }
            other => return (Err(format!("something else came to the endpoint: {other:?}").into()), late),
        }
    }
    let nothing = "nothing came to the endpoint; perhaps the target must not call this address";
    (Err(Problem::Silent(nothing.to_owned())), late)
}
