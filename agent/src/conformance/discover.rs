//! Discover features: what the target says it offers, and whether that is so.

use std::collections::BTreeSet;

use einmal_did::Did;
use einmal_didcomm::Message;
use serde_json::{Value, json};

use super::{
    Run,
    ids::id,
    mediation,
    outcome::{Outcome, Problem, holds},
    pickup,
    ping::TRUST_PING,
};

/// The protocol.
pub(super) const FEATURES: &str = "https://didcomm.org/discover-features/2.0";
/// A mediation or pickup protocol is promised to us only if one of these roles is named.
const SERVING_ROLES: [&str; 2] = ["mediator", "responder"];

/// A query for features.
fn query(feature_type: &str, pattern: &str) -> Value {
    json!({"feature-type": feature_type, "match": pattern})
}

/// The answer to queries.
async fn ask(run: &Run, me: &Did, queries: &[Value]) -> Outcome<(Message, Outcome)> {
    let (kind, disclose) = (format!("{FEATURES}/queries"), format!("{FEATURES}/disclose"));
    run.probe.get_with_thread(&kind, me, &json!({"queries": queries}), &[&disclose]).await
}

/// What the target says it offers.
pub(super) async fn discover(run: &mut Run) {
    let Ok(me) = run.probe.stranger() else { return };
    let Some(answer) = opens(run, &me).await else { return };
    let named = || disclosures(&answer).filter(|(feature_type, _)| *feature_type == "protocol");
    let plain = |id: &str| id.trim_end_matches('/').to_owned();
    let listed: BTreeSet<String> = named().map(|(_, id)| plain(id)).collect();
    run.disclosed = named().filter(|(_, id)| is_promised(&answer, id)).map(|(_, id)| plain(id)).collect();
    // Any protocol that is disclosed will do; pings are known to most.
    let sample = listed.get(TRUST_PING).or(listed.first()).map_or(TRUST_PING, String::as_str).to_owned();
    answered(run, &answer);
    // An empty list means "not telling".
    run.listed = (!listed.is_empty()).then_some(listed);
    matching(run, &me, &sample).await;
    let limits = [query("constraint", "max_receive_bytes"), query("constraint", "*")];
    let limit = ask(run, &me, &limits).await.and_then(|(answer, _)| {
        answered(run, &answer);
        let known = disclosures(&answer).any(|(_, id)| id == "max_receive_bytes");
        holds(known, || "it is not disclosed".to_owned())
    });
    run.report.settle(id!("DF2-max-receive-bytes"), limit);
}

/// Notes all features that an answer discloses.
fn answered(run: &mut Run, answer: &Message) {
    let list = answer.body.get("disclosures").and_then(Value::as_array).into_iter().flatten();
    for one in list {
        if let Some(feature_type) = feature_type(one) {
            run.report.advertised.feature(feature_type, one);
        }
    }
}

fn feature_type(disclosed: &Value) -> Option<&str> {
    disclosed.get("feature-type").or_else(|| disclosed.get("feature_type"))?.as_str()
}

/// Asks for all protocols; the answer. A target that is silent about all may still tell of each that is named.
async fn opens(run: &mut Run, me: &Did) -> Option<Message> {
    let all = run.probe.twice(async || ask(run, me, &[query("protocol", "*")]).await).await;
    let (wild, answered) = match all {
        Ok((answer, threaded)) if disclosures(&answer).next().is_some() => (Ok(()), Ok((answer, threaded))),
        Ok(none) => (Ok(()), ask(run, me, &each()).await.or(Ok(none))),
        Err(problem @ (Problem::Silent(_) | Problem::Refused(_))) => match ask(run, me, &each()).await {
            Ok(answered) => (Err(problem), Ok(answered)),
            Err(_) => (Ok(()), Err(problem)),
        },
        Err(problem) => (Ok(()), Err(problem)),
    };
    match answered {
        Ok((answer, threaded)) => {
            run.opens("DF2", FEATURES, id!("DF2-disclose"), Ok(()));
            run.report.settle(id!("DF2-disclose"), threaded);
            run.report.settle(id!("DF2-wildcard"), wild);
            Some(answer)
        }
        Err(problem) => {
            run.opens("DF2", FEATURES, id!("DF2-disclose"), Err(problem));
            None
        }
    }
}

/// Queries for each protocol of this suite by its full name.
fn each() -> Vec<Value> {
    tried().chain([TRUST_PING, FEATURES]).map(|protocol| query("protocol", protocol)).collect()
}

/// Protocols of mediators, of all versions.
fn tried() -> impl Iterator<Item = &'static str> {
    let of_mediation = mediation::DIALECTS.iter().map(|dialect| dialect.protocol);
    of_mediation.chain(pickup::DIALECTS.iter().map(|dialect| dialect.protocol))
}

/// Whether what is asked for is disclosed, and nothing else.
async fn matching(run: &mut Run, me: &Did, sample: &str) {
    let is_it = |id: &str| id.trim_end_matches('/') == sample;
    let exact = ask(run, me, &[query("protocol", sample)]).await;
    let told = exact.as_ref().is_ok_and(|(answer, _)| disclosures(answer).any(|(_, id)| is_it(id)));
    let exact = exact.and_then(|(answer, _)| {
        let foreign = disclosures(&answer).any(|(_, id)| !is_it(id));
        holds(!foreign, || "other protocols were disclosed too".to_owned())
    });
    run.report.settle(id!("DF2-match"), exact);
    // Alone it may meet silence, because then nothing is asked; beside a known one it must not interfere.
    let both = [query("x-of-no-known-type", "*"), query("protocol", sample)];
    let both = ask(run, me, &both).await.and_then(|(answer, _)| {
        let known = disclosures(&answer).any(|(_, id)| is_it(id));
        holds(known || !told, || "what was asked for beside it is not disclosed".to_owned())
    });
    run.report.settle(id!("DF2-unknown-feature-type"), both);
    // Such as `…/trust-ping/2.*`.
    let prefix = sample.trim_end_matches(|c: char| c.is_ascii_digit());
    let begun = ask(run, me, &[query("protocol", &format!("{prefix}*"))]).await.and_then(|(answer, _)| {
        let known = disclosures(&answer).any(|(_, id)| is_it(id));
        holds(known || !told, || format!("{sample} is not found by {prefix}*"))?;
        let foreign = disclosures(&answer).any(|(_, id)| !id.starts_with(prefix));
        holds(!foreign, || "other protocols were disclosed too".to_owned())
    });
    run.report.settle(id!("DF2-wildcard-prefix"), begun);
}

/// Whether a protocol is disclosed for the role this suite needs: for mediation and pickup a serving role, for all
/// others any. A target that names no roles does not say which side of mediation it plays.
fn is_promised(answer: &Message, id: &str) -> bool {
    if !tried().any(|protocol| protocol == id.trim_end_matches('/')) {
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
    list.into_iter().flatten().filter_map(|one| Some((feature_type(one)?, one.get("id")?.as_str()?)))
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
    run.report.settle(id!("DF2-lists-what-works"), silent);
    let idle: Vec<&str> = tried()
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
    run.report.settle(id!("DF2-works-what-is-listed"), works);
}
