//! Whether accepted mail is ever lost: senders and a receiver at work while the mediator is killed again and again.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use einmal_did::Did;
use einmal_keys::{Entropy, SystemEntropy};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{
    Problem, forward,
    http::{Http, post},
    party::Party,
    server::Server,
};

/// Senders at work at once.
const SENDERS: usize = 4;
/// Recipients of one account.
const RECIPIENTS: usize = 20;
/// Bounds of the time before each kill, in milliseconds.
const ALIVE_MS: (u64, u64) = (20, 320);
/// Pause before a broken connection is remade.
const RECONNECT: Duration = Duration::from_millis(5);
/// Longest the mailboxes may take to be emptied at the end.
const DRAIN: Duration = Duration::from_secs(120);

/// What was accepted and what arrived, by the authentication tag of the inner envelope, which is unique.
#[derive(Default)]
struct Ledger {
    accepted: HashSet<String>,
    delivered: HashMap<String, Delivered>,
}

#[derive(Default)]
struct Delivered {
    times: u64,
    ids: HashSet<String>,
}

struct Field {
    ledger: Mutex<Ledger>,
    stop: AtomicBool,
    /// Requests whose answer never came.
    broken: AtomicU64,
}

impl Field {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Kills the mediator `kills` times under load, then compares. The result's `missing` must be 0.
pub(super) async fn run(folder: &Path, kills: u32) -> Result<Value, Problem> {
    let mut server = Server::fresh(folder, "mediator")?;
    let (address, mediator) = (server.address, server.did.clone());
    let account = Party::new()?;
    let to: Vec<Did> = (0..RECIPIENTS).map(|_| Ok(Party::new()?.did)).collect::<Result<_, Problem>>()?;
    server.enrol(&account, &to.iter().collect::<Vec<_>>()).await?;
    let field =
        Arc::new(Field { ledger: Mutex::default(), stop: AtomicBool::new(false), broken: AtomicU64::new(0) });
    let mut senders = JoinSet::new();
    for number in 0..SENDERS {
        senders.spawn(sender(Arc::clone(&field), address, mediator.clone(), to.clone(), number));
    }
    let receiver = tokio::spawn(receiver(Arc::clone(&field), address, mediator, account));
    let begun = Instant::now();
    let mut slowest = Duration::ZERO;
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_millis(random_between(ALIVE_MS)?)).await;
        server = tokio::task::spawn_blocking(move || server.kill_and_start()).await??;
        slowest = slowest.max(server.ready);
    }
    field.stop.store(true, Ordering::Relaxed);
    while let Some(ended) = senders.join_next().await {
        ended??;
    }
    tokio::time::timeout(DRAIN, receiver).await???;
    let seconds = begun.elapsed().as_secs_f64();
    drop(server);
    Ok(verdict(&field, kills, seconds, slowest))
}

fn verdict(field: &Field, kills: u32, seconds: f64, slowest: Duration) -> Value {
    let ledger = field.ledger();
    let missing = ledger.accepted.iter().filter(|tag| !ledger.delivered.contains_key(*tag)).count();
    let twice = ledger.delivered.values().filter(|one| one.times > 1);
    let (redelivered, renamed) =
        twice.fold((0, 0), |(all, renamed), one| (all + 1, renamed + u64::from(one.ids.len() > 1)));
    json!({
        "kills": kills,
        "accepted": ledger.accepted.len(),
        "delivered": ledger.delivered.len(),
        "missing": missing,
        "redelivered": redelivered,
        "redelivered_under_another_id": renamed,
        "answers_cut_off": field.broken.load(Ordering::Relaxed),
        "seconds": seconds,
        "slowest_restart_ms": slowest.as_secs_f64() * 1e3,
    })
}

fn random_between((least, most): (u64, u64)) -> Result<u64, Problem> {
    let mut dice = [0u8; 8];
    SystemEntropy.fill(&mut dice)?;
    Ok(least + u64::from_le_bytes(dice) % (most - least))
}

/// Sends new messages until told to stop; each is sent until it is accepted.
async fn sender(
    field: Arc<Field>,
    address: SocketAddr,
    mediator: Did,
    to: Vec<Did>,
    number: usize,
) -> Result<(), Problem> {
    let party = Party::new()?;
    let mut connection = Connection { address, http: None };
    for (serial, next) in to.iter().cycle().skip(number).enumerate() {
        if field.stopped() {
            break;
        }
        let forward::Prepared { request, tag } = forward::prepare(&party, next, serial as u64, &mediator)?;
        loop {
            match connection.send(&request).await {
                Ok((200, _)) => break,
                Ok(_) => tokio::time::sleep(RECONNECT).await,
                Err(_) => {
                    field.broken.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        field.ledger().accepted.insert(tag);
    }
    Ok(())
}

/// Fetches and acknowledges, until the senders have ended and nothing is left.
async fn receiver(
    field: Arc<Field>,
    address: SocketAddr,
    mediator: Did,
    account: Party,
) -> Result<(), Problem> {
    const FAMILY: &str = "https://didcomm.org/messagepickup/3.0";
    let mut connection = Connection { address, http: None };
    let mut quiet = 0;
    while quiet < 3 {
        let ended = field.stopped();
        let ask = account.request(&format!("{FAMILY}/delivery-request"), &json!({"limit": 50}), &mediator)?;
        let Ok((200, answer)) = connection.send(&post(&ask)).await else { continue };
        let delivery = account.open(&answer)?.message;
        let mut ids = Vec::new();
        for attachment in &delivery.attachments {
            let (Some(id), Ok(envelope)) = (attachment.id.clone(), attachment.to_json()) else { continue };
            if let Some(tag) = envelope.get("tag").and_then(Value::as_str) {
                let mut ledger = field.ledger();
                let delivered = ledger.delivered.entry(tag.to_owned()).or_default();
                delivered.times += 1;
                delivered.ids.insert(id.clone());
            }
            ids.push(id);
        }
        if ids.is_empty() {
            quiet += u32::from(ended);
            tokio::time::sleep(RECONNECT).await;
            continue;
        }
        let body = json!({"message_id_list": ids});
        let ask = account.request(&format!("{FAMILY}/messages-received"), &body, &mediator)?;
        let _ = connection.send(&post(&ask)).await;
    }
    Ok(())
}

/// A connection that is remade when it breaks.
struct Connection {
    address: SocketAddr,
    http: Option<Http>,
}

impl Connection {
    async fn send(&mut self, request: &[u8]) -> Result<(u16, Vec<u8>), Problem> {
        let mut http = match self.http.take() {
            Some(http) => http,
            None => match Http::connect(self.address).await {
                Ok(http) => http,
                Err(problem) => {
                    tokio::time::sleep(RECONNECT).await;
                    return Err(problem);
                }
            },
        };
        let answer = http.send(request).await?;
        self.http = Some(http);
        Ok(answer)
    }
}
