//! Request templates: what a verifier may request, why, and how long it keeps the answer.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    ConfigError, Label, MAX_PATH_DEPTH, Problem,
    config::{Checker, MAX_NAME_BYTES},
};

/// Longest retention in days: ten years including leap days.
pub const MAX_RETENTION_DAYS: u32 = 3_653;

/// Most credentials, and most sets, of one query.
pub const MAX_QUERY_CREDENTIALS: usize = 8;

/// Most claims, claim sets, and permitted values of one claim.
pub const MAX_QUERY_CLAIMS: usize = 32;

/// How long a verifier keeps what it learns.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// Most days; 0 means not at all.
    pub days: u32,
    /// Text for people.
    pub rule: Label,
}

/// A checked request template of a verifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestTemplate {
    id: String,
    label: Label,
    purpose: Label,
    legal_basis: Label,
    will_confirm: bool,
    retention: Retention,
    dcql_query: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRequest {
    id: String,
    label: Label,
    purpose: Label,
    legal_basis: Label,
    will_confirm: bool,
    retention: Retention,
    dcql_query: Query,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Query {
    credentials: Vec<CredentialQuery>,
    #[serde(skip_serializing_if = "Option::is_none")]
    credential_sets: Option<Vec<SetQuery>>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct CredentialQuery {
    id: String,
    format: String,
    meta: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    multiple: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    require_cryptographic_holder_binding: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    claims: Option<Vec<ClaimQuery>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    claim_sets: Option<Vec<Vec<String>>>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct ClaimQuery {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    path: Vec<Step>,
    #[serde(skip_serializing_if = "Option::is_none")]
    values: Option<Vec<Permitted>>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct SetQuery {
    options: Vec<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    required: Option<bool>,
}

#[derive(Deserialize, Serialize)]
#[serde(untagged, expecting = "a path step must be a name or a whole number from 0")]
enum Step {
    Name(String),
    Index(u32),
}

#[derive(Deserialize, Serialize)]
#[serde(untagged, expecting = "a permitted value must be a text, a whole number or a boolean")]
enum Permitted {
    Bool(bool),
    Number(i64),
    Text(String),
}

impl RequestTemplate {
    /// Reads and checks a request template. `file` is its name in errors, usually its path.
    ///
    /// TOML has no null, so a path cannot say "all entries of a list"; name the list or an index instead.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with the place and how to fix it.
    ///
    /// # Specification
    ///
    /// OpenID4VP 1.0, Digital Credentials Query Language: the shape of the query, not its evaluation.
    pub fn parse(file: &str, text: &str) -> Result<Self, ConfigError> {
        let (checker, raw) = Checker::parse::<RawRequest>(file, text)?;
        checker.name("id", &raw.id)?;
        checker.label("label", &raw.label)?;
        checker.label("purpose", &raw.purpose)?;
        checker.label("legal_basis", &raw.legal_basis)?;
        checker.range("retention.days", raw.retention.days, 0, MAX_RETENTION_DAYS)?;
        checker.label("retention.rule", &raw.retention.rule)?;
        check_query(&checker, &raw.dcql_query)?;
        let dcql_query = serde_json::to_value(&raw.dcql_query)
            .map_err(|cause| checker.refuse("dcql_query", Problem::Syntax { message: cause.to_string() }))?;
        Ok(Self {
            id: raw.id,
            label: raw.label,
            purpose: raw.purpose,
            legal_basis: raw.legal_basis,
            will_confirm: raw.will_confirm,
            retention: raw.retention,
            dcql_query,
        })
    }

    /// The template's name in commands and records.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The template's name on a merchant's screen.
    pub fn label(&self) -> &Label {
        &self.label
    }

    /// The purpose, as shown to the person asked.
    pub fn purpose(&self) -> &Label {
        &self.purpose
    }

    /// The legal basis.
    pub fn legal_basis(&self) -> &Label {
        &self.legal_basis
    }

    /// Whether the verifier answers with an acknowledgement.
    pub fn will_confirm(&self) -> bool {
        self.will_confirm
    }

    /// How long the answer is kept.
    pub fn retention(&self) -> &Retention {
        &self.retention
    }

    /// Whether every answer holds a card for whose type `is_known` says yes. A query that names no type admits all, for which it is
    /// asked with `None`.
    pub fn always_holds(&self, is_known: impl Fn(Option<&str>) -> bool) -> bool {
        let list = |value: &Value, pointer: &str| value.pointer(pointer).and_then(Value::as_array).cloned();
        let credentials = list(&self.dcql_query, "/credentials").unwrap_or_default();
        let known = |credential: &Value| match list(credential, "/meta/vct_values") {
            Some(types) => types.iter().all(|vct| is_known(vct.as_str())),
            None => is_known(None),
        };
        // With alternatives any of the credentials may be missing.
        if self.dcql_query.get("credential_sets").is_some() {
            credentials.iter().all(known)
        } else {
            credentials.iter().any(known)
        }
    }

    /// The query, as DCQL JSON.
    pub fn dcql_query(&self) -> &Value {
        &self.dcql_query
    }
}

fn check_query(checker: &Checker<'_>, query: &Query) -> Result<(), ConfigError> {
    let key = "dcql_query.credentials";
    checker.count(key, query.credentials.len(), MAX_QUERY_CREDENTIALS)?;
    let ids: Vec<&str> = query.credentials.iter().map(|credential| credential.id.as_str()).collect();
    check_ids(checker, key, &ids)?;
    for (index, credential) in query.credentials.iter().enumerate() {
        check_credential(checker, &format!("{key}[{index}]"), credential)?;
    }
    let Some(sets) = &query.credential_sets else {
        return Ok(());
    };
    let key = "dcql_query.credential_sets";
    checker.count(key, sets.len(), MAX_QUERY_CREDENTIALS)?;
    for (index, set) in sets.iter().enumerate() {
        check_options(checker, &format!("{key}[{index}].options"), &set.options, &ids)?;
    }
    Ok(())
}

fn check_credential(
    checker: &Checker<'_>,
    key: &str,
    credential: &CredentialQuery,
) -> Result<(), ConfigError> {
    let printable = (1..=MAX_NAME_BYTES).contains(&credential.format.len())
        && credential.format.bytes().all(|b| b.is_ascii_graphic());
    checker.demand(printable, format!("{key}.format"), Problem::Text)?;
    if let Some(types) = credential.meta.get("vct_values") {
        let entries = types.as_array().map_or(&[][..], Vec::as_slice);
        checker.count(&format!("{key}.meta.vct_values"), entries.len(), MAX_QUERY_CREDENTIALS)?;
        let texts =
            entries.iter().all(|entry| entry.as_str().is_some_and(|text| text.len() <= MAX_NAME_BYTES));
        checker.demand(texts, format!("{key}.meta.vct_values"), Problem::CredentialType)?;
    }
    let claims = credential.claims.as_deref().unwrap_or_default();
    if credential.claims.is_some() {
        checker.count(&format!("{key}.claims"), claims.len(), MAX_QUERY_CLAIMS)?;
    }
    let ids: Vec<&str> = claims.iter().filter_map(|claim| claim.id.as_deref()).collect();
    check_ids(checker, &format!("{key}.claims"), &ids)?;
    for (index, claim) in claims.iter().enumerate() {
        check_claim(checker, &format!("{key}.claims[{index}]"), claim)?;
    }
    match &credential.claim_sets {
        None => Ok(()),
        Some(sets) => {
            let named = !claims.is_empty() && ids.len() == claims.len();
            checker.demand(named, format!("{key}.claim_sets"), Problem::SetsWithoutClaims)?;
            check_options(checker, &format!("{key}.claim_sets"), sets, &ids)
        }
    }
}

fn check_claim(checker: &Checker<'_>, key: &str, claim: &ClaimQuery) -> Result<(), ConfigError> {
    let usable = |step: &Step| match step {
        Step::Name(name) => (1..=MAX_NAME_BYTES).contains(&name.len()),
        Step::Index(_) => true,
    };
    let holds = (1..=MAX_PATH_DEPTH).contains(&claim.path.len()) && claim.path.iter().all(usable);
    checker.demand(holds, format!("{key}.path"), Problem::Path)?;
    match &claim.values {
        Some(values) => checker.count(&format!("{key}.values"), values.len(), MAX_QUERY_CLAIMS),
        None => Ok(()),
    }
}

/// Ids are letters, digits, `_` and `-`, and each is used once. Only ids that are present are passed in.
fn check_ids(checker: &Checker<'_>, key: &str, ids: &[&str]) -> Result<(), ConfigError> {
    for (index, id) in ids.iter().enumerate() {
        let permitted = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        let holds = (1..=MAX_NAME_BYTES).contains(&id.len()) && id.bytes().all(permitted);
        checker.demand(holds, format!("{key}[{index}].id"), Problem::QueryId)?;
        if let Some(first) = ids.iter().take(index).position(|other| other == id) {
            let first = format!("{key}[{first}].id");
            return Err(checker.refuse(format!("{key}[{index}].id"), Problem::Duplicate { first }));
        }
    }
    Ok(())
}

fn check_options(
    checker: &Checker<'_>,
    key: &str,
    options: &[Vec<String>],
    ids: &[&str],
) -> Result<(), ConfigError> {
    checker.count(key, options.len(), MAX_QUERY_CLAIMS)?;
    for (index, option) in options.iter().enumerate() {
        let key = format!("{key}[{index}]");
        checker.count(&key, option.len(), MAX_QUERY_CLAIMS)?;
        if let Some(id) = option.iter().find(|id| !ids.contains(&id.as_str())) {
            return Err(checker.refuse(key, Problem::UnknownReference { id: id.clone() }));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
