//! Commands as a test writes them: by name, with their input as JSON.

use std::sync::Arc;

use einmal::{
    command::Command,
    node::{Failure, Node},
};
use serde_json::Value;

/// A node that takes commands by their names, read as the control socket reads them.
pub trait ByName {
    /// Carries out the command of that name.
    ///
    /// # Errors
    ///
    /// [`Failure`], also if there is no such command or this is no input of it.
    fn by_name(&self, name: &str, input: &Value) -> impl Future<Output = Result<Value, Failure>>;
}

impl ByName for Arc<Node> {
    async fn by_name(&self, name: &str, input: &Value) -> Result<Value, Failure> {
        self.command(&Command::read(name, input)?).await
    }
}
