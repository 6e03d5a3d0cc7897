//! Other ways to be reached and to answer, and network faults: things the suite must not take as broken rules.

use std::time::Duration;

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use einmal_did::{Did, Endpoint, Resolver};
use einmal_didcomm::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
};

use super::{Fault, Mediator, wire::cut};

/// Longer than any test waits.
const FOR_EVER: Duration = Duration::from_secs(120);

/// Delay of a second answer: by then the recipient has long taken the first for the only one.
pub(super) const LATER: Duration = Duration::from_secs(2);
/// Every how many requests something fails.
const GATEWAY_FAILS: u64 = 17;
const MEDIATOR_FAILS: u64 = 13;

/// The endpoints a simulator names; `hop` is the DID of a mediator in front of it.
pub(super) fn endpoints(address: &str, fault: Fault, hop: &Did) -> Vec<Endpoint> {
    let (http, socket) = (format!("http://{address}/"), format!("ws://{address}/ws"));
    match fault {
        Fault::HasOnlyAWebSocket => vec![Endpoint::didcomm(socket)],
        Fault::WritesItsSchemesInCapitals => vec![
            Endpoint::didcomm(format!("HTTP://{address}/")),
            Endpoint::didcomm(format!("WS://{address}/ws")),
        ],
        Fault::IsReachedByADid | Fault::IsReachedByADidAndAnswersNobody => {
            vec![Endpoint::didcomm(hop.to_string())]
        }
        Fault::HasRoutingKeys => {
            let mut endpoint = Endpoint::didcomm(http);
            endpoint.routing_keys = vec![hop.to_string()];
            vec![endpoint]
        }
        Fault::CannotBeDialled => vec![Endpoint::didcomm("didcomm:transport/queue")],
        _ => vec![Endpoint::didcomm(http), Endpoint::didcomm(socket)],
    }
}

impl Mediator {
    /// Whether answers go to the sender's endpoint instead of the connection.
    pub(super) fn calls_back(&self) -> bool {
        matches!(
            self.fault,
            Fault::AnswersToEndpointsOnly
                | Fault::KnowsMediationAloneAndAnswersToEndpointsOnly
                | Fault::CallsBackInAnotherThread
                | Fault::IsReachedByADid
                | Fault::HasRoutingKeys
        )
    }

    /// Whether a protocol is none of those that this mediator knows.
    pub(super) fn ignores(&self, protocol: &str) -> bool {
        let other = |known: &str| protocol.contains(known);
        match self.fault {
            Fault::SpeaksOldVersionsOnly => {
                protocol.ends_with("mediation/3.0") || protocol.ends_with("pickup/4.0")
            }
            Fault::KnowsNoPings => other("trust-ping"),
            Fault::KnowsMediationAlone | Fault::KnowsMediationAloneAndAnswersToEndpointsOnly => {
                other("trust-ping") || other("discover-features")
            }
            _ => false,
        }
    }

    /// Whether it says nothing to what it does not know.
    pub(super) fn says_nothing_to_strange_protocols(&self) -> bool {
        matches!(self.fault, Fault::KnowsMediationAlone | Fault::KnowsMediationAloneAndAnswersToEndpointsOnly)
    }

    /// Whether it takes everything and never says a word.
    pub(super) fn answers_nobody(&self) -> bool {
        matches!(self.fault, Fault::AnswersNobody | Fault::IsReachedByADidAndAnswersNobody)
    }

    /// Sends an answer to the endpoint of whom it is for, if that can be called, after a while.
    pub(super) fn call(&self, to: &Did, bytes: Vec<u8>, later: Duration) {
        let Ok(document) = self.resolver.resolve(to) else { return };
        let uri = document.didcomm_endpoints().find_map(|endpoint| endpoint.uri.strip_prefix("http://"));
        let Some(host) = uri.map(|rest| rest.trim_end_matches('/').to_owned()) else { return };
        tokio::spawn(async move {
            tokio::time::sleep(later).await;
            let Ok(mut stream) = TcpStream::connect(&host).await else { return };
            let length = bytes.len();
            let head = format!(
                "POST / HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/didcomm-encrypted+json\r\n\
                 Content-Length: {length}\r\nConnection: close\r\n\r\n"
            );
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.write_all(&bytes).await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        });
    }

    /// An answer given before the body is read.
    pub(super) fn detour(&self, path: &str) -> Option<Response> {
        let posts = {
            let mut state = self.state();
            state.posts += 1;
            state.posts
        };
        let banned = self.state().banned;
        match self.fault {
            Fault::IsBusyAtEveryFirstAttempt if posts % 2 == 1 => Some(busy(StatusCode::SERVICE_UNAVAILABLE)),
            Fault::RedirectsOnce if path == "/" => Some(redirect("/there")),
            Fault::RedirectsWithoutEnd => Some(redirect("/there")),
            Fault::RedirectsToAFile => Some(redirect("file:///etc/hostname")),
            Fault::IsBehindAGatewayThatFailsAtEverySeventeenthRequest if posts % (2 * GATEWAY_FAILS) == 0 => {
                Some(StatusCode::BAD_GATEWAY.into_response())
            }
            Fault::LosesRequest(number) if posts == number => Some(cut()),
            Fault::BansWhoSendsBadEnvelopes if banned => Some(StatusCode::FORBIDDEN.into_response()),
            Fault::HasOnlyAWebSocket => Some(StatusCode::NOT_FOUND.into_response()),
            _ => None,
        }
    }

    /// Whether the gateway fails after the mediator has done its part.
    pub(super) fn loses_the_answer(&self) -> bool {
        self.breaks(Fault::IsBehindAGatewayThatFailsAtEverySeventeenthRequest)
            && self.state().posts % (2 * GATEWAY_FAILS) == GATEWAY_FAILS
    }

    /// Whether the connection a message came on is cut off before anybody looks at it.
    pub(super) fn loses(&self, message: &Message) -> bool {
        let first = self.state().types.insert(message.kind.as_str().to_owned());
        match self.fault {
            Fault::LosesMediateRequests => message.kind.message() == "mediaterequest",
            Fault::LosesTheFirstMessageOfEachType => first,
            _ => false,
        }
    }

    /// Whether a handshake fails.
    pub(super) fn loses_the_handshake(&self) -> bool {
        let mut state = self.state();
        state.handshakes += 1;
        self.breaks(Fault::LosesHandshake(state.handshakes))
    }

    /// Whether the connection is cut off after the mediator has done its part.
    pub(super) fn cuts_the_answer(&self) -> bool {
        let posts = self.state().posts;
        self.breaks(Fault::LosesAnswer(posts))
    }

    /// Whether it has no more use for a socket.
    pub(super) fn closes(&self, socket: &mpsc::Sender<Vec<u8>>) -> bool {
        self.breaks(Fault::ClosesSocketsThatAreNotLive)
            && !self.state().live.values().any(|live| live.socket.same_channel(socket))
    }

    /// Whether something fails inside this time.
    pub(super) fn now_and_then(&self) -> bool {
        let mut state = self.state();
        state.asked_for += 1;
        state.asked_for.is_multiple_of(MEDIATOR_FAILS)
    }

    /// What happens to a refused envelope.
    pub(super) async fn refused(&self) -> Option<Response> {
        match self.fault {
            Fault::LosesBadEnvelopes => {
                tokio::time::sleep(FOR_EVER).await;
                None
            }
            Fault::HasNoTimeForBadEnvelopes => Some(busy(StatusCode::TOO_MANY_REQUESTS)),
            Fault::BansWhoSendsBadEnvelopes => {
                self.state().banned = true;
                None
            }
            _ => None,
        }
    }
}

fn busy(status: StatusCode) -> Response {
    (status, [(header::RETRY_AFTER, "0")]).into_response()
}

fn redirect(to: &'static str) -> Response {
    (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, to)]).into_response()
}
