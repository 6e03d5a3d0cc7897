//! Issuers' keys, found through their DID documents.

use std::cell::RefCell;

use einmal_credentials::vc::{IssuerKeys, KeyLookupError};
use einmal_did::{Did, DidUrl, Relationship, ResolveError, Resolver};
use einmal_keys::PublicKey;

use crate::handler::Need;

/// Finds an issuer's key in its document: the DID is `iss`, the key one of its assertion methods.
///
/// SD-JWT VC leaves this mechanism to ecosystems; `docs/profile.md` documents ours.
pub(crate) struct DidIssuerKeys<'a> {
    resolver: &'a dyn Resolver,
    need: RefCell<Option<Need>>,
}

impl<'a> DidIssuerKeys<'a> {
    pub(crate) fn new(resolver: &'a dyn Resolver) -> Self {
        Self { resolver, need: RefCell::new(None) }
    }

    /// The document that must be fetched before asking again, if its absence made a lookup fail.
    pub(crate) fn need(&self) -> Option<Need> {
        self.need.borrow().clone()
    }
}

impl IssuerKeys for DidIssuerKeys<'_> {
    fn issuer_key(&self, iss: &str, kid: Option<&str>) -> Result<PublicKey, KeyLookupError> {
        let did = Did::parse(iss).map_err(|_| KeyLookupError::NoMechanism)?;
        let kid = kid.ok_or(KeyLookupError::UnknownKey)?;
        let url = match kid.strip_prefix('#') {
            Some(fragment) => DidUrl::new(&did, fragment),
            None => DidUrl::parse(kid),
        }
        .map_err(|_| KeyLookupError::UnknownKey)?;
        if !url.did().same_as(&did) {
            return Err(KeyLookupError::UnknownKey);
        }
        let document = self.resolver.resolve(&did).map_err(|error| {
            if let ResolveError::NotFetched { did } = &error {
                *self.need.borrow_mut() = Some(Need::Document { did: did.clone() });
            }
            KeyLookupError::Unavailable { reason: "the issuer's DID does not resolve".into() }
        })?;
        let method = document.method_for(Relationship::AssertionMethod, &url);
        method.map(|method| method.key.clone()).ok_or(KeyLookupError::UnknownKey)
    }
}
