//! What a mediator remembers about delivery: who listens for whose mail, in which form, and who owns a mailbox.

mod forms;
mod live;
mod routes;

pub(crate) use self::{
    forms::ReadForms,
    live::{LargeInHand, Live, LiveChange, Session},
    routes::Routes,
};
