//! WebSockets out: one envelope per frame, every wait bounded, and a `Close` at the end.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use einmal_didcomm::{Message, SenderProtection};
use futures_util::{SinkExt, StreamExt};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message as Frame;

use super::{
    answer::{Answer, Heard},
    outcome::{Outcome, Problem},
    probe::Probe,
};
use crate::net::{
    names::Names,
    ws::{self, Line},
};

/// A request that may be answered without a thread, and that answer.
const DELIVERY_REQUEST_4: &str = "https://didcomm.org/message-pickup/4.0/delivery-request";
const DELIVERY_4: &str = "https://didcomm.org/message-pickup/4.0/delivery";
/// Most frames kept that were not asked for yet.
const MAX_KEPT: usize = 64;
/// Most frames of any kind read from one socket: a target that sends more is not waiting for us.
const MAX_FRAMES: usize = 4_096;
/// How long an answer may take after a pong has shown that the target read the request.
const AFTER_PONG: Duration = Duration::from_secs(3);
/// How long a request that was read takes to be carried out.
const CARRIED_OUT: Duration = Duration::from_millis(500);
/// Longest we wait for our own `Close` to leave.
const CLOSING: Duration = Duration::from_secs(2);

/// One socket to the target; it sends `Close` when this is dropped.
pub(super) struct Socket {
    line: Option<Line>,
    /// Frames that arrived while another one was awaited.
    kept: VecDeque<Vec<u8>>,
    /// Frames read so far.
    read: usize,
}

/// Whether sockets to the target open at all.
#[derive(Default)]
pub(super) struct Sockets {
    opened: AtomicBool,
    failed: AtomicBool,
}

impl Sockets {
    fn opened(&self) {
        self.opened.store(true, Ordering::Relaxed);
    }

    /// Whether another attempt is worth its time: not once several at the first socket of all have failed.
    fn are_worth_another(&self) -> bool {
        self.opened.load(Ordering::Relaxed) || !self.failed.load(Ordering::Relaxed)
    }

    /// What the last of all attempts at a socket says: where others have opened, that this one got lost.
    fn blamed(&self, problem: String) -> Problem {
        self.failed.store(true, Ordering::Relaxed);
        match self.opened.load(Ordering::Relaxed) {
            true => Problem::Unknown(problem),
            false => Problem::Broken(problem),
        }
    }
}

/// What came next on a socket.
enum Next {
    Envelope(Vec<u8>),
    Pong,
    /// Nothing in time.
    Nothing,
}

impl Socket {
    /// Connects to the target's WebSocket endpoint.
    pub(super) async fn open(probe: &Probe) -> Outcome<Self> {
        let uri = probe.socket.as_deref().ok_or("no WebSocket endpoint is advertised")?;
        Self::open_at(probe, uri).await
    }

    async fn open_at(probe: &Probe, uri: &str) -> Outcome<Self> {
        let mut retries = 0;
        loop {
            let problem = match Self::open_once(probe, uri).await {
                Ok(line) => {
                    probe.sockets.opened();
                    return Ok(Self { line: Some(line), kept: VecDeque::new(), read: 0 });
                }
                Err(problem) => problem,
            };
            match probe.pause(None, retries).filter(|_| probe.sockets.are_worth_another()) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(probe.sockets.blamed(problem)),
            }
            retries += 1;
        }
    }

    async fn open_once(probe: &Probe, uri: &str) -> Result<Line, String> {
        let line = ws::connect(uri, &probe.network, Names::own());
        match tokio::time::timeout(probe.patience(), line).await {
            Ok(Ok(line)) => Ok(line),
            Ok(Err(error)) => Err(format!("the WebSocket does not open: {error}")),
            Err(_) => Err("the WebSocket does not open in time".to_owned()),
        }
    }

    /// Sends one envelope over a socket of its own; what comes back is the answer.
    ///
    /// A socket has no status: silence is believed some time after a pong, because the envelope was read before it.
    pub(super) async fn exchange(probe: &Probe, uri: &str, bytes: Vec<u8>) -> Answer {
        let mut socket = match Self::open_at(probe, uri).await {
            Ok(socket) => socket,
            Err(problem) => return Answer::lost(problem),
        };
        let sent = async {
            socket.send(probe, bytes).await?;
            socket.send_frame(probe, Frame::Ping(Default::default())).await
        };
        if let Err(problem) = sent.await {
            return Answer::lost(problem);
        }
        let mut end = Instant::now() + probe.patience();
        let mut read = false;
        loop {
            match socket.receive(end).await {
                Ok(Next::Envelope(bytes)) => {
                    let heard = probe.hear(&bytes).await;
                    return probe.noted(Answer { status: None, media_type: None, heard });
                }
                Ok(Next::Pong) if !read => (read, end) = (true, end.min(Instant::now() + AFTER_PONG)),
                Ok(Next::Pong) => {}
                Ok(Next::Nothing) if read => {
                    return Answer { status: None, media_type: None, heard: Heard::Nothing };
                }
                Ok(Next::Nothing) => return Answer::lost("no answer on the socket in time"),
                Err(problem) => return Answer::lost(problem),
            }
        }
    }

    /// Says that it is no longer needed, and waits until the target has heard so.
    pub(super) async fn close(mut self) {
        let Some(mut line) = self.line.take() else { return };
        let closed = async {
            let _ = line.close(None).await;
            while let Some(Ok(_)) = line.next().await {}
        };
        let _ = tokio::time::timeout(CLOSING, closed).await;
    }

    /// Sends text as one frame.
    pub(super) async fn send(&mut self, probe: &Probe, bytes: Vec<u8>) -> Outcome {
        self.send_frame(probe, ws::frame(bytes)).await
    }

    /// Waits until a pong shows that everything sent was read, and a moment longer for it to be carried out. A target
    /// that closes the socket or answers no ping has had its time.
    pub(super) async fn settle(&mut self, probe: &Probe) {
        let end = Instant::now() + probe.quiet();
        if self.send_frame(probe, Frame::Ping(Default::default())).await.is_err() {
            return;
        }
        while let Ok(Next::Envelope(bytes)) = self.receive(end).await {
            if self.kept.len() < MAX_KEPT {
                self.kept.push_back(bytes);
            }
        }
        tokio::time::sleep(CARRIED_OUT).await;
    }

    async fn send_frame(&mut self, probe: &Probe, frame: Frame) -> Outcome {
        let line = self.line.as_mut().ok_or("the socket is closed")?;
        let sent = tokio::time::timeout(probe.patience(), line.send(frame)).await;
        Ok(sent.map_err(|_| "the socket takes nothing")?.map_err(|error| error.to_string())?)
    }

    /// The next envelope, if one arrives before `end`.
    pub(super) async fn next(&mut self, end: Instant) -> Outcome<Option<Vec<u8>>> {
        if let Some(kept) = self.kept.pop_front() {
            return Ok(Some(kept));
        }
        loop {
            match self.receive(end).await? {
                Next::Envelope(bytes) => return Ok(Some(bytes)),
                Next::Pong => {}
                Next::Nothing => return Ok(None),
            }
        }
    }

    async fn receive(&mut self, end: Instant) -> Outcome<Next> {
        let line = self.line.as_mut().ok_or("the socket is closed")?;
        // Frames already received are read whatever the time: without this check a stream of them would have no end.
        while Instant::now() < end {
            self.read += 1;
            if self.read > MAX_FRAMES {
                return Err(format!("the target sent more than {MAX_FRAMES} frames").into());
            }
            match tokio::time::timeout_at(end, line.next()).await {
                Err(_) => return Ok(Next::Nothing),
                Ok(None | Some(Ok(Frame::Close(_)))) => return Err("the target closed the socket".into()),
                Ok(Some(Err(error))) => return Err(error.to_string().into()),
                Ok(Some(Ok(frame @ (Frame::Text(_) | Frame::Binary(_))))) => {
                    return Ok(Next::Envelope(frame.into_data().to_vec()));
                }
                Ok(Some(Ok(Frame::Pong(_)))) => return Ok(Next::Pong),
                Ok(Some(Ok(_))) => {}
            }
        }
        Ok(Next::Nothing)
    }

    /// Sends a request and waits for the answer in its thread; other envelopes are kept.
    ///
    /// Silence on an open socket is an answer: the target had its time. If the target fails inside, it is asked again.
    pub(super) async fn ask(&mut self, probe: &Probe, request: &Message) -> Answer {
        let (mut answer, mut retries) = (self.ask_once(probe, request).await, 0);
        while let Some(second) = probe.another_attempt(request, &answer, retries).await {
            answer = self.ask_once(probe, &second).await.answering(request, &second);
            retries += 1;
        }
        answer
    }

    async fn ask_once(&mut self, probe: &Probe, request: &Message) -> Answer {
        let sent = match probe.pack(request, SenderProtection::Authcrypt).await {
            Ok(bytes) => self.send(probe, bytes).await,
            Err(problem) => Err(problem),
        };
        if let Err(problem) = sent {
            return Answer::lost(problem);
        }
        if probe.patience().is_zero() {
            return Answer::lost("time is up");
        }
        let silence = || Answer { status: None, media_type: None, heard: Heard::Nothing };
        let end = Instant::now() + probe.patience();
        loop {
            let bytes = match self.receive(end).await {
                Ok(Next::Envelope(bytes)) => bytes,
                Ok(Next::Pong) => continue,
                Ok(Next::Nothing) => return silence(),
                Err(problem) => return Answer::lost(problem),
            };
            let heard = probe.hear(&bytes).await;
            let answer = Answer { status: None, media_type: None, heard };
            if is_for(probe, request, &answer) {
                return probe.noted(answer);
            }
            if self.kept.len() < MAX_KEPT {
                self.kept.push_back(bytes);
            }
        }
    }
}

/// Whether an answer is for `request`, the only open one.
fn is_for(probe: &Probe, request: &Message, answer: &Answer) -> bool {
    let Some(opened) = answer.opened() else { return false };
    let (message, thread) = (&opened.message, request.thread());
    if message.thid.as_ref() == Some(&thread) || message.pthid.as_ref() == Some(&thread) {
        return true;
    }
    if message.thid.is_some() || !probe.is_from_target(opened) {
        return false;
    }
    // Pickup 3.0 gives status no thread, and pickup 4.0 leaves the thread of a delivery to the mediator.
    let delivered = request.kind.is(DELIVERY_REQUEST_4) && message.kind.is(DELIVERY_4);
    message.kind.message() == "status" || delivered
}

impl Drop for Socket {
    fn drop(&mut self) {
        let Some(mut line) = self.line.take() else { return };
        // A target that is not told keeps the socket as long as its own patience lasts.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let _ = tokio::time::timeout(CLOSING, line.close(None)).await;
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use einmal_did::Did;
    use tokio::net::TcpListener;
    use tokio_tungstenite::accept_async;

    use super::*;
    use crate::config::Network;

    fn probe(socket: String) -> Probe {
        let network = Network { allow_private: true, allow_http: true };
        let target = Did::parse("did:web:localhost").unwrap();
        let end = std::time::Instant::now() + Duration::from_secs(60);
        let mut probe = Probe::new(target, network, Duration::from_secs(5), end).unwrap();
        probe.socket = Some(socket);
        probe
    }

    #[tokio::test]
    async fn peer_that_speaks_no_tls_is_an_error_in_words() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                drop(stream)
            }
        });
        let problem = Socket::open(&probe(format!("wss://{address}/"))).await.err().unwrap();
        assert!(problem.text().contains("does not open"), "{problem}");
    }

    #[tokio::test]
    async fn frames_without_end_do_not_prolong_a_wait() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let mut line = accept_async(listener.accept().await.unwrap().0).await.unwrap();
            while line.send(Frame::Ping(Default::default())).await.is_ok() {}
        });
        let mut socket = Socket::open(&probe(format!("ws://{address}/"))).await.unwrap();
        let begun = Instant::now();
        // The first of the two limits, time or count, ends it.
        let _ = socket.next(begun + Duration::from_millis(300)).await;
        assert!(begun.elapsed() < Duration::from_secs(3));
    }

    #[tokio::test]
    async fn socket_that_is_no_longer_needed_says_so() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let closed = tokio::spawn(async move {
            let mut line = accept_async(listener.accept().await.unwrap().0).await.unwrap();
            matches!(line.next().await, Some(Ok(Frame::Close(_))))
        });
        drop(Socket::open(&probe(format!("ws://{address}/"))).await.unwrap());
        assert!(closed.await.unwrap());
    }
}
