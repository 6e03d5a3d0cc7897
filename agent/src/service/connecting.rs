//! Relationships that an invitation to connect begins: under way until the other side has answered.

use einmal_did::Did;
use einmal_didcomm::ThreadId;
use einmal_flows::{
    Draft, Received,
    out_of_band::Invitation,
    report_problem::{self, is_report},
    trust_ping::Ping,
};
use einmal_storage::Table;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::devices;
use crate::{
    db::{PEERS, peer_id},
    handler::{Effects, Failure, Handled, KEEP_FOR_ANSWER_SECS, Shared, our_form, their_form},
    identity::{self, Peer},
};

/// What was begun, by the thread of its invitation.
const CONNECTING: Table = Table::new("connecting");
/// The invitation a ping of ours answered, by the thread of the ping: a refusal names that one.
const PINGS: Table = Table::new("connecting-ping");
/// Seconds both are remembered.
const KEEP_SECS: u64 = 30 * 24 * 3600;

/// What became of an invitation to connect.
#[derive(Clone, Serialize, Deserialize)]
struct Connecting {
    ours: Did,
    theirs: Did,
    /// What the other side said if it refused.
    #[serde(default)]
    refused: Option<String>,
}

impl Connecting {
    fn of_key(shared: &Shared, key: &str) -> Result<Option<Self>, Failure> {
        Ok(shared.db.get::<Self>(CONNECTING, key)?.map(|stored| stored.value))
    }

    /// Whether nothing was heard yet. Who has rotated has been heard: its record bears another name then.
    fn is_open(&self, shared: &Shared) -> Result<bool, Failure> {
        let peer = identity::peer_of(&shared.db, &self.ours, &self.theirs)?;
        Ok(self.refused.is_none() && peer.is_some_and(|peer| !peer.value.knows_us))
    }
}

/// Notes who has answered an invitation for many, so that they can be written to: for as long as the long form of their DID is kept,
/// since everybody who sees the invitation may answer it.
pub(crate) fn meet(rx: &Received<'_>, fx: &mut Effects<'_>) -> Handled {
    // Also by the DID it had until this message: the relationship moves along with it.
    if devices::present(rx, fx)?.is_some() {
        return Ok(());
    }
    let now = fx.shared().now();
    let peer = Peer { knows_us: true, ..Peer::new(our_form(rx), their_form(rx), now) };
    let until = now.plus(KEEP_FOR_ANSWER_SECS);
    Ok(fx.update_expiring(PEERS, peer_id(rx.recipient(), rx.sender()), &peer, until, None)?)
}

/// Says hello to the inviter: the first message makes the relationship, and the other side takes it from there.
pub(crate) fn begin(shared: &Shared, invitation: &Invitation, ours: Did, fx: &mut Effects<'_>) -> Handled {
    let (pthid, id) = (invitation.thread(), shared.fresh_id()?);
    let until = shared.now().plus(KEEP_SECS);
    fx.put_expiring(PINGS, id.to_key(), &pthid.to_key(), until)?;
    let ping = Draft::of(&Ping { response_requested: true }).with_id(id).child_of(pthid.clone());
    fx.send(ping, &ours, &invitation.from)?;
    let begun = Connecting { ours, theirs: invitation.from.clone(), refused: None };
    Ok(fx.put_expiring(CONNECTING, pthid.to_key(), &begun, until)?)
}

/// Whether this invitation was taken before and its inviter has not refused: a second hello would be, if it is good for one
/// only, and else make a second relationship.
pub(crate) fn goes_on(shared: &Shared, invitation: &Invitation) -> Result<bool, Failure> {
    let begun = Connecting::of_key(shared, &invitation.thread().to_key())?;
    let begun = begun.filter(|begun| begun.theirs.same_as(&invitation.from));
    Ok(begun.is_some_and(|begun| begun.refused.is_none()))
}

/// Where it stands; `None` if nothing was begun in this thread.
pub(crate) fn progress(shared: &Shared, thread: &str) -> Result<Option<Value>, Failure> {
    let Ok(key) = ThreadId::try_from(thread).map(|thread| thread.to_key()) else { return Ok(None) };
    let Some(begun) = Connecting::of_key(shared, &key)? else { return Ok(None) };
    let is_open = begun.is_open(shared)?;
    let state = match (&begun.refused, is_open) {
        (Some(_), _) => "abandoned",
        (None, true) => "connecting",
        (None, false) => "connected",
    };
    Ok(Some(json!({"thread": thread, "state": state, "pending": is_open, "reason": begun.refused})))
}

/// Notes that the inviter refused, if that is what the report is about.
pub(crate) fn note_refusal(shared: &Shared, rx: &Received<'_>, fx: &mut Effects<'_>) -> Handled {
    if !is_report(&rx.message().kind) {
        return Ok(());
    }
    let problem = report_problem::read(rx)?;
    let Some(key) = shared.db.get::<String>(PINGS, problem.thread.to_key())?.map(|stored| stored.value)
    else {
        return Ok(());
    };
    let by = |begun: &Connecting| begun.ours.same_as(rx.recipient()) && begun.theirs.same_as(rx.sender());
    if let Some(begun) = Connecting::of_key(shared, &key)?.filter(by) {
        let refused = Connecting { refused: Some(problem.report.render()), ..begun };
        fx.put_expiring(CONNECTING, &key, &refused, shared.now().plus(KEEP_SECS))?;
    }
    Ok(())
}
