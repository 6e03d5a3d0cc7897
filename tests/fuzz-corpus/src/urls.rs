//! The target `oob_url`: out-of-band invitations as links.

use einmal_didcomm::UnixSeconds;
use einmal_flows::{
    limits::{MAX_ACCEPT_ENTRIES, MAX_GOAL_CODE_LEN, MAX_INVITATION_URL_LEN},
    out_of_band::{Invitation, consider, url_content},
};
use einmal_keys::base64url_encode;

use crate::{NOW, json, plaintext};

/// Reads an invitation link; after `J`, the rest is first put into a link.
pub fn oob_url(bytes: &[u8]) -> bool {
    let link = match bytes {
        [b'J', json @ ..] => format!("https://city.example/invite?_oob={}", base64url_encode(json)),
        _ => match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => return false,
        },
    };
    let content = url_content(&link);
    let invitation = Invitation::from_url(&link);
    if let Err(error) = &invitation {
        assert!(!error.to_string().is_empty());
    }
    let Ok(invitation) = invitation else { return false };
    let content = content.expect("an invitation has content");
    assert_eq!(Invitation::from_json(&content).as_ref(), Ok(&invitation));
    check(&invitation);
    true
}

fn check(invitation: &Invitation) {
    assert!(invitation.accept.len() <= MAX_ACCEPT_ENTRIES);
    assert!(invitation.goal_code.as_ref().is_none_or(|code| code.len() <= MAX_GOAL_CODE_LEN));
    let message = invitation.to_message();
    plaintext::check(&message);
    assert_eq!(Invitation::from_message(&message).as_ref(), Ok(invitation));
    let exact = !json::has_float(&message.to_value());
    for base in
        ["https://a.example/i", "https://a.example/?x=1", "https://a.example/?", "https://a.example/#f"]
    {
        let link = invitation.to_url(base);
        if link.len() > MAX_INVITATION_URL_LEN {
            continue;
        }
        let again = Invitation::from_url(&link).expect("an own link is read");
        assert!(json::same(&again.to_message().to_value(), &message.to_value()));
        assert!(!exact || again == *invitation);
    }
    let stored = serde_json::to_string(invitation).expect("it serializes");
    let again: Invitation = serde_json::from_str(&stored).expect("and is read back");
    assert!(!exact || again == *invitation);
    let now = UnixSeconds(NOW);
    if consider(invitation, |_| true, now).is_ok() {
        assert!(!invitation.is_expired(now));
    }
    if consider(invitation, |_| false, now).is_ok() {
        assert!(invitation.attachments.is_empty());
    }
}
