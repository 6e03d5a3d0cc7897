//! How an envelope arrived and what became of it: what a transport reports, and what it is told.

use super::{Notice, Origin, Refusal};
use crate::delivery::LiveChange;

/// How an envelope arrived, which decides what can go back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Arrival {
    /// By HTTP POST: one envelope can go back in the answer.
    Http {
        /// The origin, if it is known.
        from: Option<Origin>,
    },
    /// On a connection that stays open, such as a WebSocket: any number of envelopes can go back.
    Socket {
        /// The origin.
        from: Option<Origin>,
        /// Whether letters of the sender are pushed on it.
        live: bool,
    },
    /// By a libp2p stream, on which nothing goes back except whether it was taken.
    Libp2p {
        /// Whether streams can go back on the same connection, for peers that ask for that.
        answerable: bool,
        /// The origin of the peer.
        from: Option<Origin>,
    },
    /// From our mailbox, by our mediator's line, in an answer to what we sent, or unwrapped from another message:
    /// nothing can go back.
    Mailbox {
        /// The origin that caused it, if it is known.
        from: Option<Origin>,
    },
}

impl Arrival {
    /// The origin, if it is known.
    pub(crate) fn origin(self) -> Option<Origin> {
        match self {
            Self::Http { from }
            | Self::Socket { from, .. }
            | Self::Libp2p { from, .. }
            | Self::Mailbox { from } => from,
        }
    }
}

/// What became of an envelope.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// Set if the message itself had no effect; a rotation it proved may have been followed.
    pub refused: Option<Refusal>,
    /// Whether an answer is on its way to a known sender, which reads there why it was refused: in `replies`, or queued for an endpoint
    /// of its own.
    pub is_told: bool,
    /// Envelopes to give back on the same connection; at most one for HTTP.
    pub replies: Vec<Vec<u8>>,
    /// Live delivery on this connection is to change.
    pub(crate) live: Option<LiveChange>,
    /// Set if it was a notice of our own mediator.
    pub(crate) notice: Option<Notice>,
}

impl Receipt {
    pub(crate) fn refused(refusal: Refusal) -> Self {
        Self { refused: Some(refusal), ..Self::default() }
    }
}
