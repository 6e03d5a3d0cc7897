//! Out-of-Band 2.0: an invitation outside of DIDComm, as link or QR code, and what may come back.
//!
//! ```text
//! created ─▶ sent ─response with its id as pthid─▶ connected     (single use)
//!     └────────┴─▶ expired
//! ```
//!
//! Everything in an invitation is public and, unless signed, anybody's claim. [`InvitationRecord`] is the inviter's
//! memory of it; [`consider`] is the invited side's check.

mod error;
mod messages;
mod receiver;
mod sender;
mod url;

pub use error::InvitationError;
pub use messages::{Invitation, InvitationBody};
pub use receiver::consider;
pub use sender::{Admission, InvitationRecord, Refusal, State, Uses};
pub use url::url_content;
