//! The signed part that all tokens here share: a compact JWS with an object as payload.

use einmal_keys::{
    Custody, CustodyError, KeyId, PublicKey, SignatureAlgorithm, base64url_decode, base64url_encode,
};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::json::{self, JsonFault};

/// Longest accepted encoded header, in characters; the largest possible member is an `x5c` chain.
const MAX_HEADER_CHARS: usize = 32 * 1024;

/// Why a text is not a JWS that einmal reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JwtFault {
    /// Not three base64url parts of JSON objects, or a header member of the wrong type.
    Malformed,
    /// A JSON text inside it was refused.
    Json(JsonFault),
    /// `alg` names nothing that einmal verifies; this includes `none` and symmetric algorithms.
    Algorithm,
    /// The header has `crit`, which demands an extension; none is supported here.
    Critical,
}

impl From<JsonFault> for JwtFault {
    fn from(fault: JsonFault) -> Self {
        Self::Json(fault)
    }
}

/// Header members that affect a decision here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) algorithm: SignatureAlgorithm,
    pub(crate) typ: Option<String>,
    pub(crate) kid: Option<String>,
    /// The key itself, if a proof of possession carries it.
    pub(crate) jwk: Option<Value>,
}

/// A parsed JWS whose signature is not checked yet. The caller keeps the signed text.
#[derive(Clone)]
pub(crate) struct Jwt {
    pub(crate) header: Header,
    pub(crate) payload: Map<String, Value>,
    signature: Vec<u8>,
    /// Length of `header.payload` in the parsed text.
    signed_len: usize,
}

impl Jwt {
    /// Reads a compact JWS.
    pub(crate) fn parse(text: &str) -> Result<Self, JwtFault> {
        let (signed, signature) = text.rsplit_once('.').ok_or(JwtFault::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(JwtFault::Malformed)?;
        if header.len() > MAX_HEADER_CHARS {
            return Err(JwtFault::Malformed);
        }
        let header = read_header(&decode(header)?)?;
        let payload = json::parse_object(&decode(payload)?)?;
        Ok(Self { header, payload, signature: decode(signature)?, signed_len: signed.len() })
    }

    /// Whether `key` signed the text this was parsed from, with the header's algorithm.
    pub(crate) fn is_signed_by(&self, text: &str, key: &PublicKey) -> bool {
        text.get(..self.signed_len).is_some_and(|signed| {
            key.verify(self.header.algorithm, signed.as_bytes(), &self.signature).is_ok()
        })
    }
}

fn decode(part: &str) -> Result<Vec<u8>, JwtFault> {
    base64url_decode(part).ok_or(JwtFault::Malformed)
}

fn read_header(bytes: &[u8]) -> Result<Header, JwtFault> {
    let mut header = json::parse_object(bytes)?;
    if header.contains_key("crit") {
        return Err(JwtFault::Critical);
    }
    let algorithm = match header.get("alg") {
        Some(Value::String(name)) => SignatureAlgorithm::from_name(name).ok_or(JwtFault::Algorithm)?,
        _ => return Err(JwtFault::Malformed),
    };
    let mut text = |name: &str| match header.remove(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(JwtFault::Malformed),
    };
    let (typ, kid) = (text("typ")?, text("kid")?);
    Ok(Header { algorithm, typ, kid, jwk: header.remove("jwk") })
}

/// The header of a token to be signed, in writing order.
#[derive(Serialize)]
pub(crate) struct HeaderOut<'a> {
    pub(crate) alg: &'static str,
    pub(crate) typ: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kid: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub(crate) x5c: &'a [String],
}

/// Why a token could not be signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SignFault {
    Custody(CustodyError),
    /// The key is not a signing key.
    CannotSign,
    /// The payload could not be written as JSON.
    Encoding,
}

/// The signature algorithm of the held key `kid`.
pub(crate) fn algorithm_of(custody: &dyn Custody, kid: &KeyId) -> Result<SignatureAlgorithm, SignFault> {
    let unknown = || SignFault::Custody(CustodyError::UnknownKey { kid: kid.clone() });
    let key = custody.public_key(kid).ok_or_else(unknown)?;
    SignatureAlgorithm::of(key.kind()).ok_or(SignFault::CannotSign)
}

/// Writes and signs a compact JWS.
pub(crate) fn sign(
    custody: &dyn Custody,
    kid: &KeyId,
    header: &impl Serialize,
    payload: &impl Serialize,
) -> Result<String, SignFault> {
    let header = serde_json::to_vec(header).map_err(|_| SignFault::Encoding)?;
    let payload = serde_json::to_vec(payload).map_err(|_| SignFault::Encoding)?;
    let mut token = base64url_encode(header);
    token.push('.');
    token.push_str(&base64url_encode(payload));
    let signature = custody.sign(kid, token.as_bytes()).map_err(SignFault::Custody)?;
    token.push('.');
    token.push_str(&base64url_encode(signature));
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str, payload: &str) -> String {
        format!("{}.{}.{}", base64url_encode(header), base64url_encode(payload), base64url_encode("sig"))
    }

    fn fault(header: &str) -> JwtFault {
        Jwt::parse(&token(header, "{}")).err().unwrap()
    }

    #[test]
    fn algorithms_that_prove_nothing_are_refused_by_name() {
        for name in ["none", "None", "HS256", "RS256", ""] {
            assert_eq!(fault(&format!(r#"{{"alg":"{name}"}}"#)), JwtFault::Algorithm);
        }
        assert_eq!(fault("{}"), JwtFault::Malformed);
        assert_eq!(fault(r#"{"alg":7}"#), JwtFault::Malformed);
    }

    #[test]
    fn critical_extensions_and_doubled_members_are_refused() {
        assert_eq!(fault(r#"{"alg":"ES256","crit":["b64"],"b64":false}"#), JwtFault::Critical);
        assert_eq!(fault(r#"{"alg":"ES256","alg":"EdDSA"}"#), JwtFault::Json(JsonFault::DuplicateMember));
        assert_eq!(fault(r#"{"alg":"ES256","kid":1}"#), JwtFault::Malformed);
    }

    #[test]
    fn anything_but_three_parts_is_refused() {
        let good = token(r#"{"alg":"ES256"}"#, "{}");
        assert!(Jwt::parse(&good).is_ok());
        for bad in ["", ".", "..", "a.b", &format!("{good}.{good}"), &format!("{good}="), &good[1..]] {
            assert!(Jwt::parse(bad).is_err(), "{bad}");
        }
    }
}
