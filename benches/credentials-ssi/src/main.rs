//! SD-JWTs issued and verified per second: einmal compared with `ssi` and bare P-256, in one run.
//!
//! `cargo run --release -p bench-credentials-ssi [--features aws-lc]`

use std::hint::black_box;

use bench_credentials::{EXPIRES_AT, ISSUED_AT, ISSUER, Ours, VCT, claims, names};
use bench_harness::{Case, Rounds, run};
use futures::executor::block_on;
use serde_json::{Value, json};
use ssi::{
    JWK, JsonPointerBuf,
    claims::{
        VerificationParameters,
        jwt::{AnyClaims, JWTClaims},
        sd_jwt::{ConcealJwtClaims, SdAlg, SdJwtBuf},
    },
};

struct Peer {
    key: JWK,
    claims: JWTClaims<AnyClaims>,
    pointers: Vec<JsonPointerBuf>,
}

impl Peer {
    fn new(ours: &Ours) -> Self {
        let jwk = einmal_jwk(ours);
        let mut claims = Value::Object(claims());
        for (name, value) in [
            ("iss", json!(ISSUER)),
            ("vct", json!(VCT)),
            ("iat", json!(ISSUED_AT)),
            ("exp", json!(EXPIRES_AT)),
            ("cnf", json!({ "jwk": serde_json::to_value(ours.holder()).unwrap() })),
        ] {
            claims[name] = value;
        }
        Self {
            key: serde_json::from_value(jwk).unwrap(),
            claims: serde_json::from_value(claims).unwrap(),
            pointers: names().iter().map(|name| JsonPointerBuf::new(format!("/{name}")).unwrap()).collect(),
        }
    }

    fn issue(&self) -> SdJwtBuf {
        block_on(self.claims.conceal_and_sign(SdAlg::Sha256, &self.pointers, &self.key)).unwrap()
    }

    fn verify(&self, text: &SdJwtBuf) -> JWTClaims<AnyClaims> {
        let parameters = VerificationParameters::from_resolver(&self.key);
        let (revealed, verification) =
            block_on(text.decode_reveal_verify::<AnyClaims, _>(&parameters)).unwrap();
        verification.unwrap();
        revealed.into_claims()
    }
}

/// The issuer's key as JWK with its private member, because the peer signs with a JWK.
fn einmal_jwk(ours: &Ours) -> Value {
    let mut jwk = serde_json::to_value(ours.issuer_jwk()).unwrap();
    jwk["alg"] = json!("ES256");
    jwk["kid"] = json!(format!("{ISSUER}#1"));
    jwk
}

fn main() {
    let ours = Ours::new();
    let peer = Peer::new(&ours);
    let text = peer.issue();
    let shown = serde_json::to_value(peer.verify(&text)).unwrap();
    assert_eq!(shown["claim_11"], claims()["claim_11"]);
    let mut cases = ours.cases();
    cases.push(Case::new("ssi issue", || drop(black_box(peer.issue()))));
    cases.push(Case::new("ssi verify", || drop(black_box(peer.verify(&text)))));
    let results = run(cases, Rounds::default());
    let fast = cfg!(feature = "aws-lc");
    bench_credentials::print(&results, "ssi 0.16", "ssi issue", "ssi verify", fast);
}
