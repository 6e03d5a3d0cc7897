//! The mediator's decisions: who gets an account, and who may register which DID.

use std::collections::HashMap;

use einmal_did::{Did, Resolver};
use einmal_didcomm::{Body, MessageType, UnixSeconds};
use serde::{Deserialize, Serialize};

use super::{
    Keylist, KeylistDeny, KeylistGrant, KeylistQuery, KeylistUpdate, KeylistUpdateResponse, MediateDeny,
    MediateGrant, MediateRequest, Page, Paginate, RecipientDid, RecipientList, RecipientQuery,
    RecipientUpdate, RecipientUpdateResponse, Registration, RegistrationChange, Registrations, Unavailable,
    Update, UpdateAction, UpdateResult, Updated,
    ownership::{Proofs, recipient_of},
};
use crate::{
    Draft, FlowError, Protocol, Received,
    limits::{MAX_RECIPIENT_LEN, MAX_RECIPIENT_PAGE, MAX_RECIPIENTS_PER_ACCOUNT, MAX_UPDATES_PER_MESSAGE},
    protocol::is_one_of,
};

/// Type URI of a request for mediation in version 2.0; its body is empty, as in 3.0.
const MEDIATE_REQUEST_2: &str = "https://didcomm.org/coordinate-mediation/2.0/mediate-request";

/// What an operator decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediationPolicy {
    /// The routing DIDs that a grant names.
    pub routing_dids: Vec<Did>,
    /// Whether strangers get an account. Accounts that exist are always granted again.
    pub admits_new_accounts: bool,
    /// Whether a DID is registered only if it provably agrees.
    pub require_proof: bool,
    /// Most DIDs of one account; at most [`MAX_RECIPIENTS_PER_ACCOUNT`].
    pub max_recipients: usize,
}

impl MediationPolicy {
    /// Open to everyone, without required proof.
    pub fn open(routing_did: Did) -> Self {
        Self {
            routing_dids: vec![routing_did],
            admits_new_accounts: true,
            require_proof: false,
            max_recipients: MAX_RECIPIENTS_PER_ACCOUNT,
        }
    }
}

/// A request to the mediator, in any version of the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MediationRequest {
    /// Asks for an account.
    Mediate,
    /// Changes registrations.
    Update(Vec<Update>),
    /// Lists registrations.
    Query(Option<Paginate>),
}

/// The mediator's reply, before it is written in a version of the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MediationReply {
    /// The account is granted.
    Grant(Vec<Did>),
    /// No account.
    Deny,
    /// The result of each change.
    Updated(Vec<Updated>),
    /// Registered DIDs, and which part of the whole list they are.
    Listed(Vec<Did>, Option<Page>),
}

impl MediationRequest {
    /// Reads a request of version 2.0 or 3.0.
    ///
    /// # Errors
    ///
    /// [`FlowError::UnknownMessage`], [`FlowError::Malformed`], [`FlowError::TooMany`].
    pub fn read(received: &Received<'_>) -> Result<Self, FlowError> {
        if received.is(MediateRequest::TYPE) || received.is(MEDIATE_REQUEST_2) {
            return Ok(Self::Mediate);
        }
        if received.is(RecipientUpdate::TYPE) || received.is(KeylistUpdate::TYPE) {
            let RecipientUpdate { updates } = received.body(&[KeylistUpdate::TYPE])?;
            if updates.len() > MAX_UPDATES_PER_MESSAGE {
                return Err(FlowError::TooMany { what: "updates", most: MAX_UPDATES_PER_MESSAGE });
            }
            return Ok(Self::Update(updates));
        }
        if received.is(RecipientQuery::TYPE) || received.is(KeylistQuery::TYPE) {
            return Ok(Self::Query(received.body::<RecipientQuery>(&[KeylistQuery::TYPE])?.paginate));
        }
        Err(FlowError::UnknownMessage)
    }
}

/// The version of the protocol a request came in; its reply is written in the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MediationVersion {
    /// 2.0, with a keylist.
    #[serde(rename = "2.0")]
    V2,
    /// 3.0.
    #[serde(rename = "3.0")]
    V3,
}

impl MediationVersion {
    /// The version of a message type; `None` if it is of another protocol or version.
    pub fn of(kind: &MessageType) -> Option<Self> {
        match (Protocol::of(kind)?, kind.major()) {
            (Protocol::CoordinateMediation, 2) => Some(Self::V2),
            (Protocol::CoordinateMediation, 3) => Some(Self::V3),
            _ => None,
        }
    }
}

/// Whether a message, of either version, only asks what is registered.
pub fn is_query(kind: &MessageType) -> bool {
    is_one_of(kind, &[RecipientQuery::TYPE, KeylistQuery::TYPE])
}

/// Whether a message, of either version, asks for an account.
pub fn is_request(kind: &MessageType) -> bool {
    is_one_of(kind, &[MediateRequest::TYPE, MEDIATE_REQUEST_2])
}

impl MediationReply {
    /// Writes the reply in the given version.
    ///
    /// A grant of 2.0 has room for one routing DID only; it gets the first.
    pub fn into_draft(self, version: MediationVersion) -> Draft {
        let texts = |dids: Vec<Did>| dids.into_iter().map(String::from);
        let entries = |dids| texts(dids).map(|recipient_did| RecipientDid { recipient_did }).collect();
        match (self, version) {
            (Self::Grant(dids), MediationVersion::V3) => {
                Draft::of(&MediateGrant { routing_did: texts(dids).collect() })
            }
            (Self::Grant(dids), MediationVersion::V2) => {
                Draft::of(&KeylistGrant { routing_did: texts(dids).next().unwrap_or_default() })
            }
            (Self::Deny, MediationVersion::V3) => Draft::of(&MediateDeny {}),
            (Self::Deny, MediationVersion::V2) => Draft::of(&KeylistDeny {}),
            (Self::Updated(updated), MediationVersion::V3) => Draft::of(&RecipientUpdateResponse { updated }),
            (Self::Updated(updated), MediationVersion::V2) => Draft::of(&KeylistUpdateResponse { updated }),
            (Self::Listed(dids, pagination), MediationVersion::V3) => {
                Draft::of(&RecipientList { dids: entries(dids), pagination })
            }
            (Self::Listed(dids, pagination), MediationVersion::V2) => {
                // Strict decoders of 2.0 know no `pagination`, even if they asked for it. Incomplete lists must still
                // say so.
                let pagination = pagination.filter(|page| page.remaining > 0 || page.offset > 0);
                Draft::of(&Keylist { keys: entries(dids), pagination })
            }
        }
    }
}

/// Answers a request of version 2.0 or 3.0: what changes, and what to send back in the request's thread.
///
/// # Errors
///
/// [`FlowError::NotEnrolled`] if an account is needed and there is none, [`FlowError::Unavailable`] if the
/// registrations cannot be read, [`FlowError::Expired`], and those of [`MediationRequest::read`].
///
/// # Specification
///
/// didcomm.org, "Coordinate Mediation Protocol" 2.0 and 3.0; the rule of who may register what is the project's.
pub fn answer(
    received: &Received<'_>,
    registrations: &dyn Registrations,
    resolver: &dyn Resolver,
    policy: &MediationPolicy,
    now: UnixSeconds,
) -> Result<(Vec<RegistrationChange>, Draft), FlowError> {
    let version = MediationVersion::of(&received.message().kind).ok_or(FlowError::UnknownMessage)?;
    let request = MediationRequest::read(received)?;
    let (changes, reply) = decide(request, received, registrations, resolver, policy, now)?;
    Ok((changes, reply.into_draft(version).in_thread(received.message().thread())))
}

/// Decides about a request of any version; `received` proves who asks.
///
/// # Errors
///
/// Those of [`answer`].
pub fn decide(
    request: MediationRequest,
    received: &Received<'_>,
    registrations: &dyn Registrations,
    resolver: &dyn Resolver,
    policy: &MediationPolicy,
    now: UnixSeconds,
) -> Result<(Vec<RegistrationChange>, MediationReply), FlowError> {
    received.check_time(now)?;
    let account = received.sender().canonical();
    let unavailable = |_: Unavailable| FlowError::Unavailable;
    let known = registrations.is_account(&account).map_err(unavailable)?;
    match request {
        // Existing accounts enroll again too: they may have asked in another version before.
        MediationRequest::Mediate if known || policy.admits_new_accounts => {
            let reply = MediationReply::Grant(policy.routing_dids.clone());
            Ok((vec![RegistrationChange::Enroll { account }], reply))
        }
        MediationRequest::Mediate => Ok((Vec::new(), MediationReply::Deny)),
        _ if !known => Err(FlowError::NotEnrolled),
        MediationRequest::Query(paginate) => {
            list(&account, paginate, registrations).map(|reply| (Vec::new(), reply)).map_err(unavailable)
        }
        MediationRequest::Update(updates) => {
            let count = registrations.count(&account).map_err(unavailable)?;
            let proofs = Proofs::of(received, resolver, now);
            let proved = |recipient: &Did| proofs.cover(recipient);
            let mut book =
                Book { account, registrations, policy, count, changed: HashMap::new(), changes: vec![] };
            let updated = updates.into_iter().map(|update| book.carry_out(update, &proved)).collect();
            Ok((book.changes, MediationReply::Updated(updated)))
        }
    }
}

fn list(
    account: &Did,
    paginate: Option<Paginate>,
    registrations: &dyn Registrations,
) -> Result<MediationReply, Unavailable> {
    let total = registrations.count(account)?;
    let bounded = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let (limit, offset) =
        paginate.map_or((MAX_RECIPIENT_PAGE, 0), |page| (bounded(page.limit), bounded(page.offset)));
    let dids = registrations.list(account, offset, limit.min(MAX_RECIPIENT_PAGE))?;
    let remaining = total.saturating_sub(offset.saturating_add(dids.len()));
    // Strict decoders reject a `pagination` they did not ask for; an incomplete list must say so all the same.
    let page = Page { count: dids.len() as u64, offset: offset as u64, remaining: remaining as u64 };
    let pagination = (paginate.is_some() || remaining > 0).then_some(page);
    Ok(MediationReply::Listed(dids, pagination))
}

/// The registrations as they are after the changes decided so far.
struct Book<'a> {
    account: Did,
    registrations: &'a dyn Registrations,
    policy: &'a MediationPolicy,
    count: usize,
    changed: HashMap<Did, Option<Registration>>,
    changes: Vec<RegistrationChange>,
}

impl Book<'_> {
    fn carry_out(&mut self, update: Update, proved: &dyn Fn(&Did) -> bool) -> Updated {
        let Update { recipient_did, action } = update;
        let result = match (recipient_of(&recipient_did), action) {
            (None, _) => Ok(UpdateResult::ClientError),
            (Some(recipient), UpdateAction::Add) if recipient.as_str().len() > MAX_RECIPIENT_LEN => {
                Ok(UpdateResult::ClientError)
            }
            (Some(recipient), UpdateAction::Add) => self.add(&recipient, proved),
            (Some(recipient), UpdateAction::Remove) => self.remove(recipient.canonical()),
        };
        Updated { recipient_did, action, result: result.unwrap_or(UpdateResult::ServerError) }
    }

    fn owner(&self, recipient: &Did) -> Result<Option<Registration>, Unavailable> {
        match self.changed.get(recipient) {
            Some(known) => Ok(known.clone()),
            None => self.registrations.owner(recipient),
        }
    }

    /// An unproved registration never takes a DID from another account; a proved one always may. The mediator's own DID is
    /// nobody's: what is forwarded to it is for the mediator itself.
    fn add(&mut self, recipient: &Did, proved: &dyn Fn(&Did) -> bool) -> Result<UpdateResult, Unavailable> {
        let canonical = recipient.canonical();
        if self.policy.routing_dids.iter().any(|own| own.same_as(recipient)) {
            return Ok(UpdateResult::ClientError);
        }
        let owner = self.owner(&canonical)?;
        if let Some(own) = owner.as_ref().filter(|owner| owner.account == self.account) {
            let (was_proved, is_proved) = (own.proved, own.proved || proved(recipient));
            // Also to list it as it is written now: earlier versions kept no such form.
            if is_proved != was_proved || *recipient != canonical {
                self.put(canonical, recipient, is_proved);
            }
            return Ok(UpdateResult::NoChange);
        }
        let proved = proved(recipient);
        // Whoever has an account under a DID has proved it, whether or not it takes mail under it.
        let is_free = || Ok(owner.is_none() && !self.registrations.is_account(&canonical)?);
        let may_take = proved || (!self.policy.require_proof && is_free()?);
        if !may_take || self.count >= self.policy.max_recipients.min(MAX_RECIPIENTS_PER_ACCOUNT) {
            return Ok(UpdateResult::ClientError);
        }
        self.count += 1;
        self.put(canonical, recipient, proved);
        Ok(UpdateResult::Success)
    }

    fn put(&mut self, recipient: Did, form: &Did, proved: bool) {
        let registration = Registration { account: self.account.clone(), proved };
        self.forget(&recipient);
        self.changed.insert(recipient.clone(), Some(registration.clone()));
        self.changes.push(RegistrationChange::Put { recipient, form: form.clone(), registration });
    }

    /// A later change of the same DID replaces the earlier one, because all changes are applied to the registrations as
    /// they were before the request.
    fn forget(&mut self, recipient: &Did) {
        if self.changed.contains_key(recipient) {
            self.changes.retain(|change| change.recipient() != Some(recipient));
        }
    }

    /// A DID of another account gets the same reply as one that nobody registered.
    fn remove(&mut self, recipient: Did) -> Result<UpdateResult, Unavailable> {
        if self.owner(&recipient)?.is_none_or(|owner| owner.account != self.account) {
            return Ok(UpdateResult::NoChange);
        }
        self.count = self.count.saturating_sub(1);
        self.forget(&recipient);
        self.changed.insert(recipient.clone(), None);
        self.changes.push(RegistrationChange::Remove { recipient, account: self.account.clone() });
        Ok(UpdateResult::Success)
    }
}

#[cfg(test)]
mod tests;
