//! The inviting side: which response to an invitation is accepted.

use einmal_did::Did;
use einmal_didcomm::{MessageId, ThreadId, UnixSeconds};
use serde::{Deserialize, Serialize};

use super::Invitation;
use crate::{Received, limits::MAX_INVITATION_USES};

/// How often an invitation may be answered. The message does not say so; the inviter remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Uses {
    /// By one peer, such as on a citizen's letter.
    Single,
    /// By anyone, such as on the shop's counter, at most [`MAX_INVITATION_USES`] times.
    Multi,
}

/// Where an invitation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Made, but not given out.
    Created,
    /// Given out.
    Sent,
    /// Answered; nobody else may answer it.
    Connected,
    /// Its time is over.
    Expired,
}

/// What the inviter remembers of an invitation.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct InvitationRecord {
    id: MessageId,
    from: Did,
    uses: Uses,
    expires: Option<UnixSeconds>,
    state: State,
    responses: u32,
    peer: Option<Did>,
}

/// A response is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// The first message of this peer.
    New,
    /// The peer that used up the invitation writes again below it.
    Again,
}

/// A response is not accepted. The record is unchanged, except that it may have expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The message names another parent thread.
    #[error("the message does not answer this invitation")]
    OtherInvitation,
    /// The message was sent to another DID than the one that invited.
    #[error("the message was sent to another DID than the one that invited")]
    WrongRecipient,
    /// Too late.
    #[error("the invitation has expired")]
    Expired,
    /// Answered before by someone else, or too often.
    #[error("the invitation is used up")]
    UsedUp,
}

impl InvitationRecord {
    /// Remembers `invitation`.
    pub fn new(invitation: &Invitation, uses: Uses) -> Self {
        Self {
            id: invitation.id.clone(),
            from: invitation.from.clone(),
            uses,
            expires: invitation.expires_time,
            state: State::Created,
            responses: 0,
            peer: None,
        }
    }

    /// The thread responses name as their parent.
    pub fn thread(&self) -> ThreadId {
        self.id.to_thread()
    }

    /// Where the invitation stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// Records that the invitation was given out.
    pub fn mark_sent(&mut self) {
        if self.state == State::Created {
            self.state = State::Sent;
        }
    }

    /// Lets the invitation expire if its time is over.
    pub fn tick(&mut self, now: UnixSeconds) {
        let over = self.expires.is_some_and(|end| end <= now);
        if over && matches!(self.state, State::Created | State::Sent) {
            self.state = State::Expired;
        }
    }

    /// Who has used it up, if it is good for one only.
    pub fn peer(&self) -> Option<&Did> {
        self.peer.as_ref()
    }

    /// Decides about a message that names this invitation as its parent thread.
    ///
    /// An invitation that was never marked as sent may still be answered: it may have been shown.
    ///
    /// # Errors
    ///
    /// [`Refusal`].
    ///
    /// # Specification
    ///
    /// DIDComm Messaging v2.1, "Out Of Band Messages", on `pthid`.
    pub fn admit(&mut self, received: &Received<'_>, now: UnixSeconds) -> Result<Admission, Refusal> {
        if received.message().pthid.as_ref() != Some(&self.thread()) {
            return Err(Refusal::OtherInvitation);
        }
        if !received.recipient().same_as(&self.from) {
            return Err(Refusal::WrongRecipient);
        }
        self.tick(now);
        match self.state {
            State::Expired => Err(Refusal::Expired),
            State::Connected => {
                let known = self.peer.as_ref().is_some_and(|peer| peer.same_as(received.sender()));
                if known { Ok(Admission::Again) } else { Err(Refusal::UsedUp) }
            }
            State::Created | State::Sent if self.responses >= MAX_INVITATION_USES => Err(Refusal::UsedUp),
            State::Created | State::Sent => {
                self.responses += 1;
                self.state = State::Sent;
                if self.uses == Uses::Single {
                    self.peer = Some(received.sender().clone());
                    self.state = State::Connected;
                }
                Ok(Admission::New)
            }
        }
    }
}

/// Names no peer.
impl std::fmt::Debug for InvitationRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InvitationRecord")
            .field("id", &self.id.as_str())
            .field("state", &self.state)
            .field("responses", &self.responses)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        out_of_band::messages::example,
        testing::{NOW, Post, did, restart},
    };

    fn response(from: &str, pthid: &str) -> Post {
        let message = json!({"id": "m", "type": "https://didcomm.org/trust-ping/2.0/ping", "pthid": pthid});
        Post::new(from, "did:example:shop", message)
    }

    fn record(uses: Uses) -> InvitationRecord {
        let mut record = InvitationRecord::new(&example(), uses);
        assert_eq!(record.state(), State::Created);
        record.mark_sent();
        record
    }

    const A: &str = "did:example:a";
    const B: &str = "did:example:b";

    #[test]
    fn single_use_invitation_belongs_to_who_answers_first() {
        let mut record = record(Uses::Single);
        assert_eq!(record.admit(&response(A, "oob-1").received(), NOW), Ok(Admission::New));
        assert_eq!(record.state(), State::Connected);
        let mut record = restart(&record);
        assert_eq!(record.admit(&response(A, "OOB-1").received(), NOW), Ok(Admission::Again));
        assert_eq!(record.admit(&response(B, "oob-1").received(), NOW), Err(Refusal::UsedUp));
        // Expiry does not undo a connection.
        assert_eq!(record.admit(&response(A, "oob-1").received(), UnixSeconds(9_999)), Ok(Admission::Again));
    }

    #[test]
    fn multi_use_invitation_is_answered_by_many_until_it_expires() {
        let mut record = record(Uses::Multi);
        for from in [A, B, A] {
            assert_eq!(
                record.admit(&response(from, "oob-1").received(), UnixSeconds(1_999)),
                Ok(Admission::New)
            );
        }
        assert_eq!((record.responses, record.state()), (3, State::Sent));
        let late = record.admit(&response(A, "oob-1").received(), UnixSeconds(2_000));
        assert_eq!((late, record.state()), (Err(Refusal::Expired), State::Expired));
        record.responses = MAX_INVITATION_USES;
        record.state = State::Sent;
        assert_eq!(record.admit(&response(A, "oob-1").received(), NOW), Err(Refusal::UsedUp));
    }

    #[test]
    fn answers_to_other_invitations_or_other_dids_are_refused() {
        let mut record = record(Uses::Multi);
        let other = record.admit(&response(A, "oob-2").received(), NOW);
        assert_eq!(other, Err(Refusal::OtherInvitation));
        let elsewhere = Post { recipient: did("did:example:else"), ..response(A, "oob-1") };
        assert_eq!(record.admit(&elsewhere.received(), NOW), Err(Refusal::WrongRecipient));
    }
}
