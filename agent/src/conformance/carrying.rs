//! Ways to the target: which of its endpoints are used, through which hops, and how an exchange over HTTP ends.

use std::time::Duration;

use einmal_did::Did;
use einmal_didcomm::{
    Delivery, ENCRYPTED_MEDIA_TYPE, Message, MessageId, Packed, SenderProtection, deliveries,
};
use einmal_keys::SystemEntropy;

use super::{
    answer::{Answer, Heard},
    outcome::{Outcome, Problem},
    probe::Probe,
    socket::Socket,
};
use crate::{net::client::Exchanged, transport::SendError};

/// Most further attempts after a 429 or 503, or a failure inside the target or a gateway.
const MAX_RETRIES: u32 = 3;
/// Longest pause before another attempt, whatever `Retry-After` says.
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// Most redirects followed; DIDComm knows only 307.
const MAX_REDIRECTS: usize = 3;

/// The transport by which a URI is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    Http,
    Socket,
}

/// Schemes are compared case-insensitively, as URIs require.
fn transport(uri: &str) -> Option<Transport> {
    match uri.split_once("://")?.0.to_ascii_lowercase().as_str() {
        "http" | "https" => Some(Transport::Http),
        "ws" | "wss" => Some(Transport::Socket),
        _ => None,
    }
}

/// The URI with a lower-case scheme, as our own parts expect it.
fn plain_scheme(uri: &str) -> String {
    match uri.split_once("://") {
        Some((scheme, rest)) => format!("{}://{rest}", scheme.to_ascii_lowercase()),
        None => uri.to_owned(),
    }
}

/// The preferred way: without mediators before with them, HTTP before WebSocket.
fn best(ways: Vec<Delivery>) -> Option<Delivery> {
    let dialable = ways.into_iter().filter(|way| transport(&way.uri).is_some());
    dialable.min_by_key(|way| (way.mediated, transport(&way.uri) == Some(Transport::Socket)))
}

impl Probe {
    /// Reads the target's document and keeps its endpoints.
    ///
    /// An endpoint may be a DID, which is looked up, and may have routing keys; both stand for mediators on the way.
    pub(super) async fn find_endpoints(&mut self) -> Outcome {
        let document = self.document(&self.target.clone()).await?;
        let named: Vec<String> = document.didcomm_endpoints().map(|endpoint| endpoint.uri.clone()).collect();
        if named.is_empty() {
            return Err("its document names no DIDCommMessaging endpoint".into());
        }
        let ways = self.ways(&self.target.clone(), b"{}".to_vec()).await;
        let ways = ways.map_err(|problem| Problem::Unknown(problem.text().to_owned()))?;
        let direct = |wanted| {
            let mut direct = ways.iter().filter(|way| !way.mediated);
            direct.find(|way| transport(&way.uri) == Some(wanted)).map(|way| plain_scheme(&way.uri))
        };
        (self.http, self.socket) = (direct(Transport::Http), direct(Transport::Socket));
        self.behind_hops = self.http.is_none() && self.socket.is_none() && best(ways).is_some();
        if self.http.is_none() && self.socket.is_none() && !self.behind_hops {
            let named = named.join(", ");
            return Err(Problem::Unknown(format!("none of its endpoints can be dialled from here: {named}")));
        }
        Ok(())
    }

    /// All ways for an envelope to `did`, each with the envelope wrapped for its hops.
    async fn ways(&self, did: &Did, bytes: Vec<u8>) -> Outcome<Vec<Delivery>> {
        let packed = Packed { bytes, recipient: did.clone() };
        self.packing(|packer| deliveries(packer, &packed, None)).await
    }

    /// Sends bytes to the target's endpoint and opens what comes back.
    pub(super) async fn post(&self, bytes: Vec<u8>, media_type: &str) -> Answer {
        match (&self.http, &self.socket) {
            (Some(uri), _) => self.post_to(uri, bytes, media_type).await,
            (None, Some(uri)) => Socket::exchange(self, uri, bytes).await,
            (None, None) => self.send_by_way(&self.target, bytes).await,
        }
    }

    /// Sends an envelope to the endpoint of `did`, a mediator.
    pub(super) async fn send_to(&self, did: &Did, bytes: Vec<u8>) -> Answer {
        if did.same_as(&self.target) {
            return self.post(bytes, ENCRYPTED_MEDIA_TYPE).await;
        }
        self.send_by_way(did, bytes).await
    }

    async fn send_by_way(&self, did: &Did, bytes: Vec<u8>) -> Answer {
        let ways = self.ways(did, bytes.clone()).await.unwrap_or_default();
        match (best(ways), &self.http, &self.socket) {
            (Some(way), _, _) if transport(&way.uri) == Some(Transport::Socket) => {
                Socket::exchange(self, &plain_scheme(&way.uri), way.bytes).await
            }
            (Some(way), _, _) => self.post_to(&way.uri, way.bytes, ENCRYPTED_MEDIA_TYPE).await,
            // A mediator without an endpoint of its own is reached at the target's.
            (None, Some(uri), _) => self.post_to(uri, bytes, ENCRYPTED_MEDIA_TYPE).await,
            (None, None, Some(uri)) => Socket::exchange(self, uri, bytes).await,
            (None, None, None) => Answer::lost("no endpoint can be dialled"),
        }
    }

    /// Sends a message with its sender proved.
    pub(super) async fn say(&self, message: &Message) -> Answer {
        self.say_as(message, SenderProtection::Authcrypt).await
    }

    /// As [`Probe::say`], where much else depends on the answer: what was lost is said once more, under another id.
    pub(super) async fn say_twice(&self, message: &Message) -> Answer {
        let first = self.say(message).await;
        let id = MessageId::random(&SystemEntropy).ok().filter(|_| first.is_lost());
        let Some(id) = id else { return first };
        let mut second = message.clone();
        second.id = id;
        self.say(&second).await.answering(message, &second)
    }

    /// Sends a message, protected as told.
    ///
    /// If the target, or a gateway before it, fails inside, another attempt is made under a new id: a target that acted
    /// upon the first would take the same id for a repetition.
    pub(super) async fn say_as(&self, message: &Message, protection: SenderProtection) -> Answer {
        let (mut answer, mut retries) = (self.say_once(message, protection).await, 0);
        while let Some(second) = self.another_attempt(message, &answer, retries).await {
            answer = self.say_once(&second, protection).await.answering(message, &second);
            retries += 1;
        }
        answer
    }

    /// The message once more under another id, once the pause before it is over; `None` if there is no further attempt.
    pub(super) async fn another_attempt(
        &self,
        message: &Message,
        answer: &Answer,
        retries: u32,
    ) -> Option<Message> {
        // If the answer goes elsewhere, one cannot tell which attempt it is for.
        if !matches!(answer.heard, Heard::Failed(_)) || message.return_route.is_none() {
            return None;
        }
        tokio::time::sleep(self.pause(None, retries)?).await;
        let mut second = message.clone();
        second.id = MessageId::random(&SystemEntropy).ok()?;
        Some(second)
    }

    async fn say_once(&self, message: &Message, protection: SenderProtection) -> Answer {
        let bytes = match self.pack(message, protection).await {
            Ok(bytes) => bytes,
            Err(problem) => return Answer::lost(problem),
        };
        match message.to.first().filter(|to| !to.same_as(&self.target)) {
            // The DID to which the target rotated has endpoints of its own.
            Some(peer) => self.send_by_way(peer, bytes).await,
            None => self.post(bytes, ENCRYPTED_MEDIA_TYPE).await,
        }
    }

    /// Posts until the target is not busy, following redirects; both within bounds.
    async fn post_to(&self, uri: &str, bytes: Vec<u8>, media_type: &str) -> Answer {
        let (mut uri, mut redirects, mut retries) = (uri.to_owned(), 0, 0);
        loop {
            let exchange = self.client.exchange(&uri, media_type, bytes.clone());
            let came = match tokio::time::timeout(self.patience(), exchange).await {
                Err(_) => return Answer::lost("no answer in time"),
                Ok(Err(error @ SendError::AnswerTooLarge { .. })) => {
                    let heard = Heard::Unreadable(error.to_string());
                    return Answer { status: None, media_type: None, heard };
                }
                Ok(Err(error)) => return Answer::lost(error),
                Ok(Ok(came)) => came,
            };
            if matches!(came.status, 429 | 503) {
                match self.pause(came.retry_after.as_deref(), retries) {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => {
                        let heard = Heard::Busy(format!("the target has no time: status {}", came.status));
                        return Answer { status: Some(came.status), media_type: None, heard };
                    }
                }
                retries += 1;
                continue;
            }
            if matches!(came.status, 502 | 504) {
                let heard =
                    Heard::Failed(format!("a gateway before the target failed: status {}", came.status));
                return self.noted(Answer { status: Some(came.status), media_type: None, heard });
            }
            if let Some(next) = redirect(&uri, &came).filter(|_| redirects < MAX_REDIRECTS) {
                (uri, redirects) = (next, redirects + 1);
                continue;
            }
            let heard = self.hear(&came.body).await;
            return self.noted(Answer { status: Some(came.status), media_type: came.media_type, heard });
        }
    }

    /// How long to wait before another attempt; `None` if there is none.
    pub(super) fn pause(&self, retry_after: Option<&str>, retries: u32) -> Option<Duration> {
        let told = retry_after.and_then(|text| text.trim().parse().ok());
        let pause = told.map_or(Duration::from_secs(1 << retries.min(MAX_RETRIES)), Duration::from_secs);
        (retries < MAX_RETRIES && pause <= MAX_PAUSE && pause < self.left()).then_some(pause)
    }
}

/// The target of a 307; whether we may go there is checked as for every other address.
fn redirect(from: &str, came: &Exchanged) -> Option<String> {
    let location = came.location.as_deref().filter(|_| came.status == 307)?;
    Some(url::Url::parse(from).ok()?.join(location).ok()?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes_are_read_in_any_case_and_written_small() {
        assert_eq!(transport("HTTPS://a.example/"), Some(Transport::Http));
        assert_eq!(transport("Wss://a.example/"), Some(Transport::Socket));
        assert_eq!(transport("didcomm:transport/queue"), None);
        assert_eq!(plain_scheme("WSS://a.example/Path"), "wss://a.example/Path");
    }

    #[test]
    fn only_the_redirect_that_keeps_the_body_is_followed() {
        let came = |status| Exchanged {
            status,
            media_type: None,
            location: Some("/other".into()),
            retry_after: None,
            body: Vec::new(),
        };
        let from = "https://a.example/didcomm";
        assert_eq!(redirect(from, &came(307)).as_deref(), Some("https://a.example/other"));
        for status in [200, 301, 302, 303, 308] {
            assert_eq!(redirect(from, &came(status)), None, "{status}");
        }
    }
}
