//! From a template and a person to the claims of one card, or the reason why there is none.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    AgeBand, ClaimTemplate, Column, Date, Disclosure, Eligibility, Label, PartialDate, Person, Residence,
    Source, Template,
    config::MAX_LABEL_BYTES,
    countries::{is_country, region_of_municipality},
};

/// The sources for filling a card. If there is a person from the register, rules read that; otherwise they read what
/// was presented.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    /// The person in the register, if the node has one.
    pub person: Option<&'a Person>,
    /// Claims of a credential the holder has just presented. The caller must ensure that they are verified and from a
    /// trusted issuer; this crate cannot tell.
    pub presented: Option<&'a Map<String, Value>>,
    /// Values made by the node, by the names that templates use.
    pub generated: &'a BTreeMap<String, String>,
    /// The last valid day of the card, if it must end earlier than its template says.
    pub latest: Option<Date>,
}

impl fmt::Debug for Inputs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inputs(..)")
    }
}

/// One step to a claim or list entry, as in a DCQL path.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(untagged)]
pub enum PathElement {
    /// Member of an object.
    Name(String),
    /// Entry of a list, from 0.
    Index(usize),
}

/// One line of the preview that a person sees before taking the card.
#[derive(Clone, PartialEq, Eq)]
pub struct DisplayAttribute {
    /// Its name.
    pub label: Label,
    /// Its value.
    pub value: Value,
}

impl DisplayAttribute {
    /// The value as text: booleans as ja/nein (German) or yes/no (others), lists with commas.
    pub fn text(&self, language: &str) -> String {
        display_text(&self.value, language)
    }
}

impl fmt::Debug for DisplayAttribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DisplayAttribute").field("label", &self.label).finish_non_exhaustive()
    }
}

fn display_text(value: &Value, language: &str) -> String {
    match (value, language) {
        (Value::String(text), _) => text.clone(),
        (Value::Bool(true), "de") => "ja".to_owned(),
        (Value::Bool(false), "de") => "nein".to_owned(),
        (Value::Bool(true), _) => "yes".to_owned(),
        (Value::Bool(false), _) => "no".to_owned(),
        (Value::Array(entries), _) => {
            entries.iter().map(|entry| display_text(entry, language)).collect::<Vec<_>>().join(", ")
        }
        (other, _) => other.to_string(),
    }
}

/// The content of a card, ready for an issuer.
#[derive(Clone, PartialEq, Eq)]
pub struct Filled {
    /// The claims, nested; without those that the issuer sets (`iss`, `vct`, `exp`, `cnf`, `status`).
    pub claims: Map<String, Value>,
    /// Paths in `claims` to be selectively disclosable; no path lies inside another.
    pub disclosable: Vec<Vec<PathElement>>,
    /// Last valid day of the card.
    pub expires: Date,
    /// The claims as people see them, in the template's order.
    pub display: Vec<DisplayAttribute>,
}

impl fmt::Debug for Filled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Filled(..)")
    }
}

/// The rule that denies someone a card.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rule {
    /// A death is recorded.
    #[error("the register holds a death")]
    Dead,
    /// Moved away on or before this day.
    #[error("the person has moved away")]
    MovedAway,
    /// The person has not moved in yet.
    #[error("the person has not moved in yet")]
    NotYetMovedIn,
    /// The home is a secondary residence.
    #[error("the home is not the main one")]
    SecondaryResidence,
    /// The presented credential says that its holder is not a resident.
    #[error("the presented credential says that its holder is no resident")]
    NotResident,
    /// The home lies in another municipality.
    #[error("the home lies in another municipality")]
    OtherMunicipality,
    /// The home lies in another state.
    #[error("the home lies in another state")]
    OtherRegion,
    /// Too young.
    #[error("the person is not {minimum} years old yet, as far as the birth date is known")]
    TooYoung {
        /// Required years.
        minimum: u16,
    },
}

/// There is no card. Names rules and columns, never a person's values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FillError {
    /// The person may not have it.
    #[error("no such card for this person: {rule}")]
    NotEligible {
        /// Why.
        rule: Rule,
    },
    /// A value that the card needs is missing or incomplete.
    #[error("{origin} is missing or incomplete; enter it in the register, or ask for it in the request")]
    MissingValue {
        /// Where the value was expected: a column's key, `presented.<path>` or `generated.<name>`.
        origin: String,
    },
    /// A presented or generated value has the wrong type.
    #[error("{origin} is not of the kind this claim needs; correct the template")]
    UnsuitableValue {
        /// As in [`FillError::MissingValue`].
        origin: String,
    },
    /// The card would be valid beyond the year 9999.
    #[error("the card would expire after the year 9999; correct the day given")]
    ExpiryOutOfRange,
}

fn missing(origin: impl Into<String>) -> FillError {
    FillError::MissingValue { origin: origin.into() }
}

/// Fills `template` on `today`.
///
/// Ages count from the birth date to `today`; an incomplete birth date counts as the youngest age it allows. A card for
/// residents ends with the last day before an announced move.
///
/// # Errors
///
/// Each [`FillError`]. An optional claim without a value is left out instead.
pub fn fill(template: &Template, inputs: &Inputs<'_>, today: Date) -> Result<Filled, FillError> {
    let subject = Subject { inputs, today };
    subject.check(template.eligibility())?;
    let expires = expiry(template, inputs.person, today)?;
    let expires = inputs.latest.map_or(expires, |latest| latest.min(expires));
    let mut filled = Filled { claims: Map::new(), disclosable: Vec::new(), expires, display: Vec::new() };
    for claim in template.claims() {
        let value = match subject.value(&claim.source, expires) {
            Ok(value) => value,
            Err(FillError::MissingValue { .. }) if !claim.required => continue,
            Err(error) => return Err(error),
        };
        let path: Vec<PathElement> = claim.path.iter().cloned().map(PathElement::Name).collect();
        match claim.disclosure {
            Disclosure::Always => {}
            Disclosure::Selective => filled.disclosable.push(path),
            Disclosure::Each => {
                let entries = value.as_array().map_or(0, Vec::len);
                let entry = |index| path.iter().cloned().chain([PathElement::Index(index)]).collect();
                filled.disclosable.extend((0..entries).map(entry));
            }
        }
        filled.display.push(DisplayAttribute { label: claim.label.clone(), value: value.clone() });
        insert(&mut filled.claims, &claim.path, value);
    }
    Ok(filled)
}

/// Checks that `person` may have a card of `template` on `today`.
///
/// # Errors
///
/// [`FillError::NotEligible`], or [`FillError::MissingValue`] if the register does not say.
pub fn eligible(template: &Template, person: &Person, today: Date) -> Result<(), FillError> {
    let generated = BTreeMap::new();
    let inputs = Inputs { person: Some(person), presented: None, generated: &generated, latest: None };
    Subject { inputs: &inputs, today }.check(template.eligibility())
}

/// What a card of `template` would say of `person` that changes only when the register does: no ages, and nothing that was presented.
///
/// Returns the path of each of those claims, joined by dots, where the register has it (a column's key or a rule's name), and its value;
/// `None` for a value the register does not have.
pub fn facts(template: &Template, person: &Person) -> Vec<(String, &'static str, Option<Value>)> {
    let inputs = Inputs { person: Some(person), presented: None, generated: &BTreeMap::new(), latest: None };
    // No day matters to what is left.
    let subject = Subject { inputs: &inputs, today: Date::MIN };
    let origin = |source: &Source| match source {
        Source::Column(column) => Some(column.key()),
        Source::StreetAddress => Some("street_address"),
        Source::ResidentAgs => Some("resident_ags"),
        Source::ResidentRegion => Some("resident_region"),
        Source::AgeEqualOrOver { .. }
        | Source::AgeBands(_)
        | Source::IsResident
        | Source::ValidUntil
        | Source::Value(_)
        | Source::Presented(_)
        | Source::Generated(_) => None,
    };
    let fact = |claim: &ClaimTemplate| {
        Some((claim.path.join("."), origin(&claim.source)?, subject.value(&claim.source, Date::MIN).ok()))
    };
    template.claims().iter().filter_map(fact).collect()
}

fn expiry(template: &Template, person: Option<&Person>, today: Date) -> Result<Date, FillError> {
    let expires = today.plus_days(template.validity_days()).ok_or(FillError::ExpiryOutOfRange)?;
    let leaving = person.filter(|_| template.eligibility().resident).and_then(Person::moved_out);
    Ok(match leaving.and_then(Date::day_before) {
        Some(last_day) if last_day < expires => last_day,
        _ => expires,
    })
}

/// Puts `value` at `path`. No template path lies inside another, so every intermediate step is an object.
fn insert(claims: &mut Map<String, Value>, path: &[String], value: Value) {
    match path {
        [] => {}
        [name] => {
            claims.insert(name.clone(), value);
        }
        [name, rest @ ..] => {
            let inner = claims.entry(name.clone()).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}

/// The person the card is about, as the inputs show them on that day.
struct Subject<'a> {
    inputs: &'a Inputs<'a>,
    today: Date,
}

impl Subject<'_> {
    fn check(&self, eligibility: &Eligibility) -> Result<(), FillError> {
        let broken = match self.inputs.person {
            Some(person) => self.residence_of(person, eligibility),
            None => self.presented_residence(eligibility)?,
        };
        if let Some(rule) = broken {
            return Err(FillError::NotEligible { rule });
        }
        if let Some(key) = &eligibility.municipality
            && self.text(&Source::ResidentAgs)? != *key
        {
            return Err(FillError::NotEligible { rule: Rule::OtherMunicipality });
        }
        if let Some(region) = &eligibility.region
            && self.text(&Source::ResidentRegion)? != *region
        {
            return Err(FillError::NotEligible { rule: Rule::OtherRegion });
        }
        match eligibility.minimum_age {
            Some(minimum) if !self.is_at_least(minimum)? => {
                Err(FillError::NotEligible { rule: Rule::TooYoung { minimum } })
            }
            _ => Ok(()),
        }
    }

    fn residence_of(&self, person: &Person, eligibility: &Eligibility) -> Option<Rule> {
        if eligibility.alive && person.is_dead() {
            return Some(Rule::Dead);
        }
        if eligibility.resident && person.moved_out().is_some_and(|day| day <= self.today) {
            return Some(Rule::MovedAway);
        }
        if eligibility.resident && !person.lives_here_on(self.today) {
            return Some(Rule::NotYetMovedIn);
        }
        let secondary = person.residence() == Residence::Secondary;
        (eligibility.main_residence && secondary).then_some(Rule::SecondaryResidence)
    }

    /// Resident cards are given only to living people with their main home here, so their one boolean proves all three.
    fn presented_residence(&self, eligibility: &Eligibility) -> Result<Option<Rule>, FillError> {
        if !(eligibility.alive || eligibility.resident || eligibility.main_residence) {
            return Ok(None);
        }
        let resident = self.presented_bool(&["is_resident"])?;
        Ok((!resident).then_some(Rule::NotResident))
    }

    fn value(&self, source: &Source, expires: Date) -> Result<Value, FillError> {
        match source {
            Source::Column(column) => {
                let person = self.inputs.person.ok_or_else(|| missing(column.key()))?;
                column_value(person, *column).ok_or_else(|| missing(column.key()))
            }
            Source::AgeEqualOrOver { years } => self.is_at_least(*years).map(Value::Bool),
            Source::IsResident => self.is_resident().map(Value::Bool),
            Source::ResidentAgs | Source::ResidentRegion => self.text(source).map(Value::String),
            Source::StreetAddress => match self.inputs.person {
                Some(person) => {
                    person.street_address().map(Value::String).ok_or_else(|| missing(Column::Street.key()))
                }
                None => self.presented(&["address", "street_address"]).cloned(),
            },
            Source::ValidUntil => Ok(Value::String(expires.to_string())),
            Source::AgeBands(bands) => self.band(bands).map(Value::String),
            Source::Value(value) => Ok(value.clone()),
            Source::Presented(path) => {
                let path: Vec<&str> = path.iter().map(String::as_str).collect();
                self.presented(&path).cloned()
            }
            Source::Generated(name) => {
                let origin = || format!("generated.{name}");
                let text = self.inputs.generated.get(name).ok_or_else(|| missing(origin()))?;
                if text.is_empty() || text.len() > MAX_LABEL_BYTES {
                    return Err(FillError::UnsuitableValue { origin: origin() });
                }
                Ok(Value::String(text.clone()))
            }
        }
    }

    fn is_resident(&self) -> Result<bool, FillError> {
        match self.inputs.person {
            Some(person) => {
                let main = person.residence() == Residence::Main;
                Ok(main && !person.is_dead() && person.lives_here_on(self.today))
            }
            None => self.presented_bool(&["is_resident"]),
        }
    }

    fn is_at_least(&self, years: u16) -> Result<bool, FillError> {
        match self.inputs.person {
            Some(person) => Ok(person.age_on(self.today) >= years),
            None => self.presented_bool(&["age_equal_or_over", &years.to_string()]),
        }
    }

    fn band(&self, bands: &[AgeBand]) -> Result<String, FillError> {
        for band in bands {
            let fits = match band.below {
                Some(below) => !self.is_at_least(below)?,
                None => true,
            };
            if fits {
                return Ok(band.value.clone());
            }
        }
        Err(missing(Column::BirthDate.key()))
    }

    /// The municipality key or state, from the register or the presentation.
    fn text(&self, source: &Source) -> Result<String, FillError> {
        let region = *source == Source::ResidentRegion;
        if let Some(person) = self.inputs.person {
            let key = person.municipality_key();
            let text = if region { region_of_municipality(key) } else { Some(key) };
            return text.map(str::to_owned).ok_or_else(|| missing(Column::MunicipalityKey.key()));
        }
        let name = if region { "resident_region" } else { "resident_ags" };
        match self.presented(&[name])? {
            Value::String(text) => Ok(text.clone()),
            _ => Err(FillError::UnsuitableValue { origin: format!("presented.{name}") }),
        }
    }

    fn presented_bool(&self, path: &[&str]) -> Result<bool, FillError> {
        let origin = || format!("presented.{}", path.join("."));
        self.presented(path)?.as_bool().ok_or_else(|| FillError::UnsuitableValue { origin: origin() })
    }

    /// A presented value: a single one of bounded length, never an object or list.
    fn presented(&self, path: &[&str]) -> Result<&Value, FillError> {
        let origin = || format!("presented.{}", path.join("."));
        let (first, rest) = path.split_first().ok_or_else(|| missing(origin()))?;
        let outer = self.inputs.presented.and_then(|claims| claims.get(*first));
        let value = rest.iter().try_fold(outer.ok_or_else(|| missing(origin()))?, |value, name| {
            value.get(name).ok_or_else(|| missing(origin()))
        })?;
        match value {
            Value::String(text) if (1..=MAX_LABEL_BYTES).contains(&text.len()) => Ok(value),
            Value::Bool(_) | Value::Number(_) => Ok(value),
            _ => Err(FillError::UnsuitableValue { origin: origin() }),
        }
    }
}

fn column_value(person: &Person, column: Column) -> Option<Value> {
    let text = match column {
        Column::FamilyName => person.family_name(),
        Column::GivenNames => person.given_names(),
        Column::CallName => person.call_name(),
        Column::Doctorate => person.doctorate(),
        Column::BirthName => person.birth_name(),
        Column::BirthPlace => person.birth_place(),
        Column::Street => person.street(),
        Column::HouseNumber => person.house_number(),
        Column::HouseNumberSuffix => person.house_number_suffix(),
        Column::PostalCode => Some(person.postal_code()),
        Column::Locality => Some(person.locality()),
        Column::District => person.district(),
        Column::MunicipalityKey => Some(person.municipality_key()),
        Column::BirthDate => {
            return match person.birth_date() {
                PartialDate::Day(day) => Some(Value::String(day.to_string())),
                _ => None,
            };
        }
        Column::Nationalities => {
            let countries = person.nationalities().iter().filter(|code| is_country(code));
            let list: Vec<Value> = countries.cloned().map(Value::String).collect();
            return (!list.is_empty()).then_some(Value::Array(list));
        }
        // `Column::may_be_claimed` keeps these out of templates.
        Column::PersonId
        | Column::Sex
        | Column::Residence
        | Column::MovedIn
        | Column::MovedOut
        | Column::Died
        | Column::InformationBlock
        | Column::Guardians => None,
    };
    text.map(|text| Value::String(text.to_owned()))
}

#[cfg(test)]
mod tests;
