//! The target `message`: plaintext messages and their attachments.

use einmal_didcomm::{
    Attachment, Forward, Message, MessageType,
    limits::{MAX_ACKS, MAX_ATTACHMENTS, MAX_FROM_PRIOR_LEN, MAX_ID_LEN, MAX_LINKS, MAX_TO},
};

use crate::{json, keys::KnownPeople};

/// Reads `bytes` as a plaintext message, decodes its attachments and checks their signatures.
pub fn message(bytes: &[u8]) -> bool {
    let Ok(message) = Message::from_bytes(bytes) else { return false };
    check(&message);
    true
}

/// Invariants of every message that was read.
pub(crate) fn check(message: &Message) {
    assert!(message.to.len() <= MAX_TO && message.attachments.len() <= MAX_ATTACHMENTS);
    assert!(message.ack.len() <= MAX_ACKS && message.please_ack.len() <= MAX_ACKS);
    assert!(message.id.as_str().len() <= MAX_ID_LEN);
    assert!(message.from_prior.as_ref().is_none_or(|jwt| jwt.len() <= MAX_FROM_PRIOR_LEN));
    let value = message.to_value();
    let again =
        Message::from_bytes(&message.to_bytes()).expect("what was read is written so that it reads again");
    assert!(json::same(&again.to_value(), &value), "a message changed by writing and reading it");
    if !json::has_float(&value) {
        assert_eq!(again, *message);
    }
    let kind = MessageType::received(message.kind.as_str()).expect("a type that was read");
    assert!(kind == message.kind);
    assert!(kind.protocol().is_empty() || kind.is(message.kind.as_str()));
    assert!(!message.thread().as_str().is_empty());
    for attachment in &message.attachments {
        check_attachment(attachment);
    }
    if let Ok(forward) = Forward::from_message(message) {
        assert_eq!(forward.payloads.len(), message.attachments.len());
    }
}

fn check_attachment(attachment: &Attachment) {
    let data = &attachment.data;
    let inline = data.json.is_some() || data.carried.is_some() || data.base64.is_some();
    assert!(inline || !data.links.is_empty());
    assert!(data.links.is_empty() || data.hash.is_some(), "links are pinned by a hash");
    assert!(data.links.len() <= MAX_LINKS);
    let bytes = attachment.bytes();
    if let (Ok(bytes), Some(text)) = (&bytes, &data.base64) {
        assert!(bytes.len() <= text.len());
    }
    if let (Ok(value), true) = (attachment.to_json(), data.json.is_none()) {
        assert!(json::depth(&value) <= einmal_did::limits::MAX_JSON_DEPTH);
    }
    let _ = attachment.verify_hash(b"content");
    if let Ok(signer) = attachment.verify_signature(&KnownPeople::new()) {
        assert!(signer.0.fragment().is_some(), "a signer is a key");
    }
}
