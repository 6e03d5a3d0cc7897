//! Credential templates: which claims a card has, where they come from, and who may have it.

use serde::Deserialize;

use crate::{
    Column, ConfigError, Label, Problem, Source,
    config::{Checker, MAX_NAME_BYTES},
    countries::region_of_municipality,
    source::RawSource,
};

/// Most claims of one template.
pub const MAX_CLAIMS: usize = 64;

/// Most names of one claim path.
pub const MAX_PATH_DEPTH: usize = 4;

/// Longest validity in days: ten years including leap days.
pub const MAX_VALIDITY_DAYS: u32 = 3_653;

/// Most revocation reasons of one template.
pub const MAX_REVOCATION_REASONS: usize = 16;

/// Names whose values a verifier must always see, including everything inside them.
const NEVER_DISCLOSABLE: [&str; 8] =
    ["iss", "nbf", "exp", "cnf", "vct", "vct#integrity", "aka_vcts", "status"];

/// Names used by the SD-JWT mechanism itself.
const MECHANISM: [&str; 3] = ["_sd", "_sd_alg", "..."];

/// Whether a claim is shown to everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Disclosure {
    /// The holder decides each time.
    Selective,
    /// A list; the holder decides for each of its entries.
    Each,
    /// Every verifier of the card sees it.
    Always,
}

/// One claim of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimTemplate {
    /// Names, from the outermost object inwards.
    pub path: Vec<String>,
    /// Text for people.
    pub label: Label,
    /// Where the value comes from.
    pub source: Source,
    /// Who sees it.
    pub disclosure: Disclosure,
    /// Whether there is no card without it.
    pub required: bool,
}

/// Who may have the card. Absent conditions are not checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Eligibility {
    /// No day of death is recorded.
    pub alive: bool,
    /// The home is the only or main one.
    pub main_residence: bool,
    /// The person has moved in and not moved away.
    pub resident: bool,
    /// The home lies in the municipality of this key.
    pub municipality: Option<String>,
    /// The home lies in this German state, such as `DE-HE`.
    pub region: Option<String>,
    /// Minimum age in years.
    pub minimum_age: Option<u16>,
}

/// A reason for revocation that a clerk may choose; there is no free text.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevocationReason {
    /// Stable word.
    pub code: String,
    /// Text for people.
    pub label: Label,
    /// A person who loses a card for this reason gets no other of its kind.
    #[serde(default)]
    pub bars: bool,
}

/// A checked credential template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    id: String,
    vct: String,
    label: Label,
    validity_days: u32,
    status_list: bool,
    eligibility: Eligibility,
    revocation_reasons: Vec<RevocationReason>,
    claims: Vec<ClaimTemplate>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTemplate {
    id: String,
    vct: String,
    label: Label,
    validity_days: u32,
    status_list: bool,
    #[serde(default)]
    eligibility: Eligibility,
    #[serde(default)]
    revocation_reasons: Vec<RevocationReason>,
    claims: Vec<RawClaim>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawClaim {
    path: Vec<String>,
    label: Label,
    source: RawSource,
    disclosure: Disclosure,
    required: bool,
}

impl Template {
    /// Reads and checks a template. `file` is its name in errors, usually its path.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with the place and how to fix it.
    ///
    /// # Specification
    ///
    /// SD-JWT VC: claims that must not be selectively disclosable.
    pub fn parse(file: &str, text: &str) -> Result<Self, ConfigError> {
        let (checker, raw) = Checker::parse::<RawTemplate>(file, text)?;
        checker.name("id", &raw.id)?;
        let scheme = raw.vct.starts_with("urn:") || raw.vct.starts_with("https://");
        let graphic = raw.vct.bytes().all(|b| b.is_ascii_graphic());
        checker.demand(
            scheme && graphic && raw.vct.len() <= MAX_NAME_BYTES,
            "vct",
            Problem::CredentialType,
        )?;
        checker.label("label", &raw.label)?;
        checker.range("validity_days", raw.validity_days, 1, MAX_VALIDITY_DAYS)?;
        check_eligibility(&checker, &raw.eligibility)?;
        check_reasons(&checker, raw.status_list, &raw.revocation_reasons)?;
        Ok(Self {
            claims: check_claims(&checker, raw.claims)?,
            id: raw.id,
            vct: raw.vct,
            label: raw.label,
            validity_days: raw.validity_days,
            status_list: raw.status_list,
            eligibility: raw.eligibility,
            revocation_reasons: raw.revocation_reasons,
        })
    }

    /// The template's name in commands and records.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The credential's type.
    pub fn vct(&self) -> &str {
        &self.vct
    }

    /// Text for people.
    pub fn label(&self) -> &Label {
        &self.label
    }

    /// Days from issuing to expiry.
    pub fn validity_days(&self) -> u32 {
        self.validity_days
    }

    /// Whether the credential has an entry in a status list and can be revoked.
    pub fn has_status_list(&self) -> bool {
        self.status_list
    }

    /// Who may have it.
    pub fn eligibility(&self) -> &Eligibility {
        &self.eligibility
    }

    /// Reasons a clerk may choose; empty without a status list.
    pub fn revocation_reasons(&self) -> &[RevocationReason] {
        &self.revocation_reasons
    }

    /// The claims, in display order.
    pub fn claims(&self) -> &[ClaimTemplate] {
        &self.claims
    }
}

fn check_eligibility(checker: &Checker<'_>, eligibility: &Eligibility) -> Result<(), ConfigError> {
    let of_key = match &eligibility.municipality {
        None => None,
        Some(key) => {
            let region = region_of_municipality(key);
            checker.demand(region.is_some(), "eligibility.municipality", Problem::MunicipalityKey)?;
            region
        }
    };
    if let Some(region) = &eligibility.region {
        check_region(checker, "eligibility.region", region, of_key)?;
    }
    match eligibility.minimum_age {
        Some(years) => checker.range("eligibility.minimum_age", years.into(), 1, crate::MAX_AGE_YEARS.into()),
        None => Ok(()),
    }
}

/// Requires `region` to be a German state and, if a municipality is known, that municipality's state.
pub(crate) fn check_region(
    checker: &Checker<'_>,
    key: &str,
    region: &str,
    of_key: Option<&str>,
) -> Result<(), ConfigError> {
    let state = |number: u8| region_of_municipality(&format!("{number:02}000000"));
    let exists = (1..=16).any(|number| state(number) == Some(region));
    checker.demand(exists && of_key.is_none_or(|expected| expected == region), key, Problem::Region)
}

fn check_reasons(
    checker: &Checker<'_>,
    status_list: bool,
    reasons: &[RevocationReason],
) -> Result<(), ConfigError> {
    let key = "revocation_reasons";
    checker.demand(status_list != reasons.is_empty(), key, Problem::StatusWithoutReasons)?;
    if status_list {
        checker.count(key, reasons.len(), MAX_REVOCATION_REASONS)?;
    }
    for (index, reason) in reasons.iter().enumerate() {
        checker.name(&format!("{key}[{index}].code"), &reason.code)?;
        checker.label(&format!("{key}[{index}].label"), &reason.label)?;
        if let Some(first) = reasons.iter().take(index).position(|other| other.code == reason.code) {
            let first = format!("{key}[{first}].code");
            return Err(checker.refuse(format!("{key}[{index}].code"), Problem::Duplicate { first }));
        }
    }
    Ok(())
}

fn check_claims(checker: &Checker<'_>, raw: Vec<RawClaim>) -> Result<Vec<ClaimTemplate>, ConfigError> {
    checker.count("claims", raw.len(), MAX_CLAIMS)?;
    let mut claims: Vec<ClaimTemplate> = Vec::with_capacity(raw.len());
    for (index, raw) in raw.into_iter().enumerate() {
        let key = format!("claims[{index}]");
        let path_key = format!("{key}.path");
        check_path(checker, &path_key, &raw.path)?;
        check_reserved(checker, &path_key, &raw)?;
        for (other, claim) in claims.iter().enumerate() {
            let name = format!("claims[{other}].path");
            checker.demand(claim.path != raw.path, &path_key, Problem::Duplicate { first: name.clone() })?;
            let apart = !claim.path.starts_with(&raw.path) && !raw.path.starts_with(&claim.path);
            checker.demand(apart, &path_key, Problem::Overlap { other: name })?;
        }
        checker.label(&format!("{key}.label"), &raw.label)?;
        let RawClaim { path, label, source, disclosure, required } = raw;
        let source = source.check(checker, &format!("{key}.source"))?;
        let list = source == Source::Column(Column::Nationalities);
        checker.demand(
            list || disclosure != Disclosure::Each,
            format!("{key}.disclosure"),
            Problem::NotAList,
        )?;
        claims.push(ClaimTemplate { path, label, source, disclosure, required });
    }
    Ok(claims)
}

pub(crate) fn check_path(checker: &Checker<'_>, key: &str, path: &[String]) -> Result<(), ConfigError> {
    let usable = |name: &String| {
        (1..=MAX_NAME_BYTES).contains(&name.len())
            && !name.contains(char::is_control)
            && !MECHANISM.contains(&name.as_str())
    };
    let holds = (1..=MAX_PATH_DEPTH).contains(&path.len()) && path.iter().all(usable);
    checker.demand(holds, key, Problem::Path)
}

fn check_reserved(checker: &Checker<'_>, key: &str, raw: &RawClaim) -> Result<(), ConfigError> {
    let name = raw.path.first().cloned().unwrap_or_default();
    let reserved = NEVER_DISCLOSABLE.contains(&name.as_str());
    if reserved && raw.disclosure != Disclosure::Always {
        return Err(checker.refuse(key, Problem::NeverDisclosable { name }));
    }
    let set_by_issuer = reserved || name == "iat";
    checker.demand(!set_by_issuer, key, Problem::SetByIssuer { name })
}

#[cfg(test)]
mod tests;
