//! Answers the verbs for this folder.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
};
use tracing::Instrument;

use super::{Answer, Asked, BackUp, MAX_LINE, Request, socket_path};
use crate::{backup, config::Role, error::SetupError, handler::Failure, log, node::Node};

/// Longest a request may take to arrive.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest a `wait` may last, in seconds.
pub(crate) const MAX_WAIT_SECS: u64 = 600;

/// The socket of a folder; removed when dropped.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    path: PathBuf,
}

impl Listener {
    /// Binds the socket of `dir`, readable by its owner only.
    ///
    /// The caller holds the store's lock, so an existing socket file belongs to a node that died.
    ///
    /// # Errors
    ///
    /// [`SetupError::Internal`] if the socket cannot be made.
    pub fn bind(dir: &Path) -> Result<Self, SetupError> {
        let path = socket_path(dir);
        let _ = std::fs::remove_file(&path);
        let socket = UnixListener::bind(&path).map_err(SetupError::internal)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
            .map_err(SetupError::internal)?;
        Ok(Self { socket, path })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Answers requests until the task is dropped.
pub async fn serve(node: Arc<Node>, listener: Listener) {
    loop {
        match listener.socket.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(answer(Arc::clone(&node), stream));
            }
            Err(error) => {
                tracing::warn!(%error, "the control socket failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(node: Arc<Node>, stream: UnixStream) {
    let (read, mut write) = stream.into_split();
    let mut line = Vec::new();
    let limit = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
    let mut reader = BufReader::new(read.take(limit));
    let arrived = tokio::time::timeout(REQUEST_TIMEOUT, reader.read_until(b'\n', &mut line)).await;
    if !matches!(arrived, Ok(Ok(length)) if length > 0) {
        return;
    }
    let answer = match Request::read(&line) {
        Ok(request) => match run(&node, request).instrument(log::request("command")).await {
            Ok(value) => Answer::Ok(value),
            Err(failure) => Answer::Error(failure.to_string()),
        },
        Err(error) => Answer::Error(error.to_string()),
    };
    if let Some(line) = line_of(&answer) {
        let _ = write.write_all(&line).await;
    }
}

/// An answer as a line. An error replaces one that is too long: a client would cut it and take that for the node's end.
fn line_of(answer: &Answer) -> Option<Vec<u8>> {
    let mut line = serde_json::to_vec(answer).ok()?;
    if line.len() >= MAX_LINE {
        let said = format!("the answer has more than {MAX_LINE} bytes; ask for less");
        line = serde_json::to_vec(&Answer::Error(said)).ok()?;
    }
    line.push(b'\n');
    Some(line)
}

/// Writes a backup while everything else continues.
async fn back_up(node: &Arc<Node>, asked: BackUp) -> Result<Value, Failure> {
    let node = Arc::clone(node);
    let write = move || {
        let shared = node.shared();
        let mail = (shared.config.role == Role::Mediator).then(|| shared.mail.as_ref());
        let passphrase = backup::check_passphrase(asked.passphrase)?;
        backup::backup_running(&asked.dir, shared.db.store().as_ref(), mail, &asked.out, passphrase)
    };
    let written = tokio::task::spawn_blocking(write).await.map_err(Failure::internal)??;
    Ok(json!({"records": written.records, "letters": written.letters, "damaged": written.damaged}))
}

/// Does what is asked; for as long as the request waits, again and again until the answer is no longer `pending`.
async fn run(node: &Arc<Node>, request: Request) -> Result<Value, Failure> {
    let command = match request.asked {
        Asked::Backup(asked) => return back_up(node, asked).await,
        Asked::Command(command) => command,
    };
    let wait = request.wait_seconds.min(MAX_WAIT_SECS);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(wait);
    loop {
        let value = node.command(&command).await?;
        let pending = value.get("pending").and_then(Value::as_bool).unwrap_or(false);
        let left = deadline.saturating_duration_since(tokio::time::Instant::now());
        if !pending || left.is_zero() {
            return Ok(value);
        }
        node.changed(left.min(Duration::from_millis(200))).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::testing;

    /// What a mediator answers to one line.
    async fn told(node: &Arc<Node>, line: &Value) -> Answer {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        answer(Arc::clone(node), theirs).await;
        let mut said = Vec::new();
        ours.read_to_end(&mut said).await.unwrap();
        serde_json::from_slice(&said).unwrap()
    }

    #[tokio::test]
    async fn what_is_no_request_is_answered_by_its_fault() {
        let (node, _) = testing::node(Role::Mediator).await;
        for (line, said) in [
            (json!({"command": "drop", "input": {"id": 7}}), "`id`"),
            (json!({"command": "invite", "input": {"person": 7}}), "`person`"),
            (json!({"command": "queues", "input": {"all": true}}), "unknown field `all`"),
            (json!({"command": "queues", "input": {"wait_seconds": "1"}}), "`wait_seconds`"),
            (json!({"command": "list"}), "a mediator has no command `list`"),
            (json!({"command": "lists"}), "there is no command `lists`"),
            (json!({"input": {}}), "does not parse"),
        ] {
            let Answer::Error(problem) = told(&node, &line).await else { panic!("{line} was taken") };
            assert!(problem.contains(said), "{problem}");
        }
        for line in [json!({"command": "queues"}), json!({"command": "queues", "input": {"wait_seconds": 1}})]
        {
            assert!(matches!(told(&node, &line).await, Answer::Ok(_)), "{line}");
        }
    }

    #[test]
    fn answer_that_is_too_long_is_told_and_not_cut() {
        let answer = |length: usize| line_of(&Answer::Ok("x".repeat(length).into())).unwrap();
        let (short, long) = (answer(10), answer(MAX_LINE));
        assert!(matches!(serde_json::from_slice(&short), Ok(Answer::Ok(_))));
        assert!(long.len() < MAX_LINE && long.ends_with(b"\n"));
        assert!(matches!(serde_json::from_slice(&long), Ok(Answer::Error(said)) if said.contains("bytes")));
    }
}
