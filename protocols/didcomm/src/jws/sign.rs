//! Making a signed envelope.

use einmal_did::DidUrl;
use einmal_keys::{Custody, KeyId, SignatureAlgorithm, base64url_encode};
use serde_json::json;

use crate::{SIGNED_MEDIA_TYPE, error::PackError, limits::MAX_ENVELOPE_BYTES};

/// Signs `plaintext` with one key, in the general serialization, `kid` in both headers.
///
/// The prose of the specification wants `kid` protected, its vectors and a widespread library want it unprotected.
pub(crate) fn sign(
    plaintext: &[u8],
    kid: &DidUrl,
    key_id: &KeyId,
    algorithm: SignatureAlgorithm,
    custody: &dyn Custody,
) -> Result<Vec<u8>, PackError> {
    let header = json!({"typ": SIGNED_MEDIA_TYPE, "alg": algorithm.name(), "kid": kid.as_str()});
    let protected = base64url_encode(header.to_string());
    let payload = base64url_encode(plaintext);
    let input = format!("{protected}.{payload}");
    let signature = base64url_encode(custody.sign(key_id, input.as_bytes())?);
    let envelope = json!({
        "payload": payload,
        "signatures": [{"protected": protected, "signature": signature, "header": {"kid": kid.as_str()}}],
    })
    .to_string()
    .into_bytes();
    if envelope.len() > MAX_ENVELOPE_BYTES {
        return Err(PackError::TooLarge { size: envelope.len() });
    }
    Ok(envelope)
}
