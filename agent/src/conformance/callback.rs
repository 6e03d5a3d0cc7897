//! An endpoint of our own, for answers that do not come back on the connection.

use std::{net::SocketAddr, time::Duration};

use axum::{Router, body::Bytes, extract::DefaultBodyLimit, http::StatusCode, routing::post};
use einmal_didcomm::limits::MAX_ENVELOPE_BYTES;
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};

/// Most envelopes that wait to be read; further ones are refused.
const MAX_WAITING: usize = 16;

/// A listening endpoint; it is closed when this is dropped.
pub(super) struct Callback {
    /// The URI at which it is reached.
    pub(super) uri: String,
    came: mpsc::Receiver<Vec<u8>>,
    task: JoinHandle<()>,
}

impl Callback {
    /// Listens on `address`, which others reach by `public` if that differs.
    pub(super) async fn listen(address: SocketAddr, public: Option<&str>) -> Result<Self, String> {
        let listener = TcpListener::bind(address).await.map_err(|error| error.to_string())?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let (sender, came) = mpsc::channel(MAX_WAITING);
        let take = move |body: Bytes| {
            let taken = sender.try_send(body.to_vec()).is_ok();
            async move { if taken { StatusCode::ACCEPTED } else { StatusCode::SERVICE_UNAVAILABLE } }
        };
        let routes = Router::new().fallback(post(take)).layer(DefaultBodyLimit::max(MAX_ENVELOPE_BYTES));
        let task = tokio::spawn(async move {
            let _ = axum::serve(listener, routes).await;
        });
        let uri = public.map_or_else(|| format!("http://{address}/"), str::to_owned);
        Ok(Self { uri, came, task })
    }

    /// The next envelope, if one comes within `wait`.
    pub(super) async fn next(&mut self, wait: Duration) -> Option<Vec<u8>> {
        tokio::time::timeout(wait, self.came.recv()).await.ok().flatten()
    }
}

impl Drop for Callback {
    fn drop(&mut self) {
        self.task.abort();
    }
}
