//! Shared by all TOML files: reading them, naming faults, and labels in several languages.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{Column, ColumnsError, MAX_PATH_DEPTH};

/// Longest configuration file, in bytes.
pub const MAX_CONFIG_BYTES: usize = 64 * 1024;

/// Longest text of a label, purpose or rule, in bytes.
pub const MAX_LABEL_BYTES: usize = 600;

/// Longest id, claim name, code or URN, in bytes.
pub(crate) const MAX_NAME_BYTES: usize = 128;

/// Most languages of one label.
const MAX_LANGUAGES: usize = 32;

/// A configuration file was refused: which one, where in it, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {place}: {problem}")]
pub struct ConfigError {
    /// The label the caller gave the file, usually its path.
    pub file: String,
    /// Where.
    pub place: Place,
    /// What is wrong and how to fix it.
    pub problem: Problem,
}

/// A place in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Place {
    /// The file as a whole.
    #[error("the file")]
    File,
    /// A position in the text, both numbers from 1; the column counts characters.
    #[error("line {line}, column {column}")]
    Position {
        /// Line.
        line: usize,
        /// Character of the line.
        column: usize,
    },
    /// A member by its path, such as `claims[3].path`; entries of a list count from 0.
    #[error("{0}")]
    Key(String),
}

/// What is wrong with a configuration file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// Larger than [`MAX_CONFIG_BYTES`].
    #[error("larger than {MAX_CONFIG_BYTES} bytes; divide it")]
    TooLarge,
    /// Not TOML, an unknown or missing member, or a value of the wrong type. In the parser's words.
    #[error("{message}")]
    Syntax {
        /// The parser's message; names members and permitted values.
        message: String,
    },
    /// An id or code with characters other than lower-case letters, digits, `-` and `_`.
    #[error("must be 1 to {MAX_NAME_BYTES} lower-case ASCII letters, digits, - or _")]
    Name,
    /// A `vct` that is not a URN or HTTPS URL.
    #[error("must be a URN (urn:..) or an https:// URL of at most {MAX_NAME_BYTES} bytes without blanks")]
    CredentialType,
    /// A text that is empty, blank or longer than [`MAX_LABEL_BYTES`].
    #[error("must be 1 to {MAX_LABEL_BYTES} bytes of text")]
    Text,
    /// A label without German or English, or with a key that is not a language code.
    #[error("must have `de` and `en`, and only ISO 639 codes of two or three letters beside them")]
    Languages,
    /// A number outside its range.
    #[error("must be {min} to {max}")]
    Range {
        /// Lowest value.
        min: u32,
        /// Highest value.
        max: u32,
    },
    /// A list that is empty or too long.
    #[error("must have 1 to {max} entries")]
    Count {
        /// Most entries.
        max: usize,
    },
    /// An entry that repeats an earlier one.
    #[error("is the same as {first}; remove one of them")]
    Duplicate {
        /// Path of the earlier entry.
        first: String,
    },
    /// A claim inside another claim's value.
    #[error("lies inside the value of {other}, or that one inside this; give each claim a place of its own")]
    Overlap {
        /// Path of the earlier claim.
        other: String,
    },
    /// A claim path that is empty, too deep, or has an unusable name.
    #[error(
        "must be 1 to {MAX_PATH_DEPTH} names of 1 to {MAX_NAME_BYTES} bytes; \"_sd\", \"_sd_alg\" and \"...\" are taken"
    )]
    Path,
    /// A claim was made selectively disclosable that a verifier must always see.
    #[error("`{name}` must never be selectively disclosable, and the issuer sets it; remove the claim")]
    NeverDisclosable {
        /// The name.
        name: String,
    },
    /// A claim that the issuer sets.
    #[error("`{name}` is set by the issuer; remove the claim")]
    SetByIssuer {
        /// The name.
        name: String,
    },
    /// A claim with no source or more than one.
    #[error("must have exactly one of column, rule, age_bands, value, presented, generated")]
    OneSource,
    /// A column that no credential may carry.
    #[error("`{column}` must not go into a credential; remove the claim")]
    Unclaimable {
        /// The column.
        column: Column,
    },
    /// `years` is missing for the age rule, or present for another rule.
    #[error("`years` belongs to the rule age_equal_or_over, and only there")]
    Years,
    /// Age bands that do not cover every age exactly once.
    #[error("must be at most 16 bands of rising `below`, the last without `below`")]
    AgeBands,
    /// A fixed value that is neither text, whole number nor boolean.
    #[error("must be a text, a whole number or a boolean")]
    Scalar,
    /// `each` for a source that is not a list.
    #[error("`each` is for lists (column nationalities); use selective or always")]
    NotAList,
    /// Revocation reasons without a status list, or a status list without reasons.
    #[error("a status list and revocation reasons need each other; give both or neither")]
    StatusWithoutReasons,
    /// Not the municipality key of a German state.
    #[error("must be eight digits, the first two those of a German state")]
    MunicipalityKey,
    /// Not a region, or not that of the municipality key.
    #[error(
        "must be the ISO 3166-2 code of a German state, and that of the municipality key if there is one"
    )]
    Region,
    /// A default language for which the city has no name.
    #[error("must be one of the languages of `name`")]
    Language,
    /// A time zone by a name that none has.
    #[error(
        "must be a name of the IANA time zone database such as Europe/Berlin; without it days are those of UTC"
    )]
    TimeZone,
    /// An issuer that is no DID.
    #[error("must be a DID; leave it out and let the node make one")]
    Issuer,
    /// An id inside a query with characters other than letters, digits, `-` and `_`.
    #[error("must be 1 to {MAX_NAME_BYTES} ASCII letters, digits, - or _")]
    QueryId,
    /// A query whose sets name a credential or claim that the query does not have.
    #[error("names `{id}`, which this query does not have; name an id of this query")]
    UnknownReference {
        /// The id.
        id: String,
    },
    /// `claim_sets` refers to claims by id, and there are none.
    #[error("claim_sets needs claims, each with an id")]
    SetsWithoutClaims,
    /// The columns of the register are unusable.
    #[error(transparent)]
    Columns(#[from] ColumnsError),
}

/// A text in several languages; German and English are always present.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Label(BTreeMap<String, String>);

impl Label {
    /// The text in `language` (ISO 639, such as `tr`), else in English.
    pub fn text(&self, language: &str) -> &str {
        self.0.get(language).or_else(|| self.0.get("en")).map_or("", String::as_str)
    }

    /// Every language with its text.
    pub fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(language, text)| (language.as_str(), text.as_str()))
    }
}

/// Checks one file and names its faults.
pub(crate) struct Checker<'a> {
    file: &'a str,
}

impl<'a> Checker<'a> {
    /// Reads `text` into a raw structure, whose `deny_unknown_fields` refuses unknown members.
    pub(crate) fn parse<T: DeserializeOwned>(file: &'a str, text: &str) -> Result<(Self, T), ConfigError> {
        let error = |place, problem| ConfigError { file: file.to_owned(), place, problem };
        if text.len() > MAX_CONFIG_BYTES {
            return Err(error(Place::File, Problem::TooLarge));
        }
        let raw = toml::from_str(text).map_err(|cause| {
            let place = cause.span().map_or(Place::File, |span| position(text, span.start));
            error(place, Problem::Syntax { message: cause.message().to_owned() })
        })?;
        Ok((Self { file }, raw))
    }

    pub(crate) fn refuse(&self, key: impl Into<String>, problem: Problem) -> ConfigError {
        ConfigError { file: self.file.to_owned(), place: Place::Key(key.into()), problem }
    }

    pub(crate) fn demand(
        &self,
        holds: bool,
        key: impl Into<String>,
        problem: Problem,
    ) -> Result<(), ConfigError> {
        if holds { Ok(()) } else { Err(self.refuse(key, problem)) }
    }

    pub(crate) fn name(&self, key: &str, text: &str) -> Result<(), ConfigError> {
        let permitted = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        let holds = (1..=MAX_NAME_BYTES).contains(&text.len()) && text.bytes().all(permitted);
        self.demand(holds, key, Problem::Name)
    }

    pub(crate) fn label(&self, key: &str, label: &Label) -> Result<(), ConfigError> {
        let language =
            |code: &String| (2..=3).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_lowercase());
        let complete = ["de", "en"].iter().all(|code| label.0.contains_key(*code));
        let holds = complete && label.0.len() <= MAX_LANGUAGES && label.0.keys().all(language);
        self.demand(holds, key, Problem::Languages)?;
        for (language, text) in &label.0 {
            self.text(&format!("{key}.{language}"), text)?;
        }
        Ok(())
    }

    pub(crate) fn text(&self, key: &str, text: &str) -> Result<(), ConfigError> {
        self.demand(!text.trim().is_empty() && text.len() <= MAX_LABEL_BYTES, key, Problem::Text)
    }

    pub(crate) fn count(&self, key: &str, len: usize, max: usize) -> Result<(), ConfigError> {
        self.demand((1..=max).contains(&len), key, Problem::Count { max })
    }

    pub(crate) fn range(&self, key: &str, value: u32, min: u32, max: u32) -> Result<(), ConfigError> {
        self.demand((min..=max).contains(&value), key, Problem::Range { min, max })
    }
}

fn position(text: &str, offset: usize) -> Place {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    Place::Position { line, column }
}
