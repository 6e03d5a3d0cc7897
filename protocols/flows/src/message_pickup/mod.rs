//! Message Pickup 3.0 and 4.0: fetching what a mediator keeps for us.
//!
//! The recipient asks for `status`, then for deliveries until the queue is empty, and confirms with
//! `messages-received` only what is durable on its side; the mediator deletes nothing before. In live mode, which
//! needs a connection that stays open, messages are pushed and stay queued until they are confirmed.
//!
//! The versions are two sets of bodies around the same queue. An empty queue answers with `status` in 3.0 and with an
//! empty `delivery` in 4.0; 3.0 pushes raw or in a `delivery`, 4.0 in a `delivery`; 4.0 counts in milliseconds.

mod mediator;
mod messages;
mod recipient;
#[cfg(test)]
mod recipient_tests;
mod version;

pub use mediator::{AttachedAs, PickupRequest, QueueStatus, delivery_reply, live_reply, push, status_reply};
pub use messages::{Delivery, DeliveryRequest, LiveDeliveryChange, MessagesReceived, Status, StatusRequest};
pub use recipient::{Action, Event, Recipient, State};
pub use version::{Delivery4, PickupVersion, PushForm, Status4};
