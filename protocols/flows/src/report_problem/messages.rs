//! The body of Report Problem 2.0, made and read.

use std::fmt;

use einmal_didcomm::{Body, MessageId, MessageType, ProblemCode, ThreadId};
use serde::{Deserialize, Serialize};

use crate::{
    Draft, FlowError, Received,
    limits::{MAX_COMMENT_CHARS, MAX_PROBLEM_ARG_CHARS, MAX_PROBLEM_ARGS},
    text::for_display,
};

/// Type URI of the problem report.
pub const PROBLEM_REPORT: &str = "https://didcomm.org/report-problem/2.0/problem-report";

/// What went wrong.
///
/// # Specification
///
/// DIDComm Messaging v2.1, "Problem Reports".
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProblemReport {
    /// What kind of problem it is.
    pub code: ProblemCode,
    /// Text that is always the same for this code, with `{1}` where the first argument goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Arguments of the comment.
    #[serde(default, skip_serializing_if = "is_none_or_empty")]
    pub args: Option<Vec<Option<String>>>,
    /// Where a person may turn for help.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escalate_to: Option<String>,
}

fn is_none_or_empty(args: &Option<Vec<Option<String>>>) -> bool {
    args.as_ref().is_none_or(Vec::is_empty)
}

impl Body for ProblemReport {
    const TYPE: &'static str = PROBLEM_REPORT;
}

impl ProblemReport {
    /// A report of `code` with what it means, if it is one of ours.
    pub fn new(code: ProblemCode) -> Self {
        let comment = code.meaning().map(str::to_owned);
        Self { code, comment, args: None, escalate_to: None }
    }

    /// The same report with what was wrong in particular: the comment is the same for each report of its code, so it goes behind it as
    /// an argument. What is too long is cut.
    #[must_use]
    pub fn with_detail(mut self, detail: &str) -> Self {
        self.args = Some(vec![Some(detail.chars().take(MAX_PROBLEM_ARG_CHARS).collect())]);
        self
    }

    /// The report about thread `pthid`.
    ///
    /// It does not name the message that caused it: deployed libraries expect `ack` to be a string, not a list, and
    /// would refuse the whole message, so their users would not learn what was wrong.
    pub fn draft(&self, pthid: ThreadId) -> Draft {
        Draft::of(self).child_of(pthid)
    }

    /// The comment with its arguments in place, for people.
    ///
    /// A missing argument reads `?`; extra ones are appended. Bounded, and without control characters.
    pub fn render(&self) -> String {
        let comment = self.comment.as_deref().unwrap_or_default();
        let args: Vec<&str> = self
            .args
            .iter()
            .flatten()
            .take(MAX_PROBLEM_ARGS)
            .map(|arg| arg.as_deref().unwrap_or("?"))
            .collect();
        let mut used = vec![false; args.len()];
        let mut out = String::new();
        let mut rest = comment;
        while let Some((before, after)) = rest.split_once('{') {
            out.push_str(before);
            let place = after.split_once('}').and_then(|(number, after)| {
                let number: usize = number.parse().ok().filter(|number| *number > 0)?;
                Some((number - 1, after))
            });
            let Some((index, after)) = place else {
                out.push('{');
                rest = after;
                continue;
            };
            out.push_str(args.get(index).copied().unwrap_or("?"));
            if let Some(used) = used.get_mut(index) {
                *used = true;
            }
            rest = after;
        }
        out.push_str(rest);
        for (arg, _) in args.iter().zip(&used).filter(|(_, used)| !**used) {
            if !out.is_empty() {
                out.push_str(", ");
            }
            out.push_str(arg);
        }
        for_display(&out, MAX_COMMENT_CHARS)
    }
}

/// Shows the code; comment and arguments are the peer's text and may name people.
impl fmt::Debug for ProblemReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProblemReport").field("code", &self.code).finish_non_exhaustive()
    }
}

/// A problem a peer reports.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// The troubled thread.
    pub thread: ThreadId,
    /// The messages that caused it, according to the peer.
    pub causes: Vec<MessageId>,
    /// What went wrong.
    pub report: ProblemReport,
}

/// Whether a message is a problem report, of this protocol or of one that has its own.
pub fn is_report(kind: &MessageType) -> bool {
    kind.has_name_of(PROBLEM_REPORT)
}

/// Reads a problem report.
///
/// The troubled thread is `pthid`; older code puts it in `thid`.
///
/// # Errors
///
/// [`FlowError::UnknownMessage`], [`FlowError::Malformed`], or [`FlowError::InvalidContent`] if it names no thread.
pub fn read(received: &Received<'_>) -> Result<Problem, FlowError> {
    if !is_report(&received.message().kind) {
        return Err(FlowError::UnknownMessage);
    }
    let mut report: ProblemReport = received.body_of_any_type(ProblemReport::TYPE)?;
    report.code = ProblemCode::received(report.code.as_str());
    report.comment = report.comment.map(|text| text.chars().take(MAX_COMMENT_CHARS).collect());
    if let Some(args) = &mut report.args {
        args.truncate(MAX_PROBLEM_ARGS);
        for arg in args.iter_mut().flatten() {
            *arg = arg.chars().take(MAX_PROBLEM_ARG_CHARS).collect();
        }
    }
    report.escalate_to = report.escalate_to.map(|uri| for_display(&uri, MAX_COMMENT_CHARS));
    let message = received.message();
    let thread = message.pthid.clone().or_else(|| message.thid.clone());
    let thread = thread.ok_or(FlowError::InvalidContent { what: "pthid" })?;
    Ok(Problem { thread, causes: message.ack.clone(), report })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{Post, id, thread};

    fn rendered(comment: &str, args: Value) -> String {
        let report = json!({"code": "e.p.req", "comment": comment, "args": args});
        serde_json::from_value::<ProblemReport>(report).unwrap().render()
    }

    #[test]
    fn arguments_are_placed_missing_ones_marked_and_surplus_ones_appended() {
        assert_eq!(rendered("cannot reach {1} via {2}", json!(["a", "b"])), "cannot reach a via b");
        assert_eq!(rendered("{2} and {1} and {3}", json!(["a", null])), "? and a and ?");
        assert_eq!(rendered("only {1}", json!(["a", "b", "c"])), "only a, b, c");
        assert_eq!(rendered("braces {x} { {0} {1", json!([])), "braces {x} { {0} {1");
        assert_eq!(rendered("", json!(["a"])), "a");
        assert_eq!(rendered("{1}", json!(["{2}", "b"])), "{2}, b");
    }

    #[test]
    fn text_of_a_peer_is_bounded_and_without_control_characters() {
        let text = rendered(&"\u{1b}{1}".repeat(5_000), json!(["x".repeat(500)]));
        assert!(text.chars().count() <= MAX_COMMENT_CHARS && !text.contains('\u{1b}'));
    }

    #[test]
    fn report_has_exactly_the_members_of_the_text() {
        let code = ProblemCode::received("e.p.xfer.cant-use-endpoint");
        let report = ProblemReport::new(code).with_detail("https://x");
        let draft = report.draft(thread("t-1"));
        assert_eq!((&*draft.kind, &draft.thid, &draft.pthid), (PROBLEM_REPORT, &None, &Some(thread("t-1"))));
        assert!(draft.ack.is_empty(), "deployed readers take no list");
        let expected = json!({"code": "e.p.xfer.cant-use-endpoint", "args": ["https://x"]});
        assert_eq!(Value::Object(draft.body), expected);
        let bare = ProblemReport::new(ProblemCode::TIME).draft(thread("t-1"));
        assert_eq!(Value::Object(bare.body), json!({"code": "e.p.req.time", "comment": "It comes too late"}));
    }

    fn post(value: Value) -> Post {
        Post::new("did:example:a", "did:example:b", value)
    }

    #[test]
    fn thread_is_found_in_pthid_first_and_in_thid_else() {
        for (headers, found) in [(json!({"pthid": "p", "thid": "t"}), "p"), (json!({"thid": "t"}), "t")] {
            let mut message =
                json!({"id": "r", "type": PROBLEM_REPORT, "body": {"code": "e.p.x"}, "ack": ["m"]});
            message.as_object_mut().unwrap().extend(headers.as_object().unwrap().clone());
            let problem = read(&post(message).received()).unwrap();
            assert_eq!((problem.thread, problem.causes), (thread(found), vec![id("m")]));
        }
        let nowhere = post(json!({"id": "r", "type": PROBLEM_REPORT, "body": {"code": "e.p.x"}}));
        assert_eq!(read(&nowhere.received()), Err(FlowError::InvalidContent { what: "pthid" }));
    }

    #[test]
    fn reports_of_other_protocols_are_reports_and_other_messages_are_not() {
        let kind = "https://didcomm.org/issue-credential/3.0/problem-report";
        let own =
            post(json!({"id": "r", "type": kind, "pthid": "p", "body": {"code": "e.p.x", "args": [null]}}));
        assert_eq!(read(&own.received()).unwrap().report.code.as_str(), "e.p.x");
        let other = post(json!({"id": "r", "type": "https://didcomm.org/empty/1.0/empty", "pthid": "p"}));
        assert_eq!(read(&other.received()), Err(FlowError::UnknownMessage));
    }

    #[test]
    fn debug_shows_the_code_only() {
        let report = ProblemReport::new(ProblemCode::TIME).with_detail("Erika is late");
        assert!(!format!("{report:?}").contains("Erika"));
    }
}
