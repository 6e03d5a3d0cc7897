//! What a peer does wrong: one table of what it is told, how it is counted, and what a transport hears.

use einmal_didcomm::ProblemCode;
use einmal_flows::{report_problem::ProblemReport, routing::NotTaken};

use super::{refusal::Refusal, stats::Reason};

/// What the peer that caused an event did wrong, or asked for in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PeerFault {
    /// It asks for what cannot be met in the present state.
    Request,
    /// Its message breaks the rules of its type.
    Malformed,
    /// It speaks what is not spoken here.
    Unsupported,
    /// It is not who may do this.
    Untrusted,
    /// It comes too late.
    TooLate,
    /// It repeats what was replaced since.
    Replayed,
    /// It is not enrolled here, or names a recipient who is not.
    NotEnrolled,
    /// It asks for live delivery where there is none.
    LiveMode,
    /// There is no room for what it brings or asks for; there may be later.
    NoRoom,
    /// What it brings is larger than is taken, now or later.
    TooLarge,
}

impl PeerFault {
    /// The table.
    fn row(self) -> (ProblemCode, Reason, Refusal) {
        match self {
            Self::Request => (ProblemCode::REQUEST, Reason::Invalid, Refusal::Invalid),
            Self::Malformed => (ProblemCode::MALFORMED, Reason::Invalid, Refusal::Invalid),
            Self::Unsupported => (ProblemCode::UNSUPPORTED, Reason::Invalid, Refusal::Invalid),
            Self::Untrusted => (ProblemCode::TRUST, Reason::Invalid, Refusal::Invalid),
            Self::TooLate => (ProblemCode::TIME, Reason::Invalid, Refusal::Invalid),
            Self::Replayed => (ProblemCode::REPLAYED, Reason::Invalid, Refusal::Invalid),
            Self::NotEnrolled => (ProblemCode::NOT_ENROLLED, Reason::NotEnrolled, Refusal::Invalid),
            Self::LiveMode => (ProblemCode::LIVE_MODE, Reason::Invalid, Refusal::Invalid),
            // Room may come back.
            Self::NoRoom => (ProblemCode::STORAGE, Reason::MailboxFull, Refusal::Unavailable),
            Self::TooLarge => (ProblemCode::TOO_BIG, Reason::TooLarge, Refusal::TooLarge),
        }
    }

    /// The code the peer is told.
    pub fn code(self) -> ProblemCode {
        self.row().0
    }

    /// A report of this fault to the peer; `detail` says what was wrong in particular.
    pub(crate) fn report(self, detail: &str) -> ProblemReport {
        ProblemReport::new(self.code()).with_detail(detail)
    }

    /// The reason it is counted under.
    pub(crate) fn reason(self) -> Reason {
        self.row().1
    }

    /// What a transport is told.
    pub(crate) fn refusal(self) -> Refusal {
        self.row().2
    }

    /// What our own user may do whose command met with this: no peer has caused it.
    pub(super) fn remedy(self) -> &'static str {
        match self {
            Self::Request => "it may have gone on or ended meanwhile: look at it again",
            Self::TooLate => "ask whoever made it for a new one",
            Self::Malformed | Self::Unsupported | Self::Untrusted | Self::Replayed => {
                "take nothing from it, and ask whoever made it for another"
            }
            Self::NotEnrolled => "register with the mediator first",
            Self::LiveMode => "ask for it on a connection that stays open",
            Self::NoRoom => "make room first, or try again later",
            Self::TooLarge => "send it in parts",
        }
    }
}

impl From<NotTaken> for PeerFault {
    fn from(why: NotTaken) -> Self {
        match why {
            NotTaken::Malformed => Self::Malformed,
            NotTaken::NotEnrolled => Self::NotEnrolled,
            NotTaken::TooLarge => Self::TooLarge,
        }
    }
}
