//! The side that reads.

use std::fmt;

use einmal_didcomm::UnixSeconds;

use super::BasicMessage;
use crate::{FlowError, Received, limits::MAX_CONTENT_LEN};

/// A text someone wrote to us.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BasicText {
    /// The text, as the sender wrote it.
    pub content: String,
    /// When the sender says it was written.
    pub written: Option<UnixSeconds>,
    /// Language tag the sender gives.
    pub lang: Option<String>,
}

/// Reads a basic message.
///
/// # Errors
///
/// [`FlowError::Malformed`], [`FlowError::InvalidContent`] if the text is too long, [`FlowError::Expired`].
///
/// # Specification
///
/// didcomm.org, "Basic Message 2.0".
pub fn read(received: &Received<'_>, now: UnixSeconds) -> Result<BasicText, FlowError> {
    let body: BasicMessage = received.body(&[])?;
    received.check_time(now)?;
    if body.content.len() > MAX_CONTENT_LEN {
        return Err(FlowError::InvalidContent { what: "content" });
    }
    let lang = received.message().extra.get("lang").and_then(|lang| lang.as_str());
    let lang =
        lang.filter(|tag| tag.len() <= 35 && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
    Ok(BasicText {
        content: body.content,
        written: received.message().created_time,
        lang: lang.map(str::to_owned),
    })
}

/// Withholds the text.
impl fmt::Debug for BasicText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BasicText").field("written", &self.written).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use einmal_didcomm::{Body, MessageError};
    use serde_json::json;

    use super::*;
    use crate::testing::{NOW, Post};

    fn post(content: &serde_json::Value) -> Post {
        let message = json!({"id": "m", "type": BasicMessage::TYPE, "created_time": 7, "lang": "de",
            "body": {"content": content, "extra": 1}});
        Post::new("did:example:a", "did:example:b", message)
    }

    #[test]
    fn text_time_and_language_are_read() {
        let text = read(&post(&json!("Hallo")).received(), NOW).unwrap();
        assert_eq!(
            (text.content.as_str(), text.written, text.lang.as_deref()),
            ("Hallo", Some(UnixSeconds(7)), Some("de"))
        );
        assert!(!format!("{text:?}").contains("Hallo"));
    }

    #[test]
    fn overlong_and_missing_texts_are_refused() {
        let long = post(&json!("a".repeat(MAX_CONTENT_LEN + 1)));
        assert_eq!(read(&long.received(), NOW), Err(FlowError::InvalidContent { what: "content" }));
        let invalid = FlowError::Malformed(MessageError::InvalidBody { kind: BasicMessage::TYPE });
        assert_eq!(read(&post(&json!(null)).received(), NOW), Err(invalid));
    }
}
