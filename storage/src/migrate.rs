//! The format of the stored data, and migrations from older formats.

use crate::{Batch, Key, Store, StoreError, Table, TenantId};

/// The format this program reads and writes. It grows when the meaning of stored records changes.
pub const FORMAT: u32 = 1;

/// The steps this program knows. The first will be needed for format 2.
pub(crate) const MIGRATIONS: &[Migration] = &[];

/// One step from a format to the next.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// The format this step starts from; it leads to `from + 1`.
    pub from: u32,
    /// Does one part of the step. It gets the cursor returned with the previous part, or `None` for the first part,
    /// reads what it needs, and returns changes and the next cursor. Changes and cursor are committed together, so
    /// after a crash the step continues where it was. A part may use at most [`MAX_BATCH_OPS`](crate::MAX_BATCH_OPS)
    /// less two operations, and is repeated if another node was faster.
    #[allow(clippy::type_complexity, reason = "a plain function pointer; a name for it would say less")]
    pub part: fn(&dyn Store, Option<&[u8]>) -> Result<Progress, StoreError>,
}

/// What one part of a migration has to write.
#[derive(Debug)]
pub enum Progress {
    /// There is more to do after `cursor`.
    More {
        /// Changes of this part.
        changes: Batch,
        /// Where the next part begins; only the migration knows its meaning.
        cursor: Vec<u8>,
    },
    /// This was the last part.
    Done {
        /// Changes of this part.
        changes: Batch,
    },
}

/// Brings `store` to format `supported` with the steps in `migrations`; an empty store is only marked with it.
///
/// # Errors
///
/// [`StoreError::FormatTooNew`] if the store is beyond `supported`, [`StoreError::NoMigration`] if a step is missing,
/// [`StoreError::Damaged`] if there are records but no readable format, or the error of a step or commit. Completed
/// parts stay, and another call continues from there.
pub fn migrate(store: &dyn Store, migrations: &[Migration], supported: u32) -> Result<(), StoreError> {
    let key = format_key();
    loop {
        let batch = match store.read(&key)? {
            None if is_empty(store)? => {
                let mut batch = Batch::new();
                batch.expect_absent(key.clone()).put(key.clone(), encode(supported, None));
                batch
            }
            None => return Err(StoreError::Damaged { what: "records without a format".into() }),
            Some(record) => {
                let (found, cursor) = decode(&record.value)?;
                if found == supported {
                    return Ok(());
                }
                if found > supported {
                    return Err(StoreError::FormatTooNew { found, supported });
                }
                let step = migrations.iter().find(|step| step.from == found);
                let step = step.ok_or(StoreError::NoMigration { found })?;
                let (mut changes, next) = match (step.part)(store, cursor)? {
                    Progress::More { changes, cursor } => (changes, encode(found, Some(&cursor))),
                    Progress::Done { changes } => (changes, encode(found.saturating_add(1), None)),
                };
                changes.expect_version(key.clone(), record.version).put(key.clone(), next);
                changes
            }
        };
        match store.commit(batch).wait() {
            // Another node did this part in the meantime.
            Ok(_) | Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Whether nothing was ever stored.
pub(crate) fn is_empty(store: &dyn Store) -> Result<bool, StoreError> {
    let marked = store.count(&TenantId::house(), FORMAT_TABLE, b"")? > 0;
    Ok(!marked && store.tenants(None, 1)?.is_empty())
}

const FORMAT_TABLE: Table = Table::new("format");

fn format_key() -> Key {
    Key::unchecked(&TenantId::house(), FORMAT_TABLE, b"format")
}

/// Four bytes for the format; then, within a step, a byte 1 and the cursor.
fn encode(format: u32, cursor: Option<&[u8]>) -> Vec<u8> {
    let mut bytes = format.to_be_bytes().to_vec();
    if let Some(cursor) = cursor {
        bytes.push(1);
        bytes.extend_from_slice(cursor);
    }
    bytes
}

fn decode(bytes: &[u8]) -> Result<(u32, Option<&[u8]>), StoreError> {
    let damaged = || StoreError::Damaged { what: "the format is unreadable".into() };
    let (format, rest) = bytes.split_first_chunk().ok_or_else(damaged)?;
    let cursor = match rest {
        [] => None,
        [1, cursor @ ..] => Some(cursor),
        _ => return Err(damaged()),
    };
    Ok((u32::from_be_bytes(*format), cursor))
}

#[cfg(test)]
mod tests;
