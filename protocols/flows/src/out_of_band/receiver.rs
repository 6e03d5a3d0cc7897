//! The invited side: whether an invitation can be answered, and which of its requests is acted upon.

use einmal_did::{DIDCOMM_V2, Did};
use einmal_didcomm::{Attachment, ThreadId, UnixSeconds};

use super::{Invitation, InvitationError};

/// An invitation that can be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Considered {
    /// Whom to answer. Only the answer to the first message proves that it is there.
    pub inviter: Did,
    /// The `pthid` of the answer.
    pub pthid: ThreadId,
    /// Position of the request to act upon; `None` if nothing is attached.
    pub attachment: Option<usize>,
}

/// Checks an invitation and picks the first attached request that `understands` recognises.
///
/// # Errors
///
/// [`InvitationError::Expired`], [`InvitationError::Profile`], [`InvitationError::UnknownRequest`].
///
/// # Specification
///
/// DIDComm Messaging v2.1, "Out Of Band Messages".
pub fn consider(
    invitation: &Invitation,
    understands: impl Fn(&Attachment) -> bool,
    now: UnixSeconds,
) -> Result<Considered, InvitationError> {
    if invitation.is_expired(now) {
        return Err(InvitationError::Expired);
    }
    if !invitation.accept.is_empty() && !invitation.accept.iter().any(|profile| profile == DIDCOMM_V2) {
        return Err(InvitationError::Profile);
    }
    let attachment = invitation.attachments.iter().position(understands);
    if attachment.is_none() && !invitation.attachments.is_empty() {
        return Err(InvitationError::UnknownRequest);
    }
    Ok(Considered { inviter: invitation.from.clone(), pthid: invitation.thread(), attachment })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        out_of_band::messages::example,
        testing::{NOW, did, thread},
    };

    #[test]
    fn first_request_that_is_understood_is_taken() {
        let mut invitation = example();
        invitation.attachments.insert(0, Attachment::base64("other", b"x"));
        let considered =
            consider(&invitation, |attachment| attachment.format.as_deref() == Some("f"), NOW).unwrap();
        assert_eq!(considered.attachment, Some(1));
        assert_eq!((considered.inviter, considered.pthid), (did("did:example:shop"), thread("oob-1")));
        invitation.attachments.clear();
        assert_eq!(consider(&invitation, |_| false, NOW).unwrap().attachment, None);
    }

    #[test]
    fn void_foreign_and_ununderstood_invitations_are_refused() {
        assert_eq!(consider(&example(), |_| true, UnixSeconds(2_000)), Err(InvitationError::Expired));
        assert_eq!(consider(&example(), |_| false, NOW), Err(InvitationError::UnknownRequest));
        let mut foreign = example();
        foreign.accept = vec!["didcomm/aip1".into()];
        assert_eq!(consider(&foreign, |_| true, NOW), Err(InvitationError::Profile));
        foreign.accept.clear();
        assert!(consider(&foreign, |_| true, NOW).is_ok());
    }
}
