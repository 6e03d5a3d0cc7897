//! Mail as the suite sends and fetches it: a mailbox of ours, letters from strangers, and the verbs of pickup.

use std::time::Duration;

use einmal_did::Did;
use einmal_didcomm::{Attachment, FORWARD_TYPE, Message, MessageId, SenderProtection};
use serde_json::{Value, json};

use super::{
    Run,
    answer::Answer,
    mediation::{self, Account},
    outcome::{Needed, Outcome},
    pickup::Dialect,
};

const BASIC_MESSAGE: &str = "https://didcomm.org/basicmessage/2.0/message";
/// Pause between two looks for mail that a mediator may still be sorting.
const PAUSE: Duration = Duration::from_millis(150);
/// Longest a mediator may sort.
const SORTING: Duration = Duration::from_secs(3);
/// Most messages asked for at once.
const BATCH: u64 = 10;

/// An account with one registered DID.
pub(super) struct Mailbox {
    pub(super) account: Account,
    /// The DID mail is addressed to.
    pub(super) recipient: Did,
}

/// A message on its way to a recipient.
pub(super) struct Letter {
    pub(super) id: MessageId,
    pub(super) envelope: Vec<u8>,
}

/// What a delivery holds.
pub(super) struct Delivered {
    pub(super) message: Message,
    /// Attachment ids and contents.
    pub(super) items: Vec<(String, Vec<u8>)>,
}

/// A letter that was found.
pub(super) struct Found {
    /// Its attachment id.
    pub(super) id: String,
    pub(super) bytes: Vec<u8>,
    /// Other messages delivered until it was found.
    others: Delivered,
}

/// A fresh mailbox. Whether accounts and registrations are correct is judged elsewhere.
pub(super) async fn mailbox(run: &Run) -> Outcome<Mailbox> {
    let dialect = run.mediation.first().copied().ok_or("the target gives no accounts").needed("a mailbox")?;
    mailbox_of(run, dialect).await
}

/// As [`mailbox`], with an account of one version of mediation.
pub(super) async fn mailbox_of(run: &Run, dialect: &'static mediation::Dialect) -> Outcome<Mailbox> {
    let account = mediation::enrol(run, dialect, run.probe.stranger()?).await.needed("an account")?;
    let recipient = add_recipient(run, &account).await.needed("a registration")?;
    Ok(Mailbox { account, recipient })
}

/// A fresh DID registered for an account; the account's own DID if fresh ones need proof.
pub(super) async fn add_recipient(run: &Run, account: &Account) -> Outcome<Did> {
    let routing = account.routing.first().map_or(super::probe::QUEUE, Did::as_str);
    let fresh = run.probe.stranger_at(routing)?;
    if account.register(run, &fresh).await.is_ok() {
        return Ok(fresh);
    }
    account.register(run, &account.me).await?;
    Ok(account.me.clone())
}

/// The number of messages that wait, by a status.
pub(super) fn message_count(status: &Message) -> Outcome<u64> {
    let count = status.body.get("message_count").and_then(Value::as_u64);
    count.ok_or_else(|| "status has no message_count".into())
}

/// A message from a stranger.
pub(super) async fn letter(run: &Run, recipient: &Did) -> Outcome<Letter> {
    let sender = run.probe.stranger()?;
    let message = run.probe.message(BASIC_MESSAGE, &sender, recipient, &json!({"content": "conformance"}))?;
    let envelope = run.probe.pack(&message, SenderProtection::Authcrypt).await?;
    Ok(Letter { id: message.id, envelope })
}

impl Letter {
    /// The envelope as JSON attachment.
    pub(super) fn as_json(&self) -> Outcome<Attachment> {
        let json = serde_json::from_slice(&self.envelope).map_err(|error| error.to_string())?;
        Ok(Attachment::json("0", json).with_media_type(einmal_didcomm::ENCRYPTED_MEDIA_TYPE))
    }

    /// The envelope as base64 attachment.
    pub(super) fn as_base64(&self) -> Attachment {
        Attachment::base64("0", &self.envelope).with_media_type(einmal_didcomm::ENCRYPTED_MEDIA_TYPE)
    }
}

/// A forward to `next` that names no sender; `bend` may change it.
pub(super) async fn forward(
    run: &Run,
    routing: &Did,
    next: &Did,
    attachments: Vec<Attachment>,
    protection: SenderProtection,
    bend: impl FnOnce(&mut Message),
) -> Answer {
    let made = async {
        let sender = run.probe.stranger()?;
        let mut message = run.probe.message(FORWARD_TYPE, &sender, routing, &json!({"next": next}))?;
        if protection == SenderProtection::Anoncrypt {
            message.from = None;
        }
        message.attachments = attachments;
        bend(&mut message);
        run.probe.pack(&message, protection).await
    };
    match made.await {
        Ok(bytes) => run.probe.send_to(routing, bytes).await,
        Err(problem) => Answer::lost(problem),
    }
}

impl Mailbox {
    /// The DID by which senders route mail to this mailbox.
    pub(super) fn routing(&self, run: &Run) -> Did {
        self.account.routing.first().cloned().unwrap_or_else(|| run.probe.target.clone())
    }

    /// Sends a letter to the mailbox.
    pub(super) async fn send(&self, run: &Run) -> Outcome<Letter> {
        self.send_to(run, &self.recipient).await
    }

    /// Sends a letter to another recipient of the account.
    pub(super) async fn send_to(&self, run: &Run, recipient: &Did) -> Outcome<Letter> {
        let letter = letter(run, recipient).await?;
        self.forward_to(run, recipient, &letter).await?;
        Ok(letter)
    }

    /// Forwards a letter to a recipient of the account.
    pub(super) async fn forward_to(&self, run: &Run, recipient: &Did, letter: &Letter) -> Outcome {
        let attachments = vec![letter.as_json()?];
        let routing = self.routing(run);
        let anonymous = SenderProtection::Anoncrypt;
        let answer = forward(run, &routing, recipient, attachments, anonymous, |_| {}).await;
        if answer.accepted() && answer.report().is_none() {
            Ok(())
        } else {
            Err(answer.problem().reworded(|text| format!("the forward is not accepted: {text}")))
        }
    }

    /// The status of `recipient`: how much mail waits.
    pub(super) async fn status(&self, run: &Run, dialect: &Dialect, recipient: &Did) -> Outcome<Message> {
        let kind = dialect.kind("status");
        let body = json!({"recipient_did": recipient});
        run.probe.get(&dialect.kind("status-request"), &self.account.me, &body, &[&kind]).await
    }

    /// Number of messages that wait for `recipient`.
    pub(super) async fn count(&self, run: &Run, dialect: &Dialect, recipient: &Did) -> Outcome<u64> {
        let status = self.status(run, dialect, recipient).await?;
        message_count(&status)
    }

    /// Waits until `wanted` messages wait for `recipient`; returns the last count.
    pub(super) async fn settle(
        &self,
        run: &Run,
        dialect: &Dialect,
        recipient: &Did,
        wanted: u64,
    ) -> Outcome<u64> {
        let end = tokio::time::Instant::now() + SORTING;
        loop {
            let count = self.count(run, dialect, recipient).await?;
            if count == wanted || tokio::time::Instant::now() >= end {
                return Ok(count);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Asks for at most `limit` messages for `recipient`; without attachments if none wait, however the target says so.
    pub(super) async fn deliver(
        &self,
        run: &Run,
        dialect: &Dialect,
        recipient: &Did,
        limit: u64,
    ) -> Outcome<Delivered> {
        let kinds = [dialect.kind("delivery"), dialect.kind("status")];
        let kinds: Vec<&str> = kinds.iter().map(String::as_str).collect();
        let request = dialect.kind("delivery-request");
        let body = dialect.delivery_request(Some(recipient), limit);
        Ok(Delivered::of(run.probe.get(&request, &self.account.me, &body, &kinds).await?))
    }

    /// Fetches until `letter` arrives.
    ///
    /// A mediator may deliver less than it was asked for, and may keep one queue for all DIDs of an account: what it
    /// delivers is then confirmed, because there is no other way to the mail behind it.
    pub(super) async fn find(
        &self,
        run: &Run,
        dialect: &Dialect,
        recipient: &Did,
        letter: &Letter,
    ) -> Outcome<Found> {
        let mut others = Vec::new();
        let end = tokio::time::Instant::now() + SORTING;
        loop {
            let delivered = self.deliver(run, dialect, recipient, BATCH).await?;
            if let Some((id, bytes)) = delivered.find(run, letter).await {
                others.extend(delivered.items);
                let others = Delivered { message: delivered.message, items: others };
                return Ok(Found { id, bytes, others });
            }
            if tokio::time::Instant::now() >= end {
                let number = delivered.items.len();
                return Err(format!("the message is not among the {number} delivered").into());
            }
            let got = delivered.items.len() as u64;
            // A target that cannot count what waits is judged for that elsewhere.
            if got > 0 && self.count(run, dialect, recipient).await.is_ok_and(|count| count > got) {
                let ids: Vec<String> = delivered.items.iter().map(|(id, _)| id.clone()).collect();
                self.confirm(run, dialect, &ids).await;
                // They are gone now, but checks that certain mail must not be there need them.
                others.extend(delivered.items);
            } else {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Confirms messages.
    pub(super) async fn confirm(&self, run: &Run, dialect: &Dialect, ids: &[String]) -> Answer {
        let body = json!({"message_id_list": ids});
        run.probe.ask(&dialect.kind("messages-received"), &self.account.me, &body).await
    }
}

impl Found {
    /// Whether `letter` was delivered, too, before this one was found.
    pub(super) async fn passed_over(&self, run: &Run, letter: &Letter) -> bool {
        self.others.find(run, letter).await.is_some()
    }
}

impl Delivered {
    /// The contents of a delivery.
    pub(super) fn of(message: Message) -> Self {
        let items = message
            .attachments
            .iter()
            .filter_map(|one| Some((one.id.clone().unwrap_or_default(), one.bytes().ok()?)))
            .collect();
        Self { message, items }
    }

    /// The attachment that holds `letter`.
    pub(super) async fn find(&self, run: &Run, letter: &Letter) -> Option<(String, Vec<u8>)> {
        for (id, bytes) in &self.items {
            if run.probe.open(bytes).await.is_ok_and(|opened| opened.message.id == letter.id) {
                return Some((id.clone(), bytes.clone()));
            }
        }
        None
    }
}
