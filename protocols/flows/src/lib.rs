//! DIDComm protocols of einmal: one module per protocol, one file per role, without I/O.
//!
//! A machine is a value: it takes an event and the present time and returns the actions to carry out. It reads no
//! clock, opens no store and knows no network. The caller commits the changed machine and the outgoing messages in
//! one batch and then acts. A refused event changes nothing, a repeated message gets the same answer again, and an
//! exchange that has ended never moves.
//!
//! [`Received`] is the only way in: a message whose sender is proved, made only from an opened one. [`Draft`] is the
//! only way out: a message the node has yet to address. [`ExchangeKey`] names an exchange in storage.

#[macro_use]
mod bodies;
mod draft;
mod error;
mod exchange;
pub mod limits;
mod protocol;
mod question;
mod received;
#[cfg(test)]
mod testing;
mod text;

pub mod basic_message;
pub mod coordinate_mediation;
pub mod discover_features;
pub mod empty;
pub mod formats;
pub mod issue_credential;
pub mod message_pickup;
pub mod out_of_band;
pub mod present_proof;
pub mod report_problem;
pub mod routing;
pub mod trust_ping;

pub use draft::Draft;
pub use error::{FlowError, FlowFault};
pub use exchange::ExchangeKey;
pub use protocol::Protocol;
pub use received::{Received, SenderKey};
pub use text::for_display;
