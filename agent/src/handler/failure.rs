//! Why an event was not handled, and what follows: fetch and repeat, tell the peer, or drop it.

use einmal_did::{Did, ResolveError};
use einmal_didcomm::{MessageError, OpenError, PackError, ProblemCode};
use einmal_flows::{FlowError, FlowFault};
use einmal_keys::KeyError;
use einmal_storage::{Fault, StoreError};

use super::{new_dids::IdentityError, peer_fault::PeerFault};
use crate::error::SetupError;

/// Something the node must fetch before the event can be handled.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Need {
    /// A DID document.
    Document {
        /// The DID it belongs to.
        did: Did,
    },
    /// A status list token.
    StatusList {
        /// Where it is published.
        uri: String,
        /// Whose it must be: a list that is not of the issuer of one card may well be of another's.
        issuer: String,
    },
    /// Several of these, fetched side by side: none of them waits for another that is not answered.
    All {
        /// Which; none of them is of this variant.
        needs: Vec<Self>,
    },
}

impl Need {
    /// What is to be fetched, one by one.
    pub(crate) fn parts(&self) -> &[Self] {
        match self {
            Self::All { needs } => needs,
            one => std::slice::from_ref(one),
        }
    }
}

/// An event was not handled, and nothing was changed. Sorted by who is to blame.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    // Nobody.
    /// Fetch this and handle the event again.
    #[error("something must be fetched first")]
    Need(Need),
    /// It may work later: nothing was changed, and the event may come again.
    #[error("not possible at present: {problem}")]
    Later {
        /// What stands in the way.
        problem: &'static str,
    },

    // The peer that caused the event.
    /// It did something wrong and is told so.
    #[error("{comment} ({})", .fault.code())]
    Peer {
        /// What it did wrong; the code it is told follows from that.
        fault: PeerFault,
        /// Explanation for people, without personal data.
        comment: String,
    },
    /// It proves nothing of what it must prove, and is told nothing.
    #[error("{problem}")]
    Unproved {
        /// What is not proved.
        problem: &'static str,
    },
    /// It exceeds its rate: nothing was looked at.
    #[error("more requests than one account may send in this time")]
    TooOften,

    // A peer that was asked for something.
    /// It was not reached.
    #[error("the peer was not reached: {problem}")]
    Unreached {
        /// Why not.
        problem: String,
    },
    /// It was reached and declines.
    #[error("{problem}")]
    Declined {
        /// What it declines to do.
        problem: String,
    },
    /// It was reached and reports a problem.
    #[error("the peer reports the problem {code}")]
    Reported {
        /// The code it wrote, shortened if it is endless.
        code: ProblemCode,
    },
    /// Its answer is larger than an envelope may be.
    #[error("the peer's answer has more than {most} bytes")]
    AnswerTooLarge {
        /// The bound in bytes.
        most: usize,
    },
    /// Its answer does not open.
    #[error(transparent)]
    Open(OpenError),

    // The user of this node.
    /// The request is impossible; the text names the remedy.
    #[error("{problem}")]
    User {
        /// What is impossible, and what to do instead.
        problem: String,
    },

    // The operator of this node, and what it runs on.
    /// A setting cannot be carried out; the text names the place.
    #[error("{problem}")]
    Misconfigured {
        /// What cannot be carried out, and why.
        problem: String,
    },
    /// The store failed, or a record in it is damaged.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Packing failed.
    #[error(transparent)]
    Pack(PackError),

    // This program.
    /// It wanted to send what its protocol does not allow; the user is to blame if a command of theirs asked for it.
    #[error("cannot send this: {reason}")]
    Misuse {
        /// Which rule it breaks, and so how to mend it.
        reason: &'static str,
    },
    /// It reached a state that cannot be.
    #[error("internal failure: {problem}")]
    Internal {
        /// Which state.
        problem: String,
    },
}

impl Failure {
    /// It may work later, and nobody is to blame.
    pub(crate) fn later(problem: &'static str) -> Self {
        Self::Later { problem }
    }

    /// The peer is to blame.
    pub(crate) fn peer(fault: PeerFault, comment: impl Into<String>) -> Self {
        Self::Peer { fault, comment: comment.into() }
    }

    /// The peer proves nothing, and is told nothing.
    pub(crate) fn unproved(problem: &'static str) -> Self {
        Self::Unproved { problem }
    }

    /// A peer that was asked was not reached.
    pub(crate) fn unreached(problem: impl ToString) -> Self {
        Self::Unreached { problem: problem.to_string() }
    }

    /// A peer that was asked declines.
    pub(crate) fn declined(problem: impl Into<String>) -> Self {
        Self::Declined { problem: problem.into() }
    }

    /// The random source failed. Nobody is to blame, and nothing may be lost by it.
    pub(crate) fn entropy<E>(_: E) -> Self {
        Self::later("the random source did not answer")
    }

    /// A key of ours could not be made or used.
    pub(crate) fn key<E>(_: E) -> Self {
        Self::later("a key could not be used")
    }

    /// The node has no public DID yet.
    pub(crate) fn no_did_yet() -> Self {
        Self::later("this node has no DID yet")
    }

    /// A record of ours has impossible content; the text says which.
    pub(crate) fn damaged(what: impl Into<String>) -> Self {
        Self::Store(StoreError::Damaged { what: what.into() })
    }

    /// The user asked for something impossible; the text names the remedy.
    pub(crate) fn user(problem: impl Into<String>) -> Self {
        Self::User { problem: problem.into() }
    }

    /// A setting cannot be carried out; the text names the place.
    pub(crate) fn misconfigured(problem: impl Into<String>) -> Self {
        Self::Misconfigured { problem: problem.into() }
    }

    /// A bug of this program.
    pub(crate) fn internal(problem: impl ToString) -> Self {
        Self::Internal { problem: problem.to_string() }
    }

    /// The same, met while a command of our own user was carried out: no peer has caused it and none is blamed. The user reads
    /// what to do instead, and no code of the wire.
    pub(crate) fn of_command(self) -> Self {
        match self {
            Self::Peer { fault, comment } => Self::user(format!("{comment}; {}", fault.remedy())),
            Self::Misuse { .. } => Self::user(self.to_string()),
            other => other,
        }
    }

    /// What must be fetched, if that is why it failed.
    pub(crate) fn need(&self) -> Option<Need> {
        match self {
            Self::Need(need) => Some(need.clone()),
            Self::Pack(PackError::Resolve { source: ResolveError::NotFetched { did }, .. })
            | Self::Open(OpenError::Resolve { source: ResolveError::NotFetched { did }, .. }) => {
                Some(Need::Document { did: did.clone() })
            }
            _ => None,
        }
    }

    /// Whether the same event may be handled later without anybody changing it. A failure that is not temporary recurs
    /// each time, and is not retried for ever.
    pub(crate) fn is_temporary(&self) -> bool {
        match self {
            Self::Need(_)
            | Self::Later { .. }
            | Self::TooOften
            | Self::Unreached { .. }
            | Self::Misconfigured { .. } => true,
            Self::Store(error) => !is_lasting(error.fault()),
            Self::Pack(PackError::Resolve { did, source }) => may_resolve(did, source),
            Self::Pack(PackError::Custody(_) | PackError::Entropy) | Self::Open(OpenError::Custody(_)) => {
                true
            }
            Self::Open(OpenError::Resolve { did, source }) => may_resolve(did, source),
            Self::Peer { .. }
            | Self::Unproved { .. }
            | Self::Declined { .. }
            | Self::Reported { .. }
            | Self::AnswerTooLarge { .. }
            | Self::User { .. }
            | Self::Pack(_)
            | Self::Open(_)
            | Self::Misuse { .. }
            | Self::Internal { .. } => false,
        }
    }

    /// Whether the operator must mend something and is told so.
    pub(crate) fn is_ours_to_mend(&self) -> bool {
        match self {
            Self::Misconfigured { .. } | Self::Misuse { .. } | Self::Internal { .. } => true,
            Self::Store(error) => is_lasting(error.fault()),
            _ => false,
        }
    }
}

/// Whether a store fails with this each time, until somebody mends it.
fn is_lasting(fault: Fault) -> bool {
    match fault {
        Fault::Program | Fault::Operator | Fault::Data => true,
        Fault::Again | Fault::Room | Fault::System => false,
    }
}

/// Whether a DID that does not resolve now may do so later: a did:web may come back, but what is computed from the DID
/// itself does not change.
fn may_resolve(did: &Did, error: &ResolveError) -> bool {
    match error {
        ResolveError::NotFetched { .. } | ResolveError::Unavailable { .. } => true,
        ResolveError::NotFound { .. } => did.method() == "web",
        _ => false,
    }
}

impl From<IdentityError> for Failure {
    fn from(error: IdentityError) -> Self {
        match error {
            IdentityError::Key(KeyError::Entropy) => Self::entropy(error),
            IdentityError::Key(_) => Self::key(error),
            IdentityError::Store(error) => Self::Store(error),
            IdentityError::Did(error) => Self::internal(format!("no DID can be made: {error}")),
        }
    }
}

impl From<SetupError> for Failure {
    fn from(error: SetupError) -> Self {
        match error {
            SetupError::Store(error) => Self::Store(error),
            SetupError::Internal(problem) => Self::Internal { problem },
            error => Self::user(error.to_string()),
        }
    }
}

impl From<FlowError> for Failure {
    fn from(error: FlowError) -> Self {
        let fault = match error.fault() {
            FlowFault::Unexpected => PeerFault::Request,
            FlowFault::Malformed => PeerFault::Malformed,
            FlowFault::Unsupported => PeerFault::Unsupported,
            FlowFault::Untrusted => PeerFault::Untrusted,
            FlowFault::TooLate => PeerFault::TooLate,
            FlowFault::NotEnrolled => PeerFault::NotEnrolled,
            FlowFault::LiveMode => PeerFault::LiveMode,
            FlowFault::Misuse { reason } => return Self::Misuse { reason },
            FlowFault::Dependency => return Self::later("the store or the random source did not answer"),
        };
        Self::peer(fault, error.to_string())
    }
}

impl From<MessageError> for Failure {
    fn from(error: MessageError) -> Self {
        FlowError::Malformed(error).into()
    }
}

impl From<PackError> for Failure {
    fn from(error: PackError) -> Self {
        Self::Pack(error)
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        Self::Open(error)
    }
}
