//! Revocation and suspension by Token Status List (IETF draft 20), in the JWT form.
//!
//! ```text
//! issuer    StatusRegister -> StatusList -> issue_token     IndexPermutation hands out indices
//! verifier  verify_token -> VerifiedStatusList -> StatusCache -> StatusCache::at(now) as StatusSource
//! ```
//!
//! A verifier without a usable list refuses: it cannot tell "unavailable" from "revoked".

mod allocate;
mod cache;
mod error;
mod list;
mod register;
mod token;

pub use allocate::{INDEX_SPACE, IndexPermutation};
pub use cache::{CachedStatuses, DEFAULT_TTL_SECS, StatusCache, StatusSource};
pub use error::{RegisterError, StatusError};
pub use list::{MAX_LIST_BYTES, MAX_LST_CHARS, Status, StatusList};
pub use register::StatusRegister;
pub use token::{
    MAX_STATUS_TOKEN_BYTES, STATUS_LIST_TYP, StatusTokenRequest, VerifiedStatusList, issue_token,
    verify_token,
};

#[cfg(test)]
mod tests;
