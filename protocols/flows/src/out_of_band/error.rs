//! Why a text cannot be read as an invitation.

use einmal_didcomm::MessageError;

use crate::limits::MAX_INVITATION_URL_LEN;

/// An invitation could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvitationError {
    /// The link is longer than any invitation may be.
    #[error("the link has more than {MAX_INVITATION_URL_LEN} characters; it is no invitation")]
    TooLong,
    /// The link carries no invitation.
    #[error("the link has no `_oob` parameter, so it is no invitation; copy the whole link")]
    NoInvitation,
    /// The link carries several invitations.
    #[error("the link carries several invitations; ask for one with a single `_oob` parameter")]
    Ambiguous,
    /// The short form: fetch the link first, then read the response.
    #[error("the link is a short form (`_oobid`); it must be fetched first")]
    ShortForm {
        /// The identifier in the link.
        id: String,
    },
    /// The content does not decode.
    #[error("the invitation in the link is damaged; copy the whole link or ask for a new one")]
    Encoding,
    /// The content is a signed message: open it as an envelope, then read the message.
    #[error("the invitation is signed; its signature must be checked first")]
    Signed,
    /// The content is not a valid invitation message.
    #[error("the invitation breaks the rules of its message: {0}")]
    Message(#[from] MessageError),
    /// More entries than accepted, or a member too long.
    #[error("`{what}` of the invitation is out of bounds")]
    OutOfBounds {
        /// Name of the member.
        what: &'static str,
    },
    /// Past its `expires_time`.
    #[error("the invitation has expired; ask for a new one")]
    Expired,
    /// The inviter does not speak DIDComm v2.
    #[error("the inviter accepts no DIDComm v2")]
    Profile,
    /// Requests are attached, but none of a kind understood here.
    #[error("the invitation asks for something this program does not understand")]
    UnknownRequest,
}
