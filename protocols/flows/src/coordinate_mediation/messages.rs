//! Bodies of Coordinate Mediation 3.0.

use serde::{Deserialize, Deserializer, Serialize};

/// Asks for mediation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediateRequest {}

/// Refuses mediation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediateDeny {}

/// Grants mediation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediateGrant {
    /// DIDs to name as endpoint `uri`; a single one may come as a plain string.
    #[serde(deserialize_with = "one_or_many")]
    pub routing_did: Vec<String>,
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(one) => vec![one],
        OneOrMany::Many(many) => many,
    })
}

/// What to do with a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UpdateAction {
    /// Accept messages for the DID.
    Add,
    /// Accept no more messages for the DID.
    Remove,
}

/// One requested change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update {
    /// The DID.
    pub recipient_did: String,
    /// What to do.
    pub action: UpdateAction,
}

/// Changes registrations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipientUpdate {
    /// The changes, carried out in order.
    pub updates: Vec<Update>,
}

/// The result of a requested change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpdateResult {
    /// The mediator refuses it.
    ClientError,
    /// The mediator failed.
    ServerError,
    /// Nothing had to change.
    NoChange,
    /// Done.
    Success,
}

/// One change and its result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Updated {
    /// The DID as the request spelled it.
    pub recipient_did: String,
    /// The requested change.
    pub action: UpdateAction,
    /// Its result.
    pub result: UpdateResult,
}

/// Results of a [`RecipientUpdate`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipientUpdateResponse {
    /// One entry for each requested change, in order.
    pub updated: Vec<Updated>,
}

/// Which part of the list is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paginate {
    /// Most entries.
    pub limit: u64,
    /// Entries to skip.
    pub offset: u64,
}

/// Asks which DIDs are registered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipientQuery {
    /// The part wanted; everything if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paginate: Option<Paginate>,
}

/// A registered DID.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipientDid {
    /// The DID.
    pub recipient_did: String,
}

/// Which part of the list this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// Entries in this part.
    pub count: u64,
    /// Entries before it.
    pub offset: u64,
    /// Entries after it.
    pub remaining: u64,
}

/// The registered DIDs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipientList {
    /// The DIDs.
    pub dids: Vec<RecipientDid>,
    /// Which part of the whole list they are; present only if a part was requested, or not all fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pagination: Option<Page>,
}

bodies! {
    "https://didcomm.org/coordinate-mediation/3.0/":
    MediateRequest = "mediate-request",
    MediateDeny = "mediate-deny",
    MediateGrant = "mediate-grant",
    RecipientUpdate = "recipient-update",
    RecipientUpdateResponse = "recipient-update-response",
    RecipientQuery = "recipient-query",
    RecipientList = "recipient",
}

#[cfg(test)]
mod tests {
    use einmal_didcomm::Body;
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    use super::*;
    use crate::Draft;

    fn exact<B: Body + PartialEq + std::fmt::Debug + DeserializeOwned>(body: &B, expected: Value) {
        assert_eq!(Value::Object(Draft::of(body).body), expected);
        assert_eq!(&serde_json::from_value::<B>(expected).unwrap(), body);
    }

    #[test]
    fn bodies_have_exactly_the_members_of_the_text() {
        exact(&MediateRequest {}, json!({}));
        exact(&MediateDeny {}, json!({}));
        exact(
            &MediateGrant { routing_did: vec!["did:example:m".into()] },
            json!({"routing_did": ["did:example:m"]}),
        );
        let did = || "did:example:a".to_owned();
        let update = Update { recipient_did: did(), action: UpdateAction::Add };
        exact(
            &RecipientUpdate { updates: vec![update] },
            json!({"updates": [{"recipient_did": "did:example:a", "action": "add"}]}),
        );
        let result = UpdateResult::NoChange;
        let updated = Updated { recipient_did: did(), action: UpdateAction::Remove, result };
        exact(
            &RecipientUpdateResponse { updated: vec![updated] },
            json!({"updated": [{"recipient_did": "did:example:a", "action": "remove", "result": "no_change"}]}),
        );
        exact(&RecipientQuery { paginate: None }, json!({}));
        let paginate = Some(Paginate { limit: 5, offset: 2 });
        exact(&RecipientQuery { paginate }, json!({"paginate": {"limit": 5, "offset": 2}}));
        let dids = || vec![RecipientDid { recipient_did: did() }];
        exact(
            &RecipientList { dids: dids(), pagination: None },
            json!({"dids": [{"recipient_did": "did:example:a"}]}),
        );
        exact(
            &RecipientList { dids: dids(), pagination: Some(Page { count: 1, offset: 2, remaining: 3 }) },
            json!({"dids": [{"recipient_did": "did:example:a"}],
                "pagination": {"count": 1, "offset": 2, "remaining": 3}}),
        );
    }

    #[test]
    fn routing_did_is_read_as_text_and_as_array() {
        for value in
            [json!({"routing_did": "did:example:m"}), json!({"routing_did": ["did:example:m"], "x": 1})]
        {
            let grant: MediateGrant = serde_json::from_value(value).unwrap();
            assert_eq!(grant.routing_did, ["did:example:m"]);
        }
    }

    #[test]
    fn pagination_needs_both_numbers_and_actions_are_the_two_known() {
        assert!(serde_json::from_value::<RecipientQuery>(json!({"paginate": {"limit": 5}})).is_err());
        let update = json!({"recipient_did": "did:example:a", "action": "replace"});
        assert!(serde_json::from_value::<Update>(update).is_err());
    }
}
