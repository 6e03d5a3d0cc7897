//! The side that pings and waits.

use einmal_did::Did;
use einmal_didcomm::{Body, ThreadId, UnixSeconds};
use serde::{Deserialize, Serialize};

use super::{Ping, PingResponse};
use crate::{
    Draft, FlowError,
    exchange::{Exchange, exchange_accessors},
    question::{self, Event, State},
};

/// One ping and its answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sender {
    exchange: Exchange,
    state: State,
}

/// Something to do now: the answer says that the peer is there.
pub type Action = question::Action<PingResponse>;

exchange_accessors!(Sender);

impl Sender {
    /// Pings `peer` in the new thread `thid`; `pthid` is the invitation this answers, if any.
    pub fn start(
        own: Did,
        peer: Did,
        thid: ThreadId,
        pthid: Option<ThreadId>,
        now: UnixSeconds,
    ) -> (Self, Vec<Action>) {
        let mut exchange = Exchange::new(own, peer, thid, pthid);
        let ping = Draft::of(&Ping { response_requested: true });
        let (state, actions) = question::ask(&mut exchange, ping, now);
        (Self { exchange, state }, actions)
    }

    /// Where the ping stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// Advances by one event.
    ///
    /// # Errors
    ///
    /// [`FlowError`] if a message belongs elsewhere or does not fit; `self` is then unchanged.
    pub fn handle(&mut self, event: Event<'_>, now: UnixSeconds) -> Result<Vec<Action>, FlowError> {
        let at = (&mut self.exchange, &mut self.state);
        question::advance(at, event, now, PingResponse::TYPE, |received| received.body(&[]))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        testing::{NOW, Post, did, restart, thread},
        trust_ping::answer,
    };

    const A: &str = "did:example:a";
    const B: &str = "did:example:b";

    fn pinged() -> (Sender, Post) {
        let (sender, actions) = Sender::start(did(A), did(B), thread("t-1"), Some(thread("oob")), NOW);
        let [Action::Send(draft), Action::WakeAt(UnixSeconds(1_060))] = actions.as_slice() else {
            panic!("{actions:?}")
        };
        let ping = Post::of(draft, A, B);
        assert_eq!(ping.message.pthid, Some(thread("oob")));
        assert_eq!(ping.message.body.get("response_requested"), Some(&json!(true)));
        let response = answer(&ping.received(), NOW).unwrap().unwrap();
        (sender, Post::of(&response, B, A))
    }

    #[test]
    fn response_shows_that_the_peer_is_there_and_a_second_one_changes_nothing() {
        let (mut sender, response) = pinged();
        assert_eq!(
            sender.handle(Event::Message(&response.received()), NOW),
            Ok(vec![Action::Answered(PingResponse {})])
        );
        assert_eq!(sender.state(), State::Answered);
        assert_eq!(sender.handle(Event::Message(&response.received()), NOW), Ok(vec![]));
        let other = response.with_id("another");
        let unexpected = FlowError::Unexpected { message: PingResponse::TYPE, state: "answered" };
        assert_eq!(sender.handle(Event::Message(&other.received()), NOW), Err(unexpected));
        assert_eq!(restart(&sender), sender);
    }

    #[test]
    fn responses_from_elsewhere_are_refused_and_change_nothing() {
        let (mut sender, response) = pinged();
        let before = sender.clone();
        let cases = [
            (response.by_stranger(), FlowError::WrongSender),
            (response.in_thread("t-2"), FlowError::WrongThread),
            (Post { recipient: did("did:example:other"), ..response }, FlowError::WrongRecipient),
        ];
        for (post, error) in cases {
            assert_eq!(sender.handle(Event::Message(&post.received()), NOW), Err(error));
            assert_eq!(sender, before);
        }
    }

    #[test]
    fn silence_is_told_at_the_deadline_and_not_before() {
        let (mut sender, response) = pinged();
        let deadline = UnixSeconds(1_060);
        assert_eq!(sender.handle(Event::Tick, UnixSeconds(1_059)), Ok(vec![Action::WakeAt(deadline)]));
        assert_eq!(sender.handle(Event::Tick, deadline), Ok(vec![Action::TimedOut]));
        assert_eq!(sender.handle(Event::Tick, deadline), Ok(vec![]));
        let late = sender.handle(Event::Message(&response.received()), deadline).unwrap_err();
        assert_eq!(late, FlowError::Unexpected { message: PingResponse::TYPE, state: "timed-out" });
    }
}
