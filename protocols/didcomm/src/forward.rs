//! Forward messages: wraps messages for mediators, and reads forwards at the mediator.

use std::cell::Cell;

use einmal_did::{Did, DidDocument, DidUrl, Endpoint, Relationship, ResolveError};
use einmal_keys::Entropy;
use serde_json::json;

use crate::{
    error::{MessageError, PackError},
    ids::{MessageId, UnixSeconds},
    limits::{MAX_DELIVERIES, MAX_ROUTING_KEYS, MAX_TOLD_KEY_CHARS, MAX_WRAPPED_KEYS},
    message::Message,
    pack::{PackOptions, Packed, Packer},
};

/// Type URI of the forward message.
pub const FORWARD_TYPE: &str = "https://didcomm.org/routing/2.0/forward";

const DID_SCHEME: &str = "did:";

/// One way to deliver an envelope: the destination, and exactly what to send there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivery {
    /// Transport URI, never a DID.
    pub uri: String,
    /// Multiaddresses listed with a libp2p URI.
    pub multi_addrs: Vec<String>,
    /// The envelope to transmit, wrapped for every hop.
    pub bytes: Vec<u8>,
    /// Whether a mediator stands in between.
    pub mediated: bool,
}

/// A forward message as a mediator reads it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Forward {
    /// The recipient of the payloads: a DID, also if a key reference was given.
    pub next: Did,
    /// The opaque envelopes.
    pub payloads: Vec<Vec<u8>>,
    /// When the mediator may drop them.
    pub expires_time: Option<UnixSeconds>,
}

impl Forward {
    /// Reads a forward message.
    ///
    /// Payloads by link are refused: a mediator fetches nothing on a sender's behalf.
    ///
    /// # Errors
    ///
    /// [`MessageError::WrongType`], or [`MessageError::InvalidBody`] if `next` or a payload is missing or malformed.
    ///
    /// # Specification
    ///
    /// DIDComm Messaging v2.1, "Routing Protocol 2.0".
    pub fn from_message(message: &Message) -> Result<Self, MessageError> {
        if !message.kind.is(FORWARD_TYPE) {
            return Err(MessageError::WrongType { expected: FORWARD_TYPE });
        }
        let invalid = MessageError::InvalidBody { kind: FORWARD_TYPE };
        let next = message.body.get("next").and_then(|next| next.as_str()).ok_or(invalid.clone())?;
        let next = match Did::parse(next) {
            Ok(did) => did,
            Err(_) => DidUrl::parse(next).map_err(|_| invalid.clone())?.did().clone(),
        };
        if message.attachments.is_empty() {
            return Err(invalid);
        }
        let payloads = message
            .attachments
            .iter()
            .map(|attachment| attachment.bytes().map_err(|_| invalid.clone()))
            .collect::<Result<_, _>>()?;
        Ok(Self { next, payloads, expires_time: message.expires_time })
    }

    /// Writes a forward of one envelope as plaintext bytes, without parsing the envelope again.
    ///
    /// `payload` is a packed envelope, that is, JSON text.
    fn to_bytes(
        id: &MessageId,
        mediator: &Did,
        next: &str,
        payload: &[u8],
        expires_time: Option<UnixSeconds>,
    ) -> Vec<u8> {
        let mut head = json!({
            "id": id.as_str(),
            "typ": crate::PLAIN_MEDIA_TYPE,
            "type": FORWARD_TYPE,
            "to": [mediator.as_str()],
            "body": {"next": next},
        });
        if let (Some(UnixSeconds(end)), Some(members)) = (expires_time, head.as_object_mut()) {
            members.insert("expires_time".into(), end.into());
        }
        let head = head.to_string();
        let mut out = Vec::with_capacity(head.len() + payload.len() + 64);
        out.extend_from_slice(head.strip_suffix('}').unwrap_or(&head).as_bytes());
        out.extend_from_slice(br#","attachments":[{"id":"0","media_type":"#);
        out.extend_from_slice(json!(crate::ENCRYPTED_MEDIA_TYPE).to_string().as_bytes());
        out.extend_from_slice(br#","data":{"json":"#);
        out.extend_from_slice(payload);
        out.extend_from_slice(b"}}]}");
        out
    }
}

/// All ways to deliver `packed`, in the order its recipient prefers. Deliver by only one of them.
///
/// Unusable endpoints are left out as long as another remains. Each endpoint costs a wrap per hop, so only the first
/// [`MAX_DELIVERIES`] are considered.
///
/// # Errors
///
/// The last problem found if no endpoint is usable, [`PackError::NoEndpoint`] if there is none at all.
///
/// # Specification
///
/// DIDComm Messaging v2.1, "Sender Process to Enable Forwarding" and "Using a DID as an endpoint".
pub fn deliveries(
    packer: &Packer<'_>,
    packed: &Packed,
    expires_time: Option<UnixSeconds>,
) -> Result<Vec<Delivery>, PackError> {
    let document = packer.document(&packed.recipient)?;
    let mut found = Vec::new();
    let mut problem = PackError::NoEndpoint { did: packed.recipient.clone() };
    let keys_left = Cell::new(MAX_WRAPPED_KEYS);
    for endpoint in document.didcomm_endpoints().take(MAX_DELIVERIES) {
        match deliver_by(packer, packed, endpoint, expires_time, &keys_left) {
            Ok(ways) => found.extend(ways),
            // Do not skip the recipient's preferred way just because a document is not available yet.
            Err(
                error @ PackError::Resolve {
                    source: ResolveError::NotFetched { .. } | ResolveError::Unavailable { .. },
                    ..
                },
            ) => return Err(error),
            // A problem that may resolve itself later is more useful to report than a permanent one.
            Err(_) if matches!(problem, PackError::Resolve { .. }) => {}
            Err(error) => problem = error,
        }
    }
    found.truncate(MAX_DELIVERIES);
    if found.is_empty() { Err(problem) } else { Ok(found) }
}

fn deliver_by(
    packer: &Packer<'_>,
    packed: &Packed,
    endpoint: &Endpoint,
    expires_time: Option<UnixSeconds>,
    keys_left: &Cell<usize>,
) -> Result<Vec<Delivery>, PackError> {
    let mediator = mediator_did(&endpoint.uri, &packed.recipient)?;
    let mut hops: Vec<String> = mediator.iter().map(|did| did.as_str().to_owned()).collect();
    hops.extend(endpoint.routing_keys.iter().cloned());
    if hops.len() > MAX_ROUTING_KEYS {
        return Err(PackError::TooMany { what: "routing keys", most: MAX_ROUTING_KEYS });
    }
    let bytes = wrap(packer, packed, &hops, expires_time, keys_left)?;
    let mediated = !hops.is_empty();
    let transmit = |endpoint: &Endpoint| Delivery {
        uri: endpoint.uri.clone(),
        multi_addrs: endpoint.multi_addrs.clone(),
        bytes: bytes.clone(),
        mediated,
    };
    let Some(mediator) = mediator else { return Ok(vec![transmit(endpoint)]) };
    let document = packer.document(&mediator)?;
    let (dids, uris): (Vec<&Endpoint>, Vec<&Endpoint>) =
        document.didcomm_endpoints().partition(|endpoint| endpoint.uri.starts_with(DID_SCHEME));
    if uris.is_empty() {
        return Err(if dids.is_empty() {
            PackError::NoEndpoint { did: mediator }
        } else {
            PackError::MediatorChain { mediator }
        });
    }
    Ok(uris.into_iter().take(MAX_DELIVERIES).map(transmit).collect())
}

/// The mediator that an endpoint of `recipient` names, if its `uri` is a DID; `None` for a transport URI.
fn mediator_did(uri: &str, recipient: &Did) -> Result<Option<Did>, PackError> {
    if !uri.starts_with(DID_SCHEME) {
        return Ok(None);
    }
    Did::parse(uri).map(Some).map_err(|_| PackError::NoEndpoint { did: recipient.clone() })
}

/// Wraps once per hop, starting with the last, so that the first hop opens the outermost layer.
fn wrap(
    packer: &Packer<'_>,
    packed: &Packed,
    hops: &[String],
    expires_time: Option<UnixSeconds>,
    keys_left: &Cell<usize>,
) -> Result<Vec<u8>, PackError> {
    let mut bytes = packed.bytes.clone();
    let mut next = packed.recipient.as_str().to_owned();
    for hop in hops.iter().rev() {
        let (did, document) = hop_keys(packer, hop)?;
        // The document's owner chooses the hops, and each key of each hop costs a key agreement, again for every way.
        let keys = document.methods(Relationship::KeyAgreement).count();
        let left = keys_left.get().checked_sub(keys);
        keys_left.set(left.ok_or(PackError::TooMany { what: "keys on the way", most: MAX_WRAPPED_KEYS })?);
        let id = fresh_id(packer.entropy)?;
        let forward = Forward::to_bytes(&id, &did, &next, &bytes, expires_time);
        bytes = packer.anoncrypt(&forward, &did, &document, &PackOptions::default())?;
        next = did.as_str().to_owned();
    }
    Ok(bytes)
}

fn fresh_id(entropy: &dyn Entropy) -> Result<MessageId, PackError> {
    MessageId::random(entropy).map_err(|_| PackError::Entropy)
}

/// The document whose keys open one hop: all keys of a plain DID, or the one key a DID URL names.
fn hop_keys(packer: &Packer<'_>, hop: &str) -> Result<(Did, std::sync::Arc<DidDocument>), PackError> {
    if let Ok(did) = Did::parse(hop) {
        let document = packer.document(&did)?;
        return Ok((did, document));
    }
    let unusable = || PackError::RoutingKey { key: hop.chars().take(MAX_TOLD_KEY_CHARS).collect() };
    let url = DidUrl::parse(hop).map_err(|_| unusable())?;
    let document = packer.document(url.did())?;
    // did:key routing keys name the Ed25519 method; use the key agreement key beside it.
    if document.method_for(Relationship::KeyAgreement, &url).is_none() && url.did().method() != "key" {
        return Err(unusable());
    }
    let mut only = DidDocument::new(url.did().clone());
    let key = document
        .method_for(Relationship::KeyAgreement, &url)
        .or_else(|| document.methods(Relationship::KeyAgreement).next())
        .ok_or_else(unusable)?;
    // Use the name from the recipient's document, which the mediator knows the key by, unless it names a different key.
    let named = document.method_for(Relationship::KeyAgreement, &url).and(url.fragment());
    let fragment = named.or(key.id.fragment()).ok_or_else(unusable)?;
    only.add_method(fragment, key.key.clone(), &[Relationship::KeyAgreement]).map_err(|_| unusable())?;
    Ok((url.did().clone(), std::sync::Arc::new(only)))
}
