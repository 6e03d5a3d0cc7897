//! Why a query is invalid or an answer does not satisfy it.

/// A query was refused, or an answer does not satisfy it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DcqlError {
    /// Not JSON of the right shape.
    #[error("the query is malformed")]
    Malformed,
    /// More of something than is read.
    #[error("the query has too many or too long {what}")]
    TooLarge {
        /// Of what.
        what: &'static str,
    },
    /// A list that needs at least one member has none.
    #[error("`{what}` must not be empty")]
    Empty {
        /// Which list.
        what: &'static str,
    },
    /// An id is empty or has other characters than letters, digits, `_` and `-`.
    #[error("an id may consist of letters, digits, `_` and `-` only")]
    InvalidId,
    /// Two queries or two claims have the same id.
    #[error("an id occurs twice")]
    DuplicateId,
    /// A set names an id that does not exist.
    #[error("a set names an id that does not exist")]
    UnknownId,
    /// `claim_sets` without `claims`.
    #[error("`claim_sets` needs `claims`")]
    ClaimSetsWithoutClaims,
    /// With `claim_sets`, every claim needs an id.
    #[error("a claim has no id although `claim_sets` is there")]
    MissingClaimId,
    /// A value to compare with is no text, integer or truth value.
    #[error("`values` may hold texts, integers and truth values only")]
    InvalidValue,
    /// The answer holds a credential nobody asked for.
    #[error("the answer holds a credential that was not asked for")]
    Unrequested,
    /// More than one credential for a query that wants one.
    #[error("the answer to `{id}` holds more than one credential")]
    TooMany {
        /// Id of the query.
        id: String,
    },
    /// A credential is of another type, lacks a claim or has another value than asked for.
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
    /// Credentials that are required are not there.
    #[error("the answer lacks what is required")]
    Incomplete,
}

/// The cards held do not answer the query. Says no more, so that no more can be passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no cards held here answer this query")]
pub struct NoMatch;
