//! did:peer numalgo 2: keys and services inline, the form every DIDComm v2 peer reads.

use einmal_keys::{KeyKind, PublicKey, base64url_decode, base64url_encode};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    DIDCOMM_MESSAGING, Did, DidDocument, DidError, Endpoint, Relationship, Service,
    document::default_service_id,
    limits::{MAX_DID_LEN, MAX_ELEMENTS, MAX_SERVICES},
    parse_strict_json,
    peer::{check_purpose, three},
};

const PREFIX: &str = "did:peer:2";

/// Members and their abbreviations, in the order of the text.
const ABBREVIATIONS: [(&str, &str); 4] =
    [("t", "type"), ("s", "serviceEndpoint"), ("r", "routingKeys"), ("a", "accept")];

/// The abbreviation of `DIDCommMessaging`.
const DIDCOMM_ABBREVIATED: &str = "dm";

/// Makes a did:peer:2 from keys and services; the keys are named `#key-1`, `#key-2` and so on in this order.
///
/// Every endpoint gets its own `.S` element, in abbreviated form, because deployed peers read one endpoint per service.
/// Service ids are not written, since the method assigns them. Peers with the Identus SDK refuse any DID that lists a
/// NIST curve.
///
/// # Errors
///
/// [`DidError::NoKeys`], [`DidError::FirstAgreementKey`], [`DidError::WrongPurpose`], [`DidError::TooMany`],
/// [`DidError::TooLong`].
///
/// # Specification
///
/// Peer DID Method 1.0, "Generation Method 2".
pub fn create(keys: &[(Relationship, PublicKey)], services: &[Service]) -> Result<Did, DidError> {
    if keys.is_empty() {
        return Err(DidError::NoKeys);
    }
    let first_agreement = keys.iter().find(|(purpose, _)| *purpose == Relationship::KeyAgreement);
    if first_agreement.is_some_and(|(_, key)| key.kind() != KeyKind::X25519) {
        return Err(DidError::FirstAgreementKey);
    }
    let mut text = PREFIX.to_owned();
    let mut count = keys.len();
    for (purpose, key) in keys {
        check_purpose(key.kind(), *purpose)?;
        text.push('.');
        text.push(letter(*purpose));
        text.push_str(&key.to_multikey());
    }
    for service in services {
        for endpoint in &service.endpoints {
            count += 1;
            text.push_str(".S");
            text.push_str(&base64url_encode(abbreviated(service, endpoint)));
        }
    }
    check_count("elements", count, MAX_ELEMENTS)?;
    Did::try_from(text)
}

/// The document of a did:peer:2, with its did:peer:3 in `alsoKnownAs`.
///
/// This reads the current form and older ones: members in full or abbreviated, several services in one element, an
/// endpoint as a bare string.
///
/// # Errors
///
/// [`DidError::WrongMethod`] for another form, [`DidError::Encoding`] for an element that does not decode,
/// [`DidError::Key`] and [`DidError::WrongPurpose`] for an unusable key, [`DidError::TooMany`], and the errors of
/// services.
///
/// # Specification
///
/// Peer DID Method 1.0, "Generation Method 2".
pub fn document(did: &Did) -> Result<DidDocument, DidError> {
    let mut document = document_as(did, did.clone())?;
    document.also_known_as = vec![three::short_form(did)?];
    Ok(document)
}

/// The document of `did` under the name `id`.
pub(super) fn document_as(did: &Did, id: Did) -> Result<DidDocument, DidError> {
    let elements = elements_text(did)?.strip_prefix('.');
    let elements = elements.ok_or(element_error("one or more elements that each follow a dot"))?;
    check_count("elements", elements.split('.').count(), MAX_ELEMENTS)?;
    let mut document = DidDocument::new(id);
    let (mut keys, mut unnamed) = (0, 0);
    for element in elements.split('.') {
        let purpose = element.chars().next().ok_or(element_error("a purpose letter and its value"))?;
        let value = element.get(1..).unwrap_or_default();
        if purpose == 'S' {
            read_services(&mut document, value, &mut unnamed)?;
            continue;
        }
        let relationship = relationship(purpose).ok_or(element_error("of purpose A, D, E, I, S or V"))?;
        let key = PublicKey::from_multikey(value)?;
        check_purpose(key.kind(), relationship)?;
        keys += 1;
        document.add_method(&format!("key-{keys}"), key, &[relationship])?;
    }
    Ok(document)
}

/// The part after `did:peer:2`.
pub(super) fn elements_text(did: &Did) -> Result<&str, DidError> {
    did.as_str().strip_prefix(PREFIX).ok_or(DidError::WrongMethod { expected: PREFIX })
}

fn element_error(expected: &'static str) -> DidError {
    DidError::Encoding { what: "an element of the did:peer:2", expected }
}

fn check_count(what: &'static str, count: usize, max: usize) -> Result<(), DidError> {
    if count > max { Err(DidError::TooMany { what, count, max }) } else { Ok(()) }
}

fn letter(purpose: Relationship) -> char {
    match purpose {
        Relationship::Authentication => 'V',
        Relationship::AssertionMethod => 'A',
        Relationship::KeyAgreement => 'E',
        Relationship::CapabilityInvocation => 'I',
        Relationship::CapabilityDelegation => 'D',
    }
}

fn relationship(purpose: char) -> Option<Relationship> {
    Relationship::ALL.into_iter().find(|relationship| letter(*relationship) == purpose)
}

fn read_services(document: &mut DidDocument, text: &str, unnamed: &mut usize) -> Result<(), DidError> {
    let bytes = base64url_decode(text).ok_or(element_error("base64url of a service"))?;
    let services = match parse_strict_json(&bytes, MAX_DID_LEN)? {
        Value::Array(services) => services,
        service => vec![service],
    };
    check_count("services", services.len(), MAX_SERVICES)?;
    for service in services {
        let service = expand(service)?;
        let default_id = default_service_id(unnamed, &service);
        let read = Service::from_json(&document.id, &service, &default_id)?;
        if !read.is_didcomm() {
            document.keep_opaque(read.id.clone(), service);
        }
        document.add_service(read)?;
    }
    Ok(())
}

/// Writes abbreviated members in full, at every depth; the JSON reader has bounded the depth.
fn expand(value: Value) -> Result<Value, DidError> {
    match value {
        Value::Array(list) => list.into_iter().map(expand).collect(),
        Value::Object(object) => {
            let mut full = Map::new();
            for (name, value) in object {
                let known = ABBREVIATIONS.iter().find(|(short, long)| *short == name || *long == name);
                let value = match (known, value) {
                    (Some((_, "type")), Value::String(kind)) if kind == DIDCOMM_ABBREVIATED => {
                        DIDCOMM_MESSAGING.into()
                    }
                    (_, value) => expand(value)?,
                };
                let twice = full.insert(known.map_or(name, |(_, long)| (*long).to_owned()), value).is_some();
                if let (true, Some((_, member))) = (twice, known) {
                    return Err(DidError::DuplicateMember { member });
                }
            }
            Ok(Value::Object(full))
        }
        other => Ok(other),
    }
}

#[derive(Serialize)]
struct Abbreviated<'s> {
    t: &'s str,
    s: AbbreviatedEndpoint<'s>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum AbbreviatedEndpoint<'s> {
    Bare(&'s str),
    Full(FullEndpoint<'s>),
}

#[derive(Serialize)]
struct FullEndpoint<'s> {
    uri: &'s str,
    #[serde(skip_serializing_if = "no_entries")]
    a: &'s [String],
    #[serde(skip_serializing_if = "no_entries")]
    r: &'s [String],
    #[serde(rename = "multiAddrs", skip_serializing_if = "no_entries")]
    multi_addrs: &'s [String],
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes the field by reference")]
fn no_entries(list: &&[String]) -> bool {
    list.is_empty()
}

/// One service with one endpoint as abbreviated JSON; the order of members is fixed, so that the DID is too.
fn abbreviated(service: &Service, endpoint: &Endpoint) -> String {
    let full = FullEndpoint {
        uri: &endpoint.uri,
        a: &endpoint.accept,
        r: &endpoint.routing_keys,
        multi_addrs: &endpoint.multi_addrs,
    };
    let service = if service.is_didcomm() {
        Abbreviated { t: DIDCOMM_ABBREVIATED, s: AbbreviatedEndpoint::Full(full) }
    } else {
        Abbreviated { t: &service.kind, s: AbbreviatedEndpoint::Bare(&endpoint.uri) }
    };
    // Strings and lists of strings always serialize.
    serde_json::to_string(&service).unwrap_or_default()
}

#[cfg(test)]
mod tests;
