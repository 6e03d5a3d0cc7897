//! Where a claim's value comes from.

use serde::Deserialize;
use serde_json::Value;

use crate::{
    Column, ConfigError, MAX_AGE_YEARS, Problem,
    config::{Checker, MAX_NAME_BYTES},
    template::check_path,
};

/// Most age bands of one claim.
const MAX_AGE_BANDS: usize = 16;

/// Where a claim's value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A column of the register, unchanged except that dates are in ISO form and nationalities are a list.
    Column(Column),
    /// True if the person is at least this old.
    AgeEqualOrOver {
        /// Years of age.
        years: u16,
    },
    /// True if the person is alive and has their main home in the municipality of the register.
    IsResident,
    /// The municipality key of the home.
    ResidentAgs,
    /// The German state of the home, such as `DE-HE`.
    ResidentRegion,
    /// Street, house number and suffix in one string.
    StreetAddress,
    /// The last day of the card, ISO.
    ValidUntil,
    /// A word by age.
    AgeBands(Vec<AgeBand>),
    /// The same for everybody.
    Value(Value),
    /// A claim of a credential that was just presented and verified.
    Presented(Vec<String>),
    /// A value made by the node, by name, such as a pseudonym.
    Generated(String),
}

/// A word for people below an age.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgeBand {
    /// People younger than this; the last band has no limit and takes the rest.
    pub below: Option<u16>,
    /// The word.
    pub value: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum RuleName {
    AgeEqualOrOver,
    IsResident,
    ResidentAgs,
    ResidentRegion,
    StreetAddress,
    ValidUntil,
}

/// A source as written: one of six members. serde's enums would report errors less clearly.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawSource {
    column: Option<Column>,
    rule: Option<RuleName>,
    years: Option<u16>,
    age_bands: Option<Vec<AgeBand>>,
    value: Option<Value>,
    presented: Option<Vec<String>>,
    generated: Option<String>,
}

impl RawSource {
    pub(crate) fn check(self, checker: &Checker<'_>, key: &str) -> Result<Source, ConfigError> {
        let given = [
            self.column.is_some(),
            self.rule.is_some(),
            self.age_bands.is_some(),
            self.value.is_some(),
            self.presented.is_some(),
            self.generated.is_some(),
        ];
        checker.demand(given.into_iter().filter(|given| *given).count() == 1, key, Problem::OneSource)?;
        if let Some(rule) = self.rule {
            return check_rule(&rule, self.years, checker, key);
        }
        checker.demand(self.years.is_none(), key, Problem::Years)?;
        if let Some(column) = self.column {
            checker.demand(column.may_be_claimed(), key, Problem::Unclaimable { column })?;
            return Ok(Source::Column(column));
        }
        if let Some(bands) = self.age_bands {
            checker.demand(bands_cover(&bands), key, Problem::AgeBands)?;
            return Ok(Source::AgeBands(bands));
        }
        if let Some(value) = self.value {
            let short = value.as_str().is_some_and(|text| text.len() <= MAX_NAME_BYTES);
            checker.demand(short || value.is_boolean() || value.is_i64(), key, Problem::Scalar)?;
            return Ok(Source::Value(value));
        }
        if let Some(path) = self.presented {
            check_path(checker, key, &path)?;
            return Ok(Source::Presented(path));
        }
        let name = self.generated.unwrap_or_default();
        checker.name(key, &name)?;
        Ok(Source::Generated(name))
    }
}

fn check_rule(
    rule: &RuleName,
    years: Option<u16>,
    checker: &Checker<'_>,
    key: &str,
) -> Result<Source, ConfigError> {
    if let (RuleName::AgeEqualOrOver, Some(years)) = (rule, years) {
        checker.range(&format!("{key}.years"), years.into(), 1, MAX_AGE_YEARS.into())?;
        return Ok(Source::AgeEqualOrOver { years });
    }
    checker.demand(years.is_none(), key, Problem::Years)?;
    match rule {
        RuleName::AgeEqualOrOver => Err(checker.refuse(key, Problem::Years)),
        RuleName::IsResident => Ok(Source::IsResident),
        RuleName::ResidentAgs => Ok(Source::ResidentAgs),
        RuleName::ResidentRegion => Ok(Source::ResidentRegion),
        RuleName::StreetAddress => Ok(Source::StreetAddress),
        RuleName::ValidUntil => Ok(Source::ValidUntil),
    }
}

/// Whether every age falls into exactly one band.
fn bands_cover(bands: &[AgeBand]) -> bool {
    let Some((last, limited)) = bands.split_last() else {
        return false;
    };
    let words = bands.iter().all(|band| (1..=MAX_NAME_BYTES).contains(&band.value.len()));
    let mut previous = 0;
    let rising = limited.iter().all(|band| {
        band.below.is_some_and(|below| {
            let rises = below > previous;
            previous = below;
            rises
        })
    });
    words && rising && last.below.is_none() && bands.len() <= MAX_AGE_BANDS
}
