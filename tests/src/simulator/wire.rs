//! The simulator's network: POST and WebSocket.

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{
        DefaultBodyLimit, State,
        ws::{Message as Frame, WebSocket, WebSocketUpgrade},
    },
    http::{StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::{any, post},
};
use einmal_did::{Did, DidUrl};
use einmal_didcomm::ENCRYPTED_MEDIA_TYPE;
use einmal_keys::base64url_decode;
use futures_util::stream;
use serde_json::Value;
use tokio::{net::TcpListener, sync::mpsc};

use super::{Fault, Mediator};

/// The status of what is not answered at all: the connection is cut off.
pub(super) const CUT: u16 = 0;
/// Most frames that wait to be pushed on one socket.
const MAX_WAITING: usize = 64;

/// Serves until it is stopped.
pub(super) async fn serve(mediator: Arc<Mediator>, listener: TcpListener) {
    let routes = Router::new()
        .route("/ws", any(upgrade))
        .fallback(post(take))
        .layer(DefaultBodyLimit::max(einmal_didcomm::limits::MAX_ENVELOPE_BYTES))
        .with_state(mediator);
    let _ = axum::serve(listener, routes).await;
}

async fn take(State(mediator): State<Arc<Mediator>>, uri: Uri, body: Bytes) -> Response {
    if let Some(detour) = mediator.detour(uri.path()) {
        return detour;
    }
    let (status, reply) = mediator.take(&body, None);
    if status == 400
        && let Some(instead) = mediator.refused().await
    {
        return instead;
    }
    if mediator.loses_the_answer() {
        return StatusCode::GATEWAY_TIMEOUT.into_response();
    }
    if status == CUT || mediator.cuts_the_answer() {
        return cut();
    }
    let status = StatusCode::from_u16(status).unwrap();
    match reply {
        Some(reply) => (status, [(header::CONTENT_TYPE, ENCRYPTED_MEDIA_TYPE)], reply).into_response(),
        None if mediator.breaks(Fault::SaysOkInPlainText) => (status, "OK").into_response(),
        None => status.into_response(),
    }
}

/// An answer that breaks off before anything of it has come.
pub(super) fn cut() -> Response {
    let broken = stream::once(async { Err::<Bytes, _>(std::io::Error::other("cut off")) });
    Body::from_stream(broken).into_response()
}

async fn upgrade(State(mediator): State<Arc<Mediator>>, upgrade: WebSocketUpgrade) -> Response {
    if mediator.loses_the_handshake() {
        return StatusCode::BAD_GATEWAY.into_response();
    }
    upgrade.on_upgrade(move |socket| talk(mediator, socket))
}

async fn talk(mediator: Arc<Mediator>, mut socket: WebSocket) {
    let (sender, mut pushes) = mpsc::channel::<Vec<u8>>(MAX_WAITING);
    loop {
        let out = tokio::select! {
            push = pushes.recv() => push,
            frame = socket.recv() => match frame {
                Some(Ok(Frame::Text(text))) => mediator.take(text.as_bytes(), Some(&sender)).1,
                Some(Ok(Frame::Binary(bytes))) => mediator.take(&bytes, Some(&sender)).1,
                Some(Ok(Frame::Ping(_) | Frame::Pong(_))) => None,
                _ => break,
            },
        };
        let Some(out) = out else { continue };
        if socket.send(Frame::Text(String::from_utf8(out).unwrap().into())).await.is_err() {
            break;
        }
        if mediator.closes(&sender) {
            let _ = socket.send(Frame::Close(None)).await;
            break;
        }
    }
    if mediator.breaks(Fault::StaysLiveOnNewSockets) {
        return;
    }
    mediator.state().live.retain(|_, live| !live.socket.same_channel(&sender));
}

/// The sender that an envelope names, proved or not.
pub(super) fn sender_of(bytes: &[u8]) -> Option<Did> {
    let envelope: Value = serde_json::from_slice(bytes).ok()?;
    let header = base64url_decode(envelope.get("protected")?.as_str()?)?;
    let header: Value = serde_json::from_slice(&header).ok()?;
    Some(DidUrl::parse(header.get("skid")?.as_str()?).ok()?.did().clone())
}
