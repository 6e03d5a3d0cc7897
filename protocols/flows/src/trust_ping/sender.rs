//! The side that pings and waits.

use einmal_did::Did;
use einmal_didcomm::{Body, ThreadId, UnixSeconds};
use serde::{Deserialize, Serialize};

use super::{Ping, PingResponse};
use crate::{
    Draft, FlowError, Received,
    exchange::{Exchange, exchange_accessors},
    limits::PING_TIMEOUT_SECS,
};

/// One ping and its answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sender {
    exchange: Exchange,
    state: State,
}

/// Where the ping stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum State {
    /// Waiting for the response.
    PingSent {
        /// First second at which waiting is over.
        deadline: UnixSeconds,
    },
    /// The peer answered.
    Responded,
    /// The peer did not answer in time.
    TimedOut,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::PingSent { .. } => "ping-sent",
            Self::Responded => "responded",
            Self::TimedOut => "timed-out",
        }
    }
}

/// Something that happened.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A message arrived.
    Message(&'a Received<'a>),
    /// A timer fired, or the node restarted.
    Tick,
}

/// Something to do now. Doing it twice does no harm.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Send this to the peer.
    Send(Draft),
    /// Give [`Event::Tick`] no earlier than this.
    WakeAt(UnixSeconds),
    /// The peer is there.
    Alive,
    /// The peer did not answer.
    TimedOut,
}

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
        let deadline = now.plus(PING_TIMEOUT_SECS);
        let mut exchange = Exchange::new(own, peer, thid, pthid);
        let draft = exchange.send(Draft::of(&Ping { response_requested: true }));
        (
            Self { exchange, state: State::PingSent { deadline } },
            vec![Action::Send(draft), Action::WakeAt(deadline)],
        )
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
        match (self.state, event) {
            (state, Event::Message(received)) => {
                self.exchange.check(received, now)?;
                received.body::<PingResponse>(&[])?;
                if self.exchange.repetition(&received.message().id).is_some() {
                    return Ok(vec![]);
                }
                if !matches!(state, State::PingSent { .. }) {
                    return Err(self.unexpected(PingResponse::TYPE));
                }
                self.exchange.note(&received.message().id)?;
                self.state = State::Responded;
                Ok(vec![Action::Alive])
            }
            (State::PingSent { deadline }, Event::Tick) if now >= deadline => {
                self.state = State::TimedOut;
                Ok(vec![Action::TimedOut])
            }
            (State::PingSent { deadline }, Event::Tick) => Ok(vec![Action::WakeAt(deadline)]),
            (_, Event::Tick) => Ok(vec![]),
        }
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
        assert_eq!(sender.handle(Event::Message(&response.received()), NOW), Ok(vec![Action::Alive]));
        assert_eq!(sender.state(), State::Responded);
        assert_eq!(sender.handle(Event::Message(&response.received()), NOW), Ok(vec![]));
        let other = response.with_id("another");
        let unexpected = FlowError::Unexpected { message: PingResponse::TYPE, state: "responded" };
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
