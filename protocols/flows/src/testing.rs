//! What the tests of this crate share.

use einmal_did::Did;
use einmal_didcomm::{Message, MessageId, ThreadId, UnixSeconds};
use einmal_keys::SeededEntropy;
use serde_json::{Value, json};

use crate::{Draft, Received};

pub(crate) const NOW: UnixSeconds = UnixSeconds(1_000);

pub(crate) fn did(text: &str) -> Did {
    Did::parse(text).unwrap()
}

pub(crate) fn thread(text: &str) -> ThreadId {
    ThreadId::try_from(text).unwrap()
}

pub(crate) fn id(text: &str) -> MessageId {
    MessageId::try_from(text).unwrap()
}

/// A message as its recipient sees it, with owned parts.
#[derive(Clone)]
pub(crate) struct Post {
    pub(crate) message: Message,
    pub(crate) sender: Did,
    pub(crate) recipient: Did,
}

impl Post {
    /// A message from one of the fixed parties to another, from JSON without `from`, `to`.
    pub(crate) fn new(from: &str, to: &str, message: Value) -> Self {
        let (sender, recipient) = (did(from), did(to));
        let mut message = Message::from_value(message).unwrap();
        message.from = Some(sender.clone());
        message.to = vec![recipient.clone()];
        Self { message, sender, recipient }
    }

    pub(crate) fn of(draft: &Draft, from: &str, to: &str) -> Self {
        let (sender, recipient) = (did(from), did(to));
        let message = draft.clone().into_message(&sender, &recipient, NOW, &SeededEntropy::new(7)).unwrap();
        // Through the wire format and back, as a peer would see it.
        let message = Message::from_bytes(&message.to_bytes()).unwrap();
        Self { message, sender, recipient }
    }

    pub(crate) fn received(&self) -> Received<'_> {
        Received::unproved(&self.message, &self.sender, &self.recipient)
    }

    /// The same message from someone else.
    pub(crate) fn by_stranger(&self) -> Self {
        Self { sender: did("did:example:stranger"), ..self.clone() }
    }

    pub(crate) fn in_thread(&self, thid: &str) -> Self {
        let mut post = self.clone();
        post.message.thid = Some(thread(thid));
        post
    }

    pub(crate) fn with_id(&self, text: &str) -> Self {
        let mut post = self.clone();
        post.message.id = id(text);
        post
    }
}

/// A problem report about thread `pthid`.
pub(crate) fn report(from: &str, to: &str, pthid: &str, code: &str) -> Post {
    Post::new(
        from,
        to,
        json!({"id": format!("report-{code}"), "type": crate::report_problem::PROBLEM_REPORT, "pthid": pthid,
            "body": {"code": code}}),
    )
}

/// One message of the public vectors; `None`, with a printed note, if they are not available.
pub(crate) fn vector(path: &str) -> Option<Value> {
    let root = std::env::var("EINMAL_VECTORS").map(std::path::PathBuf::from).unwrap_or_else(|_| {
        std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors")).to_path_buf()
    });
    if !root.is_dir() {
        eprintln!("skipped: no vectors at {}", root.display());
        return None;
    }
    Some(serde_json::from_slice(&std::fs::read(root.join(path)).unwrap()).unwrap())
}

/// Writes a machine to JSON and reads it back, as a restart does.
pub(crate) fn restart<T>(machine: &T) -> T
where
    T: serde::Serialize + serde::de::DeserializeOwned,
{
    serde_json::from_str(&serde_json::to_string(machine).unwrap()).unwrap()
}
