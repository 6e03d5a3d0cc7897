//! What a user is shown before deciding, and whether it is still what the decision is about.

use einmal_didcomm::ProblemCode;
use einmal_flows::for_display;
use serde_json::Value;

use crate::{
    db::digest_id,
    handler::{Failure, Handled},
};

/// Longest code shown to the user, in characters.
const MAX_SHOWN_CODE: usize = 100;

/// The user's answer to an offer or a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Decision<'a> {
    /// No.
    Decline,
    /// Yes, to what was shown under this name.
    AgreeTo(&'a str),
    /// Yes, given before anything was there to be shown.
    AgreedBefore,
}

/// The `view` an exchange shows its user when asking, with a name for it as member `shown`: another request, nonce,
/// card or claim has another name.
pub(crate) fn with_shown_name(mut view: Value, key: &str, nonce: &str) -> Value {
    let name = digest_id(&["shown", key, nonce, &view.to_string()]);
    if let Some(members) = view.as_object_mut() {
        members.insert("shown".into(), name.into());
    }
    view
}

/// Checks that `view`, as [`with_shown_name`] has just made it, is what was shown to the user.
///
/// # Errors
///
/// [`Failure::User`] if not: meanwhile a peer may have asked for something else, or a card may have ended.
pub(crate) fn check_shown(shown: &str, view: &Value) -> Handled {
    if view.get("shown").and_then(Value::as_str) == Some(shown) {
        return Ok(());
    }
    Err(Failure::user("what is asked is no longer what was shown; look at it again: einmal citizen pending"))
}

/// The progress of an exchange, with what its `reason` means if that is a problem code we know.
pub(crate) fn explained(mut progress: Value) -> Value {
    let reason = progress.get("reason").and_then(Value::as_str);
    let meaning = reason.and_then(|reason| ProblemCode::received(reason).meaning());
    if let (Some(meaning), Some(members)) = (meaning, progress.as_object_mut()) {
        members.insert("means".into(), meaning.into());
    }
    progress
}

/// A code that ended an exchange, for its user: a peer chooses its own.
pub(crate) fn shown_code(code: &ProblemCode) -> String {
    for_display(code.as_str(), MAX_SHOWN_CODE)
}
