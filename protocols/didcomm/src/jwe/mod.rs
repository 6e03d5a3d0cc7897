//! Encrypted envelopes: general JSON JWE with ECDH-ES or ECDH-1PU, one ephemeral key for all recipients.

mod content;
mod decrypt;
mod encrypt;
mod header;
mod kdf;
mod primitive;

pub use content::ContentEncryption;
pub(crate) use decrypt::ParsedJwe;
pub use encrypt::Irregularity;
pub(crate) use encrypt::{JweSender, Means, Recipient, encrypt, encrypt_breaking};
