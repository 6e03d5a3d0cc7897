//! WebSockets out: one envelope a frame, every wait bounded.

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use einmal_didcomm::{Message, SenderProtection, limits::MAX_ENVELOPE_BYTES};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{Message as Frame, protocol::WebSocketConfig},
};

use super::{answer::Answer, probe::Probe};
use crate::net::guard;

/// Most frames kept that nobody has asked for yet.
const MAX_KEPT: usize = 64;

/// One socket to the target.
pub(super) struct Socket {
    stream: WebSocketStream<TcpStream>,
    /// Frames that came while another was waited for.
    kept: VecDeque<Vec<u8>>,
}

impl Socket {
    /// Connects to the target's WebSocket endpoint.
    pub(super) async fn open(probe: &Probe) -> Result<Self, String> {
        let uri = probe.socket.as_deref().ok_or("no WebSocket endpoint is advertised")?;
        tokio::time::timeout(probe.patience(), Self::connect(probe, uri))
            .await
            .map_err(|_| "the WebSocket does not open in time".to_owned())?
    }

    async fn connect(probe: &Probe, uri: &str) -> Result<Self, String> {
        // The same rules as for HTTP: schemes stand for each other, and only vetted addresses are connected to.
        let as_http = uri.replacen("ws", "http", 1);
        let url = guard::check_url(&as_http, &probe.network)?;
        if url.scheme() == "https" {
            return Err("this build speaks WebSocket without TLS only".to_owned());
        }
        let host = url.host_str().ok_or("the endpoint has no host")?;
        let port = url.port_or_known_default().unwrap_or(80);
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let found: Vec<SocketAddr> =
            tokio::net::lookup_host((bare, port)).await.map_err(|error| error.to_string())?.collect();
        let vetted = guard::vet(host, found, &probe.network)?;
        let stream = TcpStream::connect(vetted.as_slice()).await.map_err(|error| error.to_string())?;
        let _ = stream.set_nodelay(true);
        let bounds = WebSocketConfig::default()
            .max_message_size(Some(MAX_ENVELOPE_BYTES))
            .max_frame_size(Some(MAX_ENVELOPE_BYTES));
        let (stream, _) = client_async_with_config(uri, stream, Some(bounds))
            .await
            .map_err(|error| format!("the WebSocket does not open: {error}"))?;
        Ok(Self { stream, kept: VecDeque::new() })
    }

    /// Sends text as one frame.
    pub(super) async fn send(&mut self, probe: &Probe, bytes: Vec<u8>) -> Result<(), String> {
        let text = String::from_utf8(bytes).map_err(|_| "not a text".to_owned())?;
        let sent = tokio::time::timeout(probe.patience(), self.stream.send(Frame::Text(text.into()))).await;
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
            match tokio::time::timeout_at(end, self.stream.next()).await {
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
