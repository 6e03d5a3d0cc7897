//! The invited side: whether an invitation can be answered.

use einmal_did::DIDCOMM_V2;
use einmal_didcomm::{Attachment, UnixSeconds};

use super::{Invitation, InvitationError};

/// Checks that an invitation can be answered: if anything is attached, `understands` must recognise one of the
/// requests.
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
) -> Result<(), InvitationError> {
    if invitation.is_expired(now) {
        return Err(InvitationError::Expired);
    }
    if !invitation.accept.is_empty() && !invitation.accept.iter().any(|profile| profile == DIDCOMM_V2) {
        return Err(InvitationError::Profile);
    }
    if !invitation.attachments.is_empty() && !invitation.attachments.iter().any(understands) {
        return Err(InvitationError::UnknownRequest);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{out_of_band::messages::example, testing::NOW};

    #[test]
    fn one_request_that_is_understood_is_enough_and_none_is_needed() {
        let mut invitation = example();
        invitation.attachments.insert(0, Attachment::base64("other", b"x"));
        let understands = |attachment: &Attachment| attachment.format.as_deref() == Some("f");
        assert_eq!(consider(&invitation, understands, NOW), Ok(()));
        invitation.attachments.clear();
        assert_eq!(consider(&invitation, |_| false, NOW), Ok(()));
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
