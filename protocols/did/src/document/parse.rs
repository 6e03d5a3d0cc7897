//! Other parties' DID documents: received JSON in, checked document out.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
};

use serde_json::{Map, Value};

use crate::{
    Did, DidDocument, DidError, DidUrl, Relationship, Service, VerificationMethod,
    document::method::read_key,
    limits::{MAX_ALSO_KNOWN_AS, MAX_DOCUMENT_BYTES, MAX_METHODS, MAX_RELATIONSHIP_ENTRIES, MAX_SERVICES},
    parse_strict_json,
};

/// A received document, as bytes or already parsed.
#[derive(Clone, Copy, Debug)]
pub enum DocumentSource<'d> {
    /// JSON text; parsed with [`parse_strict_json`], at most [`MAX_DOCUMENT_BYTES`] long.
    Bytes(&'d [u8]),
    /// JSON that its parser has bounded.
    Value(&'d Value),
}

impl<'d> From<&'d [u8]> for DocumentSource<'d> {
    fn from(bytes: &'d [u8]) -> Self {
        Self::Bytes(bytes)
    }
}

impl<'d> From<&'d Vec<u8>> for DocumentSource<'d> {
    fn from(bytes: &'d Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

impl<'d> From<&'d str> for DocumentSource<'d> {
    fn from(text: &'d str) -> Self {
        Self::Bytes(text.as_bytes())
    }
}

impl<'d> From<&'d String> for DocumentSource<'d> {
    fn from(text: &'d String) -> Self {
        Self::Bytes(text.as_bytes())
    }
}

impl<'d> From<&'d Value> for DocumentSource<'d> {
    fn from(value: &'d Value) -> Self {
        Self::Value(value)
    }
}

impl DidDocument {
    /// Checks a document received for the DID `expected`.
    ///
    /// Its `id` must be `expected`, or the same by [`Did::same_as`]; the result uses `expected`. References are made
    /// absolute. Verification methods of unknown types, and those under the name of another DID, are skipped.
    ///
    /// # Errors
    ///
    /// [`DidError`] naming the first rule that was broken.
    ///
    /// # Specification
    ///
    /// DID Core 1.0, section 5; DIDComm Messaging v2.1, "Service Endpoint".
    pub fn from_json<'d>(expected: &Did, source: impl Into<DocumentSource<'d>>) -> Result<Self, DidError> {
        let value = match source.into() {
            DocumentSource::Bytes(bytes) => Cow::Owned(parse_strict_json(bytes, MAX_DOCUMENT_BYTES)?),
            DocumentSource::Value(value) => Cow::Borrowed(value),
        };
        let object =
            value.as_object().ok_or(DidError::Member { member: "document", expected: "an object" })?;
        let id = object.get("id").and_then(Value::as_str);
        let id = Did::parse(id.ok_or(DidError::Member { member: "id", expected: "a text" })?)?;
        if !id.same_as(expected) {
            return Err(DidError::IdMismatch);
        }
        PartsReader::new(expected).read(object)
    }
}

/// Reads all members except `id`; references without a DID are relative to `id`.
pub(crate) struct PartsReader {
    document: DidDocument,
    canonical: Did,
    /// Methods of this DID, by the part of their id after the DID, with their index unless skipped. The DID itself is
    /// not compared: it may be long, and is the same in all of them.
    own: HashMap<String, Option<usize>>,
    /// Ids of methods under another DID.
    foreign: HashSet<DidUrl>,
    met: usize,
}

impl PartsReader {
    pub(crate) fn new(id: &Did) -> Self {
        Self {
            document: DidDocument::new(id.clone()),
            canonical: id.canonical(),
            own: HashMap::new(),
            foreign: HashSet::new(),
            met: 0,
        }
    }

    pub(crate) fn read(mut self, object: &Map<String, Value>) -> Result<DidDocument, DidError> {
        self.read_also_known_as(object)?;
        for method in list(object, "verificationMethod", MAX_METHODS)? {
            self.read_method(method)?;
        }
        for relationship in Relationship::ALL {
            for entry in list(object, relationship.member(), MAX_RELATIONSHIP_ENTRIES)? {
                self.read_entry(relationship, entry)?;
            }
        }
        self.read_services(object)?;
        Ok(self.document)
    }

    fn read_also_known_as(&mut self, object: &Map<String, Value>) -> Result<(), DidError> {
        let names = list(object, "alsoKnownAs", MAX_ALSO_KNOWN_AS)?;
        let dids = names.iter().filter_map(|name| Did::parse(name.as_str()?).ok());
        self.document.also_known_as = dids.collect();
        Ok(())
    }

    /// Reads a method; `None` if it is skipped.
    fn read_method(&mut self, value: &Value) -> Result<Option<usize>, DidError> {
        self.met += 1;
        if self.met > MAX_METHODS {
            return Err(DidError::TooMany {
                what: "verification methods",
                count: self.met,
                max: MAX_METHODS,
            });
        }
        const WRONG: DidError = DidError::Member { member: "verificationMethod", expected: "an object" };
        let method = value.as_object().ok_or(WRONG)?;
        let id = method.get("id").and_then(Value::as_str);
        let id = self
            .own_url(id.ok_or(DidError::Member { member: "verificationMethod.id", expected: "a text" })?)?;
        let own = id.did() == &self.document.id;
        if own && !id.names_a_part() {
            return Err(DidError::Member {
                member: "verificationMethod.id",
                expected: "a DID URL with a fragment",
            });
        }
        let taken = if own { self.own.contains_key(id.rest()) } else { !self.foreign.insert(id.clone()) };
        if taken {
            return Err(DidError::DuplicateMethodId);
        }
        let controller = match method.get("controller") {
            None => self.document.id.clone(),
            Some(Value::String(controller)) => Did::parse(controller)?,
            Some(_) => {
                return Err(DidError::Member { member: "verificationMethod.controller", expected: "a DID" });
            }
        };
        let key = read_key(method)?;
        if !own {
            // A key under another DID's name must never be mistaken for that DID's key.
            return Ok(None);
        }
        let name = id.rest().to_owned();
        let position = match key {
            Some(key) => Some(self.document.push_method(VerificationMethod { id, controller, key })?),
            None => None,
        };
        self.own.insert(name, position);
        Ok(position)
    }

    fn read_entry(&mut self, relationship: Relationship, entry: &Value) -> Result<(), DidError> {
        let position = match entry {
            Value::String(reference) => self
                .find(reference)?
                .ok_or(DidError::MissingMethod { relationship: relationship.member() })?,
            embedded => self.read_method(embedded)?,
        };
        if let Some(position) = position {
            self.document.list(relationship, position);
        }
        Ok(())
    }

    /// The index of the referenced method: outer `None` if there is none, inner `None` if it is skipped.
    fn find(&self, reference: &str) -> Result<Option<Option<usize>>, DidError> {
        if let Some(known) = self.own.get(reference) {
            return Ok(Some(*known));
        }
        let url = self.own_url(reference)?;
        if url.did() != &self.document.id {
            return Ok(Some(None));
        }
        Ok(self.own.get(url.rest()).copied())
    }

    /// A reference made absolute; other spellings of the document's own DID are replaced by the one the document uses.
    fn own_url(&self, reference: &str) -> Result<DidUrl, DidError> {
        let id = &self.document.id;
        let url = DidUrl::resolve(id, reference)?;
        let respelt =
            url.did() != id && url.did().method() == id.method() && url.did().canonical() == self.canonical;
        if respelt { url.under(id) } else { Ok(url) }
    }

    fn read_services(&mut self, object: &Map<String, Value>) -> Result<(), DidError> {
        let mut unnamed = 0;
        for value in list(object, "service", MAX_SERVICES)? {
            let default_id = default_service_id(&mut unnamed, value);
            let service = Service::from_json(&self.document.id, value, &default_id)?;
            if !service.is_didcomm() {
                self.document.keep_opaque(service.id.clone(), value.clone());
            }
            self.document.add_service(service)?;
        }
        Ok(())
    }
}

/// The id of a service without an id of its own: `#service`, then `#service-1` and so on.
pub(crate) fn default_service_id(unnamed: &mut usize, service: &Value) -> String {
    if service.get("id").is_some() {
        return String::new();
    }
    *unnamed += 1;
    if *unnamed == 1 { "#service".to_owned() } else { format!("#service-{}", *unnamed - 1) }
}

/// A member that is a list; absent means empty, and a single string or object counts as a list of one.
fn list<'v>(
    object: &'v Map<String, Value>,
    member: &'static str,
    max: usize,
) -> Result<&'v [Value], DidError> {
    match object.get(member) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(list)) if list.len() > max => {
            Err(DidError::TooMany { what: member, count: list.len(), max })
        }
        Some(Value::Array(list)) => Ok(list),
        Some(one @ (Value::String(_) | Value::Object(_))) => Ok(std::slice::from_ref(one)),
        Some(_) => Err(DidError::Member { member, expected: "a list" }),
    }
}
