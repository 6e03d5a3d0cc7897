//! A citizen of the story: the row in the register, what of it must never be found, and what a card must say.
#![allow(clippy::indexing_slicing, reason = "reading a JSON value by index yields null, never a panic")]

use std::collections::BTreeMap;

use einmal_register::{ClaimTemplate, Column, Columns, Date, Person, Residence, Source, Template};
use serde_json::{Map, Value};

use super::canary::Canary;
use crate::service::templates::CityFiles;

/// Claims that every card carries and no template names.
const TECHNICAL: [&str; 7] = ["iss", "vct", "cnf", "iat", "nbf", "exp", "status"];

/// A row of the register as it stands in the file, read without the register's own reader.
pub(super) struct Row(BTreeMap<Column, String>);

impl Row {
    fn text(&self, column: Column) -> Option<&str> {
        self.0.get(&column).map(String::as_str).filter(|text| !text.is_empty())
    }

    /// The rows of a file by person. Those with quoted fields are skipped: the story needs only two plain ones.
    fn all(text: &str, columns: &Columns) -> BTreeMap<String, Self> {
        let delimiter = char::from(columns.delimiter());
        let mut lines = text.trim_start_matches('\u{feff}').lines();
        let header: Vec<&str> = lines.next().unwrap_or_default().split(delimiter).map(str::trim).collect();
        let row = |line: &str| {
            let fields: Vec<&str> = line.split(delimiter).map(str::trim).collect();
            let named = columns.headers().filter_map(|(column, name)| {
                let place = header.iter().position(|header| *header == name)?;
                Some((column, (*fields.get(place)?).to_owned()))
            });
            let row = Self(named.collect());
            Some((row.text(Column::PersonId)?.to_owned(), row))
        };
        lines.filter(|line| !line.contains('"')).filter_map(row).collect()
    }

    /// Year of the birth date, and `mm-dd`, if it is known in full.
    fn birth(&self) -> Option<(u16, String)> {
        let text = self.text(Column::BirthDate)?;
        let parts: Vec<&str> = text.split(['.', '-']).collect();
        let [first, month, last] = parts.as_slice() else { return None };
        let (year, day) = if text.contains('.') { (last, first) } else { (first, last) };
        let known = *month != "00" && *day != "00";
        known.then_some((year.parse().ok()?, format!("{month}-{day}")))
    }

    /// Street, house number and suffix as written on a letter.
    fn street_address(&self) -> Option<String> {
        let (street, number) = (self.text(Column::Street)?, self.text(Column::HouseNumber));
        let suffix = self.text(Column::HouseNumberSuffix).unwrap_or_default();
        Some(number.map_or_else(|| street.to_owned(), |number| format!("{street} {number}{suffix}")))
    }

    fn canaries(&self) -> Option<Vec<Canary>> {
        let (year, day) = self.birth()?;
        Some(vec![
            Canary::new("a family name", self.text(Column::FamilyName)?)?,
            Canary::new("a given name", self.text(Column::GivenNames)?)?,
            Canary::new("a birth date", &format!("{year:04}-{day}"))?,
            Canary::new("a birth date as the register writes it", self.text(Column::BirthDate)?)?,
            Canary::new("an address", &self.street_address()?)?,
        ])
    }

    /// What a claim must say on `today`: `None` if it does not come from the row, `Some(None)` if it must be left out.
    fn claim(&self, claim: &ClaimTemplate, region: &str, today: Date) -> Option<Option<Value>> {
        let text = |text: Option<&str>| text.map(Value::from);
        Some(match &claim.source {
            Source::Column(Column::BirthDate) => {
                self.birth().map(|(year, day)| Value::from(format!("{year:04}-{day}")))
            }
            Source::Column(Column::Nationalities) => return None,
            Source::Column(column) => text(self.text(*column)),
            Source::AgeEqualOrOver { years } => {
                let (year, day) = self.birth()?;
                Some(Value::from(format!("{:04}-{day}", year + years) <= today.to_string()))
            }
            Source::IsResident => Some(Value::from(true)),
            Source::ResidentAgs => text(self.text(Column::MunicipalityKey)),
            Source::ResidentRegion => text(Some(region)),
            Source::StreetAddress => self.street_address().map(Value::from),
            Source::Value(value) => Some(value.clone()),
            Source::ValidUntil | Source::AgeBands(_) | Source::Presented(_) | Source::Generated(_) => {
                return None;
            }
        })
    }
}

/// A person of the register.
pub(super) struct Chosen {
    pub(super) id: String,
    row: Row,
    /// What must never be found where it does not belong.
    pub(super) canaries: Vec<Canary>,
}

impl Chosen {
    /// Fails unless the claims of a card say what the row says, and nothing that its template does not name; returns
    /// how many were compared. The failure names claims, but never their values.
    pub(super) fn compare(
        &self,
        claims: &Value,
        template: &Template,
        region: &str,
        today: Date,
    ) -> Result<usize, String> {
        let mut compared = 0;
        for claim in template.claims() {
            let Some(expected) = self.row.claim(claim, region, today) else { continue };
            let found = claim.path.iter().try_fold(claims, |value, name| value.get(name));
            if found != expected.as_ref() {
                return Err(format!("the claim {} is not what the register says", claim.path.join(".")));
            }
            compared += 1;
        }
        let named = |path: &Vec<String>| template.claims().iter().any(|claim| claim.path == *path);
        match leaves(claims).iter().find(|path| !named(path)) {
            Some(path) => Err(format!("the card says {}, which its template does not name", path.join("."))),
            None if compared == 0 => Err("no claim of the card comes from the register".into()),
            None => Ok(compared),
        }
    }

    /// Fails unless the preview of an offer shows every text of the row that the card will carry.
    pub(super) fn compare_preview(
        &self,
        decide: &Value,
        template: &Template,
        region: &str,
        today: Date,
    ) -> Result<(), String> {
        let lines: Vec<&str> =
            decide["preview"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for claim in template.claims() {
            let Some(Some(Value::String(text))) = self.row.claim(claim, region, today) else { continue };
            if !lines.iter().any(|line| line.ends_with(&format!(": {text}"))) {
                return Err(format!("the offer does not show {} of the person", claim.path.join(".")));
            }
        }
        Ok(())
    }
}

/// Paths to everything a card says, without what every card carries.
pub(super) fn leaves(claims: &Value) -> Vec<Vec<String>> {
    fn walk(members: &Map<String, Value>, path: &[String], found: &mut Vec<Vec<String>>) {
        for (name, value) in members {
            let path = [path, std::slice::from_ref(name)].concat();
            match value {
                Value::Object(inner) => walk(inner, &path, found),
                _ => found.push(path),
            }
        }
    }
    let mut found = Vec::new();
    let mut outer = claims.as_object().cloned().unwrap_or_default();
    outer.retain(|name, _| !TECHNICAL.contains(&name.as_str()));
    walk(&outer, &[], &mut found);
    found
}

/// Two adults who live here, with names and addresses long enough to search for, and with nothing in common.
pub(super) fn choose(files: &CityFiles, register: &str, today: Date) -> Vec<Chosen> {
    let mut rows = Row::all(register, files.config.register().columns());
    let adult = |person: &&Person| {
        person.lives_here_on(today)
            && !person.is_dead()
            && person.residence() == Residence::Main
            && (18..65).contains(&person.age_on(today))
    };
    let mut chosen: Vec<Chosen> = Vec::new();
    for person in files.register.people.values().filter(adult) {
        let Some(row) = rows.remove(person.id().as_str()) else { continue };
        let Some(canaries) = row.canaries() else { continue };
        let shared = |one: &Chosen| {
            one.canaries.iter().any(|canary| {
                canaries
                    .iter()
                    .any(|other| other.text().contains(canary.text()) || canary.text().contains(other.text()))
            })
        };
        if chosen.iter().any(shared) {
            continue;
        }
        chosen.push(Chosen { id: person.id().as_str().to_owned(), row, canaries });
        if chosen.len() == 2 {
            break;
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use einmal_didcomm::UnixSeconds;
    use einmal_register::{Inputs, PersonId, fill};
    use serde_json::json;

    use super::*;

    fn story() -> (CityFiles, Vec<Chosen>, Date) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/wetzlar");
        let today = Date::new(2026, 11, 29).unwrap();
        let now = UnixSeconds(u64::try_from(today.unix_seconds()).unwrap());
        let files = CityFiles::read(&folder, now).unwrap();
        let text = std::fs::read_to_string(folder.join("einwohner.csv")).unwrap();
        let chosen = choose(&files, &text, today);
        (files, chosen, today)
    }

    fn card(files: &CityFiles, id: &str, today: Date) -> Value {
        let person = &files.register.people[&PersonId::parse(id).unwrap()];
        let inputs =
            Inputs { person: Some(person), presented: None, generated: &BTreeMap::new(), latest: None };
        Value::Object(fill(&files.templates["resident-card"], &inputs, today).unwrap().claims)
    }

    #[test]
    fn a_card_filled_from_the_row_agrees_with_it_and_anothers_does_not() {
        let (files, chosen, today) = story();
        let (template, region) = (&files.templates["resident-card"], files.config.region());
        let own = card(&files, &chosen[0].id, today);
        assert_eq!(chosen[0].compare(&own, template, region, today), Ok(template.claims().len()));
        let refused = chosen[1].compare(&own, template, region, today).unwrap_err();
        assert!(refused.contains("is not what the register says"), "{refused}");
    }

    #[test]
    fn every_claim_that_is_changed_left_out_or_added_is_noticed() {
        let (files, chosen, today) = story();
        let (template, region) = (&files.templates["resident-card"], files.config.region());
        let own = card(&files, &chosen[0].id, today);
        for path in leaves(&own) {
            let pointer = format!("/{}", path.join("/"));
            let mut changed = own.clone();
            *changed.pointer_mut(&pointer).unwrap() = json!("changed");
            let refused = chosen[0].compare(&changed, template, region, today).unwrap_err();
            assert!(refused.contains(&path.join(".")), "{refused}");
            *changed.pointer_mut(&pointer).unwrap() = Value::Null;
            assert!(
                chosen[0].compare(&changed, template, region, today).unwrap_err().contains(&path.join("."))
            );
        }
        let mut more = own.clone();
        more["religion"] = json!("none");
        let refused = chosen[0].compare(&more, template, region, today).unwrap_err();
        assert!(refused.contains("religion"), "{refused}");
        let refused = chosen[0].compare(&json!({}), template, region, today).unwrap_err();
        assert!(refused.contains("is not what the register says"), "{refused}");
    }

    #[test]
    fn a_preview_that_lacks_a_text_of_the_person_is_noticed() {
        let (files, chosen, today) = story();
        let (template, region) = (&files.templates["resident-card"], files.config.region());
        let texts: Vec<String> = template
            .claims()
            .iter()
            .filter_map(|claim| {
                chosen[0].row.claim(claim, region, today)??.as_str().map(|text| format!("x: {text}"))
            })
            .collect();
        let shown =
            |lines: &[String]| chosen[0].compare_preview(&json!({"preview": lines}), template, region, today);
        assert_eq!(shown(&texts), Ok(()));
        for left_out in 0..texts.len() {
            let mut lines = texts.clone();
            let gone = lines.remove(left_out);
            assert!(lines.contains(&gone) || shown(&lines).unwrap_err().contains("does not show"));
        }
    }

    #[test]
    fn the_two_people_have_no_canary_in_common() {
        let (_, chosen, _) = story();
        assert_eq!(chosen.len(), 2);
        for canary in &chosen[0].canaries {
            assert!(!chosen[1].canaries.contains(canary), "{}", canary.name);
        }
        let register = chosen.iter().all(|one| one.canaries.iter().any(|canary| canary.text().contains('.')));
        assert!(register, "dates are looked for as the register writes them");
    }
}
