//! What callers pass to the writer of the log.

use super::frame::{HEADER_LEN, Header, Kind, Sealer};
use crate::{
    Acknowledgement, StoreError,
    mail::{Early, LetterId, MailboxId, NewLetter, Quota},
    queue::Load,
};

pub(super) struct Job {
    pub(super) work: Work,
    pub(super) acknowledgement: Acknowledgement,
}

pub(super) enum Work {
    Put(Vec<Sealed>),
    Remove(MailboxId, Vec<LetterId>),
    /// Remove all letters of a mailbox up to this one.
    Clear(MailboxId, u64),
}

/// A letter as it will be in the log; it gets its id when it is admitted.
pub(super) struct Sealed {
    pub(super) header: Header,
    pub(super) body: Vec<u8>,
    pub(super) quota: Quota,
    /// The same letter was on its way when this one was admitted; only the writer knows whether it arrived.
    pub(super) again: bool,
    /// Whom to tell of it before it is durable, and the payload for them.
    early: Option<(Early, Option<Vec<u8>>)>,
}

impl Sealed {
    pub(super) fn new(letter: NewLetter, sealer: &Sealer, digest_key: &[u8; 32]) -> Result<Self, StoreError> {
        let mut header = Header {
            kind: Kind::Letter,
            body_len: 0,
            mailbox: letter.mailbox,
            id: 0,
            arrived_ms: letter.arrived_ms,
            expires_at: letter.expires_at,
            digest: super::digest(digest_key, letter.mailbox, &letter.payload),
        };
        let body = sealer.seal(&header, &letter.payload)?;
        header.body_len =
            u32::try_from(body.len()).map_err(|_| StoreError::ValueTooLarge { len: body.len() })?;
        let early = letter.early.map(|early| {
            let payload = early.with_payload.then_some(letter.payload);
            (early, payload)
        });
        Ok(Self { header, body, quota: letter.quota, again: false, early })
    }

    /// Whom to tell, its mailbox, id and payload.
    pub(super) fn take_early(&mut self) -> Option<(Early, MailboxId, LetterId, Option<Vec<u8>>)> {
        let (early, payload) = self.early.take()?;
        let payload = payload.filter(|_| !self.again);
        Some((early, self.header.mailbox, LetterId(self.header.id), payload))
    }
}

impl Load for Job {
    fn ops(&self) -> usize {
        match &self.work {
            Work::Put(letters) => letters.len().max(1),
            Work::Remove(..) | Work::Clear(..) => 1,
        }
    }

    fn bytes(&self) -> usize {
        match &self.work {
            Work::Put(letters) => letters.iter().map(|letter| HEADER_LEN + letter.body.len()).sum(),
            Work::Remove(_, letters) => HEADER_LEN + 8 * letters.len(),
            Work::Clear(..) => HEADER_LEN,
        }
    }
}
