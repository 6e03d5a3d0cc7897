//! Forwards to recipients that are away: accepted, hence on the disk, per second.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use einmal_did::Did;
use serde_json::{Value, json};
use tokio::{sync::Barrier, task::JoinSet};

use super::{
    Problem,
    http::{Http, post},
    measure::{latencies, resident_kib, to_f64},
    party::Party,
    server::Server,
};

/// Recipients that the forwards rotate through.
pub(super) const RECIPIENTS: usize = 100;

/// One sender and its requests.
pub(super) type Work = Vec<Vec<u8>>;

/// The result of some work.
pub(super) struct Sent {
    pub(super) micros: Vec<u64>,
    pub(super) refused: usize,
    pub(super) time: Duration,
}

/// Recipients registered for one account.
pub(super) async fn recipients(server: &Server, count: usize) -> Result<Vec<Did>, Problem> {
    let parties: Vec<Party> = (0..count).map(|_| Party::new()).collect::<Result<_, _>>()?;
    let dids: Vec<Did> = parties.into_iter().map(|party| party.did).collect();
    let account = Party::new()?;
    server.enrol(&account, &dids.iter().collect::<Vec<_>>()).await?;
    Ok(dids)
}

/// A forward as a request, and the authentication tag of the envelope in it.
pub(super) struct Prepared {
    pub(super) request: Vec<u8>,
    pub(super) tag: String,
}

/// Packs one forward.
pub(super) fn prepare(party: &Party, next: &Did, serial: u64, mediator: &Did) -> Result<Prepared, Problem> {
    let forward = party.forward(next, serial, mediator)?;
    let inner: Value = serde_json::from_slice(&forward.inner)?;
    let tag = inner.get("tag").and_then(Value::as_str).ok_or("an envelope without tag")?.to_owned();
    Ok(Prepared { request: post(&forward.bytes), tag })
}

/// Packs `count` forwards for each of `senders` senders, on all cores.
pub(super) fn pack(
    senders: usize,
    count: usize,
    first: u64,
    to: &[Did],
    mediator: &Did,
) -> Result<Vec<Work>, Problem> {
    let work = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..senders)
            .map(|sender| {
                scope.spawn(move || {
                    let party = Party::new()?;
                    let serial = first + (sender * count) as u64;
                    (0..count)
                        .zip(to.iter().cycle().skip(sender))
                        .map(|(n, next)| Ok(post(&party.forward(next, serial + n as u64, mediator)?.bytes)))
                        .collect::<Result<Work, Problem>>()
                })
            })
            .collect();
        handles.into_iter().map(|handle| handle.join()).collect::<Vec<_>>()
    });
    work.into_iter().map(|one| one.map_err(|_| Problem::from("packing panicked"))?).collect()
}

/// Posts all work, each sender on its own connection and waiting for each answer.
pub(super) async fn send(server: &Server, work: Vec<Work>) -> Result<Sent, Problem> {
    let start = Arc::new(Barrier::new(work.len() + 1));
    let mut senders = JoinSet::new();
    for requests in work {
        let mut connection: Http = server.connect().await?;
        let start = Arc::clone(&start);
        senders.spawn(async move {
            let (mut micros, mut refused) = (Vec::with_capacity(requests.len()), 0);
            start.wait().await;
            for request in requests {
                let begun = Instant::now();
                match connection.send(&request).await {
                    Ok((200, _)) => {
                        micros.push(u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX))
                    }
                    Ok(_) => refused += 1,
                    Err(_) => break,
                }
            }
            (micros, refused)
        });
    }
    start.wait().await;
    let begun = Instant::now();
    let mut sent = Sent { micros: Vec::new(), refused: 0, time: Duration::ZERO };
    while let Some(done) = senders.join_next().await {
        let (micros, refused) = done?;
        sent.micros.extend(micros);
        sent.refused += refused;
    }
    sent.time = begun.elapsed();
    Ok(sent)
}

/// Forwards from `senders` senders, `total` in all.
pub(super) async fn run(server: &Server, senders: usize, total: usize) -> Result<Value, Problem> {
    let to = recipients(server, RECIPIENTS).await?;
    send(server, pack(senders, 400_usize.div_ceil(senders), 1 << 40, &to, &server.did)?).await?;
    let work = pack(senders, total / senders, 0, &to, &server.did)?;
    let sizes = work.first().and_then(|work| work.first()).map(Vec::len);
    let before = server.cpu();
    let sent = send(server, work).await?;
    let used = server.cpu().saturating_sub(before);
    let accepted = sent.micros.len() as u64;
    Ok(json!({
        "accepted": accepted,
        "refused": sent.refused,
        "per_s": to_f64(accepted) / sent.time.as_secs_f64(),
        "server_cpu_us": used.as_secs_f64() * 1e6 / to_f64(accepted),
        "latency": latencies(sent.micros),
        "request_bytes": sizes,
        "resident_kib": resident_kib(server.pid()),
    }))
}

/// Queues `total` messages for `to` from 8 senders, a part at a time.
pub(super) async fn fill(server: &Server, to: &[Did], total: usize) -> Result<f64, Problem> {
    const PART: usize = 16_000;
    let (mut done, mut seconds) = (0, 0.0);
    while done < total {
        let part = PART.min(total - done);
        let work = pack(8, part.div_ceil(8), done as u64, to, &server.did)?;
        let sent = send(server, work).await?;
        if sent.refused > 0 {
            return Err(format!("{} of {part} messages were refused", sent.refused).into());
        }
        done += sent.micros.len();
        seconds += sent.time.as_secs_f64();
    }
    Ok(to_f64(total as u64) / seconds)
}
