//! The answer to a commit: a future that works with any runtime, or without one.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
};

use futures_channel::oneshot;

use crate::{StoreError, Version};

/// A batch is written and durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The version that every record put by the batch now has.
    pub version: Version,
}

/// A batch on its way to the disk.
///
/// Await it, or call [`Commit::wait`] outside a runtime. Dropping it does not recall the batch: it is still written,
/// only nobody is told.
#[derive(Debug)]
#[must_use = "a batch is durable only when its commit has resolved"]
pub struct Commit(State);

#[derive(Debug)]
enum State {
    Answered(Result<Committed, StoreError>),
    Waiting(oneshot::Receiver<Result<Committed, StoreError>>),
}

/// The backend's end of a [`Commit`]. If dropped without an answer, it tells the caller that the outcome is unknown
/// ([`StoreError::Failed`]).
#[derive(Debug)]
pub struct Acknowledgement(oneshot::Sender<Result<Committed, StoreError>>);

impl Commit {
    /// A commit that is already answered.
    pub fn answered(answer: Result<Committed, StoreError>) -> Self {
        Self(State::Answered(answer))
    }

    /// A commit that will be answered later.
    pub fn pending() -> (Acknowledgement, Self) {
        let (sender, receiver) = oneshot::channel();
        (Acknowledgement(sender), Self(State::Waiting(receiver)))
    }

    /// Blocks the thread until the batch is durable or refused. Not for use inside an async task.
    ///
    /// # Errors
    ///
    /// Those of [`Store::commit`](crate::Store::commit).
    pub fn wait(mut self) -> Result<Committed, StoreError> {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut context = Context::from_waker(&waker);
        loop {
            if let Poll::Ready(answer) = Pin::new(&mut self).poll(&mut context) {
                return answer;
            }
            thread::park();
        }
    }
}

impl Future for Commit {
    type Output = Result<Committed, StoreError>;

    /// Polled again after the answer, it returns the answer again.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = match &mut self.0 {
            State::Answered(answer) => return Poll::Ready(answer.clone()),
            State::Waiting(receiver) => match Pin::new(receiver).poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(answer)) => answer,
                Poll::Ready(Err(oneshot::Canceled)) => Err(StoreError::Failed),
            },
        };
        self.0 = State::Answered(answer.clone());
        Poll::Ready(answer)
    }
}

impl Acknowledgement {
    /// Wakes the waiting caller, if there is one.
    pub fn answer(self, answer: Result<Committed, StoreError>) {
        // An error means that the caller dropped the commit, which is allowed.
        let _ = self.0.send(answer);
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DONE: Committed = Committed { version: Version(3) };

    #[test]
    fn a_blocking_caller_gets_the_answer_of_another_thread() {
        let (acknowledgement, commit) = Commit::pending();
        let waiter = thread::spawn(move || commit.wait());
        acknowledgement.answer(Ok(DONE));
        assert_eq!(waiter.join().unwrap(), Ok(DONE));
    }

    #[test]
    fn a_backend_that_goes_away_is_a_failure_not_a_success() {
        let (acknowledgement, commit) = Commit::pending();
        drop(acknowledgement);
        assert_eq!(commit.wait(), Err(StoreError::Failed));
    }

    #[test]
    fn polling_after_the_answer_repeats_it() {
        let mut commit = Commit::answered(Ok(DONE));
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..2 {
            assert_eq!(Pin::new(&mut commit).poll(&mut context), Poll::Ready(Ok(DONE)));
        }
    }

    #[test]
    fn answering_a_dropped_commit_does_no_harm() {
        let (acknowledgement, commit) = Commit::pending();
        drop(commit);
        acknowledgement.answer(Ok(DONE));
    }
}
