//! Invitations of this node: what each is for, and whether an answer to it still counts.

use einmal_did::{Did, Endpoint, Resolver, web};
use einmal_didcomm::{MessageId, ThreadId, UnixSeconds};
use einmal_flows::{
    Received,
    out_of_band::{Admission, Invitation, InvitationRecord, Uses},
};
use einmal_register::PersonId;
use einmal_storage::Table;
use serde::{Deserialize, Serialize};

use super::{
    devices,
    ids::{RequestId, TemplateId, stored_person},
};
use crate::{
    db::INVITATIONS,
    guard,
    handler::{Effects, Failure, KEEP_FOR_ANSWER_SECS, PeerFault, Shared, learn_for, their_form},
    transport,
};

/// Seconds an invitation lasts unless it says otherwise.
pub(crate) const VALID_SECS: u64 = 24 * 3600;

/// Invitations that were withdrawn, by their id.
const WITHDRAWN: Table = Table::new("withdrawn");
/// Seconds a withdrawal is remembered: longer than any exchange lasts.
const KEEP_WITHDRAWN_SECS: u64 = 60 * 24 * 3600;

/// Goal code of an invitation to connect.
pub(crate) const GOAL_CONNECT: &str = "einmal.connect";
/// Goal code of an invitation to receive a credential.
pub(crate) const GOAL_ISSUE: &str = "einmal.credential.issue";
/// Goal code of an invitation to present a credential.
pub(crate) const GOAL_PRESENT: &str = "einmal.credential.present";
/// Goal code of a mediator's invitation, as other mediators write it.
pub(crate) const GOAL_MEDIATE: &str = "request-mediate";

/// What an answer to an invitation starts.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Purpose {
    /// A relationship; with this person of the register, if one is named.
    Connect {
        #[serde(default, with = "stored_person")]
        person: Option<PersonId>,
    },
    /// Issuing a card.
    Issue(IssueOrder),
    /// Verifying by a request template.
    Request {
        #[serde(rename = "template")]
        request: RequestId,
    },
}

/// What is to be issued, and to whom.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "StoredOrder", into = "StoredOrder")]
pub(crate) struct IssueOrder {
    pub(crate) template: TemplateId,
    pub(crate) subject: Subject,
    /// Shortens the validity, in seconds.
    pub(crate) valid_for: Option<u64>,
}

/// The person a card is for.
#[derive(Clone)]
pub(crate) enum Subject {
    /// This person of the register.
    Person(PersonId),
    /// Any holder who first answers this request template.
    Prover {
        request: RequestId,
        /// The holder must be this person; orders of version 0.1 could say so.
        only: Option<PersonId>,
    },
}

impl Subject {
    /// The person the order names.
    pub(crate) fn person(&self) -> Option<&PersonId> {
        match self {
            Self::Person(person) => Some(person),
            Self::Prover { only, .. } => only.as_ref(),
        }
    }

    /// Whether something must be proved before the card is offered.
    pub(crate) fn must_prove(&self) -> bool {
        matches!(self, Self::Prover { .. })
    }
}

/// An order as it is stored.
#[derive(Clone, Serialize, Deserialize)]
struct StoredOrder {
    template: TemplateId,
    #[serde(default, with = "stored_person")]
    person: Option<PersonId>,
    #[serde(default)]
    after: Option<RequestId>,
    #[serde(default)]
    valid_for: Option<u64>,
}

impl TryFrom<StoredOrder> for IssueOrder {
    type Error = &'static str;

    fn try_from(stored: StoredOrder) -> Result<Self, &'static str> {
        let StoredOrder { template, person, after, valid_for } = stored;
        let subject = match (after, person) {
            (Some(request), only) => Subject::Prover { request, only },
            (None, Some(person)) => Subject::Person(person),
            (None, None) => return Err("the order says not for whom it is"),
        };
        Ok(Self { template, subject, valid_for })
    }
}

impl From<IssueOrder> for StoredOrder {
    fn from(order: IssueOrder) -> Self {
        let IssueOrder { template, subject, valid_for } = order;
        let (person, after) = match subject {
            Subject::Person(person) => (Some(person), None),
            Subject::Prover { request, only } => (only, Some(request)),
        };
        Self { template, person, after, valid_for }
    }
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

/// An invitation without a record: a mediator's, which anybody may use at any time.
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

/// The purpose of the invitation that a message answers; uses the invitation up if it is good for one peer only.
///
/// The flag is true if this sender has answered it before. `None` if the message answers no invitation of ours, or none
/// that is still open to this sender.
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
            learn_for(KEEP_FOR_ANSWER_SECS, &their_form(rx), fx)?;
            fx.update_expiring(INVITATIONS, &id, &record, record.expires, Some(stored.version))?;
        }
        Ok(_) => {}
        Err(refusal) => {
            tracing::info!(%refusal, "an answer to an invitation was not admitted");
            return Ok(None);
        }
    }
    Ok(Some((record.purpose, admission == Ok(Admission::Again))))
}

/// As [`take`], for a ping: one that answers an invitation which is not open to its sender is refused, so that whoever took it
/// is not told that all is well. A parent thread that names no invitation of ours is the sender's own affair.
pub(crate) fn take_to_connect(
    shared: &Shared,
    fx: &mut Effects<'_>,
    rx: &Received<'_>,
) -> Result<Option<(Purpose, bool)>, Failure> {
    let taken = take(shared, fx, rx)?;
    if let (None, Some(pthid)) = (&taken, &rx.message().pthid)
        && shared.db.exists(INVITATIONS, pthid.to_key())?
    {
        let comment = "this invitation is not open to you: another has answered it, or its time is over";
        return Err(Failure::peer(PeerFault::Request, comment));
    }
    Ok(taken)
}

/// The person whose device has answered this invitation to connect and still is theirs, if it named one and somebody has.
pub(crate) fn connected(shared: &Shared, thread: &str) -> Result<Option<PersonId>, Failure> {
    let Some(stored) = shared.db.get::<Record>(INVITATIONS, thread)? else { return Ok(None) };
    let Record { purpose: Purpose::Connect { person }, record, .. } = stored.value else { return Ok(None) };
    let (Some(own), Some(peer)) = (shared.public_did(), record.peer()) else { return Ok(None) };
    let device = devices::known_as(&shared.db, own, peer)?;
    Ok(person.filter(|_| device.is_some_and(|device| !device.superseded)))
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
        fx.remove(INVITATIONS, thread, stored.version)?;
    }
    fx.put_expiring(WITHDRAWN, thread, &shared.now(), shared.now().plus(KEEP_WITHDRAWN_SECS))?;
    Ok(stored.is_some())
}

/// Whether the invitation an exchange began with was withdrawn.
pub(crate) fn is_withdrawn(shared: &Shared, pthid: Option<&ThreadId>) -> Result<bool, Failure> {
    pthid.map_or(Ok(false), |pthid| is_withdrawn_by_key(shared, &pthid.to_key()))
}

/// As [`is_withdrawn`], for the invitation with this key.
pub(crate) fn is_withdrawn_by_key(shared: &Shared, key: &str) -> Result<bool, Failure> {
    Ok(shared.db.exists(WITHDRAWN, key)?)
}

/// The refusal of a second exchange on an invitation made for one.
pub(crate) fn answered_already() -> Failure {
    Failure::peer(PeerFault::Request, "this invitation was answered already")
}

/// Refuses at once, with the remedy, if the configuration forbids connecting to the inviter: otherwise messages would
/// only wait and be given up.
pub(crate) fn check_reachable(shared: &Shared, inviter: &Did) -> Result<(), Failure> {
    let network = &shared.config.network;
    let refused = |reason: &dyn std::fmt::Display| {
        Failure::user(format!("the inviter must not be connected to: {reason}"))
    };
    if inviter.method() == "web" {
        let place = web::location(inviter).map_err(|error| refused(&error))?;
        let local = place.host == "localhost" || place.host.parse::<std::net::IpAddr>().is_ok();
        let scheme = if local && network.allow_http { "http" } else { "https" };
        let host = if place.host == "localhost" { "127.0.0.1" } else { &place.host };
        return guard::check_url(&format!("{scheme}://{host}/"), network)
            .map(|_| ())
            .map_err(|error| refused(&error));
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
    reason.map_or(Ok(()), |reason| Err(refused(&reason)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn order(stored: Value) -> Option<IssueOrder> {
        serde_json::from_value(stored).ok()
    }

    /// The purposes in invitations that are under way today.
    #[test]
    fn purposes_are_stored_as_they_were_before_there_were_types_for_them() {
        let stored = [
            json!({"connect": {"person": null}}),
            json!({"connect": {"person": "A-1"}}),
            json!({"issue": {"template": "resident-card", "person": "A-1", "after": null, "valid_for": 60}}),
            json!({"issue": {"template": "library-card", "person": null, "after": "signup", "valid_for": null}}),
            json!({"issue": {"template": "library-card", "person": "A-1", "after": "signup", "valid_for": null}}),
            json!({"request": {"template": "library-card"}}),
        ];
        for json in stored {
            let purpose: Purpose = serde_json::from_value(json.clone()).unwrap();
            assert_eq!(serde_json::to_value(&purpose).unwrap(), json);
        }
    }

    #[test]
    fn no_goal_of_ours_passes_for_that_of_a_mediator_in_the_configuration() {
        for goal in [GOAL_CONNECT, GOAL_ISSUE, GOAL_PRESENT] {
            let invitation =
                bare("1".try_into().unwrap(), "did:example:a".parse().unwrap(), (goal, "".into()));
            assert!(crate::config::mediator_of(&invitation.to_url("https://a.example")).is_err(), "{goal}");
        }
    }

    #[test]
    fn order_is_for_a_person_or_for_who_proves_something() {
        let named =
            order(json!({"template": "t", "person": "A-1", "after": null, "valid_for": null})).unwrap();
        assert!(matches!(&named.subject, Subject::Person(person) if person.as_str() == "A-1"));
        let open = order(json!({"template": "t", "person": null, "after": "r", "valid_for": null})).unwrap();
        assert!(open.subject.must_prove() && open.subject.person().is_none());
        // An order that has both conditions keeps both.
        let both = order(json!({"template": "t", "person": "A-1", "after": "r", "valid_for": null})).unwrap();
        assert!(both.subject.must_prove() && both.subject.person().is_some());
        assert!(order(json!({"template": "t", "person": null, "after": null, "valid_for": null})).is_none());
        assert!(order(json!({"template": "t", "person": "", "after": null, "valid_for": null})).is_none());
    }
}
