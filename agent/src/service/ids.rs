//! Ids of templates and people: all are texts, but none can be mistaken for another.

use std::{borrow::Borrow, fmt};

use einmal_register::PersonId;
use serde::{Deserialize, Serialize};

use crate::handler::Failure;

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub(crate) struct $name(String);

        impl $name {
            pub(crate) fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

names! {
    /// Id of a credential template.
    TemplateId,
    /// Id of a request template.
    RequestId,
}

/// Parses the id of a person of the register, as the node's user writes it.
///
/// # Errors
///
/// [`Failure::User`] if no person can have this id.
pub(crate) fn person_id(text: &str) -> Result<PersonId, Failure> {
    PersonId::parse(text).map_err(|error| Failure::user(error.to_string()))
}

/// A person's id in a record: its text, or `null` for nobody.
pub(crate) mod stored_person {
    use einmal_register::PersonId;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(person: &Option<PersonId>, to: S) -> Result<S::Ok, S::Error> {
        person.as_ref().map(PersonId::as_str).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PersonId>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| PersonId::parse(&text)).transpose().map_err(D::Error::custom)
    }
}
