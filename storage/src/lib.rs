//! What a node must not forget: records in tables of tenants, changed by atomic durable batches.
//!
//! # One event, one batch
//!
//! Everything that handling one event changes goes into one [`Batch`]. [`Store::commit`] writes it as a whole or not at
//! all, and the [`Commit`] it returns resolves only when the batch would survive a power loss. A handler names what it
//! has read in the batch ([`Batch::expect_version`], [`Batch::expect_absent`]). If another writer was faster, the
//! answer is [`StoreError::Conflict`]: nothing was written, and the event is handled again. The same rules hold on
//! every backend, so several nodes may share one store.
//!
//! # Reads are durable
//!
//! A read never shows what a crash could still undo: a record that is being flushed is returned only after the flush,
//! which takes a few milliseconds at most. So a duplicate may be acknowledged once the record of the first arrival is
//! found, and an outbox may send what it scans. A [`StoreError::Conflict`], too, is held back until the record that
//! caused it is durable.
//!
//! # What is on the disk
//!
//! [`open`] returns the ordinary store of a node: sled under a layer that seals every value ([`Sealed`]). **Keys are
//! not sealed**: tenant, table and id are readable on the disk, because they define the order. An id must not hold
//! personal data; use random ids, or hash anything personal.

pub mod mail;
pub mod store_rules;

mod batch;
mod commit;
mod disk;
mod error;
mod folder;
mod key;
mod memory;
mod migrate;
mod queue;
mod record;
mod seal;
mod sled;
mod store;

pub use self::{
    batch::{Batch, MAX_BATCH_BYTES, MAX_BATCH_OPS, MAX_VALUE_LEN},
    commit::{Acknowledgement, Commit, Committed},
    error::{Fault, StoreError},
    folder::{RECORDS_FILE, RECORDS_FOLDER, open},
    key::{Key, MAX_DUMPED_TABLES, MAX_KEY_LEN, MAX_TABLE_LEN, MAX_TENANT_LEN, Table, TenantId},
    memory::MemoryStore,
    migrate::{FORMAT, Migration, Progress, migrate},
    queue::{MAX_GROUP_BYTES, MAX_GROUP_OPS, MAX_WAITING_BATCHES, MAX_WAITING_BYTES, STALLED_AFTER},
    record::{Record, Version},
    seal::{
        KEY_FILE_LEN, MAX_PASSPHRASE_LEN, Passphrase, SEAL_FILE, Sealed, Unlock, create_key_file, rewrap,
    },
    sled::{CACHE_BYTES, SledStore},
    store::{MAX_PURGE, MAX_SCAN, MAX_SCAN_BYTES, Stats, Store},
};
