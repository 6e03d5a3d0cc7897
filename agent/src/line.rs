//! The citizen's line to its mediator: a WebSocket that rings when there is mail, made anew when it breaks.
//!
//! What is pushed is only taken as a bell: the mailbox is then fetched and confirmed as always, so that nothing
//! depends on a push having arrived, nor on the form a mediator gives it.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use einmal_did::{Did, Resolver};
use einmal_flows::{Draft, message_pickup::LiveDeliveryChange};
use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::Message as Frame;

use crate::{
    mailbox,
    net::ws::{self, Line},
    node::{Failure, Node},
};

/// First pause before a broken line is made anew; doubled each time up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause before a broken line is made anew.
const LONGEST_PAUSE: Duration = Duration::from_secs(120);
/// A line on which nothing was heard for so long is asked whether it is still there, and once more later it is gone.
const SILENCE: Duration = Duration::from_secs(45);

/// Keeps the line until told to stop.
pub(crate) async fn run(node: Arc<Node>) {
    let mut pause = FIRST_PAUSE;
    loop {
        match hold(&node).await {
            Ok(held) if held > LONGEST_PAUSE => pause = FIRST_PAUSE,
            Ok(_) => {}
            Err(problem) => tracing::debug!(%problem, "there is no line to the mediator"),
        }
        node.line_is_up.store(false, Ordering::Relaxed);
        tokio::time::sleep(jittered(&node, pause)).await;
        pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
    }
}

/// Half to one and a half of a pause, so that a mediator that comes back is not called by everybody at once.
fn jittered(node: &Node, pause: Duration) -> Duration {
    let mut dice = [0u8; 2];
    let _ = node.shared().entropy().fill(&mut dice);
    pause / 2 + pause.mul_f64(f64::from(u16::from_be_bytes(dice)) / f64::from(u16::MAX))
}

/// Makes a line and listens until it breaks; returns how long it held.
async fn hold(node: &Arc<Node>) -> Result<Duration, Failure> {
    let shared = node.shared();
    let Some((ours, mediator)) = mailbox::granted(shared)? else { return Ok(Duration::ZERO) };
    let Some(uri) = socket_of(node, &mediator) else { return Ok(Duration::ZERO) };
    let broken = |problem: String| Failure::user(format!("the line broke: {problem}"));
    let mut line = ws::connect(&uri, &shared.config.network).await.map_err(|e| broken(e.to_string()))?;
    let draft = Draft::of(&LiveDeliveryChange { live_delivery: true });
    let draft = draft.returning(einmal_didcomm::ReturnRoute::All);
    let change = draft.into_message(&ours, &mediator, shared.now(), shared.entropy())?;
    let envelope = node.pack(&change, &mediator)?;
    line.send(ws::frame(envelope)).await.map_err(|error| broken(error.to_string()))?;
    let begun = tokio::time::Instant::now();
    listen(node, &mut line).await.map_err(broken)?;
    Ok(begun.elapsed())
}

async fn listen(node: &Node, line: &mut Line) -> Result<(), String> {
    let mut asked = false;
    loop {
        match tokio::time::timeout(SILENCE, line.next()).await {
            Ok(Some(Ok(Frame::Text(_) | Frame::Binary(_)))) => {
                // The answer to the switch, and every push.
                node.line_is_up.store(true, Ordering::Relaxed);
                node.mail_bell.notify_one();
                asked = false;
            }
            Ok(Some(Ok(Frame::Close(_))) | None) => return Ok(()),
            Ok(Some(Ok(_))) => asked = false,
            Ok(Some(Err(error))) => return Err(error.to_string()),
            Err(_) if asked => return Err("nothing is heard any more".into()),
            Err(_) => {
                asked = true;
                line.send(Frame::Ping(Default::default())).await.map_err(|error| error.to_string())?;
            }
        }
    }
}

/// The mediator's WebSocket, if it has one.
fn socket_of(node: &Node, mediator: &Did) -> Option<String> {
    let document = node.shared().resolver.resolve(mediator).ok()?;
    document.didcomm_endpoints().map(|endpoint| endpoint.uri.clone()).find(|uri| ws::is_socket(uri))
}
