//! Reads what waits in the outbox, whatever became of single records.

use einmal_storage::{Key, StoreError};

use super::{GIVE_UP_SECS, Item};
use crate::{
    db::{DEAD, OUTBOX, Sound},
    handler::{Cause, Effects},
    node::Node,
};

impl Node {
    /// Some messages in the order they are due, behind `after`. One whose record does not parse or unseal is given up: it would keep
    /// all others from being read. Blocks the thread if there is one.
    pub(super) fn queued(
        &self,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Item)>, StoreError> {
        loop {
            let Sound { records, damaged } = self.shared.db.scan_sound(OUTBOX, after, limit)?;
            if damaged.is_empty() {
                return Ok(records);
            }
            self.give_up_damaged(damaged)?;
        }
    }

    fn give_up_damaged(&self, damaged: Vec<Key>) -> Result<(), StoreError> {
        tracing::error!(count = damaged.len(), "messages whose records do not parse or unseal were given up");
        let mut fx = Effects::new(&self.shared, Cause::Own);
        let until = self.shared.now().plus(GIVE_UP_SECS);
        for key in damaged {
            self.shared.stats.given_up.inc();
            let note = serde_json::json!({"reason": "its record is damaged", "type": null, "to": null});
            fx.put_expiring(DEAD, key.id(), &note, until)?;
            fx.delete(OUTBOX, key.id())?;
        }
        self.shared.db.store().commit(fx.into_parts().0).wait().map(|_| ())
    }
}
