//! HTTP in: envelopes by POST or WebSocket, did:web document, status lists, health.

use std::{future::Future, sync::Arc, time::Duration};

use axum::{
    Extension, Router,
    body::{Body, BodyDataStream, Bytes},
    extract::{FromRequestParts, Path, Request, State, WebSocketUpgrade},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use einmal_didcomm::{ENCRYPTED_MEDIA_TYPE, SIGNED_MEDIA_TYPE, limits::MAX_ENVELOPE_BYTES};
use futures_util::{Stream, StreamExt};
use tokio::{net::TcpListener, sync::watch, task::JoinError};
use tracing::Instrument;

use super::{
    admission::{Admission, Answering, LARGE_BYTES, Place, RETRY_AFTER_SECS, Room},
    listen,
    outlast::Outlasting,
    paced::ReadBytes,
    socket,
    tls::Tls,
};
use crate::{
    handler::{Arrival, Failure, Origin, Reason, Receipt, Refusal, describe_for_log},
    log::RequestId,
    node::Node,
};

/// The header of a refusal that gives the id of its lines in the log.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest a client takes for the body of a request.
const BODY_TIMEOUT: Duration = Duration::from_secs(15);

/// Most bytes of a body that is too large which are read so that its sender hears so.
const MAX_DRAINED_BYTES: usize = 4 * MAX_ENVELOPE_BYTES;

/// What all requests share.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) node: Arc<Node>,
    pub(super) admission: Arc<Admission>,
    pub(super) stopping: watch::Receiver<bool>,
}

impl Server {
    /// The origin behind a place, if its source is bounded: otherwise everybody behind a proxy on this machine would be
    /// one origin.
    pub(super) fn origin(&self, place: &Place) -> Option<Origin> {
        let source = place.source();
        self.admission.is_bounded(source).then(|| self.node.origin(source))
    }
}

/// What a person reads who opens an invitation's URL in a browser.
const ABOUT_INVITATIONS: &str = "This address is an invitation to talk by DIDComm, end to end encrypted.\n\
    A browser cannot take it: open it with a DIDComm v2 wallet, by its QR code or by pasting the whole address.\n\
    With einmal: einmal accept 'ADDRESS' --dir DIR\n\
    Whoever takes it first may be the only one who can: pass it on to nobody else.\n";

/// Serves `node` on `listener` until `stop` resolves, then lets requests under way finish.
pub async fn serve(node: Arc<Node>, listener: TcpListener, stop: impl Future<Output = ()> + Send + 'static) {
    serve_with(node, listener, None, stop).await;
}

/// As [`serve`], by TLS if there is a certificate.
pub async fn serve_with(
    node: Arc<Node>,
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    stop: impl Future<Output = ()> + Send + 'static,
) {
    let (stops, stopping) = watch::channel(false);
    let admission = Admission::new(node.shared().config.limits.clone());
    let server =
        Server { node: Arc::clone(&node), admission: Arc::clone(&admission), stopping: stopping.clone() };
    let routes = routes(server);
    let told = tokio::spawn(async move {
        stop.await;
        let _ = stops.send(true);
    });
    let refused = || node.shared().stats.refuse(Reason::Connections);
    listen::serve(routes, listener, (admission, refused), tls, stopping).await;
    told.abort();
}

/// What costs something has a rate for each visitor. `/healthz` and `/metrics` have none: they tell those who watch the node that it lives.
fn routes(server: Server) -> Router {
    let within_rate = Router::new()
        .route("/readyz", get(ready))
        .route("/.well-known/did.json", get(did_document))
        .route("/status/{list}", get(status_list))
        .fallback(receive)
        .layer(middleware::from_fn_with_state(server.clone(), admit));
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/metrics", get(metrics))
        .merge(within_rate)
        .with_state(server)
}

/// Lets requests of one visitor pass at its rate, and puts its place where that of its connection was.
///
/// Refusals of those who ask too much are for `debug`: at `info` they would fill the log for the asking.
async fn admit(State(server): State<Server>, mut request: Request, next: Next) -> Response {
    let Some(place) = request.extensions().get::<Arc<Place>>().cloned() else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let visitor = Admission::visitor(&place, request.headers());
    let Some(visitor) = visitor.filter(|place| server.admission.within_rate(place.source())) else {
        server.node.shared().stats.refuse(Reason::Rate);
        let id = RequestId::fresh();
        id.span("http").in_scope(|| tracing::debug!("too many requests from one address"));
        return for_pages(named(come_again(StatusCode::TOO_MANY_REQUESTS), &id));
    };
    request.extensions_mut().insert(visitor);
    next.run(request).await
}

/// Any POST is an envelope, whatever its path and label: deployed clients use several of both. Anything that asks to
/// become a WebSocket does.
async fn receive(
    State(server): State<Server>,
    Extension(visitor): Extension<Arc<Place>>,
    request: Request,
) -> Response {
    let id = RequestId::fresh();
    let response = take(server, request, visitor).instrument(id.span("http")).await;
    for_pages(named(response, &id))
}

/// Lets a refusal name the lines in the log that say why.
fn named(mut response: Response, id: &RequestId) -> Response {
    let status = response.status();
    if (status.is_client_error() || status.is_server_error())
        && let Ok(id) = HeaderValue::try_from(id.to_string())
    {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// Lets scripts of any web page read the answer: a wallet may live in a browser. There are no cookies here, and nothing
/// else that a browser adds by itself, so a page gets no more than any other client.
fn for_pages(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers
        .insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("retry-after, x-request-id"));
    response
}

/// The answer to a browser's preflight for an envelope: it asks before each media type that no HTML form can send.
fn preflight() -> Response {
    let answers = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "accept, content-type"),
        (header::ACCESS_CONTROL_MAX_AGE, "86400"),
    ];
    (StatusCode::NO_CONTENT, answers).into_response()
}

async fn take(server: Server, request: Request, place: Arc<Place>) -> Response {
    if request.method() == Method::GET && request.headers().contains_key(header::UPGRADE) {
        return upgrade(server, request, place).await;
    }
    if request.method() == Method::OPTIONS {
        return preflight();
    }
    if request.method() == Method::GET && is_invitation(request.uri().query()) {
        return (StatusCode::OK, ABOUT_INVITATIONS).into_response();
    }
    if request.method() != Method::POST {
        return (StatusCode::NOT_FOUND, "post an encrypted DIDComm v2 message here\n").into_response();
    }
    let (bytes, room) = match body_of(request, &server, &place).await {
        Ok(read) => read,
        Err(refused) => return refused,
    };
    let Some(answering) = server.admission.answering(&place).await else {
        server.node.shared().stats.refuse(Reason::Busy);
        tracing::debug!("too many large answers wait for their readers");
        return come_again(StatusCode::SERVICE_UNAVAILABLE);
    };
    // Only now: a body that drips in must not take the turn of another.
    let Some(turn) = server.admission.turn(room, &place).await else {
        server.node.shared().stats.refuse(Reason::Busy);
        tracing::debug!("too many requests wait");
        return come_again(StatusCode::SERVICE_UNAVAILABLE);
    };
    let node = Arc::clone(&server.node);
    let arrival = Arrival::Http { from: server.origin(&place) };
    let work = async move {
        let receipt = node.receive(&bytes, arrival).await;
        drop(turn);
        receipt
    };
    // The id goes along to the task that finishes the work.
    let receipt = Outlasting::new(work.in_current_span()).await;
    answer(receipt, answering)
}

/// The body of an answer. A large one waits in memory for its reader, however slowly that one reads, so it is counted until then.
fn body(envelope: Vec<u8>, answering: Answering) -> Body {
    if envelope.len() <= LARGE_BYTES {
        return Body::from(envelope);
    }
    Body::from(Bytes::from_owner(Held { envelope, _answering: answering }))
}

/// A large envelope, with leave to keep it.
struct Held {
    envelope: Vec<u8>,
    _answering: Answering,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.envelope
    }
}

/// Whether somebody has opened an invitation's URL in a browser. What it says is for a wallet, and is not repeated.
fn is_invitation(query: Option<&str>) -> bool {
    query.is_some_and(|query| query.split('&').any(|member| member.starts_with("_oob=")))
}

/// The body of a request and room to wait in, or the answer to one that is too large, too slow, or one too many.
async fn body_of(request: Request, server: &Server, place: &Place) -> Result<(Bytes, Room), Response> {
    let stats = &server.node.shared().stats;
    let Some(reading) = server.admission.body(place).await else {
        stats.refuse(Reason::Busy);
        tracing::debug!("too many bodies are read at once, of all or from one address");
        return Err(come_again(StatusCode::SERVICE_UNAVAILABLE));
    };
    let mut body = request.into_body().into_data_stream();
    match tokio::time::timeout(BODY_TIMEOUT, read(&mut body)).await {
        Ok(Some(bytes)) => Ok((bytes.into(), reading.end())),
        Ok(None) => {
            stats.refuse(Reason::TooLarge);
            tracing::debug!("a body is too large, or broke off");
            // The place is its own for as long as it is read.
            tokio::spawn(async move {
                let _ = tokio::time::timeout(BODY_TIMEOUT, drain(body)).await;
                drop(reading);
            });
            Err(StatusCode::PAYLOAD_TOO_LARGE.into_response())
        }
        Err(_) => {
            tracing::debug!("a body did not come within the time");
            Err(StatusCode::REQUEST_TIMEOUT.into_response())
        }
    }
}

/// Reads a body to its end; `None` if it is too large or breaks off.
async fn read(body: &mut BodyDataStream) -> Option<Vec<u8>> {
    // What says how large it is need not be read to be refused.
    if body.size_hint().0 > MAX_ENVELOPE_BYTES {
        return None;
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = body.next().await {
        let chunk = chunk.ok()?;
        if bytes.len() + chunk.len() > MAX_ENVELOPE_BYTES {
            return None;
        }
        bytes.extend_from_slice(&chunk);
    }
    Some(bytes)
}

/// Reads on what is too large, up to a bound, and forgets it: a client that sends all of its body before it looks for an
/// answer would find the connection reset instead.
async fn drain(mut body: BodyDataStream) {
    let mut read = 0;
    while let Some(Ok(chunk)) = body.next().await {
        read += chunk.len();
        if read > MAX_DRAINED_BYTES {
            return;
        }
    }
}

fn answer(receipt: Receipt, answering: Answering) -> Response {
    // Deployed clients take any status but 200 for an error of the connection. The report says that nothing was taken.
    if let Some(refusal) = receipt.refused.filter(|_| !receipt.is_told) {
        let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST);
        let mut response = if matches!(refusal, Refusal::Unavailable | Refusal::TooOften) {
            come_again(status)
        } else {
            status.into_response()
        };
        if let Some(report) = receipt.replies.into_iter().next() {
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(SIGNED_MEDIA_TYPE));
            *response.body_mut() = Body::from(report);
        }
        return response;
    }
    // 200, never 202: a deployed client takes any other status for an error.
    match receipt.replies.into_iter().next() {
        Some(envelope) => {
            let mut response = Response::new(body(envelope, answering));
            response
                .headers_mut()
                .insert(header::CONTENT_TYPE, HeaderValue::from_static(ENCRYPTED_MEDIA_TYPE));
            response
        }
        None => StatusCode::OK.into_response(),
    }
}

/// Not now, and when to come again.
fn come_again(status: StatusCode) -> Response {
    (status, [(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECS))]).into_response()
}

async fn upgrade(server: Server, request: Request, place: Arc<Place>) -> Response {
    let (mut parts, _) = request.into_parts();
    let read = parts.extensions.get::<Arc<ReadBytes>>().cloned().unwrap_or_default();
    match WebSocketUpgrade::from_request_parts(&mut parts, &server).await {
        Ok(upgrade) => upgrade
            .read_buffer_size(socket::READ_BUFFER)
            .write_buffer_size(0)
            .max_write_buffer_size(socket::MAX_WRITE_BUFFER)
            .max_message_size(MAX_ENVELOPE_BYTES)
            .max_frame_size(socket::MAX_FRAME_BYTES)
            .on_upgrade(move |stream| socket::serve(server, stream, place, read)),
        Err(refused) => refused.into_response(),
    }
}

/// Whether the node takes anything in: not while it stops, nor after a store has failed.
async fn ready(State(server): State<Server>) -> Response {
    if *server.stopping.borrow() || !server.node.is_ready() {
        return (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response();
    }
    "ready\n".into_response()
}

/// Numbers for monitoring, from this machine only: behind a proxy, keep this path to yourself.
async fn metrics(
    State(server): State<Server>,
    Extension(place): Extension<Arc<Place>>,
    headers: HeaderMap,
) -> Response {
    let visitor = Admission::visitor(&place, &headers);
    if visitor.is_none_or(|place| !place.source().is_this_machine()) {
        return StatusCode::NOT_FOUND.into_response();
    }
    let shared = server.node.shared();
    match shared.stats.metrics(shared, server.admission.open_connections()) {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

async fn did_document(State(server): State<Server>) -> Response {
    let document = server.node.public_did().and_then(|did| server.node.published_document(did));
    match document {
        Some(document) => {
            let body = document.to_json().to_string();
            for_pages(([(header::CONTENT_TYPE, "application/did+json")], body).into_response())
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn status_list(State(server): State<Server>, Path(list): Path<String>) -> Response {
    let uri = format!("{}/status/{list}", server.node.shared().url());
    let node = Arc::clone(&server.node);
    // Signing and compressing need a thread that may block.
    for_pages(published(tokio::task::spawn_blocking(move || node.published_status_list(&uri)).await))
}

/// A status list as it was made. A list is reported missing only when that is certain: a verifier would take its cards
/// for withdrawn, while a list that cannot be made at present is requested again.
fn published(token: Result<Result<Option<String>, Failure>, JoinError>) -> Response {
    match token {
        Ok(Ok(Some(token))) => {
            ([(header::CONTENT_TYPE, "application/statuslist+jwt")], token).into_response()
        }
        Ok(Ok(None)) => StatusCode::NOT_FOUND.into_response(),
        Ok(Err(failure)) => {
            tracing::error!(reason = describe_for_log(&failure), "a status list is not served");
            come_again(StatusCode::SERVICE_UNAVAILABLE)
        }
        Err(error) => {
            tracing::error!(%error, "a status list is not served, by a mistake of this program");
            come_again(StatusCode::SERVICE_UNAVAILABLE)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::admission::MAX_ANSWERS_PER_SOURCE;

    #[tokio::test(start_paused = true)]
    async fn large_answers_of_one_address_are_bounded_until_they_are_read_and_small_ones_are_not() {
        let limits =
            crate::config::Limits { proxies: vec!["10.0.0.1".parse().unwrap()], ..Default::default() };
        let admission = Admission::new(limits);
        let proxy = Arc::new(admission.connect("10.0.0.1".parse().unwrap()).unwrap());
        // A place for each request, as behind a proxy: what is counted must outlast it.
        let answering = async |client: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-forwarded-for", client.parse().unwrap());
            admission.answering(&Admission::visitor(&proxy, &headers)?).await
        };
        let mut waiting = Vec::new();
        for _ in 0..MAX_ANSWERS_PER_SOURCE {
            waiting.push(body(vec![b'x'; 1 << 20], answering("192.0.2.1").await.unwrap()));
        }
        assert!(answering("192.0.2.1").await.is_none());
        assert!(answering("192.0.2.2").await.is_some());
        let read = axum::body::to_bytes(waiting.pop().unwrap(), usize::MAX).await.unwrap();
        assert!(answering("192.0.2.1").await.is_none(), "it is taken from the body and not sent yet");
        drop(read);
        let _small = body(vec![b'x'; LARGE_BYTES], answering("192.0.2.1").await.unwrap());
        assert!(answering("192.0.2.1").await.is_some());
    }

    #[tokio::test]
    async fn only_a_list_that_is_not_there_is_not_found() {
        let status = |token| published(token).status();
        assert_eq!(status(Ok(Ok(Some("a.b.c".into())))), StatusCode::OK);
        assert_eq!(status(Ok(Ok(None))), StatusCode::NOT_FOUND);
        assert_eq!(status(Ok(Err(Failure::damaged("a list")))), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(status(Ok(Err(Failure::key(())))), StatusCode::SERVICE_UNAVAILABLE);
        let broken = tokio::task::spawn_blocking(|| panic!("in a test")).await;
        assert_eq!(status(broken), StatusCode::SERVICE_UNAVAILABLE);
        assert!(published(Ok(Err(Failure::key(())))).headers().contains_key(header::RETRY_AFTER));
    }
}
