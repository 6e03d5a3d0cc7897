//! Queries as verifiers write them, parsed and checked.

use std::collections::{BTreeSet, HashSet};

use serde::Deserialize;
use serde_json::Value;

use super::{
    DcqlError, PathStep,
    path::{Found, View, resolve},
};
use crate::{json, sd_jwt::MAX_DEPTH, vc::SD_JWT_VC_TYP};

/// Longest query that is read, in bytes.
pub const MAX_QUERY_BYTES: usize = 64 * 1024;
/// Most credentials one query may request.
pub const MAX_CREDENTIAL_QUERIES: usize = 32;
/// Most claims requested from one credential.
pub const MAX_CLAIM_QUERIES: usize = 128;
/// Most sets in a query, options in a set, members in an option.
pub const MAX_SETS: usize = 64;
/// Most values a claim is compared with, and most types a credential query may list.
pub const MAX_VALUES: usize = 256;
/// Longest id, in characters.
const MAX_ID_CHARS: usize = 128;

/// A valid query.
#[derive(Clone, Debug, PartialEq)]
pub struct DcqlQuery {
    pub(super) credentials: Vec<CredentialQuery>,
    pub(super) sets: Option<Vec<CredentialSetQuery>>,
}

/// One requested credential.
#[derive(Clone, Debug, PartialEq)]
pub struct CredentialQuery {
    pub(super) id: String,
    pub(super) format: String,
    /// Accepted types; `None` for any.
    pub(super) vct_values: Option<Vec<String>>,
    pub(super) multiple: bool,
    pub(super) holder_binding: bool,
    /// Whether the query is limited to certain authorities; no kind of authority is known here.
    pub(super) authorities: bool,
    pub(super) claims: Vec<ClaimQuery>,
    /// Alternatives, as indices into `claims`; without `claim_sets` there is one alternative with all claims.
    pub(super) claim_sets: Vec<Vec<usize>>,
}

/// One requested claim.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ClaimQuery {
    id: Option<String>,
    path: Vec<PathStep>,
    values: Option<Vec<Value>>,
}

/// Alternatives, one of which must be answered.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct CredentialSetQuery {
    pub(super) options: Vec<Vec<String>>,
    #[serde(default = "yes")]
    pub(super) required: bool,
}

#[derive(Deserialize)]
struct RawQuery {
    credentials: Vec<RawCredential>,
    credential_sets: Option<Vec<CredentialSetQuery>>,
}

#[derive(Deserialize)]
struct RawCredential {
    id: String,
    format: String,
    meta: RawMeta,
    #[serde(default)]
    multiple: bool,
    #[serde(default = "yes")]
    require_cryptographic_holder_binding: bool,
    trusted_authorities: Option<Vec<Value>>,
    claims: Option<Vec<ClaimQuery>>,
    claim_sets: Option<Vec<Vec<String>>>,
}

#[derive(Deserialize)]
struct RawMeta {
    vct_values: Option<Vec<String>>,
}

fn yes() -> bool {
    true
}

impl DcqlQuery {
    /// Reads the text of a query.
    ///
    /// # Errors
    ///
    /// [`DcqlError`] naming the rule it breaks.
    ///
    /// # Specification
    ///
    /// OpenID4VP 1.0, section 6. Unknown members are ignored.
    pub fn parse(text: &str) -> Result<Self, DcqlError> {
        if text.len() > MAX_QUERY_BYTES {
            return Err(DcqlError::TooLarge { what: "bytes" });
        }
        Self::from_value(json::parse(text.as_bytes()).map_err(|_| DcqlError::Malformed)?)
    }

    /// Reads a query that is already JSON, such as a member of a message. The caller has bounded its size.
    ///
    /// # Errors
    ///
    /// [`DcqlError`] naming the rule it breaks.
    pub fn from_value(value: Value) -> Result<Self, DcqlError> {
        let raw: RawQuery = serde_json::from_value(value).map_err(|_| DcqlError::Malformed)?;
        bounded(&raw.credentials, MAX_CREDENTIAL_QUERIES, "credentials")?;
        let credentials: Vec<CredentialQuery> =
            raw.credentials.into_iter().map(CredentialQuery::check).collect::<Result<_, _>>()?;
        let mut ids = HashSet::new();
        if !credentials.iter().all(|query| ids.insert(query.id.as_str())) {
            return Err(DcqlError::DuplicateId);
        }
        if let Some(sets) = &raw.credential_sets {
            bounded(sets, MAX_SETS, "credential_sets")?;
            for set in sets {
                bounded(&set.options, MAX_SETS, "options")?;
                for option in &set.options {
                    bounded(option, MAX_SETS, "options")?;
                    if !option.iter().all(|id| ids.contains(id.as_str())) {
                        return Err(DcqlError::UnknownId);
                    }
                }
            }
        }
        Ok(Self { credentials, sets: raw.credential_sets })
    }

    /// The requested credentials.
    pub fn credentials(&self) -> &[CredentialQuery] {
        &self.credentials
    }
}

impl CredentialQuery {
    fn check(raw: RawCredential) -> Result<Self, DcqlError> {
        check_id(&raw.id)?;
        if let Some(types) = &raw.meta.vct_values {
            bounded(types, MAX_VALUES, "vct_values")?;
        }
        if let Some(authorities) = &raw.trusted_authorities {
            bounded(authorities, MAX_VALUES, "trusted_authorities")?;
        }
        if let Some(claims) = &raw.claims {
            bounded(claims, MAX_CLAIM_QUERIES, "claims")?;
            claims.iter().try_for_each(ClaimQuery::check)?;
        }
        let claim_sets = resolve_sets(raw.claims.as_deref(), raw.claim_sets)?;
        Ok(Self {
            id: raw.id,
            format: raw.format,
            vct_values: raw.meta.vct_values,
            multiple: raw.multiple,
            holder_binding: raw.require_cryptographic_holder_binding,
            authorities: raw.trusted_authorities.is_some(),
            claims: raw.claims.unwrap_or_default(),
            claim_sets,
        })
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The requested format.
    pub fn format(&self) -> &str {
        &self.format
    }

    /// Accepted types of credential; `None` for any.
    pub fn vct_values(&self) -> Option<&[String]> {
        self.vct_values.as_deref()
    }

    /// The requested claims.
    pub fn claims(&self) -> &[ClaimQuery] {
        &self.claims
    }

    /// Whether the query accepts credentials of this format and type at all.
    pub(super) fn wants(&self, format: &str, vct: &str) -> bool {
        let type_fits = match &self.vct_values {
            Some(types) => types.iter().any(|wanted| wanted == vct),
            None => true,
        };
        // A limit to authorities of an unknown kind cannot be shown to hold.
        self.format == SD_JWT_VC_TYP && self.format == format && !self.authorities && type_fits
    }

    /// The matches of each requested claim, searched once each; empty if the claim is missing or has no requested
    /// value.
    pub(super) fn find<'a>(&self, view: View<'a>) -> Vec<Vec<Found<'a>>> {
        self.claims.iter().map(|claim| claim.find(view)).collect()
    }

    /// The matches from `find` for all claims of one alternative, if every claim has one.
    pub(super) fn all_of<'f, 'a>(set: &[usize], found: &'f [Vec<Found<'a>>]) -> Option<Vec<&'f Found<'a>>> {
        let mut all = Vec::new();
        for index in set {
            let claims = found.get(*index).filter(|claims| !claims.is_empty())?;
            all.extend(claims);
        }
        Some(all)
    }
}

impl ClaimQuery {
    /// The pointer to the claim.
    pub fn path(&self) -> &[PathStep] {
        &self.path
    }

    /// Accepted values; `None` for any.
    pub fn values(&self) -> Option<&[Value]> {
        self.values.as_deref()
    }

    fn check(&self) -> Result<(), DcqlError> {
        if let Some(id) = &self.id {
            check_id(id)?;
        }
        bounded(&self.path, MAX_DEPTH, "path")?;
        let Some(values) = &self.values else { return Ok(()) };
        bounded(values, MAX_VALUES, "values")?;
        let valid =
            |value: &Value| value.is_string() || value.is_boolean() || value.is_i64() || value.is_u64();
        if values.iter().all(valid) { Ok(()) } else { Err(DcqlError::InvalidValue) }
    }

    /// The claims that the pointer matches and that have a requested value.
    fn find<'a>(&self, view: View<'a>) -> Vec<Found<'a>> {
        let mut found = resolve(view, &self.path);
        // An object or list that arrives empty had all its content withheld: it proves nothing.
        found.retain(|claim| !is_hollow(claim.value));
        if let Some(values) = &self.values {
            found.retain(|claim| values.contains(claim.value));
        }
        found
    }
}

/// Whether a value is an object or list that holds nothing, or only such values.
fn is_hollow(value: &Value) -> bool {
    match value {
        Value::Object(members) => members.values().all(is_hollow),
        Value::Array(elements) => elements.iter().all(is_hollow),
        _ => false,
    }
}

/// Turns the ids in `claim_sets` into indices.
fn resolve_sets(
    claims: Option<&[ClaimQuery]>,
    sets: Option<Vec<Vec<String>>>,
) -> Result<Vec<Vec<usize>>, DcqlError> {
    let mut positions = std::collections::HashMap::new();
    for (position, claim) in claims.unwrap_or_default().iter().enumerate() {
        if let Some(id) = &claim.id
            && positions.insert(id.as_str(), position).is_some()
        {
            return Err(DcqlError::DuplicateId);
        }
    }
    let Some(sets) = sets else {
        return Ok(vec![(0..claims.unwrap_or_default().len()).collect()]);
    };
    let claims = claims.ok_or(DcqlError::ClaimSetsWithoutClaims)?;
    if claims.iter().any(|claim| claim.id.is_none()) {
        return Err(DcqlError::MissingClaimId);
    }
    bounded(&sets, MAX_SETS, "claim_sets")?;
    let position = |id: &String| positions.get(id.as_str()).copied().ok_or(DcqlError::UnknownId);
    sets.iter()
        .map(|set| {
            bounded(set, MAX_CLAIM_QUERIES, "claim_sets")?;
            let positions = set.iter().map(position).collect::<Result<Vec<_>, _>>()?;
            let distinct: BTreeSet<_> = positions.iter().collect();
            if distinct.len() < positions.len() { Err(DcqlError::DuplicateId) } else { Ok(positions) }
        })
        .collect()
}

fn bounded<T>(list: &[T], max: usize, what: &'static str) -> Result<(), DcqlError> {
    match list.len() {
        0 => Err(DcqlError::Empty { what }),
        len if len > max => Err(DcqlError::TooLarge { what }),
        _ => Ok(()),
    }
}

fn check_id(id: &str) -> Result<(), DcqlError> {
    let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if id.is_empty() || id.len() > MAX_ID_CHARS || !id.chars().all(valid) {
        return Err(DcqlError::InvalidId);
    }
    Ok(())
}
