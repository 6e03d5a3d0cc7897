//! Envelopes that break one rule and otherwise fit: made for the conformance suite, refused by us for that rule.
#![allow(clippy::unwrap_used, reason = "tests")]

use einmal_did::{Did, LocalResolver, Relationship, peer};
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
        let did = peer::two::create(&[(Relationship::KeyAgreement, key.public_key())], &[]).unwrap();
        self.keyring.insert(KeyId::new(format!("{did}#key-1")), key);
        did
    }

    fn send(
        &self,
        message: &Message,
        sender: &Did,
        to: &Did,
        rule: Irregularity,
    ) -> Result<Opened, OpenError> {
        let packer = Packer { custody: &self.keyring, resolver: &self.resolver, entropy: &self.entropy };
        let bytes = packer.authcrypt_unchecked(&message.to_bytes(), sender, to, rule).unwrap();
        let context = OpenContext {
            custody: &self.keyring,
            resolver: &self.resolver,
            now: UnixSeconds(1_700_000_000),
            accept_plaintext: false,
            layers: LayerPolicy::Strict,
        };
        open(&bytes, &context)
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
