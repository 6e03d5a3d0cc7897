//! Plaintext messages: headers, type URIs, attachments.

mod attachment;
mod carried;
mod kind;
mod plaintext;

pub use attachment::{Attachment, AttachmentData, AttachmentError, CarriedJson, DetachedSigner};
pub(crate) use carried::Layer;
pub use kind::{MessageType, bare_media_type};
use plaintext::weight;
pub use plaintext::{Body, Message, ReturnRoute};
