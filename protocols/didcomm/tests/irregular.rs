//! Envelopes that break one rule and otherwise fit: made for the conformance suite, refused by us for that rule.
#![allow(clippy::unwrap_used, reason = "tests")]

use einmal_did::{Did, DidUrl, LocalResolver, Relationship, peer};
use einmal_didcomm::{
    EnvelopeError, Irregularity, LayerPolicy, Message, MessageId, MessageType, OpenContext, OpenError,
    Opened, Packer, UnixSeconds, open,
};
use einmal_keys::{KeyId, KeyKind, Keyring, SecretKey, SeededEntropy};

struct Both {
    keyring: Keyring,
    resolver: LocalResolver,
    entropy: SeededEntropy,
}

impl Both {
    fn new() -> Self {
        Self { keyring: Keyring::new(), resolver: LocalResolver::new(), entropy: SeededEntropy::new(7) }
    }

    fn party(&self) -> Did {
        let key = SecretKey::generate(KeyKind::X25519, &self.entropy).unwrap();
        let signs = SecretKey::generate(KeyKind::P256, &self.entropy).unwrap();
        let keys = [
            (Relationship::KeyAgreement, key.public_key()),
            (
                Relationship::KeyAgreement,
                SecretKey::generate(KeyKind::P256, &self.entropy).unwrap().public_key(),
            ),
            (Relationship::Authentication, signs.public_key()),
        ];
        let did = peer::two::create(&keys, &[]).unwrap();
        self.keyring.insert(KeyId::new(format!("{did}#key-1")), key);
        self.keyring.insert(KeyId::new(format!("{did}#key-3")), signs);
        did
    }

    fn packer(&self) -> Packer<'_> {
        Packer { custody: &self.keyring, resolver: &self.resolver, entropy: &self.entropy }
    }

    fn receive(&self, bytes: &[u8]) -> Result<Opened, OpenError> {
        let context = OpenContext {
            custody: &self.keyring,
            resolver: &self.resolver,
            now: UnixSeconds(1_700_000_000),
            accept_plaintext: false,
            layers: LayerPolicy::Strict,
        };
        open(bytes, &context)
    }

    fn send(
        &self,
        message: &Message,
        sender: &Did,
        to: &Did,
        rule: Irregularity,
    ) -> Result<Opened, OpenError> {
        let bytes = self.packer().authcrypt_unchecked(&message.to_bytes(), sender, to, rule).unwrap();
        self.receive(&bytes)
    }
}

fn message(from: &Did, to: &Did) -> Message {
    let kind = MessageType::parse("https://didcomm.org/trust-ping/2.0/ping").unwrap();
    let mut message = Message::new(MessageId::try_from("1").unwrap(), kind);
    message.from = Some(from.clone());
    message.to = vec![to.clone()];
    message
}

#[test]
fn words_signed_by_another_or_for_nobody_in_particular_are_refused_as_such() {
    let both = Both::new();
    let (from, to, other) = (both.party(), both.party(), both.party());
    let signed = |message: &Message| {
        both.receive(&both.packer().sign_unchecked(&message.to_bytes(), &from, &to).unwrap())
    };
    assert!(signed(&message(&from, &to)).unwrap().is_authenticated());
    assert_eq!(signed(&message(&other, &to)).unwrap_err(), OpenError::FromIsNotSigner);
    let mut loose = message(&from, &to);
    loose.to.clear();
    assert_eq!(signed(&loose).unwrap_err(), OpenError::SignedWithoutTo);
}

#[test]
fn key_that_is_for_signing_only_proves_no_sender() {
    let both = Both::new();
    let (from, to) = (both.party(), both.party());
    let other = SecretKey::generate(KeyKind::P256, &both.entropy).unwrap();
    both.keyring.insert(KeyId::new(format!("{to}#key-2")), other);
    let skid = DidUrl::new(&from, "key-3").unwrap();
    let text = message(&from, &to).to_bytes();
    let bytes = both.packer().authcrypt_by_key_unchecked(&text, &skid, &to).unwrap();
    assert_eq!(both.receive(&bytes).unwrap_err(), OpenError::SenderKey);
}

#[test]
fn unchecked_envelope_without_irregularity_opens() {
    let both = Both::new();
    let (from, to) = (both.party(), both.party());
    let opened = both.send(&message(&from, &to), &from, &to, Irregularity::None).unwrap();
    assert_eq!(opened.sender(), Some(&from));
}

#[test]
fn irregular_apv_and_apu_are_refused_as_such() {
    let both = Both::new();
    let (from, to) = (both.party(), both.party());
    let message = message(&from, &to);
    let refused = |rule| both.send(&message, &from, &to, rule).unwrap_err();
    assert_eq!(refused(Irregularity::Apv), OpenError::Envelope(EnvelopeError::Apv));
    assert_eq!(refused(Irregularity::Apu), OpenError::Envelope(EnvelopeError::Apu));
}

#[test]
fn words_in_the_name_of_another_and_for_another_are_refused_as_such() {
    let both = Both::new();
    let (from, to, other) = (both.party(), both.party(), both.party());
    let refused = |message: &Message| both.send(message, &from, &to, Irregularity::None).unwrap_err();
    assert_eq!(refused(&message(&other, &to)), OpenError::FromIsNotSender);
    assert_eq!(refused(&message(&from, &other)), OpenError::NotAddressed);
}
