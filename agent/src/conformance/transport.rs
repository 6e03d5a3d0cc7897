//! The way to the target: a first message, bytes that are no message, and sockets.

use einmal_didcomm::{ENCRYPTED_MEDIA_TYPE, bare_media_type};
use serde_json::json;

use super::{
    Run,
    answer::Heard,
    invitation,
    outcome::{Needed, Outcome, Problem, holds},
    ping::PING,
    socket::Socket,
};

/// Size of a message that no target must accept, in bytes.
const OVERSIZE: usize = 8 * 1024 * 1024;

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
    invitation::form(run);
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
