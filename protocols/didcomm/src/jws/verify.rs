//! Checking a signed envelope.

use std::borrow::Cow;

use einmal_did::{Did, DidUrl, Relationship, Resolver};
use einmal_keys::{PublicKey, SignatureAlgorithm, base64url_decode};
use serde::{Deserialize, de::IgnoredAny};

use crate::{
    SIGNED_MEDIA_TYPE, bare_media_type,
    error::{EnvelopeError, OpenError},
    ids::read_object,
    limits::{MAX_PROTECTED_LEN, MAX_SIGNATURES},
    open::resolve_fuller,
};

/// The envelope as JSON, general or flattened. The decoder refuses duplicate names.
#[derive(Deserialize)]
struct JwsJson<'a> {
    #[serde(borrow)]
    payload: Cow<'a, str>,
    signatures: Option<Vec<SignatureJson<'a>>>,
    #[serde(borrow)]
    protected: Option<Cow<'a, str>>,
    #[serde(borrow)]
    signature: Option<Cow<'a, str>>,
    header: Option<HeaderJson>,
}

#[derive(Deserialize)]
struct SignatureJson<'a> {
    #[serde(borrow)]
    protected: Cow<'a, str>,
    #[serde(borrow)]
    signature: Cow<'a, str>,
    header: Option<HeaderJson>,
}

#[derive(Default, Deserialize)]
struct HeaderJson {
    typ: Option<String>,
    alg: Option<String>,
    kid: Option<String>,
    crit: Option<IgnoredAny>,
    b64: Option<IgnoredAny>,
}

/// A signed envelope with valid structure; no signature is checked yet.
pub(crate) struct ParsedJws {
    payload: Vec<u8>,
    signatures: Vec<Signature>,
}

struct Signature {
    kid: DidUrl,
    /// `None` if unknown here, which matters only for the signature of `from`.
    algorithm: Option<SignatureAlgorithm>,
    input: Vec<u8>,
    signature: Vec<u8>,
}

impl ParsedJws {
    /// Parses and checks everything that needs no key.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        let json: JwsJson<'_> =
            read_object(bytes).ok_or(EnvelopeError::Malformed { member: "the JWS JSON serialization" })?;
        let malformed = |member| EnvelopeError::Malformed { member };
        let payload = base64url_decode(&json.payload).ok_or(malformed("payload"))?;
        let list = match (json.signatures, json.protected, json.signature) {
            (Some(list), None, None) => list,
            (None, Some(protected), Some(signature)) => {
                vec![SignatureJson { protected, signature, header: json.header }]
            }
            _ => return Err(malformed("signatures")),
        };
        if list.is_empty() {
            return Err(malformed("signatures"));
        }
        if list.len() > MAX_SIGNATURES {
            return Err(EnvelopeError::TooMany { member: "signatures", most: MAX_SIGNATURES });
        }
        let signatures = list.into_iter().map(|one| one.check(&json.payload)).collect::<Result<_, _>>()?;
        Ok(Self { payload, signatures })
    }

    /// The signed bytes, not yet proved to come from anyone.
    pub(crate) fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Whether a signature claims to be by a key of `did`.
    pub(crate) fn names_signer(&self, did: &Did) -> bool {
        self.signature_of(did).is_some()
    }

    fn signature_of(&self, did: &Did) -> Option<&Signature> {
        self.signatures.iter().find(|signature| signature.kid.did().same_as(did))
    }

    /// Checks the signature of `from`, the only one that counts; returns its key id.
    ///
    /// # Specification
    ///
    /// DIDComm Messaging v2.1, "Message Signing" and "Verifying".
    pub(crate) fn verify(
        &self,
        from: &Did,
        resolver: &dyn Resolver,
    ) -> Result<(DidUrl, PublicKey), OpenError> {
        let signature = self.signature_of(from).ok_or(OpenError::FromIsNotSigner)?;
        let algorithm = signature.algorithm.ok_or(EnvelopeError::Algorithm)?;
        // Both name the same DID here, so resolving fetches nothing that a third party chose.
        let document = resolve_fuller(from, signature.kid.did(), resolver)?;
        let method =
            document.method_for(Relationship::Authentication, &signature.kid).ok_or(OpenError::SignerKey)?;
        method
            .key
            .verify(algorithm, &signature.input, &signature.signature)
            .map_err(|_| OpenError::Signature)?;
        Ok((signature.kid.clone(), method.key.clone()))
    }
}

impl SignatureJson<'_> {
    fn check(self, payload: &str) -> Result<Signature, EnvelopeError> {
        let malformed = |member| EnvelopeError::Malformed { member };
        if self.protected.len() > MAX_PROTECTED_LEN {
            return Err(malformed("protected"));
        }
        let bytes = base64url_decode(&self.protected).ok_or(malformed("protected"))?;
        let protected: HeaderJson = read_object(&bytes).ok_or(malformed("protected"))?;
        let header = self.header.unwrap_or_default();
        let critical = [&protected.crit, &protected.b64, &header.crit, &header.b64];
        if critical.iter().any(|member| member.is_some()) {
            return Err(EnvelopeError::NotAllowed { member: "crit" });
        }
        check_type(protected.typ.as_deref())?;
        let algorithm = protected.alg.as_deref().and_then(SignatureAlgorithm::from_name);
        let kid = match (protected.kid, header.kid) {
            (Some(protected), Some(unprotected)) if protected != unprotected => {
                return Err(malformed("kid"));
            }
            (Some(kid), _) | (None, Some(kid)) => kid,
            (None, None) => return Err(malformed("kid")),
        };
        let kid = DidUrl::parse(&kid).map_err(|_| malformed("kid"))?;
        if kid.fragment().is_none() {
            return Err(malformed("kid"));
        }
        let signature = base64url_decode(&self.signature).ok_or(malformed("signature"))?;
        let input = format!("{}.{payload}", self.protected).into_bytes();
        Ok(Signature { kid, algorithm, input, signature })
    }
}

/// The prose example of the specification and deployed libraries use `JWM`.
fn check_type(typ: Option<&str>) -> Result<(), EnvelopeError> {
    let Some(typ) = typ.map(bare_media_type) else { return Ok(()) };
    let known = typ == bare_media_type(SIGNED_MEDIA_TYPE) || typ == "jwm";
    if known { Ok(()) } else { Err(EnvelopeError::WrongType) }
}
