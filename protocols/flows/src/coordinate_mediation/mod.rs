//! Coordinate Mediation 2.0 and 3.0: getting an account at a mediator, and telling it which DIDs to take messages for.
//!
//! ```text
//! recipient  none ─mediate-request─▶ requested ─▶ granted | denied
//! each DID   unregistered ─▶ registering ─▶ registered ─▶ removing ─▶ unregistered
//! ```
//!
//! What was granted and registered may be gone: a mediator is restored from a backup. Who is told so asks anew, and the list of
//! the mediator is compared with what shall be registered.
//!
//! A grant alone lets nothing through: each DID is registered afterwards. [`Recipient`] is the machine of the side
//! that asks. On the mediator's side [`MediationRequest::read`] parses, [`decide`] knows who may register what, and
//! [`MediationReply::into_draft`] writes; [`answer()`] is all three. The versions differ in names and in one text that
//! became an array; the decision is the same.

mod comparing;
mod keylist;
mod mediator;
mod messages;
mod ownership;
mod recipient;
mod registrations;

pub use keylist::{Keylist, KeylistDeny, KeylistGrant, KeylistQuery, KeylistUpdate, KeylistUpdateResponse};
pub use mediator::{
    MediationPolicy, MediationReply, MediationRequest, MediationVersion, answer, decide, is_query, is_request,
};
pub use messages::{
    MediateDeny, MediateGrant, MediateRequest, Page, Paginate, RecipientDid, RecipientList, RecipientQuery,
    RecipientUpdate, RecipientUpdateResponse, Update, UpdateAction, UpdateResult, Updated,
};
pub(crate) use ownership::recipient_of;
pub use ownership::{OWNERSHIP_FORMAT, dids_to_resolve, ownership_statement};
pub use recipient::{Action, DidState, Event, MAX_REGISTRATIONS, Recipient, State};
pub use registrations::{Registration, RegistrationChange, Registrations, Unavailable};
