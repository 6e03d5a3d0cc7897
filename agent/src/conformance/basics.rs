//! Reaching the target: endpoints, transports, ping, and what it says about itself.

use std::collections::BTreeSet;

use einmal_did::{DIDCOMM_V2, Did};
use einmal_didcomm::{ENCRYPTED_MEDIA_TYPE, Message, SenderProtection, bare_media_type};
use serde_json::{Value, json};

use super::{
    Run,
    answer::{Answer, Heard},
    callback::Callback,
    outcome::{Needed, Outcome, Problem, holds},
    probe::in_thread,
    socket::Socket,
};

/// A ping.
pub(super) const PING: &str = "https://didcomm.org/trust-ping/2.0/ping";
const PONG: &str = "https://didcomm.org/trust-ping/2.0/ping-response";
const TRUST_PING: &str = "https://didcomm.org/trust-ping/2.0";
const FEATURES: &str = "https://didcomm.org/discover-features/2.0";
/// Size of a message that no target must accept, in bytes.
const OVERSIZE: usize = 8 * 1024 * 1024;
/// Most envelopes read at our endpoint while the awaited one does not come.
const MAX_CALLS: usize = 16;
/// A mediation or pickup protocol is promised to us only if one of these roles is named.
const SERVING_ROLES: [&str; 2] = ["mediator", "responder"];

/// Looks up the target and sends a first message; returns whether it can go on.
pub(super) async fn reach(run: &mut Run) -> bool {
    let curve = run.probe.choose_curve().await;
    let found = run.probe.find_endpoints().await;
    let usable = curve.is_ok();
    run.report.settle("DCv2.1-did-agreement-key", curve.and_then(|required| required));
    // Whether anybody is there is told by the first message, not by the document.
    let named = run.report.settle("DCv2.1-did-service-endpoint", found);
    if !usable || !named {
        return false;
    }
    invitation(run);
    let Ok(me) = run.probe.stranger() else { return false };
    let Ok(request) = run.probe.request(PING, &me, &json!({"response_requested": true})) else {
        return false;
    };
    let answer = run.probe.say_twice(&request).await;
    if answer.is_lost() {
        run.report.settle("DCv2.1-transport-answers", Err(answer.describe()));
        return false;
    }
    let came_back = answer.came_back();
    let accepted = if answer.accepted() || came_back { Ok(()) } else { Err(answer.problem()) };
    run.report.settle("DCv2.1-transport-answers", accepted);
    if (!answer.accepted() && !came_back) || run.probe.behind_hops {
        return answer.accepted();
    }
    let back = if came_back { Ok(()) } else { Err(answer.problem()) };
    run.talks = run.report.settle("DCv2.1-transport-return-route-all", back);
    if !run.talks {
        return true;
    }
    if answer.status.is_none() {
        run.report.not_checked("DCv2.1-transport-media-type", "frames of a WebSocket have no label");
        return true;
    }
    let label = answer.media_type.as_deref().map(bare_media_type);
    let right = label.as_deref() == Some(bare_media_type(ENCRYPTED_MEDIA_TYPE).as_str());
    run.report.settle("DCv2.1-transport-media-type", holds(right, || format!("labelled {label:?}")));
    true
}

/// The form of the invitation, if one was given.
fn invitation(run: &mut Run) {
    let invitation = match &run.invitation {
        None => {
            run.report.not_checked("OOB2", "a DID was given, no invitation");
            return;
        }
        Some(Err(problem)) => {
            run.report.settle("OOB2-invitation-form", Err(problem.clone()));
            run.report.not_checked("OOB2", "the invitation cannot be read");
            return;
        }
        Some(Ok(invitation)) => invitation,
    };
    // An inviter that does not list what it accepts accepts anything.
    let any = invitation.accept.is_empty();
    let accepts = any || invitation.accept.iter().any(|profile| profile == DIDCOMM_V2);
    let accept = holds(accepts, || format!("accept is {:?}", invitation.accept));
    run.report.passed("OOB2-invitation-form", "");
    run.report.settle("OOB2-invitation-accept", accept);
}

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
    invited(run, &me).await;
    quiet_route(run).await;
    elsewhere(run).await;
}

/// A first message under the invitation, if one was given.
async fn invited(run: &mut Run, me: &Did) {
    let Some(Ok(invitation)) = &run.invitation else { return };
    let taken = async {
        let mut first = run.probe.request(PING, me, &json!({"response_requested": true}))?;
        first.pthid = Some(invitation.thread.clone());
        let taken = run.probe.say(&first).await;
        if taken.accepted() { Ok(()) } else { Err(taken.problem()) }
    };
    let taken: Outcome = taken.await;
    run.report.settle("OOB2-invitation-response", taken);
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

/// What the target says it offers.
pub(super) async fn discover(run: &mut Run) {
    let kind = format!("{FEATURES}/queries");
    let disclose = format!("{FEATURES}/disclose");
    let Ok(me) = run.probe.stranger() else { return };
    let query = |feature_type: &str, pattern: &str| json!({"queries": [{"feature-type": feature_type, "match": pattern}]});
    let (all, kinds) = (query("protocol", "*"), [disclose.as_str()]);
    let answer = run.probe.twice(|| run.probe.get_in_thread(&kind, &me, &all, &kinds)).await;
    let (answer, opened) = match answer {
        Ok(message) => (message, Ok(())),
        Err(problem) => {
            run.opens("DF2", FEATURES, "DF2-disclose", Err(problem));
            return;
        }
    };
    run.opens("DF2", FEATURES, "DF2-disclose", opened);
    let named = || disclosures(&answer).filter(|(feature_type, _)| *feature_type == "protocol");
    let plain = |id: &str| id.trim_end_matches('/').to_owned();
    let listed: BTreeSet<String> = named().map(|(_, id)| plain(id)).collect();
    run.disclosed = named().filter(|(_, id)| is_promised(&answer, id)).map(|(_, id)| plain(id)).collect();
    // An empty list means "not telling".
    run.listed = (!listed.is_empty()).then_some(listed);
    let exact = run.probe.get(&kind, &me, &query("protocol", TRUST_PING), &[&disclose]).await;
    let is_ping = |id: &str| id.trim_end_matches('/') == TRUST_PING;
    let told = exact.as_ref().is_ok_and(|answer| disclosures(answer).any(|(_, id)| is_ping(id)));
    let exact = exact.and_then(|answer| {
        let foreign = disclosures(&answer).any(|(_, id)| !is_ping(id));
        holds(!foreign, || "other protocols were disclosed too".to_owned())
    });
    run.report.settle("DF2-match", exact);
    // Alone it may meet silence, because then nothing is asked; beside a known one it must not interfere.
    let both = json!({"queries": [
        {"feature-type": "x-of-no-known-type", "match": "*"},
        {"feature-type": "protocol", "match": TRUST_PING},
    ]});
    let both = run.probe.get(&kind, &me, &both, &[&disclose]).await.and_then(|answer| {
        let known = disclosures(&answer).any(|(_, id)| is_ping(id));
        holds(known || !told, || "what was asked for beside it is not disclosed".to_owned())
    });
    run.report.settle("DF2-unknown-feature-type", both);
    let limit = run.probe.get(&kind, &me, &query("constraint", "max_receive_bytes"), &[&disclose]).await;
    let limit = limit.and_then(|answer| {
        let known = disclosures(&answer).any(|(_, id)| id == "max_receive_bytes");
        holds(known, || "it is not disclosed".to_owned())
    });
    run.report.settle("DF2-max-receive-bytes", limit);
}

/// Whether a protocol is disclosed for the role this suite needs: for mediation and pickup a serving role, for all
/// others any. A target that names no roles does not say which side of mediation it plays.
fn is_promised(answer: &Message, id: &str) -> bool {
    let of_mediators = super::mediation::DIALECTS.iter().map(|dialect| dialect.protocol);
    let mut of_mediators = of_mediators.chain(super::pickup::DIALECTS.iter().map(|dialect| dialect.protocol));
    if !of_mediators.any(|protocol| protocol == id.trim_end_matches('/')) {
        return true;
    }
    let list = answer.body.get("disclosures").and_then(Value::as_array).into_iter().flatten();
    let mut same = list.filter(|one| one.get("id").and_then(Value::as_str) == Some(id));
    same.any(|one| {
        let roles = one.get("roles").and_then(Value::as_array).into_iter().flatten();
        roles.filter_map(Value::as_str).any(|role| SERVING_ROLES.contains(&role))
    })
}

fn disclosures(answer: &Message) -> impl Iterator<Item = (&str, &str)> {
    let list = answer.body.get("disclosures").and_then(Value::as_array);
    list.into_iter().flatten().filter_map(|one| {
        let feature_type = one.get("feature-type").or_else(|| one.get("feature_type"))?;
        Some((feature_type.as_str()?, one.get("id")?.as_str()?))
    })
}

/// Checks that what is disclosed and what works agree; only protocols this suite speaks count.
pub(super) fn compare_disclosed(run: &mut Run) {
    let Some(listed) = run.listed.clone() else {
        run.report.not_checked("DF2-lists", "the target does not tell its protocols");
        run.report.not_checked("DF2-works", "the target does not tell its protocols");
        return;
    };
    let silent: Vec<&str> = run.worked.iter().copied().filter(|known| !listed.contains(*known)).collect();
    let silent = holds(silent.is_empty(), || format!("not listed: {}", silent.join(", ")));
    run.report.settle("DF2-lists-what-works", silent);
    let tried = super::mediation::DIALECTS.iter().map(|dialect| dialect.protocol);
    let tried = tried.chain(super::pickup::DIALECTS.iter().map(|dialect| dialect.protocol));
    let idle: Vec<&str> = tried
        .chain([TRUST_PING, FEATURES])
        .filter(|protocol| run.discloses(protocol) && !run.worked.contains(protocol))
        .filter(|protocol| !protocol.contains("pickup") || !run.mediation.is_empty())
        .collect();
    let (lost, idle): (Vec<&str>, Vec<&str>) =
        idle.into_iter().partition(|protocol| run.unknown.contains(protocol));
    let works = match lost.as_slice() {
        [] => Ok(()),
        lost => Err(Problem::Unknown(format!("it is not known whether {} works", lost.join(", ")))),
    };
    let works =
        holds(idle.is_empty(), || format!("listed, but does not work: {}", idle.join(", "))).and(works);
    run.report.settle("DF2-works-what-is-listed", works);
}

/// Checks that the target still answers. It may have closed the connection meanwhile, so a lost one is tried anew.
pub(super) async fn alive(run: &Run) -> Outcome {
    let me = run.probe.stranger()?;
    let body = json!({"response_requested": true});
    let mut answer = run.probe.ask(PING, &me, &body).await;
    if answer.is_lost() {
        answer = run.probe.ask(PING, &me, &body).await;
    }
    match answer.heard {
        // Elsewhere a lost answer proves nothing; here it is the finding.
        Heard::Lost(problem) => Err(Problem::Broken(problem)),
        // Where pings were answered, a front that only says yes does not stand for what lives behind it.
        _ if answer.came_back() || (!run.talks && answer.accepted()) => Ok(()),
        _ => Err(answer.problem()),
    }
}

/// Bytes that are not a message, an oversized message, and sockets.
pub(super) async fn abuse(run: &mut Run) {
    for bytes in [&b"{"[..], b"\xff\xfe\x00", b"[]", b"{\"protected\":5}"] {
        let _ = run.probe.post(bytes.to_vec(), ENCRYPTED_MEDIA_TYPE).await;
    }
    let survived = alive(run).await;
    run.report.settle("DCv2.1-transport-garbage-survived", survived);
    let large = run.probe.post(vec![b'a'; OVERSIZE], ENCRYPTED_MEDIA_TYPE).await;
    // A connection that is cut off is a refusal too.
    let refused = match &large.heard {
        Heard::Busy(problem) => Err(Problem::Unknown(problem.clone())),
        _ => holds(large.status.is_none() || !large.accepted(), || {
            format!("it was accepted: {}", large.describe())
        }),
    };
    run.report.settle("DCv2.1-transport-oversize-refused", refused);
    let survived = alive(run).await;
    run.report.settle("DCv2.1-transport-oversize-survived", survived);
    if run.probe.socket.is_none() {
        run.report.not_offered("DCv2.1-transport-socket", "no WebSocket endpoint is advertised");
        return;
    }
    let mut answered = over_socket(run).await;
    if !run.talks {
        // A target that answers only to endpoints need not answer here either.
        answered = answered.needed("answers do not come on connections");
        run.report.not_checked("DCv2.1-transport-socket-survives", "answers do not come on connections");
    }
    run.report.settle("DCv2.1-transport-socket", answered);
    if !run.talks {
        return;
    }
    let survived = async {
        let mut bad = Socket::open(&run.probe).await?;
        let _ = bad.send(&run.probe, b"no message".to_vec()).await;
        over_socket(run).await
    };
    let survived = survived.await;
    run.report.settle("DCv2.1-transport-socket-survives", survived);
}

async fn over_socket(run: &Run) -> Outcome {
    let me = run.probe.stranger()?;
    let mut socket = Socket::open(&run.probe).await?;
    let request = run.probe.request(PING, &me, &json!({"response_requested": true}))?;
    let answer = socket.ask(&run.probe, &request).await;
    answer.opened().map(|_| ()).ok_or_else(|| answer.problem())
}

/// Whether a ping with this protection is answered.
pub(super) async fn answers_ping(run: &Run, message: &Message, protection: SenderProtection) -> Outcome {
    let answer = run.probe.say_as(message, protection).await;
    match answer.opened() {
        Some(_) if answer.report().is_none() => Ok(()),
        _ => Err(answer.problem()),
    }
}
