//! What a running node says about itself to its doctor.

use std::net::SocketAddr;

use einmal_did::Did;
use einmal_didcomm::UnixSeconds;
use einmal_storage::{StoreError, mail::Mail};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::account;
use crate::{
    config::Role,
    db::{DEAD, Db, SEEN},
    handler::{Failure, Shared},
    open_files,
};

/// Most records checked for when they were written.
const MAX_SEEN: usize = 10_000;

/// What a running node says about itself.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) inside: Inside,
    pub(crate) listening: Option<SocketAddr>,
    pub(crate) url: String,
    pub(crate) did: Option<Did>,
    /// The document it publishes.
    pub(crate) document: Option<Value>,
    pub(crate) mailbox: Option<account::Standing>,
    /// How many files may be open and how many its connections may need, if the first is less.
    #[serde(default)]
    pub(crate) too_few_files: Option<(u64, u64)>,
}

/// What the running node answers to `einmal doctor`.
pub(crate) fn report(shared: &Shared) -> Result<Value, Failure> {
    let did = shared.public_did().cloned();
    let document = did.as_ref().and_then(|did| shared.resolver.own(did));
    let citizen = shared.config.role == Role::Citizen;
    Ok(json!(Report {
        inside: Inside::of_running(&shared.db, shared.mail.as_ref())?,
        listening: shared.listening.get().copied(),
        url: shared.url().to_owned(),
        document: document.map(|document| document.to_json()),
        did,
        mailbox: citizen.then(|| account::standing(shared)).transpose()?,
        too_few_files: open_files::too_few(&shared.config),
    }))
}

/// The content of the stores.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Inside {
    pub(crate) parked: u64,
    /// Letters of a mediator: how many there are, were checked, and are damaged.
    pub(crate) letters: u64,
    pub(crate) looked_at: u64,
    pub(crate) damaged: u64,
    /// When the newest record or letter arrived.
    pub(crate) newest: Option<UnixSeconds>,
}

impl Inside {
    pub(crate) fn of_records(db: &Db) -> Result<Self, StoreError> {
        let seen = db.all::<UnixSeconds>(SEEN, MAX_SEEN)?;
        let newest = seen.records.into_iter().map(|(_, at)| at).max();
        Ok(Self { parked: db.count(DEAD)?, newest, ..Self::default() })
    }

    /// The content of the stores that a running node has open.
    pub(crate) fn of_running(db: &Db, mail: &dyn Mail) -> Result<Self, StoreError> {
        let stats = mail.stats();
        let newest = mail.mailboxes(None).into_iter().filter_map(|mailbox| mail.state(mailbox, 0).newest_ms);
        let newest = newest.max().map(|at| UnixSeconds(at / 1000));
        let records = Self::of_records(db)?;
        let newest = newest.max(records.newest);
        Ok(Self { letters: stats.letters, damaged: stats.damaged, newest, ..records })
    }
}
