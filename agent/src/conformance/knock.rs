//! The message all checks knock with that need some answer: the first kind of message that this target answers.

use einmal_did::Did;
use einmal_didcomm::{Message, MessageType, SenderProtection};
use serde_json::{Value, json};

use super::{
    Run,
    answer::Answer,
    discover::FEATURES,
    mediation::{self, Dialect},
    outcome::Outcome,
    ping::{PING, PONG},
    probe::Probe,
};

/// A kind of message that many targets answer, and none must.
#[derive(Clone, Copy, Debug)]
pub(super) enum Knock {
    /// A ping that wants an answer.
    Ping,
    /// A query for one feature.
    Queries,
    /// A request for an account.
    Account(&'static Dialect),
}

impl Knock {
    /// All of them; those that leave nothing behind come first.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        [Self::Ping, Self::Queries].into_iter().chain(mediation::DIALECTS.iter().map(Self::Account))
    }

    /// The type of the message.
    pub(super) fn kind(self) -> String {
        match self {
            Self::Ping => PING.to_owned(),
            Self::Queries => format!("{FEATURES}/queries"),
            Self::Account(dialect) => dialect.kind("mediate-request"),
        }
    }

    /// The same type in a version that does not exist.
    pub(super) fn kind_of_no_version(self) -> String {
        let kind = self.kind();
        let mut parts = kind.rsplitn(3, '/');
        let (name, _, protocol) = (parts.next(), parts.next(), parts.next());
        format!("{}/99.0/{}", protocol.unwrap_or_default(), name.unwrap_or_default())
    }

    /// Its body.
    pub(super) fn body(self) -> Value {
        match self {
            Self::Ping => json!({"response_requested": true}),
            Self::Queries => json!({"queries": [{"feature-type": "protocol", "match": FEATURES}]}),
            Self::Account(_) => json!({}),
        }
    }

    /// Whether this is the type of an answer to it.
    pub(super) fn is_answer(self, kind: &MessageType) -> bool {
        match self {
            Self::Ping => kind.is(PONG),
            Self::Queries => kind.is(&format!("{FEATURES}/disclose")),
            Self::Account(dialect) => {
                kind.is(&dialect.kind("mediate-grant")) || kind.is(&dialect.kind("mediate-deny"))
            }
        }
    }

    /// The message as a request of `me`, whose answer may come back on the connection.
    pub(super) fn request(self, probe: &Probe, me: &Did) -> Outcome<Message> {
        probe.request(&self.kind(), me, &self.body())
    }

    /// The message without a way back.
    pub(super) fn one_way(self, probe: &Probe, me: &Did) -> Outcome<Message> {
        probe.message(&self.kind(), me, &probe.target, &self.body())
    }
}

/// The worth of a message that was answered, and not by a report.
const ANSWERED: u8 = 4;

/// A first message and what came of it.
pub(super) struct First {
    pub(super) knock: Knock,
    pub(super) me: Did,
    pub(super) request: Message,
    pub(super) answer: Answer,
}

impl First {
    async fn of(run: &Run, knock: Knock) -> Outcome<Self> {
        let me = run.probe.stranger()?;
        let request = knock.request(&run.probe, &me)?;
        let answer = match knock {
            Knock::Ping => run.probe.say_twice(&request).await,
            _ => run.probe.say(&request).await,
        };
        Ok(Self { knock, me, request, answer })
    }

    /// How much it tells: what was lost tells least, and an answer that is no report most.
    fn worth(&self) -> u8 {
        match &self.answer {
            answer if answer.opened().is_some() && answer.report().is_none() => ANSWERED,
            answer if answer.came_back() => 3,
            answer if answer.accepted() => 2,
            answer if !answer.is_lost() => 1,
            _ => 0,
        }
    }
}

/// Knocks until a message is answered; otherwise what came of the one that told most.
///
/// A target may listen only to whom it invited: what nobody answers is tried again as an answer to the invitation, and if
/// that helps, all further messages are sent as such.
pub(super) async fn first(run: &mut Run) -> Outcome<First> {
    let plain = round(run).await?;
    let Some(Ok(invitation)) = run.invitation.as_ref().filter(|_| plain.worth() < ANSWERED) else {
        return Ok(plain);
    };
    run.probe.parent = Some(invitation.thread.clone());
    let invited = round(run).await?;
    if invited.worth() == ANSWERED {
        return Ok(invited);
    }
    run.probe.parent = None;
    Ok(plain)
}

/// One message of each kind, until one is answered.
async fn round(run: &Run) -> Outcome<First> {
    let mut best = First::of(run, Knock::Ping).await?;
    // Nothing comes back from behind mediators, whatever is sent.
    for knock in Knock::all().skip(1).filter(|_| !run.probe.behind_hops) {
        if best.worth() == ANSWERED {
            break;
        }
        let next = First::of(run, knock).await?;
        if next.worth() > best.worth() {
            best = next;
        }
    }
    Ok(best)
}

/// Whether a message with this protection is answered, and not by a report.
pub(super) async fn is_answered(run: &Run, message: &Message, protection: SenderProtection) -> Outcome {
    let answer = run.probe.say_as(message, protection).await;
    match answer.opened() {
        Some(_) if answer.report().is_none() => Ok(()),
        _ => Err(answer.problem()),
    }
}
