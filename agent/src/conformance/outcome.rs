//! The outcome of checking a requirement: met, not met, or unknown because nothing can be concluded.

use std::fmt;

/// Why a requirement was not found to be met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// Nothing came, or a refusal as from a target that does not speak the protocol. It is not met.
    Silent(String),
    /// Refused, for whatever reason. It is not met.
    Refused(String),
    /// Found to be otherwise. It is not met.
    Broken(String),
    /// Nothing can be concluded: the request or its answer was lost, or something needed first failed.
    Unknown(String),
}

/// The result of a check.
pub(super) type Outcome<T = ()> = Result<T, Problem>;

impl Problem {
    /// What happened, in words.
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Silent(text) | Self::Refused(text) | Self::Broken(text) | Self::Unknown(text) => text,
        }
    }

    /// Whether nothing can be concluded.
    pub(super) fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown(_))
    }

    /// The same kind of problem, in other words.
    pub(super) fn reworded(self, words: impl FnOnce(String) -> String) -> Self {
        match self {
            Self::Silent(text) => Self::Silent(words(text)),
            Self::Refused(text) => Self::Refused(words(text)),
            Self::Broken(text) => Self::Broken(words(text)),
            Self::Unknown(text) => Self::Unknown(words(text)),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl From<String> for Problem {
    fn from(text: String) -> Self {
        Self::Broken(text)
    }
}

impl From<&str> for Problem {
    fn from(text: &str) -> Self {
        Self::Broken(text.to_owned())
    }
}

/// A preparatory step: its failure is judged elsewhere, and says nothing about what it was to prepare.
pub(super) trait Needed<T> {
    /// The result, or that nothing can be concluded without it.
    fn needed(self, what: &str) -> Outcome<T>;
}

impl<T, P: Into<Problem>> Needed<T> for Result<T, P> {
    fn needed(self, what: &str) -> Outcome<T> {
        self.map_err(|problem| match problem.into() {
            known @ Problem::Unknown(_) => known,
            other => Problem::Unknown(format!("{what}: {other}")),
        })
    }
}

/// Succeeds if `fact` holds; otherwise the problem in words.
pub(super) fn holds(fact: bool, otherwise: impl FnOnce() -> String) -> Outcome {
    if fact { Ok(()) } else { Err(Problem::Broken(otherwise())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_needed_first_and_failed_says_nothing_about_the_rest() {
        let failed: Result<(), Problem> = Err(Problem::Broken("no account".into()));
        assert_eq!(failed.needed("an account"), Err(Problem::Unknown("an account: no account".into())));
        let lost: Result<(), Problem> = Err(Problem::Unknown("lost".into()));
        assert_eq!(lost.needed("an account"), Err(Problem::Unknown("lost".into())));
    }
}
