//! Text messages: kept for the user to read, sent to a peer by name.

use std::{collections::BTreeMap, ops::ControlFlow};

use einmal_did::Did;
use einmal_didcomm::UnixSeconds;
use einmal_flows::{Received, basic_message};
use einmal_storage::Table;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    command::SendText,
    config::Role,
    db::{PEERS, digest_id},
    handler::{BoundedList, Effects, Failure, Handled, PeerFault, Shared},
    identity::{Peer, peer_of},
};

/// Messages that arrived, in order of arrival.
const INBOX: Table = Table::new("inbox");
/// Messages of senders without a relationship, in order of arrival.
const STRANGERS_INBOX: Table = Table::new("strangers-inbox");
/// Most of these messages; beyond that the oldest are removed. With [`MAX_STRANGERS_TEXT`] they take 16 MiB at most.
const MAX_OF_STRANGERS: usize = 1_000;
/// Longest text of such a sender, in bytes.
const MAX_STRANGERS_TEXT: usize = 16 * 1024;
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

/// Keeps an arrived text message. Anybody can write to a public DID, so strangers' messages have bounds of their own.
pub(crate) fn take(shared: &Shared, rx: &Received<'_>, fx: &mut Effects<'_>) -> Handled {
    let text = basic_message::read(rx, shared.now())?;
    let table = if is_known(shared, rx)? { INBOX } else { STRANGERS_INBOX };
    if table == STRANGERS_INBOX {
        if text.content.len() > MAX_STRANGERS_TEXT {
            let comment = "a text of somebody who is not known here is shorter";
            return Err(Failure::peer(PeerFault::Request, comment));
        }
        make_room(shared, fx)?;
    }
    let stored = Stored { from: rx.sender().clone(), text: text.content, at: shared.now() };
    let mut id = shared.now_ms().to_be_bytes().to_vec();
    // Ids are the sender's choice: with the sender in the record id, no message replaces another sender's.
    id.extend_from_slice(digest_id(&[rx.sender().as_str(), &rx.message().id.to_key()]).as_bytes());
    Ok(fx.put_expiring(table, id, &stored, shared.now().plus(KEEP_SECS))?)
}

/// Whether there is a relationship with the sender that not everybody could begin, also under the DID it rotates away from with this
/// message.
fn is_known(shared: &Shared, rx: &Received<'_>) -> Result<bool, Failure> {
    let begun_by_us = shared.config.role == Role::Citizen;
    for sender in std::iter::once(rx.sender()).chain(rx.prior()) {
        let peer = peer_of(&shared.db, rx.recipient(), sender)?;
        if peer.is_some_and(|peer| begun_by_us || peer.value.label.is_some()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Removes the oldest messages of strangers to make room for one more.
fn make_room(shared: &Shared, fx: &mut Effects<'_>) -> Handled {
    let kept = usize::try_from(shared.db.count(STRANGERS_INBOX)?).unwrap_or(usize::MAX);
    let Some(surplus) = (kept + 1).checked_sub(MAX_OF_STRANGERS).filter(|&surplus| surplus > 0) else {
        return Ok(());
    };
    for record in shared.db.scan_raw(STRANGERS_INBOX, b"", None, surplus.min(MAX_OF_STRANGERS))? {
        fx.delete(STRANGERS_INBOX, record.key.id())?;
    }
    Ok(())
}

/// Lists arrived messages, newest first, with the name their sender goes by here.
pub(crate) fn inbox(shared: &Shared) -> Result<Value, Failure> {
    let mut names: BTreeMap<Did, String> = BTreeMap::new();
    shared.db.each(PEERS, |_, peer: Peer| {
        if let Some(label) = peer.label {
            names.insert(peer.theirs.canonical(), label);
        }
        Ok::<_, Failure>(ControlFlow::Continue(()))
    })?;
    let mut all = shared.db.last::<Stored>(INBOX, MAX_LISTED + 1)?.records;
    all.extend(shared.db.last::<Stored>(STRANGERS_INBOX, MAX_OF_STRANGERS)?.records);
    all.sort_by(|(one, _), (other, _)| other.cmp(one));
    let mut shown = BoundedList::of(MAX_LISTED);
    for (_, m) in all {
        let name = names.get(&m.from.canonical());
        shown.push(json!({"from": m.from, "name": name, "text": m.text, "at": m.at}));
    }
    Ok(shown.into_value(|_| "messages older than these".to_owned()))
}

/// Sends a text to a peer, named by its DID or by the label of the relationship: in the newest relationship with it. Which of
/// several are of one device cannot be told, and a device would show it once for each; with `all` it goes out in each of them.
pub(crate) fn send(shared: &Shared, letter: &SendText, fx: &mut Effects<'_>) -> Result<Value, Failure> {
    let SendText { to, text, all } = letter;
    let mut peers = find_peers(shared, to)?;
    if peers.is_empty() {
        let how = if shared.config.role == Role::Citizen {
            "take an invitation of theirs first: einmal accept URL"
        } else {
            "connect first with an invitation: einmal invite"
        };
        return Err(Failure::user(format!("no relationship with `{to}` that can be written to; {how}")));
    }
    let found = peers.len();
    if !all {
        peers.truncate(1);
    }
    for peer in &peers {
        fx.send(basic_message::compose(text)?, &peer.ours, &peer.theirs)?;
    }
    Ok(json!({"sent": true, "relationships": peers.len(), "older": found - peers.len()}))
}

/// Lists the peers there are relationships with: the DID of each, in how many, and since when the newest.
pub(crate) fn peers(shared: &Shared) -> Result<Value, Failure> {
    let mut known: BTreeMap<Did, (usize, UnixSeconds)> = BTreeMap::new();
    shared.db.each(PEERS, |_, peer: Peer| {
        if !peer.superseded {
            let (count, since) = known.entry(peer.theirs.canonical()).or_insert((0, peer.since));
            *count += 1;
            *since = peer.since.max(*since);
        }
        // One beyond those that are listed, by which it shows that there are more.
        let enough = known.len() > MAX_LISTED;
        Ok::<_, Failure>(if enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    let mut shown = BoundedList::of(MAX_LISTED);
    for (peer, (count, since)) in known {
        shown.push(json!({"peer": peer, "relationships": count, "since": since}));
    }
    Ok(shown.into_value(|_| "more peers than are listed".to_owned()))
}

/// The relationships with a DID or a label that have a way to be written to, newest first. One person may have several: of
/// several devices, or of several cards that were taken on one.
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
