//! Work that goes on when whoever waits for it is gone: a sender that hangs up must not stop what was begun.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::runtime::Handle;

/// Runs in the task that waits for it, which costs no change of threads, and in one of its own once it is dropped.
pub(super) struct Outlasting<T: Send + 'static>(Option<Pin<Box<dyn Future<Output = T> + Send>>>);

impl<T: Send + 'static> Outlasting<T> {
    pub(super) fn new(work: impl Future<Output = T> + Send + 'static) -> Self {
        Self(Some(Box::pin(work)))
    }
}

impl<T: Send + 'static> Future for Outlasting<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let Some(work) = self.0.as_mut() else { return Poll::Pending };
        let done = ready!(work.as_mut().poll(context));
        self.0 = None;
        Poll::Ready(done)
    }
}

impl<T: Send + 'static> Drop for Outlasting<T> {
    fn drop(&mut self) {
        // Work that panicked is not begun again.
        if std::thread::panicking() {
            return;
        }
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
}
