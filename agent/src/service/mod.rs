//! What the node can do, whichever way it is asked: issuing, verifying, holding, status, invitations.

pub(crate) mod account;
pub(crate) mod asking;
pub(crate) mod calendar;
pub(crate) mod connecting;
pub(crate) mod devices;
pub(crate) mod exchange;
pub(crate) mod holding;
pub(crate) mod ids;
pub(crate) mod invitations;
pub(crate) mod issued;
pub(crate) mod issuing;
pub(crate) mod keys;
pub(crate) mod messages;
pub(crate) mod no_card;
pub(crate) mod nonce;
pub(crate) mod open_offers;
pub(crate) mod overtaken;
pub(crate) mod patron_nym;
pub(crate) mod predecessors;
pub(crate) mod proving;
pub(crate) mod queue;
pub(crate) mod rotating;
pub(crate) mod self_report;
pub(crate) mod shown;
pub(crate) mod status;
pub(crate) mod templates;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod verifying;
