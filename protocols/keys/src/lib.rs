//! Keys of einmal: their kinds, their encodings, and the two operations on secret keys.
//!
//! * [`PublicKey`] is validated on construction: on its curve, right length, no low order point where that matters.
//! * [`SecretKey`] is zeroized on drop and cannot be printed.
//! * [`Custody`] is the only way other crates use secret keys: `sign` and `agree` by key id, so that a phone's key
//!   store, a PKCS#11 module or a signing service can implement it. It may remember what makes the next agreement
//!   cheaper.
//!
//! The crate does no I/O and reads no clock; randomness comes through [`Entropy`].

mod custody;
mod ecdsa;
mod encoding;
mod entropy;
mod error;
mod jwk;
mod kind;
mod multikey;
mod multiples;
mod public;
mod secret;
mod shared;
mod signature;

pub use custody::{Custody, CustodyError, KeyId, Keyring, MAX_REMEMBERED_AGREEMENTS, PeerKeyUse};
pub use encoding::{base64url_append, base64url_decode, base64url_decode_tolerant, base64url_encode};
pub use entropy::{Entropy, EntropyError, SeededEntropy, SystemEntropy};
pub use error::KeyError;
pub use jwk::{Jwk, MAX_JWK_MEMBER_LEN};
pub use kind::KeyKind;
pub use multiples::{AGREEMENTS_BEFORE_TABLE, MAX_COUNTED_KEYS, MAX_TABLES};
pub use public::PublicKey;
pub use secret::SecretKey;
pub use shared::SharedSecret;
pub use signature::{SignatureAlgorithm, SignatureError};
