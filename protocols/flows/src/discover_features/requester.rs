//! The side that asks and waits.

use einmal_did::Did;
use einmal_didcomm::{Body, ThreadId, UnixSeconds};
use serde::{Deserialize, Serialize};

use super::{Disclose, Disclosure, OLD_DISCLOSE, Queries, Query};
use crate::{
    Draft, FlowError, Received,
    exchange::{Exchange, exchange_accessors},
    limits::{MAX_DISCLOSURES, MAX_FEATURE_LEN},
    question::{self, Event, State},
};

/// One set of queries and its answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Requester {
    exchange: Exchange,
    state: State,
}

/// Something to do now. The answer lists what the peer is willing to name; empty means it does not tell.
pub type Action = question::Action<Vec<Disclosure>>;

exchange_accessors!(Requester);

impl Requester {
    /// Asks `peer` in the new thread `thid`.
    pub fn start(
        own: Did,
        peer: Did,
        thid: ThreadId,
        queries: Vec<Query>,
        now: UnixSeconds,
    ) -> (Self, Vec<Action>) {
        let mut exchange = Exchange::new(own, peer, thid, None);
        let (state, actions) = question::ask(&mut exchange, Draft::of(&Queries { queries }), now);
        (Self { exchange, state }, actions)
    }

    /// Where the questions stand.
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
        question::advance(at, event, now, Disclose::TYPE, read_disclosures)
    }
}

/// Reads disclosures, even unsolicited ones. Entries longer than [`MAX_FEATURE_LEN`] are left out.
///
/// # Errors
///
/// [`FlowError::Malformed`], [`FlowError::TooMany`].
pub fn read_disclosures(received: &Received<'_>) -> Result<Vec<Disclosure>, FlowError> {
    let Disclose { mut disclosures } = received.body(&[OLD_DISCLOSE])?;
    if disclosures.len() > MAX_DISCLOSURES {
        return Err(FlowError::TooMany { what: "disclosures", most: MAX_DISCLOSURES });
    }
    let short = |text: &String| text.len() <= MAX_FEATURE_LEN;
    disclosures.retain(|feature| {
        short(&feature.feature_type) && short(&feature.id) && feature.roles.iter().all(short)
    });
    Ok(disclosures)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        discover_features::{PROTOCOL, answer},
        limits::PING_TIMEOUT_SECS,
        testing::{NOW, Post, did, restart, thread},
    };

    const A: &str = "did:example:a";
    const B: &str = "did:example:b";

    fn asked() -> (Requester, Post) {
        let query = Query { feature_type: PROTOCOL.into(), pattern: "*".into() };
        let (requester, actions) = Requester::start(did(A), did(B), thread("t-1"), vec![query], NOW);
        let Some(Action::Send(draft)) = actions.first() else { panic!("{actions:?}") };
        let expected = json!({"queries": [{"feature-type": "protocol", "match": "*"}]});
        assert_eq!(serde_json::Value::Object(draft.body.clone()), expected);
        let features = [Disclosure::protocol("https://didcomm.org/trust-ping/2.0", &[])];
        let answer = answer(&Post::of(draft, A, B).received(), &features, NOW).unwrap();
        (requester, Post::of(&answer, B, A))
    }

    #[test]
    fn answer_is_handed_over_once() {
        let (mut requester, answer) = asked();
        let told = requester.handle(Event::Message(&answer.received()), NOW).unwrap();
        let expected = Disclosure::protocol("https://didcomm.org/trust-ping/2.0", &[]);
        assert_eq!(told, [Action::Answered(vec![expected])]);
        assert_eq!(requester.handle(Event::Message(&answer.received()), NOW), Ok(vec![]));
        assert_eq!(restart(&requester), requester);
    }

    #[test]
    fn answers_from_elsewhere_and_second_answers_are_refused() {
        let (mut requester, answer) = asked();
        let stranger = requester.handle(Event::Message(&answer.by_stranger().received()), NOW);
        assert_eq!(stranger, Err(FlowError::WrongSender));
        let elsewhere = requester.handle(Event::Message(&answer.in_thread("t-2").received()), NOW);
        assert_eq!(elsewhere, Err(FlowError::WrongThread));
        requester.handle(Event::Message(&answer.received()), NOW).unwrap();
        let second = requester.handle(Event::Message(&answer.with_id("second").received()), NOW);
        assert_eq!(second, Err(FlowError::Unexpected { message: Disclose::TYPE, state: "answered" }));
    }

    #[test]
    fn older_spelling_is_understood_and_overlong_entries_are_left_out() {
        let long = "x".repeat(MAX_FEATURE_LEN + 1);
        let message = json!({"id": "d", "type": OLD_DISCLOSE, "body": {"disclosures": [
            {"feature-type": "protocol", "id": "a", "extra": 1}, {"feature-type": "protocol", "id": long}]}});
        let read = read_disclosures(&Post::new(B, A, message).received()).unwrap();
        assert_eq!(read, [Disclosure::new(PROTOCOL, "a")]);
    }

    #[test]
    fn too_many_disclosures_are_refused() {
        let feature = json!({"feature-type": "protocol", "id": "a"});
        let message = json!({"id": "d", "type": Disclose::TYPE,
            "body": {"disclosures": vec![feature; MAX_DISCLOSURES + 1]}});
        let refused = read_disclosures(&Post::new(B, A, message).received());
        assert_eq!(refused, Err(FlowError::TooMany { what: "disclosures", most: MAX_DISCLOSURES }));
    }

    #[test]
    fn silence_is_told_at_the_deadline() {
        let (mut requester, _) = asked();
        let deadline = NOW.plus(PING_TIMEOUT_SECS);
        assert_eq!(requester.handle(Event::Tick, NOW), Ok(vec![Action::WakeAt(deadline)]));
        assert_eq!(requester.handle(Event::Tick, deadline), Ok(vec![Action::TimedOut]));
        assert_eq!(requester.handle(Event::Tick, deadline), Ok(vec![]));
    }
}
