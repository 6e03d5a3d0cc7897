//! Timers: exchanges that asked to be woken are woken, also after a restart.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use einmal_didcomm::UnixSeconds;
use einmal_storage::{Batch, StoreError};
use tracing::Instrument;

use super::Node;
use crate::{
    db::{Sound, TIMERS},
    handler::{Cause, Failure, Timer, describe_for_log},
    log,
    service::asking::RESULTS,
    steady::LARGEST_STEP,
};

/// Most timers run in one pass.
const PASS: usize = 200;

/// Seconds until an exchange that could not be woken is tried again.
const PUT_OFF_SECS: u64 = 30;

/// Most expired records removed at a time.
const PURGED_AT_ONCE: usize = 1000;
/// Rounds of removal per pass while anything is due: faster than a busy node writes, so expired records do not pile up.
const PURGES: usize = 20;

/// Letters checked for expiry in one pass.
const MAIL_PASS: usize = 20_000;

impl Node {
    /// Wakes exchanges and removes expired records until told to stop.
    pub async fn run_timers(self: Arc<Self>) {
        let mut held_up = false;
        loop {
            if let Err(error) = self.timer_pass().await {
                tracing::error!(%error, "timers cannot be read");
            }
            self.sweep().await;
            held_up = self.look_at_the_disk(held_up);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Whether the disk refuses mail; a change is logged, and a disk that refused is tried again.
    fn look_at_the_disk(&self, before: bool) -> bool {
        let held_up = self.shared.mail.is_held_up();
        match (before, held_up) {
            (false, true) => tracing::error!(
                "the disk takes no mail, it is full or read-only: mail is refused until it does, what is there is kept"
            ),
            (true, false) => tracing::warn!("the disk takes mail again"),
            _ => {}
        }
        self.shared.mail.try_again();
        held_up
    }

    /// Removes expired records and mail. It waits while expiry cannot be known: a clock that was wrong from the start
    /// must not cost anything.
    pub async fn sweep(self: &Arc<Self>) {
        let present = self.shared.present();
        if !present.doubted
            && !present.stands
            && let Err(error) = self.forget_results(present.earliest()).await
        {
            tracing::error!(%error, "results whose time is over cannot be removed");
        }
        if present.stands {
            let (node, now) = (Arc::clone(self), present.shown_ms / 1000);
            match tokio::task::spawn_blocking(move || node.purge(now)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "expired records cannot be removed"),
                Err(error) => tracing::error!(%error, "the removal of expired records ended by itself"),
            }
            self.shared.mail.expire(present.shown_ms / 1000, MAIL_PASS);
        }
    }

    /// Removes records that have expired at `now`, a part at a time.
    fn purge(&self, now: u64) -> Result<(), StoreError> {
        for _ in 0..PURGES {
            if self.shared.db.store().purge_expired(now, PURGED_AT_ONCE)? == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Removes disclosed claims as soon as their time is over. The grace of an hour after each start does not apply:
    /// only the verifier who asked decides how long they are kept.
    async fn forget_results(&self, now: u64) -> Result<(), StoreError> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self.shared.db.scan_raw(RESULTS, b"", after.as_deref(), PASS)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.key.id().to_vec());
            let over = page.into_iter().filter(|record| record.is_expired(now));
            // All are under way before the first is awaited: one flush serves them all.
            let removals: Vec<_> = over
                .map(|record| {
                    let mut batch = Batch::new();
                    batch.expect_version(record.key.clone(), record.version).delete(record.key);
                    self.shared.db.store().commit(batch)
                })
                .collect();
            for removal in removals {
                match removal.await {
                    // A conflict means the record was replaced, and its successor has not expired.
                    Ok(_) | Err(StoreError::Conflict { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// Wakes every exchange that is due once.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the timers cannot be read or written.
    pub async fn timer_pass(self: &Arc<Self>) -> Result<(), StoreError> {
        let present = self.shared.present();
        // As soon as the clock is trusted, and anew after each jump.
        if present.stands && !self.timers_fit.load(Ordering::Relaxed) {
            self.refit_timers().await?;
        }
        self.timers_fit.store(present.stands, Ordering::Relaxed);
        let now = UnixSeconds(present.steady_ms / 1000);
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self.timers(after.as_deref()).await?;
            let last = page.last().map(|(id, _)| id.clone());
            let all_due = page.last().is_some_and(|(id, timer)| due(id, timer) <= now);
            for (id, timer) in page.into_iter().filter(|(id, timer)| due(id, timer) <= now) {
                self.wake(&id, &timer, now).instrument(log::request("timer")).await?;
            }
            if !all_due {
                return Ok(());
            }
            after = last;
        }
    }

    /// Some timers in the order they are due, behind `after`. One that does not parse or unseal wakes nobody; it is
    /// removed, because it would keep all others from being read.
    async fn timers(&self, after: Option<&[u8]>) -> Result<Vec<(Vec<u8>, Timer)>, StoreError> {
        loop {
            let Sound { records, damaged: keys } = self.shared.db.scan_sound(TIMERS, after, PASS)?;
            if keys.is_empty() {
                return Ok(records);
            }
            let mut damaged = Batch::new();
            for key in keys {
                damaged.delete(key);
            }
            tracing::error!(count = damaged.len(), "timers that do not parse or unseal were removed");
            self.shared.db.store().commit(damaged).await?;
        }
    }

    /// Wakes one exchange. A timer its exchange will never want is removed; one that may succeed later is put off, so
    /// it does not stand before the others each second.
    async fn wake(self: &Arc<Self>, id: &[u8], timer: &Timer, now: UnixSeconds) -> Result<(), StoreError> {
        let woken = self
            .run(Cause::Deadline(timer.at), |fx| {
                fx.delete(TIMERS, id)?;
                self.role.on_timer(&self.shared, &timer.exchange, fx)
            })
            .await;
        let Err(failure) = woken else { return Ok(()) };
        let (reason, again) = (describe_for_log(&failure), failure.is_temporary());
        if again {
            tracing::info!(reason, "an exchange could not be woken and is tried again");
        } else if failure.is_ours_to_mend() {
            tracing::error!(reason, "an exchange can no longer be woken, by a fault of ours");
        } else {
            tracing::info!(reason, "an exchange can no longer be woken");
        }
        let done = self.run(Cause::Own, |fx| {
            fx.delete(TIMERS, id)?;
            if again {
                fx.put(TIMERS, timer.id(now.plus(PUT_OFF_SECS)), timer)?;
            }
            Ok(())
        });
        match done.await {
            Err(Failure::Store(error)) => Err(error),
            _ => Ok(()),
        }
    }

    /// Brings timers back into reach that were set while the clock was ahead: none sleeps for years because the clock
    /// was wrong for a minute.
    async fn refit_timers(self: &Arc<Self>) -> Result<(), StoreError> {
        let now = self.shared.now();
        let ahead = now.plus(LARGEST_STEP.as_secs());
        let mut after: Option<Vec<u8>> = Some(ahead.0.to_be_bytes().to_vec());
        loop {
            let page = self.timers(after.as_deref()).await?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            for (id, timer) in page {
                let Some(set_at) = timer.set_at.filter(|set_at| *set_at > ahead) else { continue };
                let due = now.plus(timer.at.0.saturating_sub(set_at.0));
                let fitted = Timer { set_at: Some(now), ..timer };
                let moved = self
                    .change(|fx| {
                        fx.delete(TIMERS, &id)?;
                        Ok(fx.put(TIMERS, fitted.id(due), &fitted)?)
                    })
                    .await;
                if let Err(Failure::Store(error)) = moved {
                    return Err(error);
                }
            }
        }
    }
}

/// When a timer is due: the id decides, which may have been changed since the exchange asked for it.
fn due(id: &[u8], timer: &Timer) -> UnixSeconds {
    id.first_chunk().map_or(timer.at, |bytes| UnixSeconds(u64::from_be_bytes(*bytes)))
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Mutex};

    use einmal_flows::Received;
    use einmal_storage::{
        Key, MemoryStore, RECORDS_FOLDER, SledStore, Store, TenantId, Unlock, create_key_file,
    };
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        clock::ManualClock,
        command::{Command, Invite},
        config::Role,
        db::{EXCHANGES, SEEN},
        handler::{Effects, Handled, RoleService, Shared},
        node::testing,
    };

    /// Cannot wake an exchange called `stuck`, nor one whose record cannot be read, and notes the rest.
    struct Sleepers(Arc<Mutex<Vec<String>>>);

    impl RoleService for Sleepers {
        fn on_message(&self, _: &Shared, _: &Received<'_>, _: &mut Effects<'_>) -> Result<bool, Failure> {
            Ok(false)
        }

        fn on_timer(&self, shared: &Shared, exchange: &str, _: &mut Effects<'_>) -> Handled {
            if exchange.starts_with("stuck") {
                return Err(Failure::later("it sleeps"));
            }
            shared.db.get::<Value>(EXCHANGES, exchange)?;
            self.0.lock().unwrap().push(exchange.to_owned());
            Ok(())
        }

        fn invite(&self, _: &Shared, _: &Invite, _: &mut Effects<'_>) -> Result<Value, Failure> {
            Ok(Value::Null)
        }

        fn command(&self, _: &Shared, _: &Command, _: &mut Effects<'_>) -> Result<Value, Failure> {
            Ok(Value::Null)
        }

        fn protocols(&self) -> Vec<(&'static str, &'static str)> {
            Vec::new()
        }
    }

    fn record(table: einmal_storage::Table, number: u32) -> Key {
        Key::new(&TenantId::default(), table, number.to_be_bytes()).unwrap()
    }

    #[tokio::test]
    async fn records_whose_time_is_over_are_removed_as_fast_as_a_busy_node_writes_them_and_a_part_at_a_time()
    {
        let (node, clock) = testing::node(Role::Citizen).await;
        let store = node.shared.db.store();
        let late = PURGES * PURGED_AT_ONCE + 10;
        for numbers in (0..u32::try_from(late).unwrap()).collect::<Vec<_>>().chunks(500) {
            let mut batch = Batch::new();
            for number in numbers {
                batch.put_expiring(record(SEEN, *number), b"", testing::START_MS / 1000);
            }
            store.commit(batch).await.unwrap();
        }
        let left = || store.count(&TenantId::default(), SEEN, b"").unwrap();
        node.sweep().await;
        assert_eq!(left(), late as u64, "not before the clock stands");
        clock.advance(2 * 3_600_000);
        node.sweep().await;
        assert_eq!(left(), 10, "in one pass, and no more than it may");
        node.sweep().await;
        assert_eq!(left(), 0);
    }

    #[tokio::test]
    async fn a_result_that_was_put_anew_while_the_old_one_was_looked_at_stays_and_others_go() {
        let over = testing::START_MS / 1000 - 1;
        let renewed = std::sync::atomic::AtomicBool::new(false);
        let store = testing::Watched::new(move |store: &MemoryStore, read| {
            if read == testing::Read::Scan(RESULTS) && !renewed.swap(true, Ordering::SeqCst) {
                let mut batch = Batch::new();
                batch.put_expiring(record(RESULTS, 1), b"new", over + 1000);
                assert!(store.commit(batch).wait().is_ok());
            }
        });
        let mut batch = Batch::new();
        for number in 0..3 {
            batch.put_expiring(record(RESULTS, number), b"old", over);
        }
        store.inner.commit(batch).await.unwrap();
        let (node, _) = testing::node_on(Role::Citizen, Arc::new(store)).await;
        node.sweep().await;
        let left = node.shared.db.store().scan(&TenantId::default(), RESULTS, b"", None, 9).unwrap();
        let left: Vec<_> = left.iter().map(|record| record.value.as_slice()).collect();
        assert_eq!(left, [b"new"]);
    }

    /// A node whose exchanges are [`Sleepers`], on the sealed store in `folder`, and its clock.
    async fn sealed_node(folder: &Path) -> (Arc<Node>, Arc<ManualClock>, Arc<Mutex<Vec<String>>>) {
        let key_file = folder.join("key");
        if !key_file.exists() {
            create_key_file(&key_file).unwrap();
        }
        let store = einmal_storage::open(&folder.join("store"), &Unlock::KeyFile(key_file)).unwrap();
        let (node, clock) = testing::node_on(Role::Citizen, Arc::new(store)).await;
        let (mut node, woken) = (Arc::into_inner(node).unwrap(), Arc::default());
        node.role = Box::new(Sleepers(Arc::clone(&woken)));
        (Arc::new(node), clock, woken)
    }

    /// Changes a byte of a sealed record, as a disk does that loses some.
    async fn damage(folder: &Path, key: Key) {
        let records = SledStore::open(&folder.join("store").join(RECORDS_FOLDER)).unwrap();
        let mut value = records.read(&key).unwrap().unwrap().value;
        *value.last_mut().unwrap() ^= 1;
        let mut batch = Batch::new();
        batch.put(key, value);
        records.commit(batch).await.unwrap();
        records.close().unwrap();
    }

    #[tokio::test]
    async fn records_that_do_not_unseal_are_ours_to_mend_and_ring_for_ever_neither_as_exchange_nor_as_timer()
    {
        let folder = tempfile::tempdir().unwrap();
        let (node, _, _) = sealed_node(folder.path()).await;
        let at = UnixSeconds(testing::START_MS / 1000 + 1);
        node.change(|fx| {
            for exchange in ["lost", "unheard", "whole"] {
                fx.put(EXCHANGES, exchange, &json!({}))?;
                fx.wake(exchange, at)?;
            }
            Ok(())
        })
        .await
        .unwrap();
        let timer = Timer { exchange: "unheard".into(), at, set_at: None };
        let damaged = [node.shared.db.key(EXCHANGES, "lost"), node.shared.db.key(TIMERS, timer.id(at))]
            .map(Result::unwrap);
        node.shared.db.store().close().unwrap();
        drop(node);
        for key in damaged {
            damage(folder.path(), key).await;
        }
        let (node, clock, woken) = sealed_node(folder.path()).await;
        let failure = Failure::from(node.shared.db.get::<Value>(EXCHANGES, "lost").err().unwrap());
        assert!(failure.is_ours_to_mend() && !failure.is_temporary(), "{failure:?}");
        clock.advance(2_000);
        node.timer_pass().await.unwrap();
        assert_eq!(*woken.lock().unwrap(), ["whole"]);
        assert_eq!(node.shared.db.count(TIMERS).unwrap(), 0, "none is tried again");
    }

    #[tokio::test]
    async fn exchanges_that_cannot_be_woken_hold_up_no_other_and_are_tried_again() {
        let (node, clock) = testing::node(Role::Citizen).await;
        let mut node = Arc::into_inner(node).unwrap();
        let woken = Arc::new(Mutex::new(Vec::new()));
        node.role = Box::new(Sleepers(Arc::clone(&woken)));
        let (node, now) = (Arc::new(node), UnixSeconds(testing::START_MS / 1000));
        node.change(|fx| {
            (0..=PASS).try_for_each(|number| fx.wake(&format!("stuck-{number}"), now))?;
            Ok(fx.wake("awake", now.plus(1))?)
        })
        .await
        .unwrap();
        clock.advance(2_000);
        node.timer_pass().await.unwrap();
        assert_eq!(*woken.lock().unwrap(), ["awake"]);
        assert_eq!(node.shared.db.count(TIMERS).unwrap(), PASS as u64 + 1, "none is given up");
        let due_now = |node: &Node| {
            let first: Vec<(Vec<u8>, Timer)> = node.shared.db.scan(TIMERS, b"", None, 1).unwrap();
            due(&first[0].0, &first[0].1) <= node.shared.now()
        };
        assert!(!due_now(&node));
        clock.advance(PUT_OFF_SECS * 1000);
        assert!(due_now(&node));
    }
}
