//! Routing 2.0: what a mediator does with a forward. Making them is the packing side's: `einmal_didcomm`.
//!
//! [`decide`] says deliver, open again, drop or refuse, and copies no payload; `please_ack` on a forward is ignored.
//! [`SelfForwards`] bounds how many forwards to ourselves are opened one inside the other.

mod mediator;

pub use mediator::{Decision, NextHop, SelfForwards, decide};
