//! Prints how many credentials with 12 disclosable claims are issued and verified per second on one core.
//!
//! `cargo run --release -p einmal-credentials --example throughput [--features aws-lc]`

use std::{
    error::Error,
    hint::black_box,
    time::{Duration, Instant},
};

use einmal_credentials::{
    sd_jwt::{Claims, PathElement},
    status_list::{Status, StatusError, StatusSource},
    vc::{
        self, CredentialRequest, HeldCredential, IssuerKeys, KeyBindingRequest, KeyBindingRequirement,
        KeyLookupError, VerificationContext,
    },
};
use einmal_keys::{Custody, KeyId, KeyKind, Keyring, PublicKey, SecretKey, SystemEntropy};
use serde_json::{Map, Value};

const ISSUER: &str = "did:web:city.example";
const NOW: u64 = 1_800_000_000;
const MEASURE_FOR: Duration = Duration::from_secs(2);

struct OneIssuer(PublicKey);

impl IssuerKeys for OneIssuer {
    fn issuer_key(&self, _iss: &str, _kid: Option<&str>) -> Result<PublicKey, KeyLookupError> {
        Ok(self.0.clone())
    }
}

struct NoLists;

impl StatusSource for NoLists {
    fn status(&self, uri: &str, _idx: u64, _iss: &str) -> Result<Status, StatusError> {
        Err(StatusError::NotFetched { uri: uri.to_owned() })
    }
}

fn per_second(mut work: impl FnMut() -> Result<(), Box<dyn Error>>) -> Result<f64, Box<dyn Error>> {
    let start = Instant::now();
    let mut count = 0u32;
    while start.elapsed() < MEASURE_FOR {
        for _ in 0..20 {
            work()?;
        }
        count += 20;
    }
    Ok(f64::from(count) / start.elapsed().as_secs_f64())
}

fn run(kind: KeyKind) -> Result<(), Box<dyn Error>> {
    let keyring = Keyring::new();
    let (issuer, holder) = (KeyId::new(format!("{ISSUER}#1")), KeyId::new("holder-1"));
    for kid in [&issuer, &holder] {
        keyring.insert(kid.clone(), SecretKey::generate(kind, &SystemEntropy)?);
    }
    let public = |kid| keyring.public_key(kid).ok_or("key was just inserted");
    let (issuer_key, holder_key) = (public(&issuer)?, public(&holder)?);
    let names: Vec<String> = (0..12).map(|n| format!("claim_{n}")).collect();
    let claims: Map<String, Value> =
        names.iter().map(|name| (name.clone(), Value::from("a value of usual length"))).collect();
    let request = CredentialRequest {
        issuer: ISSUER.into(),
        vct: "urn:de:kommune:resident:1".into(),
        holder: holder_key,
        claims: Claims::new(claims),
        disclosable: names.iter().map(|name| vec![PathElement::from(name.as_str())]).collect(),
        issued_at: NOW,
        not_before: None,
        expires_at: NOW + 1_000_000,
        status: None,
    };
    let issued = per_second(|| {
        black_box(vc::issue(&keyring, &issuer, &request, &SystemEntropy)?);
        Ok(())
    })?;
    let text = vc::issue(&keyring, &issuer, &request, &SystemEntropy)?;
    let held = HeldCredential::from_store(&text)?;
    let binding = KeyBindingRequest {
        custody: &keyring,
        kid: &holder,
        audience: "decentralized_identifier:did:web:shop.example",
        nonce: "n-0S6_WzA2Mj",
        issued_at: NOW,
    };
    let presented = held.present(&request.disclosable, Some(&binding))?;
    let trust = |_: &str, _: &str| true;
    let required = KeyBindingRequirement { audience: binding.audience, nonce: binding.nonce, asked_at: None };
    let keys = OneIssuer(issuer_key);
    let bound = VerificationContext::new(NOW, &trust, Some(required));
    let bare = VerificationContext::new(NOW, &trust, None);
    let mut rates = Vec::new();
    for context in [bare, bound] {
        rates.push(per_second(|| {
            black_box(vc::verify_presentation(&presented, &context, &keys, &NoLists)?);
            Ok(())
        })?);
    }
    println!(
        "{kind:?}: issue {issued:.0}/s, verify {:.0}/s, verify with key binding {:.0}/s ({} bytes)",
        rates.first().copied().unwrap_or_default(),
        rates.last().copied().unwrap_or_default(),
        presented.len(),
    );
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    run(KeyKind::P256)?;
    run(KeyKind::Ed25519)
}
