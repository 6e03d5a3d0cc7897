//! What callers hand to the writer of the log.

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
    Clear(MailboxId),
}

/// A letter as it will lie in the log; only its id is missing.
pub(super) struct Sealed {
    pub(super) header: Header,
    pub(super) body: Vec<u8>,
    pub(super) quota: Quota,
    /// Who is told of it before it is durable, and its payload for them.
    pub(super) early: Option<(Early, Option<Vec<u8>>)>,
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
        Ok(Self { header, body, quota: letter.quota, early })
    }

    /// What it takes in memory.
    fn bytes(&self) -> usize {
        let payload = self.early.as_ref().and_then(|(_, payload)| payload.as_ref());
        HEADER_LEN + self.body.len() + payload.map_or(0, Vec::len)
    }
}

impl Load for Job {
    fn ops(&self) -> usize {
        match &self.work {
            Work::Put(letters) => letters.len().max(1),
            Work::Remove(..) | Work::Clear(_) => 1,
        }
    }

    fn bytes(&self) -> usize {
        match &self.work {
            Work::Put(letters) => letters.iter().map(Sealed::bytes).sum(),
            Work::Remove(_, letters) => HEADER_LEN + 8 * letters.len(),
            Work::Clear(_) => HEADER_LEN,
        }
    }
}
