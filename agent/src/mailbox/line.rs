//! The citizen's line to its mediator, by libp2p or WebSocket: it rings when there is mail, and is remade if it breaks.
//!
//! A push serves only as a bell: the mailbox is then fetched and confirmed as always, so nothing depends on a push
//! having arrived, nor on the form a mediator gives it. A letter that comes raw by libp2p is taken in at once like any
//! envelope, and is recognised when it is fetched.

use std::{sync::Arc, time::Duration};

use einmal_did::{Did, Endpoint, Resolver};
use einmal_flows::{Draft, message_pickup::LiveDeliveryChange};
use einmal_p2p::{PeerEndpoint, is_served};
use futures_util::{SinkExt, StreamExt};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message as Frame;

use crate::{
    handler::{Failure, Notice},
    net::{
        names::Names,
        ws::{self, Line},
    },
    node::Node,
    service::account,
    transport::{self, PeerLines},
};

/// First pause before a broken line is remade; doubled each time up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause before a broken line is remade.
const LONGEST_PAUSE: Duration = Duration::from_secs(120);
/// After this long without a sound a line is asked whether it is still there; after as long again it is gone.
const SILENCE: Duration = Duration::from_secs(45);
/// Longest a mediator takes to say that it will push; after libp2p the WebSocket is tried.
const ANSWER_WAIT: Duration = Duration::from_secs(10);

impl Node {
    /// Keeps a citizen's line to its mediator until told to stop.
    pub async fn run_line(self: Arc<Self>) {
        let mut pause = FIRST_PAUSE;
        loop {
            match hold(&self).await {
                Ok(held) if held > LONGEST_PAUSE => pause = FIRST_PAUSE,
                Ok(_) => {}
                Err(problem) => tracing::debug!(%problem, "there is no line to the mediator"),
            }
            // A line that was to be made anew is down already.
            let has_broken = self.line.is_up();
            self.line.set_down();
            if has_broken {
                // What broke it may have been the end of that mediator; the next one may be of a backup.
                self.upkeep.compare_soon();
            }
            tokio::time::sleep(jittered(&self, pause)).await;
            pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
        }
    }
}

/// Half to one and a half of a pause, so that not all citizens call a returning mediator at once.
fn jittered(node: &Node, pause: Duration) -> Duration {
    let mut dice = [0u8; 2];
    let _ = node.shared().entropy().fill(&mut dice);
    pause / 2 + pause.mul_f64(f64::from(u16::from_be_bytes(dice)) / f64::from(u16::MAX))
}

/// Makes a line and keeps it until it breaks, or is to be made anew; returns how long it held.
async fn hold(node: &Arc<Node>) -> Result<Duration, Failure> {
    // Before anything is asked of the mediator: it may be found out meanwhile that it did not know whom it heard.
    let mut renewals = node.line.renewals();
    tokio::select! {
        held = make(node) => held,
        _ = renewals.changed() => Ok(Duration::ZERO),
    }
}

/// Makes a line, by libp2p if both sides have it, and keeps it until it breaks; returns how long it held.
async fn make(node: &Arc<Node>) -> Result<Duration, Failure> {
    let Some((ours, mediator)) = account::granted(node.shared())? else { return Ok(Duration::ZERO) };
    if let Some(lines) = node.shared().lines()
        && let Some(endpoint) = endpoint_of(node, &mediator, is_served)
    {
        match by_peer(node, lines, &endpoint, (&ours, &mediator)).await {
            Ok(held) => return Ok(held),
            Err(problem) => tracing::debug!(%problem, "no line by libp2p"),
        }
    }
    match endpoint_of(node, &mediator, transport::is_socket) {
        Some(endpoint) => by_socket(node, &endpoint, (&ours, &mediator)).await,
        None => Ok(Duration::ZERO),
    }
}

/// An endpoint of the mediator of the wanted kind.
fn endpoint_of(node: &Node, mediator: &Did, wanted: fn(&str) -> bool) -> Option<Endpoint> {
    let document = node.shared().resolver.resolve(mediator).ok()?;
    document.didcomm_endpoints().find(|endpoint| wanted(&endpoint.uri)).cloned()
}

fn broken(problem: impl ToString) -> Failure {
    Failure::unreached(format!("the line broke: {}", problem.to_string()))
}

/// Asks for mail to be pushed on the connection this is sent by.
fn change(node: &Node, (ours, mediator): (&Did, &Did)) -> Result<Vec<u8>, Failure> {
    let shared = node.shared();
    let draft = Draft::of(&LiveDeliveryChange { live_delivery: true });
    let draft = draft.returning(einmal_didcomm::ReturnRoute::All);
    node.pack(&draft.into_message(ours, mediator, shared.now(), shared.entropy())?, mediator)
}

/// Holds a line by libp2p. An error means that it was never established.
async fn by_peer(
    node: &Node,
    lines: &PeerLines,
    endpoint: &Endpoint,
    parties: (&Did, &Did),
) -> Result<Duration, Failure> {
    let endpoint = PeerEndpoint::parse(&endpoint.uri, &endpoint.multi_addrs).map_err(broken)?;
    let peer = endpoint.peer_id;
    let mut up = node.line.follow();
    // Before it is asked: the answer may arrive before we know that the question did.
    let _wanted = node.line.begin(peer);
    lines.send(&endpoint, change(node, parties)?).await.map_err(broken)?;
    let mut held = lines.hold(peer).map_err(broken)?;
    tokio::select! {
        answered = tokio::time::timeout(ANSWER_WAIT, up.wait_for(|up| *up)) => {
            answered.map(|_| ()).map_err(|_| broken("the mediator does not push by libp2p"))?;
        }
        () = held.ended() => return Err(broken("the connection was closed")),
    }
    let begun = Instant::now();
    // The host checks whether the other side still answers.
    tokio::select! {
        () = held.ended() => {}
        _ = up.wait_for(|up| !*up) => {}
    }
    Ok(begun.elapsed())
}

/// Holds a line by WebSocket.
async fn by_socket(node: &Node, endpoint: &Endpoint, parties: (&Did, &Did)) -> Result<Duration, Failure> {
    let network = &node.shared().config.network;
    let mut line = ws::connect(&endpoint.uri, network, Names::own()).await.map_err(broken)?;
    line.send(ws::frame(change(node, parties)?)).await.map_err(broken)?;
    let begun = Instant::now();
    listen(node, &mut line).await.map_err(broken)?;
    Ok(begun.elapsed())
}

async fn listen(node: &Node, line: &mut Line) -> Result<(), String> {
    let (mut asked, begun) = (false, Instant::now());
    loop {
        let patience = if node.line.is_up() { SILENCE } else { ANSWER_WAIT.saturating_sub(begun.elapsed()) };
        match tokio::time::timeout(patience, line.next()).await {
            Ok(Some(Ok(frame @ (Frame::Text(_) | Frame::Binary(_))))) => {
                // Only until the mediator has said that it pushes: then every frame rings, whatever it holds.
                let was_up = node.line.is_up();
                let notice = if was_up { None } else { node.notice_in(&frame.into_data()).await };
                node.line.heard_by_socket(notice);
                if !was_up && notice == Some(Notice::Live(false)) {
                    return Err("the mediator does not push by this WebSocket".into());
                }
                asked = false;
            }
            Ok(Some(Ok(Frame::Close(_))) | None) => return Ok(()),
            Ok(Some(Ok(_))) => asked = false,
            Ok(Some(Err(error))) => return Err(error.to_string()),
            Err(_) if !node.line.is_up() => return Err("the mediator did not say that it pushes".into()),
            Err(_) if asked => return Err("nothing is heard any more".into()),
            Err(_) => {
                asked = true;
                line.send(Frame::Ping(Default::default())).await.map_err(|error| error.to_string())?;
            }
        }
    }
}
