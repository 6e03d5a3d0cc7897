//! Asking the running node.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use serde_json::Value;

use super::{Answer, MAX_LINE, Request, socket_path};
use crate::error::SetupError;

/// Asks the node of `dir`; waits for the answer at most `patience` beyond what the request says.
///
/// # Errors
///
/// [`SetupError::NotRunning`], or [`SetupError::Refused`] with the node's own words.
pub fn call(dir: &Path, request: &Request, patience: Duration) -> Result<Value, SetupError> {
    let not_running = |error: io::Error| match error.kind() {
        io::ErrorKind::PermissionDenied => SetupError::Refused(format!(
            "the node in {} may not be asked: {error}; run this as the user the node belongs to",
            dir.display()
        )),
        _ => SetupError::NotRunning { dir: dir.to_owned() },
    };
    let mut stream = UnixStream::connect(socket_path(dir)).map_err(not_running)?;
    let longest = patience.saturating_add(Duration::from_secs(request.wait_seconds));
    stream.set_read_timeout(Some(longest)).map_err(SetupError::internal)?;
    let mut line = request.to_json().map_err(SetupError::internal)?.to_string().into_bytes();
    line.push(b'\n');
    stream.write_all(&line).map_err(not_running)?;
    let mut answer = String::new();
    let limit = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
    BufReader::new(stream.take(limit)).read_line(&mut answer).map_err(|error| {
        SetupError::Refused(format!("the node did not answer ({error}); look into its log"))
    })?;
    match serde_json::from_str(&answer) {
        Ok(Answer::Ok(value)) => Ok(value),
        Ok(Answer::Error(text)) => Err(SetupError::Refused(text)),
        Err(_) => Err(SetupError::Refused("the node stopped before it answered; look into its log".into())),
    }
}

/// Whether a node runs in `dir`.
pub fn is_running(dir: &Path) -> bool {
    UnixStream::connect(socket_path(dir)).is_ok()
}
