//! Bodies of Coordinate Mediation 2.0 that differ from 3.0: a list of keys that are DIDs, and one routing DID.

use serde::{Deserialize, Serialize};

use super::{Page, Paginate, RecipientDid, Update, Updated};

/// Grants mediation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeylistGrant {
    /// The DID to name as endpoint `uri`.
    pub routing_did: String,
}

/// Refuses mediation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeylistDeny {}

/// Changes registrations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeylistUpdate {
    /// The changes, carried out in order.
    pub updates: Vec<Update>,
}

/// Results of a [`KeylistUpdate`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeylistUpdateResponse {
    /// One entry for each requested change, in order.
    pub updated: Vec<Updated>,
}

/// Asks which DIDs are registered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeylistQuery {
    /// The part wanted; everything if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paginate: Option<Paginate>,
}

/// The registered DIDs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keylist {
    /// The DIDs.
    pub keys: Vec<RecipientDid>,
    /// Which part of the whole list they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pagination: Option<Page>,
}

bodies! {
    "https://didcomm.org/coordinate-mediation/2.0/":
    KeylistGrant = "mediate-grant",
    KeylistDeny = "mediate-deny",
    KeylistUpdate = "keylist-update",
    KeylistUpdateResponse = "keylist-update-response",
    KeylistQuery = "keylist-query",
    Keylist = "keylist",
}
