//! What a command of the node's own user brings, and the refusals all roles share.

use serde_json::{Value, json};

use super::{Failure, Shared};

/// Reads a member of a command's input.
pub(crate) fn text<'v>(input: &'v Value, name: &str) -> Result<&'v str, Failure> {
    input.get(name).and_then(Value::as_str).ok_or_else(|| Failure::user(format!("`{name}` is missing")))
}

/// A list as its user sees it; where something is left out, its last element says what, under `left_out`.
pub(crate) fn list_of(mut shown: Vec<Value>, left_out: Option<String>) -> Value {
    shown.extend(left_out.map(|left_out| json!({"left_out": left_out})));
    Value::Array(shown)
}

/// The answer to a command this role does not know.
pub(crate) fn unknown_command(shared: &Shared, name: &str) -> Failure {
    Failure::user(format!("a {} has no command `{name}`; see: einmal --help", shared.config.role))
}
