//! Timers: exchanges that asked to be woken are woken, also after a restart.

use std::{sync::Arc, time::Duration};

use einmal_storage::StoreError;
use tracing::Instrument;

use super::{Failure, Node, effects::Timer, log_reason};
use crate::{db::TIMERS, log};

/// Most timers run in one pass.
const PASS: usize = 200;

/// Letters looked at in one pass for whether their time is over.
const MAIL_PASS: usize = 20_000;

impl Node {
    /// Wakes exchanges and removes expired records until told to stop.
    pub async fn run_timers(self: Arc<Self>) {
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
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
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
            self.wake(&id, &timer).instrument(log::request("timer")).await?;
        }
        Ok(())
    }

    /// Wakes one exchange. A timer whose exchange will never want it goes; one that may be woken later stays.
    async fn wake(self: &Arc<Self>, id: &[u8], timer: &Timer) -> Result<(), StoreError> {
        let woken = self
            .run(|fx| {
                fx.delete(TIMERS, id)?;
                self.role.on_timer(&self.shared, &timer.exchange, fx)
            })
            .await;
        let Err(failure) = woken else { return Ok(()) };
        tracing::info!(reason = %log_reason(&failure), "an exchange could not be woken");
        if !matches!(failure, Failure::Peer { .. } | Failure::User(_)) {
            return Ok(());
        }
        match self.run(|fx| Ok(fx.delete(TIMERS, id)?)).await {
            Err(Failure::Store(error)) => Err(error),
            _ => Ok(()),
        }
    }
}
