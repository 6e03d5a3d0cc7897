//! Reaching the target: endpoints, transports, ping, and what it says about itself.

use std::collections::BTreeSet;

use einmal_did::DIDCOMM_V2;
use einmal_didcomm::{ENCRYPTED_MEDIA_TYPE, Message, SenderProtection, bare_media_type};
use serde_json::{Value, json};

use super::{Run, answer::Heard, callback::Callback, socket::Socket};

/// A ping.
pub(super) const PING: &str = "https://didcomm.org/trust-ping/2.0/ping";
const PONG: &str = "https://didcomm.org/trust-ping/2.0/ping-response";
const TRUST_PING: &str = "https://didcomm.org/trust-ping/2.0";
const FEATURES: &str = "https://didcomm.org/discover-features/2.0";
/// Size of a message no target need take, in bytes.
const OVERSIZE: usize = 8 * 1024 * 1024;

/// Looks up the target and sends a first message; whether it answers.
pub(super) async fn reach(run: &mut Run) -> bool {
    let keys = run.probe.can_be_encrypted_to().await;
    let found = run.probe.find_endpoints().await;
    let usable = run.report.settle("DCv2.1-did-agreement-key", keys);
    let reachable = run.report.settle("DCv2.1-did-service-endpoint", found);
    if !usable || !reachable {
        return false;
    }
    invitation(run);
    let Ok(me) = run.probe.stranger() else { return false };
    let answer = run.probe.ask(PING, &me, &json!({"response_requested": true})).await;
    if matches!(answer.heard, Heard::Lost(_)) {
        run.report.settle("DCv2.1-transport-answers", Err(answer.describe()));
        return false;
    }
    let accepted = if answer.accepted() { Ok(()) } else { Err(answer.describe()) };
    run.report.settle("DCv2.1-transport-answers", accepted);
    let back = answer.opened().map(|_| ()).ok_or_else(|| answer.describe());
    if !run.report.settle("DCv2.1-transport-return-route-all", back) {
        return answer.accepted();
    }
    let label = answer.media_type.as_deref().map(bare_media_type);
    let right = label.as_deref() == Some(bare_media_type(ENCRYPTED_MEDIA_TYPE).as_str());
    let labelled = if right { Ok(()) } else { Err(format!("labelled {label:?}")) };
    run.report.settle("DCv2.1-transport-media-type", labelled);
    true
}

/// The form of the invitation, if one was given.
fn invitation(run: &mut Run) {
    let Some(invitation) = &run.invitation else {
        run.report.not_checked("OOB2", "a DID was given, no invitation");
        return;
    };
    let accepts = invitation.accept.iter().any(|profile| profile == DIDCOMM_V2);
    let accept = if accepts { Ok(()) } else { Err(format!("accept is {:?}", invitation.accept)) };
    run.report.settle("OOB2-invitation-form", Ok(()));
    run.report.settle("OOB2-invitation-accept", accept);
}

/// Trust ping, in all of its forms.
pub(super) async fn ping(run: &mut Run) {
    let Ok(me) = run.probe.stranger() else { return };
    let Ok(request) = run.probe.request(PING, &me, &json!({"response_requested": true})) else { return };
    let answer = run.probe.say(&request).await;
    if let Some(opened) = answer.opened() {
        let ours = opened.is_authenticated()
            && opened.sender().is_some_and(|sender| sender.same_as(&run.probe.target))
            && opened.recipient().is_some_and(|recipient| recipient.same_as(&me));
        let proved = if ours { Ok(()) } else { Err("the answer proves no sender".to_owned()) };
        run.report.settle("DCv2.1-envelope-reply-proves-sender", proved);
        let in_thread = in_thread(&opened.message, &request, answer.report().is_some());
        run.report.settle("DCv2.1-envelope-reply-thread", in_thread);
    }
    let pong = answer.expect_kind(PONG);
    if !run.opens("TP2", TRUST_PING, "TP2-response", pong) {
        return;
    }
    let default = run.probe.ask(PING, &me, &json!({})).await;
    run.report.settle("TP2-response-default", default.expect_kind(PONG));
    let unasked = run.probe.ask(PING, &me, &json!({"response_requested": false})).await;
    run.report.settle("TP2-response-not-requested", unasked.expect_refusal());
    if let Some(invitation) = run.invitation.clone() {
        let mut first = request.clone();
        let fresh = run.probe.request(PING, &me, &json!({"response_requested": true}));
        if let Ok(fresh) = fresh {
            first.id = fresh.id;
        }
        first.pthid = Some(invitation.thread());
        let taken = run.probe.say(&first).await;
        let taken = if taken.accepted() { Ok(()) } else { Err(taken.describe()) };
        run.report.settle("OOB2-invitation-response", taken);
    }
    quiet_route(run).await;
    elsewhere(run).await;
}

fn in_thread(message: &Message, request: &Message, is_report: bool) -> Result<(), String> {
    let thread = request.thread();
    let named =
        if is_report { message.pthid.as_ref().or(message.thid.as_ref()) } else { message.thid.as_ref() };
    if named == Some(&thread) { Ok(()) } else { Err("thid is not the id of the request".to_owned()) }
}

/// A ping that does not open the way back.
async fn quiet_route(run: &mut Run) {
    let Ok(me) = run.probe.stranger() else { return };
    let body = json!({"response_requested": true});
    let Ok(ping) = run.probe.message(PING, &me, &run.probe.target, &body) else { return };
    let answer = run.probe.say(&ping).await;
    let silent = match answer.heard {
        Heard::Nothing => Ok(()),
        Heard::Lost(problem) => Err(problem),
        _ => Err(format!("something came back: {}", answer.describe())),
    };
    run.report.settle("DCv2.1-transport-return-route-none", silent);
}

/// Answers to the sender's own endpoint.
async fn elsewhere(run: &mut Run) {
    let Some(address) = run.listen else {
        run.report
            .not_checked("TP2-response-", "needs an address the target can call: --listen ADDRESS:PORT");
        return;
    };
    let listening = Callback::listen(address).await;
    let Ok(mut callback) = listening else {
        run.report.not_checked("TP2-response-", "our own endpoint could not be opened");
        return;
    };
    let body = json!({"response_requested": true});
    let Ok(me) = run.probe.stranger_at(&callback.uri) else { return };
    let _ = run.probe.ask(PING, &me, &body).await;
    let again = match callback.next(run.probe.quiet()).await {
        None => Ok(()),
        Some(_) => Err("the answer came on the connection and at the endpoint".to_owned()),
    };
    let Ok(ping) = run.probe.message(PING, &me, &run.probe.target, &body) else { return };
    let _ = run.probe.say(&ping).await;
    let came = match callback.next(run.probe.patience()).await {
        None => Err("nothing came to the endpoint; perhaps the target must not call this address".to_owned()),
        Some(bytes) => match run.probe.hear(&bytes).await {
            Heard::Message(opened) if opened.message.kind.is(PONG) => Ok(()),
            other => Err(format!("something else came to the endpoint: {other:?}")),
        },
    };
    run.report.settle("TP2-response-async", came);
    run.report.settle("TP2-response-once", again);
}

/// What the target says it offers.
pub(super) async fn discover(run: &mut Run) {
    let kind = format!("{FEATURES}/queries");
    let disclose = format!("{FEATURES}/disclose");
    let Ok(me) = run.probe.stranger() else { return };
    let query = |feature_type: &str, pattern: &str| json!({"queries": [{"feature-type": feature_type, "match": pattern}]});
    let answer = run.probe.get(&kind, &me, &query("protocol", "*"), &[&disclose]).await;
    let (answer, problem) = match answer {
        Ok(message) => (message, Ok(())),
        Err(problem) => {
            run.opens("DF2", FEATURES, "DF2-disclose", Err(problem));
            return;
        }
    };
    run.opens("DF2", FEATURES, "DF2-disclose", problem);
    let protocols: BTreeSet<String> = disclosures(&answer)
        .filter(|(feature_type, id)| *feature_type == "protocol" && is_spoken_as_mediator(&answer, id))
        .map(|(_, id)| id.trim_end_matches('/').to_owned())
        .collect();
    // An empty list means "not telling".
    run.disclosed = (!protocols.is_empty()).then_some(protocols);
    let exact = run.probe.get(&kind, &me, &query("protocol", TRUST_PING), &[&disclose]).await;
    let exact = exact.and_then(|answer| {
        let foreign = disclosures(&answer).any(|(_, id)| id.trim_end_matches('/') != TRUST_PING);
        if foreign { Err("other protocols were disclosed too".to_owned()) } else { Ok(()) }
    });
    run.report.settle("DF2-match", exact);
    let unknown = query("x-of-no-known-type", "*");
    let unknown = run.probe.get(&kind, &me, &unknown, &[&disclose]).await.map(|_| ());
    run.report.settle("DF2-unknown-feature-type", unknown);
    let limit = run.probe.get(&kind, &me, &query("constraint", "max_receive_bytes"), &[&disclose]).await;
    let limit = limit.and_then(|answer| {
        let known = disclosures(&answer).any(|(_, id)| id == "max_receive_bytes");
        if known { Ok(()) } else { Err("it is not disclosed".to_owned()) }
    });
    run.report.settle("DF2-max-receive-bytes", limit);
}

/// Whether a protocol is disclosed for the role this suite looks for: of mediation and pickup that of the mediator, of all others
/// any. One that names no roles may play all of them.
fn is_spoken_as_mediator(answer: &Message, id: &str) -> bool {
    let of_mediators = super::mediation::DIALECTS.iter().map(|dialect| dialect.protocol);
    let mut of_mediators = of_mediators.chain(super::pickup::DIALECTS.iter().map(|dialect| dialect.protocol));
    if !of_mediators.any(|protocol| protocol == id.trim_end_matches('/')) {
        return true;
    }
    let list = answer.body.get("disclosures").and_then(Value::as_array).into_iter().flatten();
    let mut same = list.filter(|one| one.get("id").and_then(Value::as_str) == Some(id));
    same.any(|one| match one.get("roles").and_then(Value::as_array) {
        Some(roles) => roles.is_empty() || roles.iter().any(|role| role == "mediator"),
        None => true,
    })
}

fn disclosures(answer: &Message) -> impl Iterator<Item = (&str, &str)> {
    let list = answer.body.get("disclosures").and_then(Value::as_array);
    list.into_iter().flatten().filter_map(|one| {
        let feature_type = one.get("feature-type").or_else(|| one.get("feature_type"))?;
        Some((feature_type.as_str()?, one.get("id")?.as_str()?))
    })
}

/// Whether what is disclosed and what works are the same; only protocols this suite speaks count.
pub(super) fn compare_disclosed(run: &mut Run) {
    let Some(disclosed) = run.disclosed.clone() else {
        run.report.not_checked("DF2-lists", "the target does not tell its protocols");
        run.report.not_checked("DF2-works", "the target does not tell its protocols");
        return;
    };
    let silent: Vec<&str> = run.worked.iter().copied().filter(|known| !disclosed.contains(*known)).collect();
    let listed = if silent.is_empty() { Ok(()) } else { Err(format!("not listed: {}", silent.join(", "))) };
    run.report.settle("DF2-lists-what-works", listed);
    let tried = super::mediation::DIALECTS.iter().map(|dialect| dialect.protocol);
    let tried = tried.chain(super::pickup::DIALECTS.iter().map(|dialect| dialect.protocol));
    let idle: Vec<&str> = tried
        .chain([TRUST_PING, FEATURES])
        .filter(|protocol| disclosed.contains(*protocol) && !run.worked.contains(protocol))
        .filter(|protocol| !protocol.contains("pickup") || !run.mediation.is_empty())
        .collect();
    let works =
        if idle.is_empty() { Ok(()) } else { Err(format!("listed, but does not work: {}", idle.join(", "))) };
    run.report.settle("DF2-works-what-is-listed", works);
}

/// That the target still answers. It may have closed the connection meanwhile, so one that is lost is tried anew.
pub(super) async fn alive(run: &Run) -> Result<(), String> {
    let me = run.probe.stranger()?;
    let body = json!({"response_requested": true});
    let mut answer = run.probe.ask(PING, &me, &body).await;
    if matches!(answer.heard, Heard::Lost(_)) {
        answer = run.probe.ask(PING, &me, &body).await;
    }
    if answer.opened().is_some() || answer.accepted() { Ok(()) } else { Err(answer.describe()) }
}

/// What is no message, what is too large, and sockets.
pub(super) async fn abuse(run: &mut Run) {
    for bytes in [&b"{"[..], b"\xff\xfe\x00", b"[]", b"{\"protected\":5}"] {
        let _ = run.probe.post(bytes.to_vec(), ENCRYPTED_MEDIA_TYPE).await;
    }
    let survived = alive(run).await;
    run.report.settle("DCv2.1-transport-garbage-survived", survived);
    let large = run.probe.post(vec![b'a'; OVERSIZE], ENCRYPTED_MEDIA_TYPE).await;
    // A connection that is cut off is a refusal too.
    let refused = if large.status.is_some() && large.accepted() {
        Err(format!("it was accepted: {}", large.describe()))
    } else {
        Ok(())
    };
    run.report.settle("DCv2.1-transport-oversize-refused", refused);
    let survived = alive(run).await;
    run.report.settle("DCv2.1-transport-oversize-survived", survived);
    if run.probe.socket.is_none() {
        run.report.not_offered("DCv2.1-transport-socket", "no WebSocket endpoint is advertised");
        return;
    }
    let answered = over_socket(run).await;
    run.report.settle("DCv2.1-transport-socket", answered);
    let survived = async {
        let mut bad = Socket::open(&run.probe).await?;
        let _ = bad.send(&run.probe, b"no message".to_vec()).await;
        over_socket(run).await
    };
    let survived = survived.await;
    run.report.settle("DCv2.1-transport-socket-survives", survived);
}

async fn over_socket(run: &Run) -> Result<(), String> {
    let me = run.probe.stranger()?;
    let mut socket = Socket::open(&run.probe).await?;
    let request = run.probe.request(PING, &me, &json!({"response_requested": true}))?;
    let answer = socket.ask(&run.probe, &request).await;
    answer.opened().map(|_| ()).ok_or_else(|| answer.describe())
}

/// Whether a ping protected so is answered.
pub(super) async fn answers_ping(
    run: &Run,
    message: &Message,
    protection: SenderProtection,
) -> Result<(), String> {
    let answer = run.probe.say_as(message, protection).await;
    match answer.opened() {
        Some(_) if answer.report().is_none() => Ok(()),
        _ => Err(answer.describe()),
    }
}
