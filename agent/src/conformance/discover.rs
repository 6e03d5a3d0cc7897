//! Discover features: what the target says it offers, and whether that is so.

use std::collections::BTreeSet;

use einmal_didcomm::Message;
use serde_json::{Value, json};

use super::{
    Run, mediation,
    outcome::{Problem, holds},
    pickup,
    ping::TRUST_PING,
};

/// The protocol.
const FEATURES: &str = "https://didcomm.org/discover-features/2.0";
/// A mediation or pickup protocol is promised to us only if one of these roles is named.
const SERVING_ROLES: [&str; 2] = ["mediator", "responder"];

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
    let of_mediators = mediation::DIALECTS.iter().map(|dialect| dialect.protocol);
    let mut of_mediators = of_mediators.chain(pickup::DIALECTS.iter().map(|dialect| dialect.protocol));
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
    let tried = mediation::DIALECTS.iter().map(|dialect| dialect.protocol);
    let tried = tried.chain(pickup::DIALECTS.iter().map(|dialect| dialect.protocol));
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
