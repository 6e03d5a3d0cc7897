//! What a mediator keeps in memory about delivery: who listens for whose mail, and whose a mailbox is.

mod live;
mod routes;

pub(crate) use self::{
    live::{Live, LiveChange, Session, is_change},
    routes::Routes,
};
