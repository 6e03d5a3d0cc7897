//! Why a message or an envelope was refused, sorted by who is to blame.

use einmal_did::{Did, ResolveError};
use einmal_keys::{CustodyError, KeyKind};

use crate::{
    from_prior::FromPriorFault,
    limits::{MAX_ENVELOPE_BYTES, MAX_LAYERS},
};

/// A plaintext message breaks the rules of its headers. The peer is to blame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// Not a JSON object, or one that has duplicate member names or is too deep or too large.
    #[error("not a JSON object with unique member names and bounded depth")]
    NotJson,
    /// A required header is absent.
    #[error("header `{header}` is missing")]
    MissingHeader {
        /// Name of the header.
        header: &'static str,
    },
    /// A header has the wrong form.
    #[error("header `{header}` is not what DIDComm v2.1 allows there")]
    InvalidHeader {
        /// Name of the header.
        header: &'static str,
    },
    /// The type URI does not parse.
    #[error("header `type` is no message type URI")]
    InvalidType,
    /// The message is of another type than the one read.
    #[error("expected a message of type {expected}")]
    WrongType {
        /// The expected type.
        expected: &'static str,
    },
    /// The body does not fit the message type.
    #[error("the body does not fit message type {kind}")]
    InvalidBody {
        /// Type of the message.
        kind: &'static str,
    },
}

/// An envelope breaks the rules of its structure. The peer is to blame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// More bytes than accepted.
    #[error("more than {MAX_ENVELOPE_BYTES} bytes")]
    TooLarge,
    /// Neither an encrypted, nor a signed, nor a plaintext message in JSON serialization.
    #[error("neither general JWE, nor JSON JWS, nor plaintext message")]
    Unrecognised,
    /// A member is absent or of the wrong form.
    #[error("envelope member `{member}` is missing or malformed")]
    Malformed {
        /// Name of the member.
        member: &'static str,
    },
    /// A member that must not be there, such as `zip` or `crit`.
    #[error("envelope member `{member}` is not allowed")]
    NotAllowed {
        /// Name of the member.
        member: &'static str,
    },
    /// DIDComm v2.1 does not permit this pair of `alg` and `enc`.
    #[error("this combination of `alg` and `enc` is not permitted by DIDComm v2.1")]
    Algorithm,
    /// `typ` names something else.
    #[error("envelope `typ` is not the media type of this kind of envelope")]
    WrongType,
    /// More entries than accepted.
    #[error("more than {most} entries in `{member}`")]
    TooMany {
        /// Name of the member.
        member: &'static str,
        /// Most entries accepted.
        most: usize,
    },
    /// Recipients' key ids name several DIDs, or one has no fragment.
    #[error("recipient key ids must be DID URLs of one DID, each with a fragment")]
    RecipientKids,
    /// `apv` is not the hash of the recipients' key ids.
    #[error("`apv` is not the hash of the recipient key ids")]
    Apv,
    /// `apu` is not the encoded `skid`.
    #[error("`apu` does not name the same key as `skid`")]
    Apu,
    /// `epk` is not a usable public key, or lies on a different curve than the recipient's key.
    #[error("`epk` is no usable key on the curve of the recipient's key")]
    Epk,
    /// More layers than accepted.
    #[error("more than {MAX_LAYERS} envelopes around one message")]
    TooDeep,
    /// Layers in an order DIDComm does not permit.
    #[error("this combination of envelopes is not permitted by DIDComm v2.1")]
    Combination,
}

/// An envelope could not be opened.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The peer sent a malformed envelope.
    #[error("malformed envelope: {0}")]
    Envelope(#[from] EnvelopeError),
    /// The peer sent a malformed message in a well-formed envelope.
    #[error("malformed message: {0}")]
    Message(#[from] MessageError),
    /// Decryption failed. Wrong key, changed bytes and a wrong tag are not told apart.
    #[error("the envelope does not decrypt")]
    Decrypt,
    /// A signature does not verify.
    #[error("the signature does not hold")]
    Signature,
    /// The sender's key is not among the `keyAgreement` keys of its DID, or lies on another curve.
    #[error("the sender's key is none of its DID's key agreement keys on the envelope's curve")]
    SenderKey,
    /// The signer's key is not among the `authentication` keys of its DID.
    #[error("the signer's key is none of its DID's authentication keys")]
    SignerKey,
    /// `from` is absent or not the DID of the key that encrypted (authcrypt).
    #[error("`from` is not the DID whose key encrypted the message")]
    FromIsNotSender,
    /// `from` is absent or not the DID of the key that signed.
    #[error("`from` is not the DID whose key signed the message")]
    FromIsNotSigner,
    /// Signer and authcrypt sender are different DIDs.
    #[error("the message was signed and encrypted by two different DIDs")]
    SignerIsNotSender,
    /// `to` does not hold the DID the envelope was opened for.
    #[error("`to` does not hold the recipient the envelope was encrypted to")]
    NotAddressed,
    /// Signed and encrypted, but without `to`: someone may have forwarded it behind the signer's back.
    #[error("a signed and encrypted message must say to whom in `to`")]
    SignedWithoutTo,
    /// `from_prior` does not prove the rotation it announces.
    #[error("`from_prior` does not prove a rotation to this sender: {reason}")]
    FromPrior {
        /// Which rule it breaks.
        reason: FromPriorFault,
    },
    /// The message is past its `expires_time`.
    #[error("the message has expired")]
    Expired,
    /// A plaintext message where only encrypted or signed ones are accepted.
    #[error("plaintext messages are not accepted here")]
    PlaintextRefused,
    /// We hold none of the recipient keys.
    #[error("none of the recipient keys is held here")]
    NotForUs,
    /// A DID could not be resolved; [`ResolveError::NotFetched`] asks the node to fetch it and open again.
    #[error("cannot resolve {did:?}: {source}")]
    Resolve {
        /// The DID.
        did: Did,
        /// Why not.
        source: ResolveError,
    },
    /// Our key store failed; not the peer's fault.
    #[error(transparent)]
    Custody(#[from] CustodyError),
}

/// A message could not be packed. We, or the recipient's document, are to blame.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// The message would be larger than peers accept.
    #[error("the envelope would have {size} bytes; at most {MAX_ENVELOPE_BYTES} are accepted")]
    TooLarge {
        /// Size it would have.
        size: usize,
    },
    /// `from` is needed for authcrypt and signing.
    #[error("authcrypt and signing need `from`")]
    MissingFrom,
    /// `to` must hold the recipient.
    #[error("`to` must hold {recipient:?}")]
    MissingTo {
        /// The recipient.
        recipient: Did,
    },
    /// The recipient has no key agreement key on a curve we also have.
    #[error("{recipient:?} has no key agreement key on a curve usable here")]
    NoCommonCurve {
        /// The recipient.
        recipient: Did,
    },
    /// We hold none of the sender's authentication keys.
    #[error("no authentication key of {did:?} is held here")]
    NoSigningKey {
        /// The sender.
        did: Did,
    },
    /// This content encryption is not allowed: authcrypt permits A256CBC-HS512 only.
    #[error("authcrypt permits A256CBC-HS512 only")]
    Algorithm,
    /// More recipients or routing keys than peers accept.
    #[error("too many {what}: at most {most}")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// Most permitted.
        most: usize,
    },
    /// The recipient's document has no usable endpoint.
    #[error("{did:?} has no usable DIDComm endpoint")]
    NoEndpoint {
        /// Whose document.
        did: Did,
    },
    /// A mediator's document names yet another DID as endpoint.
    #[error("the mediator {mediator:?} has a DID as its own endpoint, which must not be")]
    MediatorChain {
        /// The mediator.
        mediator: Did,
    },
    /// A routing key is not a resolvable key agreement key.
    #[error("routing key {key} cannot be used")]
    RoutingKey {
        /// The key as written in the document.
        key: String,
    },
    /// A DID could not be resolved.
    #[error("cannot resolve {did:?}: {source}")]
    Resolve {
        /// The DID.
        did: Did,
        /// Why not.
        source: ResolveError,
    },
    /// A key of this kind cannot do what was asked.
    #[error("a {kind:?} key cannot be used here")]
    KeyKind {
        /// The kind.
        kind: KeyKind,
    },
    /// Our key store failed.
    #[error(transparent)]
    Custody(#[from] CustodyError),
    /// The random source failed.
    #[error("the system's random source failed")]
    Entropy,
    /// A step failed that cannot fail after the checks before it: a bug in this program.
    #[error("{step} failed, which is a fault of this program")]
    Internal {
        /// The step that failed.
        step: &'static str,
    },
}
