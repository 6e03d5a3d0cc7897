//! The log: all lines of one event bear its id, a refusal names it, and no DID is readable.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use einmal_did::Did;
use einmal_didcomm::SenderProtection;
use einmal_tests::{ADULT, Einmal, Running, Stranger, city_folder};
use futures_util::SinkExt;
use serde_json::{Value, json};

/// The program under test.
const EINMAL: Einmal = Einmal(env!("CARGO_BIN_EXE_einmal-under-test"));
/// How long a test waits for something that must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running node, with its log.
struct Logged {
    dir: PathBuf,
    log: PathBuf,
    node: Running,
}

impl Logged {
    fn new(folder: &Path, role: &str, flags: &[&str]) -> Self {
        Self::by(Einmal::start_logged, folder, role, flags)
    }

    /// With what is for `debug` too.
    fn in_full(folder: &Path, role: &str, flags: &[&str]) -> Self {
        Self::by(Einmal::start_logged_in_full, folder, role, flags)
    }

    fn by(
        start: fn(Einmal, &str, &[&str], &Path) -> Running,
        folder: &Path,
        role: &str,
        flags: &[&str],
    ) -> Self {
        let (dir, log) = (folder.join(role), folder.join(format!("{role}.log")));
        let made = EINMAL.run(&[&["init", role, "--dir", dir.to_str().unwrap()], flags].concat());
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let listen: &[&str] = if role == "citizen" { &[] } else { &["--listen", "127.0.0.1:0"] };
        let node = start(EINMAL, dir.to_str().unwrap(), listen, &log);
        assert!(node.about.is_object(), "{}", fs::read_to_string(&log).unwrap());
        Self { dir, log, node }
    }

    fn lines(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.log).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
    }

    /// Waits for the first line with this text.
    #[track_caller]
    fn line(&self, message: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let lines = self.lines();
            if let Some(line) = lines.iter().find(|line| line["fields"]["message"] == message) {
                return line.clone();
            }
            assert!(Instant::now() < deadline, "`{message}` is not in {lines:#?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn verb(&self, arguments: &[&str]) -> Value {
        let output = EINMAL.run(&[arguments, &["--json", "--dir", self.dir.to_str().unwrap()]].concat());
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    fn did(&self) -> Did {
        Did::parse(self.node.said("did")).unwrap()
    }

    /// Posts bytes and returns the status and the request id in the answer.
    fn post(&self, body: &[u8]) -> (String, Option<String>) {
        let mut stream = TcpStream::connect(self.node.said("listen")).unwrap();
        let head = "POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: ";
        stream.write_all(format!("{head}{}\r\n\r\n", body.len()).as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1).unwrap().to_owned();
        let id = answer.lines().find_map(|line| line.strip_prefix("x-request-id: ").map(str::to_owned));
        (status, id)
    }
}

/// The request to which a log line belongs.
fn request_of(line: &Value) -> &str {
    let span = &line["spans"].as_array().unwrap()[0];
    assert_eq!(span["name"], "request", "{line}");
    span["id"].as_str().unwrap()
}

fn forward(sender: &Stranger, mediator: &Did, next: &Did) -> Vec<u8> {
    let forward = sender.forward(mediator, next, json!({"ciphertext": "x"}));
    sender.pack(&forward, SenderProtection::Authcrypt)
}

#[test]
fn a_refusal_names_the_line_in_the_log_that_says_why_and_others_name_none() {
    let folder = tempfile::tempdir().unwrap();
    let mediator = Logged::in_full(folder.path(), "mediator", &[]);
    let (status, id) = mediator.post(b"no envelope");
    assert_eq!(status, "400");
    let line = mediator.line("envelope refused");
    assert_eq!(Some(request_of(&line)), id.as_deref());
    assert_eq!(line["span"]["by"], "http");
    let (_, other) = mediator.post(b"no envelope");
    assert!(other.is_some() && other != id, "each request has its own");
    // An accepted request needs no id to look up.
    let (alice, to) = (Stranger::new(1), mediator.did());
    let grant = alice.message("https://didcomm.org/coordinate-mediation/3.0/mediate-request", &to, json!({}));
    assert_eq!(mediator.post(&alice.pack(&grant, SenderProtection::Authcrypt)), ("200".to_owned(), None));
    // Not refused as an envelope, but not handled either: the line is written where handling ends.
    let (status, id) = mediator.post(&anonymous(&alice, &to));
    assert_eq!(status, "400");
    assert_eq!(Some(request_of(&mediator.line("message not handled"))), id.as_deref());
}

/// A message to `to` that is not a forward and proves no sender.
fn anonymous(sender: &Stranger, to: &Did) -> Vec<u8> {
    let mut ping = sender.message("https://didcomm.org/trust-ping/2.0/ping", to, json!({}));
    ping.from = None;
    sender.pack(&ping, SenderProtection::Anoncrypt)
}

#[test]
fn what_anybody_can_send_without_a_key_is_counted_and_fills_no_log() {
    let folder = tempfile::tempdir().unwrap();
    let mediator = Logged::new(folder.path(), "mediator", &[]);
    let before = mediator.lines().len();
    let refused = || -> u64 {
        let counters = &mediator.verb(&["status"])["counters"];
        counters["refused"].as_u64().unwrap_or_else(|| panic!("{counters}"))
    };
    let counted = refused();
    for _ in 0..20 {
        assert_eq!(mediator.post(b"{}").0, "400");
    }
    assert_eq!(refused(), counted + 20);
    assert_eq!(mediator.lines().len(), before, "{:#?}", mediator.lines());
}

#[tokio::test]
async fn each_message_on_a_socket_has_an_id_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let mediator = Logged::in_full(folder.path(), "mediator", &[]);
    let address = mediator.node.said("listen");
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut socket, _) =
        tokio_tungstenite::client_async(format!("ws://{address}/ws"), stream).await.unwrap();
    for _ in 0..2 {
        let garbage = tokio_tungstenite::tungstenite::Message::text("no envelope");
        socket.send(garbage).await.unwrap();
    }
    let deadline = Instant::now() + PATIENCE;
    let refused = loop {
        let mut lines = mediator.lines();
        lines.retain(|line| line["fields"]["message"] == "envelope refused");
        if lines.len() == 2 {
            break lines;
        }
        assert!(Instant::now() < deadline, "{lines:#?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!((&refused[0]["span"]["by"], &refused[1]["span"]["by"]), (&json!("socket"), &json!("socket")));
    assert_ne!(request_of(&refused[0]), request_of(&refused[1]));
}

#[test]
fn a_story_with_its_failures_leaves_no_did_in_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let mediator = Logged::new(folder.path(), "mediator", &[]);
    let description = city_folder().to_str().unwrap();
    let city = Logged::new(folder.path(), "city", &["--description", description]);
    let flags = ["--mediator", mediator.node.said("invitation"), "--poll-ms", "50"];
    let phone = Logged::new(folder.path(), "citizen", &flags);
    let offer = city.verb(&["city", "offer", "resident-card", "--person", ADULT]);
    let url = offer["invitation"].as_str().unwrap();
    assert_eq!(phone.verb(&["accept", url, "--yes"])["state"], "done");
    phone.verb(&["citizen", "rotate", city.node.said("did")]);
    city.verb(&["send", "--to", ADULT, "hello"]);
    // No mailbox, no sender, and a sender whose document cannot be fetched.
    let (alice, to) = (Stranger::new(1), mediator.did());
    mediator.post(&forward(&alice, &to, alice.did()));
    mediator.post(&anonymous(&alice, &to));
    let nobody = Did::parse("did:web:localhost%3A9").unwrap();
    let (lost, _) = Stranger::of_the_web(2, &nobody);
    let ping = lost.message("https://didcomm.org/trust-ping/2.0/ping", &to, json!({}));
    assert_eq!(mediator.post(&lost.pack(&ping, SenderProtection::Authcrypt)).0, "503");
    // The outbox of a city whose mediator is gone.
    let Logged { log: mediator_log, node, .. } = mediator;
    drop(node);
    city.verb(&["send", "--to", ADULT, "nobody carries this"]);
    let sent = city.line("a message was not handed over");
    assert_eq!((request_of(&sent).len(), &sent["spans"][0]["by"]), (12, &json!("outbox")));
    phone.line("the mailbox was not reached");
    for log in [&mediator_log, &city.log, &phone.log] {
        let text = fs::read_to_string(log).unwrap();
        assert!(text.lines().count() > 1, "{} says nothing", log.display());
        for line in text.lines() {
            assert!(!line.contains("did:"), "{}: {line}", log.display());
        }
    }
}
