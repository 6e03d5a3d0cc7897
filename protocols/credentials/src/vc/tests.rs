//! Tests of SD-JWT VC: from issuing to the verdict, and every check that can refuse.

use einmal_keys::{
    Custody, KeyId, KeyKind, Keyring, SecretKey, SeededEntropy, SignatureAlgorithm, base64url_encode,
};

use serde_json::json;

use super::*;
use crate::{
    sd_jwt::{Claims, KeyBindingError, SdJwtError},
    status_list::{Status, StatusError, StatusSource},
};

const ISSUER: &str = "did:web:city.example";
const VCT: &str = "urn:de:kommune:resident:1";
const AUDIENCE: &str = "decentralized_identifier:did:web:shop.example";
const NONCE: &str = "n-0S6_WzA2Mj";
const LIST: &str = "https://city.example/status/1";
const NOW: u64 = 1_800_000_000;
const DAY: u64 = 86_400;

struct World {
    keys: Keyring,
    issuer: KeyId,
    holder: KeyId,
    stranger: KeyId,
    /// What the status list says about every index.
    status: Result<Status, StatusError>,
}

impl StatusSource for World {
    fn status(&self, uri: &str, idx: u64, iss: &str) -> Result<Status, StatusError> {
        assert_eq!((uri, idx, iss), (LIST, 7, ISSUER));
        self.status.clone()
    }
}

/// Knows one issuer, by its DID and key id.
impl IssuerKeys for World {
    fn issuer_key(&self, iss: &str, kid: Option<&str>) -> Result<PublicKey, KeyLookupError> {
        match (iss, kid) {
            (ISSUER, Some(kid)) => {
                let kid = KeyId::new(format!("{ISSUER}#{}", kid.rsplit('#').next().unwrap()));
                self.keys.public_key(&kid).ok_or(KeyLookupError::UnknownKey)
            }
            _ => Err(KeyLookupError::NoMechanism),
        }
    }
}

impl World {
    fn new(kind: KeyKind) -> Self {
        let keys = Keyring::new();
        let kids = ["did:web:city.example#1", "holder", "stranger"].map(KeyId::new);
        for (seed, kid) in kids.iter().enumerate() {
            keys.insert(kid.clone(), SecretKey::generate(kind, &SeededEntropy::new(seed as u64)).unwrap());
        }
        let [issuer, holder, stranger] = kids;
        Self { keys, issuer, holder, stranger, status: Ok(Status::Valid) }
    }

    fn key(&self, kid: &KeyId) -> PublicKey {
        self.keys.public_key(kid).unwrap()
    }

    fn request(&self) -> CredentialRequest {
        let claims = json!({ "given_name": "Ada", "is_resident": true, "age_equal_or_over": { "18": true } });
        CredentialRequest {
            issuer: ISSUER.into(),
            vct: VCT.into(),
            holder: self.key(&self.holder),
            claims: Claims::new(claims.as_object().unwrap().clone()),
            disclosable: vec![
                vec!["given_name".into()],
                vec!["is_resident".into()],
                vec!["age_equal_or_over".into(), "18".into()],
            ],
            issued_at: NOW,
            not_before: Some(NOW),
            expires_at: NOW + DAY,
            status: Some(StatusReference { uri: LIST.into(), idx: 7 }),
        }
    }

    fn issue(&self, change: impl Fn(&mut CredentialRequest)) -> Result<String, IssueError> {
        let mut request = self.request();
        change(&mut request);
        issue(&self.keys, &self.issuer, &request, &SeededEntropy::new(5))
    }

    fn accept(&self, text: &str) -> Result<HeldCredential, VerifyError> {
        let holder_key = self.key(&self.holder);
        accept_issued(text, &IssuedExpectation::new(ISSUER, VCT, &holder_key, NOW), self)
    }

    fn present_as(&self, text: &str, change: impl Fn(&mut KeyBindingRequest<'_>)) -> String {
        let mut binding = KeyBindingRequest {
            custody: &self.keys,
            kid: &self.holder,
            audience: AUDIENCE,
            nonce: NONCE,
            issued_at: NOW,
        };
        change(&mut binding);
        let held = HeldCredential::from_store(text).unwrap();
        held.present(&[vec!["is_resident".into()]], Some(&binding)).unwrap()
    }

    fn present(&self) -> String {
        self.present_as(&self.issue(|_| {}).unwrap(), |_| {})
    }

    fn verify(&self, text: &str) -> Result<VerifiedCredential, VerifyError> {
        self.verify_with(text, |_| {})
    }

    fn verify_with(
        &self,
        text: &str,
        change: impl Fn(&mut VerificationContext<'_>),
    ) -> Result<VerifiedCredential, VerifyError> {
        let trust = |iss: &str, vct: &str| iss == ISSUER && vct == VCT;
        let binding = KeyBindingRequirement { audience: AUDIENCE, nonce: NONCE, asked_at: None };
        let mut context = VerificationContext::new(NOW, &trust, Some(binding));
        change(&mut context);
        verify_presentation(text, &context, self, self)
    }

    /// Signs any payload as the issuer, so that tests can write what `issue` would refuse.
    fn sign(&self, header: Value, payload: &Value) -> String {
        let mut header = header;
        if header.get("alg").is_none() {
            let algorithm = SignatureAlgorithm::of(self.key(&self.issuer).kind()).unwrap();
            header["alg"] = algorithm.name().into();
        }
        let signed =
            format!("{}.{}", base64url_encode(header.to_string()), base64url_encode(payload.to_string()));
        let signature = self.keys.sign(&self.issuer, signed.as_bytes()).unwrap();
        format!("{signed}.{}~", base64url_encode(signature))
    }

    fn header(&self) -> Value {
        json!({ "typ": SD_JWT_VC_TYP, "kid": self.issuer.as_str() })
    }

    fn payload(&self) -> Value {
        json!({ "iss": ISSUER, "vct": VCT, "cnf": { "jwk": self.key(&self.holder).to_jwk() }, "exp": NOW + DAY })
    }

    /// Verifies a hand-made credential without asking for key binding.
    fn verify_made(
        &self,
        change: impl Fn(&mut Value, &mut Value),
    ) -> Result<VerifiedCredential, VerifyError> {
        let (mut header, mut payload) = (self.header(), self.payload());
        change(&mut header, &mut payload);
        self.verify_with(&self.sign(header, &payload), |context| context.require_key_binding = None)
    }
}

fn world() -> World {
    World::new(KeyKind::P256)
}

fn disclosure(name: &str, value: &Value) -> (String, String) {
    use sha2::Digest;
    let encoded = base64url_encode(json!(["salt", name, value]).to_string());
    let digest = base64url_encode(sha2::Sha256::digest(encoded.as_bytes()));
    (encoded, digest)
}

#[test]
fn a_resident_proves_residency_and_nothing_else() {
    for kind in [KeyKind::P256, KeyKind::Ed25519] {
        let world = World::new(kind);
        let text = world.issue(|_| {}).unwrap();
        let held = world.accept(&text).unwrap();
        assert_eq!(held.claims().get("given_name"), Some(&json!("Ada")));
        assert_eq!((held.expires_at, held.not_before), (Some(NOW + DAY), Some(NOW)));
        let credential = world.verify(&world.present_as(&text, |_| {})).unwrap();
        assert_eq!(credential.claims.get("is_resident"), Some(&json!(true)));
        assert_eq!(credential.claims.get("given_name"), None);
        assert_eq!(credential.claims.get("age_equal_or_over"), Some(&json!({})));
        assert_eq!(credential.disclosed, vec![vec![PathElement::from("is_resident")]]);
        assert_eq!(credential.holder, Some(world.key(&world.holder)));
        assert_eq!(credential.key_binding.unwrap().issued_at, NOW);
        assert_eq!(credential.status, Some(StatusReference { uri: LIST.into(), idx: 7 }));
        assert!(!format!("{held:?}").contains("Ada"));
    }
}

#[test]
fn peek_tells_where_to_look_for_the_key() {
    let world = world();
    let seen = peek(&world.present()).unwrap();
    assert_eq!((seen.issuer.as_str(), seen.vct.as_str()), (ISSUER, VCT));
    assert_eq!(seen.kid.as_deref(), Some(world.issuer.as_str()));
    assert_eq!(seen.status.unwrap().uri, LIST);
}

#[test]
fn requests_against_the_rules_issue_nothing() {
    let world = world();
    let attempt = |change: &dyn Fn(&mut CredentialRequest)| world.issue(change).unwrap_err();
    for name in NEVER_DISCLOSABLE {
        for path in [vec![name.into()], vec![name.into(), "x".into()]] {
            let refused = attempt(&|request| request.disclosable.push(path.clone()));
            assert_eq!(refused, IssueError::NotDisclosable { name });
        }
    }
    for name in ["iss", "vct", "cnf", "iat", "nbf", "exp", "status"] {
        let refused = attempt(&|request| {
            let mut claims = request.claims.as_map().clone();
            claims.insert(name.into(), json!("x"));
            request.claims = Claims::new(claims);
        });
        assert_eq!(refused, IssueError::ReservedClaim { name });
    }
    let other = attempt(&|request| request.issuer = "did:web:other.example".into());
    assert_eq!(other, IssueError::KeyOutsideIssuer);
    assert_eq!(attempt(&|request| request.vct.clear()), IssueError::InvalidField { field: "vct" });
    assert_eq!(attempt(&|request| request.issuer.clear()), IssueError::InvalidField { field: "issuer" });
    assert_eq!(
        attempt(&|request| request.expires_at = NOW),
        IssueError::InvalidField { field: "expires_at" }
    );
}

#[test]
fn issued_credential_that_is_not_what_was_offered_is_refused() {
    let world = world();
    let text = world.issue(|_| {}).unwrap();
    assert_eq!(world.accept(&world.present()).unwrap_err(), VerifyError::UnexpectedKeyBinding);
    let holder = world.key(&world.holder);
    let stranger = world.key(&world.stranger);
    let expected = IssuedExpectation::new(ISSUER, VCT, &holder, NOW);
    let refuse = |expected: IssuedExpectation<'_>| accept_issued(&text, &expected, &world).unwrap_err();
    assert_eq!(refuse(IssuedExpectation { issuer: "did:web:x", ..expected }), VerifyError::WrongIssuer);
    assert_eq!(refuse(IssuedExpectation { vct: "x", ..expected }), VerifyError::UnexpectedCredentialType);
    assert_eq!(refuse(IssuedExpectation { holder_key: &stranger, ..expected }), VerifyError::WrongHolderKey);
    assert_eq!(refuse(IssuedExpectation { now: NOW + 2 * DAY, ..expected }), VerifyError::Expired);
    let legacy =
        world.sign(json!({ "typ": LEGACY_SD_JWT_VC_TYP, "kid": world.issuer.as_str() }), &world.payload());
    assert_eq!(world.accept(&legacy).unwrap_err(), VerifyError::WrongType);
    let unbound = world.sign(world.header(), &json!({ "iss": ISSUER, "vct": VCT }));
    assert_eq!(world.accept(&unbound).unwrap_err(), VerifyError::WrongHolderKey);
    let bent = text.replacen('~', "A~", 1);
    assert!(matches!(world.accept(&bent), Err(VerifyError::Format(_) | VerifyError::BadSignature)));
}

#[test]
fn claims_that_must_stay_visible_are_refused_in_a_disclosure() {
    let world = world();
    for name in NEVER_DISCLOSABLE {
        let mut payload = world.payload();
        let value = payload.as_object_mut().unwrap().remove(name).unwrap_or(json!(NOW - 1));
        let (encoded, digest) = disclosure(name, &value);
        payload["_sd"] = json!([digest]);
        let text = format!("{}{encoded}~", world.sign(world.header(), &payload));
        let refused = world.verify_with(&text, |context| context.require_key_binding = None).unwrap_err();
        assert_eq!(refused, VerifyError::NotDisclosable { name });
    }
}

#[test]
fn members_of_claims_that_must_stay_visible_are_refused_behind_digests() {
    let world = world();
    let (_, digest) = disclosure("kid", &json!("x"));
    let refused = world.verify_made(|_, payload| payload["cnf"]["jwk"]["_sd"] = json!([digest])).unwrap_err();
    assert_eq!(refused, VerifyError::NotDisclosable { name: "cnf" });
    let refused =
        world.verify_made(|_, payload| payload["aka_vcts"] = json!([{ "...": digest }])).unwrap_err();
    assert_eq!(refused, VerifyError::NotDisclosable { name: "aka_vcts" });
}

#[test]
fn header_type_decides() {
    let world = world();
    assert!(world.verify_made(|_, _| {}).is_ok());
    for typ in [LEGACY_SD_JWT_VC_TYP, "JWT", "application/dc+sd-jwt"] {
        let refused = world.verify_made(|header, _| header["typ"] = typ.into()).unwrap_err();
        assert_eq!(refused, VerifyError::WrongType);
    }
    let legacy =
        world.sign(json!({ "typ": LEGACY_SD_JWT_VC_TYP, "kid": world.issuer.as_str() }), &world.payload());
    let accepted = world.verify_with(&legacy, |context| {
        context.require_key_binding = None;
        context.accept_legacy_typ = true;
    });
    assert!(accepted.is_ok());
}

#[test]
fn algorithm_outside_the_policy_is_refused() {
    let world = world();
    let text = world.present();
    let only = [SignatureAlgorithm::EdDsa];
    // The array must outlive the context, so the helper's closure form cannot be used here.
    let trust = |_: &str, _: &str| true;
    let mut context = VerificationContext::new(NOW, &trust, None);
    context.algorithms = &only;
    let refused = verify_presentation(&text, &context, &world, &world).unwrap_err();
    assert_eq!(refused, VerifyError::AlgorithmNotAllowed);
    let refused = world.verify_made(|header, _| header["alg"] = "none".into()).unwrap_err();
    assert_eq!(refused, VerifyError::AlgorithmNotAllowed);
}

#[test]
fn issuer_that_is_not_trusted_for_the_type_is_refused_before_its_key_is_looked_up() {
    let world = world();
    let refused = world.verify_made(|_, payload| payload["vct"] = "urn:other".into()).unwrap_err();
    assert_eq!(refused, VerifyError::UntrustedIssuer);
    let refused = world
        .verify_made(|header, payload| {
            payload["iss"] = "did:web:evil.example".into();
            header["kid"] = "did:web:evil.example#1".into();
        })
        .unwrap_err();
    assert_eq!(refused, VerifyError::UntrustedIssuer);
    let other = [String::from("urn:other")];
    let trust = |_: &str, _: &str| true;
    let mut context = VerificationContext::new(NOW, &trust, None);
    context.expected_vcts = Some(&other);
    let refused = verify_presentation(&world.present(), &context, &world, &world).unwrap_err();
    assert_eq!(refused, VerifyError::UnexpectedCredentialType);
}

#[test]
fn issuer_without_a_way_to_its_key_is_refused() {
    let world = world();
    let text =
        world.sign(json!({ "typ": SD_JWT_VC_TYP }), &json!({ "iss": "https://city.example", "vct": VCT }));
    let trust = |_: &str, _: &str| true;
    let context = VerificationContext::new(NOW, &trust, None);
    let refused = verify_presentation(&text, &context, &world, &world).unwrap_err();
    assert_eq!(refused, VerifyError::KeyLookup(KeyLookupError::NoMechanism));
    let refused = world.verify_made(|header, _| header["kid"] = "did:web:city.example#9".into()).unwrap_err();
    assert_eq!(refused, VerifyError::KeyLookup(KeyLookupError::UnknownKey));
}

#[test]
fn key_of_another_did_than_the_issuer_is_refused() {
    let world = world();
    for kid in ["did:web:evil.example#1", "did:web:city.example", "did:web:city.example#", "1"] {
        let refused = world.verify_made(|header, _| header["kid"] = kid.into()).unwrap_err();
        assert_eq!(refused, VerifyError::ForeignKey, "{kid}");
    }
    assert!(world.verify_made(|header, _| header["kid"] = "#1".into()).is_ok());
}

#[test]
fn required_claims_are_required() {
    let world = world();
    for name in ["iss", "vct"] {
        let refused = world.verify_made(|_, payload| {
            payload.as_object_mut().unwrap().remove(name);
        });
        assert_eq!(refused.unwrap_err(), VerifyError::MissingClaim { name });
        let refused = world.verify_made(|_, payload| payload[name] = json!(1)).unwrap_err();
        assert_eq!(refused, VerifyError::MalformedClaim { name });
    }
    for name in ["exp", "nbf", "iat", "status"] {
        let refused = world.verify_made(|_, payload| payload[name] = json!("1")).unwrap_err();
        assert_eq!(refused, VerifyError::MalformedClaim { name });
    }
}

#[test]
fn validity_is_kept_within_the_clock_skew() {
    let world = world();
    let at = |now: u64| {
        let text = world.present_as(&world.issue(|_| {}).unwrap(), |binding| binding.issued_at = now);
        world.verify_with(&text, |context| context.now = now).map(|_| ())
    };
    assert_eq!(at(NOW - 60), Ok(()));
    assert_eq!(at(NOW - 61), Err(VerifyError::NotYetValid));
    assert_eq!(at(NOW + DAY + 59), Ok(()));
    assert_eq!(at(NOW + DAY + 60), Err(VerifyError::Expired));
}

#[test]
fn possession_must_be_proved_to_this_verifier_for_this_request_now() {
    let world = world();
    let text = world.issue(|_| {}).unwrap();
    let refuse = |change: &dyn Fn(&mut KeyBindingRequest<'_>)| {
        world.verify(&world.present_as(&text, change)).unwrap_err()
    };
    assert_eq!(refuse(&|binding| binding.audience = "did:web:shop.example"), VerifyError::WrongAudience);
    assert_eq!(refuse(&|binding| binding.nonce = "old"), VerifyError::WrongNonce);
    assert_eq!(refuse(&|binding| binding.issued_at = NOW - 301), VerifyError::StaleKeyBinding);
    let early = refuse(&|binding| binding.issued_at = NOW + 61);
    assert_eq!(early, VerifyError::KeyBinding(KeyBindingError::FromTheFuture));
    assert_eq!(world.verify(&text).unwrap_err(), VerifyError::KeyBindingMissing);
    // The stranger presents the holder's credential with a key binding of its own.
    let strangers = world.issue(|request| request.holder = world.key(&world.stranger)).unwrap();
    let binding = KeyBindingRequest {
        custody: &world.keys,
        kid: &world.stranger,
        audience: AUDIENCE,
        nonce: NONCE,
        issued_at: NOW,
    };
    let made = HeldCredential::from_store(&strangers).unwrap().present(&[], Some(&binding)).unwrap();
    let stolen = HeldCredential::from_store(&text).unwrap().present(&[], None).unwrap()
        + made.rsplit('~').next().unwrap();
    assert_eq!(world.verify(&stolen).unwrap_err(), VerifyError::WrongHolderKey);
}

#[test]
fn bent_credential_and_foreign_disclosure_are_refused() {
    let world = world();
    let text = world.issue(|_| {}).unwrap();
    let bare =
        |text: &str| world.verify_with(text, |context| context.require_key_binding = None).unwrap_err();
    let (extra, _) = disclosure("resident_ags", &json!("06532023"));
    assert_eq!(bare(&format!("{text}{extra}~")), VerifyError::UnreferencedDisclosure { index: 3 });
    let first = text.split('~').nth(1).unwrap();
    assert_eq!(bare(&format!("{text}{first}~")), VerifyError::DuplicateDigest);
    let other = World::new(KeyKind::Ed25519);
    assert_eq!(bare(&other.issue(|_| {}).unwrap()), VerifyError::BadSignature);
    assert_eq!(bare("a.b.c"), VerifyError::Format(SdJwtError::MissingTilde));
}

#[test]
fn status_decides_last_and_unknown_means_refused() {
    let mut world = world();
    let text = world.present();
    let not_fetched = StatusError::NotFetched { uri: LIST.into() };
    let cases = [
        (Ok(Status::Invalid), VerifyError::Revoked),
        (Ok(Status::Suspended), VerifyError::Suspended),
        (Ok(Status::ApplicationSpecific(3)), VerifyError::UnknownStatus { value: 3 }),
        (Err(not_fetched.clone()), VerifyError::Status(not_fetched)),
    ];
    for (status, error) in cases {
        world.status = status;
        assert_eq!(world.verify(&text).unwrap_err(), error);
        // Every other fault is reported first: the list's operator learns only of credentials that are otherwise valid.
        let late = world.verify_with(&text, |context| context.now = NOW + 2 * DAY);
        assert_eq!(late.unwrap_err(), VerifyError::Expired);
    }
}

#[test]
fn absent_or_foreign_status_is_a_matter_of_policy() {
    let world = world();
    let text = world.sign(world.header(), &world.payload());
    let refused = world.verify_with(&text, |context| {
        context.require_key_binding = None;
        context.status = StatusPolicy::Required;
    });
    assert_eq!(refused.unwrap_err(), VerifyError::NoStatus);
    let refused = world.verify_made(|_, payload| payload["status"] = json!({ "other": 1 })).unwrap_err();
    assert_eq!(refused, VerifyError::UnsupportedStatus);
}
