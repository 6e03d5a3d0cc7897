//! What the node's own user may ask of it: commands with typed inputs, and how they are read from JSON and written.
//!
//! A command comes as `{"command": NAME, "input": {…}}`. Nothing is guessed: an input with a member of another type, or
//! one that the command does not take, is no command at all.

mod groups;
mod input;

use std::cell::Cell;

use serde::{Deserialize, Serialize, de::value::MapDeserializer};
use serde_json::{Map, Value};

pub use self::{
    groups::{CitizenCommand, CityCommand, CommonCommand, MediatorCommand, MerchantCommand},
    input::{
        Accept, Card, Decide, DropId, Invite, Nothing, OfPerson, Offer, PeerName, Person, Revoke, SendText,
        Template, Thread, Unbind,
    },
};

/// A command of the node's own user, by who understands it.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Command {
    /// Every role does.
    Common(CommonCommand),
    /// A city does.
    City(CityCommand),
    /// A merchant does.
    Merchant(MerchantCommand),
    /// A mediator does.
    Mediator(MediatorCommand),
    /// A citizen does.
    Citizen(CitizenCommand),
}

/// A command that cannot be read. Nothing was done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// No role understands it.
    #[error("there is no command `{name}`; see: einmal --help")]
    Unknown {
        /// The name it was given.
        name: String,
    },
    /// Its input is not what it takes.
    #[error("`{command}` was not done, for its input is wrong: {problem}; correct that, see: einmal --help")]
    Input {
        /// Its name.
        command: String,
        /// Which member is at fault, and what it must be.
        problem: String,
    },
}

impl Command {
    /// Reads a command from its name and its input, an object or nothing.
    ///
    /// # Errors
    ///
    /// [`CommandError`], which names the fault.
    pub fn read(name: &str, input: &Value) -> Result<Self, CommandError> {
        let nothing = Map::new();
        let input = members(name, input)?.unwrap_or(&nothing);
        CommonCommand::read(name, input)
            .map(|read| read.map(Self::Common))
            .or_else(|| Some(CityCommand::read(name, input)?.map(Self::City)))
            .or_else(|| Some(MerchantCommand::read(name, input)?.map(Self::Merchant)))
            .or_else(|| Some(MediatorCommand::read(name, input)?.map(Self::Mediator)))
            .or_else(|| Some(CitizenCommand::read(name, input)?.map(Self::Citizen)))
            .unwrap_or_else(|| Err(CommandError::Unknown { name: name.to_owned() }))
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Common(command) => command.name(),
            Self::City(command) => command.name(),
            Self::Merchant(command) => command.name(),
            Self::Mediator(command) => command.name(),
            Self::Citizen(command) => command.name(),
        }
    }
}

/// The members of an input; `None` if there is no input.
///
/// # Errors
///
/// [`CommandError::Input`] if it is something else than an object.
pub(crate) fn members<'v>(
    command: &str,
    input: &'v Value,
) -> Result<Option<&'v Map<String, Value>>, CommandError> {
    match input {
        Value::Null => Ok(None),
        Value::Object(members) => Ok(Some(members)),
        _ => Err(CommandError::Input { command: command.to_owned(), problem: "it is no object".to_owned() }),
    }
}

/// Reads the input of the command of that name.
///
/// # Errors
///
/// [`CommandError::Input`], which names the member at fault.
pub(crate) fn read_input<'v, T: Deserialize<'v>>(
    command: &str,
    input: &'v Map<String, Value>,
) -> Result<T, CommandError> {
    // Of a wrong type serde tells what it is, but not which member it is of: it is the last that was looked at.
    let last = Cell::new("");
    let members = input.iter().inspect(|(name, _)| last.set(name.as_str()));
    T::deserialize(MapDeserializer::new(members.map(|(name, value)| (name.as_str(), value)))).map_err(
        |error: serde_json::Error| {
            let said = error.to_string();
            let names_it = said.starts_with("missing field") || said.starts_with("unknown field");
            let problem = if names_it { said } else { format!("`{}`: {said}", last.get()) };
            CommandError::Input { command: command.to_owned(), problem }
        },
    )
}

#[cfg(test)]
mod tests;
