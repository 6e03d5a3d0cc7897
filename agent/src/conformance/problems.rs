//! Problem reports: when they come, what form they have, and that they end.

use einmal_didcomm::{ENCRYPTED_MEDIA_TYPE, Irregularity, Message, SenderProtection};
use serde_json::{Value, json};

use super::{
    Run,
    answer::{Answer, Heard},
    ids::id,
    outcome::{Outcome, Problem, holds},
    transport,
};

const UNSUPPORTED: &str = "e.p.msg.unsupported";
const REPLAYED: &str = "e.p.crypto.message.dejavu";
/// Longest plausible code.
const MAX_CODE_LEN: usize = 256;

/// All checks of problem reports.
pub(super) async fn run(run: &mut Run) {
    let Ok(me) = run.probe.stranger() else { return };
    let version = run.knock.kind_of_no_version();
    let mut exact = Ok(());
    for (id, kind) in [
        (id!("RP2-unknown-protocol"), "https://didcomm.org/x-no-such-protocol/1.0/hello"),
        (id!("RP2-unknown-version"), version.as_str()),
    ] {
        let Ok(request) = run.probe.request(kind, &me, &json!({})) else { return };
        let answer = run.probe.say(&request).await;
        form(run, &request, &answer);
        run.report.settle(id, answer.expect_report().map(|_| ()));
        exact = exact.and(answer.expect_code(UNSUPPORTED));
    }
    run.report.settle(id!("RP2-unsupported-code"), exact);
    let odd = odd_type(run).await;
    run.report.settle(id!("RP2-unknown-type-form"), odd);
    malformed(run).await;
    replayed(run).await;
    endless(run).await;
    for id in ["RP2-form", "RP2-code-form"] {
        run.report.not_checked(id, "the target sent no problem report");
    }
}

/// A type as a published suite sends it for an unknown protocol: without version and message name.
async fn odd_type(run: &Run) -> Outcome {
    let me = run.probe.stranger()?;
    let request = run.knock.request(&run.probe, &me)?;
    let mut message = request.to_value();
    if let Some(headers) = message.as_object_mut() {
        headers.insert("type".to_owned(), "https://didcomm.org/unsupported-protocol".into());
    }
    let bytes = run.probe.pack_raw(message.to_string().as_bytes(), &me, Irregularity::None).await?;
    let answer = run.probe.post(bytes, ENCRYPTED_MEDIA_TYPE).await;
    answer.expect_report().map(|_| ())
}

/// The form of a problem report about `request`.
fn form(run: &mut Run, request: &Message, answer: &Answer) {
    let (Some(code), Some(opened)) = (answer.report(), answer.opened()) else { return };
    let right = if code.is_empty() {
        Err("the report has no code")
    } else if opened.message.pthid.is_none() {
        Err("the report has no pthid")
    } else if opened.message.pthid != Some(request.thread()) {
        Err("its pthid is not the thread of the message it is about")
    } else {
        Ok(())
    };
    run.report.settle(id!("RP2-form"), right);
    let well_formed =
        holds(is_code(code), || format!("the code `{code}` is not of the form sorter.scope.descriptors"));
    run.report.settle(id!("RP2-code-form"), well_formed);
}

/// Whether a code has sorter, scope, and at least one descriptor, of lower-case letters, digits, `-` and `_`.
fn is_code(code: &str) -> bool {
    let parts: Vec<&str> = code.split('.').collect();
    let word = |part: &&str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b))
    };
    let sorted = parts.first().is_some_and(|sorter| matches!(*sorter, "e" | "w"));
    code.len() <= MAX_CODE_LEN && parts.len() >= 3 && sorted && parts.iter().all(word)
}

/// Bodies that lack what their type requires, or contain something else.
async fn malformed(run: &mut Run) {
    let Ok(me) = run.probe.stranger() else { return };
    let (kind, bodies) = match run.mediation.first() {
        Some(dialect) => {
            let _ = run.probe.ask(&dialect.kind("mediate-request"), &me, &json!({})).await;
            (dialect.kind(dialect.update), [json!({}), json!({"updates": "x"}), json!({"updates": [5]})])
        }
        None => (
            "https://didcomm.org/discover-features/2.0/queries".to_owned(),
            [json!({}), json!({"queries": "x"}), json!({"queries": [5]})],
        ),
    };
    let mut reported: Outcome = Ok(());
    for body in bodies {
        let Ok(request) = run.probe.request(&kind, &me, &body) else { return };
        let answer = run.probe.say(&request).await;
        form(run, &request, &answer);
        if let (Ok(()), Err(problem)) = (&reported, answer.expect_report()) {
            reported = Err(problem.reworded(|text| format!("{body}: {text}")));
        }
    }
    run.report.settle(id!("RP2-malformed-body"), reported);
    let alive = transport::alive(run).await;
    run.report.settle(id!("RP2-malformed-survived"), alive);
}

/// The same envelope twice.
async fn replayed(run: &mut Run) {
    let Ok(me) = run.probe.stranger() else { return };
    let Ok(request) = run.knock.request(&run.probe, &me) else { return };
    let Ok(bytes) = run.probe.pack(&request, SenderProtection::Authcrypt).await else { return };
    let first = run.probe.post(bytes.clone(), ENCRYPTED_MEDIA_TYPE).await;
    if first.opened().is_none() || first.report().is_some() {
        run.report.not_checked("RP2-replay", "a sound message is not answered");
        return;
    }
    let second = run.probe.post(bytes, ENCRYPTED_MEDIA_TYPE).await;
    form(run, &request, &second);
    // The same answer with the same id is not a second act.
    let same = match (&first.heard, &second.heard) {
        (Heard::Message(first), Heard::Message(second)) => first.message.id == second.message.id,
        _ => false,
    };
    let once = if same { Ok(()) } else { second.expect_refusal() };
    run.report.settle(id!("RP2-replay"), once);
    run.report.settle(id!("RP2-replay-code"), second.expect_code(REPLAYED));
}

/// A problem report about something the target does not know.
async fn endless(run: &mut Run) {
    let Ok(me) = run.probe.stranger() else { return };
    let kind = "https://didcomm.org/report-problem/2.0/problem-report";
    let body =
        json!({"code": "e.p.msg.unsupported", "comment": "conformance {1}", "args": ["x", Value::Null]});
    let Ok(mut report) = run.probe.request(kind, &me, &body) else { return };
    report.pthid = Some(report.id.to_thread());
    let answer = run.probe.say(&report).await;
    let quiet = match answer.report() {
        Some(code) => Err(Problem::Broken(format!("it was answered with problem report {code}"))),
        None => answer.arrived(),
    };
    run.report.settle(id!("RP2-no-loop"), quiet);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_sorter_scope_and_descriptors() {
        for code in ["e.p.msg.unsupported", "e.p.req.not_enroll", "e.m.live-mode-not-supported", "w.p.me"] {
            assert!(is_code(code), "{code}");
        }
        for code in ["", "e", "e.p", "x.p.msg", "E.P.MSG", "e..msg", "e.p.msg unsupported", "unsupported"] {
            assert!(!is_code(code), "{code}");
        }
    }
}
