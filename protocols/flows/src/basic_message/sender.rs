//! The side that writes.

use super::BasicMessage;
use crate::{Draft, FlowError, limits::MAX_CONTENT_LEN};

/// A message with `content`, at most [`MAX_CONTENT_LEN`] bytes.
///
/// # Errors
///
/// [`FlowError::Misuse`] if the text is empty or too long.
///
/// # Specification
///
/// didcomm.org, "Basic Message 2.0".
pub fn compose(content: &str) -> Result<Draft, FlowError> {
    if content.is_empty() {
        return Err(FlowError::Misuse { reason: "the text is empty; write something" });
    }
    if content.len() > MAX_CONTENT_LEN {
        return Err(FlowError::Misuse { reason: "the text is too long; send it in parts" });
    }
    Ok(Draft::of(&BasicMessage { content: content.to_owned() }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn body_holds_the_text_and_nothing_else() {
        let draft = compose("Grüße").unwrap();
        assert_eq!(serde_json::Value::Object(draft.body), json!({"content": "Grüße"}));
    }

    #[test]
    fn empty_and_overlong_texts_are_refused_before_they_are_sent() {
        assert!(compose(&"a".repeat(MAX_CONTENT_LEN)).is_ok());
        for text in [String::new(), "a".repeat(MAX_CONTENT_LEN + 1)] {
            assert!(matches!(compose(&text), Err(FlowError::Misuse { .. })));
        }
    }
}
