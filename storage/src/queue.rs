//! The bounded queue between the committing callers and the one writer.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::StoreError;

/// Most batches that wait for the writer; later callers block.
pub const MAX_WAITING_BATCHES: usize = 4096;
/// Most bytes of batches that wait for the writer (the batch that exceeds the bound still enters).
pub const MAX_WAITING_BYTES: usize = 32 * 1024 * 1024;
/// Most operations the writer takes for one flush (the batch that exceeds the bound is still taken).
pub const MAX_GROUP_OPS: usize = 2048;
/// Most bytes the writer takes for one flush (the batch that exceeds the bound is still taken).
pub const MAX_GROUP_BYTES: usize = 8 * 1024 * 1024;
/// How long the writer may be busy with one group. A flush takes milliseconds, on a poor disk a second or two; a disk that takes
/// longer than this hangs, and whoever would wait for it is refused at once ([`StoreError::Stalled`]).
pub const STALLED_AFTER: Duration = Duration::from_secs(10);

/// Something that counts against the bounds.
pub(crate) trait Load {
    fn ops(&self) -> usize;
    fn bytes(&self) -> usize;
}

#[derive(Debug)]
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    arrived: Condvar,
    room: Condvar,
}

#[derive(Debug)]
struct State<T> {
    waiting: VecDeque<T>,
    bytes: usize,
    closed: Option<StoreError>,
    /// When the writer took the group that it is busy with.
    busy_since: Option<Instant>,
    /// [`STALLED_AFTER`], except in tests.
    patience: Duration,
}

impl<T> State<T> {
    fn is_stalled(&self) -> bool {
        // Once closed, the writer takes its last group and is gone.
        self.closed.is_none() && self.busy_since.is_some_and(|since| since.elapsed() > self.patience)
    }

    /// How long the writer may still be busy with its group.
    fn patience_left(&self) -> Duration {
        self.busy_since.map_or(self.patience, |since| self.patience.saturating_sub(since.elapsed()))
    }
}

impl<T: Load> Queue<T> {
    pub(crate) fn new() -> Self {
        let state = State {
            waiting: VecDeque::new(),
            bytes: 0,
            closed: None,
            busy_since: None,
            patience: STALLED_AFTER,
        };
        Self { state: Mutex::new(state), arrived: Condvar::new(), room: Condvar::new() }
    }

    /// Waits for room and enters `item`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Stalled`] while the writer is busy for too long, and what the queue was closed with.
    pub(crate) fn push(&self, item: T) -> Result<(), StoreError> {
        self.enter(self.with_room()?, item)
    }

    /// Waits for room, which others may have taken by the time this returns.
    ///
    /// # Errors
    ///
    /// Those of [`Queue::push`].
    pub(crate) fn wait_for_room(&self) -> Result<(), StoreError> {
        self.with_room().map(drop)
    }

    /// Enters `item` without waiting, for a caller that has waited for room and now holds a lock others need.
    pub(crate) fn push_now(&self, item: T) -> Result<(), StoreError> {
        self.enter(self.lock(), item)
    }

    fn with_room(&self) -> Result<MutexGuard<'_, State<T>>, StoreError> {
        let mut state = self.lock();
        loop {
            if let Some(reason) = &state.closed {
                return Err(reason.clone());
            }
            if state.is_stalled() {
                return Err(StoreError::Stalled);
            }
            if state.waiting.len() < MAX_WAITING_BATCHES && state.bytes < MAX_WAITING_BYTES {
                return Ok(state);
            }
            // A moment longer, so that the time is over when nobody has woken us.
            let left = state.patience_left().saturating_add(Duration::from_millis(1));
            (state, _) = self.room.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn enter(&self, mut state: MutexGuard<'_, State<T>>, item: T) -> Result<(), StoreError> {
        if let Some(reason) = &state.closed {
            return Err(reason.clone());
        }
        state.bytes = state.bytes.saturating_add(item.bytes());
        state.waiting.push_back(item);
        drop(state);
        self.arrived.notify_one();
        Ok(())
    }

    /// Waits for work and takes as much as one flush should cover; `None` when the queue is closed and empty.
    pub(crate) fn take_group(&self) -> Option<Vec<T>> {
        let idle = |state: &mut State<T>| state.waiting.is_empty() && state.closed.is_none();
        let mut state = self.lock();
        state.busy_since = None;
        let state = self.arrived.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner);
        let group = self.group(state);
        (!group.is_empty()).then_some(group)
    }

    /// Takes what is waiting, without blocking; `None` when the queue is closed and empty.
    pub(crate) fn try_take_group(&self) -> Option<Vec<T>> {
        let state = self.lock();
        let closed = state.closed.is_some();
        let group = self.group(state);
        (!group.is_empty() || !closed).then_some(group)
    }

    fn group(&self, mut state: MutexGuard<'_, State<T>>) -> Vec<T> {
        // Even with an empty group: then the writer cleans.
        state.busy_since = Some(Instant::now());
        let mut group = Vec::new();
        let (mut ops, mut bytes) = (0usize, 0usize);
        while ops < MAX_GROUP_OPS && bytes < MAX_GROUP_BYTES {
            let Some(item) = state.waiting.pop_front() else { break };
            ops = ops.saturating_add(item.ops());
            bytes = bytes.saturating_add(item.bytes());
            group.push(item);
        }
        state.bytes = state.bytes.saturating_sub(bytes);
        drop(state);
        self.room.notify_all();
        group
    }

    /// Admits nothing more; later callers get `reason`. Waiting items can still be taken.
    pub(crate) fn close(&self, reason: StoreError) {
        self.lock().closed = Some(reason);
        self.arrived.notify_all();
        self.room.notify_all();
    }

    /// Whether the writer is busy with one group for longer than [`STALLED_AFTER`].
    pub(crate) fn is_stalled(&self) -> bool {
        self.lock().is_stalled()
    }

    /// Sets what counts as too long, in place of [`STALLED_AFTER`].
    #[cfg(test)]
    pub(crate) fn set_patience(&self, patience: Duration) {
        self.lock().patience = patience;
    }

    pub(crate) fn is_open(&self) -> bool {
        self.lock().closed.is_none()
    }

    /// Discards what is waiting; dropping it tells the callers.
    pub(crate) fn clear(&self) {
        let waiting = std::mem::take(&mut self.lock().waiting);
        drop(waiting);
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().waiting.len()
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread, time::Duration};

    use super::*;

    #[derive(Debug, PartialEq)]
    struct Item(usize);

    impl Load for Item {
        fn ops(&self) -> usize {
            1
        }
        fn bytes(&self) -> usize {
            self.0
        }
    }

    #[test]
    fn a_full_queue_holds_callers_up_until_there_is_room() {
        let queue = Arc::new(Queue::new());
        queue.push(Item(MAX_WAITING_BYTES)).unwrap();
        let late = thread::spawn({
            let queue = Arc::clone(&queue);
            move || queue.push(Item(1))
        });
        thread::sleep(Duration::from_millis(50));
        assert_eq!(queue.len(), 1, "the second must wait");
        assert_eq!(queue.take_group(), Some(vec![Item(MAX_WAITING_BYTES)]));
        late.join().unwrap().unwrap();
        assert_eq!(queue.take_group(), Some(vec![Item(1)]));
    }

    #[test]
    fn a_writer_that_is_busy_for_too_long_has_callers_refused_until_it_comes_back() {
        let queue = Queue::new();
        let patience = Duration::from_millis(200);
        queue.set_patience(patience);
        queue.push(Item(MAX_WAITING_BYTES)).unwrap();
        thread::sleep(patience * 2);
        assert!(!queue.is_stalled(), "it has taken nothing yet");
        queue.take_group().unwrap();
        assert!(!queue.is_stalled());
        queue.push(Item(MAX_WAITING_BYTES)).unwrap();
        // There is no room: this one waits, and is told when it has become too long.
        let begun = Instant::now();
        assert_eq!(queue.push(Item(1)), Err(StoreError::Stalled));
        assert!(begun.elapsed() < patience * 5 && queue.is_stalled());
        let begun = Instant::now();
        assert_eq!(queue.wait_for_room(), Err(StoreError::Stalled));
        assert!(begun.elapsed() < patience / 2, "at once");
        queue.take_group().unwrap();
        assert!(!queue.is_stalled(), "a new group has its own time");
        queue.push(Item(1)).unwrap();
        queue.try_take_group().unwrap();
        queue.try_take_group().unwrap();
        thread::sleep(patience * 2);
        assert!(queue.is_stalled(), "cleaning may hang as well");
        queue.close(StoreError::Closed);
        assert!(!queue.is_stalled());
    }

    #[test]
    fn a_group_is_bounded_by_operations_and_by_bytes() {
        let queue = Queue::new();
        for _ in 0..3 {
            queue.push(Item(MAX_GROUP_BYTES / 2)).unwrap();
        }
        assert_eq!(queue.take_group().unwrap().len(), 2);
        assert_eq!(queue.take_group().unwrap().len(), 1);
    }

    #[test]
    fn a_closed_queue_gives_what_waits_and_takes_nothing() {
        let queue = Queue::new();
        queue.push(Item(1)).unwrap();
        queue.close(StoreError::Closed);
        assert_eq!(queue.push(Item(2)), Err(StoreError::Closed));
        assert_eq!(queue.take_group(), Some(vec![Item(1)]));
        assert_eq!(queue.take_group(), None);
    }

    #[test]
    fn closing_frees_callers_who_are_held_up() {
        let queue = Arc::new(Queue::new());
        queue.push(Item(MAX_WAITING_BYTES)).unwrap();
        let late = thread::spawn({
            let queue = Arc::clone(&queue);
            move || queue.push(Item(1))
        });
        queue.close(StoreError::Closed);
        assert_eq!(late.join().unwrap(), Err(StoreError::Closed));
    }
}
