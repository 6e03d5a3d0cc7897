//! Routing 2.0: what a mediator does with a forward. `einmal_didcomm`, the packing side, makes forwards.
//!
//! [`decide`] says deliver, open again, drop or refuse, and copies no payload; `please_ack` on a forward is ignored.
//! [`SelfForwards`] bounds how many nested forwards to ourselves are opened.

mod mediator;

pub use mediator::{Decision, NextHop, NotTaken, SelfForwards, decide};
