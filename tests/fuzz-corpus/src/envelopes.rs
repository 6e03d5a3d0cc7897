//! The targets `jwe` and `jws`: envelopes as received, and the layers inside them.

use einmal_did::{Did, parse_strict_json};
use einmal_didcomm::{
    Envelope, LayerPolicy, Message, OpenContext, OpenError, Opened, UnixSeconds, limits::MAX_ENVELOPE_BYTES,
    open,
};

use crate::{
    NOW,
    keys::{KnownPeople, world},
    plaintext, sealing,
};

/// Opens an encrypted envelope.
///
/// The first byte is the mode. `A`, `C`, `D`: the rest is first encrypted for bob by anoncrypt, authcrypt, or both.
/// `S`, `B`, `T`: it is also signed. `H`: the rest is the protected header of an anoncrypt. Otherwise all bytes are the
/// envelope.
pub fn jwe(bytes: &[u8]) -> bool {
    let Some((mode, rest)) = bytes.split_first() else { return false };
    let envelope = match mode {
        b'A' => sealing::anoncrypt(rest),
        b'C' => sealing::authcrypt(rest),
        b'D' => sealing::anoncrypt(&sealing::authcrypt(rest)),
        b'S' => sealing::anoncrypt(&sealing::sign(rest)),
        b'B' => sealing::authcrypt(&sealing::sign(rest)),
        b'T' => sealing::anoncrypt(&sealing::authcrypt(&sealing::sign(rest))),
        b'H' => sealing::anoncrypt_under(rest, PLAIN),
        _ => bytes.to_vec(),
    };
    let opened = open_both_ways(&envelope, false);
    match mode {
        b'A' if is_anonymous_message(rest) => assert!(opened.is_ok(), "{opened:?}"),
        b'C' | b'D' if opened.is_ok() && !is_envelope(rest) => {
            let opened = opened.as_ref().expect("checked");
            assert_eq!(opened.sender(), Some(&world().alice.canonical()));
            assert_eq!(opened.recipient(), Some(&world().bob_short));
        }
        b'S' | b'B' | b'T' if opened.is_ok() => {
            assert!(opened.as_ref().is_ok_and(|opened| opened.proof.signer.is_some()));
        }
        _ => {}
    }
    opened.is_ok()
}

/// The content of the envelope whose header is fuzzed.
const PLAIN: &[u8] = br#"{"id":"1","type":"https://didcomm.org/empty/1.0/empty","body":{}}"#;

/// Opens a signed envelope.
///
/// `P`: the rest is first signed by alice. `H`: the rest is the protected header of a signature by alice. Otherwise all
/// bytes are the envelope, which may also be a plaintext message.
pub fn jws(bytes: &[u8]) -> bool {
    let Some((mode, rest)) = bytes.split_first() else { return false };
    let envelope = match mode {
        b'P' => sealing::sign(rest),
        b'H' => sealing::sign_under(rest, &message_by_alice()),
        _ => bytes.to_vec(),
    };
    let opened = open_both_ways(&envelope, true);
    if let (b'P' | b'H', Ok(opened)) = (mode, &opened) {
        assert_eq!(opened.sender(), Some(&world().alice.canonical()));
        assert!(!opened.is_authenticated(), "a signature alone is for everybody");
    }
    opened.is_ok()
}

fn message_by_alice() -> Vec<u8> {
    let from = world().alice.as_str();
    let kind = "https://didcomm.org/empty/1.0/empty";
    format!(r#"{{"id":"1","type":"{kind}","from":"{from}","body":{{}}}}"#).into_bytes()
}

/// Whether `bytes` are a message that must open when it arrives without a proved sender.
fn is_anonymous_message(bytes: &[u8]) -> bool {
    let Ok(message) = Message::from_bytes(bytes) else { return false };
    let addressed = message.to.is_empty() || message.to.iter().any(|to| to.same_as(&world().bob_short));
    let timely = message.expires_time.is_none_or(|end| UnixSeconds(NOW) < end);
    addressed && timely && message.from_prior.is_none() && !is_envelope(bytes)
}

fn is_envelope(bytes: &[u8]) -> bool {
    let has = |value: &serde_json::Value, name| value.get(name).is_some();
    parse_strict_json(bytes, MAX_ENVELOPE_BYTES)
        .is_ok_and(|value| has(&value, "ciphertext") || has(&value, "payload"))
}

/// Opens under both policies; whatever the strict one opens, the tolerant one must open to the same.
fn open_both_ways(envelope: &[u8], accept_plaintext: bool) -> Result<Opened, OpenError> {
    let people = KnownPeople::new();
    let context = |layers, accept_plaintext| OpenContext {
        custody: &world().ring,
        resolver: &people,
        now: UnixSeconds(NOW),
        accept_plaintext,
        layers,
    };
    let tolerant = open(envelope, &context(LayerPolicy::Tolerant, accept_plaintext));
    let Ok(opened) = &tolerant else { return tolerant };
    if let Ok(strict) = open(envelope, &context(LayerPolicy::Strict, accept_plaintext)) {
        assert_eq!(strict, *opened);
    }
    if Envelope::classify(envelope) == Ok(Envelope::Plain) {
        let refused = open(envelope, &context(LayerPolicy::Tolerant, false));
        assert_eq!(refused.unwrap_err(), OpenError::PlaintextRefused);
        assert!(opened.sender().is_none() && opened.recipient().is_none());
    }
    check_opened(opened);
    tolerant
}

/// Invariants of every opened message.
fn check_opened(opened: &Opened) {
    let (message, proof) = (&opened.message, &opened.proof);
    let is_from = |did: &Did| message.from.as_ref().is_some_and(|from| from.same_as(did));
    for key in [&proof.sender, &proof.signer].into_iter().flatten() {
        assert!(is_from(&key.did), "`from` is the one who proved to have sent it");
        assert_eq!(key.did, key.kid.did().canonical());
    }
    if let (Some(sender), Some(signer)) = (&proof.sender, &proof.signer) {
        assert_eq!(sender.did, signer.did);
    }
    let proved = proof.sender.is_some() || proof.signer.is_some();
    assert_eq!(message.from.is_some(), proved, "an unproved `from` is moved away");
    assert!(!(proved && opened.claimed_from.is_some()));
    assert!(proof.sender.is_none() || proof.recipient.is_some(), "authcrypt has a recipient");
    if let Some(recipient) = &proof.recipient {
        let addressed = message.to.iter().any(|to| to.same_as(&recipient.did));
        assert!(addressed || (message.to.is_empty() && proof.signer.is_none()));
    }
    assert!(message.expires_time.is_none_or(|end| UnixSeconds(NOW) < end));
    assert_eq!(proof.rotation.is_some(), message.from_prior.is_some());
    if let Some(rotation) = &proof.rotation {
        assert_eq!(rotation.prior.canonical(), rotation.prior);
        assert!(proof.recipient.is_some(), "a rotation is announced in secret");
        assert!(rotation.new.as_ref().is_none_or(|new| is_from(new) && !new.same_as(&rotation.prior)));
    }
    plaintext::check(message);
}
