//! What is accepted and what is refused in a signed layer.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking too")]

mod common;
mod forge;

use common::{ED, SIGNING_KINDS, Stage, authentication, malformed};
use einmal_didcomm::{EnvelopeError, OpenError, limits::MAX_SIGNATURES};
use einmal_keys::{KeyKind, base64url_encode};
use forge::{ForgedSignature, signed};
use serde_json::{Value, json};

impl Stage {
    fn sign(&self, signature: ForgedSignature) -> Value {
        signed(self.plaintext(), &[signature])
    }

    fn signer(&self, envelope: &Value) -> String {
        let opened = self.world.open_json(envelope, &self.bob).unwrap();
        assert_eq!(opened.message.from.as_ref(), Some(&self.alice.did));
        opened.proof.signer.unwrap().kid.as_str().to_owned()
    }
}

#[test]
fn general_and_flattened_serialization_both_verify_for_every_algorithm() {
    let stage = Stage::new();
    for kind in SIGNING_KINDS {
        let fragment = authentication(kind);
        let signature = || ForgedSignature::by(&stage.alice, &fragment);
        let expected = stage.alice.kid(&fragment);
        assert_eq!(stage.signer(&stage.sign(signature())), expected);
        assert_eq!(stage.signer(&signature().flattened(stage.plaintext())), expected);
    }
}

#[test]
fn key_id_in_the_unprotected_header_alone_is_accepted() {
    let stage = Stage::new();
    let expected = stage.alice.kid(ED);
    assert_eq!(stage.signer(&stage.sign(stage.signature().with_unprotected_kid())), expected);
    assert_eq!(
        stage.signer(&stage.signature().with_unprotected_kid().flattened(stage.plaintext())),
        expected
    );
}

#[test]
fn two_key_ids_that_disagree_are_refused() {
    let stage = Stage::new();
    let mut signature = stage.signature();
    signature.header = Some(json!({"kid": stage.alice.kid("auth-p-256")}));
    stage.refused(&stage.sign(signature), malformed("kid"));
}

#[test]
fn key_id_that_is_missing_or_names_no_key_is_refused() {
    let stage = Stage::new();
    for kid in [Value::Null, json!("key-1"), json!(stage.alice.did.as_str())] {
        stage.refused(&stage.sign(stage.signature().with("kid", kid)), malformed("kid"));
    }
}

#[test]
fn old_missing_and_short_media_types_are_accepted_and_foreign_ones_refused() {
    let stage = Stage::new();
    for typ in [json!("JWM"), Value::Null, json!("didcomm-signed+json")] {
        assert_eq!(stage.signer(&stage.sign(stage.signature().with("typ", typ))), stage.alice.kid(ED));
    }
    for typ in ["JWT", "application/didcomm-encrypted+json", "application/didcomm-plain+json", "kb+jwt"] {
        stage.refused(&stage.sign(stage.signature().with("typ", json!(typ))), EnvelopeError::WrongType);
    }
}

#[test]
fn compact_serialization_is_refused() {
    let stage = Stage::new();
    let jws = stage.signature().flattened(stage.plaintext());
    let part = |name: &str| jws[name].as_str().unwrap();
    let compact = format!("{}.{}.{}", part("protected"), part("payload"), part("signature"));
    let refusal = stage.world.open(compact.as_bytes(), &stage.bob).unwrap_err();
    assert_eq!(refusal, EnvelopeError::Unrecognised.into());
}

#[test]
fn both_serializations_at_once_are_refused() {
    let stage = Stage::new();
    let mut both = stage.signature().flattened(stage.plaintext());
    both["signatures"] = stage.sign(stage.signature())["signatures"].clone();
    stage.refused(&both, malformed("signatures"));
}

#[test]
fn no_signature_and_too_many_are_refused() {
    let stage = Stage::new();
    stage.refused(&signed(stage.plaintext(), &[]), malformed("signatures"));
    let many: Vec<_> = (0..=MAX_SIGNATURES).map(|_| stage.signature()).collect();
    let error = EnvelopeError::TooMany { member: "signatures", most: MAX_SIGNATURES };
    stage.refused(&signed(stage.plaintext(), &many), error);
}

#[test]
fn algorithms_that_are_absent_symmetric_or_unknown_are_refused() {
    let stage = Stage::new();
    for alg in ["none", "HS256", "RS256", "ES384", "eddsa", ""] {
        stage.refused(&stage.sign(stage.signature().with("alg", json!(alg))), EnvelopeError::Algorithm);
    }
    stage.refused(&stage.sign(stage.signature().with("alg", Value::Null)), EnvelopeError::Algorithm);
}

#[test]
fn fully_specified_name_of_ed25519_is_accepted() {
    let stage = Stage::new();
    assert_eq!(
        stage.signer(&stage.sign(stage.signature().with("alg", json!("Ed25519")))),
        stage.alice.kid(ED)
    );
}

#[test]
fn algorithm_of_another_curve_than_the_key_does_not_hold() {
    let stage = Stage::new();
    for alg in ["ES256", "ES256K"] {
        stage.refused(&stage.sign(stage.signature().with("alg", json!(alg))), OpenError::Signature);
    }
}

#[test]
fn changed_payload_header_or_signature_does_not_hold() {
    let stage = Stage::new();
    for kind in SIGNING_KINDS {
        let signature = || ForgedSignature::by(&stage.alice, &authentication(kind));
        let mut payload = stage.sign(signature());
        let mut other = stage.plaintext();
        other["body"]["content"] = json!("something else");
        payload["payload"] = json!(base64url_encode(other.to_string()));
        let mut header = stage.sign(signature());
        let bent = signature().with("typ", json!("JWM")).protected.to_string();
        header["signatures"][0]["protected"] = json!(base64url_encode(bent));
        let mut bytes = stage.sign(signature());
        bytes["signatures"][0]["signature"] = json!(base64url_encode([7u8; 64]));
        for envelope in [payload, header, bytes] {
            stage.refused(&envelope, OpenError::Signature);
        }
    }
}

#[test]
fn critical_extensions_are_refused_in_either_header() {
    let stage = Stage::new();
    for (member, value) in [("crit", json!(["b64"])), ("b64", json!(false))] {
        let error = EnvelopeError::NotAllowed { member: "crit" };
        stage.refused(&stage.sign(stage.signature().with(member, value.clone())), error.clone());
        let mut signature = stage.signature();
        signature.header = Some(json!({ member: value }));
        stage.refused(&stage.sign(signature), error);
    }
}

#[test]
fn signer_key_listed_under_key_agreement_only_is_refused() {
    let stage = Stage::new();
    let signature = ForgedSignature::by(&stage.alice, "agree-p-256");
    stage.refused(&stage.sign(signature), OpenError::SignerKey);
}

#[test]
fn signer_key_its_document_does_not_list_is_refused() {
    let stage = Stage::new();
    let signature = stage.signature().with("kid", json!(stage.alice.kid("auth-unknown")));
    stage.refused(&stage.sign(signature), OpenError::SignerKey);
}

#[test]
fn signature_of_another_beside_the_senders_changes_nothing() {
    let stage = Stage::new();
    let mallory = stage.world.party("mallory", 3);
    let pair = || [ForgedSignature::by(&mallory, ED), stage.signature()];
    assert_eq!(stage.signer(&signed(stage.plaintext(), &pair())), stage.alice.kid(ED));
    let mut bent = signed(stage.plaintext(), &pair());
    bent["signatures"][1]["signature"] = bent["signatures"][0]["signature"].clone();
    stage.refused(&bent, OpenError::Signature);
}

#[test]
fn member_names_that_stand_twice_are_refused() {
    let stage = Stage::new();
    let text = stage.signature().flattened(stage.plaintext()).to_string();
    let open = |text: String| stage.world.open(text.as_bytes(), &stage.bob).unwrap_err();
    let doubled = |member: &str| text.replacen('{', &format!(r#"{{"{member}":"AA","#), 1);
    let member = "the JWS JSON serialization";
    assert_eq!(open(doubled("signature")), EnvelopeError::Malformed { member }.into());
    assert_eq!(open(doubled("payload")), EnvelopeError::Unrecognised.into());
}

#[test]
fn members_that_are_no_unpadded_base64url_are_named() {
    let stage = Stage::new();
    for member in ["payload", "protected", "signature"] {
        for bad in ["A", "AA==", "+/+/"] {
            let mut jws = stage.signature().flattened(stage.plaintext());
            jws[member] = json!(bad);
            stage.refused(&jws, malformed(member));
        }
    }
}

#[test]
fn ed25519_key_kind_is_the_first_we_sign_with() {
    let stage = Stage::new();
    let bytes = stage.world.packer(&stage.alice.ring).sign(&stage.message()).unwrap();
    let jws: Value = serde_json::from_slice(&bytes).unwrap();
    let expected = stage.alice.kid(&authentication(KeyKind::Ed25519));
    assert_eq!(stage.signer(&jws), expected);
    assert_eq!(jws["signatures"][0]["header"]["kid"], json!(expected));
}
