//! Basic Message 2.0: plain text between people.
//!
//! [`compose`] makes one, [`read`] parses one. The text is the sender's: its length is bounded, its content unchecked,
//! and it must be shown as such.

mod messages;
mod receiver;
mod sender;

pub use messages::BasicMessage;
pub use receiver::{BasicText, read};
pub use sender::compose;
