//! Text messages: kept for the user to read, sent to a peer by name.

use std::ops::ControlFlow;

use einmal_did::Did;
use einmal_didcomm::UnixSeconds;
use einmal_flows::{Received, basic_message};
use einmal_storage::Table;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    db::{Listed, PEERS, digest_id},
    handler::{Effects, Failure, Handled, Shared, list_of, text},
    identity::Peer,
};

/// Messages that arrived, in the order they did.
const INBOX: Table = Table::new("inbox");
/// Seconds an arrived message is kept.
const KEEP_SECS: u64 = 90 * 24 * 3600;
/// Most messages listed at once.
const MAX_LISTED: usize = 10_000;

#[derive(Serialize, Deserialize)]
struct Stored {
    from: Did,
    text: String,
    at: UnixSeconds,
}

/// Keeps an arrived text message.
pub(crate) fn take(shared: &Shared, rx: &Received<'_>, fx: &mut Effects<'_>) -> Handled {
    let text = basic_message::read(rx, shared.now())?;
    let stored = Stored { from: rx.sender().clone(), text: text.content, at: shared.now() };
    let mut id = shared.now_ms().to_be_bytes().to_vec();
    // Ids are the sender's choice: with the sender in it, no message takes the place of another's.
    id.extend_from_slice(digest_id(&[rx.sender().as_str(), &rx.message().id.to_key()]).as_bytes());
    Ok(fx.put_expiring(INBOX, id, &stored, shared.now().plus(KEEP_SECS))?)
}

/// Lists arrived messages, newest first.
pub(crate) fn inbox(shared: &Shared) -> Result<Value, Failure> {
    let Listed { records, cut } = shared.db.last::<Stored>(INBOX, MAX_LISTED)?;
    let shown = records.into_iter().map(|(_, m)| json!({"from": m.from, "text": m.text, "at": m.at}));
    let left_out = format!("messages older than these {MAX_LISTED}");
    Ok(list_of(shown.collect(), cut.then_some(left_out)))
}

/// Sends a text to a peer, named by its DID or by the label of the relationship.
pub(crate) fn send(shared: &Shared, input: &Value, fx: &mut Effects<'_>) -> Result<Value, Failure> {
    let (to, content) = (text(input, "to")?, text(input, "text")?);
    let peers = find_peers(shared, to)?;
    if peers.is_empty() {
        return Err(Failure::user(format!(
            "no relationship with `{to}` that can be written to; connect first with an invitation: einmal invite"
        )));
    }
    for peer in &peers {
        fx.send(basic_message::compose(content)?, &peer.ours, &peer.theirs)?;
    }
    Ok(json!({"sent": true, "devices": peers.len()}))
}

/// The relationships with a DID or a label that have a way to be written to, newest first: one person may have
/// several devices.
pub(crate) fn find_peers(shared: &Shared, name: &str) -> Result<Vec<Peer>, Failure> {
    let did = Did::parse(name).ok();
    let mut found: Vec<Peer> = Vec::new();
    shared.db.each(PEERS, |_, peer: Peer| {
        let by_did = did.as_ref().is_some_and(|did| peer.theirs.same_as(did));
        if (by_did || peer.label.as_deref() == Some(name))
            && !peer.superseded
            && shared.can_be_sent_to(&peer.theirs)
        {
            found.push(peer);
        }
        Ok::<_, Failure>(ControlFlow::Continue(()))
    })?;
    found.sort_by_key(|peer| std::cmp::Reverse(peer.since));
    Ok(found)
}
