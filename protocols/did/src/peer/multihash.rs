//! SHA-256 multihashes in multibase base58btc, as did:peer 3 and 4 write them.

use sha2::{Digest, Sha256};

use crate::DidError;

/// Multihash code and length of SHA-256.
const SHA2_256: [u8; 2] = [0x12, 0x20];

/// Longest text of such a hash, in characters: 34 bytes in base58, and the `z`.
const MAX_HASH_TEXT_LEN: usize = 48;

/// `z` and the base58btc multihash of `text`.
pub(super) fn of(text: &str) -> String {
    let mut bytes = SHA2_256.to_vec();
    bytes.extend_from_slice(&Sha256::digest(text.as_bytes()));
    format!("z{}", bs58::encode(bytes).into_string())
}

/// Checks that `text` can be such a hash.
pub(super) fn check(text: &str) -> Result<(), DidError> {
    let base58 = text.strip_prefix('z').filter(|base58| base58.len() <= MAX_HASH_TEXT_LEN);
    let bytes = base58.and_then(|base58| bs58::decode(base58).into_vec().ok());
    let good = bytes.is_some_and(|bytes| bytes.len() == 34 && bytes.starts_with(&SHA2_256));
    if good {
        return Ok(());
    }
    Err(DidError::Encoding { what: "the hash of the did:peer", expected: "a SHA-256 multihash in base58btc" })
}
