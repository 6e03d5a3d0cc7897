//! Our own DIDs, their keys and the peers they are shown to: how they are stored, and loaded at start.

use einmal_did::Did;
use einmal_didcomm::UnixSeconds;
use einmal_keys::{KeyId, KeyKind, Keyring, SecretKey, base64url_decode};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    db::{Db, KEYS, OWN_DIDS, PEERS},
    error::SetupError,
};

/// Most keys and DIDs loaded at start.
const MAX_OWN: usize = 1_000_000;

/// Fragment of the key agreement key in documents made here.
pub(crate) const AGREEMENT: &str = "key-1";
/// Fragment of the authentication key in documents made here.
pub(crate) const AUTHENTICATION: &str = "key-2";
/// Fragment of the key that signs credentials and status lists.
pub const ASSERTION: &str = "assertion-1";

/// What one of our DIDs is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DidUse {
    /// Shown to everybody: invitations, and the DIDs of city, merchant and mediator.
    Public,
    /// Shown to one peer.
    Pairwise,
}

/// One of our DIDs as stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OwnDid {
    /// The DID in its longest form.
    pub did: Did,
    /// What it is used for.
    #[serde(rename = "use")]
    pub usage: DidUse,
    /// When it was made.
    pub created: UnixSeconds,
}

/// A secret key as stored; the store seals it.
#[derive(Serialize, Deserialize)]
pub(crate) struct StoredKey {
    pub(crate) kid: String,
    pub(crate) kind: KeyKind,
    pub(crate) secret: Zeroizing<String>,
}

/// A relationship: what we know about the peer behind one of our DIDs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Peer {
    /// Our DID towards the peer, longest form.
    pub ours: Did,
    /// The peer's DID, longest form.
    pub theirs: Did,
    /// The peer has used our DID, so its short form is understood.
    #[serde(default)]
    pub knows_us: bool,
    /// When it began.
    pub since: UnixSeconds,
    /// Name for people on this side; never sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Highest `iat` of an accepted rotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotated_at: Option<UnixSeconds>,
    /// Our DID before this one, which is announced to the peer until it has used the new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prior: Option<Prior>,
    /// Nothing is sent here any more: another DID has replaced ours, or the peer's (then `theirs` is that one), or the device was taken
    /// off its person.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub superseded: bool,
    /// When the device was taken off its person, if it was; records of earlier versions do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unbound_at: Option<UnixSeconds>,
}

impl Peer {
    /// A relationship that begins now.
    pub(crate) fn new(ours: Did, theirs: Did, since: UnixSeconds) -> Self {
        Self {
            ours,
            theirs,
            knows_us: false,
            since,
            label: None,
            rotated_at: None,
            prior: None,
            superseded: false,
            unbound_at: None,
        }
    }
}

/// The DID that ours towards a peer replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prior {
    /// The earlier DID, longest form.
    pub did: Did,
    /// When that was decided.
    pub decided_at: UnixSeconds,
}

/// Loads every key and DID of the node.
///
/// # Errors
///
/// [`SetupError::Store`], or [`SetupError::Internal`] if a stored key does not parse, or if there are more than can be
/// loaded, because none may be left out.
pub fn load(db: &Db, keyring: &Keyring) -> Result<Vec<OwnDid>, SetupError> {
    let (keys, dids) = (db.all::<StoredKey>(KEYS, MAX_OWN)?, db.all::<OwnDid>(OWN_DIDS, MAX_OWN)?);
    if keys.cut || dids.cut {
        return Err(SetupError::internal(format!("more than {MAX_OWN} keys or DIDs of our own")));
    }
    for (_, key) in keys.records {
        let damaged = || SetupError::internal("a stored key does not parse");
        let bytes = Zeroizing::new(base64url_decode(&key.secret).ok_or_else(damaged)?);
        let secret = SecretKey::from_bytes(key.kind, &bytes).map_err(|_| damaged())?;
        keyring.insert(KeyId::new(key.kid), secret);
    }
    Ok(dids.records.into_iter().map(|(_, did)| did).collect())
}

/// Id of the authentication key of a DID made for one peer.
pub(crate) fn authentication_key(did: &Did) -> KeyId {
    key_id(did, AUTHENTICATION)
}

/// Id of a key of ours.
pub(crate) fn key_id(did: &Did, fragment: &str) -> KeyId {
    KeyId::new(format!("{}#{fragment}", did.canonical()))
}

/// The node's WebSocket URL, if it is reached at `url`.
pub(crate) fn socket_url(url: &str) -> String {
    // `http` becomes `ws`, `https` becomes `wss`.
    format!("{}/ws", url.replacen("http", "ws", 1))
}

/// Reads the relationship between one of our DIDs and a peer's.
///
/// # Errors
///
/// [`einmal_storage::StoreError`].
pub fn peer_of(
    db: &Db,
    ours: &Did,
    theirs: &Did,
) -> Result<Option<crate::db::Stored<Peer>>, einmal_storage::StoreError> {
    db.get(PEERS, crate::db::peer_id(ours, theirs))
}
