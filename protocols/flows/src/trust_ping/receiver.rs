//! The side that is pinged.

use einmal_didcomm::UnixSeconds;

use super::{Ping, PingResponse};
use crate::{Draft, FlowError, Received};

/// The response to a ping; `None` if it wants none.
///
/// # Errors
///
/// [`FlowError::Malformed`] if it is not a ping, [`FlowError::Expired`].
///
/// # Specification
///
/// DIDComm Messaging v2.1, "Trust Ping Protocol 2.0".
pub fn answer(received: &Received<'_>, now: UnixSeconds) -> Result<Option<Draft>, FlowError> {
    let ping: Ping = received.body(&[])?;
    received.check_time(now)?;
    let response = || Draft::of(&PingResponse {}).in_thread(received.message().thread());
    Ok(ping.response_requested.then(response))
}

#[cfg(test)]
mod tests {
    use einmal_didcomm::{Body, MessageError};
    use serde_json::json;

    use super::*;
    use crate::testing::{NOW, Post, thread};

    fn ping(value: serde_json::Value) -> Post {
        Post::new("did:example:a", "did:example:b", value)
    }

    #[test]
    fn ping_without_body_is_answered_in_its_thread() {
        let answer =
            answer(&ping(json!({"id": "p-1", "type": Ping::TYPE})).received(), NOW).unwrap().unwrap();
        assert_eq!((&*answer.kind, answer.thid), (PingResponse::TYPE, Some(thread("p-1"))));
        assert!(answer.body.is_empty());
    }

    #[test]
    fn ping_that_wants_no_response_gets_none() {
        let silent = ping(json!({"id": "p-1", "type": Ping::TYPE, "body": {"response_requested": false}}));
        assert_eq!(answer(&silent.received(), NOW), Ok(None));
    }

    #[test]
    fn other_messages_and_late_pings_are_refused() {
        let other = ping(json!({"id": "p-1", "type": PingResponse::TYPE}));
        let wrong = FlowError::Malformed(MessageError::WrongType { expected: Ping::TYPE });
        assert_eq!(answer(&other.received(), NOW), Err(wrong));
        let late = ping(json!({"id": "p-1", "type": Ping::TYPE, "expires_time": 1000}));
        assert_eq!(answer(&late.received(), NOW), Err(FlowError::Expired));
        let broken = ping(json!({"id": "p-1", "type": Ping::TYPE, "body": {"response_requested": "maybe"}}));
        let invalid = FlowError::Malformed(MessageError::InvalidBody { kind: Ping::TYPE });
        assert_eq!(answer(&broken.received(), NOW), Err(invalid));
    }
}
