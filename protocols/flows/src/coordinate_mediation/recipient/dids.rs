//! The DIDs of one account, and where each of them stands.

use einmal_did::Did;
use einmal_didcomm::{Attachment, ThreadId};

use super::{Action, MAX_REGISTRATIONS, open};
use crate::{
    Draft, FlowError, Received,
    coordinate_mediation::{RecipientUpdate, RecipientUpdateResponse, Update, UpdateAction, UpdateResult},
};

/// Where one DID stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DidState {
    /// The mediator takes no messages for it.
    Unregistered,
    /// Waiting for the mediator to register it.
    Registering,
    /// The mediator takes messages for it.
    Registered,
    /// Waiting for the mediator to forget it.
    Removing,
}

#[derive(Clone, PartialEq)]
struct Entry {
    did: Did,
    state: DidState,
    /// Kept after the answer, so that a repeated answer is recognised.
    thid: ThreadId,
}

/// All of them but those that are not registered.
#[derive(Clone, Default, PartialEq)]
pub(super) struct Dids(Vec<Entry>);

impl Entry {
    fn is_waiting(&self) -> bool {
        matches!(self.state, DidState::Registering | DidState::Removing)
    }
}

impl Dids {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn state(&self, did: &Did) -> DidState {
        let entry = self.0.iter().find(|entry| entry.did.same_as(did));
        entry.map_or(DidState::Unregistered, |entry| entry.state)
    }

    pub(super) fn register(
        &mut self,
        did: Did,
        thid: ThreadId,
        proof: Option<Box<Attachment>>,
    ) -> Result<Vec<Action>, FlowError> {
        if self.0.len() >= MAX_REGISTRATIONS {
            return Err(FlowError::TooMany { what: "registrations", most: MAX_REGISTRATIONS });
        }
        match self.state(&did) {
            DidState::Unregistered => {}
            DidState::Registered => return Ok(vec![Action::Registered { did }]),
            DidState::Registering | DidState::Removing => return Err(busy("Register")),
        }
        let mut draft = update(&did, UpdateAction::Add);
        draft.attachments.extend(proof.map(|proof| *proof));
        self.0.push(Entry { did, state: DidState::Registering, thid: thid.clone() });
        Ok(vec![open(thid, draft)])
    }

    pub(super) fn unregister(&mut self, did: Did, thid: ThreadId) -> Result<Vec<Action>, FlowError> {
        let Some(entry) = self.0.iter_mut().find(|entry| entry.did.same_as(&did)) else {
            return Ok(vec![Action::Unregistered { did }]);
        };
        if entry.state != DidState::Registered {
            return Err(busy("Unregister"));
        }
        entry.thid = thid.clone();
        entry.state = DidState::Removing;
        Ok(vec![open(thid, update(&entry.did, UpdateAction::Remove))])
    }

    pub(super) fn take_response(&mut self, received: &Received<'_>) -> Result<Vec<Action>, FlowError> {
        let thread = received.message().thread();
        let mut waiting = self.0.iter().enumerate().filter(|(_, entry)| entry.is_waiting());
        // As for an account; but if several requests wait, nobody knows which one is meant.
        let loose = match (received.message().thid.is_none(), waiting.next(), waiting.next()) {
            (true, Some((at, _)), None) => Some(at),
            _ => None,
        };
        let named = self.0.iter().position(|entry| entry.thid == thread);
        let at = named.or(loose).ok_or(FlowError::WrongThread)?;
        let RecipientUpdateResponse { updated } = received.body(&[])?;
        let entry = self.0.get(at).ok_or(FlowError::WrongThread)?;
        let wanted = match entry.state {
            DidState::Registering => UpdateAction::Add,
            DidState::Removing => UpdateAction::Remove,
            // Already answered.
            DidState::Registered | DidState::Unregistered => return Ok(vec![]),
        };
        let names = |text: &str| Did::parse(text).is_ok_and(|did| did.same_as(&entry.did));
        let result = updated
            .iter()
            .find(|updated| updated.action == wanted && names(&updated.recipient_did))
            .map(|updated| updated.result)
            .ok_or(FlowError::InvalidContent { what: "updated" })?;
        Ok(self.settle(at, Some(result)))
    }

    /// Ends waiting for the DID of the request in `thread`, about which a problem was reported.
    pub(super) fn fail(&mut self, thread: &ThreadId) -> Result<Vec<Action>, FlowError> {
        let at = self.0.iter().position(|entry| entry.is_waiting() && entry.thid == *thread);
        at.map(|at| self.settle(at, None)).ok_or(FlowError::WrongThread)
    }

    /// Ends waiting for one DID; `None` means that a problem was reported.
    fn settle(&mut self, at: usize, result: Option<UpdateResult>) -> Vec<Action> {
        let done = matches!(result, Some(UpdateResult::Success | UpdateResult::NoChange));
        let Some(entry) = self.0.get_mut(at) else { return vec![] };
        let did = entry.did.clone();
        let registering = entry.state == DidState::Registering;
        if registering == done {
            entry.state = DidState::Registered;
        } else {
            self.0.remove(at);
        }
        vec![match (done, registering) {
            (true, true) => Action::Registered { did },
            (true, false) => Action::Unregistered { did },
            (false, _) => Action::Failed { did, result },
        }]
    }
}

fn update(did: &Did, action: UpdateAction) -> Draft {
    Draft::of(&RecipientUpdate { updates: vec![Update { recipient_did: did.as_str().to_owned(), action }] })
}

fn busy(message: &'static str) -> FlowError {
    FlowError::Unexpected { message, state: "registering or removing" }
}
