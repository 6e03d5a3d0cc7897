//! DIDs of einmal: identifiers, documents, and the rules of did:key, did:peer and did:web.
//!
//! * [`Did`] and [`DidUrl`] are checked text; [`Did::same_as`] knows which spellings mean the same.
//! * [`DidDocument`] is a checked document: [`DidDocument::from_json`] is the only way to get one from received bytes,
//!   and a key is found only under a [`Relationship`] it is listed for.
//! * [`Resolver`] answers from computation or memory. [`LocalResolver`] computes did:key and did:peer; documents of
//!   did:web are fetched elsewhere and handed in.
//! * [`parse_strict_json`] reads JSON from strangers, for this crate and the crates above.
//!
//! The crate does no I/O and reads no clock.

mod did;
mod document;
mod error;
mod json_check;
mod key;
pub mod limits;
pub mod peer;
mod resolver;
mod service;
mod strict_json;
#[cfg(test)]
mod test_support;
mod url;
pub mod web;

pub use did::Did;
pub use document::{DidDocument, DocumentSource, Relationship, VerificationMethod};
pub use error::DidError;
pub use json_check::{JsonCensus, strict_json_object};
pub use key::{DerivedAgreement, did_key, document as key_document, public_key as key_of};
pub use resolver::{LocalResolver, ResolveError, Resolver};
pub use service::{DIDCOMM_MESSAGING, DIDCOMM_V2, Endpoint, Service};
pub use strict_json::{StrictJsonError, parse_strict_json};
pub use url::DidUrl;
