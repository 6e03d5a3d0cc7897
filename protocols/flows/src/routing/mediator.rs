//! The mediator's decision about one forward.

use einmal_did::Did;
use einmal_didcomm::{Forward, UnixSeconds};

use crate::limits::{MAX_PAYLOADS_PER_FORWARD, MAX_QUEUED_PAYLOAD_BYTES, MAX_SELF_FORWARDS};

/// How many nested forwards addressed to the mediator itself were opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SelfForwards(usize);

impl SelfForwards {
    /// Counts one more; `None` beyond [`MAX_SELF_FORWARDS`].
    fn one_more(self) -> Option<Self> {
        (self.0 < MAX_SELF_FORWARDS).then_some(Self(self.0 + 1))
    }
}

/// What the mediator knows about the `next` of a forward.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextHop {
    /// One of the mediator's own DIDs.
    Own,
    /// A DID registered by this account.
    Registered {
        /// The account, canonical.
        account: Did,
    },
    /// Neither.
    Unknown,
}

/// What to do with a forward.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Queue or push each payload for `next`.
    Deliver {
        /// The account that picks it up.
        account: Did,
        /// When the payloads may be dropped.
        expires: Option<UnixSeconds>,
    },
    /// Open each payload: it is for the mediator itself.
    OpenAgain {
        /// The bound to hand on to the next decision.
        opened: SelfForwards,
    },
    /// Forget it: its time is over. No one is told.
    Expired,
    /// Refuse it. The sender is told only if proved.
    Refuse {
        /// Why.
        why: NotTaken,
    },
}

/// Why a forward is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NotTaken {
    /// It holds too many payloads, or too many forwards to the mediator within each other.
    Malformed,
    /// Nobody has registered the DID it goes to.
    NotEnrolled,
    /// A payload is larger than is kept, now or later.
    TooLarge,
}

/// Decides about a forward.
///
/// `opened` is how many forwards the mediator has opened to reach this one. Acknowledgements are never sent, even if
/// the forward asks for them.
///
/// # Specification
///
/// DIDComm Messaging v2.1, "Mediator Process"; refusing unregistered DIDs is the project's rule.
pub fn decide(forward: &Forward, next: NextHop, opened: SelfForwards, now: UnixSeconds) -> Decision {
    if forward.expires_time.is_some_and(|end| end <= now) {
        return Decision::Expired;
    }
    if forward.payloads.len() > MAX_PAYLOADS_PER_FORWARD {
        return Decision::Refuse { why: NotTaken::Malformed };
    }
    match next {
        NextHop::Unknown => Decision::Refuse { why: NotTaken::NotEnrolled },
        NextHop::Own => match opened.one_more() {
            Some(opened) => Decision::OpenAgain { opened },
            None => Decision::Refuse { why: NotTaken::Malformed },
        },
        NextHop::Registered { .. } if forward.payloads.iter().any(|p| p.len() > MAX_QUEUED_PAYLOAD_BYTES) => {
            Decision::Refuse { why: NotTaken::TooLarge }
        }
        NextHop::Registered { account } => Decision::Deliver { account, expires: forward.expires_time },
    }
}

#[cfg(test)]
mod tests {
    use einmal_didcomm::{FORWARD_TYPE, Message};
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{NOW, did};

    fn forward(extra: Value, payloads: usize) -> Forward {
        let payload = json!({"id": "0", "data": {"json": {"ciphertext": "x"}}});
        let mut message = json!({"id": "f", "type": FORWARD_TYPE, "body": {"next": "did:example:bob#key-1"},
            "attachments": vec![payload; payloads], "please_ack": [""]});
        message.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        Forward::from_message(&Message::from_value(message).unwrap()).unwrap()
    }

    fn registered() -> NextHop {
        NextHop::Registered { account: did("did:example:account") }
    }

    fn refused(why: NotTaken) -> Decision {
        Decision::Refuse { why }
    }

    #[test]
    fn registered_recipient_gets_its_payloads_until_they_expire() {
        let forward = forward(json!({"expires_time": 1001}), 2);
        assert_eq!(forward.next, did("did:example:bob"));
        let expires = Some(UnixSeconds(1_001));
        let deliver = Decision::Deliver { account: did("did:example:account"), expires };
        assert_eq!(decide(&forward, registered(), SelfForwards::default(), NOW), deliver);
        let later = decide(&forward, registered(), SelfForwards::default(), UnixSeconds(1_001));
        assert_eq!(later, Decision::Expired);
    }

    #[test]
    fn unregistered_recipient_is_refused_as_not_enrolled() {
        let decision = decide(&forward(json!({}), 1), NextHop::Unknown, SelfForwards::default(), NOW);
        assert_eq!(decision, refused(NotTaken::NotEnrolled));
    }

    #[test]
    fn forwards_to_the_mediator_itself_are_opened_a_bounded_number_of_times() {
        let forward = forward(json!({}), 1);
        let mut opened = SelfForwards::default();
        for _ in 0..MAX_SELF_FORWARDS {
            let Decision::OpenAgain { opened: next } = decide(&forward, NextHop::Own, opened, NOW) else {
                panic!("refused too early")
            };
            opened = next;
        }
        assert_eq!(decide(&forward, NextHop::Own, opened, NOW), refused(NotTaken::Malformed));
    }

    #[test]
    fn too_many_and_too_large_payloads_are_refused() {
        let many = forward(json!({}), MAX_PAYLOADS_PER_FORWARD + 1);
        assert_eq!(decide(&many, registered(), SelfForwards::default(), NOW), refused(NotTaken::Malformed));
        let mut large = forward(json!({}), 1);
        large.payloads = vec![vec![b' '; MAX_QUEUED_PAYLOAD_BYTES + 1]];
        assert_eq!(decide(&large, registered(), SelfForwards::default(), NOW), refused(NotTaken::TooLarge));
    }
}
