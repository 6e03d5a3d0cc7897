//! Plaintext messages: headers, type URIs, attachments.

mod attachment;
mod kind;
mod opaque;
mod plaintext;

pub use attachment::{Attachment, AttachmentData, AttachmentError, CarriedJson, DetachedSigner};
pub use kind::{MessageType, bare_media_type};
pub(crate) use opaque::layer_json;
use plaintext::weight;
pub use plaintext::{Body, Message, ReturnRoute};
