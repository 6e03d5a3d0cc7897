//! Message Pickup 3.0 and 4.0: fetching the messages a mediator keeps for us.
//!
//! The recipient asks for `status`, then for deliveries until the queue is empty. With `messages-received` it confirms
//! only messages that are durable on its side; the mediator deletes nothing before that. In live mode, which needs a
//! connection that stays open, messages are pushed and stay queued until confirmed.
//!
//! The versions are two sets of bodies for the same queue. An empty queue answers with `status` in 3.0 and an empty
//! `delivery` in 4.0; 3.0 pushes raw messages or a `delivery`, 4.0 a `delivery`; 4.0 gives times in milliseconds.

mod mediator;
mod messages;
mod recipient;
mod version;

pub use mediator::{
    AttachedAs, PickupRequest, QueueStatus, delivery_reply, ended, live_reply, push, status_reply,
};
pub use messages::{Delivery, DeliveryRequest, LiveDeliveryChange, MessagesReceived, Status, StatusRequest};
pub use recipient::{Action, Event, Recipient, State};
pub use version::{Delivery4, PickupVersion, PushForm, Status4, is_live_change, is_push};
