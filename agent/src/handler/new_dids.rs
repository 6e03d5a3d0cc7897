//! New DIDs and keys of our own, made within an event and written with it.

use std::sync::Arc;

use einmal_did::{Did, DidDocument, DidError, Endpoint, Relationship, Service, peer, web};
use einmal_didcomm::UnixSeconds;
use einmal_keys::{
    Entropy, KeyError, KeyId, KeyKind, Keyring, SecretKey, base64url_decode, base64url_encode,
};
use einmal_storage::StoreError;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::Effects;
use crate::{
    db::{KEYS, META, OWN_DIDS, did_id, digest_id},
    error::SetupError,
    identity::{AGREEMENT, ASSERTION, AUTHENTICATION, DidUse, OwnDid, StoredKey, key_id, socket_url},
    resolve::NodeResolver,
};

/// Making an identity failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum IdentityError {
    /// A key could not be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A DID could not be made.
    #[error(transparent)]
    Did(#[from] DidError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<IdentityError> for SetupError {
    fn from(error: IdentityError) -> Self {
        match error {
            IdentityError::Store(error) => error.into(),
            error => Self::internal(error),
        }
    }
}

/// Writes a key into the batch and lends it to the keyring at once; a restart forgets it if the batch is not committed.
pub(crate) fn keep_key(
    fx: &mut Effects<'_>,
    keyring: &Keyring,
    kid: KeyId,
    key: SecretKey,
) -> Result<(), StoreError> {
    let stored = StoredKey {
        kid: kid.as_str().to_owned(),
        kind: key.kind(),
        secret: Zeroizing::new(base64url_encode(key.to_bytes().as_slice())),
    };
    fx.put(KEYS, digest_id(&[kid.as_str()]), &stored)?;
    keyring.insert(kid, key);
    Ok(())
}

/// Deletes a secret key. It stays in memory until the node stops: if this event is not committed, it is still needed.
pub(crate) fn forget_key(fx: &mut Effects<'_>, kid: &KeyId) -> Result<(), StoreError> {
    fx.delete(KEYS, digest_id(&[kid.as_str()]))
}

/// Makes a fresh did:peer:4 for one relationship.
///
/// `endpoints`, two at most, say how messages reach us; without any, the DID receives only what comes back on its own
/// connections.
pub(crate) fn pairwise(
    fx: &mut Effects<'_>,
    keyring: &Keyring,
    entropy: &dyn Entropy,
    now: UnixSeconds,
    endpoints: Vec<Endpoint>,
) -> Result<Did, IdentityError> {
    let agreement = SecretKey::generate(KeyKind::X25519, entropy)?;
    let authentication = SecretKey::generate(KeyKind::Ed25519, entropy)?;
    let mut input = peer::four::InputDocument::new()
        .add_method(AGREEMENT, agreement.public_key(), &[Relationship::KeyAgreement])
        .add_method(AUTHENTICATION, authentication.public_key(), &[Relationship::Authentication]);
    // One service for each endpoint, under names that reveal nothing.
    for (endpoint, id) in endpoints.into_iter().zip(["#service", "#service-2"]) {
        input = input.add_service(Service::didcomm(id, vec![endpoint]));
    }
    let made = input.create()?;
    for (fragment, key) in [(AGREEMENT, agreement), (AUTHENTICATION, authentication)] {
        keep_key(fx, keyring, key_id(&made.short, fragment), key)?;
    }
    let own = OwnDid { did: made.long.clone(), usage: DidUse::Pairwise, created: now };
    fx.put(OWN_DIDS, did_id(&made.long), &own)?;
    Ok(made.long)
}

/// The keys of a public identity, made once and kept when the URL changes.
#[derive(Serialize, Deserialize)]
struct PublicKeys {
    agreement: Zeroizing<String>,
    authentication: Zeroizing<String>,
    assertion: Zeroizing<String>,
}

const PUBLIC_KEYS: &str = "public-keys";

/// How others reach a node with a public identity.
pub(crate) struct Reached<'a> {
    /// Its URL; empty if it has none.
    pub(crate) url: &'a str,
    /// Whether its DID is a did:peer: of a mediator, or of a node without a URL.
    pub(crate) peer_did: bool,
    /// An endpoint besides the URL.
    pub(crate) further: Option<Endpoint>,
}

/// Makes or restores the public identity of a node.
///
/// A mediator is a did:peer:2 with an endpoint for HTTP and one for WebSockets, and so is a node without a URL. City
/// and merchant are did:web, and the node itself serves their document. When the endpoints change, the keys stay the
/// same; a did:peer:2 does not.
pub(crate) fn public(
    fx: &mut Effects<'_>,
    keyring: &Keyring,
    resolver: &NodeResolver,
    entropy: &dyn Entropy,
    now: UnixSeconds,
    reached: Reached<'_>,
) -> Result<Did, IdentityError> {
    let Reached { url, peer_did, further } = reached;
    let keys = public_keys(fx, entropy)?;
    // One service for each endpoint, HTTP first: deployed clients take the first they know how to use.
    let mut services = Vec::new();
    if !url.is_empty() {
        services.push(Service::didcomm("#service", vec![Endpoint::didcomm(url)]));
        if peer_did {
            services.push(Service::didcomm("#socket", vec![Endpoint::didcomm(socket_url(url))]));
        }
    }
    services.extend(further.map(|endpoint| Service::didcomm("#peer-to-peer", vec![endpoint])));
    let publics = [keys.0.public_key(), keys.1.public_key(), keys.2.public_key()];
    let [agreement, authentication, assertion] = publics;
    let did = if peer_did {
        let keys = [(Relationship::KeyAgreement, agreement), (Relationship::Authentication, authentication)];
        peer::two::create(&keys, &services)?
    } else {
        // The identifier does not say by which scheme the document is fetched; in trial mode that may be plain http.
        let did = web::did_from_url(&url.replacen("http://", "https://", 1))?;
        let mut document = DidDocument::new(did.clone());
        document.add_method(AGREEMENT, agreement, &[Relationship::KeyAgreement])?;
        document.add_method(AUTHENTICATION, authentication, &[Relationship::Authentication])?;
        document.add_method(ASSERTION, assertion, &[Relationship::AssertionMethod])?;
        for service in services {
            document.add_service(service)?;
        }
        resolver.publish(Arc::new(document));
        did
    };
    for (fragment, key) in [(AGREEMENT, keys.0), (AUTHENTICATION, keys.1), (ASSERTION, keys.2)] {
        keep_key(fx, keyring, key_id(&did, fragment), key)?;
    }
    let own = OwnDid { did: did.clone(), usage: DidUse::Public, created: now };
    fx.put(OWN_DIDS, did_id(&did), &own)?;
    Ok(did)
}

fn public_keys(
    fx: &mut Effects<'_>,
    entropy: &dyn Entropy,
) -> Result<(SecretKey, SecretKey, SecretKey), IdentityError> {
    const KINDS: [KeyKind; 3] = [KeyKind::X25519, KeyKind::Ed25519, KeyKind::P256];
    let [agreement, authentication, assertion] = KINDS;
    if let Some(stored) = fx.db().get::<PublicKeys>(META, PUBLIC_KEYS)? {
        let read = |kind, text: &Zeroizing<String>| {
            let bytes = base64url_decode(text).map(Zeroizing::new);
            let key = bytes.and_then(|bytes| SecretKey::from_bytes(kind, &bytes).ok());
            key.ok_or_else(|| StoreError::Damaged {
                what: "a key of the public identity does not parse".into(),
            })
        };
        let keys = &stored.value;
        return Ok((
            read(agreement, &keys.agreement)?,
            read(authentication, &keys.authentication)?,
            read(assertion, &keys.assertion)?,
        ));
    }
    let keys = (
        SecretKey::generate(agreement, entropy)?,
        SecretKey::generate(authentication, entropy)?,
        SecretKey::generate(assertion, entropy)?,
    );
    let text = |key: &SecretKey| Zeroizing::new(base64url_encode(key.to_bytes().as_slice()));
    let stored =
        PublicKeys { agreement: text(&keys.0), authentication: text(&keys.1), assertion: text(&keys.2) };
    fx.put(META, PUBLIC_KEYS, &stored)?;
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use einmal_storage::{Batch, StoreError};
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        config::Role,
        handler::{Cause, Failure},
        node::testing,
    };

    /// At a later start it would be as damaged: whoever waits would wait for ever.
    #[tokio::test]
    async fn a_damaged_key_of_the_public_identity_is_told_as_damaged_and_a_whole_one_makes_the_same_did() {
        let (node, _) = testing::node(Role::Mediator).await;
        let shared = node.shared();
        let again = || {
            let reached = Reached { url: "https://node.example", peer_did: true, further: None };
            let mut fx = Effects::new(shared, Cause::Own);
            public(&mut fx, &shared.keyring, &shared.resolver, shared.entropy(), shared.now(), reached)
        };
        assert_eq!(again().ok().as_ref(), shared.public_did());
        let whole = shared.db.get::<Value>(META, PUBLIC_KEYS).unwrap().unwrap().value;
        for damage in ["", "not base64url!", "AAAA"] {
            let mut keys = whole.clone();
            keys["authentication"] = json!(damage);
            let mut batch = Batch::new();
            batch.put(shared.db.key(META, PUBLIC_KEYS).unwrap(), keys.to_string());
            shared.db.store().commit(batch).await.unwrap();
            let failure = Failure::from(again().unwrap_err());
            assert!(matches!(&failure, Failure::Store(StoreError::Damaged { .. })), "{failure:?}");
            assert!(failure.is_ours_to_mend() && !failure.is_temporary());
            let told = SetupError::from(again().unwrap_err());
            assert!(told.to_string().contains("restore a backup"), "{told}");
        }
    }
}
