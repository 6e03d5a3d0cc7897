//! How a verb talks to the running node of its folder: one line of JSON each way over a local socket.

mod client;
mod request;
mod server;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use client::{call, is_running};
pub use request::{Asked, BackUp, Request, RequestError};
pub(crate) use server::MAX_WAIT_SECS;
pub use server::{Listener, serve};

use crate::db::digest_id;

/// Longest request or answer, in bytes.
pub const MAX_LINE: usize = 8 * 1024 * 1024;

/// Longest path a Unix socket address holds, with room to spare.
const MAX_SOCKET_PATH: usize = 100;

/// The node's answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// It was done.
    Ok(Value),
    /// It was not done; the text names the remedy.
    Error(String),
}

/// The path of the node's socket for `dir`: in the folder or, if that path is too long for a socket, in the system's
/// temporary folder under a name both sides derive from the folder.
pub fn socket_path(dir: &Path) -> PathBuf {
    let inside = dir.canonicalize().unwrap_or_else(|_| dir.to_owned()).join("control.sock");
    if inside.as_os_str().len() <= MAX_SOCKET_PATH {
        return inside;
    }
    std::env::temp_dir().join(format!("einmal-{}.sock", digest_id(&[&inside.to_string_lossy()])))
}
