//! Why a DID, a DID URL or a DID document was refused.

use einmal_keys::{KeyError, KeyKind};

use crate::StrictJsonError;

/// A DID, DID URL or DID document was refused. Never carries the refused text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DidError {
    // What a peer sent.
    /// A text is longer than its bound.
    #[error("{what} of {len} bytes is longer than the {max} allowed")]
    TooLong {
        /// What the text is.
        what: &'static str,
        /// Its length in bytes.
        len: usize,
        /// The bound.
        max: usize,
    },
    /// A list has more entries than its bound.
    #[error("{count} {what} are more than the {max} allowed")]
    TooMany {
        /// What is listed.
        what: &'static str,
        /// Number of entries; one above the bound if counting stopped there.
        count: usize,
        /// The bound.
        max: usize,
    },
    /// The text is not a DID (DID Core 1.0, section 3.1).
    #[error("not a DID: {reason}")]
    Syntax {
        /// The rule that was broken.
        reason: &'static str,
    },
    /// The text is not a DID URL (DID Core 1.0, section 3.2).
    #[error("not a DID URL: {reason}")]
    UrlSyntax {
        /// The rule that was broken.
        reason: &'static str,
    },
    /// The document is not JSON that [`parse_strict_json`](crate::parse_strict_json) accepts.
    #[error("DID document is not strict JSON: {0}")]
    Json(#[from] StrictJsonError),
    /// A member of the document is absent or of the wrong type.
    #[error("DID document member `{member}` is not {expected}")]
    Member {
        /// Name of the member.
        member: &'static str,
        /// What it should have been.
        expected: &'static str,
    },
    /// A did:peer:2 service has a member both in full and abbreviated.
    #[error("service member `{member}` is given twice, in full and abbreviated")]
    DuplicateMember {
        /// Full name of the member.
        member: &'static str,
    },
    /// The `id` of the document is not the requested DID.
    #[error("the DID document is about another DID than the one asked for")]
    IdMismatch,
    /// Two verification methods have the same id.
    #[error("two verification methods of the DID document share an id")]
    DuplicateMethodId,
    /// A relationship refers to a verification method of this DID that is not in the document.
    #[error("`{relationship}` refers to a verification method that the DID document does not hold")]
    MissingMethod {
        /// Member name of the relationship.
        relationship: &'static str,
    },
    /// The key of a verification method is not of the declared type.
    #[error("verification method of type `{declared}` holds a key of another type ({found:?})")]
    TypeMismatch {
        /// The declared type, a known one.
        declared: &'static str,
        /// Kind of the key found.
        found: KeyKind,
    },
    /// The key of a verification method is in a form the declared type does not use, or in several forms.
    #[error("verification method of type `{declared}` must hold its key once and as `{expected}`")]
    KeyForm {
        /// The declared type, a known one.
        declared: &'static str,
        /// The members this type may use.
        expected: &'static str,
    },
    /// A public document holds a private key: someone leaked it.
    #[error("the DID document holds a private key; that key is no longer secret and must be replaced")]
    PrivateKeyInDocument,
    /// A key did not decode.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The key cannot serve the purpose it is listed for.
    #[error("a {kind:?} key cannot serve `{relationship}`")]
    WrongPurpose {
        /// Kind of the key.
        kind: KeyKind,
        /// Member name of the relationship.
        relationship: &'static str,
    },
    /// A method-specific id is not encoded as its method demands.
    #[error("{what} is not {expected}")]
    Encoding {
        /// Which part.
        what: &'static str,
        /// What it should have been.
        expected: &'static str,
    },
    /// The hash in a did:peer:4 does not match the document after it.
    #[error("the did:peer:4 does not hash to itself: its document was altered")]
    HashMismatch,
    /// einmal does not support this numalgo of did:peer.
    #[error("did:peer algorithm {numalgo:?} is not supported; 0, 2, 3 and 4 are")]
    UnsupportedNumalgo {
        /// First character after `did:peer:`.
        numalgo: char,
    },
    /// The DID is of another method than required.
    #[error("not a {expected}")]
    WrongMethod {
        /// The required method, with numalgo if there is one.
        expected: &'static str,
    },
    /// A did:web, or the URL of its document, breaks a rule of the method.
    #[error("not a usable did:web: {reason}")]
    Web {
        /// The rule that was broken.
        reason: &'static str,
    },
    // What we did wrong.
    /// The first key-agreement key of a did:peer:2 is not X25519, so deployed peers could not write to it.
    #[error("the first key-agreement key of a did:peer:2 must be X25519; put it first")]
    FirstAgreementKey,
    /// An attempt to make a DID without keys.
    #[error("a did:peer needs at least one key")]
    NoKeys,
}
