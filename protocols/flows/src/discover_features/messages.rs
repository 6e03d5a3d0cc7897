//! Bodies of Discover Features 2.0.

use einmal_didcomm::Body;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Feature type of protocols; ids are protocol identifier URIs.
pub const PROTOCOL: &str = "protocol";
/// Feature type of goal codes.
pub const GOAL_CODE: &str = "goal-code";
/// Feature type of message headers.
pub const HEADER: &str = "header";
/// Feature type of limits, such as `max_receive_bytes`.
pub const CONSTRAINT: &str = "constraint";

/// Asks for features.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queries {
    /// What is asked for.
    pub queries: Vec<Query>,
}

impl Body for Queries {
    const TYPE: &'static str = "https://didcomm.org/discover-features/2.0/queries";
}

/// One question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Query {
    /// Such as [`PROTOCOL`].
    #[serde(rename = "feature-type", alias = "feature_type")]
    pub feature_type: String,
    /// An id, or the beginning of one followed by `*`.
    #[serde(rename = "match")]
    pub pattern: String,
}

impl Query {
    /// Whether this query asks for `feature`.
    pub fn asks_for(&self, feature: &Disclosure) -> bool {
        self.feature_type == feature.feature_type
            && match self.pattern.strip_suffix('*') {
                Some(prefix) => feature.id.starts_with(prefix),
                None => feature.id == self.pattern,
            }
    }
}

/// Names features.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disclose {
    /// What is disclosed.
    pub disclosures: Vec<Disclosure>,
}

impl Body for Disclose {
    const TYPE: &'static str = "https://didcomm.org/discover-features/2.0/disclose";
}

/// One feature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disclosure {
    /// Such as [`PROTOCOL`].
    #[serde(rename = "feature-type", alias = "feature_type")]
    pub feature_type: String,
    /// Its id.
    pub id: String,
    /// Roles taken in a protocol.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// Members of this type of feature alone: a constraint has its value under a member named like its id (DIDComm
    /// Messaging v2.1, "Agent Constraint Disclosure"). Those of others are passed over.
    #[serde(flatten, skip_deserializing)]
    pub own: Map<String, Value>,
}

impl Disclosure {
    /// A protocol and the roles taken in it.
    pub fn protocol(id: &str, roles: &[&str]) -> Self {
        let roles = roles.iter().map(|role| (*role).to_owned()).collect();
        Self { feature_type: PROTOCOL.to_owned(), id: id.to_owned(), roles, own: Map::new() }
    }

    /// A feature of another type.
    pub fn new(feature_type: &str, id: &str) -> Self {
        Self { feature_type: feature_type.to_owned(), id: id.to_owned(), roles: Vec::new(), own: Map::new() }
    }

    /// A limit and its value.
    pub fn constraint(id: &str, value: Value) -> Self {
        Self { own: Map::from_iter([(id.to_owned(), value)]), ..Self::new(CONSTRAINT, id) }
    }
}
