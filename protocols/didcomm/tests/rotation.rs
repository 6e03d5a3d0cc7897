//! `from_prior`: what proves a change of DID, and what does not.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking too")]

mod common;
mod forge;

use common::{ED, NOW, Party, World, X, did, message};
use einmal_didcomm::{
    FromPriorFault, OpenError, PackOptions, Rotation, SenderProtection, UnixSeconds, from_prior_jwt,
    limits::MAX_FROM_PRIOR_LEN,
};
use einmal_keys::base64url_encode;
use forge::{Forge, ForgedSignature, signed};
use serde_json::{Value, json};

const DECIDED: UnixSeconds = UnixSeconds(NOW.0 - 1000);

struct Stage {
    world: World,
    /// Alice before the rotation, and after it.
    old: Party,
    new: Party,
    bob: Party,
}

/// A `from_prior` to be made.
struct Jwt {
    header: Value,
    payload: Value,
    signature: ForgedSignature,
}

impl Jwt {
    fn with(mut self, claim: &str, value: Value) -> Self {
        let claims = self.payload.as_object_mut().unwrap();
        if value.is_null() {
            claims.remove(claim);
        } else {
            claims.insert(claim.into(), value);
        }
        self
    }

    fn with_header(mut self, member: &str, value: Value) -> Self {
        self.header[member] = value;
        self
    }

    fn to_text(&self) -> String {
        let part = |value: &Value| base64url_encode(value.to_string());
        let input = format!("{}.{}", part(&self.header), part(&self.payload));
        let signature = self.signature.key.sign(input.as_bytes()).unwrap();
        format!("{input}.{}", base64url_encode(signature))
    }
}

impl Stage {
    fn new() -> Self {
        let world = World::new();
        let (old, new, bob) = (world.party("alice", 1), world.party("alice-new", 4), world.party("bob", 2));
        Self { world, old, new, bob }
    }

    fn jwt(&self) -> Jwt {
        let signature = ForgedSignature::by(&self.old, ED);
        let header = json!({"typ": "JWT", "alg": "EdDSA", "kid": self.old.kid(ED)});
        let payload = json!({"iss": self.old.did.as_str(), "sub": self.new.did.as_str(), "iat": DECIDED.0});
        Jwt { header, payload, signature }
    }

    fn message_with(&self, jwt: &str) -> Value {
        let mut message = message(&self.new.did, &self.bob.did).to_value();
        message["from_prior"] = json!(jwt);
        message
    }

    fn carry(&self, jwt: &str) -> Result<Option<Rotation>, OpenError> {
        let envelope = Forge::authcrypt(self.message_with(jwt), &self.new, X, &self.bob, &[X]).seal();
        self.world.open_json(&envelope, &self.bob).map(|opened| opened.proof.rotation)
    }

    fn refused(&self, jwt: &Jwt, reason: FromPriorFault) {
        assert_eq!(self.carry(&jwt.to_text()), Err(OpenError::FromPrior { reason }));
    }

    /// Ends the relationship in an anonymous message without `from`.
    fn end(&self, jwt: &str) -> Result<Option<Rotation>, OpenError> {
        let mut message = self.message_with(jwt);
        message.as_object_mut().unwrap().remove("from");
        let envelope = Forge::anoncrypt(message, &self.bob, &[X]).seal();
        self.world.open_json(&envelope, &self.bob).map(|opened| opened.proof.rotation)
    }
}

#[test]
fn rotation_made_by_us_is_proved_in_every_authenticated_envelope() {
    let stage = Stage::new();
    let jwt =
        from_prior_jwt(&stage.old.did, Some(&stage.new.did), DECIDED, &stage.old.ring, &stage.world.resolver);
    let mut message = message(&stage.new.did, &stage.bob.did);
    message.from_prior = Some(jwt.unwrap());
    for protection in
        [SenderProtection::Authcrypt, SenderProtection::AuthcryptHidden, SenderProtection::SignedAnoncrypt]
    {
        let packer = stage.world.packer(&stage.new.ring);
        let packed = packer.pack(&message, &stage.bob.did, &PackOptions::protecting(protection)).unwrap();
        let rotation = stage.world.open(&packed.bytes, &stage.bob).unwrap().proof.rotation.unwrap();
        assert_eq!((&rotation.prior, rotation.new.as_ref()), (&stage.old.did, Some(&stage.new.did)));
        assert_eq!(rotation.issued_at, DECIDED);
    }
}

#[test]
fn end_of_a_relationship_made_by_us_is_proved_in_an_anonymous_message() {
    let stage = Stage::new();
    let jwt = from_prior_jwt(&stage.old.did, None, DECIDED, &stage.old.ring, &stage.world.resolver).unwrap();
    let mut message = message(&stage.old.did, &stage.bob.did);
    message.from = None;
    message.from_prior = Some(jwt);
    let packer = stage.world.packer(&stage.old.ring);
    let options = PackOptions::protecting(SenderProtection::Anoncrypt);
    let packed = packer.pack(&message, &stage.bob.did, &options).unwrap();
    let opened = stage.world.open(&packed.bytes, &stage.bob).unwrap();
    let rotation = opened.proof.rotation.clone().unwrap();
    assert_eq!((rotation.prior, rotation.new), (stage.old.did.clone(), None));
    assert!(!opened.is_authenticated());
}

#[test]
fn forged_copy_of_a_proper_rotation_is_accepted_so_that_the_refusals_below_mean_something() {
    let stage = Stage::new();
    assert!(stage.carry(&stage.jwt().to_text()).unwrap().is_some());
    let lower_case = stage.jwt().with_header("typ", json!("jwt"));
    assert!(stage.carry(&lower_case.to_text()).unwrap().is_some());
}

#[test]
fn claims_deployed_libraries_add_are_accepted() {
    let stage = Stage::new();
    let jwt = stage.jwt().with("aud", json!("123")).with("jti", json!("x")).with("nbf", json!(NOW.0));
    assert!(stage.carry(&jwt.with("exp", json!(NOW.0 + 1)).to_text()).unwrap().is_some());
}

#[test]
fn rotation_to_another_did_than_from_is_refused() {
    let stage = Stage::new();
    stage.refused(&stage.jwt().with("sub", json!("did:example:mallory")), FromPriorFault::NotSender);
    stage.refused(&stage.jwt().with("sub", Value::Null), FromPriorFault::NotSender);
}

#[test]
fn a_refused_rotation_says_which_rule_it_breaks() {
    let refusal = OpenError::FromPrior { reason: FromPriorFault::NotSender };
    let said = "`from_prior` does not prove a rotation to this sender: `sub` is not `from`";
    assert_eq!(refusal.to_string(), said);
}

#[test]
fn rotation_of_a_did_to_itself_is_refused() {
    let stage = Stage::new();
    let jwt = stage.jwt().with("iss", json!(stage.new.did.as_str()));
    stage.refused(&jwt, FromPriorFault::ToItself);
}

#[test]
fn rotation_signed_by_a_key_of_another_did_is_refused() {
    let stage = Stage::new();
    let mut jwt = stage.jwt().with_header("kid", json!(stage.new.kid(ED)));
    jwt.signature = ForgedSignature::by(&stage.new, ED);
    stage.refused(&jwt, FromPriorFault::ForeignKey);
}

#[test]
fn rotation_signed_by_another_key_than_named_is_refused() {
    let stage = Stage::new();
    let mut jwt = stage.jwt();
    jwt.signature = ForgedSignature::by(&stage.new, ED);
    stage.refused(&jwt, FromPriorFault::Signature);
}

#[test]
fn rotation_signed_by_a_key_for_agreement_only_is_refused() {
    let stage = Stage::new();
    let mut jwt = stage.jwt().with_header("kid", json!(stage.old.kid("agree-p-256")));
    jwt.header["alg"] = json!("ES256");
    jwt.signature = ForgedSignature::by(&stage.old, "agree-p-256");
    stage.refused(&jwt, FromPriorFault::NoAuthentication);
}

#[test]
fn unsigned_symmetric_and_critical_tokens_are_refused() {
    let stage = Stage::new();
    for alg in ["none", "HS256"] {
        stage.refused(&stage.jwt().with_header("alg", json!(alg)), FromPriorFault::Algorithm);
    }
    for (member, value) in [("crit", json!(["b64"])), ("b64", json!(false))] {
        stage.refused(&stage.jwt().with_header(member, value), FromPriorFault::Critical);
    }
}

#[test]
fn token_the_old_key_signed_for_another_purpose_is_no_rotation() {
    let stage = Stage::new();
    for typ in ["openid4vci-proof+jwt", "vc+jwt", "kb+jwt"] {
        stage.refused(&stage.jwt().with_header("typ", json!(typ)), FromPriorFault::Kind);
    }
    for claim in ["vc", "vct", "cnf", "nonce", "scope"] {
        stage.refused(&stage.jwt().with(claim, json!("x")), FromPriorFault::Payload);
    }
}

#[test]
fn token_outside_of_its_own_time_is_refused() {
    let stage = Stage::new();
    let reason = FromPriorFault::NotNow;
    stage.refused(&stage.jwt().with("exp", json!(NOW.0)), reason);
    stage.refused(&stage.jwt().with("nbf", json!(NOW.0 + 1)), reason);
}

#[test]
fn rotation_without_its_time_is_refused() {
    let stage = Stage::new();
    for iat in [Value::Null, json!("1"), json!(-1), json!(1.5)] {
        stage.refused(&stage.jwt().with("iat", iat), FromPriorFault::Payload);
    }
}

#[test]
fn claims_that_stand_twice_are_refused() {
    let stage = Stage::new();
    let jwt = stage.jwt();
    let twice = jwt.payload.to_string().replacen('{', r#"{"sub":"did:example:mallory","#, 1);
    let input = format!("{}.{}", base64url_encode(jwt.header.to_string()), base64url_encode(twice));
    let signature = jwt.signature.key.sign(input.as_bytes()).unwrap();
    let text = format!("{input}.{}", base64url_encode(signature));
    assert_eq!(stage.carry(&text), Err(OpenError::FromPrior { reason: FromPriorFault::Payload }));
}

#[test]
fn changed_token_is_refused() {
    let stage = Stage::new();
    let text = stage.jwt().to_text();
    let (input, signature) = text.rsplit_once('.').unwrap();
    let other = stage.jwt().with("iat", json!(DECIDED.0 + 1)).to_text();
    let (other_input, _) = other.rsplit_once('.').unwrap();
    for (bent, reason) in [
        (format!("{other_input}.{signature}"), FromPriorFault::Signature),
        (format!("{input}."), FromPriorFault::Signature),
        (format!("{input}.!"), FromPriorFault::SignatureForm),
        (input.replace('.', ""), FromPriorFault::NotCompact),
        ("a.b".to_owned(), FromPriorFault::NotCompact),
        ("a.b.c".to_owned(), FromPriorFault::Header),
        ("a".repeat(MAX_FROM_PRIOR_LEN), FromPriorFault::NotCompact),
    ] {
        assert_eq!(stage.carry(&bent), Err(OpenError::FromPrior { reason }), "{reason}");
    }
}

#[test]
fn rotation_in_an_unencrypted_message_is_refused() {
    let stage = Stage::new();
    let message = stage.message_with(&stage.jwt().to_text());
    let envelope = signed(message, &[ForgedSignature::by(&stage.new, ED)]);
    let refusal = stage.world.refusal(&envelope, &stage.bob);
    assert_eq!(refusal, OpenError::FromPrior { reason: FromPriorFault::NotEncrypted });
}

/// Otherwise anyone told of a rotation could announce it to others in the name of the DID that rotated.
#[test]
fn rotation_passed_on_by_a_third_party_is_refused() {
    let stage = Stage::new();
    let message = stage.message_with(&stage.jwt().to_text());
    let envelope = Forge::anoncrypt(&message, &stage.bob, &[X]).seal();
    let refusal = stage.world.refusal(&envelope, &stage.bob);
    assert_eq!(refusal, OpenError::FromPrior { reason: FromPriorFault::Unproved });
    let mallory = stage.world.party("mallory", 3);
    let envelope = Forge::authcrypt(&message, &mallory, X, &stage.bob, &[X]).seal();
    assert_eq!(stage.world.refusal(&envelope, &stage.bob), OpenError::FromIsNotSender);
}

#[test]
fn end_of_a_relationship_needs_a_message_without_from() {
    let stage = Stage::new();
    let end = stage.jwt().with("sub", Value::Null).to_text();
    assert!(stage.end(&end).unwrap().unwrap().new.is_none());
    assert_eq!(stage.carry(&end), Err(OpenError::FromPrior { reason: FromPriorFault::NotSender }));
    let rotation = stage.jwt().to_text();
    assert_eq!(stage.end(&rotation), Err(OpenError::FromPrior { reason: FromPriorFault::NotSender }));
}

#[test]
fn rotation_of_a_did_whose_document_is_not_at_hand_must_be_fetched() {
    let stage = Stage::new();
    let prior = did("did:web:stranger.example");
    let jwt = stage.jwt().with("iss", json!(prior.as_str())).with_header("kid", json!(format!("{prior}#a")));
    let source = einmal_did::ResolveError::NotFetched { did: prior.clone() };
    assert_eq!(stage.carry(&jwt.to_text()), Err(OpenError::Resolve { did: prior, source }));
}
