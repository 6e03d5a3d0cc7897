//! Plaintext messages: headers, type URIs, attachments.

mod attachment;
mod kind;
mod plaintext;

pub use attachment::{Attachment, AttachmentData, AttachmentError, DetachedSigner};
pub use kind::{MessageType, bare_media_type};
pub use plaintext::{Body, Message, ReturnRoute};
