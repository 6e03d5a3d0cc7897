//! Verification methods as received: the types that deployed documents use, reduced to one kind of key.

use einmal_keys::{Jwk, KeyError, KeyKind, PublicKey};
use serde_json::{Map, Value};

use crate::{DidError, limits::MAX_KEY_TEXT_LEN};

/// Members that hold a private key, in all vocabularies seen so far.
const PRIVATE_MEMBERS: [&str; 6] = [
    "privateKeyJwk",
    "privateKeyMultibase",
    "privateKeyBase58",
    "privateKeyHex",
    "secretKeyMultibase",
    "secretKeyJwk",
];

/// Members of a JWK that hold a private or symmetric key (RFC 7518, section 6).
const PRIVATE_JWK_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// A verification method type this crate reads.
struct MethodType {
    name: &'static str,
    /// The one kind of key it is for; `None` if it is for all kinds.
    kind: Option<KeyKind>,
    /// The members in which the key may be written.
    forms: &'static [Form],
    /// The same, for the error text.
    expected: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Jwk,
    Multibase,
    Base58,
}

impl Form {
    const ALL: [Self; 3] = [Self::Jwk, Self::Multibase, Self::Base58];

    fn member(self) -> &'static str {
        match self {
            Self::Jwk => "publicKeyJwk",
            Self::Multibase => "publicKeyMultibase",
            Self::Base58 => "publicKeyBase58",
        }
    }
}

const ANY_FORM: &[Form] = &Form::ALL;
const ANY_TEXT: &str = "publicKeyMultibase, publicKeyBase58 or publicKeyJwk";

const fn of_kind(name: &'static str, kind: KeyKind) -> MethodType {
    MethodType { name, kind: Some(kind), forms: ANY_FORM, expected: ANY_TEXT }
}

const fn of_any_kind(name: &'static str, forms: &'static [Form], expected: &'static str) -> MethodType {
    MethodType { name, kind: None, forms, expected }
}

const KNOWN_TYPES: [MethodType; 13] = [
    of_any_kind("Multikey", &[Form::Multibase], "publicKeyMultibase"),
    of_any_kind("JsonWebKey2020", &[Form::Jwk], "publicKeyJwk"),
    of_any_kind("JsonWebKey", &[Form::Jwk], "publicKeyJwk"),
    of_kind("Ed25519VerificationKey2018", KeyKind::Ed25519),
    of_kind("Ed25519VerificationKey2020", KeyKind::Ed25519),
    of_kind("X25519KeyAgreementKey2019", KeyKind::X25519),
    of_kind("X25519KeyAgreementKey2020", KeyKind::X25519),
    of_kind("P256Key2021", KeyKind::P256),
    of_kind("P384Key2021", KeyKind::P384),
    of_kind("P521Key2021", KeyKind::P521),
    of_kind("EcdsaSecp256r1VerificationKey2019", KeyKind::P256),
    of_kind("EcdsaSecp256k1VerificationKey2019", KeyKind::Secp256k1),
    of_kind("EcdsaSecp256k1VerificationKey2020", KeyKind::Secp256k1),
];

/// The key of a verification method; `None` for an unsupported type or curve.
pub(super) fn read_key(method: &Map<String, Value>) -> Result<Option<PublicKey>, DidError> {
    if PRIVATE_MEMBERS.iter().any(|member| method.contains_key(*member)) {
        return Err(DidError::PrivateKeyInDocument);
    }
    let jwk = method.get(Form::Jwk.member()).and_then(Value::as_object);
    if jwk.is_some_and(|jwk| PRIVATE_JWK_MEMBERS.iter().any(|member| jwk.contains_key(*member))) {
        return Err(DidError::PrivateKeyInDocument);
    }
    let name = method.get("type").and_then(Value::as_str);
    let name = name.ok_or(DidError::Member { member: "verificationMethod.type", expected: "a text" })?;
    let Some(known) = KNOWN_TYPES.iter().find(|known| known.name == name) else { return Ok(None) };
    match read_known(known, method) {
        Ok(key) => match known.kind {
            Some(kind) if kind != key.kind() => {
                Err(DidError::TypeMismatch { declared: known.name, found: key.kind() })
            }
            _ => Ok(Some(key)),
        },
        Err(DidError::Key(KeyError::UnsupportedKind)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn read_known(known: &MethodType, method: &Map<String, Value>) -> Result<PublicKey, DidError> {
    let mut forms = Form::ALL.into_iter().filter(|form| method.contains_key(form.member()));
    let form = match (forms.next(), forms.next()) {
        (Some(form), None) if known.forms.contains(&form) => form,
        // Written in a form that no type here uses, such as hex: no reason to refuse the keys next to it.
        (None, _) => return Err(KeyError::UnsupportedKind.into()),
        _ => return Err(DidError::KeyForm { declared: known.name, expected: known.expected }),
    };
    let value = method.get(form.member()).unwrap_or(&Value::Null);
    match (form, known.kind) {
        (Form::Base58, Some(kind)) => Ok(PublicKey::from_compressed(kind, &base58(text(value, form)?)?)?),
        (Form::Jwk, _) => jwk(value),
        // Another legal multibase, but never one for our own keys.
        _ => match text(value, form)? {
            text if text.starts_with('u') => Err(KeyError::UnsupportedKind.into()),
            text => Ok(PublicKey::from_multikey(text)?),
        },
    }
}

fn text(value: &Value, form: Form) -> Result<&str, DidError> {
    value.as_str().ok_or(DidError::Member { member: form.member(), expected: "a text" })
}

fn base58(text: &str) -> Result<Vec<u8>, DidError> {
    let expected = "a short base58btc text";
    let short = Some(text).filter(|text| text.len() <= MAX_KEY_TEXT_LEN);
    short
        .and_then(|text| bs58::decode(text).into_vec().ok())
        .ok_or(DidError::Encoding { what: "publicKeyBase58", expected })
}

/// Reads the members by hand, because a JWK of an unsupported key type may lack members that `Jwk` requires.
fn jwk(value: &Value) -> Result<PublicKey, DidError> {
    const WRONG: DidError = DidError::Member { member: "publicKeyJwk", expected: "a JWK" };
    let object = value.as_object().ok_or(WRONG)?;
    let member = |name: &str| object.get(name).and_then(Value::as_str);
    let kty = member("kty").ok_or(WRONG)?;
    if kty != "OKP" && kty != "EC" {
        return Err(KeyError::UnsupportedKind.into());
    }
    let jwk = Jwk {
        kty: kty.to_owned(),
        crv: member("crv").ok_or(WRONG)?.to_owned(),
        x: member("x").ok_or(WRONG)?.to_owned(),
        y: member("y").map(str::to_owned),
        ..Jwk::default()
    };
    Ok(PublicKey::from_jwk(&jwk)?)
}
