//! Ten times the load a mediator can take, on a schedule that does not wait for it: how much still gets through.

use std::{
    cell::{Cell, RefCell},
    net::{Ipv4Addr, SocketAddr},
    rc::Rc,
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    task::LocalSet,
    time::{Instant, sleep_until},
};

use super::{
    Problem, forward,
    measure::{cpu, latencies, resident_kib, to_f64},
    server::Server,
};

/// The multiple of the peak that is offered.
const TIMES: f64 = 10.0;
/// Senders of the closed loop that finds the peak.
const PEAK_SENDERS: usize = 8;
/// Forwards in that closed loop.
const PEAK_FORWARDS: usize = 16_000;
/// How long the overload lasts before counting starts: by then all are connected.
const WARM_UP: Duration = Duration::from_secs(4);
/// How long it is counted.
const LASTS: Duration = Duration::from_secs(10);
/// Connections of the open loop: more than the mediator can serve before the last has waited too long, so that it must
/// refuse.
const SOCKETS: u32 = 18_000;
/// Connections from one address of this machine: finding a free port gets ever slower once half of them are taken.
const SOCKETS_PER_ADDRESS: u32 = 4_000;
/// Longest the mediator takes to finish what it had accepted when the overload ended.
const REST: Duration = Duration::from_secs(3);
/// A request this much overdue is not sent any more; it counts as late.
const PATIENCE: Duration = Duration::from_secs(2);
/// Requests packed per acceptable request at the peak rate; refused ones are offered again.
const SPARE: f64 = 1.5;
/// Longest head of an answer.
const HEAD_BYTES: usize = 1024;

/// The results of the schedule.
#[derive(Default)]
struct Tally {
    /// Microseconds from the moment a request was due to its acceptance.
    micros: Vec<u64>,
    refused: u64,
    refused_without_time: u64,
    other: u64,
    late: u64,
    broken: u64,
    ran_dry: bool,
}

/// State shared by all senders; they live in one thread.
struct Load {
    address: SocketAddr,
    per_second: f64,
    begun: Instant,
    requests: RefCell<Vec<Vec<u8>>>,
    tally: RefCell<Tally>,
    running: Cell<bool>,
}

/// Finds the peak, offers ten times as much, and compares.
pub(super) async fn run(server: &Server) -> Result<Value, Problem> {
    let to = forward::recipients(server, forward::RECIPIENTS).await?;
    let pack =
        |count: usize, first: u64| forward::pack(PEAK_SENDERS, count / PEAK_SENDERS, first, &to, &server.did);
    forward::send(server, pack(400, 1 << 40)?).await?;
    let before = Peak::find(server, pack(PEAK_FORWARDS, 0)?).await?;
    let last = pack(PEAK_FORWARDS, 1 << 42)?;
    let mut requests: Vec<Vec<u8>> = Vec::new();
    let mut packed = 1u64 << 41;
    while to_f64(requests.len() as u64) < before.per_second * (WARM_UP + LASTS).as_secs_f64() * SPARE {
        requests.extend(pack(PEAK_FORWARDS, packed)?.into_iter().flatten());
        packed += PEAK_FORWARDS as u64;
    }
    let (address, pid, per_second) = (server.address, server.pid(), before.per_second * TIMES);
    // One thread, whatever the machine has: the rest is the mediator's.
    let offering = std::thread::spawn(move || offer(address, pid, per_second, requests));
    let offered = tokio::task::spawn_blocking(move || offering.join()).await?;
    let (tally, used) = offered.map_err(|_| "the load generator panicked")??;
    if tally.ran_dry {
        return Err("more was accepted than was packed".into());
    }
    let resident = resident_kib(server.pid());
    tokio::time::sleep(REST).await;
    let after = Peak::find(server, last).await?;
    Ok(report(tally, &before, &after, &used, resident))
}

/// The mediator's performance when no more arrives than it can take.
struct Peak {
    per_second: f64,
    /// Its processor time for each forward, in seconds.
    cpu_each: f64,
}

impl Peak {
    /// Sends `work`, each sender waiting for its answers.
    async fn find(server: &Server, work: Vec<Vec<Vec<u8>>>) -> Result<Self, Problem> {
        let before = server.cpu();
        let sent = forward::send(server, work).await?;
        let count = to_f64(sent.micros.len() as u64);
        Ok(Self {
            per_second: count / sent.time.as_secs_f64(),
            cpu_each: server.cpu().saturating_sub(before).as_secs_f64() / count,
        })
    }

    /// Halfway between two: machines change their pace while they are measured.
    fn between(&self, other: &Self) -> Self {
        Self {
            per_second: f64::midpoint(self.per_second, other.per_second),
            cpu_each: f64::midpoint(self.cpu_each, other.cpu_each),
        }
    }
}

fn report(tally: Tally, before: &Peak, after: &Peak, used: &Used, resident_kib: u64) -> Value {
    let peak = before.between(after);
    let accepted = tally.micros.len() as u64;
    let goodput = to_f64(accepted) / LASTS.as_secs_f64();
    let answered = accepted + tally.refused + tally.other;
    // The rest of its time, if accepted forwards cost what they did at the peak.
    let refusing = used.server.as_secs_f64() - to_f64(accepted) * peak.cpu_each;
    json!({
        "peak_per_s": peak.per_second,
        "peak_before_per_s": before.per_second,
        "peak_after_per_s": after.per_second,
        "scheduled_per_s": before.per_second * TIMES,
        "answered_per_s": to_f64(answered) / LASTS.as_secs_f64(),
        "goodput_per_s": goodput,
        "goodput_share": goodput / peak.per_second,
        "peak_server_cpu_us": peak.cpu_each * 1e6,
        "refusal_server_cpu_us": refusing * 1e6 / to_f64(tally.refused.max(1)),
        "refused": tally.refused,
        "refused_without_retry_after": tally.refused_without_time,
        "answered_otherwise": tally.other,
        "late": tally.late,
        "broken": tally.broken,
        "latency": latencies(tally.micros),
        "server_cpu_s": used.server.as_secs_f64(),
        "generator_cpu_s": used.generator.as_secs_f64(),
        "resident_kib": resident_kib,
    })
}

/// Processor time used by the overload while it was counted.
struct Used {
    server: Duration,
    generator: Duration,
}

impl Used {
    /// The time used so far by the process `pid` and by this thread.
    fn until_now(pid: u32) -> Self {
        let generator = Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default();
        Self { server: cpu(pid), generator }
    }

    fn since(&self, before: &Self) -> Self {
        Self {
            server: self.server.saturating_sub(before.server),
            generator: self.generator.saturating_sub(before.generator),
        }
    }
}

/// Offers the load to the process `pid` from this thread, and starts counting once all are connected.
fn offer(
    address: SocketAddr,
    pid: u32,
    per_second: f64,
    requests: Vec<Vec<u8>>,
) -> Result<(Tally, Used), Problem> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let load = Rc::new(Load {
            address,
            per_second,
            begun: Instant::now(),
            requests: RefCell::new(requests),
            tally: RefCell::default(),
            running: Cell::new(true),
        });
        for number in 0..SOCKETS {
            tokio::task::spawn_local(Rc::clone(&load).send(number));
        }
        sleep_until(load.begun + WARM_UP).await;
        let ran_dry = load.tally.take().ran_dry;
        load.tally.borrow_mut().ran_dry = ran_dry;
        let before = Used::until_now(pid);
        sleep_until(load.begun + WARM_UP + LASTS).await;
        load.running.set(false);
        let used = Used::until_now(pid).since(&before);
        Ok((load.tally.take(), used))
    })
}

/// Connects to the mediator from one of several local addresses, if this machine has them.
async fn connect(address: SocketAddr, number: u32) -> Result<TcpStream, Problem> {
    let from = Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + number / SOCKETS_PER_ADDRESS);
    let mut socket = TcpSocket::new_v4()?;
    if socket.bind((from, 0).into()).is_err() {
        socket = TcpSocket::new_v4()?;
    }
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl Load {
    /// Sends every `SOCKETS`th request of the schedule, each when it is due or as soon as the previous one is answered.
    async fn send(self: Rc<Self>, number: u32) {
        let mut socket = None;
        let pause = f64::from(SOCKETS) / self.per_second;
        for round in 0u32.. {
            let due = f64::from(number) / self.per_second + f64::from(round) * pause;
            let due = self.begun + Duration::from_secs_f64(due);
            sleep_until(due).await;
            if !self.running.get() {
                return;
            }
            if due.elapsed() > PATIENCE {
                self.tally.borrow_mut().late += 1;
                continue;
            }
            let Some(request) = self.requests.borrow_mut().pop() else {
                self.tally.borrow_mut().ran_dry = true;
                return;
            };
            if socket.is_none() {
                // Only now: the mediator does not wait for silent connections.
                socket = connect(self.address, number).await.ok();
            }
            let answer = match &mut socket {
                Some(stream) => exchange(stream, &request).await,
                None => Err("no connection".into()),
            };
            if !self.running.get() {
                return;
            }
            // Any other answer may have a body, which nobody reads.
            if !answer.as_ref().is_ok_and(|answer| matches!(answer.status, 200 | 429 | 503)) {
                socket = None;
            }
            self.note(answer.ok(), due, request);
        }
    }

    /// Counts an answer. A refused request was not kept, so it may be offered again.
    fn note(&self, answer: Option<Answer>, due: Instant, request: Vec<u8>) {
        let mut tally = self.tally.borrow_mut();
        match answer {
            Some(Answer { status: 200, .. }) => {
                tally.micros.push(u64::try_from(due.elapsed().as_micros()).unwrap_or(u64::MAX));
            }
            Some(Answer { status: 429 | 503, retry_after }) => {
                tally.refused += 1;
                tally.refused_without_time += u64::from(!retry_after);
                self.requests.borrow_mut().push(request);
            }
            Some(_) => tally.other += 1,
            None => tally.broken += 1,
        }
    }
}

/// The counted parts of an answer.
#[derive(Debug, PartialEq)]
struct Answer {
    status: u16,
    retry_after: bool,
}

/// Writes a request and reads the head of its answer; answers to forwards that are kept or refused have no body.
async fn exchange(stream: &mut TcpStream, request: &[u8]) -> Result<Answer, Problem> {
    stream.write_all(request).await?;
    let (mut head, mut end) = ([0; HEAD_BYTES], 0);
    loop {
        let read = stream.read(head.get_mut(end..).unwrap_or_default()).await?;
        if read == 0 {
            return Err("the connection was closed, or the answer is too long".into());
        }
        end += read;
        let so_far = head.get(..end).unwrap_or_default();
        if so_far.windows(4).any(|window| window == b"\r\n\r\n") {
            return parse(so_far).ok_or_else(|| "no answer of HTTP".into());
        }
    }
}

fn parse(head: &[u8]) -> Option<Answer> {
    let status = std::str::from_utf8(head.get(9..12)?).ok()?.parse().ok()?;
    let retry_after = head.windows(13).any(|window| window == b"\r\nretry-after");
    Some(Answer { status, retry_after })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_its_status_and_whether_it_says_when_to_come_again() {
        let busy = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(parse(busy), Some(Answer { status: 503, retry_after: true }));
        let taken = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(parse(taken), Some(Answer { status: 200, retry_after: false }));
        assert_eq!(parse(b"SSH-2.0"), None);
    }
}
