//! Report Problem 2.0: telling a peer what went wrong, without ever starting a quarrel.
//!
//! A report opens a thread below the troubled one (`pthid`). [`ErrorBudget`] counts per thread: after
//! [`MAX_ERRORS`](crate::limits::MAX_ERRORS) reports, one last `e.p.req.max-errors-exceeded` is sent and then nothing
//! more. A report is never answered by a report, and only a proved sender gets one: the functions take a
//! [`Received`](crate::Received), which exists only with proof.

mod budget;
mod messages;

pub use budget::ErrorBudget;
pub use messages::{PROBLEM_REPORT, Problem, ProblemReport, is_report, read};
