//! How many problem reports may be sent on one thread.

use einmal_didcomm::ProblemCode;
use serde::{Deserialize, Serialize};

use super::{ProblemReport, is_report};
use crate::{Draft, Received, limits::MAX_ERRORS};

/// Counts the reports sent on one thread; keep one for each [`ExchangeKey`](crate::ExchangeKey).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBudget {
    sent: u32,
}

impl ErrorBudget {
    /// The report to send because `received` was refused; `None` if nothing may be said.
    ///
    /// A report is never answered, and nothing more is said once the budget and the one last report are spent.
    ///
    /// # Specification
    ///
    /// DIDComm Messaging v2.1, "Cascading Problems".
    pub fn report(&mut self, received: &Received<'_>, report: ProblemReport) -> Option<Draft> {
        if is_report(&received.message().kind) || self.is_spent() {
            return None;
        }
        self.sent = self.sent.saturating_add(1);
        let report =
            if self.sent > MAX_ERRORS { ProblemReport::new(ProblemCode::MAX_ERRORS) } else { report };
        Some(report.draft(received.message().thread()))
    }

    /// Whether nothing more will be said on this thread.
    pub fn is_spent(&self) -> bool {
        self.sent > MAX_ERRORS
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{Post, report, thread};

    const A: &str = "did:example:a";
    const B: &str = "did:example:b";

    #[test]
    fn after_the_budget_comes_one_last_report_and_then_silence() {
        let message = json!({"id": "m-1", "thid": "t-1", "type": "https://didcomm.org/empty/1.0/empty"});
        let message = Post::new(A, B, message);
        let mut budget = ErrorBudget::default();
        let mut report = || budget.report(&message.received(), ProblemReport::new(ProblemCode::MALFORMED));
        for _ in 0..MAX_ERRORS {
            let draft = report().unwrap();
            assert_eq!(draft.body.get("code"), Some(&json!("e.p.msg")));
            assert_eq!((draft.pthid, draft.ack), (Some(thread("t-1")), vec![]));
        }
        assert_eq!(report().unwrap().body.get("code"), Some(&json!("e.p.req.max-errors-exceeded")));
        for _ in 0..3 {
            assert_eq!(report(), None);
        }
        assert!(budget.is_spent());
    }

    #[test]
    fn a_report_is_never_answered_by_a_report() {
        let mut budget = ErrorBudget::default();
        let theirs = report(A, B, "t-1", "e.p.msg");
        let answer = budget.report(&theirs.received(), ProblemReport::new(ProblemCode::MALFORMED));
        assert_eq!((answer, budget), (None, ErrorBudget::default()));
    }
}
