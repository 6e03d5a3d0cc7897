//! The target `sd_jwt`: credentials and presentations as received, queries, and proofs of possession.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use einmal_credentials::{
    dcql::{DcqlQuery, MAX_CREDENTIAL_QUERIES, satisfied_by},
    proof,
    sd_jwt::{
        Claims, HashAlgorithm, HeldSdJwt, IssueRequest, KeyBindingCheck, KeyBindingRequest, MAX_DISCLOSURES,
        MAX_SD_JWT_BYTES, PathElement, SdJwtIn, VerifiedSdJwt, issue,
    },
    status_list::StatusCache,
    vc::{
        self, HeldCredential, IssuerKeys, KeyBindingRequirement, KeyLookupError, VerificationContext,
        VerifiedCredential, verify_presentation,
    },
};
use einmal_keys::{Custody, KeyId, Keyring, PublicKey, SeededEntropy, SignatureAlgorithm, base64url_encode};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::{
    NOW,
    json::{has_float, same},
    keys::{World, world},
};

/// Algorithms that issuer and holder may sign with.
const ALGORITHMS: &[SignatureAlgorithm] = &[SignatureAlgorithm::Es256, SignatureAlgorithm::EdDsa];
/// The verifier in every presentation.
pub(crate) const AUDIENCE: &str = "did:web:library.example";
/// The nonce in every presentation.
pub(crate) const NONCE: &str = "n-1";

/// The issuer's signing key: Ed25519, so that signing is cheap and deterministic.
pub(crate) fn issuer_kid() -> KeyId {
    World::key_id(&world().alice, "key-2")
}

/// The holder's signing key.
pub(crate) fn holder_kid() -> KeyId {
    World::key_id(&world().bob_short, "key-2")
}

fn ring() -> &'static Keyring {
    &world().ring
}

fn public(kid: &KeyId) -> PublicKey {
    ring().public_key(kid).expect("a key of the world")
}

/// Knows one issuer.
pub(crate) struct OneIssuer;

impl IssuerKeys for OneIssuer {
    fn issuer_key(&self, iss: &str, _: Option<&str>) -> Result<PublicKey, KeyLookupError> {
        if iss == world().alice.as_str() {
            Ok(public(&issuer_kid()))
        } else {
            Err(KeyLookupError::UnknownKey)
        }
    }
}

/// Reads and verifies an SD-JWT, a query or a proof.
///
/// The first byte is the mode. `J`: the rest is `{"payload", "disclosures"}`, signed first, with every string `@n`
/// replaced by the digest of disclosure n. `B`: the rest is the payload of a key binding for a fixed presentation, with
/// `@` replaced by its hash. `I`: the rest is `{"claims", "disclosable", "decoys"}` to be issued. `Q`: the rest is a
/// DCQL query to fixed cards. `P`: the rest is a proof of possession. Otherwise all bytes are the compact form.
pub fn sd_jwt(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let Some(mode) = text.chars().next() else { return false };
    let rest = text.get(mode.len_utf8()..).unwrap_or_default();
    match mode {
        'J' => assemble(rest).is_some_and(|text| received(&text)),
        'B' => bound(rest),
        'I' => issued(rest),
        'Q' => query(rest),
        'P' => proof::verify(rest, world().alice.as_str(), NONCE, NOW).is_ok(),
        _ => received(text),
    }
}

/// The compact form as received.
fn received(text: &str) -> bool {
    let Ok(parsed) = SdJwtIn::parse(text) else {
        assert!(vc::peek(text).is_err());
        return false;
    };
    assert!(text.len() <= MAX_SD_JWT_BYTES && text.matches('~').count() <= MAX_DISCLOSURES + 1);
    assert_eq!(parsed.has_key_binding(), !text.ends_with('~'));
    let _ = vc::peek(text);
    let trust = |_: &str, _: &str| true;
    let context = VerificationContext::new(NOW, &trust, None);
    let credential = verify_presentation(text, &context, &OneIssuer, &StatusCache::new(0).at(NOW));
    let verified = check_verified(parsed);
    assert!(verified || credential.is_err(), "a credential is an SD-JWT that verifies");
    if let Ok(credential) = credential {
        check_credential(&credential);
    }
    verified
}

fn check_credential(credential: &VerifiedCredential) {
    assert!(credential.expires_at.is_none_or(|end| NOW < end.saturating_add(60)));
    assert!(credential.not_before.is_none_or(|begin| begin <= NOW.saturating_add(60)));
    assert_eq!(credential.issuer, world().alice.as_str());
    let hidden = |path: &Vec<PathElement>| {
        vc::NEVER_DISCLOSABLE.iter().any(|name| path.first() == Some(&PathElement::from(*name)))
    };
    assert!(!credential.disclosed.iter().any(hidden), "what must never be hidden was not");
}

/// Verifies with the issuer's key; a verified credential is then held and presented.
fn check_verified(parsed: SdJwtIn) -> bool {
    let Ok(verified) = parsed.verify(&public(&issuer_kid()), ALGORITHMS) else { return false };
    check_open(&verified);
    let claims = verified.claims().clone();
    let held = verified.into_held();
    check_held(&held, &claims);
    true
}

fn check_open(verified: &VerifiedSdJwt) {
    assert!(!holds_digest(&Value::Object(verified.claims().as_map().clone())), "no digest is left");
    let check = KeyBindingCheck { audience: AUDIENCE, nonce: NONCE, now: NOW, algorithms: ALGORITHMS };
    if let Ok(binding) = verified.check_key_binding(&check) {
        assert_eq!(Some(binding.holder), verified.holder_key());
        assert!(binding.issued_at <= NOW + 60);
        let other = KeyBindingCheck { nonce: "n-2", ..check };
        assert!(verified.check_key_binding(&other).is_err(), "a key binding is for one nonce");
    }
}

fn holds_digest(value: &Value) -> bool {
    match value {
        Value::Object(members) => members
            .iter()
            .any(|(name, value)| matches!(name.as_str(), "_sd" | "_sd_alg" | "...") || holds_digest(value)),
        Value::Array(items) => items.iter().any(holds_digest),
        _ => false,
    }
}

fn check_held(held: &HeldSdJwt, claims: &Claims) {
    assert_eq!(held.claims(), claims);
    let stored = HeldSdJwt::from_store(held.as_str()).expect("what is held can be stored");
    assert_eq!((stored.claims(), stored.as_str()), (claims, held.as_str()));
    let all: Vec<Vec<PathElement>> = held.disclosable().map(<[PathElement]>::to_vec).collect();
    let whole = held.present(&all, None).expect("all can be presented");
    assert_eq!(reopen(&whole).claims(), claims, "a presentation of everything is everything");
    let nothing = reopen(&held.present(&[], None).expect("nothing can be presented"));
    assert_eq!(nothing.disclosed().len(), 0);
    for path in all.iter().take(8) {
        let one = reopen(&held.present(std::slice::from_ref(path), None).expect("one can be presented"));
        let shown: BTreeSet<&[PathElement]> = one.disclosed().collect();
        assert!(shown.contains(path.as_slice()), "what was chosen is shown");
        assert!(shown.iter().all(|shown| path.starts_with(shown)), "and only what it is nested in");
    }
}

fn reopen(text: &str) -> VerifiedSdJwt {
    let parsed = SdJwtIn::parse(text).expect("an own presentation parses");
    parsed.verify(&public(&issuer_kid()), ALGORITHMS).expect("and verifies")
}

/// Signs `{"payload": …, "disclosures": [[…], …]}`.
pub(crate) fn assemble(text: &str) -> Option<String> {
    let mut parts: Map<String, Value> = serde_json::from_str(text).ok()?;
    let mut payload = parts.remove("payload")?;
    let Some(Value::Array(mut disclosures)) = parts.remove("disclosures") else { return None };
    let (mut encoded, mut digests): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    for disclosure in &mut disclosures {
        replace(disclosure, &digests);
        encoded.push(base64url_encode(disclosure.to_string()));
        digests.push(base64url_encode(Sha256::digest(encoded.last()?)));
    }
    replace(&mut payload, &digests);
    let kid = world().alice.as_str().to_owned() + "#key-2";
    let header = json!({"alg": "EdDSA", "typ": "dc+sd-jwt", "kid": kid});
    let mut token = sign(&header, &payload, &issuer_kid());
    for disclosure in encoded {
        token.push('~');
        token.push_str(&disclosure);
    }
    Some(token + "~")
}

/// Replaces every string `@n` by digest n.
fn replace(value: &mut Value, digests: &[String]) {
    match value {
        Value::String(text) => {
            let index = text.strip_prefix('@').and_then(|number| number.parse::<usize>().ok());
            if let Some(digest) = index.and_then(|index| digests.get(index)) {
                text.clone_from(digest);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| replace(item, digests)),
        Value::Object(members) => members.values_mut().for_each(|value| replace(value, digests)),
        _ => {}
    }
}

/// A compact JWS with one of the world's keys.
pub(crate) fn sign(header: &Value, payload: &Value, kid: &KeyId) -> String {
    let input = format!("{}.{}", base64url_encode(header.to_string()), base64url_encode(payload.to_string()));
    let signature = ring().sign(kid, input.as_bytes()).expect("a key that signs");
    format!("{input}.{}", base64url_encode(signature))
}

/// A key binding with any payload, signed with the right key.
fn bound(rest: &str) -> bool {
    let Ok(mut payload) = serde_json::from_str::<Value>(rest) else { return false };
    let presentation = card().present(&[], None).expect("nothing can be presented");
    if payload.get("sd_hash") == Some(&json!("@")) {
        payload["sd_hash"] = base64url_encode(Sha256::digest(&presentation)).into();
    }
    let header = json!({"alg": "EdDSA", "typ": "kb+jwt"});
    let text = presentation + &sign(&header, &payload, &holder_kid());
    let accepted = verify_bound(&text).is_ok();
    if accepted {
        assert_eq!((&payload["aud"], &payload["nonce"]), (&json!(AUDIENCE), &json!(NONCE)));
        assert!(payload["iat"].as_f64().is_some_and(|issued| (issued - NOW as f64).abs() <= 301.0));
    }
    accepted
}

fn verify_bound(text: &str) -> Result<VerifiedCredential, vc::VerifyError> {
    let trust = |_: &str, _: &str| true;
    let required = KeyBindingRequirement { audience: AUDIENCE, nonce: NONCE };
    let context = VerificationContext::new(NOW, &trust, Some(required));
    verify_presentation(text, &context, &OneIssuer, &StatusCache::new(0).at(NOW))
}

/// Issues what the bytes request; the result must open to that.
fn issued(rest: &str) -> bool {
    let Ok(mut parts) = serde_json::from_str::<Map<String, Value>>(rest) else { return false };
    let Some(Value::Object(claims)) = parts.remove("claims") else { return false };
    let paths = parts.remove("disclosable").unwrap_or_else(|| json!([]));
    let Ok(disclosable) = serde_json::from_value::<Vec<Vec<PathElement>>>(paths) else { return false };
    let decoys = parts.get("decoys").and_then(Value::as_u64).map_or(0, |decoys| decoys.min(16));
    let request = IssueRequest {
        disclosable: disclosable.clone(),
        decoys: usize::try_from(decoys).expect("a small number"),
        hash: HashAlgorithm::default(),
        ..IssueRequest::new("dc+sd-jwt", Claims::new(claims.clone()))
    };
    let Ok(token) = issue(ring(), &issuer_kid(), &request, &SeededEntropy::new(1)) else { return false };
    let verified = reopen(token.as_str());
    let asked = Value::Object(claims);
    let got = Value::Object(verified.claims().as_map().clone());
    assert!(same(&asked, &got), "what was issued opens to what was asked for");
    let wanted: BTreeSet<&[PathElement]> = disclosable.iter().map(Vec::as_slice).collect();
    assert_eq!(verified.disclosed().collect::<BTreeSet<_>>(), wanted, "and hides what was to be hidden");
    if !has_float(&asked) {
        let claims = verified.claims().clone();
        check_held(&verified.into_held(), &claims);
    }
    true
}

/// The card that answers queries: a resident card with nested, list and plain claims.
pub(crate) static CARD: LazyLock<String> = LazyLock::new(issue_card);

fn card() -> HeldCredential {
    HeldCredential::from_store(&CARD).expect("an own card")
}

fn issue_card() -> String {
    let claims = json!({
        "family_name": "Muster", "age_equal_or_over": {"16": true, "18": true}, "resident_region": "DE-HE",
        "nationalities": ["DE", "FR", "IT"], "address": {"street_address": "Domplatz 1", "locality": "Wetzlar"},
        "points": 7,
    });
    let Value::Object(claims) = claims else { unreachable!("an object was written") };
    let path = |path: Value| serde_json::from_value(path).expect("a path");
    let disclosable = [
        json!(["family_name"]),
        json!(["age_equal_or_over", "16"]),
        json!(["age_equal_or_over", "18"]),
        json!(["nationalities", 0]),
        json!(["nationalities", 2]),
        json!(["address"]),
        json!(["address", "street_address"]),
    ];
    let request = vc::CredentialRequest {
        issuer: world().alice.as_str().to_owned(),
        vct: "urn:de:kommune:resident:1".to_owned(),
        holder: public(&holder_kid()),
        claims: Claims::new(claims),
        disclosable: disclosable.into_iter().map(path).collect(),
        issued_at: NOW - 1000,
        not_before: None,
        expires_at: NOW + 1000,
        status: None,
    };
    vc::issue(ring(), &issuer_kid(), &request, &SeededEntropy::new(2)).expect("a good request")
}

/// Answers a query; the holder's selection must satisfy the verifier.
fn query(rest: &str) -> bool {
    let Ok(query) = DcqlQuery::parse(rest) else { return false };
    assert!((1..=MAX_CREDENTIAL_QUERIES).contains(&query.credentials().len()));
    let card = card();
    let Ok(selection) = query.select(&[card.candidate("card")]) else { return true };
    let mut presented = BTreeMap::new();
    for (id, chosen) in selection.credentials.iter().chain(&selection.optional) {
        assert_eq!(chosen.candidate, "card");
        let binding = KeyBindingRequest {
            custody: ring(),
            kid: &holder_kid(),
            audience: AUDIENCE,
            nonce: NONCE,
            issued_at: NOW,
        };
        let text = card.present(&chosen.paths, Some(&binding)).expect("what was selected can be presented");
        let credential = verify_bound(&text).expect("and verifies");
        let shown: BTreeSet<&Vec<PathElement>> = credential.disclosed.iter().collect();
        assert_eq!(shown, chosen.paths.iter().collect(), "what was selected is shown and nothing else");
        presented.insert(id.clone(), vec![credential]);
    }
    assert_eq!(satisfied_by(&query, &presented), Ok(()), "what was selected is what was asked for");
    presented.retain(|id, _| selection.credentials.contains_key(id));
    assert_eq!(satisfied_by(&query, &presented), Ok(()), "what is optional need not be added");
    true
}
