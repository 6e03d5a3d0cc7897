//! Making a signed envelope.

use einmal_did::DidUrl;
use einmal_keys::{Custody, KeyId, SignatureAlgorithm, base64url_encode};
use serde_json::json;

use crate::{SIGNED_MEDIA_TYPE, error::PackError, limits::MAX_ENVELOPE_BYTES};

/// Signs `plaintext` with one key, in the general serialization, `kid` in the unprotected header.
///
/// The specification's prose wants `kid` protected; its vectors and widespread libraries want it unprotected. Some
/// refuse it in both, because the names of the two headers must be disjoint (RFC 7515, section 7.2.1). It need not be
/// signed: it must be a key of the signed `from`.
pub(crate) fn sign(
    plaintext: &[u8],
    kid: &DidUrl,
    key_id: &KeyId,
    algorithm: SignatureAlgorithm,
    custody: &dyn Custody,
) -> Result<Vec<u8>, PackError> {
    let header = json!({"typ": SIGNED_MEDIA_TYPE, "alg": algorithm.name()});
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
