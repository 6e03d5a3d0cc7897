//! One question to a peer (a ping, or queries for features) and its answer, awaited until a deadline.

use einmal_didcomm::UnixSeconds;
use serde::{Deserialize, Serialize};

use crate::{Draft, FlowError, Received, exchange::Exchange, limits::PING_TIMEOUT_SECS};

/// Where a question stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Waiting for the answer.
    Asked {
        /// First second at which waiting is over.
        deadline: UnixSeconds,
    },
    /// The peer answered.
    Answered,
    /// The peer did not answer in time.
    TimedOut,
}

impl State {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Asked { .. } => "asked",
            Self::Answered => "answered",
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
#[allow(clippy::large_enum_variant, reason = "few exist at a time, and each only until it is carried out")]
pub enum Action<A> {
    /// Send this to the peer.
    Send(Draft),
    /// Give [`Event::Tick`] no earlier than this.
    WakeAt(UnixSeconds),
    /// The peer answered this.
    Answered(A),
    /// The peer did not answer.
    TimedOut,
}

/// Asks `question` in `exchange`, which the question opens.
pub(crate) fn ask<A>(exchange: &mut Exchange, question: Draft, now: UnixSeconds) -> (State, Vec<Action<A>>) {
    let deadline = now.plus(PING_TIMEOUT_SECS);
    let actions = vec![Action::Send(exchange.send(question)), Action::WakeAt(deadline)];
    (State::Asked { deadline }, actions)
}

/// Advances a question by one event. The answer has type `kind` and is read by `read`; if that fails, nothing changes.
pub(crate) fn advance<A>(
    (exchange, state): (&mut Exchange, &mut State),
    event: Event<'_>,
    now: UnixSeconds,
    kind: &'static str,
    read: impl FnOnce(&Received<'_>) -> Result<A, FlowError>,
) -> Result<Vec<Action<A>>, FlowError> {
    match (*state, event) {
        (before, Event::Message(received)) => {
            exchange.check(received, now)?;
            let answer = read(received)?;
            let id = &received.message().id;
            if exchange.repetition(id).is_some() {
                return Ok(vec![]);
            }
            if !matches!(before, State::Asked { .. }) {
                return Err(FlowError::Unexpected { message: kind, state: before.name() });
            }
            exchange.note(id)?;
            *state = State::Answered;
            Ok(vec![Action::Answered(answer)])
        }
        (State::Asked { deadline }, Event::Tick) if now >= deadline => {
            *state = State::TimedOut;
            Ok(vec![Action::TimedOut])
        }
        (State::Asked { deadline }, Event::Tick) => Ok(vec![Action::WakeAt(deadline)]),
        (_, Event::Tick) => Ok(vec![]),
    }
}
