//! Connections in: accepted within bounds, served, and ended in order when the node stops.

use std::{sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::Request};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
};
use tower_service::Service;

use super::{
    admission::{Admission, Place},
    paced::{Paced, ReadBytes},
    tls::Tls,
};

/// Longest a client takes for the head of a request, and longest a connection rests between two requests.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// Largest head of a request, and the buffer of a connection, in bytes.
const HEAD_BYTES: usize = 16 * 1024;
/// Pause after the system refused a connection, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves `routes` on `listener` until the node stops, then lets requests under way finish. `refused` is called for each connection
/// there is no room for.
///
/// Every request carries an `Arc<Place>`: a handler that keeps the connection beyond the request keeps the place too.
pub(super) async fn serve(
    routes: Router,
    listener: TcpListener,
    (admission, refused): (Arc<Admission>, impl Fn()),
    tls: Option<Arc<Tls>>,
    mut stopping: watch::Receiver<bool>,
) {
    // Every connection holds one sender; when the receiver yields nothing more, all are over.
    let (under_way, mut over) = mpsc::channel::<()>(1);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut stopping) => break,
        };
        match accepted {
            Ok((stream, address)) => {
                let end = (stopping.clone(), under_way.clone());
                match admission.connect(address.ip()) {
                    Some(place) => connect(&routes, stream, place, tls.clone(), end),
                    None => {
                        refused();
                        tracing::debug!("a connection was refused: too many are open");
                    }
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop((listener, under_way));
    let _ = over.recv().await;
}

/// Resolves when the node stops.
pub(super) async fn stopped(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

fn connect(routes: &Router, stream: TcpStream, place: Place, tls: Option<Arc<Tls>>, end: End) {
    // Answers are small and must not be delayed.
    let _ = stream.set_nodelay(true);
    let (routes, place) = (routes.clone(), Arc::new(place));
    match tls {
        None => drop(tokio::spawn(converse(routes, stream, place, end))),
        Some(tls) => drop(tokio::spawn(async move {
            // It holds its place during the handshake, so that handshakes are bounded like connections.
            let shaken = tokio::select! {
                shaken = tls.accept(stream) => shaken,
                () = place.overdue() => None,
            };
            match shaken {
                Some(stream) => converse(routes, stream, place, end).await,
                None => tracing::debug!("a TLS handshake failed"),
            }
        })),
    }
}

/// The signal that the node stops, and the proof that this connection is not over yet.
type End = (watch::Receiver<bool>, mpsc::Sender<()>);

/// Serves one connection until it ends.
async fn converse<S>(routes: Router, stream: S, place: Arc<Place>, (mut stopping, under_way): End)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let waiting = Arc::clone(&place);
    let read = Arc::new(ReadBytes::default());
    let told = Arc::clone(&read);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (mut routes, place): (Router, Arc<Place>) = (routes.clone(), Arc::clone(&place));
        place.arrived();
        let mut request: Request = request.map(Body::new);
        request.extensions_mut().insert(place);
        request.extensions_mut().insert(Arc::clone(&told));
        async move { routes.call(request).await }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(Paced::new(stream, read)), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = waiting.overdue() => {
            tracing::debug!("a connection was closed: it sent no request in time");
            Ok(())
        }
        () = stopped(&mut stopping) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
    drop(under_way);
}
