//! When and to whom the outbox sends: recipients side by side, so that none waits for another that does not answer.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use einmal_storage::StoreError;
use tokio::task::{JoinError, JoinSet};

use super::{Item, LONGEST_PAUSE_MS, due_ms};
use crate::{db::OUTBOX, node::Node};

/// Most messages read at once.
const PAGE: usize = 500;
/// Most pages looked through for recipients that nothing is on its way to.
const MAX_PAGES: usize = 20;
/// Most recipients served at once.
const MAX_SERVED: usize = 64;
/// Most of them whose last attempt failed: who does not answer leaves room for others.
const MAX_RETRIED: usize = 32;
/// How soon it is looked again for what was due and had to be left.
const LEFT_PAUSE: Duration = Duration::from_secs(1);
/// Longest time between two looks.
const LONGEST_REST: Duration = Duration::from_secs(60);
/// Pause after the store failed: what cannot be written down must not be sent again and again.
const FAILED_PAUSE: Duration = Duration::from_secs(5);
/// Under load one look serves the messages of so long a time.
const GATHERED: Duration = Duration::from_millis(5);

/// Recipients that messages are on their way to, and whether an attempt failed before.
#[derive(Debug, Default)]
pub(in crate::node) struct Served(Mutex<HashMap<String, bool>>);

impl Served {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, bool>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a seat, if there is one left and the recipient has none.
    fn take(&self, recipient: &str, retried: bool) -> bool {
        let mut served = self.lock();
        let retries = served.values().filter(|retried| **retried).count();
        let room = served.len() < MAX_SERVED && (!retried || retries < MAX_RETRIED);
        if !room || served.contains_key(recipient) {
            return false;
        }
        served.insert(recipient.to_owned(), retried);
        true
    }
}

/// A recipient's seat; given back when dropped.
struct Seat {
    node: Arc<Node>,
    recipient: String,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.node.outbox_served.lock().remove(&self.recipient);
    }
}

type Sending = JoinSet<Result<(), StoreError>>;

/// What a look into the outbox found.
#[derive(Debug, Default)]
struct Look {
    /// When the next message falls due, in Unix milliseconds.
    next: Option<u64>,
    /// Something is due and was left: its recipient is served already, or all seats are taken.
    left: bool,
}

impl Look {
    fn pause(&self, now_ms: u64) -> Duration {
        let due = self.next.map(|due| Duration::from_millis(due.saturating_sub(now_ms).max(10)));
        let pause = due.map_or(LONGEST_REST, |due| due.min(LONGEST_REST));
        if self.left { pause.min(LEFT_PAUSE) } else { pause }
    }
}

/// What is due, by recipient; recipients in the order of their first message.
#[derive(Default)]
struct Due {
    order: Vec<String>,
    groups: HashMap<String, Vec<(Vec<u8>, Item)>>,
}

impl Due {
    /// Takes messages in; true if any is left because its recipient is `served`.
    fn take_in(&mut self, items: Vec<(Vec<u8>, Item)>, served: &HashSet<String>) -> bool {
        let mut left = false;
        for (id, item) in items {
            let recipient = item.to.canonical().to_string();
            if served.contains(&recipient) {
                left = true;
                continue;
            }
            let group = self.groups.entry(recipient.clone()).or_default();
            if group.is_empty() {
                self.order.push(recipient);
            }
            group.push((id, item));
        }
        left
    }

    /// Whether more would be read in vain. Those tried before do not count: they have some of the seats at most, and must not
    /// hide who comes behind them.
    fn fills_all_seats(&self) -> bool {
        let fresh = self.groups.values().filter(|group| !was_tried(group)).count();
        fresh >= MAX_SERVED
    }

    fn into_groups(mut self) -> impl Iterator<Item = (String, Vec<(Vec<u8>, Item)>)> {
        let order = std::mem::take(&mut self.order).into_iter();
        order.filter_map(move |recipient| self.groups.remove_entry(&recipient))
    }
}

impl Node {
    /// Sends what is due until told to stop; wakes when something is committed or falls due.
    pub async fn run_outbox(self: Arc<Self>) {
        let mut sending = Sending::new();
        loop {
            let look = self.launch(&mut sending);
            let (pause, left) = match &look {
                Ok(look) => (look.pause(self.shared.present().steady_ms), look.left),
                Err(error) => {
                    tracing::error!(%error, "the outbox cannot be read");
                    (FAILED_PAUSE, false)
                }
            };
            self.wait(&mut sending, pause, left).await;
        }
    }

    /// Waits until there may be something to send.
    async fn wait(&self, sending: &mut Sending, pause: Duration, left: bool) {
        let mut timer = std::pin::pin!(tokio::time::sleep(pause));
        loop {
            tokio::select! {
                () = self.outbox_bell.notified() => break,
                () = timer.as_mut() => return,
                Some(done) = sending.join_next() => {
                    if let Err(error) = settled(done) {
                        tracing::error!(%error, "the outbox cannot be written");
                        return tokio::time::sleep(FAILED_PAUSE).await;
                    }
                    if left && sending.len() <= MAX_SERVED / 2 {
                        return;
                    }
                }
            }
        }
        if !sending.is_empty() {
            tokio::time::sleep(GATHERED).await;
        }
    }

    /// Sends everything that is due once. Returns when the next message falls due, in Unix milliseconds.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the outbox cannot be read or written.
    pub async fn outbox_pass(self: &Arc<Self>) -> Result<Option<u64>, StoreError> {
        let mut sending = Sending::new();
        let look = self.launch(&mut sending)?;
        let sent_something = !sending.is_empty();
        while let Some(done) = sending.join_next().await {
            settled(done)?;
        }
        if sent_something || look.left {
            // Failed messages were put back with a later instant, and new ones may have come.
            let first: Vec<(Vec<u8>, Item)> = self.shared.db.scan(OUTBOX, b"", None, 1)?;
            return Ok(first.first().map(|(id, _)| due_ms(id)));
        }
        Ok(look.next)
    }

    /// Begins to send what is due to recipients that nothing is on its way to.
    fn launch(self: &Arc<Self>, sending: &mut Sending) -> Result<Look, StoreError> {
        // What is read of a recipient that is being served may be old by the time its seat is free.
        let served: HashSet<String> = self.outbox_served.lock().keys().cloned().collect();
        let (due, mut look) = self.look(&served)?;
        for (recipient, group) in due.into_groups() {
            if !self.outbox_served.take(&recipient, was_tried(&group)) {
                look.left = true;
                continue;
            }
            let seat = Seat { node: Arc::clone(self), recipient };
            let node = Arc::clone(self);
            sending.spawn(async move {
                let _seat = seat;
                node.send_group(group).await
            });
        }
        Ok(look)
    }

    /// Reads what is due, but for recipients that are `served`.
    fn look(&self, served: &HashSet<String>) -> Result<(Due, Look), StoreError> {
        let now = self.shared.present().steady_ms;
        // No pause is that long: these were written by a clock that was ahead, and must not wait until it is right.
        let too_late = now.saturating_add(LONGEST_PAUSE_MS * 2);
        let mut due = Due::default();
        let ahead = self.shared.db.scan(OUTBOX, b"", Some(&too_late.to_be_bytes()), PAGE)?;
        let mut look = Look { next: None, left: due.take_in(ahead, served) };
        let mut after: Option<Vec<u8>> = None;
        for _ in 0..MAX_PAGES {
            let mut page: Vec<(Vec<u8>, Item)> = self.shared.db.scan(OUTBOX, b"", after.as_deref(), PAGE)?;
            let is_full = page.len() >= PAGE;
            after = page.last().map(|(id, _)| id.clone());
            let later = page.iter().position(|(id, _)| due_ms(id) > now);
            if let Some(later) = later {
                look.next = page.get(later).map(|(id, _)| due_ms(id)).filter(|due| *due < too_late);
                page.truncate(later);
            }
            look.left |= due.take_in(page, served);
            if later.is_some() || !is_full {
                return Ok((due, look));
            }
            if due.fills_all_seats() {
                break;
            }
        }
        look.left = true;
        Ok((due, look))
    }
}

/// Whether the first message of a recipient was tried before, and could not be handed over.
fn was_tried(group: &[(Vec<u8>, Item)]) -> bool {
    group.first().is_some_and(|(_, item)| item.attempts > 0)
}

/// What became of one recipient's messages; a task that panicked is a failure as any other.
fn settled(done: Result<Result<(), StoreError>, JoinError>) -> Result<(), StoreError> {
    done.map_err(|_| StoreError::Failed)?
}

#[cfg(test)]
mod tests {
    use einmal_did::Did;
    use einmal_didcomm::UnixSeconds;
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_recipient_has_one_seat_and_those_that_do_not_answer_leave_room() {
        let served = Served::default();
        assert!(served.take("dead", true));
        assert!(!served.take("dead", true) && !served.take("dead", false), "it has one");
        let taken = (0..MAX_SERVED).filter(|n| served.take(&format!("dead {n}"), true)).count();
        assert_eq!(taken, MAX_RETRIED - 1);
        let fresh = (0..MAX_SERVED).filter(|n| served.take(&format!("fresh {n}"), false)).count();
        assert_eq!(fresh, MAX_SERVED - MAX_RETRIED);
    }

    #[test]
    fn recipients_that_were_tried_before_do_not_end_the_look_for_others() {
        let item = |name: &str, number: usize, attempts| {
            let to = Did::parse(&format!("did:example:{name}-{number}")).unwrap();
            let item = Item { message: Value::Null, to, attempts, give_up_at: UnixSeconds(1) };
            (Vec::new(), item)
        };
        let mut due = Due::default();
        due.take_in((0..2 * MAX_SERVED).map(|n| item("dead", n, 1)).collect(), &HashSet::new());
        assert!(!due.fills_all_seats());
        due.take_in((1..MAX_SERVED).map(|n| item("fresh", n, 0)).collect(), &HashSet::new());
        assert!(!due.fills_all_seats());
        due.take_in(vec![item("fresh", MAX_SERVED, 0)], &HashSet::new());
        assert!(due.fills_all_seats());
    }

    #[test]
    fn what_was_left_is_looked_for_soon_and_an_empty_outbox_rarely() {
        assert_eq!(Look { next: None, left: false }.pause(0), LONGEST_REST);
        assert_eq!(Look { next: None, left: true }.pause(0), LEFT_PAUSE);
        assert_eq!(Look { next: Some(300), left: true }.pause(0), Duration::from_millis(300));
        assert_eq!(Look { next: Some(3_000), left: true }.pause(0), LEFT_PAUSE);
        assert_eq!(Look { next: Some(5), left: false }.pause(7), Duration::from_millis(10));
        assert_eq!(Look { next: Some(u64::MAX), left: false }.pause(0), LONGEST_REST);
    }
}
