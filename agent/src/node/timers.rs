//! Timers: exchanges that asked to be woken are woken, also after a restart.

use std::{sync::Arc, time::Duration};

use einmal_storage::StoreError;

use super::{Failure, Node, effects::Timer};
use crate::db::TIMERS;

/// Most timers run in one pass.
const PASS: usize = 200;

/// Letters looked at in one pass for whether their time is over.
const MAIL_PASS: usize = 20_000;

impl Node {
    /// Wakes exchanges and removes expired records until told to stop.
    pub async fn run_timers(self: Arc<Self>) {
        let mut held_up = false;
        loop {
            if let Err(error) = self.timer_pass().await {
                tracing::error!(%error, "timers cannot be read");
            }
            let node = Arc::clone(&self);
            let purge = tokio::task::spawn_blocking(move || {
                node.shared.db.store().purge_expired(node.shared.now().0, 1000)
            });
            if let Ok(Err(error)) = purge.await {
                tracing::error!(%error, "expired records cannot be removed");
            }
            self.shared.mail.expire(self.shared.now().0, MAIL_PASS);
            held_up = self.look_at_the_disk(held_up);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Whether the disk refuses mail; a change is logged, and a disk that refused is asked again.
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

    /// Wakes every exchange that is due once.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the timers cannot be read or written.
    pub async fn timer_pass(self: &Arc<Self>) -> Result<(), StoreError> {
        let now = self.shared.now();
        let timers: Vec<(Vec<u8>, Timer)> = self.shared.db.scan(TIMERS, b"", None, PASS)?;
        for (id, timer) in timers.into_iter().filter(|(_, timer)| timer.at <= now) {
            let woken = self
                .run(|fx| {
                    fx.delete(TIMERS, &id)?;
                    self.role.on_timer(&self.shared, &timer.exchange, fx)
                })
                .await;
            if let Err(failure) = woken {
                tracing::info!(%failure, "an exchange could not be woken");
                if !matches!(failure, Failure::Peer { .. } | Failure::User(_)) {
                    continue;
                }
                let dropped = self.run(|fx| Ok(fx.delete(TIMERS, &id)?)).await;
                if let Err(Failure::Store(error)) = dropped {
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}
