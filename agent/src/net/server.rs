//! HTTP in: envelopes by POST, did:web document, status lists, health; bounded in size, time and number.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Path, Request, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use einmal_didcomm::{ENCRYPTED_MEDIA_TYPE, limits::MAX_ENVELOPE_BYTES};
use tokio::{net::TcpListener, sync::Semaphore};

use crate::node::{Arrival, Node};

/// Most requests handled at once; further ones are told to come again.
pub const MAX_REQUESTS: usize = 256;
/// Most request bodies read at once, each of at most one envelope's size.
pub const MAX_BODIES: usize = 512;
/// Seconds in which a request body must have arrived.
const BODY_TIMEOUT: Duration = Duration::from_secs(15);

#[derive(Clone)]
struct Server {
    node: Arc<Node>,
    slots: Arc<Semaphore>,
    bodies: Arc<Semaphore>,
}

/// Serves `node` on `listener` until `stop` resolves, then lets requests under way finish.
///
/// # Errors
///
/// An I/O error of the listening socket.
pub async fn serve(
    node: Arc<Node>,
    listener: TcpListener,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let server = Server {
        node,
        slots: Arc::new(Semaphore::new(MAX_REQUESTS)),
        bodies: Arc::new(Semaphore::new(MAX_BODIES)),
    };
    let routes = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/.well-known/did.json", get(did_document))
        .route("/status/{list}", get(status_list))
        .fallback(receive)
        .with_state(server);
    axum::serve(listener, routes.into_make_service_with_connect_info::<SocketAddr>())
        .with_graceful_shutdown(stop)
        .await
}

/// Any POST is an envelope, whatever its path and label: deployed clients use several of both.
async fn receive(State(server): State<Server>, request: Request) -> Response {
    if request.method() != axum::http::Method::POST {
        return (StatusCode::NOT_FOUND, "post an encrypted DIDComm v2 message here\n").into_response();
    }
    let Ok(reading) = server.bodies.try_acquire() else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let body = tokio::time::timeout(BODY_TIMEOUT, to_bytes(request.into_body(), MAX_ENVELOPE_BYTES)).await;
    let bytes = match body {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(_)) => return StatusCode::PAYLOAD_TOO_LARGE.into_response(),
        Err(_) => return StatusCode::REQUEST_TIMEOUT.into_response(),
    };
    drop(reading);
    // Only now: a body that drips in must not hold a place.
    let Ok(_slot) = server.slots.try_acquire() else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    // A task of its own: a sender that hangs up must not stop what was begun.
    let node = Arc::clone(&server.node);
    let Ok(receipt) = tokio::spawn(async move { node.receive(&bytes, Arrival::Http).await }).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    if let Some(refusal) = receipt.refused {
        let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST);
        return status.into_response();
    }
    // 200, never 202: a deployed client takes any other status for an error.
    match receipt.reply {
        Some(envelope) => {
            let mut response = Response::new(Body::from(envelope));
            response
                .headers_mut()
                .insert(header::CONTENT_TYPE, HeaderValue::from_static(ENCRYPTED_MEDIA_TYPE));
            response
        }
        None => StatusCode::OK.into_response(),
    }
}

async fn did_document(State(server): State<Server>) -> Response {
    let document = server.node.public_did().and_then(|did| server.node.published_document(did));
    match document {
        Some(document) => {
            let body = document.to_json().to_string();
            ([(header::CONTENT_TYPE, "application/did+json")], body).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn status_list(State(server): State<Server>, Path(list): Path<String>) -> Response {
    let uri = format!("{}/status/{list}", server.node.shared().url());
    let node = Arc::clone(&server.node);
    // Signing and compressing are work for a thread that may block.
    let token = tokio::task::spawn_blocking(move || node.published_status_list(&uri)).await;
    match token {
        Ok(Some(token)) => ([(header::CONTENT_TYPE, "application/statuslist+jwt")], token).into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}
