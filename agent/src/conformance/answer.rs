//! What came back for a message, and how it is judged.

use einmal_did::Did;
use einmal_didcomm::{Message, Opened};
use serde_json::Value;

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    /// HTTP status; `None` over a WebSocket, or if nobody answered.
    pub(super) status: Option<u16>,
    /// Media type of what came.
    pub(super) media_type: Option<String>,
    /// What it says.
    pub(super) heard: Heard,
}

/// What an answer says.
#[derive(Debug)]
pub(super) enum Heard {
    /// A message we can open.
    Message(Box<Opened>),
    /// Nothing.
    Nothing,
    /// Something we cannot open, and why.
    Unreadable(String),
    /// There was no answer at all.
    Lost(String),
}

impl Answer {
    /// There was none.
    pub(super) fn lost(problem: &str) -> Self {
        Self { status: None, media_type: None, heard: Heard::Lost(problem.to_owned()) }
    }

    /// The message that came.
    pub(super) fn opened(&self) -> Option<&Opened> {
        match &self.heard {
            Heard::Message(opened) => Some(opened),
            _ => None,
        }
    }

    /// Whether it was taken: by a status 2xx, or by saying anything over a socket.
    pub(super) fn accepted(&self) -> bool {
        match self.status {
            Some(status) => (200..300).contains(&status),
            None => !matches!(self.heard, Heard::Lost(_)),
        }
    }

    /// The code of the problem report that came.
    pub(super) fn report(&self) -> Option<&str> {
        let message = &self.opened()?.message;
        let is_report =
            message.kind.protocol() == "reportproblem" || message.kind.message() == "problemreport";
        is_report.then(|| message.body.get("code").and_then(Value::as_str).unwrap_or(""))
    }

    /// That a message of type `kind` came; who wrote it, and in which thread, is judged elsewhere.
    pub(super) fn expect_kind(&self, kind: &str) -> Result<(), String> {
        let right = self.opened().is_some_and(|opened| opened.message.kind.is(kind));
        if right { Ok(()) } else { Err(self.describe()) }
    }

    /// The message, if it is of one of `kinds` and proves to come from `sender`.
    pub(super) fn expect(self, kinds: &[&str], sender: &Did) -> Result<Message, String> {
        let Some(opened) = self.opened() else { return Err(self.describe()) };
        if !kinds.iter().any(|kind| opened.message.kind.is(kind)) {
            return Err(self.describe());
        }
        if !opened.is_authenticated() || !opened.sender().is_some_and(|from| from.same_as(sender)) {
            return Err("the answer does not prove to come from the target".to_owned());
        }
        match self.heard {
            Heard::Message(opened) => Ok(opened.message),
            _ => Err("no message".to_owned()),
        }
    }

    /// That nothing was done: nothing came back but silence, a refusal or a problem report.
    pub(super) fn expect_refusal(&self) -> Result<(), String> {
        match &self.heard {
            Heard::Message(_) if self.report().is_none() => {
                Err(format!("it was acted upon: {}", self.describe()))
            }
            _ => Ok(()),
        }
    }

    /// That a problem report came; its code.
    pub(super) fn expect_report(&self) -> Result<String, String> {
        self.report().map(str::to_owned).ok_or_else(|| format!("no problem report: {}", self.describe()))
    }

    /// The answer in words.
    pub(super) fn describe(&self) -> String {
        let status = self.status.map(|status| format!("status {status}")).unwrap_or_default();
        match &self.heard {
            Heard::Message(opened) => match self.report() {
                Some(code) => format!("problem report {code}"),
                None => format!("answered with {}", opened.message.kind.as_str()),
            },
            Heard::Nothing => format!("no answer, {status}"),
            Heard::Unreadable(problem) => format!("an answer that cannot be used ({problem}), {status}"),
            Heard::Lost(problem) => problem.clone(),
        }
    }
}
