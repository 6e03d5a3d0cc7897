//! HTTP out (WebSockets have their own file): envelopes to endpoints, did:web documents, status lists; all guarded.

use std::{sync::Arc, time::Duration};

use einmal_did::{Did, DidDocument, web};
use einmal_didcomm::{ENCRYPTED_MEDIA_TYPE, limits::MAX_ENVELOPE_BYTES};
use reqwest::{
    Client, Response,
    dns::{Addrs, Name, Resolve, Resolving},
    header,
};
use tokio::sync::Semaphore;

use super::{names::Names, ws};
use crate::{
    config::Network,
    guard,
    transport::{self, BoxFuture, FetchError, Fetcher, SendError, Transport},
};

/// Largest did:web document fetched, in bytes.
pub const MAX_DOCUMENT_BYTES: usize = 256 * 1024;
/// Largest status list token fetched, in bytes.
pub const MAX_STATUS_LIST_BYTES: usize = 4 * 1024 * 1024;
/// Longest time to establish a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time for a whole exchange.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest time to fetch a document.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// Most sends under way at once: more than the outbox has seats, which it shares out better than a queue does.
const MAX_SENDS: usize = 512;
/// Most fetches under way at once: strangers cause them, so they must not displace sends.
const MAX_FETCHES: usize = 128;

/// The node's HTTP client.
///
/// No redirects, no proxies, no cookies; names are resolved here and only vetted addresses are connected to, so a
/// name cannot answer differently between check and use.
#[derive(Clone, Debug)]
pub struct HttpClient {
    client: Client,
    network: Network,
    names: Names,
    sends: Arc<Semaphore>,
    fetches: Arc<Semaphore>,
}

/// What came back for a POST.
#[derive(Debug)]
pub(crate) struct Exchanged {
    /// HTTP status.
    pub(crate) status: u16,
    /// `Content-Type`.
    pub(crate) media_type: Option<String>,
    /// `Location`, as it was written.
    pub(crate) location: Option<String>,
    /// `Retry-After`, as it was written.
    pub(crate) retry_after: Option<String>,
    /// The body, within the bounds of an envelope.
    pub(crate) body: Vec<u8>,
}

#[derive(Debug)]
struct GuardedDns(Network, Names);

impl Resolve for GuardedDns {
    fn resolve(&self, name: Name) -> Resolving {
        let (network, names) = (self.0.clone(), self.1.clone());
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found = names.find(&host, 0).await?;
            let kept = guard::vet(found, &network).map_err(std::io::Error::other)?;
            Ok(Box::new(kept.into_iter()) as Addrs)
        })
    }
}

impl HttpClient {
    /// A client that may connect to what `network` permits.
    ///
    /// # Errors
    ///
    /// A description if the TLS library does not start.
    pub fn new(network: &Network) -> Result<Self, String> {
        Self::with(network, Names::asked())
    }

    fn with(network: &Network, names: Names) -> Result<Self, String> {
        let client = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TOTAL_TIMEOUT)
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(4)
            .dns_resolver(Arc::new(GuardedDns(network.clone(), names.clone())))
            .user_agent(concat!("einmal/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self {
            client,
            network: network.clone(),
            names,
            sends: Arc::new(Semaphore::new(MAX_SENDS)),
            fetches: Arc::new(Semaphore::new(MAX_FETCHES)),
        })
    }

    async fn get(&self, url: &str, accept: &str, most: usize) -> Result<Vec<u8>, FetchError> {
        let url = guard::check_url(url, &self.network)?;
        let _slot = self.fetches.try_acquire().map_err(|_| FetchError::Busy)?;
        let request = self.client.get(url).header(header::ACCEPT, accept).timeout(FETCH_TIMEOUT);
        let response =
            request.send().await.map_err(|error| FetchError::Unreachable { reason: cause(&error) })?;
        if response.status() != reqwest::StatusCode::OK {
            let reason = format!("status {}", response.status().as_u16());
            return Err(FetchError::Unreachable { reason });
        }
        read_bounded(response, most).await.map_err(|error| FetchError::Invalid { reason: error.to_string() })
    }

    /// The status with which a GET is answered; the body is not read.
    pub(crate) async fn look(&self, url: &str) -> Result<u16, FetchError> {
        let url = guard::check_url(url, &self.network)?;
        let answer = self.client.get(url).timeout(FETCH_TIMEOUT).send().await;
        let answer = answer.map_err(|error| FetchError::Unreachable { reason: cause(&error) })?;
        Ok(answer.status().as_u16())
    }

    /// Posts bytes under a media type and returns the answer, whatever its status.
    pub(crate) async fn exchange(
        &self,
        uri: &str,
        media_type: &str,
        body: Vec<u8>,
    ) -> Result<Exchanged, SendError> {
        let url = guard::check_url(uri, &self.network)?;
        let request = self.client.post(url).header(header::CONTENT_TYPE, media_type).body(body);
        let response =
            request.send().await.map_err(|error| SendError::Unreachable { reason: cause(&error) })?;
        let status = response.status().as_u16();
        let text = |name| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
        let (media_type, location) = (text(header::CONTENT_TYPE), text(header::LOCATION));
        let retry_after = text(header::RETRY_AFTER);
        let body = read_bounded(response, MAX_ENVELOPE_BYTES).await?;
        Ok(Exchanged { status, media_type, location, retry_after, body })
    }

    async fn post(&self, uri: &str, envelope: Vec<u8>) -> Result<Option<Vec<u8>>, SendError> {
        let url = guard::check_url(uri, &self.network)?;
        let _slot = self.sends.acquire().await;
        let request = self.client.post(url).header(header::CONTENT_TYPE, ENCRYPTED_MEDIA_TYPE).body(envelope);
        let response =
            request.send().await.map_err(|error| SendError::Unreachable { reason: cause(&error) })?;
        if !response.status().is_success() {
            return Err(SendError::Refused { status: response.status().as_u16() });
        }
        let body = read_bounded(response, MAX_ENVELOPE_BYTES).await?;
        Ok((!body.is_empty()).then_some(body))
    }

    /// The URL of a did:web document; plain http only for hosts that are not public, and if the configuration permits
    /// it.
    fn document_url(&self, did: &Did) -> Result<String, FetchError> {
        let place = web::location(did).map_err(|error| FetchError::Invalid { reason: error.to_string() })?;
        // A name of one label, such as a container's, is not a public Internet name either.
        let local = !place.host.contains('.') || place.host.parse::<std::net::IpAddr>().is_ok();
        if self.network.allow_http && self.network.allow_private && local {
            return Ok(place.url.replacen("https://", "http://", 1));
        }
        Ok(place.url)
    }
}

/// The innermost cause: the outer layers only repeat the URL, which may name a person's endpoint.
fn cause(error: &reqwest::Error) -> String {
    let mut source: &dyn std::error::Error = error;
    while let Some(next) = source.source() {
        source = next;
    }
    source.to_string()
}

/// The body of an answer was not read to its end.
#[derive(Debug, thiserror::Error)]
enum BodyError {
    #[error("more than {most} bytes")]
    TooLarge { most: usize },
    #[error("{reason}")]
    Broken { reason: String },
}

impl From<BodyError> for SendError {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge { most } => Self::AnswerTooLarge { most },
            BodyError::Broken { reason } => Self::Unreachable { reason },
        }
    }
}

async fn read_bounded(mut response: Response, most: usize) -> Result<Vec<u8>, BodyError> {
    if response.content_length().is_some_and(|length| length > most as u64) {
        return Err(BodyError::TooLarge { most });
    }
    let mut body = Vec::new();
    let broken = |error: reqwest::Error| BodyError::Broken { reason: cause(&error) };
    while let Some(chunk) = response.chunk().await.map_err(broken)? {
        if body.len() + chunk.len() > most {
            return Err(BodyError::TooLarge { most });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

impl Transport for HttpClient {
    fn send<'a>(
        &'a self,
        uri: &'a str,
        envelope: Vec<u8>,
    ) -> BoxFuture<'a, Result<Option<Vec<u8>>, SendError>> {
        Box::pin(async move {
            if transport::is_socket(uri) {
                let _slot = self.sends.acquire().await;
                return ws::exchange(uri, envelope, &self.network, &self.names).await;
            }
            self.post(uri, envelope).await
        })
    }
}

impl Fetcher for HttpClient {
    fn document<'a>(&'a self, did: &'a Did) -> BoxFuture<'a, Result<DidDocument, FetchError>> {
        Box::pin(async move {
            let url = self.document_url(did)?;
            let accept = "application/did+json, application/did+ld+json, application/json";
            let bytes = self.get(&url, accept, MAX_DOCUMENT_BYTES).await?;
            web::document(did, bytes.as_slice())
                .map_err(|error| FetchError::Invalid { reason: error.to_string() })
        })
    }

    fn status_list<'a>(&'a self, uri: &'a str) -> BoxFuture<'a, Result<String, FetchError>> {
        Box::pin(async move {
            let bytes = self.get(uri, "application/statuslist+jwt", MAX_STATUS_LIST_BYTES).await?;
            String::from_utf8(bytes).map_err(|_| FetchError::Invalid { reason: "not a JWT".into() })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_that_is_one_too_many_is_refused_for_now() {
        let client = HttpClient::with(&Network::default(), Names::that_hang(0)).unwrap();
        for uri in ["https://slow.example/", "wss://slow.example/"] {
            let refused = client.send(uri, Vec::new()).await.unwrap_err();
            assert!(refused.is_temporary() && refused.to_string().contains("looked up"), "{refused}");
        }
        let refused = client.status_list("https://slow.example/1").await.unwrap_err();
        assert!(refused.to_string().contains("looked up"), "{refused}");
    }
}
