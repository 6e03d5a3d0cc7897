//! The final recipient: opening a forward that a mediator wrapped anew for it.

use einmal_didcomm::{Forward, UnixSeconds};

use crate::{
    FlowError,
    limits::{MAX_PAYLOADS_PER_FORWARD, MAX_SELF_FORWARDS},
};

/// How many forwards addressed to ourselves were opened one inside the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SelfForwards(usize);

impl SelfForwards {
    /// Counts one more.
    ///
    /// # Errors
    ///
    /// [`FlowError::TooMany`] beyond [`MAX_SELF_FORWARDS`].
    pub fn one_more(self) -> Result<Self, FlowError> {
        if self.0 >= MAX_SELF_FORWARDS {
            return Err(FlowError::TooMany { what: "forwards to ourselves", most: MAX_SELF_FORWARDS });
        }
        Ok(Self(self.0 + 1))
    }

    /// The envelopes in a forward whose `next` is a DID of ours, to be opened next, each with the new count.
    ///
    /// `is_ours` says whether `next` is one of our DIDs.
    ///
    /// # Errors
    ///
    /// [`FlowError::WrongRecipient`] if `next` is someone else: an agent that is no mediator forwards nothing;
    /// [`FlowError::Expired`]; [`FlowError::TooMany`].
    ///
    /// # Specification
    ///
    /// DIDComm Messaging v2.1, "Rewrapping".
    pub fn unwrap(
        self,
        forward: Forward,
        is_ours: bool,
        now: UnixSeconds,
    ) -> Result<(Self, Vec<Vec<u8>>), FlowError> {
        if !is_ours {
            return Err(FlowError::WrongRecipient);
        }
        if forward.expires_time.is_some_and(|end| end <= now) {
            return Err(FlowError::Expired);
        }
        if forward.payloads.len() > MAX_PAYLOADS_PER_FORWARD {
            return Err(FlowError::TooMany { what: "payloads", most: MAX_PAYLOADS_PER_FORWARD });
        }
        Ok((self.one_more()?, forward.payloads))
    }
}

#[cfg(test)]
mod tests {
    use einmal_didcomm::{FORWARD_TYPE, Message};
    use serde_json::json;

    use super::*;
    use crate::testing::NOW;

    fn forward() -> Forward {
        let message = json!({"id": "f", "type": FORWARD_TYPE, "body": {"next": "did:example:bob"},
            "expires_time": 1500, "attachments": [{"id": "0", "data": {"json": {"ciphertext": "x"}}}]});
        Forward::from_message(&Message::from_value(message).unwrap()).unwrap()
    }

    #[test]
    fn forward_to_ourselves_is_opened_a_bounded_number_of_times() {
        let mut opened = SelfForwards::default();
        for _ in 0..MAX_SELF_FORWARDS {
            let (next, payloads) = opened.unwrap(forward(), true, NOW).unwrap();
            assert_eq!(payloads, [br#"{"ciphertext":"x"}"#.to_vec()]);
            opened = next;
        }
        let refused = FlowError::TooMany { what: "forwards to ourselves", most: MAX_SELF_FORWARDS };
        assert_eq!(opened.unwrap(forward(), true, NOW), Err(refused));
    }

    #[test]
    fn forward_for_others_and_late_forward_are_refused() {
        let opened = SelfForwards::default();
        assert_eq!(opened.unwrap(forward(), false, NOW), Err(FlowError::WrongRecipient));
        assert_eq!(opened.unwrap(forward(), true, UnixSeconds(1_500)), Err(FlowError::Expired));
    }
}
