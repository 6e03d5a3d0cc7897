//! A wiretap: passes connections on to a node and records what was posted, as an eavesdropper would.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

/// Most bytes recorded of one direction of one connection.
const MAX_RECORDED: usize = 8 * 1024 * 1024;

/// Everything that went over the wire to a node, both ways.
#[derive(Clone, Default)]
pub(super) struct Wiretap {
    requests: Arc<Mutex<Vec<Vec<u8>>>>,
    all: Arc<Mutex<Vec<u8>>>,
    target: Arc<Mutex<Option<SocketAddr>>>,
}

impl Wiretap {
    /// Listens on a free port of the loopback interface.
    pub(super) fn open() -> Result<(Self, SocketAddr), String> {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let tap = Self::default();
        let own = tap.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let tap = own.clone();
                thread::spawn(move || tap.pass_on(client));
            }
        });
        Ok((tap, address))
    }

    /// Sets where connections are passed on to.
    pub(super) fn aim(&self, target: SocketAddr) {
        *lock(&self.target) = Some(target);
    }

    fn pass_on(&self, client: TcpStream) {
        let Some(target) = *lock(&self.target) else { return };
        let (Ok(server), Ok(from_client)) = (TcpStream::connect(target), client.try_clone()) else { return };
        let Ok(to_server) = server.try_clone() else { return };
        let tap = self.clone();
        let up = thread::spawn(move || tap.copy(from_client, to_server, true));
        self.copy(server, client, false);
        let _ = up.join();
    }

    fn copy(&self, mut from: TcpStream, mut to: TcpStream, record: bool) {
        let mut seen = Vec::new();
        let mut buffer = [0u8; 16 * 1024];
        while let Ok(length) = from.read(&mut buffer) {
            let Some(bytes) = buffer.get(..length).filter(|bytes| !bytes.is_empty()) else { break };
            if seen.len() + length <= MAX_RECORDED {
                seen.extend_from_slice(bytes);
            }
            lock(&self.all).extend_from_slice(bytes);
            if record {
                self.note(&seen);
            }
            if to.write_all(bytes).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    }

    /// Notes every complete POST body in what one connection has sent so far.
    fn note(&self, stream: &[u8]) {
        let mut rest = stream;
        while let Some(head) = find(rest, b"\r\n\r\n") {
            let (Some(head_bytes), Some(body)) = (rest.get(..head), rest.get(head + 4..)) else { return };
            let head_text = String::from_utf8_lossy(head_bytes).to_ascii_lowercase();
            let length = head_text
                .lines()
                .find_map(|line| line.strip_prefix("content-length:"))
                .and_then(|text| text.trim().parse::<usize>().ok())
                .unwrap_or(0);
            let Some(envelope) = body.get(..length) else { return };
            let mut requests = lock(&self.requests);
            if length > 0 && !requests.iter().any(|known| known == envelope) {
                requests.push(envelope.to_vec());
            }
            rest = body.get(length..).unwrap_or_default();
        }
    }

    /// The envelopes that were posted.
    pub(super) fn envelopes(&self) -> Vec<Vec<u8>> {
        lock(&self.requests).clone()
    }

    /// Every byte that went over the wire.
    pub(super) fn bytes(&self) -> Vec<u8> {
        lock(&self.all).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
