//! The way to the target: a first message, bytes that are no message, and sockets.

use einmal_did::Did;
use einmal_didcomm::{ENCRYPTED_MEDIA_TYPE, Message, bare_media_type};

use super::{
    Run,
    answer::{Answer, Heard},
    ids::id,
    invitation,
    knock::{self, First},
    outcome::{Needed, Outcome, Problem, holds},
    probe::in_thread,
    socket::Socket,
};

/// Size of a message that no target must accept, in bytes.
const OVERSIZE: usize = 8 * 1024 * 1024;

/// Looks up the target and sends a first message; returns whether it can go on.
pub(super) async fn reach(run: &mut Run) -> bool {
    let curve = run.probe.choose_curve().await;
    let found = run.probe.find_endpoints().await;
    let usable = curve.is_ok();
    if let Ok(lasting) = &curve {
        run.report.settle(id!("DCv2.1-did-agreement-curve"), lasting.clone());
    }
    run.report.settle(id!("DCv2.1-did-agreement-key"), curve.map(|_| ()));
    // Whether anybody is there is told by the first message, not by the document.
    let named = run.report.settle(id!("DCv2.1-did-service-endpoint"), found);
    if !usable || !named {
        return false;
    }
    if let Ok(document) = run.probe.document(&run.probe.target.clone()).await {
        document.didcomm_endpoints().for_each(|endpoint| run.report.advertised.endpoint(endpoint));
    }
    invitation::form(run);
    let Ok(First { knock, me, request, answer }) = knock::first(run).await else { return false };
    run.knock = knock;
    if answer.is_lost() {
        run.report.settle(id!("DCv2.1-transport-answers"), Err(answer.describe()));
        return false;
    }
    reply(run, &me, &request, &answer);
    let came_back = answer.came_back();
    let accepted = if answer.accepted() || came_back { Ok(()) } else { Err(answer.problem()) };
    run.report.settle(id!("DCv2.1-transport-answers"), accepted);
    if (!answer.accepted() && !came_back) || run.probe.behind_hops {
        return answer.accepted();
    }
    let back = if came_back { Ok(()) } else { Err(answer.problem()) };
    run.talks = run.report.settle(id!("DCv2.1-transport-return-route-all"), back);
    if !run.talks {
        return true;
    }
    if answer.status.is_none() {
        run.report.not_checked("DCv2.1-transport-media-type", "frames of a WebSocket have no label");
        return true;
    }
    let label = answer.media_type.as_deref().map(bare_media_type);
    let right = label.as_deref() == Some(bare_media_type(ENCRYPTED_MEDIA_TYPE).as_str());
    run.report.settle(id!("DCv2.1-transport-media-type"), holds(right, || format!("labelled {label:?}")));
    true
}

/// What an answer proves, and which thread it names.
pub(super) fn reply(run: &mut Run, me: &Did, request: &Message, answer: &Answer) {
    let Some(opened) = answer.opened() else { return };
    let ours =
        run.probe.is_from_target(opened) && opened.recipient().is_some_and(|recipient| recipient.same_as(me));
    let proved = holds(ours, || "the answer proves no sender".to_owned());
    run.report.settle(id!("DCv2.1-envelope-reply-proves-sender"), proved);
    let in_thread = names_thread(&opened.message, request, answer.report().is_some());
    run.report.settle(id!("DCv2.1-envelope-reply-thread"), in_thread);
}

fn names_thread(message: &Message, request: &Message, is_report: bool) -> Outcome {
    if is_report && message.pthid.as_ref() == Some(&request.thread()) {
        return Ok(());
    }
    in_thread(message, request)
}

/// A message that does not open a return route.
pub(super) async fn quiet_route(run: &mut Run) {
    let silent = run.probe.again(|| no_way_back(run)).await;
    run.report.settle(id!("DCv2.1-transport-return-route-none"), silent);
}

async fn no_way_back(run: &Run) -> Outcome {
    let me = run.probe.stranger()?;
    let answer = run.probe.say(&run.knock.one_way(&run.probe, &me)?).await;
    match &answer.heard {
        // A refusal is silent, too, but says nothing about what would have come back.
        Heard::Nothing | Heard::Noise if answer.accepted() => Ok(()),
        Heard::Message(_) | Heard::Bare(_) | Heard::Unreadable(_) => {
            Err(Problem::Broken(format!("something came back: {}", answer.describe())))
        }
        _ => Err(answer.problem()),
    }
}

/// Checks that the target still answers. It may have closed the connection meanwhile, so a lost one is tried anew.
pub(super) async fn alive(run: &Run) -> Outcome {
    let me = run.probe.stranger()?;
    let mut answer = run.probe.say(&run.knock.request(&run.probe, &me)?).await;
    if answer.is_lost() {
        answer = run.probe.say(&run.knock.request(&run.probe, &me)?).await;
    }
    match answer.heard {
        // Elsewhere a lost answer proves nothing; here it is the finding.
        Heard::Lost(problem) => Err(Problem::Broken(problem)),
        // Where messages were answered, a front that only says yes does not stand for what lives behind it.
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
    run.report.settle(id!("DCv2.1-transport-garbage-survived"), survived);
    let large = run.probe.post(vec![b'a'; OVERSIZE], ENCRYPTED_MEDIA_TYPE).await;
    // A connection that is cut off is a refusal too.
    let refused = match &large.heard {
        Heard::Busy(problem) => Err(Problem::Unknown(problem.clone())),
        _ => holds(large.status.is_none() || !large.accepted(), || {
            format!("it was accepted: {}", large.describe())
        }),
    };
    run.report.settle(id!("DCv2.1-transport-oversize-refused"), refused);
    let survived = alive(run).await;
    run.report.settle(id!("DCv2.1-transport-oversize-survived"), survived);
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
    run.report.settle(id!("DCv2.1-transport-socket"), answered);
    if !run.talks {
        return;
    }
    let survived = async {
        let mut bad = Socket::open(&run.probe).await?;
        let _ = bad.send(&run.probe, b"no message".to_vec()).await;
        over_socket(run).await
    };
    let survived = survived.await;
    run.report.settle(id!("DCv2.1-transport-socket-survives"), survived);
}

async fn over_socket(run: &Run) -> Outcome {
    let me = run.probe.stranger()?;
    let mut socket = Socket::open(&run.probe).await?;
    let request = run.knock.request(&run.probe, &me)?;
    let answer = socket.ask(&run.probe, &request).await;
    answer.opened().map(|_| ()).ok_or_else(|| answer.problem())
}
