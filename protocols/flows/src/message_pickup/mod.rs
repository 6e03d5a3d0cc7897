//! Message Pickup 3.0: fetching what a mediator keeps for us.
//!
//! The recipient asks for `status`, then for deliveries until the queue is empty, and confirms with
//! `messages-received` only what is durable on its side; the mediator deletes nothing before. An empty queue answers
//! with `status`. In live mode, which needs a connection that stays open, messages are pushed raw and stay queued
//! until they are confirmed. Another version of the protocol is another set of bodies around the same queue.

mod mediator;
mod messages;
mod recipient;
#[cfg(test)]
mod recipient_tests;

pub use mediator::{PickupRequest, QueueStatus, delivery_reply, live_reply, status_reply};
pub use messages::{Delivery, DeliveryRequest, LiveDeliveryChange, MessagesReceived, Status, StatusRequest};
pub use recipient::{Action, Event, Recipient, State};
