//! The side that discloses.

use einmal_didcomm::UnixSeconds;

use super::{Disclose, Disclosure, OLD_QUERIES, Queries};
use crate::{
    Draft, FlowError, Received,
    limits::{MAX_DISCLOSURES, MAX_FEATURE_LEN, MAX_FEATURE_QUERIES},
};

/// Answers queries from `features`, the table this sender may see, in table order.
///
/// Unknown feature types match nothing and are ignored silently. At most [`MAX_DISCLOSURES`] are sent.
///
/// # Errors
///
/// [`FlowError::Malformed`]; [`FlowError::TooMany`] and [`FlowError::InvalidContent`] for more or longer queries than
/// the bounds allow; [`FlowError::Expired`].
///
/// # Specification
///
/// DIDComm Messaging v2.1, "Discover Features Protocol 2.0".
pub fn answer(
    received: &Received<'_>,
    features: &[Disclosure],
    now: UnixSeconds,
) -> Result<Draft, FlowError> {
    let Queries { queries } = received.body(&[OLD_QUERIES])?;
    received.check_time(now)?;
    if queries.len() > MAX_FEATURE_QUERIES {
        return Err(FlowError::TooMany { what: "queries", most: MAX_FEATURE_QUERIES });
    }
    if queries.iter().any(|query| query.pattern.len() > MAX_FEATURE_LEN) {
        return Err(FlowError::InvalidContent { what: "match" });
    }
    let asked = |feature: &&Disclosure| queries.iter().any(|query| query.asks_for(feature));
    let disclosures = features.iter().filter(asked).take(MAX_DISCLOSURES).cloned().collect();
    Ok(Draft::of(&Disclose { disclosures }).in_thread(received.message().thread()))
}

#[cfg(test)]
mod tests {
    use einmal_didcomm::{Body, MessageError};
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        discover_features::{GOAL_CODE, HEADER},
        testing::{NOW, Post, thread},
    };

    const PING: &str = "https://didcomm.org/trust-ping/2.0";
    const PICKUP: &str = "https://didcomm.org/messagepickup/3.0";

    fn table() -> Vec<Disclosure> {
        vec![
            Disclosure::protocol(PING, &["sender", "receiver"]),
            Disclosure::protocol(PICKUP, &["mediator"]),
            Disclosure::new(GOAL_CODE, "org.example.age"),
            Disclosure::new(HEADER, "return_route"),
            Disclosure::constraint("max_receive_bytes", json!(1_048_576)),
        ]
    }

    fn ask(kind: &str, body: Value) -> Result<Draft, FlowError> {
        let message = json!({"id": "q-1", "type": kind, "body": body});
        answer(&Post::new("did:example:a", "did:example:b", message).received(), &table(), NOW)
    }

    fn ids(pairs: Value) -> Vec<String> {
        let body = ask(Queries::TYPE, json!({ "queries": pairs })).unwrap().body;
        let disclosures = body["disclosures"].as_array().unwrap();
        disclosures.iter().map(|feature| feature["id"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn answer_has_exactly_the_members_of_the_text() {
        let body = json!({"queries": [
            {"feature-type": "protocol", "match": "https://didcomm.org/trust-ping/*"},
            {"feature-type": "constraint", "match": "max_receive_bytes"},
        ]});
        let draft = ask(Queries::TYPE, body).unwrap();
        assert_eq!(draft.thid, Some(thread("q-1")));
        let expected = json!({"disclosures": [
            {"feature-type": "protocol", "id": PING, "roles": ["sender", "receiver"]},
            {"feature-type": "constraint", "id": "max_receive_bytes", "max_receive_bytes": 1_048_576},
        ]});
        assert_eq!(Value::Object(draft.body), expected);
    }

    #[test]
    fn wildcards_match_beginnings_only() {
        assert_eq!(ids(json!([{"feature-type": "protocol", "match": "*"}])), [PING, PICKUP]);
        assert_eq!(ids(json!([{"feature-type": "protocol", "match": PICKUP}])), [PICKUP]);
        assert_eq!(ids(json!([{"feature-type": "header", "match": "return*"}])), ["return_route"]);
        assert!(ids(json!([{"feature-type": "protocol", "match": "*ping*"}])).is_empty());
        assert!(ids(json!([{"feature-type": "protocol", "match": "https://didcomm.org"}])).is_empty());
    }

    #[test]
    fn unknown_feature_types_are_passed_over() {
        assert!(ids(json!([{"feature-type": "shoe-size", "match": "*"}])).is_empty());
    }

    #[test]
    fn older_spelling_is_understood_and_answered_in_the_newer() {
        let body = json!({"queries": [{"feature_type": "goal-code", "match": "*"}]});
        let draft = ask("https://didcomm.org/discover-features/2.0/query", body).unwrap();
        assert_eq!((&*draft.kind, draft.body["disclosures"].as_array().unwrap().len()), (Disclose::TYPE, 1));
    }

    #[test]
    fn number_and_length_of_queries_are_bounded() {
        let query = json!({"feature-type": "protocol", "match": "*"});
        let many = ask(Queries::TYPE, json!({"queries": vec![query; MAX_FEATURE_QUERIES + 1]}));
        assert_eq!(many, Err(FlowError::TooMany { what: "queries", most: MAX_FEATURE_QUERIES }));
        let long = json!({"feature-type": "protocol", "match": "x".repeat(MAX_FEATURE_LEN + 1)});
        let long = ask(Queries::TYPE, json!({"queries": [long]}));
        assert_eq!(long, Err(FlowError::InvalidContent { what: "match" }));
        let invalid = FlowError::Malformed(MessageError::InvalidBody { kind: Queries::TYPE });
        assert_eq!(ask(Queries::TYPE, json!({})), Err(invalid));
    }
}
