//! WebSockets out: one envelope to an endpoint, or a line that stays open; every connection guarded.

use std::{sync::Arc, time::Duration};

use einmal_didcomm::limits::MAX_ENVELOPE_BYTES;
use futures_util::{SinkExt, StreamExt};
use rustls_platform_verifier::ConfigVerifierExt;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, pki_types::ServerName},
};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        Message as Frame,
        protocol::{WebSocketConfig, frame::coding::CloseCode},
    },
};

use super::names::Names;
use crate::{config::Network, guard, transport::SendError};

/// Longest time to establish a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time for a whole exchange.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes read from the socket at a time.
const READ_BUFFER: usize = 16 * 1024;

/// Most bytes that wait to be sent; the other side asks for pongs as often as it likes.
const MAX_WRITE_BUFFER: usize = 4 * MAX_ENVELOPE_BYTES;

/// The code that closes a socket if an envelope on it was not taken and will not be: codes from 4000 on are for private
/// use, and this one recalls the status of HTTP.
pub(super) const NOT_TAKEN: u16 = 4400;

/// What a ping says that asks whether everything before it was taken: only it is answered by [`NOT_TAKEN`] instead of a pong.
/// Pings of others, which only ask whether the connection stands, are always answered.
pub(super) const IS_IT_TAKEN: &[u8] = b"einmal: taken?";

/// Whatever carries the bytes: TCP, or TLS on it.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// An open line.
pub(crate) type Line = WebSocketStream<Box<dyn Stream>>;

/// Connects to `uri`, if `network` permits it; its name is looked up by `names`.
pub(crate) async fn connect(uri: &str, network: &Network, names: &Names) -> Result<Line, SendError> {
    // The rules are those of HTTP: `ws` is `http`, `wss` is `https`.
    let (scheme, rest) = uri.split_once(':').unwrap_or_default();
    let same = format!("{}:{rest}", scheme.to_ascii_lowercase().replacen("ws", "http", 1));
    let url = guard::check_url(&same, network)?;
    let late = |_| SendError::Unreachable { reason: "no connection within the time".into() };
    tokio::time::timeout(CONNECT_TIMEOUT, open(uri, &url, network, names)).await.map_err(late)?
}

/// Opens a line to `uri`, which is `url` by its rules.
async fn open(uri: &str, url: &url::Url, network: &Network, names: &Names) -> Result<Line, SendError> {
    let failed = |error: &dyn std::fmt::Display| SendError::Unreachable { reason: error.to_string() };
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let port = url.port_or_known_default().unwrap_or(443);
    let found = names.find(bare, port).await.map_err(|error| failed(&error))?;
    let vetted = guard::vet(found, network).map_err(|error| failed(&error))?;
    let tcp = TcpStream::connect(vetted.as_slice()).await.map_err(|error| failed(&error))?;
    let _ = tcp.set_nodelay(true);
    let stream: Box<dyn Stream> = if url.scheme() == "https" {
        let config = ClientConfig::with_platform_verifier().map_err(|error| failed(&error))?;
        let name = ServerName::try_from(bare.to_owned()).map_err(|error| failed(&error))?;
        let connector = TlsConnector::from(Arc::new(config));
        Box::new(connector.connect(name, tcp).await.map_err(|error| failed(&error))?)
    } else {
        Box::new(tcp)
    };
    let bounds = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .max_message_size(Some(MAX_ENVELOPE_BYTES))
        .max_frame_size(Some(MAX_ENVELOPE_BYTES))
        .max_write_buffer_size(MAX_WRITE_BUFFER);
    let (line, _) =
        client_async_with_config(uri, stream, Some(bounds)).await.map_err(|error| failed(&error))?;
    Ok(line)
}

/// How an exchange ended.
enum Ended {
    /// The envelope was read; this is what came back.
    Read(Option<Vec<u8>>),
    /// The other side said that it did not take the envelope.
    NotTaken,
    /// The connection was closed before anything was said.
    Early,
}

/// Sends one envelope and waits until the other side has read it. What comes back meanwhile is the answer.
///
/// A WebSocket says nothing about whether an envelope was taken. A pong that follows it says at least that it was read,
/// and a node of this kind sends it only when the envelope is on the disk.
pub(crate) async fn exchange(
    uri: &str,
    envelope: Vec<u8>,
    network: &Network,
    names: &Names,
) -> Result<Option<Vec<u8>>, SendError> {
    let mut line = connect(uri, network, names).await?;
    let talk = async {
        line.send(frame(envelope)).await?;
        line.send(Frame::Ping(IS_IT_TAKEN.into())).await?;
        let mut answer = None;
        while let Some(received) = line.next().await {
            match received? {
                Frame::Pong(_) => {
                    let _ = line.close(None).await;
                    return Ok(Ended::Read(answer));
                }
                Frame::Close(Some(close))
                    if close.code == CloseCode::Size || u16::from(close.code) == NOT_TAKEN =>
                {
                    return Ok(Ended::NotTaken);
                }
                Frame::Text(text) => answer = answer.or(Some(text.as_bytes().to_vec())),
                Frame::Binary(bytes) => answer = answer.or(Some(bytes.to_vec())),
                _ => {}
            }
        }
        Ok::<_, tokio_tungstenite::tungstenite::Error>(Ended::Early)
    };
    match tokio::time::timeout(EXCHANGE_TIMEOUT, talk).await {
        Ok(Ok(Ended::Read(answer))) => Ok(answer),
        Ok(Ok(Ended::NotTaken)) => Err(SendError::Refused { status: 400 }),
        Ok(Ok(Ended::Early)) => Err(SendError::Unreachable { reason: "the connection was closed".into() }),
        Ok(Err(tokio_tungstenite::tungstenite::Error::Capacity(_))) => {
            Err(SendError::AnswerTooLarge { most: MAX_ENVELOPE_BYTES })
        }
        Ok(Err(error)) => Err(SendError::Unreachable { reason: error.to_string() }),
        Err(_) => Err(SendError::Unreachable { reason: "no answer within the time".into() }),
    }
}

/// An envelope as a frame: text, because it is JSON; bytes that are not text go as they are.
pub(crate) fn frame(envelope: Vec<u8>) -> Frame {
    match String::from_utf8(envelope) {
        Ok(text) => Frame::Text(text.into()),
        Err(other) => Frame::Binary(other.into_bytes().into()),
    }
}
