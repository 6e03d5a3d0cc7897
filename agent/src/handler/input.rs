//! What a command of the node's own user brings, and the refusals all roles share.

use serde_json::Value;

use super::{Failure, Shared};

/// Reads a member of a command's input.
pub(crate) fn text<'v>(input: &'v Value, name: &str) -> Result<&'v str, Failure> {
    input.get(name).and_then(Value::as_str).ok_or_else(|| Failure::user(format!("`{name}` is missing")))
}

/// The answer to a command this role does not know.
pub(crate) fn unknown_command(shared: &Shared, name: &str) -> Failure {
    Failure::user(format!("a {} has no command `{name}`; see: einmal --help", shared.config.role))
}
