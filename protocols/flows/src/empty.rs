//! Empty 1.0: a message that carries headers only, such as a pure acknowledgement.
//!
//! [`acknowledge`] answers a message that asks for it, once, and never asks back, so that two agents cannot
//! acknowledge each other for ever.

use einmal_didcomm::{Body, ReturnRoute};
use serde::{Deserialize, Serialize};

use crate::{Draft, Received};

/// The body of an empty message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

impl Body for Empty {
    const TYPE: &'static str = "https://didcomm.org/empty/1.0/empty";
}

/// The acknowledgement `received` asks for; `None` if it asks for none, or is itself an empty message.
///
/// Only the message itself is acknowledged, whether it is meant by the empty string or by its id.
///
/// # Specification
///
/// DIDComm Messaging v2.1, "ACKs".
pub fn acknowledge(received: &Received<'_>) -> Option<Draft> {
    let message = received.message();
    if message.please_ack.is_empty() || received.is(Empty::TYPE) {
        return None;
    }
    // Of all that may be asked about, only this message is known here to have arrived.
    let asks = |wanted: &String| wanted.is_empty() || message.id.as_str().eq_ignore_ascii_case(wanted);
    message
        .please_ack
        .iter()
        .any(asks)
        .then(|| Draft::of(&Empty {}).in_thread(message.thread()).acknowledging(message.id.clone()))
}

/// An empty message that opens the way back on its connection, for an agent that cannot be reached otherwise.
///
/// # Specification
///
/// DIDComm Messaging v2.1, return-route extension.
pub fn open_return_route() -> Draft {
    Draft::of(&Empty {}).returning(ReturnRoute::All)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{Post, id, thread};

    fn post(value: serde_json::Value) -> Post {
        Post::new("did:example:a", "did:example:b", value)
    }

    #[test]
    fn message_that_asks_is_acknowledged_in_its_thread_and_nothing_is_asked_back() {
        let asked = post(json!({"id": "m-1", "type": "https://didcomm.org/basicmessage/2.0/message",
            "thid": "t-1", "please_ack": ["", "m-1", "other", "no id!"]}));
        let draft = acknowledge(&asked.received()).unwrap();
        assert_eq!((draft.ack, draft.thid), (vec![id("m-1")], Some(thread("t-1"))));
        assert!(draft.please_ack.is_empty() && draft.body.is_empty());
    }

    #[test]
    fn empty_message_and_message_that_does_not_ask_are_not_acknowledged() {
        let empty = post(json!({"id": "m-1", "type": Empty::TYPE, "please_ack": [""]}));
        assert_eq!(acknowledge(&empty.received()), None);
        let silent = post(json!({"id": "m-1", "type": "https://didcomm.org/basicmessage/2.0/message"}));
        assert_eq!(acknowledge(&silent.received()), None);
    }

    #[test]
    fn return_route_is_opened_by_a_header_alone() {
        let draft = open_return_route();
        assert_eq!((draft.return_route, draft.body.len()), (Some(ReturnRoute::All), 0));
    }
}
