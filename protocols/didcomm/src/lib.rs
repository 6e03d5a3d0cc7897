//! DIDComm Messaging v2.1: plaintext messages, signed and encrypted envelopes, DID rotation, forward wrapping.
//!
//! Nothing here does I/O. Bytes come in, bytes go out; keys come through [`einmal_keys::Custody`], documents through
//! [`einmal_did::Resolver`], randomness through [`einmal_keys::Entropy`], and time is an argument.
//!
//! Reading order: [`Message`] is what people say; [`Packer`] turns it into an envelope; [`open()`] turns an envelope
//! into an [`Opened`], which separates what was *received* from what was *proved* ([`Proof`]). `open` is the only way
//! in and checks every consistency rule of the specification.

mod error;
mod forward;
mod from_prior;
mod ids;
mod jwe;
mod jws;
pub mod limits;
mod message;
mod open;
mod pack;
mod problem;

pub use error::{EnvelopeError, MessageError, OpenError, PackError};
pub use forward::{Delivery, FORWARD_TYPE, Forward, deliveries};
pub use from_prior::{FromPriorFault, Rotation, from_prior_jwt};
pub use ids::{InvalidId, MessageId, ThreadId, UnixSeconds};
pub use jwe::{ContentEncryption, Irregularity};
pub use message::{
    Attachment, AttachmentData, AttachmentError, Body, CarriedJson, DetachedSigner, Message, MessageType,
    ReturnRoute, bare_media_type,
};
pub use open::{Envelope, LayerPolicy, OpenContext, Opened, Proof, ProvedKey, open};
pub use pack::{PackOptions, Packed, Packer, SenderProtection};
pub use problem::ProblemCode;

/// Media type of a plaintext message.
pub const PLAIN_MEDIA_TYPE: &str = "application/didcomm-plain+json";
/// Media type of a signed message.
pub const SIGNED_MEDIA_TYPE: &str = "application/didcomm-signed+json";
/// Media type of an encrypted message.
pub const ENCRYPTED_MEDIA_TYPE: &str = "application/didcomm-encrypted+json";
