//! The rules of [`Store`] that every backend must keep, each as a test.
//!
//! A backend implements [`Fixture`] and expands [`store_rules!`](crate::store_rules!) in its test module. Each public function here is one
//! rule.

mod batches;
mod closing;
mod expiry;
mod reading;
mod values;

use std::sync::Arc;

pub use self::{batches::*, closing::*, expiry::*, reading::*, values::*};
use crate::{Batch, Key, Record, Store, StoreError, Table, TenantId, Version};

/// A place in which a backend can be opened again and again.
pub trait Fixture {
    /// Opens the store of this place. Called again only after the earlier store was closed.
    ///
    /// # Errors
    ///
    /// [`StoreError`] from the backend.
    fn open(&self) -> Result<Arc<dyn Store>, StoreError>;
}

/// Expands to one test for each rule. `$fixture` is an expression that makes a new [`Fixture`].
#[macro_export]
macro_rules! store_rules {
    ($fixture:expr) => {
        $crate::store_rules! { @each $fixture;
            an_absent_record_is_none_not_an_error
            a_committed_record_reads_back
            scan_keeps_the_order_of_ids_and_honours_prefix_after_and_limit
            scan_bounds_what_it_returns
            tenants_never_meet
            tables_never_meet
            tenants_are_listed_in_order
            a_dump_holds_every_record_once
            what_changed_since_a_version_comes_once_and_within_its_bound
            what_changed_since_a_version_holds_each_batch_whole
            a_batch_is_written_whole
            an_expectation_that_fails_leaves_nothing
            expectations_see_earlier_batches_that_are_not_yet_durable
            a_version_grows_with_each_write_and_over_deletion
            writers_who_expect_versions_lose_nothing
            expired_records_are_purged_and_no_others
            a_renewed_record_outlives_its_first_expiry
            a_deleted_record_is_gone
            large_values_read_back
            a_large_value_can_shrink_grow_and_go
            keys_of_every_length_and_byte_are_kept_apart
            limits_are_enforced
            the_last_change_of_a_key_counts
            an_empty_batch_is_a_fence
            a_dropped_commit_is_written_all_the_same
            a_closed_store_refuses
            reopening_keeps_everything
            versions_grow_over_reopening
        }
    };
    (@each $fixture:expr; $($rule:ident)*) => {
        $(
            #[test]
            fn $rule() {
                $crate::store_rules::$rule(&$fixture).unwrap();
            }
        )*
    };
}

type Checked = Result<(), StoreError>;

const BOOKS: Table = Table::new("books");
const BOOKS_LENT: Table = Table::new("books.lent");

fn key(id: impl AsRef<[u8]>) -> Result<Key, StoreError> {
    Key::new(&TenantId::default(), BOOKS, id)
}

fn put(store: &dyn Store, key: &Key, value: &[u8]) -> Result<Version, StoreError> {
    let mut batch = Batch::new();
    batch.put(key.clone(), value);
    Ok(store.commit(batch).wait()?.version)
}

fn value(store: &dyn Store, key: &Key) -> Result<Option<Vec<u8>>, StoreError> {
    Ok(store.read(key)?.map(|record| record.value))
}

fn ids(records: &[Record]) -> Vec<&[u8]> {
    records.iter().map(|record| record.key.id()).collect()
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at.wrapping_mul(31) % 251).unwrap_or(0)).collect()
}
