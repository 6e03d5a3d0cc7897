//! Credentials of einmal: issued, presented, requested and revoked.
//!
//! * [`sd_jwt`]: selective disclosure for any JWT (RFC 9901).
//! * [`vc`]: credentials on top of it (SD-JWT VC, `dc+sd-jwt`): issue, hold, present, verify.
//! * [`dcql`]: the query language of OpenID4VP 1.0: what a verifier requests and which cards answer with least.
//! * [`proof`]: how a holder shows at issuance that the key to be bound is its own.
//! * [`status_list`]: revocation and suspension (Token Status List).
//!
//! The crate does no I/O and reads no clock. Time is seconds since 1970 and always an argument, randomness comes
//! through [`einmal_keys::Entropy`], secret keys stay behind [`einmal_keys::Custody`], and the caller finds issuers'
//! keys, behind [`vc::IssuerKeys`].

pub mod dcql;
mod json;
mod jwt;
pub mod proof;
pub mod sd_jwt;
pub mod status_list;
pub mod vc;
