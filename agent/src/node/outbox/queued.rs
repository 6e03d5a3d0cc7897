//! Reads what waits in the outbox, whatever became of single records.

use einmal_storage::{Key, StoreError};

use super::{GIVE_UP_SECS, Item};
use crate::{
    db::{DEAD, OUTBOX},
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
            let (mut queued, mut damaged) = (Vec::new(), Vec::new());
            match self.shared.db.scan_raw(OUTBOX, b"", after, limit) {
                Ok(page) => {
                    for record in page {
                        match serde_json::from_slice(&record.value) {
                            Ok(item) => queued.push((record.key.id().to_vec(), item)),
                            Err(_) => damaged.push(record.key),
                        }
                    }
                }
                Err(StoreError::Unsealable { key }) => damaged.push(key),
                Err(error) => return Err(error),
            }
            if damaged.is_empty() {
                return Ok(queued);
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
