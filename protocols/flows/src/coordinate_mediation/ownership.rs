//! Proof that a DID agrees to being registered for an account.

use einmal_did::{Did, DidUrl, Resolver, parse_strict_json};
use einmal_didcomm::{Attachment, UnixSeconds};
use serde::{Deserialize, Serialize};

use super::{MediationPolicy, MediationRequest, UpdateAction};
use crate::{
    Received, SenderKey,
    limits::{MAX_CLOCK_SKEW_SECS, MAX_IDENTIFIER_LEN, MAX_OWNERSHIP_PROOF_AGE_SECS},
};

/// Attachment format of an ownership statement.
pub const OWNERSHIP_FORMAT: &str = "einmal/recipient-ownership@v1.0";

/// The statement a DID signs with one of its authentication keys.
#[derive(Serialize, Deserialize)]
struct Statement {
    recipient_did: String,
    account: String,
    mediator: String,
    issued_at: u64,
}

/// The statement that messages for `recipient` may go to `account` at `mediator`; sign it with
/// [`Attachment::sign`] and an authentication key of `recipient`, and attach it to the `recipient-update`.
pub fn ownership_statement(recipient: &Did, account: &Did, mediator: &Did, now: UnixSeconds) -> Attachment {
    let statement = Statement {
        recipient_did: recipient.as_str().to_owned(),
        account: account.as_str().to_owned(),
        mediator: mediator.as_str().to_owned(),
        issued_at: now.0,
    };
    let bytes = serde_json::to_vec(&statement).unwrap_or_default();
    Attachment::base64("ownership", &bytes).with_format(OWNERSHIP_FORMAT).with_media_type("application/json")
}

/// DIDs whose documents [`answer`](super::answer) looks at to see whether the sender controls them, so that the node can fetch them
/// first.
///
/// None where nothing rests on that: no statement is attached, and `policy` demands none. Fetching is the node's decision, and not
/// one for strangers; a DID that does not resolve is merely not proved.
pub fn dids_to_resolve(received: &Received<'_>, policy: &MediationPolicy) -> Vec<Did> {
    let is_statement = |attachment: &Attachment| attachment.format.as_deref() == Some(OWNERSHIP_FORMAT);
    if !policy.require_proof && !received.message().attachments.iter().any(is_statement) {
        return Vec::new();
    }
    let Ok(MediationRequest::Update(updates)) = MediationRequest::read(received) else { return Vec::new() };
    let added = updates.iter().filter(|update| update.action == UpdateAction::Add);
    added.filter_map(|update| recipient_of(&update.recipient_did)).collect()
}

/// The DID a registration is about: a DID, or the DID of a DID URL.
pub(crate) fn recipient_of(text: &str) -> Option<Did> {
    match Did::parse(text) {
        Ok(did) => Some(did),
        Err(_) => DidUrl::parse(text).ok().map(|url| url.did().clone()),
    }
}

/// Whether the sender has shown that it controls `recipient`.
///
/// It has if it is that DID, if a key of that DID authenticated it, or if it attached that DID's signed agreement.
pub(super) fn is_proved(
    received: &Received<'_>,
    recipient: &Did,
    resolver: &dyn Resolver,
    now: UnixSeconds,
) -> bool {
    received.sender().same_as(recipient)
        || shares_key(received, recipient, resolver)
        || received
            .message()
            .attachments
            .iter()
            .any(|attachment| agrees(attachment, received, recipient, resolver, now))
}

/// Whether the key that authenticated the sender is one of `recipient` for the same purpose.
///
/// It must be that very key: anybody can list a stranger's public key in a document of their own, and a document that is
/// fetched may list it only after the message was opened.
fn shares_key(received: &Received<'_>, recipient: &Did, resolver: &dyn Resolver) -> bool {
    let Some(SenderKey { key, purpose }) = received.sender_key() else { return false };
    resolver
        .resolve(recipient)
        .is_ok_and(|document| document.methods(purpose).any(|method| method.key == *key))
}

fn agrees(
    attachment: &Attachment,
    received: &Received<'_>,
    recipient: &Did,
    resolver: &dyn Resolver,
    now: UnixSeconds,
) -> bool {
    if attachment.format.as_deref() != Some(OWNERSHIP_FORMAT) {
        return false;
    }
    let Some(statement) = read_statement(attachment) else { return false };
    let is = |text: &str, did: &Did| Did::parse(text).is_ok_and(|named| named.same_as(did));
    let fits = is(&statement.recipient_did, recipient)
        && is(&statement.account, received.sender())
        && is(&statement.mediator, received.recipient());
    let age = now.0.saturating_sub(statement.issued_at);
    let fresh = age <= MAX_OWNERSHIP_PROOF_AGE_SECS
        && statement.issued_at <= now.0.saturating_add(MAX_CLOCK_SKEW_SECS);
    // The signature last: it is the dear part.
    fits && fresh
        && attachment.verify_signature(resolver).is_ok_and(|signer| signer.0.did().same_as(recipient))
}

fn read_statement(attachment: &Attachment) -> Option<Statement> {
    let value = parse_strict_json(&attachment.bytes().ok()?, 4 * MAX_IDENTIFIER_LEN).ok()?;
    serde_json::from_value(value).ok()
}
