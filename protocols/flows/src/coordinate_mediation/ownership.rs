//! Proof that a DID agrees to being registered for an account.

use std::{cell::RefCell, collections::HashMap};

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

/// Most statements in the name of one DID whose signatures are checked.
const MAX_STATEMENTS_OF_ONE: usize = 2;

/// The statement a DID signs with one of its authentication keys.
#[derive(Serialize, Deserialize)]
struct Statement {
    recipient_did: String,
    account: String,
    mediator: String,
    issued_at: u64,
}

/// The statement that messages for `recipient` may go to `account` at `mediator`. Sign it with [`Attachment::sign`] and
/// an authentication key of `recipient`, then attach it to the `recipient-update`.
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

/// DIDs whose documents [`answer`](super::answer) reads to see whether the sender controls them, so that the node can
/// fetch them first.
///
/// Empty if no statement is attached and `policy` demands no proof. The node decides whether to fetch, and does not do
/// so for strangers; a DID that does not resolve simply stays unproved.
pub fn dids_to_resolve(received: &Received<'_>, policy: &MediationPolicy) -> Vec<Did> {
    let is_statement = |attachment: &Attachment| attachment.format.as_deref() == Some(OWNERSHIP_FORMAT);
    if !policy.require_proof && !received.message().attachments.iter().any(is_statement) {
        return Vec::new();
    }
    let Ok(MediationRequest::Update(updates)) = MediationRequest::read(received) else { return Vec::new() };
    let added = updates.iter().filter(|update| update.action == UpdateAction::Add);
    added.filter_map(|update| recipient_of(&update.recipient_did)).collect()
}

/// The DID that a registration names, directly or in a DID URL.
pub(crate) fn recipient_of(text: &str) -> Option<Did> {
    match Did::parse(text) {
        Ok(did) => Some(did),
        Err(_) => DidUrl::parse(text).ok().map(|url| url.did().clone()),
    }
}

/// Which DIDs the sender of one message has proved to control. Each DID is checked once, however often it is asked
/// about.
pub(super) struct Proofs<'a> {
    received: &'a Received<'a>,
    resolver: &'a dyn Resolver,
    /// The DIDs that agree by a statement, with that statement; the signatures are not checked yet.
    statements: Vec<(Did, &'a Attachment)>,
    known: RefCell<HashMap<Did, bool>>,
}

impl<'a> Proofs<'a> {
    pub(super) fn of(received: &'a Received<'a>, resolver: &'a dyn Resolver, now: UnixSeconds) -> Self {
        let attached = received.message().attachments.iter();
        let statements = attached.filter_map(|one| Some((agreeing(one, received, now)?, one))).collect();
        Self { received, resolver, statements, known: RefCell::default() }
    }

    /// Whether the sender controls `recipient`: it is that DID, a key of that DID authenticated it, or it attached that
    /// DID's signed agreement.
    pub(super) fn cover(&self, recipient: &Did) -> bool {
        let canonical = recipient.canonical();
        if let Some(known) = self.known.borrow().get(&canonical) {
            return *known;
        }
        let covered = self.received.sender().same_as(recipient)
            || shares_key(self.received, recipient, self.resolver)
            || self.is_signed_by(recipient);
        self.known.borrow_mut().insert(canonical, covered);
        covered
    }

    /// Signature checks are expensive: of the statements in the name of one DID, only the first few are checked.
    fn is_signed_by(&self, recipient: &Did) -> bool {
        let in_its_name = self.statements.iter().filter(|(agreeing, _)| agreeing.same_as(recipient));
        in_its_name.take(MAX_STATEMENTS_OF_ONE).any(|(_, statement)| {
            statement.verify_signature(self.resolver).is_ok_and(|signer| signer.0.did().same_as(recipient))
        })
    }
}

/// Whether the key that authenticated the sender also belongs to `recipient`, for the same purpose.
///
/// It must be that very key: anybody can list a stranger's public key in their own document, and a fetched document may
/// list it only after the message was opened.
fn shares_key(received: &Received<'_>, recipient: &Did, resolver: &dyn Resolver) -> bool {
    let Some(SenderKey { key, purpose }) = received.sender_key() else { return false };
    resolver
        .resolve(recipient)
        .is_ok_and(|document| document.methods(purpose).any(|method| method.key == *key))
}

/// The DID that agrees, by a recent statement, for this sender and this mediator. Its signature is not checked here.
fn agreeing(attachment: &Attachment, received: &Received<'_>, now: UnixSeconds) -> Option<Did> {
    let is_statement = attachment.format.as_deref() == Some(OWNERSHIP_FORMAT);
    let statement = is_statement.then(|| read_statement(attachment)).flatten()?;
    let is = |text: &str, did: &Did| Did::parse(text).is_ok_and(|named| named.same_as(did));
    let fits = is(&statement.account, received.sender()) && is(&statement.mediator, received.recipient());
    let age = now.0.saturating_sub(statement.issued_at);
    let fresh = age <= MAX_OWNERSHIP_PROOF_AGE_SECS
        && statement.issued_at <= now.0.saturating_add(MAX_CLOCK_SKEW_SECS);
    if fits && fresh { Did::parse(&statement.recipient_did).ok() } else { None }
}

fn read_statement(attachment: &Attachment) -> Option<Statement> {
    let value = parse_strict_json(&attachment.bytes().ok()?, 4 * MAX_IDENTIFIER_LEN).ok()?;
    serde_json::from_value(value).ok()
}
