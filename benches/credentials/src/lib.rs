//! einmal's side of the credential benchmarks, and bare P-256, shared by the two programs that measure peers.

use std::hint::black_box;

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
    },
};
use bench_harness::{Case, Results};
use einmal_credentials::{
    sd_jwt::{Claims, PathElement},
    status_list::{Status, StatusError, StatusSource},
    vc::{
        self, CredentialRequest, HeldCredential, IssuerKeys, KeyBindingRequest, KeyBindingRequirement,
        KeyLookupError, VerificationContext, VerifiedCredential,
    },
};
use einmal_keys::{Custody, Jwk, KeyId, KeyKind, Keyring, PublicKey, SecretKey, SystemEntropy};
use p256::ecdsa::{
    Signature, SigningKey, VerifyingKey,
    signature::{Signer, Verifier},
};
use serde_json::{Map, Value, json};

/// Issuer of every credential here.
pub const ISSUER: &str = "did:web:city.example";
/// Type of every credential here.
pub const VCT: &str = "urn:de:kommune:resident:1";
/// Instant of issuing, in seconds since 1970.
pub const ISSUED_AT: u64 = 1_700_000_000;
/// Instant of expiry, far enough ahead for the peers, which read the clock.
pub const EXPIRES_AT: u64 = 4_000_000_000;
/// Number of claims; all are disclosable and all are shown.
pub const CLAIMS: usize = 12;

const AUDIENCE: &str = "decentralized_identifier:did:web:shop.example";
const NONCE: &str = "n-0S6_WzA2Mj";

/// Case name of issuing with einmal.
pub const ISSUE: &str = "einmal issue";
/// Case name of verifying with einmal.
pub const VERIFY: &str = "einmal verify";
const VERIFY_BOUND: &str = "einmal verify with key binding";
const SIGN: &str = "RustCrypto P-256 sign";
const CHECK: &str = "RustCrypto P-256 verify";
const FAST_SIGN: &str = "aws-lc P-256 sign";
const FAST_CHECK: &str = "aws-lc P-256 verify";

/// Names of the claims.
pub fn names() -> Vec<String> {
    (0..CLAIMS).map(|n| format!("claim_{n}")).collect()
}

/// The claims.
pub fn claims() -> Map<String, Value> {
    names().into_iter().map(|name| (name, json!("a value of usual length"))).collect()
}

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

/// Issuer, holder, their inputs, and the bare keys.
pub struct Ours {
    keyring: Keyring,
    kid: KeyId,
    request: CredentialRequest,
    keys: OneIssuer,
    bare: String,
    bound: String,
    signing: SigningKey,
    fast: EcdsaKeyPair,
}

impl Ours {
    /// New keys, and one credential, issued and presented.
    pub fn new() -> Self {
        let keyring = Keyring::new();
        let (kid, holder) = (KeyId::new(format!("{ISSUER}#1")), KeyId::new("holder-1"));
        let issuer_key = SecretKey::generate(KeyKind::P256, &SystemEntropy).unwrap();
        let signing = SigningKey::from_slice(&issuer_key.to_bytes()).unwrap();
        let public = signing.verifying_key().to_sec1_point(false);
        let fast = EcdsaKeyPair::from_private_key_and_public_key(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            &issuer_key.to_bytes(),
            public.as_bytes(),
        );
        let keys = OneIssuer(issuer_key.public_key());
        keyring.insert(kid.clone(), issuer_key);
        keyring.insert(holder.clone(), SecretKey::generate(KeyKind::P256, &SystemEntropy).unwrap());
        let request = CredentialRequest {
            issuer: ISSUER.to_owned(),
            vct: VCT.to_owned(),
            holder: keyring.public_key(&holder).unwrap(),
            claims: Claims::new(claims()),
            disclosable: names().iter().map(|name| vec![PathElement::from(name.as_str())]).collect(),
            issued_at: ISSUED_AT,
            not_before: None,
            expires_at: EXPIRES_AT,
            status: None,
        };
        let issued = vc::issue(&keyring, &kid, &request, &SystemEntropy).unwrap();
        let held = HeldCredential::from_store(&issued).unwrap();
        let binding = KeyBindingRequest {
            custody: &keyring,
            kid: &holder,
            audience: AUDIENCE,
            nonce: NONCE,
            issued_at: ISSUED_AT,
        };
        let bare = held.present(&request.disclosable, None).unwrap();
        let bound = held.present(&request.disclosable, Some(&binding)).unwrap();
        Self { keyring, kid, request, keys, bare, bound, signing, fast: fast.unwrap() }
    }

    /// The issuer's secret key, for a peer to use as well.
    pub fn issuer_key(&self) -> &SigningKey {
        &self.signing
    }

    /// The same key as JWK with its private member.
    pub fn issuer_jwk(&self) -> Jwk {
        SecretKey::from_bytes(KeyKind::P256, &self.signing.to_bytes()).unwrap().to_jwk()
    }

    /// The holder's public key as JWK.
    pub fn holder(&self) -> Jwk {
        self.request.holder.to_jwk()
    }

    fn issue(&self) -> String {
        vc::issue(&self.keyring, &self.kid, &self.request, &SystemEntropy).unwrap()
    }

    fn verify(&self, presented: &str, bound: bool) -> VerifiedCredential {
        let trust = |iss: &str, vct: &str| iss == ISSUER && vct == VCT;
        let required =
            bound.then_some(KeyBindingRequirement { audience: AUDIENCE, nonce: NONCE, asked_at: None });
        let context = VerificationContext::new(ISSUED_AT, &trust, required);
        vc::verify_presentation(presented, &context, &self.keys, &NoLists).unwrap()
    }

    /// The cases of einmal and the bare primitives; the peer's cases are added to them.
    pub fn cases(&self) -> Vec<Case<'_>> {
        let message = self.bare.split('~').next().and_then(|jwt| jwt.rsplit_once('.')).unwrap().0.as_bytes();
        let signature: Signature = self.signing.sign(message);
        let verifying: &VerifyingKey = self.signing.verifying_key();
        let rng = SystemRandom::new();
        let fast_signature = self.fast.sign(&rng, message).unwrap();
        let fast_public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.fast.public_key().as_ref());
        vec![
            Case::new(ISSUE, || drop(black_box(self.issue()))),
            Case::new(VERIFY, || drop(black_box(self.verify(black_box(&self.bare), false)))),
            Case::new(VERIFY_BOUND, || drop(black_box(self.verify(black_box(&self.bound), true)))),
            Case::new(SIGN, || _ = black_box::<Signature>(self.signing.sign(black_box(message)))),
            Case::new(CHECK, move || verifying.verify(black_box(message), &signature).unwrap()),
            Case::new(FAST_SIGN, move || _ = black_box(self.fast.sign(&rng, black_box(message)).unwrap())),
            Case::new(FAST_CHECK, move || {
                fast_public.verify(black_box(message), fast_signature.as_ref()).unwrap();
            }),
        ]
    }
}

impl Default for Ours {
    fn default() -> Self {
        Self::new()
    }
}

/// Prints operations per second for einmal, for a peer with the two named cases, and for bare P-256.
pub fn print(results: &Results, peer: &str, issue: &str, verify: &str, fast: bool) {
    let backend = if fast { "aws-lc" } else { "portable" };
    println!(
        "**{backend}, {CLAIMS} disclosable claims, ES256**, per second; medians {:.0} % above the least round\n",
        results.spread()
    );
    let rate = |name: &str| format!("{:.0}", results.of(name).per_second());
    let ratio = |ours, theirs| format!("{:.2}", results.of(theirs).median / results.of(ours).median);
    let row = |what: &str, ours, theirs, [floor, fast]: [&str; 2]| {
        vec![what.to_owned(), rate(ours), rate(theirs), rate(floor), rate(fast), ratio(ours, theirs)]
    };
    let bound = [VERIFY_BOUND.to_owned(), rate(VERIFY_BOUND)].map(|cell| cell.replace("einmal ", ""));
    let rows = [
        row("issue", ISSUE, issue, [SIGN, FAST_SIGN]),
        row("verify", VERIFY, verify, [CHECK, FAST_CHECK]),
        [bound.to_vec(), vec!["–".to_owned(); 4]].concat(),
    ];
    let head = ["", "einmal", peer, "bare P-256, RustCrypto", "bare P-256, aws-lc", "einmal / peer"];
    bench_harness::print_table(&head, &rows);
}
