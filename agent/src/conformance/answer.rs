//! What came back for a message, and how it is judged.

use einmal_didcomm::{Envelope, Message, MessageType, Opened};
use einmal_keys::base64url_decode_tolerant;
use serde_json::Value;

use super::{
    outcome::{Outcome, Problem, holds},
    probe::Probe,
};

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    /// HTTP status; `None` over a WebSocket, or if nobody answered.
    pub(super) status: Option<u16>,
    /// Media type of the body.
    pub(super) media_type: Option<String>,
    /// What the body says.
    pub(super) heard: Heard,
}

/// What an answer says.
#[derive(Debug)]
pub(super) enum Heard {
    /// A message we can open.
    Message(Box<Opened>),
    /// Nothing.
    Nothing,
    /// A body that is not a DIDComm message of any kind, such as `OK` or a page of HTML: it answers nothing.
    Noise,
    /// A message that is not encrypted, or signed alone: it proves nothing to us, but shows what its author made of ours.
    Bare(MessageType),
    /// Something we cannot open, and why.
    Unreadable(String),
    /// The target is busy: it answered 429 or 503 until the last attempt.
    Busy(String),
    /// The target, or a gateway before it, failed inside: nobody knows whether it acted upon the message.
    Failed(String),
    /// There was no answer at all.
    Lost(String),
}

impl Answer {
    /// No answer came.
    pub(super) fn lost(problem: impl ToString) -> Self {
        Self { status: None, media_type: None, heard: Heard::Lost(problem.to_string()) }
    }

    /// The message that came.
    pub(super) fn opened(&self) -> Option<&Opened> {
        match &self.heard {
            Heard::Message(opened) => Some(opened),
            _ => None,
        }
    }

    /// Whether a message came back, even one that only reports a failure.
    pub(super) fn came_back(&self) -> bool {
        match self.heard {
            Heard::Message(_) => true,
            Heard::Failed(_) => self.status.is_none_or(|status| (200..300).contains(&status)),
            _ => false,
        }
    }

    /// Whether no message came, although the connection worked.
    pub(super) fn is_silent(&self) -> bool {
        matches!(self.heard, Heard::Nothing | Heard::Noise)
    }

    /// Whether the request or its answer was lost on the way.
    pub(super) fn is_lost(&self) -> bool {
        matches!(self.heard, Heard::Lost(_))
    }

    /// Checks that the request reached a target that had time for it; otherwise the answer proves nothing.
    pub(super) fn arrived(&self) -> Outcome {
        match &self.heard {
            Heard::Lost(problem) | Heard::Busy(problem) | Heard::Failed(problem) => {
                Err(Problem::Unknown(problem.clone()))
            }
            _ => Ok(()),
        }
    }

    /// Whether it was accepted: by a 2xx status, or over a socket by saying anything.
    pub(super) fn accepted(&self) -> bool {
        self.arrived().is_ok() && self.status.is_none_or(|status| (200..300).contains(&status))
    }

    /// The code of the problem report that came.
    pub(super) fn report(&self) -> Option<&str> {
        let message = &self.opened()?.message;
        is_report(&message.kind).then(|| message.body.get("code").and_then(Value::as_str).unwrap_or(""))
    }

    /// A report that something failed inside the target does not count as an answer.
    pub(super) fn weighed(mut self) -> Self {
        if let Some(code) = self.report().filter(|code| is_internal(code)) {
            self.heard = Heard::Failed(format!("the target failed inside: problem report {code}"));
        }
        self
    }

    /// The answer to `second` as if it answered `first`, of which `second` was a repetition.
    pub(super) fn answering(mut self, first: &Message, second: &Message) -> Self {
        if let Heard::Message(opened) = &mut self.heard {
            for thread in [&mut opened.message.thid, &mut opened.message.pthid] {
                if *thread == Some(second.thread()) {
                    *thread = Some(first.thread());
                }
            }
        }
        self
    }

    /// Why this is not the expected answer.
    pub(super) fn problem(&self) -> Problem {
        let text = self.describe();
        match &self.heard {
            Heard::Lost(_) | Heard::Busy(_) | Heard::Failed(_) => Problem::Unknown(text),
            Heard::Message(_) => match self.report() {
                Some(code) if code.contains("unsupported") => Problem::Silent(text),
                Some(_) => Problem::Refused(text),
                None => Problem::Broken(text),
            },
            Heard::Nothing | Heard::Noise if self.status.is_some_and(|status| status >= 500) => {
                Problem::Refused(text)
            }
            Heard::Nothing | Heard::Noise => Problem::Silent(text),
            Heard::Bare(_) | Heard::Unreadable(_) => Problem::Broken(text),
        }
    }

    /// Checks that a message of type `kind` came; its sender and thread are judged elsewhere.
    pub(super) fn expect_kind(&self, kind: &str) -> Outcome {
        let right = self.opened().is_some_and(|opened| opened.message.kind.is(kind));
        if right { Ok(()) } else { Err(self.problem()) }
    }

    /// The message, if its type is one of `kinds` and it provably comes from the target, or its present DID for us.
    pub(super) fn expect(self, kinds: &[&str], probe: &Probe) -> Outcome<Message> {
        let Some(opened) = self.opened() else { return Err(self.problem()) };
        if !kinds.iter().any(|kind| opened.message.kind.is(kind)) {
            return Err(self.problem());
        }
        if !probe.is_from_target(opened) {
            return Err("the answer does not prove to come from the target".into());
        }
        match self.heard {
            Heard::Message(opened) => Ok(opened.message),
            _ => Err("no message".into()),
        }
    }

    /// That nothing was done: nothing came back but silence, a refusal or a problem report, in whatever envelope. A
    /// request that was lost proves nothing, and neither does an answer in an envelope for somebody else.
    pub(super) fn expect_refusal(&self) -> Outcome {
        self.arrived()?;
        let acted = match &self.heard {
            Heard::Message(_) => self.report().is_none(),
            Heard::Bare(kind) => !is_report(kind),
            Heard::Unreadable(_) => return Err(Problem::Unknown(self.describe())),
            _ => false,
        };
        holds(!acted, || format!("it was acted upon: {}", self.describe()))
    }

    /// Checks that a problem report came; returns its code.
    pub(super) fn expect_report(&self) -> Outcome<String> {
        self.arrived()?;
        let missing = || Problem::Broken(format!("no problem report: {}", self.describe()));
        self.report().map(str::to_owned).ok_or_else(missing)
    }

    /// Checks that a problem report with this code came.
    pub(super) fn expect_code(&self, code: &str) -> Outcome {
        match self.expect_report() {
            Ok(came) if came == code => Ok(()),
            Ok(_) => Err(self.describe().into()),
            Err(problem) => Err(problem),
        }
    }

    /// The answer in words.
    pub(super) fn describe(&self) -> String {
        let status = self.status.map(|status| format!(", status {status}")).unwrap_or_default();
        match &self.heard {
            Heard::Message(opened) => match self.report() {
                Some(code) => format!("problem report {code}"),
                None => format!("answered with {}", opened.message.kind.as_str()),
            },
            Heard::Nothing => format!("no answer{status}"),
            Heard::Noise => format!("no answer, but a body that is no DIDComm message{status}"),
            Heard::Bare(kind) => format!("an answer that is not encrypted ({}){status}", kind.as_str()),
            Heard::Unreadable(problem) => format!("an answer that cannot be used ({problem}){status}"),
            Heard::Lost(problem) | Heard::Busy(problem) | Heard::Failed(problem) => problem.clone(),
        }
    }
}

/// What bytes say that are no encrypted message: what they are a message of, if they are one.
pub(super) fn bare(body: &[u8]) -> Option<MessageType> {
    let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).ok();
    let message = match Envelope::classify(body).ok()? {
        Envelope::Plain => json(body)?,
        Envelope::Signed => json(&base64url_decode_tolerant(json(body)?.get("payload")?.as_str()?)?)?,
        _ => return None,
    };
    MessageType::parse(message.get("type")?.as_str()?).ok()
}

fn is_report(kind: &MessageType) -> bool {
    kind.protocol() == "reportproblem" || kind.message() == "problemreport"
}

/// Whether a code says that the reporter itself is at fault, as a status 5xx does: its first descriptor is `me`.
fn is_internal(code: &str) -> bool {
    code.split('.').nth(2) == Some("me")
}

#[cfg(test)]
mod tests {
    use einmal_keys::base64url_encode;
    use serde_json::json;

    use super::*;

    fn answer(status: Option<u16>, heard: Heard) -> Answer {
        Answer { status, media_type: None, heard }
    }

    #[test]
    fn what_was_lost_or_put_off_is_no_refusal_and_no_failure() {
        for heard in [
            Heard::Lost("reset".into()),
            Heard::Busy("status 503".into()),
            Heard::Failed("status 502".into()),
        ] {
            let answer = answer(Some(200), heard);
            assert!(answer.expect_refusal().is_err_and(|problem| problem.is_unknown()));
            assert!(answer.expect_report().is_err_and(|problem| problem.is_unknown()));
            assert!(answer.problem().is_unknown() && !answer.accepted());
        }
        assert_eq!(answer(Some(400), Heard::Nothing).expect_refusal(), Ok(()));
    }

    #[test]
    fn answer_in_plaintext_or_signed_alone_was_given_and_a_report_of_that_form_is_a_refusal() {
        let plain = |kind: &str| json!({"id": "1", "type": kind, "body": {}}).to_string();
        let signed =
            |kind: &str| json!({"payload": base64url_encode(plain(kind)), "signatures": []}).to_string();
        let heard = |text: String| answer(Some(200), Heard::Bare(bare(text.as_bytes()).unwrap()));
        let (pong, report) = (
            "https://didcomm.org/trust-ping/2.0/ping-response",
            "https://didcomm.org/report-problem/2.0/problem-report",
        );
        for text in [plain(pong), signed(pong)] {
            let refused = heard(text).expect_refusal();
            assert!(
                matches!(&refused, Err(Problem::Broken(why)) if why.contains("ping-response")),
                "{refused:?}"
            );
        }
        for text in [plain(report), signed(report)] {
            assert_eq!(heard(text).expect_refusal(), Ok(()));
        }
        for text in [plain("about:blank"), json!({"ciphertext": "", "protected": ""}).to_string()] {
            assert_eq!(bare(text.as_bytes()), None, "{text}");
        }
        let sealed = answer(Some(200), Heard::Unreadable("for somebody else".into()));
        assert!(sealed.expect_refusal().is_err_and(|problem| problem.is_unknown()));
    }

    #[test]
    fn codes_that_blame_the_reporter_are_told_from_all_others() {
        for code in ["e.m.me", "e.p.me.res.compute", "w.m.me.res"] {
            assert!(is_internal(code), "{code}");
        }
        for code in ["", "me", "e.me.x", "e.p.msg.me", "e.p.message", "e.p.req.not_enroll"] {
            assert!(!is_internal(code), "{code}");
        }
    }

    #[test]
    fn silence_and_refusals_of_a_client_error_are_told_from_a_server_error() {
        assert!(matches!(answer(Some(404), Heard::Noise).problem(), Problem::Silent(_)));
        assert!(matches!(answer(Some(200), Heard::Nothing).problem(), Problem::Silent(_)));
        assert!(matches!(answer(Some(500), Heard::Nothing).problem(), Problem::Refused(_)));
    }
}
