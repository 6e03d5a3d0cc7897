//! Work that continues after its waiter is gone: a sender that hangs up must not stop what was begun.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use tokio::runtime::Handle;

/// Runs in the task that waits for it, which costs no change of threads, and in a task of its own once it is dropped.
pub(super) struct Outlasting<T: Send + 'static>(Option<Pin<Box<dyn Future<Output = T> + Send>>>);

impl<T: Send + 'static> Outlasting<T> {
    pub(super) fn new(work: impl Future<Output = T> + Send + 'static) -> Self {
        Self(Some(Box::pin(work)))
    }
}

impl<T: Send + 'static> Future for Outlasting<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        // Taken out while it is polled: work that panics is not begun again.
        let Some(mut work) = self.0.take() else { return Poll::Pending };
        let polled = work.as_mut().poll(context);
        if polled.is_pending() {
            self.0 = Some(work);
        }
        polled
    }
}

impl<T: Send + 'static> Drop for Outlasting<T> {
    fn drop(&mut self) {
        if let (Some(work), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            drop(runtime.spawn(work));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn work_gives_its_result_to_whoever_waits() {
        assert_eq!(Outlasting::new(async { 7 }).await, 7);
    }

    #[tokio::test(start_paused = true)]
    async fn work_goes_on_when_nobody_waits_any_more() {
        let (tell, done) = oneshot::channel();
        let work = Outlasting::new(async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            tell.send(()).unwrap();
        });
        assert!(tokio::time::timeout(Duration::from_millis(1), work).await.is_err());
        done.await.unwrap();
    }

    #[tokio::test]
    async fn work_that_nobody_ever_asked_for_is_done_too() {
        let (tell, done) = oneshot::channel();
        drop(Outlasting::new(async { tell.send(()).unwrap() }));
        done.await.unwrap();
    }

    #[tokio::test]
    async fn work_that_panics_is_not_begun_again() {
        let (tell, mut polls) = tokio::sync::mpsc::channel(9);
        let work = Outlasting::new(async move {
            tell.try_send(()).unwrap();
            panic!("on purpose");
        });
        assert!(tokio::spawn(work).await.unwrap_err().is_panic());
        tokio::task::yield_now().await;
        assert_eq!((polls.recv().await, polls.recv().await), (Some(()), None));
    }
}
