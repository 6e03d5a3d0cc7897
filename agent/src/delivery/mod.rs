//! What a mediator keeps in memory about delivery: who listens for whose mail, in which form it is read, and who owns a
//! mailbox.

mod forms;
mod live;
mod routes;

pub(crate) use self::{
    forms::ReadForms,
    live::{Live, LiveChange, Session, is_change},
    routes::Routes,
};
