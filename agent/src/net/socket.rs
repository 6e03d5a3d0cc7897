//! WebSockets: envelopes both ways on a connection that stays open, and live delivery.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::extract::ws::{CloseFrame, Message as Frame, Utf8Bytes, WebSocket, close_code};
use einmal_didcomm::limits::MAX_ENVELOPE_BYTES;
use futures_util::{
    SinkExt, StreamExt,
    stream::{FuturesOrdered, SplitSink},
};
use tokio::{
    task::{JoinError, JoinHandle},
    time::{Instant, MissedTickBehavior},
};
use tokio_tungstenite::tungstenite;
use tracing::Instrument;

use super::{
    admission::{self, Admission, Buffers, LARGE_BYTES, Place, Turn},
    listen::stopped,
    paced::ReadBytes,
    pushing::{Handful, Pushing, Unreadable},
    server::Server,
    ws::{IS_IT_TAKEN, NOT_TAKEN},
};
use crate::{
    handler::{Arrival, Reason, Receipt, Refusal},
    log,
    node::Begun,
};

/// After this long without a sound a connection is asked whether it is still there.
pub(super) const PING_EVERY: Duration = Duration::from_secs(30);
/// After this long without a sound a connection is gone.
pub(super) const SILENCE: Duration = Duration::from_secs(75);
/// Longest a reader takes to accept what is sent to it; its mail waits for the next connection.
pub(super) const SEND_TIMEOUT: Duration = Duration::from_secs(20);
/// Most messages of one connection on their way to the disk.
const MAX_UNDER_WAY: usize = 64;
/// Bytes read from the socket at a time. The library makes room for a message behind what was read with its head, and the buffer keeps that
/// size: had a whole message been read at once, it would have twice its length for as long as the connection lasts.
pub(super) const READ_BUFFER: usize = 1_024;

/// Largest frame that is read. One that is somewhat too large for an envelope is read to its end: where bytes are left unread, the
/// connection is reset, and the reason may not arrive.
pub(super) const MAX_FRAME_BYTES: usize = MAX_ENVELOPE_BYTES + 256 * 1024;
/// How long a connection lasts for whose grown buffers there is no room, after what became of a large message was said.
const LEAVES_AFTER: Duration = Duration::from_secs(2);
/// How long it lasts after its last large message, whatever it does: as long as a reader may take for it, and as a whole exchange.
const LEAVES_AT_LAST: Duration = Duration::from_secs(60);
/// Most bytes that wait to be sent: two of the largest envelopes, in the form of deliveries. Pongs must not add up without end for
/// whoever asks and does not read.
pub(super) const MAX_WRITE_BUFFER: usize = 4 * MAX_ENVELOPE_BYTES;
/// Bytes of the head of a control frame from a client.
const CONTROL_HEAD: u64 = 6;
/// Bytes that may have arrived after the last message without counting as a slow message: read-ahead.
const READ_AHEAD: u64 = 8 * 1024;

/// A message that has arrived in part: it takes memory as long as its sender likes, whatever control frames intervene.
struct Unfinished {
    read: Arc<ReadBytes>,
    /// What had been read when the last message was complete.
    complete: u64,
    /// Whether a part of this message was there at the last look.
    told: bool,
    /// Leave for a large one.
    leave: Arc<Mutex<Option<admission::Unfinished>>>,
}

impl Unfinished {
    fn new(read: Arc<ReadBytes>) -> Self {
        let mut unfinished = Self { read, complete: 0, told: false, leave: Arc::default() };
        unfinished.completed();
        unfinished
    }

    /// Of large messages only so many are read at once.
    fn bound(&self, admission: Arc<Admission>, place: Arc<Place>) {
        let held = Arc::clone(&self.leave);
        self.read.ask(Box::new(move || {
            let (held, admission, place) = (Arc::clone(&held), Arc::clone(&admission), Arc::clone(&place));
            Box::pin(async move {
                let leave = admission.unfinished(&place).await;
                *held.lock().unwrap_or_else(PoisonError::into_inner) = Some(leave);
            })
        }));
    }

    /// A message is complete.
    fn completed(&mut self) {
        self.complete = self.read.total();
        self.told = false;
        self.read.may_take(LARGE_BYTES as u64);
        self.leave.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// A control frame arrived, which belongs to no message.
    fn passed(&mut self, payload: usize) {
        let bytes = CONTROL_HEAD + payload as u64;
        self.complete += bytes;
        self.read.may_take_more(bytes);
    }

    /// Whether a part of one message has been there for the whole time between two looks.
    fn lingers(&mut self) -> bool {
        let is_there = self.read.total().saturating_sub(self.complete) > READ_AHEAD;
        std::mem::replace(&mut self.told, is_there) && is_there
    }
}

/// One open socket.
struct Socket {
    server: Server,
    out: SplitSink<WebSocket, Frame>,
    pushing: Pushing,
    place: Arc<Place>,
    /// Why an envelope was refused, if one was since the last ping that asked for it.
    not_taken: Option<Refusal>,
    grown: Grown,
}

/// Whether a connection has carried a large message: its buffers keep that size for as long as it lasts.
enum Grown {
    No,
    /// It may stay: buffers of this many bytes are allowed for.
    Kept(usize, Vec<Buffers>),
    /// There is no room for them: it is closed at `at`, once it was quiet for a while, and `latest` in any case.
    Leaves {
        at: Instant,
        latest: Instant,
    },
}

/// Why a socket is closed by us.
enum Ending {
    /// The peer is gone, or does not read.
    Gone,
    /// The peer is told this code and reason.
    Told(u16, &'static str),
}

impl From<Unreadable> for Ending {
    fn from(_: Unreadable) -> Self {
        Self::Told(close_code::ERROR, Unreadable::REASON)
    }
}

/// Serves one socket until it ends.
pub(super) async fn serve(server: Server, stream: WebSocket, place: Arc<Place>, read: Arc<ReadBytes>) {
    let (out, mut incoming) = stream.split();
    let mut stopping = server.stopping.clone();
    let mut socket =
        Socket { server, out, pushing: Pushing::default(), place, not_taken: None, grown: Grown::No };
    let mut heard = Instant::now();
    let mut unfinished = Unfinished::new(read);
    unfinished.bound(Arc::clone(&socket.server.admission), Arc::clone(&socket.place));
    let mut timer = tokio::time::interval(PING_EVERY);
    // Two looks for a message that lingers must really be a full interval apart.
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    timer.reset();
    let bell = socket.pushing.bell();
    // Mail on its way to the disk, in the order it came.
    let mut under_way = FuturesOrdered::new();
    let ending = loop {
        let turn = tokio::select! {
            Some(receipt) = under_way.next() => socket.answer(receipt).await,
            frame = incoming.next(), if under_way.len() < MAX_UNDER_WAY => match frame {
                // The pong goes out with the next look at the connection.
                Some(Ok(Frame::Ping(payload))) => {
                    heard = Instant::now();
                    unfinished.passed(payload.len());
                    socket.pinged(&payload, &mut under_way).await
                }
                Some(Ok(frame)) => {
                    heard = Instant::now();
                    match &frame {
                        Frame::Text(_) | Frame::Binary(_) => unfinished.completed(),
                        Frame::Pong(payload) => unfinished.passed(payload.len()),
                        Frame::Ping(_) | Frame::Close(_) => {}
                    }
                    match socket.begin(frame).await {
                        Ok(Some((begun, turn))) if begun.is_mail() => {
                            under_way.push_back(socket.finish(begun, turn));
                            Ok(())
                        }
                        Ok(Some((begun, turn))) => socket.alone(begun, turn, &mut under_way).await,
                        Ok(None) => Ok(()),
                        Err(ending) => Err(ending),
                    }
                }
                Some(Err(error)) => Err(socket.broken(&error)),
                None => Err(Ending::Gone),
            },
            () = bell.notified() => socket.push().await,
            _ = timer.tick() => {
                if heard.elapsed() > SILENCE {
                    Err(Ending::Gone)
                } else if unfinished.lingers() {
                    Err(Ending::Told(close_code::POLICY, "a message took too long to come"))
                } else {
                    socket.ping().await
                }
            }
            () = tokio::time::sleep_until(socket.leaves_at()), if under_way.is_empty() => {
                Err(Ending::Told(close_code::AWAY, "too many connections have carried large messages; come again"))
            }
            () = stopped(&mut stopping) => {
                Err(Ending::Told(close_code::AWAY, "the node stops; come again"))
            }
        };
        if let Err(ending) = turn {
            break ending;
        }
    };
    socket.end(ending).await;
}

/// The results of everything under way, in the order it came.
async fn all_of(under_way: &mut FuturesOrdered<JoinHandle<Receipt>>) -> Vec<Result<Receipt, JoinError>> {
    let mut receipts = Vec::with_capacity(under_way.len());
    while let Some(receipt) = under_way.next().await {
        receipts.push(receipt);
    }
    receipts
}

impl Socket {
    /// Notes that a message of this many bytes goes through the buffers.
    fn carries(&mut self, bytes: usize) {
        if bytes <= LARGE_BYTES {
            return;
        }
        let (had, mut held) = match std::mem::replace(&mut self.grown, Grown::No) {
            Grown::Kept(had, held) => (had, held),
            Grown::No | Grown::Leaves { .. } => (0, Vec::new()),
        };
        let more = bytes.saturating_sub(had);
        self.grown = if more == 0 {
            Grown::Kept(had, held)
        } else if let Some(buffers) = self.server.admission.buffers(&self.place, more) {
            held.push(buffers);
            Grown::Kept(bytes, held)
        } else {
            let now = Instant::now();
            Grown::Leaves { at: now + LEAVES_AFTER, latest: now + LEAVES_AT_LAST }
        };
    }

    /// What a large message led to has been said: the time begins anew in which its peer says that it has heard it.
    fn has_answered(&mut self) {
        if let Grown::Leaves { at, latest } = &mut self.grown {
            *at = (Instant::now() + LEAVES_AFTER).min(*latest);
        }
    }

    /// When it is to be closed because of its buffers; far away if it may stay.
    fn leaves_at(&self) -> Instant {
        match self.grown {
            Grown::Leaves { at, .. } => at,
            Grown::No | Grown::Kept(..) => Instant::now() + SILENCE,
        }
    }

    /// Answers a ping once what came before it is settled: to the peer it means that everything before it is safe.
    async fn pinged(
        &mut self,
        payload: &[u8],
        under_way: &mut FuturesOrdered<JoinHandle<Receipt>>,
    ) -> Result<(), Ending> {
        self.check_rate()?;
        if payload == IS_IT_TAKEN {
            self.settle_for_pong(under_way).await?;
        } else {
            self.settle(under_way).await?;
        }
        self.has_answered();
        Ok(())
    }

    /// Counts what came against the rate of its address.
    fn check_rate(&self) -> Result<(), Ending> {
        if self.server.admission.within_rate(self.place.source()) {
            return Ok(());
        }
        self.server.node.shared().stats.refuse(Reason::Rate);
        Err(Ending::Told(close_code::AGAIN, "too many messages; come again later"))
    }

    /// Opens what a frame brings, if it brings anything, once it is its turn.
    async fn begin(&mut self, frame: Frame) -> Result<Option<(Begun, Turn)>, Ending> {
        let bytes = match frame {
            Frame::Text(text) => text.into(),
            Frame::Binary(bytes) => bytes,
            Frame::Ping(_) | Frame::Pong(_) => return self.check_rate().map(|()| None),
            Frame::Close(_) => return Err(Ending::Gone),
        };
        self.check_rate()?;
        self.carries(bytes.len());
        let turn = self.turn().await?;
        let opening = self.server.node.begin(&bytes, self.server.origin(&self.place));
        Ok(Some((opening.instrument(log::request("socket")).await, turn)))
    }

    /// What is too large is refused like any envelope, and its sender is told; after anything else nobody listens.
    fn broken(&self, error: &axum::Error) -> Ending {
        let cause =
            std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<tungstenite::Error>());
        if !matches!(cause, Some(tungstenite::Error::Capacity(_))) {
            return Ending::Gone;
        }
        self.server.node.shared().stats.refuse(Reason::TooLarge);
        Ending::Told(close_code::SIZE, "a message is larger than an envelope may be")
    }

    /// Waits for leave to work.
    async fn turn(&self) -> Result<Turn, Ending> {
        let turn = self.server.admission.request(&self.place).await;
        turn.ok_or_else(|| {
            self.server.node.shared().stats.refuse(Reason::Busy);
            Ending::Told(close_code::AGAIN, "too busy; come again later")
        })
    }

    /// Handles what is not mail, after everything that came before it.
    ///
    /// Answers to earlier messages wait for the reader, however long that takes; its turn goes to others meanwhile.
    async fn alone(
        &mut self,
        begun: Begun,
        turn: Turn,
        before: &mut FuturesOrdered<JoinHandle<Receipt>>,
    ) -> Result<(), Ending> {
        let turn = if before.is_empty() {
            turn
        } else {
            drop(turn);
            self.settle(before).await?;
            self.turn().await?
        };
        let receipt = self.finish(begun, turn).await;
        self.answer(receipt).await
    }

    /// Waits until everything that came is on the disk or refused, then answers it.
    async fn settle(&mut self, before: &mut FuturesOrdered<JoinHandle<Receipt>>) -> Result<(), Ending> {
        for receipt in all_of(before).await {
            self.answer(receipt).await?;
        }
        Ok(())
    }

    /// As [`Socket::settle`], where a ping asked whether all before it was taken: with the first answer the pong goes out, and says
    /// so. If anything was refused there is no answer, only the end, which says why.
    async fn settle_for_pong(
        &mut self,
        before: &mut FuturesOrdered<JoinHandle<Receipt>>,
    ) -> Result<(), Ending> {
        let receipts = all_of(before).await;
        let became = |receipt: &Result<Receipt, JoinError>| match receipt {
            Ok(receipt) => receipt.refused,
            // What broke off may be done another time.
            Err(_) => Some(Refusal::Unavailable),
        };
        let refused: Vec<Refusal> = receipts.iter().filter_map(became).chain(self.not_taken.take()).collect();
        if refused.iter().any(|refusal| refusal.is_temporary()) {
            return Err(Ending::Told(close_code::AGAIN, "not taken at present; come again later"));
        }
        if !refused.is_empty() {
            return Err(Ending::Told(NOT_TAKEN, "an envelope was not taken"));
        }
        for receipt in receipts {
            self.answer(receipt).await?;
        }
        Ok(())
    }

    /// Does what was begun, in a task of its own: neither a socket that breaks nor one that waits for its turn or its
    /// reader may hold it up, nor what others wait for.
    fn finish(&self, begun: Begun, turn: Turn) -> JoinHandle<Receipt> {
        let node = Arc::clone(&self.server.node);
        let live = begun.senders().any(|sender| self.pushing.is_for(sender));
        let arrival = Arrival::Socket { from: self.server.origin(&self.place), live };
        tokio::spawn(async move {
            let receipt = node.finish(begun, arrival).await;
            drop(turn);
            receipt
        })
    }

    async fn answer(&mut self, receipt: Result<Receipt, JoinError>) -> Result<(), Ending> {
        let Receipt { replies, live, refused, is_told, .. } =
            receipt.map_err(|_| Ending::Told(close_code::ERROR, "internal error"))?;
        if let Some(change) = live {
            self.pushing.change(&self.server.node, change);
        }
        if !replies.is_empty() {
            for reply in replies {
                self.feed(reply).await?;
            }
            self.flush().await?;
        }
        self.has_answered();
        if refused.is_some_and(Refusal::is_temporary) && !is_told {
            // A socket has no other way to say that an envelope may come again.
            return Err(Ending::Told(close_code::AGAIN, "not taken at present; come again later"));
        }
        self.not_taken = self.not_taken.or(refused);
        Ok(())
    }

    /// Pushes letters of mailboxes that changed, some at a time.
    async fn push(&mut self) -> Result<(), Ending> {
        let mut turn = self.pushing.turn();
        while let Some(Handful { envelopes, hand }) = self.pushing.next(&self.server.node, &mut turn)? {
            for envelope in envelopes {
                self.feed(envelope).await?;
            }
            if hand.is_large() {
                // What is fed only lies in a buffer: leave to hold a large letter lasts until it is gone from there.
                self.flush().await?;
            }
            drop(hand);
        }
        self.flush().await?;
        self.has_answered();
        Ok(())
    }

    async fn ping(&mut self) -> Result<(), Ending> {
        self.within(|out| Box::pin(out.send(Frame::Ping(Default::default())))).await
    }

    async fn feed(&mut self, envelope: Vec<u8>) -> Result<(), Ending> {
        self.carries(envelope.len());
        // Envelopes are JSON, hence text; bytes that are not text go as they are.
        let frame = match String::from_utf8(envelope) {
            Ok(text) => Frame::Text(text.into()),
            Err(other) => Frame::Binary(other.into_bytes().into()),
        };
        self.within(|out| Box::pin(out.feed(frame))).await
    }

    async fn flush(&mut self) -> Result<(), Ending> {
        self.within(|out| Box::pin(out.flush())).await
    }

    /// Sends, but does not wait for ever for a reader that does not read.
    async fn within<'a, F>(
        &'a mut self,
        send: impl FnOnce(&'a mut SplitSink<WebSocket, Frame>) -> F,
    ) -> Result<(), Ending>
    where
        F: Future<Output = Result<(), axum::Error>> + 'a,
    {
        match tokio::time::timeout(SEND_TIMEOUT, send(&mut self.out)).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Ending::Gone),
        }
    }

    async fn end(mut self, ending: Ending) {
        self.pushing.close(&self.server.node);
        if let Ending::Told(code, reason) = ending {
            let close = Frame::Close(Some(CloseFrame { code, reason: Utf8Bytes::from_static(reason) }));
            let _ = tokio::time::timeout(SEND_TIMEOUT, self.out.send(close)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_does_not_end_lingers_and_neither_whole_ones_nor_pings_do() {
        let read = Arc::new(ReadBytes::default());
        let mut unfinished = Unfinished::new(Arc::clone(&read));
        for _ in 0..1_000 {
            read.add(CONTROL_HEAD + 120);
            unfinished.passed(120);
            assert!(!unfinished.lingers());
        }
        read.add(READ_AHEAD + 1);
        assert!(!unfinished.lingers(), "it may be on its way");
        assert!(unfinished.lingers(), "it was there the last time");
        unfinished.completed();
        assert!(!unfinished.lingers());
        read.add(READ_AHEAD + 1);
        assert!(!unfinished.lingers());
        unfinished.completed();
        read.add(READ_AHEAD + 1);
        assert!(!unfinished.lingers(), "this is another one");
    }
}
