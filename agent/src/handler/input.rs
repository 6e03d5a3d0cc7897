//! Lists in the answers to the node's own user, and the refusals of commands that roles share.

use serde_json::{Value, json};

use super::{Failure, Shared};
use crate::command::{Command, CommandError, Invite};

/// Most bytes of JSON in one list: all lists of an answer share one line of the control socket.
const MAX_LIST_BYTES: usize = 2 * 1024 * 1024;

/// A list in an answer that takes nothing more once it is full, and counts what it left out.
#[derive(Debug)]
pub(crate) struct BoundedList {
    most: usize,
    shown: Vec<Value>,
    bytes: usize,
    left: u64,
}

impl Default for BoundedList {
    fn default() -> Self {
        Self::of(usize::MAX)
    }
}

impl BoundedList {
    /// A list of `most` elements at most.
    pub(crate) fn of(most: usize) -> Self {
        Self { most, shown: Vec::new(), bytes: 0, left: 0 }
    }

    /// Takes an element if there is room.
    pub(crate) fn push(&mut self, value: Value) {
        self.bytes = self.bytes.saturating_add(value.to_string().len() + 1);
        if self.left > 0 || self.bytes > MAX_LIST_BYTES || self.shown.len() >= self.most {
            self.left += 1;
        } else {
            self.shown.push(value);
        }
    }

    /// Whether something was left out.
    pub(crate) fn is_full(&self) -> bool {
        self.left > 0
    }

    /// The list as its user sees it. If something was left out, a last element says so under `left_out`, in the words
    /// that the function `left_out` has for that number.
    pub(crate) fn into_value(mut self, left_out: impl FnOnce(u64) -> String) -> Value {
        if self.left > 0 {
            self.shown.push(json!({"left_out": left_out(self.left)}));
        }
        Value::Array(self.shown)
    }
}

impl From<CommandError> for Failure {
    fn from(error: CommandError) -> Self {
        Self::user(error.to_string())
    }
}

/// The answer to a command of another role.
pub(crate) fn foreign_command(shared: &Shared, command: &Command) -> Failure {
    let (role, name) = (shared.config.role, command.name());
    Failure::user(format!("a {role} has no command `{name}`; see: einmal --help"))
}

/// Refuses an invitation for a person of a register, which only a city has: it would be one for anybody.
pub(crate) fn refuse_person(shared: &Shared, invite: &Invite) -> Result<(), Failure> {
    if invite.person.is_none() {
        return Ok(());
    }
    let role = shared.config.role;
    Err(Failure::user(format!("a {role} has no register and invites no person of it; leave out --person")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_stays_within_its_bytes_keeps_the_first_and_counts_the_rest() {
        let mut list = BoundedList::default();
        for number in 0..4 {
            list.push(json!([number, "x".repeat(MAX_LIST_BYTES / 3)]));
        }
        list.push(json!(4));
        assert!(list.is_full());
        let value = list.into_value(|left| format!("{left} more"));
        let shown = value.as_array().unwrap();
        assert_eq!((shown.len(), &shown[1][0], &shown[2]["left_out"]), (3, &json!(1), &json!("3 more")));
        let mut short = BoundedList::default();
        short.push(json!(1));
        assert_eq!(short.into_value(|_| "more".into()), json!([1]));
        let mut few = BoundedList::of(1);
        few.push(json!(1));
        assert!(!few.is_full());
        few.push(json!(2));
        assert_eq!(few.into_value(|left| left.to_string()), json!([1, {"left_out": "1"}]));
    }
}
