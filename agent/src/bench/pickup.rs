//! One recipient empties its mailbox: delivery-request, messages-received, until nothing is left.

use std::time::Instant;

use serde_json::{Value, json};

use super::{Problem, forward, http::post, measure::to_f64, party::Party, server::Server};

/// Messages waiting.
const WAITING: usize = 1000;
const FAMILY: &str = "https://didcomm.org/messagepickup/3.0";

/// Fetches and acknowledges everything.
pub(super) async fn run(server: &Server) -> Result<Value, Problem> {
    let me = Party::new()?;
    server.enrol(&me, &[&me.did]).await?;
    forward::fill(server, std::slice::from_ref(&me.did), WAITING).await?;
    let mut connection = server.connect().await?;
    let (mut got, mut own_time) = (0u64, std::time::Duration::ZERO);
    let before = server.cpu();
    let begun = Instant::now();
    loop {
        let at = Instant::now();
        let body = json!({"recipient_did": me.did.as_str(), "limit": 100});
        let ask = post(&me.request(&format!("{FAMILY}/delivery-request"), &body, &server.did)?);
        own_time += at.elapsed();
        let (_, answer) = connection.send(&ask).await?;
        let at = Instant::now();
        let delivery = me.open(&answer)?;
        let ids: Vec<&str> =
            delivery.message.attachments.iter().filter_map(|attachment| attachment.id.as_deref()).collect();
        if ids.is_empty() {
            break;
        }
        got += ids.len() as u64;
        let body = json!({"message_id_list": ids});
        let ask = post(&me.request(&format!("{FAMILY}/messages-received"), &body, &server.did)?);
        own_time += at.elapsed();
        connection.send(&ask).await?;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let used = server.cpu().saturating_sub(before);
    if got < WAITING as u64 {
        return Err(format!("{got} of {WAITING} messages were delivered").into());
    }
    Ok(json!({
        "messages": got,
        "per_s": to_f64(got) / seconds,
        "client_seconds": own_time.as_secs_f64(),
        "server_cpu_us": used.as_secs_f64() * 1e6 / to_f64(got),
    }))
}
