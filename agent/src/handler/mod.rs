//! What an event handler is given, what it may change, and how it reports that it cannot go on.
//!
//! Handlers are the functions of `service` and `role`: synchronous, without network, repeated when the node has fetched
//! what they lacked. The node's loop lies above them and is not visible here.

mod arrival;
mod dids;
mod effects;
mod failure;
mod input;
mod new_dids;
mod origin;
mod parts;
mod peer_fault;
mod recent;
mod refusal;
mod role_service;
mod shared;
mod stats;
mod visit;

pub use self::{
    arrival::{Arrival, Receipt},
    failure::{Failure, Need},
    origin::Origin,
    parts::Parts,
    peer_fault::PeerFault,
    refusal::Refusal,
    shared::Shared,
    stats::Stats,
};
pub(crate) use self::{
    dids::{
        KEEP_FOR_ANSWER_SECS, KEEP_FOR_EXCHANGE_SECS, heard_again, learn, learn_for, our_form, their_form,
    },
    effects::{Cause, Effects, Handled, Outgoing, Timer},
    input::{BoundedList, foreign_command, refuse_person},
    new_dids::{Reached, forget_key, keep_key, public},
    recent::Recent,
    refusal::{describe_for_log, describe_packing},
    role_service::{Forwarded, Notice, RoleService},
    stats::Reason,
    visit::{LastVisit, Visit},
};
