//! What callers pass to the writer, encoded as far as possible without it.

use std::sync::mpsc::SyncSender;

use super::layout::{Head, PART_LEN, part_key, record_key};
use crate::{
    Acknowledgement, Batch, Committed, Key, StoreError, Version,
    batch::{Change, Expectation},
    queue::Load,
};

pub(super) enum Job {
    Commit {
        batch: Encoded,
        acknowledgement: Acknowledgement,
    },
    Purge {
        now: u64,
        limit: usize,
        reply: SyncSender<Result<usize, StoreError>>,
    },
    /// Makes the writer panic, as a bug in sled would.
    #[cfg(test)]
    Panic(SyncSender<Result<usize, StoreError>>),
}

/// The result of a job, told to the caller only after the flush.
pub(super) enum Outcome {
    Commit(Result<Committed, StoreError>),
    Purged(Result<usize, StoreError>),
}

/// A batch in physical form, without its version.
#[derive(Default)]
pub(super) struct Encoded {
    pub(super) expectations: Vec<(sled::IVec, Key, Expectation)>,
    pub(super) changes: Vec<(sled::IVec, Option<EncodedPut>)>,
    ops: usize,
    bytes: usize,
}

/// The entries of one record.
pub(super) struct EncodedPut {
    /// Head with a version yet to be set.
    pub(super) head: Head,
    pub(super) first_part: Vec<u8>,
    pub(super) further_parts: Vec<(sled::IVec, sled::IVec)>,
}

impl Encoded {
    pub(super) fn new(batch: Batch) -> Result<Self, StoreError> {
        batch.check()?;
        let (ops, bytes) = (batch.len(), batch.bytes());
        let expectations = batch
            .expectations
            .into_iter()
            .map(|(key, expectation)| (record_key(&key).into(), key, expectation))
            .collect();
        let changes = batch
            .changes
            .into_iter()
            .map(|(key, change)| {
                let key = record_key(&key);
                let put = match change {
                    Change::Delete => None,
                    Change::Put { value, expires_at } => Some(EncodedPut::new(&key, value, expires_at)?),
                };
                Ok((key.into(), put))
            })
            .collect::<Result<_, StoreError>>()?;
        Ok(Self { expectations, changes, ops, bytes })
    }
}

impl EncodedPut {
    fn new(record_key: &[u8], mut value: Vec<u8>, expires_at: Option<u64>) -> Result<Self, StoreError> {
        let rest = value.split_off(value.len().min(PART_LEN));
        let mut further_parts = Vec::new();
        let mut count = 0u32;
        for part in rest.chunks(PART_LEN) {
            count = count.checked_add(1).ok_or(StoreError::ValueTooLarge { len: rest.len() })?;
            further_parts.push((part_key(record_key, count).into(), part.into()));
        }
        let head = Head { version: Version(0), expires_at, further_parts: count };
        Ok(Self { head, first_part: value, further_parts })
    }
}

impl Job {
    /// Tells the caller the result of the job.
    pub(super) fn answer(self, outcome: Outcome) {
        match (self, outcome) {
            (Self::Commit { acknowledgement, .. }, Outcome::Commit(answer)) => acknowledgement.answer(answer),
            // The channel has room for the one answer; a caller that is gone does not need it.
            (Self::Purge { reply, .. }, Outcome::Purged(answer)) => drop(reply.send(answer)),
            (job, _) => job.refuse(&StoreError::Failed),
        }
    }

    /// Tells the caller that nothing was written.
    pub(super) fn refuse(self, error: &StoreError) {
        match self {
            Self::Commit { acknowledgement, .. } => acknowledgement.answer(Err(error.clone())),
            Self::Purge { reply, .. } => drop(reply.send(Err(error.clone()))),
            #[cfg(test)]
            Self::Panic(reply) => drop(reply.send(Err(error.clone()))),
        }
    }
}

impl Load for Job {
    fn ops(&self) -> usize {
        match self {
            Self::Commit { batch, .. } => batch.ops.max(1),
            Self::Purge { limit, .. } => *limit,
            #[cfg(test)]
            Self::Panic(_) => 1,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Commit { batch, .. } => batch.bytes,
            Self::Purge { .. } => 0,
            #[cfg(test)]
            Self::Panic(_) => 0,
        }
    }
}
