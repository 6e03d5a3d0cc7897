//! What somebody with bad intentions presents.

use std::collections::BTreeMap;

use einmal_credentials::{
    sd_jwt::{Claims, PathElement},
    vc::{self, CredentialRequest, HeldCredential},
};
use einmal_did::did_key;
use einmal_flows::formats::DcqlPresentation;
use einmal_keys::{Custody, KeyId, KeyKind, SecretKey, SystemEntropy, base64url_decode, base64url_encode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::wallet::{Asked, ForeignWallet};
use crate::clock::{Clock, SystemClock};

/// Id of the query in the request templates that ask for a resident card.
const QUERY: &str = "resident";
/// Type of the resident card.
const RESIDENT: &str = "urn:de:kommune:resident:1";
/// The age the café asks for.
const AGE: &str = "16";

fn answer(text: String) -> DcqlPresentation {
    DcqlPresentation(BTreeMap::from([(QUERY.to_owned(), vec![text])]))
}

fn age_path() -> Vec<Vec<PathElement>> {
    vec![vec![PathElement::Name("age_equal_or_over".into()), PathElement::Name(AGE.into())]]
}

/// Presents `card` with the wallet's own key, whether or not that is the key the card is bound to.
pub(super) fn present(wallet: &ForeignWallet, card: &str, asked: &Asked) -> Result<DcqlPresentation, String> {
    bind(wallet, &disclose(card)?, asked)
}

/// The card with just the age disclosed, ending in a tilde.
fn disclose(card: &str) -> Result<String, String> {
    let held = HeldCredential::from_store(card).map_err(|error| error.to_string())?;
    held.present(&age_path(), None).map_err(|error| error.to_string())
}

/// Appends a key binding made by hand: our own library would refuse to make one with the wrong key.
fn bind(wallet: &ForeignWallet, disclosed: &str, asked: &Asked) -> Result<DcqlPresentation, String> {
    let header = json!({"alg": "ES256", "typ": "kb+jwt"});
    let payload = json!({
        "iat": SystemClock.now().0,
        "aud": asked.client_id,
        "nonce": asked.nonce,
        "sd_hash": base64url_encode(Sha256::digest(disclosed.as_bytes())),
    });
    let input = format!("{}.{}", base64url_encode(header.to_string()), base64url_encode(payload.to_string()));
    let signature =
        wallet.keyring.sign(&wallet.holder, input.as_bytes()).map_err(|error| error.to_string())?;
    Ok(answer(format!("{disclosed}{input}.{}", base64url_encode(signature))))
}

/// The card with one disclosed value changed from false to true, or true to false.
pub(super) fn tampered(card: &str) -> Result<String, String> {
    let mut parts: Vec<String> = card.split('~').map(str::to_owned).collect();
    for part in parts.iter_mut().skip(1) {
        let Some(bytes) = base64url_decode(part) else { continue };
        let Ok(Value::Array(mut disclosure)) = serde_json::from_slice::<Value>(&bytes) else { continue };
        if disclosure.get(1).and_then(Value::as_str) == Some(AGE) {
            let value = disclosure.get(2).and_then(Value::as_bool).unwrap_or(false);
            if let Some(last) = disclosure.get_mut(2) {
                *last = json!(!value);
            }
            *part = base64url_encode(Value::Array(disclosure).to_string());
            return Ok(parts.join("~"));
        }
    }
    Err("the card has no such disclosure".into())
}

/// Presents a tampered card: the key binding covers exactly what is sent.
pub(super) fn present_tampered(
    wallet: &ForeignWallet,
    card: &str,
    asked: &Asked,
) -> Result<DcqlPresentation, String> {
    bind(wallet, &tampered(&disclose(card)?)?, asked)
}

/// A resident card somebody made for himself: everything is as it should be, except who signed it.
pub(super) fn self_made(wallet: &ForeignWallet) -> Result<String, String> {
    let issuer_key = SecretKey::generate(KeyKind::P256, &SystemEntropy).map_err(|error| error.to_string())?;
    let issuer = did_key(&issuer_key.public_key());
    let kid = KeyId::new(format!("{issuer}#{}", issuer_key.public_key().to_multikey()));
    let holder = wallet.keyring.public_key(&wallet.holder).ok_or("no holder key")?;
    let claims = json!({"age_equal_or_over": {AGE: true}});
    let now = SystemClock.now().0;
    let request = CredentialRequest {
        issuer: issuer.to_string(),
        vct: RESIDENT.into(),
        holder,
        claims: Claims::new(claims.as_object().cloned().unwrap_or_default()),
        disclosable: age_path(),
        issued_at: now,
        not_before: None,
        expires_at: now + 3600,
        status: None,
    };
    wallet.keyring.insert(kid.clone(), issuer_key);
    vc::issue(&wallet.keyring, &kid, &request, &SystemEntropy).map_err(|error| error.to_string())
}
