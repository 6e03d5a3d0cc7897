//! did:peer numalgo 4: a whole document inline, with its hash; first the long form, from then on the short form.

use einmal_keys::PublicKey;
use serde_json::{Map, Value};

use crate::{
    Did, DidDocument, DidError, Relationship, Service,
    document::{PartsReader, method_json, write_members},
    limits::MAX_DID_LEN,
    parse_strict_json,
    peer::{base58, check_purpose, multihash},
};

const PREFIX: &str = "did:peer:4";

/// The multicodec code of JSON, 0x0200, as an unsigned varint in its only minimal form.
const JSON_CODEC: [u8; 2] = [0x80, 0x04];

/// Both forms of one did:peer:4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerFour {
    /// With the document: for the first message to a peer.
    pub long: Did,
    /// Without the document: for all later ones.
    pub short: Did,
}

/// The document of a did:peer:4 before it has a DID: fragments instead of ids, and no controllers.
#[derive(Clone, Debug, Default)]
pub struct InputDocument {
    methods: Vec<(String, PublicKey, Vec<Relationship>)>,
    services: Vec<Service>,
}

impl InputDocument {
    /// An empty document.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a key under `fragment` (without `#`) for the given purposes.
    #[must_use]
    pub fn add_method(mut self, fragment: &str, key: PublicKey, relationships: &[Relationship]) -> Self {
        self.methods.push((fragment.to_owned(), key, relationships.to_vec()));
        self
    }

    /// Adds a service; its id should be relative, such as `#service`.
    #[must_use]
    pub fn add_service(mut self, service: Service) -> Self {
        self.services.push(service);
        self
    }

    /// The document as JSON, without `id`.
    pub fn to_json(&self) -> Value {
        let ids: Vec<String> = self.methods.iter().map(|(fragment, ..)| format!("#{fragment}")).collect();
        let methods = ids.iter().zip(&self.methods).map(|(id, (_, key, _))| method_json(id, None, key));
        let services = self.services.iter().map(Service::to_json);
        let mut object = Map::new();
        write_members(&mut object, methods.collect(), services.collect(), |relationship| {
            let listed =
                ids.iter().zip(&self.methods).filter(|(_, (_, _, uses))| uses.contains(&relationship));
            listed.map(|(id, _)| id.as_str()).collect()
        });
        Value::Object(object)
    }

    /// Makes the DID.
    ///
    /// # Errors
    ///
    /// [`DidError::NoKeys`], [`DidError::WrongPurpose`] for a key that cannot do what it is listed for, and the
    /// errors of [`create`].
    pub fn create(&self) -> Result<PeerFour, DidError> {
        if self.methods.is_empty() {
            return Err(DidError::NoKeys);
        }
        for (_, key, relationships) in &self.methods {
            relationships.iter().try_for_each(|relationship| check_purpose(key.kind(), *relationship))?;
        }
        create(&self.to_json())
    }
}

/// Makes a did:peer:4 from an input document, which has no `id` and uses relative references.
///
/// # Errors
///
/// The errors of [`document`] for the result, and [`DidError::TooLong`].
///
/// # Specification
///
/// Peer DID Method 1.0, "Generation Method 4".
pub fn create(input: &Value) -> Result<PeerFour, DidError> {
    let mut bytes = JSON_CODEC.to_vec();
    bytes.extend_from_slice(input.to_string().as_bytes());
    if bytes.len() > MAX_DID_LEN {
        return Err(DidError::TooLong { what: "input document", len: bytes.len(), max: MAX_DID_LEN });
    }
    let encoded = format!("z{}", bs58::encode(bytes).into_string());
    let hash = multihash::of(&encoded);
    let long = Did::try_from(format!("{PREFIX}{hash}:{encoded}"))?;
    document(&long)?;
    Ok(PeerFour { long, short: Did::assembled(format!("{PREFIX}{hash}")) })
}

/// The short form of a did:peer:4 in either form; for a long one only if its hash matches.
///
/// # Errors
///
/// [`DidError::WrongMethod`] for another form, [`DidError::Encoding`] for an invalid hash, [`DidError::HashMismatch`].
pub fn short_form(did: &Did) -> Result<Did, DidError> {
    match split(did)? {
        (hash, None) => multihash::check(hash).map(|()| did.clone()),
        (hash, Some(encoded)) => {
            verify(hash, encoded)?;
            Ok(Did::assembled(format!("{PREFIX}{hash}")))
        }
    }
}

/// The document of a did:peer:4 in its long form, with the short form in `alsoKnownAs`.
///
/// # Errors
///
/// [`DidError::WrongMethod`] for another form (only those who have seen the long form can resolve the short one),
/// [`DidError::HashMismatch`], [`DidError::Encoding`], [`DidError::Json`], and the errors of
/// [`DidDocument::from_json`].
///
/// # Specification
///
/// Peer DID Method 1.0, "Generation Method 4".
pub fn document(long: &Did) -> Result<DidDocument, DidError> {
    document_as(long, long)
}

/// The document of the short form that belongs to `long`, with `long` in `alsoKnownAs`.
///
/// # Errors
///
/// Those of [`document`].
pub fn short_document(long: &Did) -> Result<DidDocument, DidError> {
    document_as(long, &short_form(long)?)
}

/// The document in `long` under the name `id`, which is one of its two forms.
fn document_as(long: &Did, id: &Did) -> Result<DidDocument, DidError> {
    let (hash, encoded) = split(long)?;
    let encoded = encoded.ok_or(DidError::WrongMethod { expected: "did:peer:4 in its long form" })?;
    // First, because it is cheap: no part of an altered document is read.
    verify(hash, encoded)?;
    let input = decode(encoded)?;
    let mut document = PartsReader::new(id).read(&input)?;
    let other = if id == long { Did::assembled(format!("{PREFIX}{hash}")) } else { long.clone() };
    document.also_known_as.retain(|known| *known != other);
    document.also_known_as.insert(0, other);
    Ok(document)
}

/// Hash and, in the long form, encoded document.
fn split(did: &Did) -> Result<(&str, Option<&str>), DidError> {
    let rest = did.as_str().strip_prefix(PREFIX).ok_or(DidError::WrongMethod { expected: PREFIX })?;
    Ok(rest.split_once(':').map_or((rest, None), |(hash, encoded)| (hash, Some(encoded))))
}

/// Compares texts, because the text of a hash is unique.
fn verify(hash: &str, encoded: &str) -> Result<(), DidError> {
    multihash::check(hash)?;
    if multihash::of(encoded) == hash { Ok(()) } else { Err(DidError::HashMismatch) }
}

fn decode(encoded: &str) -> Result<Map<String, Value>, DidError> {
    let wrong = |expected| DidError::Encoding { what: "the document of the did:peer:4", expected };
    let base58 = encoded.strip_prefix('z').ok_or(wrong("in multibase base58btc"))?;
    let bytes = base58::decode(base58).ok_or(wrong("in multibase base58btc"))?;
    let json = bytes.strip_prefix(&JSON_CODEC).ok_or(wrong("of multicodec JSON"))?;
    match parse_strict_json(json, MAX_DID_LEN)? {
        Value::Object(input) if input.contains_key("id") => {
            Err(DidError::Member { member: "id", expected: "absent in the input of a did:peer:4" })
        }
        Value::Object(input) => Ok(input),
        _ => Err(DidError::Member { member: "document", expected: "an object" }),
    }
}

#[cfg(test)]
mod tests;
