//! Why a query is invalid or an answer does not satisfy it.

/// A query was refused, or an answer does not satisfy it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DcqlError {
    /// Not JSON of the right shape.
    #[error("the query is malformed")]
    Malformed,
    /// There are more, or longer, entries than are read.
    #[error("the query has too many or too long {what}")]
    TooLarge {
        /// Which entries.
        what: &'static str,
    },
    /// A list that needs at least one member has none.
    #[error("`{what}` must not be empty")]
    Empty {
        /// Which list.
        what: &'static str,
    },
    /// An id is empty, too long, or has characters other than letters, digits, `_` and `-`.
    #[error("an id may consist of letters, digits, `_` and `-` only")]
    InvalidId,
    /// Two queries or two claims share an id, or a claim set names a claim twice.
    #[error("an id occurs twice")]
    DuplicateId,
    /// A set names an id that does not exist.
    #[error("a set names an id that does not exist")]
    UnknownId,
    /// `claim_sets` is present but `claims` is not.
    #[error("`claim_sets` needs `claims`")]
    ClaimSetsWithoutClaims,
    /// `claim_sets` is present, but a claim has no id.
    #[error("a claim has no id although `claim_sets` is there")]
    MissingClaimId,
    /// A value to compare with is not a string, integer or boolean.
    #[error("`values` may hold texts, integers and truth values only")]
    InvalidValue,
    /// The answer holds a credential that was not requested.
    #[error("the answer holds a credential that was not asked for")]
    Unrequested,
    /// More than one credential for a query that wants one.
    #[error("the answer to `{id}` holds more than one credential")]
    TooMany {
        /// Id of the query.
        id: String,
    },
    /// A credential has the wrong type, lacks a claim, or has a value other than requested.
    #[error("the answer to `{id}` is not what was asked for")]
    NotAsRequested {
        /// Id of the query.
        id: String,
    },
    /// A credential came without the proof of possession the query requires.
    #[error("the answer to `{id}` lacks the proof of possession")]
    NotBound {
        /// Id of the query.
        id: String,
    },
    /// Required credentials are missing.
    #[error("the answer lacks what is required")]
    Incomplete,
}

/// The cards held do not answer the query. Gives no details, so that none can be passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no cards held here answer this query")]
pub struct NoMatch;
