//! SD-JWT VCs issued and verified per second: einmal compared with `sd-jwt-rs` and bare P-256, in one run.
//!
//! `cargo run --release -p bench-credentials [--features aws-lc]`

use std::hint::black_box;

use bench_credentials::{EXPIRES_AT, ISSUED_AT, ISSUER, Ours, VCT, claims, names};
use bench_harness::{Case, Rounds, run};
use jsonwebtoken::{DecodingKey, EncodingKey, jwk::Jwk};
use p256::pkcs8::{EncodePrivateKey, EncodePublicKey, LineEnding};
use sd_jwt_rs::{
    ClaimsForSelectiveDisclosureStrategy as Strategy, SDJWTIssuer, SDJWTSerializationFormat, SDJWTVerifier,
};
use serde_json::{Value, json};

struct Peer {
    issuer: SDJWTIssuer,
    key: DecodingKey,
    holder: Jwk,
    claims: Value,
    paths: Vec<String>,
}

impl Peer {
    fn new(ours: &Ours) -> Self {
        let secret = ours.issuer_key().to_pkcs8_pem(LineEnding::LF).unwrap();
        let public = ours.issuer_key().verifying_key().to_public_key_pem(LineEnding::LF).unwrap();
        let mut claims = Value::Object(claims());
        for (name, value) in [
            ("iss", json!(ISSUER)),
            ("vct", json!(VCT)),
            ("iat", json!(ISSUED_AT)),
            ("exp", json!(EXPIRES_AT)),
        ] {
            claims[name] = value;
        }
        Self {
            issuer: SDJWTIssuer::new(
                EncodingKey::from_ec_pem(secret.as_bytes()).unwrap(),
                Some("ES256".into()),
            ),
            key: DecodingKey::from_ec_pem(public.as_bytes()).unwrap(),
            holder: serde_json::from_value(serde_json::to_value(ours.holder()).unwrap()).unwrap(),
            claims,
            paths: names().iter().map(|name| format!("$.{name}")).collect(),
        }
    }

    fn issue(&mut self) -> String {
        let strategy = Strategy::Custom(self.paths.iter().map(String::as_str).collect());
        let holder = Some(self.holder.clone());
        let format = SDJWTSerializationFormat::Compact;
        self.issuer.issue_sd_jwt(self.claims.clone(), strategy, holder, false, format).unwrap()
    }
}

fn verify(text: &str, key: &DecodingKey) -> Value {
    let key = key.clone();
    let format = SDJWTSerializationFormat::Compact;
    let verifier = SDJWTVerifier::new(text.to_owned(), Box::new(move |_, _| key.clone()), None, None, format);
    verifier.unwrap().verified_claims
}

fn main() {
    let ours = Ours::new();
    let mut peer = Peer::new(&ours);
    let (text, key) = (peer.issue(), peer.key.clone());
    assert_eq!(verify(&text, &key)["claim_11"], claims()["claim_11"]);
    let mut cases = ours.cases();
    cases.push(Case::new("sd-jwt-rs issue", || drop(black_box(peer.issue()))));
    cases.push(Case::new("sd-jwt-rs verify", || drop(black_box(verify(&text, &key)))));
    let results = run(cases, Rounds::default());
    let fast = cfg!(feature = "aws-lc");
    bench_credentials::print(&results, "sd-jwt-rs 0.7.1", "sd-jwt-rs issue", "sd-jwt-rs verify", fast);
}
