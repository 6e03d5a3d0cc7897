//! A stream whose reader must read: a write to a reader that does not is given up after a time.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

/// Longest a peer takes to make room for more output. An answer held for a peer that does not read takes memory, and
/// its connection a place.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Gives leave to read on, or does not.
type Leave = Box<dyn Fn() -> bool + Send + Sync>;

/// Bytes received on a connection, to detect messages that are not complete, and how many may be without leave.
#[derive(Default)]
pub(super) struct ReadBytes {
    total: AtomicU64,
    /// The total beyond which leave is asked for; 0 if it never is.
    bound: AtomicU64,
    leave: OnceLock<Leave>,
}

impl ReadBytes {
    /// More bytes arrived.
    pub(super) fn add(&self, more: u64) {
        self.total.fetch_add(more, Ordering::Relaxed);
    }

    /// All bytes so far.
    pub(super) fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Leave is asked for when more arrives than [`ReadBytes::may_take`] permits. Without it the connection fails.
    pub(super) fn ask(&self, leave: Leave) {
        let _ = self.leave.set(leave);
    }

    /// So many bytes may arrive from here on.
    pub(super) fn may_take(&self, bytes: u64) {
        self.bound.store(self.total().saturating_add(bytes), Ordering::Relaxed);
    }

    /// So many bytes more may arrive.
    pub(super) fn may_take_more(&self, bytes: u64) {
        self.bound.fetch_add(bytes, Ordering::Relaxed);
    }

    fn is_within(&self) -> bool {
        let bound = self.bound.load(Ordering::Relaxed);
        bound == 0 || self.total() <= bound || self.leave.get().is_none_or(|leave| leave())
    }
}

impl std::fmt::Debug for ReadBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReadBytes").field("total", &self.total()).finish_non_exhaustive()
    }
}

/// A stream that fails once a write has waited for [`WRITE_TIMEOUT`].
pub(super) struct Paced<S> {
    stream: S,
    read: Arc<ReadBytes>,
    /// Runs while a write waits; absent for the many connections whose writes do not.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S> Paced<S> {
    pub(super) fn new(stream: S, read: Arc<ReadBytes>) -> Self {
        Self { stream, read, waiting: None }
    }

    /// Judges a write: its result, or an error once it has waited too long.
    fn judge<T>(&mut self, written: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waiting = None;
            return written;
        }
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(WRITE_TIMEOUT)));
        ready!(waiting.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not read")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, into);
        let more = into.filled().len().saturating_sub(before);
        self.read.add(more as u64);
        if more > 0 && !self.read.is_within() {
            let refused =
                "too much has arrived of messages that are not complete, from one address or in all";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, refused)));
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.judge(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.judge(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.judge(flushed, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = Pin::new(&mut self.stream).poll_shutdown(context);
        self.judge(ended, context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, duplex},
        time::Instant,
    };

    use super::*;

    #[tokio::test]
    async fn what_arrives_beyond_the_bound_needs_leave() {
        let (mut theirs, ours) = duplex(1024);
        let read = Arc::new(ReadBytes::default());
        let mut ours = Paced::new(ours, Arc::clone(&read));
        let asked = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&asked);
        read.ask(Box::new(move || counted.fetch_add(1, Ordering::Relaxed) < 1));
        theirs.write_all(&[0; 100]).await.unwrap();
        read.may_take(10);
        read.may_take_more(5);
        let mut take = async |count: usize| ours.read_exact(&mut vec![0; count]).await;
        take(15).await.unwrap();
        assert_eq!(asked.load(Ordering::Relaxed), 0);
        take(1).await.unwrap();
        assert_eq!(take(1).await.unwrap_err().kind(), io::ErrorKind::ConnectionAborted, "asked twice");
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_to_a_peer_that_does_not_read_fails_in_time_and_one_that_is_read_slowly_does_not() {
        let (ours, mut theirs) = duplex(8);
        let mut ours = Paced::new(ours, Arc::default());
        let slow = tokio::spawn(async move {
            for _ in 0..4 {
                tokio::time::sleep(WRITE_TIMEOUT / 2).await;
                theirs.read_exact(&mut [0; 8]).await.unwrap();
            }
            theirs
        });
        ours.write_all(&[0; 40]).await.unwrap();
        let _theirs = slow.await.unwrap();
        let begun = Instant::now();
        let refused = ours.write_all(&[0; 9]).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed(), WRITE_TIMEOUT);
    }
}
