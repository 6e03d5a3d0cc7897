//! A wiretap: passes connections on to a node and records what was posted, as an eavesdropper would.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

/// Most bytes recorded of one direction of one connection.
const MAX_RECORDED: usize = 8 * 1024 * 1024;

/// The body of one message in one direction; it may be empty.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Body {
    /// Whether it was sent to the node; otherwise it is the node's answer.
    pub(super) is_request: bool,
    /// Whether its head declares a DIDComm envelope.
    pub(super) is_envelope: bool,
    pub(super) bytes: Vec<u8>,
}

/// Everything that went over the wire to a node, both ways.
#[derive(Clone, Default)]
pub(super) struct Wiretap {
    bodies: Arc<Mutex<Vec<Body>>>,
    /// What each connection has sent, one entry for each direction.
    streams: Arc<Mutex<Vec<Vec<u8>>>>,
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

    /// Sets the target to which connections are passed on.
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

    fn copy(&self, mut from: TcpStream, mut to: TcpStream, is_request: bool) {
        let mut seen = Vec::new();
        let own = {
            let mut streams = lock(&self.streams);
            streams.push(Vec::new());
            streams.len() - 1
        };
        let mut buffer = [0u8; 16 * 1024];
        while let Ok(length) = from.read(&mut buffer) {
            let Some(bytes) = buffer.get(..length).filter(|bytes| !bytes.is_empty()) else { break };
            if seen.len() + length <= MAX_RECORDED {
                seen.extend_from_slice(bytes);
                if let Some(stream) = lock(&self.streams).get_mut(own) {
                    stream.extend_from_slice(bytes);
                }
            }
            self.note(&seen, is_request);
            if to.write_all(bytes).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    }

    /// Notes every complete body in what one connection has sent so far in one direction.
    fn note(&self, stream: &[u8], is_request: bool) {
        for body in bodies(stream, is_request) {
            let mut known = lock(&self.bodies);
            if !known.contains(&body) {
                known.push(body);
            }
        }
    }

    /// The envelopes that were posted.
    pub(super) fn envelopes(&self) -> Vec<Vec<u8>> {
        let bodies = lock(&self.bodies);
        bodies.iter().filter(|body| body.is_request).map(|body| body.bytes.clone()).collect()
    }

    /// Every body that went over the wire so far, once.
    pub(super) fn bodies(&self) -> Vec<Body> {
        lock(&self.bodies).clone()
    }

    /// Every byte that went over the wire, by connection and direction, so that no text is torn apart.
    pub(super) fn streams(&self) -> Vec<Vec<u8>> {
        lock(&self.streams).clone()
    }
}

/// The complete bodies in what one connection has sent in one direction.
fn bodies(stream: &[u8], is_request: bool) -> Vec<Body> {
    let (mut rest, mut found) = (stream, Vec::new());
    while let Some(head) = find(rest, b"\r\n\r\n") {
        let (Some(head_bytes), Some(body)) = (rest.get(..head), rest.get(head + 4..)) else { break };
        let head_text = String::from_utf8_lossy(head_bytes).to_ascii_lowercase();
        let header = |name: &str| {
            head_text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))
        };
        let length = header("content-length").and_then(|text| text.parse::<usize>().ok()).unwrap_or(0);
        let Some(bytes) = body.get(..length) else { break };
        let is_envelope = header("content-type").is_some_and(|kind| kind.contains("didcomm"));
        if length > 0 {
            found.push(Body { is_request, is_envelope, bytes: bytes.to_vec() });
        }
        rest = body.get(length..).unwrap_or_default();
    }
    found
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_complete_body_is_noted_and_a_cut_off_one_is_not() {
        let stream = b"POST / HTTP/1.1\r\nContent-Type: application/didcomm-encrypted+json\r\n\
            Content-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\n\r\n\
            POST / HTTP/1.1\r\ncontent-length: 3\r\ncontent-type: text/plain\r\n\r\nyou\
            POST / HTTP/1.1\r\ncontent-length: 4\r\n\r\ncut";
        let found = bodies(stream, true);
        let told: Vec<(&[u8], bool)> = found.iter().map(|body| (&body.bytes[..], body.is_envelope)).collect();
        assert_eq!(told, [(&b"hello"[..], true), (&b"you"[..], false)]);
        assert!(found.iter().all(|body| body.is_request));
        assert!(
            bodies(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx", false).iter().all(|b| !b.is_request)
        );
    }
}
