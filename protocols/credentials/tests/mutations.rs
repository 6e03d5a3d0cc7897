//! Presentations, proofs of possession and status lists, changed in one place at a time, and signed again where the
//! signer might err or lie: each change is refused, or what is proved stays the same. Surviving changes are listed,
//! with the reason.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking too")]

use einmal_credentials::{
    proof,
    sd_jwt::Claims,
    status_list::{
        Status, StatusError, StatusList, StatusSource, StatusTokenRequest, issue_token, verify_token,
    },
    vc::{
        CredentialRequest, HeldCredential, IssuerKeys, KeyBindingRequest, KeyBindingRequirement,
        KeyLookupError, StatusReference, VerificationContext, VerifiedCredential, VerifyError, issue,
        verify_presentation,
    },
};
use einmal_keys::{
    Custody, KeyId, KeyKind, Keyring, PublicKey, SecretKey, SeededEntropy, base64url_decode, base64url_encode,
};
use einmal_mutate::{Change, changes, close_to, general};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const ISSUER: &str = "did:web:city.example";
const ISSUER_KEY: &str = "did:web:city.example#1";
const VCT: &str = "urn:de:kommune:resident:1";
const AUDIENCE: &str = "decentralized_identifier:did:web:shop.example";
const NONCE: &str = "n-0S6_WzA2Mj";
const LIST: &str = "https://city.example/status/1";
const NOW: u64 = 1_800_000_000;
const DAY: u64 = 86_400;

/// Members that have a meaning somewhere in a token.
const KNOWN: [&str; 20] = [
    "alg", "typ", "kid", "jwk", "x5c", "crit", "b64", "d", "use", "key_ops", "iss", "sub", "aud", "exp",
    "nbf", "iat", "status", "cnf", "_sd", "...",
];

/// Those of [`KNOWN`] that mean nothing in any header here: claims, and members of keys.
const VOID_IN_HEADERS: [&str; 15] = [
    "x5c", "b64", "d", "use", "key_ops", "iss", "sub", "aud", "exp", "nbf", "iat", "status", "cnf", "_sd",
    "...",
];

/// Those of [`KNOWN`] that mean nothing in any payload here: members of headers and of keys.
const VOID_IN_PAYLOADS: [&str; 10] =
    ["alg", "typ", "kid", "jwk", "x5c", "crit", "b64", "d", "use", "key_ops"];

/// A change that survives, and why.
type Explained = (&'static str, &'static str);

/// Differences that no JSON reader may see, or that every reader ignores.
const SAME_JSON: [Explained; 4] = [
    ("* space", "white space between tokens means nothing"),
    ("* reorder", "members have no order"),
    ("* escape", "another spelling of the same text"),
    ("* unknown member", "a member nobody knows is passed over (RFC 7515, section 4; RFC 7519, section 4)"),
];

/// Why changes survive in objects where only the named members matter.
const OTHER_MEMBERS: &str = "an object of another specification may have more members than are read";

struct World {
    keys: Keyring,
}

impl World {
    fn new() -> Self {
        let keys = Keyring::new();
        for (seed, kid) in [ISSUER_KEY, "holder", "stranger"].into_iter().enumerate() {
            let key = SecretKey::generate(KeyKind::Ed25519, &SeededEntropy::new(seed as u64)).unwrap();
            keys.insert(KeyId::new(kid), key);
        }
        Self { keys }
    }

    fn key(&self, kid: &str) -> PublicKey {
        self.keys.public_key(&KeyId::new(kid)).unwrap()
    }

    /// A token signed by `kid`, whatever its texts say.
    fn signed(&self, kid: &str, header: &str, payload: &str) -> String {
        let text = format!("{}.{}", base64url_encode(header), base64url_encode(payload));
        let signature = self.keys.sign(&KeyId::new(kid), text.as_bytes()).unwrap();
        format!("{text}.{}", base64url_encode(signature))
    }

    /// A card that always shows one claim and hides three.
    fn card(&self) -> String {
        let claims = json!({
            "town": "Wetzlar",
            "given_name": "Ada",
            "nationalities": ["DE", "FR"],
            "age_equal_or_over": {"18": true}
        });
        let request = CredentialRequest {
            issuer: ISSUER.into(),
            vct: VCT.into(),
            holder: self.key("holder"),
            claims: Claims::new(claims.as_object().unwrap().clone()),
            disclosable: vec![
                vec!["given_name".into()],
                vec!["nationalities".into(), 0.into()],
                vec!["age_equal_or_over".into(), "18".into()],
            ],
            issued_at: NOW,
            not_before: Some(NOW),
            expires_at: NOW + DAY,
            status: Some(StatusReference { uri: LIST.into(), idx: 7 }),
        };
        issue(&self.keys, &KeyId::new(ISSUER_KEY), &request, &SeededEntropy::new(5)).unwrap()
    }

    fn presentation(&self) -> String {
        let kid = KeyId::new("holder");
        let binding = KeyBindingRequest {
            custody: &self.keys,
            kid: &kid,
            audience: AUDIENCE,
            nonce: NONCE,
            issued_at: NOW,
        };
        let held = HeldCredential::from_store(&self.card()).unwrap();
        let shown = [vec!["given_name".into()], vec!["age_equal_or_over".into(), "18".into()]];
        held.present(&shown, Some(&binding)).unwrap()
    }

    /// What a holder makes of an issuer's token and disclosures, as `presentation` does, whatever they say.
    fn bound(&self, presented: &str) -> String {
        let digest = base64url_encode(Sha256::digest(presented));
        let payload = json!({"iat": NOW, "aud": AUDIENCE, "nonce": NONCE, "sd_hash": digest});
        let header = json!({"alg": "EdDSA", "typ": "kb+jwt"});
        format!("{presented}{}", self.signed("holder", &header.to_string(), &payload.to_string()))
    }

    fn verify(&self, text: &str) -> Result<VerifiedCredential, VerifyError> {
        let trust = |iss: &str, vct: &str| iss == ISSUER && vct == VCT;
        let binding = KeyBindingRequirement { audience: AUDIENCE, nonce: NONCE, asked_at: None };
        let context = VerificationContext::new(NOW, &trust, Some(binding));
        verify_presentation(text, &context, self, self)
    }
}

impl IssuerKeys for World {
    fn issuer_key(&self, iss: &str, kid: Option<&str>) -> Result<PublicKey, KeyLookupError> {
        match (iss, kid) {
            (ISSUER, Some(ISSUER_KEY | "#1" | "1")) => Ok(self.key(ISSUER_KEY)),
            (ISSUER, _) => Err(KeyLookupError::UnknownKey),
            _ => Err(KeyLookupError::NoMechanism),
        }
    }
}

impl StatusSource for World {
    fn status(&self, uri: &str, idx: u64, iss: &str) -> Result<Status, StatusError> {
        let right = (uri, idx, iss) == (LIST, 7, ISSUER);
        if right { Ok(Status::Valid) } else { Err(StatusError::WrongSubject) }
    }
}

/// A part of a compact token, decoded.
fn part(token: &str, index: usize) -> Value {
    let bytes = base64url_decode(token.split('.').nth(index).unwrap()).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

/// All tokens signed by `kid` that differ from `token` in header or payload, each preceded by what was changed.
fn signed_anew(world: &World, kid: &str, token: &str) -> Vec<(String, String)> {
    let (header, payload) = (part(token, 0), part(token, 1));
    let named = |place: &str, change: &Change| format!("{place}{} {}", general(&change.path), change.what);
    let headers = changes(&header, &KNOWN)
        .into_iter()
        .map(|change| (named("header", &change), world.signed(kid, &change.text, &payload.to_string())));
    let payloads = changes(&payload, &KNOWN)
        .into_iter()
        .map(|change| (named("payload", &change), world.signed(kid, &header.to_string(), &change.text)));
    headers.chain(payloads).collect()
}

/// Whether `pattern`, in which each `*` stands for any text, matches the whole of `text`.
fn covers(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((begin, rest)) => text.strip_prefix(begin).is_some_and(|left| {
            (0..=left.len()).any(|at| left.get(at..).is_some_and(|end| covers(rest, end)))
        }),
    }
}

/// Fails for every survivor that no pattern explains, and for every pattern that explains no survivor.
fn assert_survivors(survivors: &[String], explained: &[Explained]) {
    let void = |place: &str, names: &[&str]| -> Vec<String> {
        names.iter().map(|name| format!("{place} known member {name}: *")).collect()
    };
    let mut patterns = void("header", &VOID_IN_HEADERS);
    patterns.extend(void("payload", &VOID_IN_PAYLOADS));
    patterns.extend(SAME_JSON.iter().chain(explained).map(|(pattern, _)| (*pattern).to_owned()));
    let is_explained = |survivor: &str| patterns.iter().any(|pattern| covers(pattern, survivor));
    let unexplained: Vec<_> = survivors.iter().filter(|survivor| !is_explained(survivor)).collect();
    assert!(unexplained.is_empty(), "{} survive: {unexplained:#?}", unexplained.len());
    for pattern in &patterns {
        assert!(survivors.iter().any(|survivor| covers(pattern, survivor)), "nothing is {pattern}");
    }
}

#[test]
fn a_presentation_changed_by_anybody_is_refused() {
    let world = World::new();
    let sound = world.presentation();
    assert!(world.verify(&sound).is_ok());
    let mut texts = close_to(&sound);
    for at in 0..sound.len() {
        for new in ["A", "~", "."] {
            texts.push((format!("{new} at {at}"), format!("{}{new}{}", &sound[..at], &sound[at + 1..])));
        }
        texts.push((format!("without {at}"), format!("{}{}", &sound[..at], &sound[at + 1..])));
    }
    let parts: Vec<&str> = sound.split('~').collect();
    for drop in 0..parts.len() {
        let less: Vec<&str> =
            parts.iter().enumerate().filter(|(at, _)| *at != drop).map(|(_, part)| *part).collect();
        texts.push((format!("without part {drop}"), less.join("~")));
        let mut twice = parts.clone();
        twice.insert(drop, parts[drop]);
        texts.push((format!("part {drop} twice"), twice.join("~")));
    }
    for (what, text) in texts.into_iter().filter(|(_, text)| *text != sound) {
        assert!(world.verify(&text).is_err(), "{what}: {text}");
    }
}

#[test]
fn what_the_holder_signs_otherwise_is_refused() {
    let world = World::new();
    let sound = world.presentation();
    let (presented, binding) = sound.split_at(sound.rfind('~').unwrap() + 1);
    let survivors: Vec<String> = signed_anew(&world, "holder", binding)
        .into_iter()
        .filter(|(_, token)| world.verify(&format!("{presented}{token}")).is_ok())
        .map(|(what, _)| what)
        .collect();
    assert_survivors(
        &survivors,
        &[
            ("header known member kid: text", "the card names the key"),
            ("header known member jwk: *", "the card names the key"),
            ("payload known member iss: *", "the card names the holder"),
            ("payload known member sub: *", "the card names the holder"),
            ("payload known member status: *", "a key binding has none"),
            ("payload known member cnf: *", "the card names the key"),
            ("payload known member _sd: *", "nothing in a key binding is hidden"),
            ("payload known member ...: *", "nothing in a key binding is hidden"),
            ("payload/iat another number", "a second later"),
            ("payload/iat as fraction", "half a second later"),
        ],
    );
}

#[test]
fn what_the_issuer_signs_otherwise_is_refused_or_leaves_what_decides_as_it_was() {
    let world = World::new();
    let sound = world.presentation();
    let presented = &sound[..=sound.rfind('~').unwrap()];
    let (token, disclosures) = presented.split_once('~').unwrap();
    let good = world.verify(&world.bound(presented)).unwrap();
    let mut survivors = Vec::new();
    for (what, token) in signed_anew(&world, ISSUER_KEY, token) {
        let Ok(verified) = world.verify(&world.bound(&format!("{token}~{disclosures}"))) else { continue };
        assert_eq!(verified.issuer, good.issuer, "{what}");
        assert_eq!(verified.vct, good.vct, "{what}");
        assert_eq!(verified.holder, good.holder, "{what}");
        survivors.push(what);
    }
    assert_survivors(
        &survivors,
        &[
            ("header known member jwk: *", "the issuer's DID names the key"),
            ("header/kid fragment alone", "relative to the issuer"),
            ("payload known member sub: *", "the card is its holder's, whatever the holder is called"),
            ("payload known member aud: *", "a card says what is so, to whomever it is shown"),
            ("payload/_sd_alg remove", "sha-256 where nothing is said (RFC 9901, section 4.1.1)"),
            ("payload/_sd_alg other case", "as if it were removed"),
            ("payload/exp remove", "optional (SD-JWT VC, section 2.2.2.3)"),
            ("payload/exp other case", "as if it were removed"),
            ("payload/exp a*", "another end, not over yet"),
            ("payload/iat *", "optional, and in the past"),
            ("payload/nbf *", "optional, and in the past"),
            ("payload/status remove", "optional, unless the verifier demands one"),
            ("payload/status other case", "as if it were removed"),
            ("payload/status known member *", OTHER_MEMBERS),
            ("payload/status/status_list known member *", OTHER_MEMBERS),
            ("payload/cnf known member *", OTHER_MEMBERS),
            ("payload/cnf/jwk known member *", OTHER_MEMBERS),
            ("payload/age_equal_or_over *", "the issuer's own words"),
            ("payload/nationalities*", "the issuer's own words"),
            ("payload/town *", "the issuer's own words"),
        ],
    );
}

#[test]
fn what_the_keeper_of_a_status_list_signs_otherwise_is_refused_or_says_the_same() {
    let world = World::new();
    let list = StatusList::new(1, 16).unwrap();
    let request = StatusTokenRequest {
        uri: LIST,
        issuer: ISSUER,
        issued_at: NOW,
        expires_at: NOW + DAY,
        ttl: 3600,
        list: &list,
    };
    let sound = issue_token(&world.keys, &KeyId::new(ISSUER_KEY), &request).unwrap();
    let verify = |text: &str| verify_token(text, LIST, ISSUER, NOW, &world);
    assert!(verify(&sound).is_ok());
    let survivors: Vec<String> = signed_anew(&world, ISSUER_KEY, &sound)
        .into_iter()
        .filter(|(_, token)| verify(token).is_ok())
        .map(|(what, _)| what)
        .collect();
    assert_survivors(
        &survivors,
        &[
            ("header known member jwk: *", "the issuer's DID names the key"),
            ("header/kid fragment alone", "relative to the issuer"),
            ("payload known member aud: *", "a list is for everybody"),
            ("payload known member status: *", "a list has none"),
            ("payload known member cnf: *", "a list has no holder"),
            ("payload known member _sd: *", "nothing in a list is hidden"),
            ("payload known member ...: *", "nothing in a list is hidden"),
            ("payload/exp remove", "optional"),
            ("payload/exp other case", "as if it were removed"),
            ("payload/exp a*", "another end, not over yet"),
            ("payload/iat *", "in the past"),
            ("payload/iss remove", "the key is the issuer's"),
            ("payload/iss other case", "as if it were removed"),
            ("payload/ttl *", "advice for caches; they bound it themselves"),
            ("payload/status_list known member *", OTHER_MEMBERS),
            ("payload/status_list/bits another number", "twice as wide, half as many"),
        ],
    );
}

#[test]
fn what_a_holder_proves_otherwise_is_refused() {
    let world = World::new();
    let sound = proof::prove(&world.keys, &KeyId::new("holder"), ISSUER, NONCE, NOW).unwrap();
    let check = proof::ProofCheck { audience: ISSUER, nonce: NONCE, asked_at: None, now: NOW };
    let verify = |text: &str| proof::verify(text, &check);
    assert_eq!(verify(&sound), Ok(world.key("holder")));
    let survivors: Vec<String> = signed_anew(&world, "holder", &sound)
        .into_iter()
        .filter(|(_, token)| verify(token).is_ok())
        .map(|(what, _)| what)
        .collect();
    assert_survivors(
        &survivors,
        &[
            ("header/jwk known member *", OTHER_MEMBERS),
            ("payload known member iss: *", "a holder has no name here"),
            ("payload known member sub: *", "a holder has no name here"),
            ("payload known member status: *", "a proof has none"),
            ("payload known member cnf: *", "the header has the key"),
            ("payload known member _sd: *", "nothing in a proof is hidden"),
            ("payload known member ...: *", "nothing in a proof is hidden"),
            ("payload/iat another number", "a second later"),
            ("payload/iat as fraction", "half a second later"),
        ],
    );
}
