//! Live delivery: one sender and one receiver on WebSockets; how long a message takes, and how many come through.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message as Frame};

use super::{
    Problem,
    measure::{latencies, to_f64},
    party::Party,
    server::Server,
};

/// Longest silence before the receiver gives up.
const PATIENCE: Duration = Duration::from_secs(4);

/// Opens a socket.
pub(super) async fn socket(server: &Server) -> Result<WebSocketStream<TcpStream>, Problem> {
    let stream = TcpStream::connect(server.address).await?;
    stream.set_nodelay(true)?;
    Ok(client_async(format!("ws://{}/ws", server.address), stream).await?.0)
}

/// Turns live delivery on.
pub(super) async fn go_live(
    server: &Server,
    me: &Party,
    socket: &mut WebSocketStream<TcpStream>,
) -> Result<(), Problem> {
    let kind = "https://didcomm.org/messagepickup/3.0/live-delivery-change";
    let ask = me.request(kind, &json!({"live_delivery": true}), &server.did)?;
    socket.send(text(ask)?).await?;
    match tokio::time::timeout(PATIENCE, socket.next()).await? {
        Some(Ok(Frame::Text(_))) => Ok(()),
        _ => Err("no answer to live-delivery-change".into()),
    }
}

fn text(envelope: Vec<u8>) -> Result<Frame, Problem> {
    Ok(Frame::Text(String::from_utf8(envelope)?.into()))
}

/// Sends `count` messages, `per_second` of them each second, or as fast as the socket takes them.
pub(super) async fn run(server: &Server, count: usize, per_second: Option<u64>) -> Result<Value, Problem> {
    let (me, other) = (Party::new()?, Party::new()?);
    server.enrol(&me, &[&me.did]).await?;
    let mut index: HashMap<Vec<u8>, usize> = HashMap::new();
    let mut frames = Vec::with_capacity(count);
    for number in 0..count {
        let forward = other.forward(&me.did, number as u64, &server.did)?;
        index.insert(forward.inner, number);
        frames.push(text(forward.bytes)?);
    }
    let mut incoming = socket(server).await?;
    go_live(server, &me, &mut incoming).await?;
    let mut outgoing = socket(server).await?;
    let receiver = tokio::spawn(async move {
        let mut arrived: Vec<(usize, Instant)> = Vec::with_capacity(count);
        let mut strange = 0;
        while arrived.len() < count {
            let Ok(Some(Ok(frame))) = tokio::time::timeout(PATIENCE, incoming.next()).await else { break };
            let now = Instant::now();
            match index.remove(frame.into_data().as_ref()) {
                Some(number) => arrived.push((number, now)),
                None => strange += 1,
            }
        }
        (arrived, strange)
    });
    let before = server.cpu();
    let sent_at = Arc::new(std::sync::Mutex::new(Vec::with_capacity(count)));
    let begun = Instant::now();
    let mut clock =
        per_second.map(|rate| tokio::time::interval(Duration::from_micros(1_000_000 / rate.max(1))));
    for frame in frames {
        if let Some(clock) = &mut clock {
            clock.tick().await;
        }
        if let Ok(mut sent_at) = sent_at.lock() {
            sent_at.push(Instant::now());
        }
        outgoing.send(frame).await?;
    }
    let (arrived, strange) = receiver.await?;
    let used = server.cpu().saturating_sub(before);
    let sent_at = sent_at.lock().map_err(|_| "poisoned")?;
    let micros = arrived.iter().filter_map(|(number, at)| {
        let delay = at.duration_since(*sent_at.get(*number)?);
        u64::try_from(delay.as_micros()).ok()
    });
    let last = arrived.iter().map(|(_, at)| *at).max().unwrap_or(begun);
    let seconds = last.duration_since(begun).as_secs_f64();
    Ok(json!({
        "sent": count,
        "pushed": arrived.len(),
        "not_pushed": count - arrived.len(),
        "other_frames": strange,
        "per_s": to_f64(arrived.len() as u64) / seconds,
        "latency": latencies(micros.collect()),
        "server_cpu_us": used.as_secs_f64() * 1e6 / to_f64(count as u64),
    }))
}
