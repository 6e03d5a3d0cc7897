//! A mediator as a real process: killed under load it loses nothing, it wakes its citizens, and its limits hold.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::Output,
    time::{Duration, Instant},
};

use einmal_tests::Einmal;
use serde_json::Value;

/// Longest time for anything on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The program under test.
const EINMAL: Einmal = Einmal(env!("CARGO_BIN_EXE_einmal-under-test"));

fn run(arguments: &[&str]) -> Output {
    EINMAL.run(arguments)
}

fn answer(arguments: &[&str]) -> Value {
    let output = run(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
}

/// Makes a folder and appends lines to its configuration.
fn node(folder: &Path, role: &str, flags: &[&str], configuration: &str) -> String {
    let dir = folder.join(role).to_str().unwrap().to_owned();
    let made = run(&[&["init", role, "--dir", &dir], flags].concat());
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let path = Path::new(&dir).join("einmal.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, format!("{text}\n{configuration}\n")).unwrap();
    dir
}

/// Sends a bare request and returns the whole response.
fn http(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

const GET: &str = " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

#[test]
fn nothing_accepted_is_lost_over_a_hundred_kills_under_load() {
    let output = run(&["--json", "bench", "crash", "--kills", "100"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let result = &serde_json::from_str::<Value>(&text).unwrap()["result"];
    assert_eq!((&result["kills"], &result["missing"]), (&100.into(), &0.into()), "{result}");
    assert!(result["accepted"].as_u64() > Some(100), "{result}");
    assert!(result["answers_cut_off"].as_u64() > Some(10), "no kill met any load: {result}");
}

#[test]
fn a_citizen_who_hardly_ever_looks_is_rung_for_mail() {
    let folder = tempfile::tempdir().unwrap();
    let mediator = node(folder.path(), "mediator", &["--listen", "127.0.0.1:0"], "");
    let mediator = EINMAL.start(&mediator, &[]);
    let flags = ["--mediator", mediator.said("invitation")];
    let citizen = node(folder.path(), "citizen", &flags, "");
    let path = Path::new(&citizen).join("einmal.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("[citizen]", "[citizen]\npoll_ms = 600000")).unwrap();
    let wetzlar = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/wetzlar");
    let description = format!("{wetzlar}/city.toml");
    let city = node(folder.path(), "city", &["--description", &description, "--listen", "127.0.0.1:0"], "");
    let _running = EINMAL.start(&city, &[]);
    let _phone = EINMAL.start(&citizen, &[]);
    let metrics = || http(mediator.said("listen"), &format!("GET /metrics{GET}"));
    until("the line to the mediator stands", || metrics().contains("einmal_live_sessions 1"));
    let person = some_person(wetzlar);
    let invitation = answer(&["--json", "invite", "--dir", &city, "--person", &person]);
    answer(&["--json", "accept", invitation["invitation"].as_str().unwrap(), "--dir", &citizen, "--yes"]);
    until("the message arrives", || {
        let _ = run(&["--json", "send", "--dir", &city, "--to", &person, "Guten Tag"]);
        let inbox = run(&["--json", "inbox", "--dir", &citizen]);
        String::from_utf8_lossy(&inbox.stdout).contains("Guten Tag")
    });
}

#[test]
fn whoever_accepts_to_connect_is_asked_first_and_told_whether_the_inviter_answered() {
    let folder = tempfile::tempdir().unwrap();
    let mediator_dir = node(folder.path(), "mediator", &["--listen", "127.0.0.1:0"], "");
    let mediator = EINMAL.start(&mediator_dir, &[]);
    let flags = ["--mediator", mediator.said("invitation"), "--poll-ms", "50"];
    let citizen = node(folder.path(), "citizen", &flags, "");
    let _phone = EINMAL.start(&citizen, &[]);
    let requests = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/wetzlar/requests");
    let merchant = node(folder.path(), "merchant", &["--requests", requests, "--listen", "127.0.0.1:0"], "");
    let shop = EINMAL.start(&merchant, &[]);
    let invitation = shop.said("invitation").to_owned();
    let accept_by = |citizen: &str, more: &[&str]| {
        let output = run(&[&["accept", &invitation, "--json", "--dir", citizen], more].concat());
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (output.status.code(), answer, String::from_utf8(output.stderr).unwrap())
    };
    let accept = |more: &[&str]| accept_by(&citizen, more);
    let (code, answer, said) = accept(&[]);
    assert_eq!((code, &answer), (Some(2), &Value::Null), "nobody could be asked");
    assert!(said.contains("--yes"), "{said}");
    let (code, answer, said) = accept(&["--yes"]);
    assert_eq!((code, &answer["state"]), (Some(0), &"connected".into()), "{answer} {said}");
    // For people one account below the other, not all of them in one line of JSON.
    let listed = run(&["mediator", "accounts", "--dir", &mediator_dir]);
    let listed = String::from_utf8(listed.stdout).unwrap();
    let lines: Vec<&str> = listed.lines().collect();
    assert!(lines[0].starts_with("accounts       1") && lines[1].starts_with("  bytes="), "{listed}");
    drop(shop);
    let (code, answer, said) = accept(&["--yes", "--wait", "2"]);
    assert_eq!((code, &answer["state"]), (Some(0), &"connected".into()), "it stands: {answer} {said}");
    let other = node(&folder.path().join("other"), "citizen", &flags, "");
    let _other_phone = EINMAL.start(&other, &[]);
    until("the other phone has its account", || {
        accept_by(&other, &["--yes", "--wait", "0"]).1 != Value::Null
    });
    let (code, answer, said) = accept_by(&other, &["--yes", "--wait", "2"]);
    assert_eq!((code, &answer["state"]), (Some(1), &"connecting".into()), "{answer} {said}");
}

fn some_person(wetzlar: &str) -> String {
    let register = std::fs::read_to_string(format!("{wetzlar}/einwohner.csv")).unwrap();
    let line = register.lines().nth(1).unwrap();
    line.split([';', ',']).next().unwrap().trim_matches('"').to_owned()
}

#[track_caller]
fn until(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "it never comes true that {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn requests_beyond_the_rate_are_told_when_to_come_again_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let limits = "[limits]\nmax_requests_per_second = 2\nloopback = true";
    let dir = node(folder.path(), "mediator", &["--listen", "127.0.0.1:0"], "");
    let path = Path::new(&dir).join("einmal.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("[limits]\nloopback = false", limits)).unwrap();
    let mediator = EINMAL.start(&dir, &[]);
    let post = "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}";
    let answers: Vec<String> = (0..12).map(|_| http(mediator.said("listen"), post)).collect();
    let refused = answers.iter().filter(|answer| answer.starts_with("HTTP/1.1 429")).count();
    assert!(refused >= 4, "{answers:?}");
    assert!(answers.iter().any(|answer| answer.to_lowercase().contains("retry-after: 1")));
    let metrics = http(mediator.said("listen"), &format!("GET /metrics{GET}"));
    assert!(metrics.contains("einmal_refused_total{reason=\"Rate\"}"), "{metrics}");
}

#[test]
fn health_and_readiness_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let dir = node(folder.path(), "mediator", &["--listen", "127.0.0.1:0"], "");
    let mediator = EINMAL.start(&dir, &[]);
    for path in ["/healthz", "/readyz"] {
        let answer = http(mediator.said("listen"), &format!("GET {path}{GET}"));
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }
    let elsewhere = http(mediator.said("listen"), &format!("GET /elsewhere{GET}"));
    assert!(elsewhere.starts_with("HTTP/1.1 404"), "{elsewhere}");
    // A person who opens an invitation in a browser learns what it is, and nothing that stands in it comes back.
    let invited = http(mediator.said("listen"), &format!("GET /?x=1&_oob=c2VjcmV0{GET}"));
    assert!(invited.starts_with("HTTP/1.1 200") && invited.contains("einmal accept"), "{invited}");
    assert!(!invited.contains("c2VjcmV0") && invited.contains("text/plain"), "{invited}");
}
