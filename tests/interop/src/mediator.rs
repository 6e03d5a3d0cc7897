//! Our mediator as a separate process, used over HTTP like any wallet would.

use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::{Child, ChildStdout, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use serde_json::Value;

/// Longest time to wait for the mediator.
const PATIENCE: Duration = Duration::from_secs(30);

static STARTED: AtomicU32 = AtomicU32::new(0);

/// A running mediator in its own folder; both end when this is dropped.
#[derive(Debug)]
pub struct Mediator {
    child: Child,
    dir: PathBuf,
    about: Value,
    /// Kept open, so that the mediator can continue printing.
    stdout: BufReader<ChildStdout>,
}

impl Mediator {
    /// Starts the command that `EINMAL_BIN` names on a free port; `None` if the variable is not set.
    ///
    /// # Panics
    ///
    /// If the mediator does not start.
    #[must_use]
    pub fn start() -> Option<Self> {
        let Some(binary) = env::var_os("EINMAL_BIN") else {
            eprintln!("skipped: EINMAL_BIN is not set; use tests/interop/run.sh");
            return None;
        };
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let dir = env::temp_dir().join(format!("einmal-interop-{}-{number}", std::process::id()));
        let made = Command::new(&binary)
            .args(["init", "mediator", "--dir"])
            .arg(&dir)
            .output()
            .expect("the command starts");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut child = Command::new(&binary)
            .args(["run", "--json", "--listen", "127.0.0.1:0", "--dir"])
            .arg(&dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the command starts");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        // From here on the process ends with this value, even if its output cannot be parsed.
        let mut mediator = Self { child, dir, about: Value::Null, stdout };
        let mut line = String::new();
        mediator.stdout.read_line(&mut line).expect("the mediator says where it listens");
        mediator.about = serde_json::from_str(&line).expect("in JSON");
        Some(mediator)
    }

    /// What the mediator printed about itself at the start: `did`, `listen`, `invitation` or another member.
    ///
    /// # Panics
    ///
    /// If it did not print that.
    #[must_use]
    pub fn about(&self, member: &str) -> &str {
        self.about[member].as_str().expect("a text")
    }

    /// A number from the mediator's metrics, as written there.
    ///
    /// # Panics
    ///
    /// If there is no HTTP answer, or it has no such number.
    #[must_use]
    pub fn metric(&self, name: &str) -> String {
        let (_, metrics) = self.request("GET /metrics", "", "");
        let figure = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        figure.unwrap_or_else(|| panic!("no {name} in {metrics}")).to_owned()
    }

    /// Posts an envelope; returns the HTTP status and the body of the answer.
    ///
    /// # Panics
    ///
    /// If there is no HTTP answer.
    #[must_use]
    pub fn post(&self, envelope: &str) -> (u16, String) {
        self.request("POST /", "Content-Type: application/didcomm-encrypted+json\r\n", envelope)
    }

    fn request(&self, what: &str, headers: &str, body: &str) -> (u16, String) {
        let address = self.about("listen");
        let mut stream = TcpStream::connect(address).expect("the mediator listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout above zero");
        // HTTP version 1.0: one answer, in one piece, then the end.
        let head =
            format!("{what} HTTP/1.0\r\nHost: {address}\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).expect("the mediator reads");
        stream.write_all(body.as_bytes()).expect("the mediator reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the mediator answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, body.to_owned())
    }
}

impl Drop for Mediator {
    fn drop(&mut self) {
        // An error means that it is already gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}
