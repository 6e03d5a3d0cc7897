//! Basic Message 2.0: plain text between people.
//!
//! [`compose`] makes one, [`read`] takes one apart. The text is the sender's, unchecked but bounded, and must be shown
//! as such.

mod messages;
mod receiver;
mod sender;

pub use messages::BasicMessage;
pub use receiver::{BasicText, read};
pub use sender::compose;
