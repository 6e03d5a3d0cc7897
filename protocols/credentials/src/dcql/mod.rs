//! The query language of OpenID4VP 1.0 (DCQL): what a verifier requests, and which cards answer while showing least.
//!
//! The holder calls [`DcqlQuery::select`] and shows the person the result before anything is sent. The verifier calls
//! [`satisfied_by`] on the credentials it has verified: a query is only a wish, and the answer is what counts.

mod error;
mod path;
mod query;
mod satisfied;
mod select;

pub use error::{DcqlError, NoMatch};
pub use path::PathStep;
pub use query::{
    ClaimQuery, CredentialQuery, CredentialSetQuery, DcqlQuery, MAX_CLAIM_QUERIES, MAX_CREDENTIAL_QUERIES,
    MAX_QUERY_BYTES, MAX_SETS, MAX_VALUES,
};
pub use satisfied::{asked_claims, satisfied_by};
pub use select::{Candidate, Chosen, Selection};

#[cfg(test)]
mod tests;
