//! Invitations of this node: what each is for, and whether an answer to it still counts.

use einmal_did::{Did, Endpoint, Resolver, web};
use einmal_didcomm::{MessageId, ProblemCode, ThreadId, UnixSeconds};
use einmal_flows::{
    Received,
    out_of_band::{Admission, Invitation, InvitationRecord, Uses},
};
use einmal_storage::Table;
use serde::{Deserialize, Serialize};

use crate::{
    db::INVITATIONS,
    guard,
    handler::{Effects, Failure, Shared, learn, their_form},
    transport,
};

/// Seconds an invitation lasts unless it says otherwise.
pub(crate) const VALID_SECS: u64 = 24 * 3600;

/// Invitations that were taken back, by their id.
const WITHDRAWN: Table = Table::new("withdrawn");
/// Seconds that is remembered: longer than any exchange lasts.
const KEEP_WITHDRAWN_SECS: u64 = 60 * 24 * 3600;

/// Goal code of an invitation to connect.
pub(crate) const GOAL_CONNECT: &str = "einmal.connect";
/// Goal code of an invitation to receive a credential.
pub(crate) const GOAL_ISSUE: &str = "einmal.credential.issue";
/// Goal code of an invitation to present a credential.
pub(crate) const GOAL_PRESENT: &str = "einmal.credential.present";
/// Goal code of a mediator's invitation, as other mediators write it.
pub(crate) const GOAL_MEDIATE: &str = "request-mediate";

/// What an answer to an invitation sets going.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Purpose {
    /// A relationship; with this person of the register, if one is named.
    Connect { person: Option<String> },
    /// Issuing a card.
    Issue(IssueOrder),
    /// Verifying by a request template.
    Request { template: String },
}

/// What is to be issued, to whom, on what condition.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct IssueOrder {
    /// Credential template.
    pub(crate) template: String,
    /// Person of the register.
    pub(crate) person: Option<String>,
    /// Request template that must be answered first.
    pub(crate) after: Option<String>,
    /// Shortens the validity, in seconds.
    pub(crate) valid_for: Option<u64>,
}

/// An invitation as stored. `Debug` is left out on purpose: it names a person.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) purpose: Purpose,
    pub(crate) record: InvitationRecord,
    pub(crate) expires: UnixSeconds,
}

/// Makes an invitation, writes down what it is for, and returns it with its URL.
pub(crate) fn create(
    shared: &Shared,
    fx: &mut Effects<'_>,
    purpose: Purpose,
    goal: (&str, String),
    uses: Uses,
) -> Result<(MessageId, String), Failure> {
    let from = public_did(shared)?;
    let id = shared.fresh_id()?;
    let expires = shared.now().plus(VALID_SECS);
    let mut invitation = bare(id.clone(), from, goal);
    invitation.expires_time = Some(expires);
    let mut record = InvitationRecord::new(&invitation, uses);
    record.mark_sent();
    fx.put_expiring(INVITATIONS, id.to_key(), &Record { purpose, record, expires }, expires)?;
    Ok((id, invitation.to_url(shared.invitation_base())))
}

/// An invitation that nothing is remembered of: a mediator's, which anybody may use at any time.
pub(crate) fn standing(shared: &Shared, goal: (&str, String)) -> Result<(MessageId, String), Failure> {
    let from = public_did(shared)?;
    let id = shared.fresh_id()?;
    let url = bare(id.clone(), from, goal).to_url(shared.invitation_base());
    Ok((id, url))
}

fn bare(id: MessageId, from: Did, (code, text): (&str, String)) -> Invitation {
    let mut invitation = Invitation::new(id, from);
    invitation.goal_code = Some(code.to_owned());
    invitation.goal = Some(text);
    invitation
}

fn public_did(shared: &Shared) -> Result<Did, Failure> {
    shared.public_did().cloned().ok_or_else(|| {
        Failure::user("a citizen shows no public DID and cannot invite; take an invitation instead")
    })
}

/// What the invitation an arriving message answers is for; uses it up if it is good for one peer only.
///
/// The flag is true if this sender has answered it before. `None` if the message answers no invitation of ours, or
/// none that is still open to this sender.
pub(crate) fn take(
    shared: &Shared,
    fx: &mut Effects<'_>,
    rx: &Received<'_>,
) -> Result<Option<(Purpose, bool)>, Failure> {
    let Some(pthid) = &rx.message().pthid else { return Ok(None) };
    let id = pthid.to_key();
    let Some(stored) = shared.db.get::<Record>(INVITATIONS, &id)? else { return Ok(None) };
    let mut record = stored.value;
    let admission = record.record.admit(rx, shared.now());
    match &admission {
        Ok(Admission::New) => {
            learn(&their_form(rx), fx)?;
            let key = fx.db().key(INVITATIONS, &id)?;
            fx.batch().expect_version(key, stored.version);
            fx.put_expiring(INVITATIONS, &id, &record, record.expires)?;
        }
        Ok(_) => {}
        Err(refusal) => {
            tracing::info!(%refusal, "an answer to an invitation was not admitted");
            return Ok(None);
        }
    }
    Ok(Some((record.purpose, admission == Ok(Admission::Again))))
}

/// Takes an invitation back, also from whoever has answered it; `was_answered` says that somebody has. False if there is none that is
/// open.
pub(crate) fn withdraw(
    shared: &Shared,
    thread: &str,
    was_answered: bool,
    fx: &mut Effects<'_>,
) -> Result<bool, Failure> {
    let stored = shared.db.get::<Record>(INVITATIONS, thread)?;
    if stored.is_none() && !was_answered {
        return Ok(false);
    }
    if let Some(stored) = &stored {
        let key = fx.db().key(INVITATIONS, thread)?;
        fx.batch().expect_version(key, stored.version);
        fx.delete(INVITATIONS, thread)?;
    }
    fx.put_expiring(WITHDRAWN, thread, &shared.now(), shared.now().plus(KEEP_WITHDRAWN_SECS))?;
    Ok(stored.is_some())
}

/// Whether the invitation an exchange began with was taken back.
pub(crate) fn is_withdrawn(shared: &Shared, pthid: Option<&ThreadId>) -> Result<bool, Failure> {
    pthid.map_or(Ok(false), |pthid| Ok(shared.db.exists(WITHDRAWN, pthid.to_key())?))
}

/// The name of the exchange that answered a single-use invitation.
pub(crate) fn answered_by(pthid: &ThreadId) -> String {
    format!("below:{}:answer", pthid.to_key())
}

/// The refusal of a second exchange on an invitation that was made for one.
pub(crate) fn answered_already() -> Failure {
    Failure::peer(ProblemCode::REQUEST, "this invitation was answered already")
}

/// Says at once, with the remedy, if the configuration forbids to connect to whoever invites: otherwise messages
/// would only wait and be given up.
pub(crate) fn check_reachable(shared: &Shared, inviter: &Did) -> Result<(), Failure> {
    let network = &shared.config.network;
    let refused = |reason: String| Failure::user(format!("the inviter must not be connected to: {reason}"));
    if inviter.method() == "web" {
        let place = web::location(inviter).map_err(|error| refused(error.to_string()))?;
        let local = place.host == "localhost" || place.host.parse::<std::net::IpAddr>().is_ok();
        let scheme = if local && network.allow_http { "http" } else { "https" };
        let host = if place.host == "localhost" { "127.0.0.1" } else { &place.host };
        return guard::check_url(&format!("{scheme}://{host}/"), network).map(|_| ()).map_err(refused);
    }
    let Ok(document) = shared.resolver.resolve(inviter) else { return Ok(()) };
    let by_peers = |endpoint: &Endpoint| transport::is_one_way(&endpoint.uri);
    if shared.peer_endpoint().is_some() && document.didcomm_endpoints().any(by_peers) {
        return Ok(());
    }
    let mut reason = None;
    for endpoint in document.didcomm_endpoints().filter(|endpoint| endpoint.uri.starts_with("http")) {
        match guard::check_url(&endpoint.uri, network) {
            Ok(_) => return Ok(()),
            Err(problem) => reason = Some(problem),
        }
    }
    reason.map_or(Ok(()), |reason| Err(refused(reason)))
}
