//! What a mediator's operator sees and does: accounts, mailboxes, limits. No DIDs, no mail, only digests and numbers.

use std::cmp::Reverse;

use einmal_did::Did;
use einmal_flows::limits::MAX_QUEUED_PAYLOAD_BYTES;
use einmal_storage::{
    StoreError,
    mail::{MailboxId, MailboxState},
};
use serde_json::{Value, json};

use super::accounts::{self, ACCOUNT_ROUTES, ACCOUNTS, ROUTES, Route};
use crate::{
    command::{DropId, MediatorCommand, Nothing},
    db::{did_id, mailbox_id},
    handler::{Effects, Failure, Shared},
    rates,
    service::queue::{DEFAULT_KEEP_SECS, quota},
};

/// Most accounts or mailboxes listed at once.
const MAX_LISTED: usize = 1000;
/// Recipients read at once.
const PAGE: usize = 500;

/// Carries out one of the operator's commands.
pub(super) fn command(
    shared: &Shared,
    command: &MediatorCommand,
    fx: &mut Effects<'_>,
) -> Result<Value, Failure> {
    Ok(match command {
        MediatorCommand::Accounts(Nothing {}) => accounts(shared)?,
        MediatorCommand::Queues(Nothing {}) => queues(shared)?,
        MediatorCommand::Drop(DropId { id }) => remove(shared, id, fx)?,
        MediatorCommand::Limits(Nothing {}) => limits(shared),
    })
}

fn accounts(shared: &Shared) -> Result<Value, StoreError> {
    let mut listed = Vec::new();
    for (id, value) in shared.db.all::<Value>(ACCOUNTS, MAX_LISTED)?.records {
        let recipients = recipients(shared, &id)?;
        let states = recipients.iter().map(|did| shared.mail.state(mailbox_id(did), shared.now().0));
        let (letters, bytes) = states.fold((0, 0), |sum, state| (sum.0 + state.letters, sum.1 + state.bytes));
        listed.push(json!({
            "id": String::from_utf8_lossy(&id),
            "since": value.get("since"),
            "recipients": recipients.len(),
            "messages": letters,
            "bytes": bytes,
        }));
    }
    Ok(json!({"accounts": listed, "total": shared.db.count(ACCOUNTS)?}))
}

/// All recipients of an account.
fn recipients(shared: &Shared, account: &[u8]) -> Result<Vec<Did>, StoreError> {
    let mut found = Vec::new();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = shared.db.scan::<Did>(ACCOUNT_ROUTES, account, after.as_deref(), PAGE)?;
        let Some((last, _)) = page.last() else { return Ok(found) };
        after = Some(last.clone());
        found.extend(page.into_iter().map(|(_, did)| did));
    }
}

fn hex(MailboxId(id): MailboxId) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The fullest mailboxes, at most `most`, the fullest first. All are looked at, some at a time.
fn fullest(shared: &Shared, most: usize) -> Vec<(MailboxId, MailboxState)> {
    let now = shared.now().0;
    let (mut found, mut last) = (Vec::new(), None);
    loop {
        let page = shared.mail.mailboxes(last);
        let Some(newest) = page.last() else { return found };
        last = Some(*newest);
        found.extend(page.into_iter().map(|id| (id, shared.mail.state(id, now))));
        found.sort_by_key(|(_, state)| Reverse(state.letters));
        found.truncate(most);
    }
}

fn queues(shared: &Shared) -> Result<Value, StoreError> {
    let now = shared.now_ms();
    let mut entries = Vec::new();
    for (id, state) in fullest(shared, MAX_LISTED) {
        let (id, age) = (hex(id), state.oldest_ms.map(|at| now.saturating_sub(at) / 1000));
        // A damaged registration must not hide all mailboxes: it is what the operator is looking for.
        let route = shared.db.get::<Route>(ROUTES, &id).ok().flatten();
        let account = route.map(|route| did_id(&route.value.account));
        entries.push(json!({
            "id": id, "account": account, "messages": state.letters, "bytes": state.bytes, "oldest_seconds": age,
        }));
    }
    let mail = shared.mail.stats();
    Ok(json!({
        "accounts": shared.db.count(ACCOUNTS)?,
        "recipients": shared.db.count(ROUTES)?,
        "messages": mail.letters,
        "bytes": mail.bytes,
        "bytes_on_disk": mail.bytes_on_disk,
        "damaged": mail.damaged,
        "live": shared.live.count(),
        "queues": entries,
    }))
}

fn remove(shared: &Shared, id: &str, fx: &mut Effects<'_>) -> Result<Value, Failure> {
    if let Some(account) = shared.db.get::<Value>(ACCOUNTS, id)? {
        let recipients = recipients(shared, id.as_bytes())?;
        for did in &recipients {
            accounts::release(did, id, fx)?;
        }
        // A recipient registered meanwhile changes the account, and then this is done again.
        fx.remove(ACCOUNTS, id, account.version)?;
        return Ok(json!({"dropped": "account", "recipients": recipients.len()}));
    }
    let Some(route) = shared.db.get::<Value>(ROUTES, id)? else {
        return Err(Failure::user(format!(
            "there is no account or recipient `{id}`; see: einmal mediator accounts, einmal mediator queues"
        )));
    };
    let did = route.value.get("recipient").cloned().and_then(|did| serde_json::from_value::<Did>(did).ok());
    let mailbox = mailbox_id(&did.ok_or_else(|| Failure::damaged("a registration does not parse"))?);
    let messages = shared.mail.state(mailbox, shared.now().0).letters;
    fx.clear_mailbox(mailbox);
    Ok(json!({"dropped": "mail", "messages": messages}))
}

fn limits(shared: &Shared) -> Value {
    let settings = shared.config.mediator.clone().unwrap_or_default();
    let (limits, quota) = (&shared.config.limits, quota(&settings));
    json!({
        "messages_per_recipient": quota.letters,
        "bytes_per_recipient": quota.bytes,
        "messages_in_all": quota.total_letters,
        "bytes_in_all": quota.total_bytes,
        "bytes_per_message": MAX_QUEUED_PAYLOAD_BYTES,
        "seconds_kept": settings.keep_seconds.unwrap_or(DEFAULT_KEEP_SECS),
        "recipients_per_account": super::most_recipients(&settings),
        "requests_per_second_per_account":
            settings.max_account_requests_per_second.unwrap_or(rates::DEFAULT_PER_ACCOUNT),
        "proof_required": settings.require_proof,
        "connections": limits.connections(),
        "connections_per_address": limits.connections_per_address(),
        "requests_per_second_per_address": limits.requests_per_second(),
    })
}
