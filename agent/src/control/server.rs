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

use super::{Answer, MAX_LINE, Request, socket_path};
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
    let answer = match serde_json::from_slice::<Request>(&line) {
        Ok(request) => match run(&node, &request).instrument(log::request("command")).await {
            Ok(value) => Answer::Ok(value),
            Err(failure) => Answer::Error(failure.to_string()),
        },
        Err(_) => Answer::Error("the request does not parse; use the `einmal` of the same version".into()),
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
async fn back_up(node: &Arc<Node>, input: &Value) -> Result<Value, Failure> {
    let member = |name: &str| input.get(name).and_then(Value::as_str).map(str::to_owned);
    let (Some(dir), Some(out), Some(passphrase)) = (member("dir"), member("out"), member("passphrase"))
    else {
        return Err(Failure::user("a backup needs `dir`, `out` and `passphrase`"));
    };
    let node = Arc::clone(node);
    let write = move || {
        let shared = node.shared();
        let mail = (shared.config.role == Role::Mediator).then(|| shared.mail.as_ref());
        let passphrase = backup::check_passphrase(passphrase)?;
        let (dir, out) = (Path::new(&dir), Path::new(&out));
        backup::backup_running(dir, shared.db.store().as_ref(), mail, out, passphrase)
    };
    let written = tokio::task::spawn_blocking(write).await.map_err(Failure::internal)??;
    Ok(json!({"records": written.records, "letters": written.letters}))
}

/// Runs a command; with `wait_seconds` in its input, again and again until its answer is no longer `pending`.
async fn run(node: &Arc<Node>, request: &Request) -> Result<Value, Failure> {
    if request.command == "backup" {
        return back_up(node, &request.input).await;
    }
    let wait = request.input.get("wait_seconds").and_then(Value::as_u64).unwrap_or(0).min(MAX_WAIT_SECS);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(wait);
    loop {
        let value = node.command(&request.command, &request.input).await?;
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

    #[test]
    fn answer_that_is_too_long_is_told_and_not_cut() {
        let answer = |length: usize| line_of(&Answer::Ok("x".repeat(length).into())).unwrap();
        let (short, long) = (answer(10), answer(MAX_LINE));
        assert!(matches!(serde_json::from_slice(&short), Ok(Answer::Ok(_))));
        assert!(long.len() < MAX_LINE && long.ends_with(b"\n"));
        assert!(matches!(serde_json::from_slice(&long), Ok(Answer::Error(said)) if said.contains("bytes")));
    }
}
