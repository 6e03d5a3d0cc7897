//! Routing 2.0: what a mediator does with a forward, and how an agent opens one that is addressed to itself.
//!
//! [`decide`] says deliver, open again, drop or refuse, and copies no payload; `please_ack` on a forward is ignored.
//! [`SelfForwards`] bounds how many forwards to ourselves are opened one inside the other.

mod mediator;
mod recipient;

pub use mediator::{Decision, NextHop, decide};
pub use recipient::SelfForwards;
