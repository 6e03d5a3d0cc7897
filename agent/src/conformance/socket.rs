//! WebSockets out: one envelope a frame, every wait bounded.

use std::{collections::VecDeque, time::Duration};

use einmal_didcomm::{Message, SenderProtection};
use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::Message as Frame;

use super::{answer::Answer, probe::Probe};
use crate::net::ws::{self, Line};

/// Most frames kept that nobody has asked for yet.
const MAX_KEPT: usize = 64;

/// One socket to the target.
pub(super) struct Socket {
    line: Line,
    /// Frames that came while another was waited for.
    kept: VecDeque<Vec<u8>>,
}

impl Socket {
    /// Connects to the target's WebSocket endpoint.
    pub(super) async fn open(probe: &Probe) -> Result<Self, String> {
        let uri = probe.socket.as_deref().ok_or("no WebSocket endpoint is advertised")?;
        let line = tokio::time::timeout(probe.patience(), ws::connect(uri, &probe.network)).await;
        let line = line.map_err(|_| "the WebSocket does not open in time".to_owned())?;
        let line = line.map_err(|error| format!("the WebSocket does not open: {error}"))?;
        Ok(Self { line, kept: VecDeque::new() })
    }

    /// Sends text as one frame.
    pub(super) async fn send(&mut self, probe: &Probe, bytes: Vec<u8>) -> Result<(), String> {
        let sent = tokio::time::timeout(probe.patience(), self.line.send(ws::frame(bytes))).await;
        sent.map_err(|_| "the socket takes nothing".to_owned())?.map_err(|error| error.to_string())
    }

    /// The next envelope, if one comes within `wait`.
    pub(super) async fn next(&mut self, wait: Duration) -> Result<Option<Vec<u8>>, String> {
        if let Some(kept) = self.kept.pop_front() {
            return Ok(Some(kept));
        }
        self.receive(wait).await
    }

    async fn receive(&mut self, wait: Duration) -> Result<Option<Vec<u8>>, String> {
        let end = tokio::time::Instant::now() + wait;
        loop {
            match tokio::time::timeout_at(end, self.line.next()).await {
                Err(_) => return Ok(None),
                Ok(None | Some(Ok(Frame::Close(_)))) => return Err("the target closed the socket".to_owned()),
                Ok(Some(Err(error))) => return Err(error.to_string()),
                Ok(Some(Ok(frame @ (Frame::Text(_) | Frame::Binary(_))))) => {
                    return Ok(Some(frame.into_data().to_vec()));
                }
                Ok(Some(Ok(_))) => {}
            }
        }
    }

    /// Sends a request and waits for the answer in its thread; what else comes is kept.
    pub(super) async fn ask(&mut self, probe: &Probe, request: &Message) -> Answer {
        let sent = match probe.pack(request, SenderProtection::Authcrypt).await {
            Ok(bytes) => self.send(probe, bytes).await,
            Err(problem) => Err(problem),
        };
        if let Err(problem) = sent {
            return Answer::lost(&problem);
        }
        let end = tokio::time::Instant::now() + probe.patience();
        loop {
            let left = end.saturating_duration_since(tokio::time::Instant::now());
            let bytes = match self.receive(left).await {
                Ok(Some(bytes)) => bytes,
                Ok(None) => return Answer::lost("no answer on the socket in time"),
                Err(problem) => return Answer::lost(&problem),
            };
            let heard = probe.hear(&bytes).await;
            let answer = Answer { status: None, media_type: None, heard };
            let thread = request.thread();
            let ours = answer.opened().is_some_and(|opened| {
                opened.message.thid.as_ref() == Some(&thread)
                    || opened.message.pthid.as_ref() == Some(&thread)
            });
            if ours {
                return answer;
            }
            if self.kept.len() < MAX_KEPT {
                self.kept.push_back(bytes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use einmal_did::Did;

    use super::*;
    use crate::config::Network;

    #[tokio::test]
    async fn peer_that_speaks_no_tls_is_an_error_in_words() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                drop(stream)
            }
        });
        let network = Network { allow_private: true, allow_http: true };
        let target = Did::parse("did:web:localhost").unwrap();
        let mut probe = Probe::new(target, network, Duration::from_secs(5)).unwrap();
        probe.socket = Some(format!("wss://{address}/"));
        let problem = Socket::open(&probe).await.err().unwrap();
        assert!(problem.contains("does not open"), "{problem}");
    }
}
