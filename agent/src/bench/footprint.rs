//! Memory at rest and per idle socket, bytes on the disk, and how fast a mediator with much mail restarts.

use std::{path::Path, time::Duration};

use serde_json::{Value, json};

use super::{
    Problem, forward, live,
    measure::{disk_bytes, resident_kib, to_f64},
    party::Party,
    server::Server,
};
use crate::home::MAIL_FOLDER;

/// Seconds until memory has settled.
const SETTLE: Duration = Duration::from_secs(3);

/// Memory with nothing to do, and with `sockets` live connections of one identity each.
pub(super) async fn sockets(server: &Server, sockets: usize) -> Result<Value, Problem> {
    tokio::time::sleep(SETTLE).await;
    let idle = resident_kib(server.pid());
    let mut open = Vec::with_capacity(sockets);
    for _ in 0..sockets {
        let me = Party::new()?;
        server.enrol(&me, &[&me.did]).await?;
        let mut socket = live::socket(server).await?;
        live::go_live(server, &me, &mut socket).await?;
        open.push(socket);
    }
    tokio::time::sleep(SETTLE).await;
    let with = resident_kib(server.pid());
    Ok(json!({
        "sockets": open.len(),
        "idle_kib": idle,
        "with_sockets_kib": with,
        "kib_per_socket": to_f64(with.saturating_sub(idle)) / to_f64(sockets as u64),
    }))
}

/// Disk and restarts with `messages` queued.
pub(super) async fn queued(folder: &Path, messages: usize) -> Result<Value, Problem> {
    let server = Server::fresh(folder, &format!("queued-{messages}"))?;
    let to = forward::recipients(&server, forward::RECIPIENTS.max(messages / 9_000)).await?;
    let first = forward::fill(&server, &to, 1000).await?;
    let rate = forward::fill(&server, &to, messages - 1000).await?;
    let memory = resident_kib(server.pid());
    let mail = disk_bytes(&server.folder().join(MAIL_FOLDER));
    let payload = to_f64(messages as u64) * INNER_BYTES;
    let server = server.kill_and_start()?;
    let after_kill = server.ready;
    let server = server.stop_and_start()?;
    Ok(json!({
        "messages": messages,
        "first_1000_per_s": first,
        "fill_per_s": rate,
        "resident_kib": memory,
        "disk_bytes": mail,
        "disk_per_payload_byte": to_f64(mail) / payload,
        "ready_after_kill_ms": after_kill.as_secs_f64() * 1e3,
        "ready_after_stop_ms": server.ready.as_secs_f64() * 1e3,
    }))
}

/// Length of the stored envelope, for the ratio of bytes; between 1,600 and 1,700, depending on the length of the DIDs.
const INNER_BYTES: f64 = 1_640.0;
