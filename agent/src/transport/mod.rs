//! What the node requires of a network, whichever it is.

mod peer_lines;
mod scheme;

use std::{future::Future, pin::Pin};

use einmal_did::{Did, DidDocument, Endpoint};

use crate::guard::GuardError;

pub use self::peer_lines::PeerLines;
pub(crate) use self::{
    peer_lines::{Back, NewLine},
    scheme::{is_one_way, is_socket, rank},
};

/// A boxed future, so that transports can be chosen at run time.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// An envelope was not handed over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// This transport does not serve the URI, or must not connect to it. Trying again is useless.
    #[error("the endpoint must not be used: {reason}")]
    Forbidden {
        /// Why.
        reason: String,
    },
    /// Nobody answered, or not in time.
    #[error("the endpoint does not answer: {reason}")]
    Unreachable {
        /// What happened.
        reason: String,
    },
    /// The other side refused the envelope.
    #[error("the endpoint refused the message with status {status}")]
    Refused {
        /// HTTP status.
        status: u16,
    },
    /// The envelope was taken, but the answer is larger than an envelope may be.
    #[error("the answer has more than {most} bytes")]
    AnswerTooLarge {
        /// The bound in bytes.
        most: usize,
    },
}

impl From<GuardError> for SendError {
    fn from(error: GuardError) -> Self {
        Self::Forbidden { reason: error.to_string() }
    }
}

impl From<GuardError> for FetchError {
    fn from(error: GuardError) -> Self {
        Self::Forbidden { reason: error.to_string() }
    }
}

impl SendError {
    /// Whether a later attempt may succeed.
    pub fn is_temporary(&self) -> bool {
        match self {
            // Sent again, the message would only bring the same answer.
            Self::Forbidden { .. } | Self::AnswerTooLarge { .. } => false,
            Self::Unreachable { .. } => true,
            // A proxy also says this while the node behind it is away or moved; redirects are not followed.
            Self::Refused { status } => matches!(*status, 300..=399 | 404 | 408 | 425 | 429 | 500..),
        }
    }
}

/// Carries envelopes to endpoints.
pub trait Transport: Send + Sync + 'static {
    /// Hands `envelope` over at `uri`. The answer is one envelope that came back on the same connection, if any.
    fn send<'a>(
        &'a self,
        uri: &'a str,
        envelope: Vec<u8>,
    ) -> BoxFuture<'a, Result<Option<Vec<u8>>, SendError>>;

    /// As [`Transport::send`], with the multiaddresses given beside the URI; most transports have no use for them.
    fn send_to<'a>(
        &'a self,
        uri: &'a str,
        _multi_addrs: &'a [String],
        envelope: Vec<u8>,
    ) -> BoxFuture<'a, Result<Option<Vec<u8>>, SendError>> {
        self.send(uri, envelope)
    }

    /// The libp2p endpoint of this node itself, for its DID documents; `None` if libp2p is switched off.
    fn peer_endpoint(&self) -> Option<Endpoint> {
        None
    }

    /// The way back to libp2p peers, over connections they made; `None` if libp2p is switched off.
    fn lines(&self) -> Option<&PeerLines> {
        None
    }
}

/// Something was not fetched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The configuration forbids connecting to the address.
    #[error("{reason}")]
    Forbidden {
        /// Why, with the setting that would permit it.
        reason: String,
    },
    /// As many fetches are under way as allowed: nothing was tried.
    #[error("too many fetches are under way")]
    Busy,
    /// Nobody answered, or not in time, or with a failure.
    #[error("fetching failed: {reason}")]
    Unreachable {
        /// What happened.
        reason: String,
    },
    /// What came is not what was asked for.
    #[error("what was fetched cannot be used: {reason}")]
    Invalid {
        /// Why.
        reason: String,
    },
}

/// Fetches what the node's state machines need but may not fetch themselves.
pub trait Fetcher: Send + Sync + 'static {
    /// The document of a did:web.
    fn document<'a>(&'a self, did: &'a Did) -> BoxFuture<'a, Result<DidDocument, FetchError>>;

    /// A status list token.
    fn status_list<'a>(&'a self, uri: &'a str) -> BoxFuture<'a, Result<String, FetchError>>;
}
