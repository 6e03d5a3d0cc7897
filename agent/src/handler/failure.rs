//! Why an event was not handled, and what follows: fetch and repeat, tell the peer, or let it go.

use einmal_did::{Did, ResolveError};
use einmal_didcomm::{MessageError, OpenError, PackError, ProblemCode};
use einmal_flows::FlowError;
use einmal_storage::StoreError;

/// Something the node must fetch before the event can be handled.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Need {
    /// A DID document.
    Document(Did),
    /// A status list token.
    StatusList {
        /// Where it lies.
        uri: String,
    },
}

/// An event was not handled; nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// Fetch this and handle the event again.
    #[error("something must be fetched first")]
    Need(Need),
    /// The peer did something wrong and is told so.
    #[error("{comment} ({code})")]
    Peer {
        /// What the peer is told.
        code: ProblemCode,
        /// Explanation for people, without personal data.
        comment: String,
    },
    /// It may work later, through no fault of the peer: nothing was changed, and the message may come again.
    #[error("not possible at present: {0}")]
    Later(&'static str),
    /// The sender is beyond its rate: nothing was looked at.
    #[error("more requests than one account may send in this time")]
    TooOften,
    /// The user of this node asked for something impossible.
    #[error("{0}")]
    User(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Packing failed.
    #[error(transparent)]
    Pack(PackError),
    /// Opening failed.
    #[error(transparent)]
    Open(OpenError),
    /// A peer's answer is larger than an envelope may be.
    #[error("the peer's answer has more than {most} bytes")]
    AnswerTooLarge {
        /// The bound in bytes.
        most: usize,
    },
}

impl Failure {
    /// The peer is to blame.
    pub(crate) fn peer(code: ProblemCode, comment: impl Into<String>) -> Self {
        Self::Peer { code, comment: comment.into() }
    }

    /// The random source failed. Nobody is to blame, and nothing may be lost by it.
    pub(crate) fn entropy<E>(_: E) -> Self {
        Self::Later("the random source did not answer")
    }

    /// A key of ours could not be used.
    pub(crate) fn key<E>(_: E) -> Self {
        Self::Later("a key could not be used")
    }

    /// A record of ours does not parse.
    pub(crate) fn damaged(what: &str) -> Self {
        Self::Store(StoreError::Damaged { what: what.to_owned() })
    }

    /// The user asked for something impossible; the text names the remedy.
    pub(crate) fn user(text: impl Into<String>) -> Self {
        Self::User(text.into())
    }

    /// What must be fetched, if that is what is missing.
    pub(crate) fn need(&self) -> Option<Need> {
        match self {
            Self::Need(need) => Some(need.clone()),
            Self::Pack(PackError::Resolve { source: ResolveError::NotFetched { did }, .. })
            | Self::Open(OpenError::Resolve { source: ResolveError::NotFetched { did }, .. }) => {
                Some(Need::Document(did.clone()))
            }
            _ => None,
        }
    }
}

impl From<FlowError> for Failure {
    fn from(error: FlowError) -> Self {
        if matches!(error, FlowError::Unavailable | FlowError::Entropy) {
            return Self::Later("the store or the random source did not answer");
        }
        Self::Peer { code: ProblemCode::from(&error), comment: error.to_string() }
    }
}

impl From<MessageError> for Failure {
    fn from(error: MessageError) -> Self {
        Self::Peer { code: ProblemCode::from(&error), comment: error.to_string() }
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
