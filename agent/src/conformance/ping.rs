//! Trust ping in all its forms, and answers to the sender's own endpoint.

use einmal_did::Did;
use einmal_didcomm::{Message, SenderProtection};
use serde_json::json;

use super::{
    Run,
    answer::{Answer, Heard},
    callback::Callback,
    invitation,
    outcome::{Needed, Outcome, Problem, holds},
    probe::in_thread,
};

/// A ping.
pub(super) const PING: &str = "https://didcomm.org/trust-ping/2.0/ping";
const PONG: &str = "https://didcomm.org/trust-ping/2.0/ping-response";
/// The protocol.
pub(super) const TRUST_PING: &str = "https://didcomm.org/trust-ping/2.0";
/// Most envelopes read at our endpoint while the awaited one does not come.
const MAX_CALLS: usize = 16;

/// Trust ping, in all of its forms.
pub(super) async fn ping(run: &mut Run) {
    let Ok(me) = run.probe.stranger() else { return };
    let Ok(request) = run.probe.request(PING, &me, &json!({"response_requested": true})) else { return };
    let answer = run.probe.say_twice(&request).await;
    if let Some(opened) = answer.opened() {
        let ours = run.probe.is_from_target(opened)
            && opened.recipient().is_some_and(|recipient| recipient.same_as(&me));
        let proved = holds(ours, || "the answer proves no sender".to_owned());
        run.report.settle("DCv2.1-envelope-reply-proves-sender", proved);
        let in_thread = names_thread(&opened.message, &request, answer.report().is_some());
        run.report.settle("DCv2.1-envelope-reply-thread", in_thread);
    }
    // Agents that answer only to endpoints are heard there.
    let called = answer.is_silent() && elsewhere(run).await;
    if called {
        run.worked.insert(TRUST_PING);
        run.report.passed("TP2-response", "at the endpoint of the sender");
        run.report.not_checked("TP2", "answers do not come on the connection");
        return;
    }
    let pong = answer.expect_kind(PONG);
    if !run.opens("TP2", TRUST_PING, "TP2-response", pong) {
        return;
    }
    let default = run.probe.ask(PING, &me, &json!({})).await;
    run.report.settle("TP2-response-default", default.expect_kind(PONG));
    let unasked = run.probe.ask(PING, &me, &json!({"response_requested": false})).await;
    let mut silent = unasked.expect_refusal();
    if silent.is_ok() {
        // Silence from a target that answers nothing at all proves nothing.
        let after = run.probe.ask(PING, &me, &json!({"response_requested": true})).await;
        silent = after.expect_kind(PONG).needed("afterwards a ping that wants an answer");
    }
    run.report.settle("TP2-response-not-requested", silent);
    invitation::invited(run, &me).await;
    quiet_route(run).await;
    elsewhere(run).await;
}

fn names_thread(message: &Message, request: &Message, is_report: bool) -> Outcome {
    if is_report && message.pthid.as_ref() == Some(&request.thread()) {
        return Ok(());
    }
    in_thread(message, request)
}

/// A ping that does not open a return route.
async fn quiet_route(run: &mut Run) {
    let silent = run.probe.again(|| no_way_back(run)).await;
    run.report.settle("DCv2.1-transport-return-route-none", silent);
}

async fn no_way_back(run: &Run) -> Outcome {
    let me = run.probe.stranger()?;
    let ping = run.probe.message(PING, &me, &run.probe.target, &json!({"response_requested": true}))?;
    let answer = run.probe.say(&ping).await;
    match &answer.heard {
        // A refusal is silent, too, but says nothing about what would have come back.
        Heard::Nothing | Heard::Noise if answer.accepted() => Ok(()),
        Heard::Message(_) | Heard::Bare(_) | Heard::Unreadable(_) => {
            Err(Problem::Broken(format!("something came back: {}", answer.describe())))
        }
        _ => Err(answer.problem()),
    }
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
    let (came, late) = called_back(run, &mut callback, &ping, &second, &sent).await;
    if late && once.is_ok() {
        once = Err(twice());
    }
    run.calls_back |= !matches!(came, Err(Problem::Silent(_) | Problem::Unknown(_)));
    let called = run.report.settle("TP2-response-async", came);
    run.report.settle("TP2-response-once", once);
    called
}

/// Waits for the answer to `ping` at our endpoint; also returns whether something arrived for another sender meanwhile.
async fn called_back(
    run: &Run,
    callback: &mut Callback,
    ping: &Message,
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
            Heard::Message(opened) if opened.message.kind.is(PONG) => {
                let proved = holds(run.probe.is_from_target(&opened), || {
                    "the answer does not prove to come from the target".to_owned()
                });
                return (proved.and_then(|()| in_thread(&opened.message, ping)), late);
            }
            other => return (Err(format!("something else came to the endpoint: {other:?}").into()), late),
        }
    }
    let nothing = "nothing came to the endpoint; perhaps the target must not call this address";
    (Err(Problem::Silent(nothing.to_owned())), late)
}

/// Whether a ping with this protection is answered.
pub(super) async fn answers_ping(run: &Run, message: &Message, protection: SenderProtection) -> Outcome {
    let answer = run.probe.say_as(message, protection).await;
    match answer.opened() {
        Some(_) if answer.report().is_none() => Ok(()),
        _ => Err(answer.problem()),
    }
}
