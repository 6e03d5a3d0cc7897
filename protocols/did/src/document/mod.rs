//! Checked DID documents: keys by relationship, services, and the lookups the protocols need.

mod build;
mod method;
mod parse;
#[cfg(test)]
mod tests;

use einmal_keys::PublicKey;
use serde_json::Value;

use crate::{Did, DidUrl, Endpoint, Service};

pub(crate) use build::{method_json, write_members};
pub use parse::DocumentSource;
pub(crate) use parse::{PartsReader, default_service_id};

/// What a key of a document may be used for. A key may not serve a purpose it is not listed under.
///
/// # Specification
///
/// DID Core 1.0, section 5.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Relationship {
    /// Proving to be the DID: signed messages, `from_prior`, presentations.
    Authentication,
    /// Issuing credentials.
    AssertionMethod,
    /// Receiving and sending encrypted messages.
    KeyAgreement,
    /// Invoking a capability.
    CapabilityInvocation,
    /// Delegating a capability.
    CapabilityDelegation,
}

impl Relationship {
    /// All relationships, in a fixed order.
    pub const ALL: [Self; 5] = [
        Self::Authentication,
        Self::AssertionMethod,
        Self::KeyAgreement,
        Self::CapabilityInvocation,
        Self::CapabilityDelegation,
    ];

    /// The member of a DID document that lists it.
    pub fn member(self) -> &'static str {
        match self {
            Self::Authentication => "authentication",
            Self::AssertionMethod => "assertionMethod",
            Self::KeyAgreement => "keyAgreement",
            Self::CapabilityInvocation => "capabilityInvocation",
            Self::CapabilityDelegation => "capabilityDelegation",
        }
    }
}

/// A public key of a document, with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerificationMethod {
    /// Its id: absolute, under the DID of the document it was read from.
    pub id: DidUrl,
    /// Who controls the key; usually the DID of the document.
    pub controller: Did,
    /// The key.
    pub key: PublicKey,
}

/// A DID document whose rules have been checked. Whether it is genuine depends on how it was obtained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DidDocument {
    /// The DID the document was requested for.
    pub id: Did,
    /// Other DIDs of the same subject, as the document claims. `alsoKnownAs` entries that are not DIDs are left out.
    pub also_known_as: Vec<Did>,
    methods: Vec<VerificationMethod>,
    listed: Listed,
    /// Services, in the owner's order of preference.
    pub services: Vec<Service>,
    /// Services of types other than `DIDCommMessaging`, as received, by id.
    opaque: Vec<(String, Value)>,
}

/// The indices of the methods under each relationship, in the order listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listed([Vec<usize>; 5]);

impl Listed {
    pub(crate) fn under(&self, relationship: Relationship) -> &[usize] {
        let [authentication, assertion, agreement, invocation, delegation] = &self.0;
        match relationship {
            Relationship::Authentication => authentication,
            Relationship::AssertionMethod => assertion,
            Relationship::KeyAgreement => agreement,
            Relationship::CapabilityInvocation => invocation,
            Relationship::CapabilityDelegation => delegation,
        }
    }

    /// Lists the method at `position`; listing it twice changes nothing.
    pub(crate) fn add(&mut self, relationship: Relationship, position: usize) {
        let [authentication, assertion, agreement, invocation, delegation] = &mut self.0;
        let list = match relationship {
            Relationship::Authentication => authentication,
            Relationship::AssertionMethod => assertion,
            Relationship::KeyAgreement => agreement,
            Relationship::CapabilityInvocation => invocation,
            Relationship::CapabilityDelegation => delegation,
        };
        if !list.contains(&position) {
            list.push(position);
        }
    }
}

impl DidDocument {
    /// All verification methods, for any purpose. Use [`DidDocument::methods`] to pick a key.
    pub fn verification_methods(&self) -> &[VerificationMethod] {
        &self.methods
    }

    /// The methods listed under `relationship`, in document order.
    pub fn methods(&self, relationship: Relationship) -> impl Iterator<Item = &VerificationMethod> {
        self.listed.under(relationship).iter().filter_map(|position| self.methods.get(*position))
    }

    /// The method that `url` names, if it is listed under `relationship`.
    ///
    /// The DID in `url` may be spelled in any form that [`Did::same_as`] accepts, such as the short form if the
    /// document was requested by the long one. For did:peer 0 and 2 this also accepts the older fragment, which is the
    /// key's own multibase text with or without its `z`.
    pub fn method_for(&self, relationship: Relationship, url: &DidUrl) -> Option<&VerificationMethod> {
        if let Some(method) = self.methods(relationship).find(|method| method.id == *url) {
            return Some(method);
        }
        if !url.names_a_part() || !self.id.same_as(url.did()) {
            return None;
        }
        let fragment = url.fragment()?;
        self.methods(relationship)
            .find(|method| method.id.fragment() == Some(fragment))
            .or_else(|| self.methods(relationship).find(|method| self.is_older_name(fragment, method)))
    }

    /// Whether `fragment` is the name that older software gives `method`.
    fn is_older_name(&self, fragment: &str, method: &VerificationMethod) -> bool {
        let by_multibase = ["did:peer:0", "did:peer:2"].iter().any(|form| self.id.as_str().starts_with(form));
        if !by_multibase || fragment.len() < MIN_MULTIBASE_NAME {
            return false;
        }
        let multikey = method.key.to_multikey();
        multikey == fragment || multikey.strip_prefix('z') == Some(fragment)
    }

    /// The endpoints of `DIDCommMessaging` services that accept DIDComm v2, in order of preference.
    pub fn didcomm_endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.services
            .iter()
            .filter(|service| service.is_didcomm())
            .flat_map(|service| &service.endpoints)
            .filter(|endpoint| endpoint.accepts_didcomm_v2())
    }

    /// Drops the content of services of types other than `DIDCommMessaging`; for other parties' documents, which are
    /// never written again.
    pub fn forget_opaque_services(&mut self) {
        self.opaque.clear();
    }

    /// Estimated memory use of the document, in bytes.
    pub fn weight(&self) -> usize {
        /// A key with its list entries and the fixed parts of a method, service or endpoint.
        const EACH: usize = 512;
        let methods: usize = self.methods.iter().map(|method| method.id.as_str().len() + EACH).sum();
        let aliases: usize = self.also_known_as.iter().map(|did| did.as_str().len()).sum();
        let services: usize = self.services.iter().map(service_weight).sum();
        let opaque: usize = self.opaque.iter().map(|(_, value)| value_weight(value)).sum();
        EACH + self.id.as_str().len() + methods + aliases + services + opaque
    }
}

/// Shorter fragments cannot be multibase keys; this avoids encoding keys for the usual `key-1`.
const MIN_MULTIBASE_NAME: usize = 40;

fn service_weight(service: &Service) -> usize {
    let text = |text: &String| text.len() + size_of::<String>();
    let endpoint = |endpoint: &Endpoint| {
        let lists = [&endpoint.accept, &endpoint.routing_keys, &endpoint.multi_addrs];
        text(&endpoint.uri) + lists.into_iter().flatten().map(text).sum::<usize>() + size_of::<Endpoint>()
    };
    text(&service.id) + text(&service.kind) + service.endpoints.iter().map(endpoint).sum::<usize>()
}

fn value_weight(value: &Value) -> usize {
    let inner = match value {
        Value::String(text) => text.len(),
        Value::Array(list) => list.iter().map(value_weight).sum(),
        // A node of the tree has room for eleven members, used or not.
        Value::Object(object) => object
            .iter()
            .map(|(name, value)| name.len() + value_weight(value))
            .sum::<usize>()
            .saturating_add(640 * object.len().div_ceil(6)),
        _ => 0,
    };
    size_of::<Value>() + inner
}
