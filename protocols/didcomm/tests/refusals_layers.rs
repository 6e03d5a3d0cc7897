//! What can be wrong between envelope and message, or between envelopes, and the exact refusal for each.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking too")]

mod common;
mod forge;

use common::{ED, NOW, Party, World, X, message};
use einmal_didcomm::{
    EnvelopeError, LayerPolicy, MessageError, OpenContext, OpenError, Opened, PackError, PackOptions,
    SenderProtection, UnixSeconds, open,
};
use forge::{Forge, ForgedSignature, signed};
use serde_json::{Value, json};

struct Stage {
    world: World,
    alice: Party,
    bob: Party,
    mallory: Party,
}

impl Stage {
    fn new() -> Self {
        let world = World::new();
        let (alice, bob, mallory) =
            (world.party("alice", 1), world.party("bob", 2), world.party("mallory", 3));
        Self { world, alice, bob, mallory }
    }

    /// From Alice to Bob.
    fn plaintext(&self) -> Value {
        message(&self.alice.did, &self.bob.did).to_value()
    }

    fn without(&self, header: &str) -> Value {
        let mut plaintext = self.plaintext();
        plaintext.as_object_mut().unwrap().remove(header);
        plaintext
    }

    fn sign(&self, content: impl ToString) -> Value {
        signed(content, &[ForgedSignature::by(&self.alice, ED)])
    }

    fn auth(&self, content: impl ToString) -> Value {
        Forge::authcrypt(content, &self.alice, X, &self.bob, &[X]).seal()
    }

    fn anon(&self, content: impl ToString) -> Value {
        Forge::anoncrypt(content, &self.bob, &[X]).seal()
    }

    fn open(&self, envelope: &Value) -> Opened {
        self.world.open_json(envelope, &self.bob).unwrap()
    }

    fn refused(&self, envelope: &Value, error: impl Into<OpenError>) {
        assert_eq!(self.world.refusal(envelope, &self.bob), error.into());
    }

    fn open_under(&self, envelope: &Value, change: fn(&mut OpenContext<'_>)) -> Result<Opened, OpenError> {
        let mut context = self.world.context(&self.bob.ring);
        change(&mut context);
        open(envelope.to_string().as_bytes(), &context)
    }
}

#[test]
fn every_permitted_combination_opens_and_proves_what_it_should() {
    let stage = Stage::new();
    let plain = stage.plaintext();
    let signed = stage.sign(&plain);
    // envelope, sender proved, signer proved
    let permitted = [
        (stage.anon(&plain), false, false),
        (stage.auth(&plain), true, false),
        (stage.anon(&signed), false, true),
        (stage.auth(&signed), true, true),
        (stage.anon(stage.auth(&plain)), true, false),
        (stage.anon(stage.auth(&signed)), true, true),
    ];
    for (envelope, sender, signer) in permitted {
        let opened = stage.open(&envelope);
        assert_eq!((opened.proof.sender.is_some(), opened.proof.signer.is_some()), (sender, signer));
        assert_eq!(opened.recipient(), Some(&stage.bob.did));
        assert_eq!(opened.message.from.is_some(), sender || signer);
        assert_eq!(opened.is_authenticated(), sender || signer);
    }
}

#[test]
fn from_of_an_anonymous_message_is_a_claim_and_no_sender() {
    let stage = Stage::new();
    let opened = stage.open(&stage.anon(stage.plaintext()));
    assert_eq!((opened.sender(), opened.message.from.as_ref()), (None, None));
    assert_eq!(opened.claimed_from.as_ref(), Some(&stage.alice.did));
}

#[test]
fn from_that_is_not_the_did_of_skid_is_refused() {
    let stage = Stage::new();
    let spoofed = Forge::authcrypt(stage.plaintext(), &stage.mallory, X, &stage.bob, &[X]).seal();
    stage.refused(&spoofed, OpenError::FromIsNotSender);
    stage.refused(&stage.anon(&spoofed), OpenError::FromIsNotSender);
}

#[test]
fn authcrypt_without_from_is_refused() {
    let stage = Stage::new();
    stage.refused(&stage.auth(stage.without("from")), OpenError::FromIsNotSender);
}

#[test]
fn from_that_is_not_the_did_of_the_signer_is_refused() {
    let stage = Stage::new();
    let spoofed = signed(stage.plaintext(), &[ForgedSignature::by(&stage.mallory, ED)]);
    stage.refused(&spoofed, OpenError::FromIsNotSigner);
    stage.refused(&stage.anon(&spoofed), OpenError::FromIsNotSigner);
    stage.refused(&stage.sign(stage.without("from")), OpenError::FromIsNotSigner);
}

#[test]
fn signed_message_re_encrypted_by_another_is_refused() {
    let stage = Stage::new();
    let by_alice = stage.sign(stage.plaintext());
    let re_encrypted = Forge::authcrypt(&by_alice, &stage.mallory, X, &stage.bob, &[X]).seal();
    stage.refused(&re_encrypted, OpenError::SignerIsNotSender);
    stage.refused(&stage.anon(&re_encrypted), OpenError::SignerIsNotSender);
}

#[test]
fn signature_of_the_encrypter_does_not_make_up_for_a_foreign_from() {
    let stage = Stage::new();
    let both = [ForgedSignature::by(&stage.alice, ED), ForgedSignature::by(&stage.mallory, ED)];
    let by_both = signed(stage.plaintext(), &both);
    let envelope = Forge::authcrypt(&by_both, &stage.mallory, X, &stage.bob, &[X]).seal();
    stage.refused(&envelope, OpenError::FromIsNotSender);
}

#[test]
fn signed_and_encrypted_message_without_to_is_refused() {
    let stage = Stage::new();
    let by_alice = stage.sign(stage.without("to"));
    stage.refused(&stage.anon(&by_alice), OpenError::SignedWithoutTo);
    stage.refused(&stage.auth(&by_alice), OpenError::SignedWithoutTo);
    let mut plaintext = stage.plaintext();
    plaintext["to"] = json!([]);
    stage.refused(&stage.anon(stage.sign(&plaintext)), OpenError::SignedWithoutTo);
    // Without encryption it is a broadcast.
    assert!(stage.open(&by_alice).proof.signer.is_some());
}

#[test]
fn message_forwarded_behind_its_signers_back_is_refused() {
    let stage = Stage::new();
    let to_mallory = stage.sign(message(&stage.alice.did, &stage.mallory.did).to_value());
    stage.refused(&stage.anon(&to_mallory), OpenError::NotAddressed);
    stage.refused(&stage.auth(&to_mallory), OpenError::NotAddressed);
}

#[test]
fn encrypted_message_whose_to_lacks_us_is_refused() {
    let stage = Stage::new();
    let to_mallory = message(&stage.alice.did, &stage.mallory.did).to_value();
    stage.refused(&stage.auth(&to_mallory), OpenError::NotAddressed);
    stage.refused(&stage.anon(&to_mallory), OpenError::NotAddressed);
    let mut to_both = to_mallory;
    to_both["to"] = json!([stage.mallory.did.as_str(), stage.bob.did.as_str()]);
    assert!(stage.open(&stage.auth(&to_both)).is_authenticated());
}

#[test]
fn encrypted_message_without_to_is_accepted_unless_signed() {
    let stage = Stage::new();
    assert!(stage.open(&stage.auth(stage.without("to"))).is_authenticated());
    assert_eq!(stage.open(&stage.anon(stage.without("to"))).recipient(), Some(&stage.bob.did));
}

#[test]
fn triple_envelope_opens_by_default_and_not_under_the_strict_policy() {
    let stage = Stage::new();
    let triple = stage.anon(stage.auth(stage.sign(stage.plaintext())));
    assert!(stage.open(&triple).proof.signer.is_some());
    let strict =
        |envelope: &Value| stage.open_under(envelope, |context| context.layers = LayerPolicy::Strict);
    assert_eq!(strict(&triple).unwrap_err(), EnvelopeError::Combination.into());
    for permitted in [
        stage.auth(stage.sign(stage.plaintext())),
        stage.anon(stage.sign(stage.plaintext())),
        stage.anon(stage.auth(stage.plaintext())),
    ] {
        assert!(strict(&permitted).unwrap().is_authenticated());
    }
}

#[test]
fn four_layers_are_refused() {
    let stage = Stage::new();
    let triple_over = |inner: Value| stage.anon(stage.auth(stage.sign(inner)));
    stage.refused(&triple_over(stage.sign(stage.plaintext())), EnvelopeError::TooDeep);
    stage.refused(&triple_over(stage.anon(stage.plaintext())), EnvelopeError::TooDeep);
}

#[test]
fn combinations_the_text_does_not_permit_are_refused() {
    let stage = Stage::new();
    let plain = stage.plaintext();
    for forbidden in [
        stage.auth(stage.anon(&plain)),
        stage.auth(stage.auth(&plain)),
        stage.anon(stage.anon(&plain)),
        stage.sign(stage.sign(&plain)),
        stage.sign(stage.anon(&plain)),
        stage.sign(stage.auth(&plain)),
        stage.anon(stage.sign(stage.auth(&plain))),
    ] {
        stage.refused(&forbidden, EnvelopeError::Combination);
    }
}

#[test]
fn layers_for_two_of_our_dids_are_refused() {
    let stage = Stage::new();
    let mut second = stage.world.party("bobs-other", 4);
    second.did = stage.world.party("bobs-other", 4).did;
    stage.bob.ring.insert(einmal_keys::KeyId::new(second.kid(X)), second.secret(X));
    let inner =
        Forge::authcrypt(message(&stage.alice.did, &second.did).to_value(), &stage.alice, X, &second, &[X])
            .seal();
    assert_eq!(stage.open(&inner).recipient(), Some(&second.did));
    stage.refused(&stage.anon(&inner), EnvelopeError::RecipientKids);
}

#[test]
fn plaintext_is_refused_unless_asked_for_and_proves_nothing_then() {
    let stage = Stage::new();
    let plain = stage.plaintext();
    stage.refused(&plain, OpenError::PlaintextRefused);
    let opened = stage.open_under(&plain, |context| context.accept_plaintext = true).unwrap();
    assert_eq!((opened.sender(), opened.recipient(), opened.message.from.as_ref()), (None, None, None));
    assert_eq!(opened.claimed_from.as_ref(), Some(&stage.alice.did));
}

#[test]
fn expired_message_is_refused_from_the_very_second_on() {
    let stage = Stage::new();
    let expiring = |end: u64| {
        let mut plaintext = stage.plaintext();
        plaintext["expires_time"] = json!(end);
        stage.auth(plaintext)
    };
    stage.refused(&expiring(NOW.0), OpenError::Expired);
    stage.refused(&expiring(NOW.0 - 1), OpenError::Expired);
    assert_eq!(stage.open(&expiring(NOW.0 + 1)).message.expires_time, Some(UnixSeconds(NOW.0 + 1)));
}

#[test]
fn malformed_message_in_a_proper_envelope_is_refused_by_its_header() {
    let stage = Stage::new();
    let cases = [
        (json!([1]), MessageError::NotJson),
        (json!({}), MessageError::MissingHeader { header: "id" }),
        (json!({"id": "1"}), MessageError::MissingHeader { header: "type" }),
        (json!({"id": "1", "type": "x"}), MessageError::InvalidType),
    ];
    for (plaintext, error) in cases {
        stage.refused(&stage.auth(plaintext), error);
    }
    stage.refused(&stage.auth("no json"), MessageError::NotJson);
    let mut typed = stage.plaintext();
    typed["typ"] = json!(7);
    stage.refused(&stage.auth(typed), MessageError::InvalidHeader { header: "typ" });
}

#[test]
fn packing_what_a_receiver_would_refuse_fails() {
    let stage = Stage::new();
    let packer = stage.world.packer(&stage.alice.ring);
    let pack =
        |message, protection| packer.pack(&message, &stage.bob.did, &PackOptions::protecting(protection));
    let to_mallory = message(&stage.alice.did, &stage.mallory.did);
    let missing_to = PackError::MissingTo { recipient: stage.bob.did.clone() };
    for protection in [
        SenderProtection::Authcrypt,
        SenderProtection::AuthcryptHidden,
        SenderProtection::Anoncrypt,
        SenderProtection::SignedAnoncrypt,
    ] {
        assert_eq!(pack(to_mallory.clone(), protection).unwrap_err(), missing_to);
    }
    let mut silent = message(&stage.alice.did, &stage.bob.did);
    silent.to.clear();
    assert_eq!(pack(silent, SenderProtection::SignedAnoncrypt).unwrap_err(), missing_to);
    let mut nameless = message(&stage.alice.did, &stage.bob.did);
    nameless.from = None;
    for protection in
        [SenderProtection::Authcrypt, SenderProtection::AuthcryptHidden, SenderProtection::SignedAnoncrypt]
    {
        assert_eq!(pack(nameless.clone(), protection).unwrap_err(), PackError::MissingFrom);
    }
}
