//! Builds our own DID documents key by key, and writes documents as JSON.

use einmal_keys::PublicKey;
use serde_json::{Map, Value, json};

use crate::{
    Did, DidDocument, DidError, DidUrl, Relationship, Service, VerificationMethod,
    document::Listed,
    limits::{MAX_METHODS, MAX_SERVICES},
};

impl DidDocument {
    /// A document without keys and services.
    pub fn new(id: Did) -> Self {
        Self {
            id,
            also_known_as: Vec::new(),
            methods: Vec::new(),
            listed: Listed::default(),
            services: Vec::new(),
            opaque: Vec::new(),
        }
    }

    /// Adds a key under `fragment` (without `#`) for the given purposes.
    ///
    /// # Errors
    ///
    /// [`DidError::DuplicateMethodId`], [`DidError::TooMany`], [`DidError::UrlSyntax`] for an unusable fragment.
    pub fn add_method(
        &mut self,
        fragment: &str,
        key: PublicKey,
        relationships: &[Relationship],
    ) -> Result<&mut Self, DidError> {
        let id = DidUrl::new(&self.id, fragment)?;
        let controller = self.id.clone();
        let position = self.push_method(VerificationMethod { id, controller, key })?;
        for relationship in relationships {
            self.list(*relationship, position);
        }
        Ok(self)
    }

    /// Adds a service; an id that begins with `#` is made absolute.
    ///
    /// # Errors
    ///
    /// [`DidError::TooMany`].
    pub fn add_service(&mut self, mut service: Service) -> Result<&mut Self, DidError> {
        let count = self.services.len() + 1;
        if count > MAX_SERVICES {
            return Err(DidError::TooMany { what: "services", count, max: MAX_SERVICES });
        }
        if service.id.starts_with('#') {
            service.id = format!("{}{}", self.id, service.id);
        }
        self.services.push(service);
        Ok(self)
    }

    pub(crate) fn push_method(&mut self, method: VerificationMethod) -> Result<usize, DidError> {
        let position = self.methods.len();
        if position >= MAX_METHODS {
            return Err(DidError::TooMany {
                what: "verification methods",
                count: position + 1,
                max: MAX_METHODS,
            });
        }
        // All ids are under this DID, so comparing fragments is enough.
        if self.methods.iter().any(|known| known.id.fragment() == method.id.fragment()) {
            return Err(DidError::DuplicateMethodId);
        }
        // Thousands of documents are remembered, each with two or three methods.
        self.methods.reserve_exact(1);
        self.methods.push(method);
        Ok(position)
    }

    pub(crate) fn list(&mut self, relationship: Relationship, position: usize) {
        self.listed.add(relationship, position);
    }

    pub(crate) fn keep_opaque(&mut self, id: String, value: Value) {
        self.opaque.push((id, value));
    }

    /// The document as JSON: all ids absolute, keys as `Multikey`.
    ///
    /// Services of other types are written as received, if [`DidDocument::services`] still holds them. A service
    /// received without an id gets the one it is known by.
    pub fn to_json(&self) -> Value {
        let mut object = Map::new();
        object.insert("@context".to_owned(), json!(CONTEXTS));
        object.insert("id".to_owned(), self.id.as_str().into());
        if !self.also_known_as.is_empty() {
            let names: Vec<&str> = self.also_known_as.iter().map(Did::as_str).collect();
            object.insert("alsoKnownAs".to_owned(), names.into());
        }
        let methods = self
            .methods
            .iter()
            .map(|method| method_json(method.id.as_str(), Some(method.controller.as_str()), &method.key));
        let mut kept: Vec<&(String, Value)> = self.opaque.iter().collect();
        let services = self.services.iter().map(|service| {
            // Each kept value belongs to one service: ids need not be unique, and may also be those of another type.
            let own = kept.iter().position(|(id, _)| !service.is_didcomm() && *id == service.id);
            own.map_or_else(|| service.to_json(), |own| with_id(&kept.remove(own).1, &service.id))
        });
        let ids = |relationship| self.methods(relationship).map(|method| method.id.as_str()).collect();
        write_members(&mut object, methods.collect(), services.collect(), ids);
        Value::Object(object)
    }
}

const CONTEXTS: [&str; 2] = ["https://www.w3.org/ns/did/v1", "https://w3id.org/security/multikey/v1"];

/// A service as received, but with `id` if it had none, because a default id depends on the neighbouring services.
fn with_id(received: &Value, id: &str) -> Value {
    let mut service = received.clone();
    if let Some(members) = service.as_object_mut() {
        members.entry("id").or_insert_with(|| id.into());
    }
    service
}

/// One verification method as JSON; without `controller` if the resolver fills it in.
pub(crate) fn method_json(id: &str, controller: Option<&str>, key: &PublicKey) -> Value {
    let mut method = json!({ "id": id, "type": "Multikey", "publicKeyMultibase": key.to_multikey() });
    if let (Some(controller), Some(object)) = (controller, method.as_object_mut()) {
        object.insert("controller".to_owned(), controller.into());
    }
    method
}

/// Writes the members every document has, leaving out empty ones.
pub(crate) fn write_members<'m>(
    object: &mut Map<String, Value>,
    methods: Vec<Value>,
    services: Vec<Value>,
    ids: impl Fn(Relationship) -> Vec<&'m str>,
) {
    if !methods.is_empty() {
        object.insert("verificationMethod".to_owned(), methods.into());
    }
    for relationship in Relationship::ALL {
        let ids = ids(relationship);
        if !ids.is_empty() {
            object.insert(relationship.member().to_owned(), ids.into());
        }
    }
    if !services.is_empty() {
        object.insert("service".to_owned(), services.into());
    }
}
