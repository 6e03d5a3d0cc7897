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
    time::{Instant, Sleep},
};

/// Longest a peer takes to make room for more output. An answer held for a peer that does not read takes memory, and
/// its connection a place.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Resolves when more may be read.
type Leave = Pin<Box<dyn Future<Output = ()> + Send>>;
/// Asks for leave to read on.
type Ask = Box<dyn Fn() -> Leave + Send + Sync>;

/// Longest a peer takes to read all that was to be written at once. Whoever reads a byte now and then would hold an answer for ever; the
/// largest takes so long at 9 KB/s.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(120);

/// Bytes received on a connection, to detect messages that are not complete, and how many may be without leave.
#[derive(Default)]
pub(super) struct ReadBytes {
    total: AtomicU64,
    /// The total beyond which leave is asked for; 0 if it never is.
    bound: AtomicU64,
    ask: OnceLock<Ask>,
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

    /// Leave is asked for when more arrives than [`ReadBytes::may_take`] permits. Nothing more is read until it is given.
    pub(super) fn ask(&self, ask: Ask) {
        let _ = self.ask.set(ask);
    }

    /// So many bytes may arrive from here on.
    pub(super) fn may_take(&self, bytes: u64) {
        self.bound.store(self.total().saturating_add(bytes), Ordering::Relaxed);
    }

    /// So many bytes more may arrive, unless leave for all of the message was asked for already.
    pub(super) fn may_take_more(&self, bytes: u64) {
        let more = |bound: u64| (bound > 0).then(|| bound.saturating_add(bytes));
        let _ = self.bound.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// The request for leave to read on, if one is due.
    fn request(&self) -> Option<Leave> {
        let bound = self.bound.load(Ordering::Relaxed);
        if bound == 0 || self.total() <= bound {
            return None;
        }
        // Asked for once for each message.
        self.bound.store(0, Ordering::Relaxed);
        self.ask.get().map(|ask| ask())
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
    /// Since when something to be written has waited; until all is written.
    behind_since: Option<Instant>,
    /// Resolves when more may be read; absent for the many connections that need no leave.
    leave: Option<Leave>,
}

impl<S> Paced<S> {
    pub(super) fn new(stream: S, read: Arc<ReadBytes>) -> Self {
        Self { stream, read, waiting: None, behind_since: None, leave: None }
    }

    /// Judges a write: its result, or an error once it has waited too long.
    fn judge<T>(&mut self, written: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        let late = || Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not read")));
        if self.behind_since.is_some_and(|since| since.elapsed() > DRAIN_TIMEOUT) {
            return late();
        }
        if written.is_ready() {
            self.waiting = None;
            return written;
        }
        self.behind_since.get_or_insert_with(Instant::now);
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(WRITE_TIMEOUT)));
        ready!(waiting.as_mut().poll(context));
        late()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.leave.is_none() {
            self.leave = self.read.request();
        }
        if let Some(leave) = &mut self.leave {
            ready!(leave.as_mut().poll(context));
            self.leave = None;
        }
        let before = into.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, into);
        let more = into.filled().len().saturating_sub(before);
        self.read.add(more as u64);
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
        if flushed.is_ready() {
            // Asked for when nothing is left to write.
            self.behind_since = None;
        }
        self.judge(flushed, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = Pin::new(&mut self.stream).poll_shutdown(context);
        self.judge(ended, context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_arrives_beyond_the_bound_is_read_only_with_leave() {
        let (mut theirs, ours) = duplex(1024);
        let (read, given) = (Arc::new(ReadBytes::default()), Arc::new(tokio::sync::Notify::new()));
        let mut ours = Paced::new(ours, Arc::clone(&read));
        let leave = Arc::clone(&given);
        read.ask(Box::new(move || {
            let leave = Arc::clone(&leave);
            Box::pin(async move { leave.notified().await })
        }));
        theirs.write_all(&[0; 100]).await.unwrap();
        read.may_take(10);
        read.may_take_more(5);
        let mut take = async |count: usize| {
            let mut bytes = vec![0; count];
            tokio::time::timeout(WRITE_TIMEOUT, ours.read_exact(&mut bytes)).await.is_ok()
        };
        assert!(take(15).await && take(1).await, "what is read already");
        assert!(!take(1).await);
        given.notify_one();
        assert!(take(25).await);
        read.may_take_more(5);
        assert!(take(25).await, "asked for once for each message, whatever control frames come in between");
        read.may_take(1);
        assert!(take(1).await && take(1).await && !take(1).await);
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
        ours.flush().await.unwrap();
        let begun = Instant::now();
        let refused = ours.write_all(&[0; 9]).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed(), WRITE_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_reads_a_little_now_and_then_has_so_long_for_all_that_is_written_at_once() {
        let (ours, mut theirs) = duplex(8);
        let mut ours = Paced::new(ours, Arc::default());
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(10)).await;
                theirs.read_exact(&mut [0; 8]).await.unwrap();
            }
        });
        // Each is taken within the time.
        for _ in 0..3 {
            ours.write_all(&[0; 64]).await.unwrap();
            ours.flush().await.unwrap();
        }
        let begun = Instant::now();
        let refused = ours.write_all(&[0; 1000]).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::TimedOut);
        assert!((DRAIN_TIMEOUT..DRAIN_TIMEOUT + Duration::from_secs(11)).contains(&begun.elapsed()));
    }
}
