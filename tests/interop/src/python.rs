//! A peer in another process: one JSON request per line, one JSON answer per line.

use std::{
    cell::RefCell,
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use einmal_keys::Jwk;
use serde_json::{Value, json};

use crate::{Order, Peer, Stage, Unpacked};

/// A script in `python/` and the variable that names its interpreter, which `run.sh` prepares.
#[derive(Clone, Copy, Debug)]
struct Script {
    interpreter: &'static str,
    file: &'static str,
}

const DIDCOMM: Script = Script { interpreter: "EINMAL_INTEROP_PYTHON", file: "didcomm_0_3_2.py" };
const MESSAGING: Script =
    Script { interpreter: "EINMAL_INTEROP_MESSAGING_PYTHON", file: "messaging_0_1_1.py" };

/// A running Python library.
#[derive(Debug)]
pub struct PythonPeer(RefCell<Running>);

#[derive(Debug)]
struct Running {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl PythonPeer {
    /// Starts `didcomm` 0.3.2 with the documents and secrets of all parties; `None` without an environment for it.
    ///
    /// # Panics
    ///
    /// If the interpreter does not start or refuses its input.
    #[must_use]
    pub fn start(stage: &Stage) -> Option<Self> {
        let documents: Vec<&Value> = stage.parties().iter().map(|party| &party.document).collect();
        let secrets = stage.parties().into_iter().flat_map(|party| party.secrets.clone());
        Self::spawn(DIDCOMM, &documents, secrets)
    }

    /// Starts `didcomm` 0.3.2 with these documents and secrets. `None` as above.
    ///
    /// # Panics
    ///
    /// As above.
    #[must_use]
    pub fn start_with(
        documents: &[&Value],
        secrets: impl IntoIterator<Item = (String, Jwk)>,
    ) -> Option<Self> {
        Self::spawn(DIDCOMM, documents, secrets)
    }

    /// Starts `didcomm-messaging` 0.1.1 with secrets; it resolves did:peer by itself. `None` as above.
    ///
    /// # Panics
    ///
    /// As above.
    #[must_use]
    pub fn start_messaging(secrets: impl IntoIterator<Item = (String, Jwk)>) -> Option<Self> {
        Self::spawn(MESSAGING, &[], secrets)
    }

    fn spawn(
        script: Script,
        documents: &[&Value],
        secrets: impl IntoIterator<Item = (String, Jwk)>,
    ) -> Option<Self> {
        let Some(interpreter) = std::env::var_os(script.interpreter) else {
            eprintln!("skipped: {} is not set; use tests/interop/run.sh", script.interpreter);
            return None;
        };
        let mut child = Command::new(interpreter)
            .arg(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("python").join(script.file))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the interpreter starts");
        let (requests, answers) = (child.stdin.take(), child.stdout.take());
        let running = Running {
            child,
            requests: requests.expect("piped"),
            answers: BufReader::new(answers.expect("piped")),
        };
        let peer = Self(RefCell::new(running));
        let secrets: Vec<Value> =
            secrets.into_iter().map(|(kid, jwk)| json!({"kid": kid, "jwk": jwk})).collect();
        peer.ask(&json!({"op": "load", "documents": documents, "secrets": secrets}));
        Some(peer)
    }

    fn ask(&self, request: &Value) -> Value {
        let mut running = self.0.borrow_mut();
        writeln!(running.requests, "{request}").expect("the peer reads");
        let mut line = String::new();
        running.answers.read_line(&mut line).expect("the peer answers");
        let answer: Value = serde_json::from_str(&line).expect("the peer answers in JSON");
        assert!(answer.get("error").is_none(), "{answer} to {request}");
        answer
    }
}

impl Drop for PythonPeer {
    fn drop(&mut self) {
        let running = self.0.get_mut();
        // It ends anyway once its input is closed; an error means it is already gone.
        let _ = running.child.kill();
        let _ = running.child.wait();
    }
}

fn packed(answer: &Value) -> String {
    answer["packed"].as_str().expect("a packed message").to_owned()
}

impl Peer for PythonPeer {
    fn pack(&self, order: &Order<'_>) -> String {
        packed(&self.ask(&json!({
            "op": "pack", "message": order.message, "from": order.from, "signer": order.signer, "to": order.to,
            "enc": order.enc, "hide_sender": order.hide_sender, "forward": order.forward,
        })))
    }

    fn sign(&self, message: &Value, kid: &str) -> String {
        packed(&self.ask(&json!({"op": "sign", "message": message, "kid": kid})))
    }

    fn unpack(&self, packed: &str) -> Unpacked {
        let answer = self.ask(&json!({"op": "unpack", "packed": packed}));
        let text = |name: &str| answer[name].as_str().map(str::to_owned);
        Unpacked {
            message: answer["message"].clone(),
            sender: text("sender"),
            signer: text("signer"),
            rotation_key: text("rotation_key"),
        }
    }
}
