//! Parses the protected header of an encrypted envelope and checks all its rules.

use std::borrow::Cow;

use einmal_did::DidUrl;
use einmal_keys::{Jwk, PublicKey, base64url_decode};
use serde::{Deserialize, de::IgnoredAny};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::ContentEncryption;
use crate::{
    ENCRYPTED_MEDIA_TYPE, bare_media_type,
    error::EnvelopeError,
    ids::read_object,
    limits::{MAX_PROTECTED_LEN, MAX_RECIPIENTS},
};

/// Value of `alg` for authcrypt.
pub(super) const ALG_AUTHCRYPT: &str = "ECDH-1PU+A256KW";
/// Value of `alg` for anoncrypt.
pub(super) const ALG_ANONCRYPT: &str = "ECDH-ES+A256KW";

/// `typ` values that deployed peers write for encrypted envelopes, besides the specification's own.
const TOLERATED_TYPES: [&str; 2] = ["jwm", "didcomm+encrypted"];

/// The envelope as JSON. The decoder refuses duplicate names and ignores unknown ones (RFC 7516).
#[derive(Deserialize)]
pub(super) struct JweJson<'a> {
    #[serde(borrow)]
    pub(super) protected: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) recipients: Vec<RecipientJson<'a>>,
    #[serde(borrow)]
    pub(super) iv: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) ciphertext: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) tag: Cow<'a, str>,
    unprotected: Option<IgnoredAny>,
    aad: Option<IgnoredAny>,
    header: Option<IgnoredAny>,
    encrypted_key: Option<IgnoredAny>,
}

#[derive(Deserialize)]
pub(super) struct RecipientJson<'a> {
    #[serde(borrow)]
    pub(super) encrypted_key: Cow<'a, str>,
    pub(super) header: RecipientHeader<'a>,
}

#[derive(Deserialize)]
pub(super) struct RecipientHeader<'a> {
    #[serde(borrow)]
    pub(super) kid: Cow<'a, str>,
    epk: Option<Jwk>,
}

#[derive(Deserialize)]
struct ProtectedJson {
    typ: Option<String>,
    alg: String,
    enc: String,
    epk: Option<Jwk>,
    skid: Option<String>,
    apu: Option<String>,
    apv: Option<String>,
    zip: Option<IgnoredAny>,
    crit: Option<IgnoredAny>,
    b64: Option<IgnoredAny>,
}

/// A protected header whose members agree with each other and with the recipients.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) enc: ContentEncryption,
    pub(super) epk: PublicKey,
    /// The sender's key for authcrypt; `None` for anoncrypt.
    pub(super) skid: Option<DidUrl>,
    pub(super) apu: Vec<u8>,
    pub(super) apv: Vec<u8>,
}

impl Header {
    pub(super) fn alg(&self) -> &'static str {
        if self.skid.is_some() { ALG_AUTHCRYPT } else { ALG_ANONCRYPT }
    }
}

impl<'a> JweJson<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, EnvelopeError> {
        let malformed = EnvelopeError::Malformed { member: "the general JWE JSON serialization" };
        let jwe: Self = read_object(bytes).ok_or(malformed)?;
        for (member, present) in [
            ("unprotected", jwe.unprotected.is_some()),
            ("aad", jwe.aad.is_some()),
            ("header", jwe.header.is_some()),
            ("encrypted_key", jwe.encrypted_key.is_some()),
        ] {
            if present {
                return Err(EnvelopeError::NotAllowed { member });
            }
        }
        if jwe.recipients.is_empty() {
            return Err(EnvelopeError::Malformed { member: "recipients" });
        }
        if jwe.recipients.len() > MAX_RECIPIENTS {
            return Err(EnvelopeError::TooMany { member: "recipients", most: MAX_RECIPIENTS });
        }
        Ok(jwe)
    }

    /// Parses the protected header and checks all of its rules.
    ///
    /// # Specification
    ///
    /// DIDComm Messaging v2.1, "ECDH-1PU key wrapping and common protected headers".
    pub(super) fn header(&self) -> Result<Header, EnvelopeError> {
        let json = decode_protected(&self.protected)?;
        check_type(json.typ.as_deref())?;
        let enc = ContentEncryption::from_name(&json.enc).ok_or(EnvelopeError::Algorithm)?;
        let authcrypt = match json.alg.as_str() {
            ALG_AUTHCRYPT if enc == ContentEncryption::A256CbcHs512 => true,
            ALG_ANONCRYPT => false,
            _ => return Err(EnvelopeError::Algorithm),
        };
        let apu = decode_party(json.apu.as_deref()).ok_or(EnvelopeError::Apu)?;
        let skid = if authcrypt { Some(sender_key(json.skid.as_deref(), &apu)?) } else { None };
        if !authcrypt && json.skid.is_some() {
            return Err(EnvelopeError::NotAllowed { member: "skid" });
        }
        Ok(Header { enc, epk: self.epk(json.epk)?, skid, apu, apv: self.checked_apv(json.apv.as_deref())? })
    }

    /// The ephemeral key: from the protected header or, for one recipient only, from where a deployed library puts it.
    fn epk(&self, protected: Option<Jwk>) -> Result<PublicKey, EnvelopeError> {
        let unprotected = match self.recipients.as_slice() {
            [only] => only.header.epk.clone(),
            _ => None,
        };
        let jwk = match (protected, unprotected) {
            (Some(jwk), None) | (None, Some(jwk)) => jwk,
            (None, None) => return Err(EnvelopeError::Malformed { member: "epk" }),
            (Some(_), Some(_)) => return Err(EnvelopeError::NotAllowed { member: "epk" }),
        };
        let key = PublicKey::from_jwk(&jwk).map_err(|_| EnvelopeError::Epk)?;
        if key.kind().can_agree() { Ok(key) } else { Err(EnvelopeError::Epk) }
    }

    fn checked_apv(&self, apv: Option<&str>) -> Result<Vec<u8>, EnvelopeError> {
        let apv = apv.and_then(base64url_decode).ok_or(EnvelopeError::Apv)?;
        let expected = apv_of(self.recipients.iter().map(|recipient| recipient.header.kid.as_ref()));
        if bool::from(expected.as_slice().ct_eq(&apv)) { Ok(apv) } else { Err(EnvelopeError::Apv) }
    }
}

/// SHA-256 over the sorted recipient key ids, joined by dots.
pub(super) fn apv_of<'k>(kids: impl Iterator<Item = &'k str>) -> [u8; 32] {
    let mut kids: Vec<&str> = kids.collect();
    kids.sort_unstable();
    let mut hash = Sha256::new();
    for (index, kid) in kids.iter().enumerate() {
        if index > 0 {
            hash.update(b".");
        }
        hash.update(kid);
    }
    hash.finalize().into()
}

fn decode_protected(text: &str) -> Result<ProtectedJson, EnvelopeError> {
    let malformed = EnvelopeError::Malformed { member: "protected" };
    if text.len() > MAX_PROTECTED_LEN {
        return Err(malformed);
    }
    let bytes = base64url_decode(text).ok_or(malformed.clone())?;
    let json: ProtectedJson = read_object(&bytes).ok_or(malformed)?;
    for (member, present) in
        [("zip", json.zip.is_some()), ("crit", json.crit.is_some()), ("b64", json.b64.is_some())]
    {
        if present {
            return Err(EnvelopeError::NotAllowed { member });
        }
    }
    Ok(json)
}

fn check_type(typ: Option<&str>) -> Result<(), EnvelopeError> {
    let Some(typ) = typ else { return Ok(()) };
    let typ = bare_media_type(typ);
    let known = typ == bare_media_type(ENCRYPTED_MEDIA_TYPE) || TOLERATED_TYPES.contains(&typ.as_str());
    if known { Ok(()) } else { Err(EnvelopeError::WrongType) }
}

/// Decoded `apu`, empty if absent; `None` if it does not decode.
fn decode_party(text: Option<&str>) -> Option<Vec<u8>> {
    text.map_or(Some(Vec::new()), base64url_decode)
}

/// The sender's key: `skid`, or `apu` alone; if both are there, they must agree.
fn sender_key(skid: Option<&str>, apu: &[u8]) -> Result<DidUrl, EnvelopeError> {
    let from_apu = std::str::from_utf8(apu).ok().filter(|text| !text.is_empty()).ok_or(EnvelopeError::Apu)?;
    if skid.is_some_and(|skid| skid != from_apu) {
        return Err(EnvelopeError::Apu);
    }
    let url = DidUrl::parse(from_apu).map_err(|_| EnvelopeError::Malformed { member: "skid" })?;
    if url.fragment().is_none() {
        return Err(EnvelopeError::Malformed { member: "skid" });
    }
    Ok(url)
}
