//! What a verb asks of the running node, and its form on the socket.

use std::{fmt, path::PathBuf};

use age::secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::command::{Command, CommandError, members, read_input};

/// The name by which a backup is asked for.
const BACKUP: &str = "backup";
/// Stands in the input beside what the command takes, and is about the request.
const WAIT_SECONDS: &str = "wait_seconds";

/// A request of the node's own user. It may hold personal data and is never logged.
#[derive(Debug)]
pub struct Request {
    /// What is to be done.
    pub asked: Asked,
    /// Seconds to go on asking while the answer is `pending`.
    pub wait_seconds: u64,
}

/// What is to be done.
#[derive(Debug)]
pub enum Asked {
    /// By the node, like any other event.
    Command(Command),
    /// Beside it, while everything goes on.
    Backup(BackUp),
}

/// A backup of the running node.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackUp {
    /// The node's folder.
    pub dir: PathBuf,
    /// The file that is to be written.
    pub out: PathBuf,
    /// The passphrase it is sealed by.
    #[serde(serialize_with = "expose", deserialize_with = "conceal")]
    pub passphrase: SecretString,
}

impl fmt::Debug for BackUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackUp").field("dir", &self.dir).field("out", &self.out).finish_non_exhaustive()
    }
}

fn expose<S: Serializer>(passphrase: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(passphrase.expose_secret())
}

fn conceal<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    String::deserialize(deserializer).map(SecretString::from)
}

/// A request whose command is not read yet. A further member would be an input in the wrong place.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    command: String,
    #[serde(default)]
    input: Value,
}

/// What an input says about the request.
#[derive(Deserialize)]
struct Patience {
    #[serde(default)]
    wait_seconds: Option<u64>,
}

/// A request that cannot be read. Nothing was done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// It is none.
    #[error(
        "the request does not parse; it is {{\"command\": NAME, \"input\": {{…}}}} and nothing else, by the `einmal` of the same version"
    )]
    Malformed,
    /// Its command is none.
    #[error(transparent)]
    Command(#[from] CommandError),
}

impl Request {
    /// A request that is answered at once.
    pub fn now(command: impl Into<Command>) -> Self {
        Self::waiting(command, 0)
    }

    /// A request that is answered when the answer is no longer `pending`, or after so many seconds.
    pub fn waiting(command: impl Into<Command>, wait_seconds: u64) -> Self {
        Self { asked: Asked::Command(command.into()), wait_seconds }
    }

    /// Reads what came over the socket.
    ///
    /// # Errors
    ///
    /// [`RequestError`], which names the fault.
    pub fn read(line: &[u8]) -> Result<Self, RequestError> {
        let Envelope { command, mut input } =
            serde_json::from_slice(line).map_err(|_| RequestError::Malformed)?;
        let wait = input.as_object_mut().and_then(|members| members.remove(WAIT_SECONDS));
        let about: Map<String, Value> =
            wait.map(|wait| (WAIT_SECONDS.to_owned(), wait)).into_iter().collect();
        let Patience { wait_seconds } = read_input(&command, &about)?;
        let asked = if command == BACKUP {
            let nothing = Map::new();
            Asked::Backup(read_input(&command, members(&command, &input)?.unwrap_or(&nothing))?)
        } else {
            Asked::Command(Command::read(&command, &input)?)
        };
        Ok(Self { asked, wait_seconds: wait_seconds.unwrap_or(0) })
    }

    /// Its form on the socket, without the end of the line.
    ///
    /// # Errors
    ///
    /// [`serde_json::Error`] if a path is no text.
    pub fn to_json(&self) -> Result<Value, serde_json::Error> {
        let mut request = match &self.asked {
            Asked::Command(command) => serde_json::to_value(command)?,
            Asked::Backup(backup) => json!({"command": BACKUP, "input": serde_json::to_value(backup)?}),
        };
        if self.wait_seconds > 0
            && let Some(input) = request.get_mut("input").and_then(Value::as_object_mut)
        {
            input.insert(WAIT_SECONDS.to_owned(), self.wait_seconds.into());
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Accept, CitizenCommand};

    fn refused(request: &Value) -> String {
        Request::read(request.to_string().as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn time_to_wait_stands_in_the_input_and_is_of_the_request() {
        let accept = CitizenCommand::Accept(Accept { url: "https://x.example".into(), ..Accept::default() });
        let written = Request::waiting(accept, 5).to_json().unwrap();
        let input = json!({"url": "https://x.example", "yes": false, "mediator": false, "wait_seconds": 5});
        assert_eq!(written, json!({"command": "accept", "input": input}));
        let read = Request::read(written.to_string().as_bytes()).unwrap();
        assert_eq!((read.wait_seconds, read.to_json().unwrap()), (5, written));
        for wait in [json!("5"), json!(-5), json!(true)] {
            let said = refused(&json!({"command": "status", "input": {"wait_seconds": wait}}));
            assert!(said.contains("`status` was not done") && said.contains("`wait_seconds`"), "{said}");
        }
    }

    #[test]
    fn command_without_input_is_taken_and_one_with_further_members_is_not() {
        for request in [json!({"command": "status"}), json!({"command": "status", "input": null})] {
            let read = Request::read(request.to_string().as_bytes()).unwrap();
            assert!(matches!(read.asked, Asked::Command(_)) && read.wait_seconds == 0);
        }
        // An input in the wrong place would count as none.
        let misplaced = json!({"command": "issued", "arguments": {"person": "W-1"}});
        for request in [json!({"input": {}}), json!({"command": 7}), json!("status"), misplaced] {
            assert!(refused(&request).contains("does not parse"));
        }
    }

    #[test]
    fn backup_comes_back_as_it_was_written_and_keeps_its_passphrase_to_itself() {
        let passphrase = "seven geese under one umbrella";
        let backup =
            BackUp { dir: "city".into(), out: "out".into(), passphrase: passphrase.to_owned().into() };
        let request = Request { asked: Asked::Backup(backup), wait_seconds: 0 };
        let written = request.to_json().unwrap();
        let input = json!({"dir": "city", "out": "out", "passphrase": passphrase});
        assert_eq!(written, json!({"command": "backup", "input": input}));
        let read = Request::read(written.to_string().as_bytes()).unwrap();
        assert_eq!(read.to_json().unwrap(), written);
        assert!(!format!("{read:?}").contains("geese"));
        let lacking = refused(&json!({"command": "backup", "input": {"dir": "city", "out": "out"}}));
        assert!(lacking.contains("missing field `passphrase`"), "{lacking}");
        let mut longer = written;
        longer["input"]["pass"] = json!("x");
        assert!(refused(&longer).contains("unknown field `pass`"));
    }
}
