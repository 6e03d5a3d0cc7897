//! The targets `csv` and `configuration`: files a city puts into its folder.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    sync::LazyLock,
};

use einmal_credentials::dcql::DcqlQuery;
use einmal_register::{
    CityConfig, Date, Inputs, MAX_CLAIMS, MAX_FIELD_BYTES, MAX_REPORTED_ROWS, Person, Register,
    RequestTemplate, Template, fill, read_register,
};
use serde_json::Value;

const CITY: &str = include_str!("../../../examples/wetzlar/city.toml");
const RESIDENT_CARD: &str = include_str!("../../../examples/wetzlar/templates/resident-card.toml");

/// Most people per input for whom a card is filled.
const MAX_FILLED: usize = 4;

static COLUMNS: LazyLock<CityConfig> =
    LazyLock::new(|| CityConfig::parse("city.toml", CITY).expect("the example is good"));
static CARD: LazyLock<Template> =
    LazyLock::new(|| Template::parse("resident-card.toml", RESIDENT_CARD).expect("the example is good"));

fn today() -> Date {
    Date::new(2026, 11, 23).expect("a day")
}

/// Yields one byte at a time, as a slow file may.
struct Dripping<'a>(&'a [u8]);

impl Read for Dripping<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some((first, rest)) = self.0.split_first() else { return Ok(0) };
        let Some(slot) = buffer.first_mut() else { return Ok(0) };
        (*slot, self.0) = (*first, rest);
        Ok(1)
    }
}

/// Reads `bytes` as a register export with the columns of the example city, and fills cards for its first people.
///
/// True if the file is readable and at least one row is good.
pub fn csv(bytes: &[u8]) -> bool {
    let columns = COLUMNS.register().columns();
    let read = read_register(bytes, columns, today());
    let dripped = read_register(Dripping(bytes), columns, today());
    match (&read, &dripped) {
        (Ok(read), Ok(dripped)) => {
            assert_eq!(read.report, dripped.report);
            assert!(read.people.keys().eq(dripped.people.keys()));
        }
        (Err(read), Err(dripped)) => assert_eq!(read, dripped),
        _ => panic!("how the bytes arrive decides whether they are read"),
    }
    let Ok(register) = read else { return false };
    check_register(bytes, &register);
    !register.people.is_empty()
}

fn check_register(bytes: &[u8], register: &Register) {
    let report = &register.report;
    let good = u64::try_from(register.people.len()).expect("a count");
    assert_eq!(good + report.bad_row_count, report.rows, "every row is taken or reported");
    assert!(report.bad_rows.len() <= MAX_REPORTED_ROWS);
    let lines = bytes.split(|byte| *byte == b'\n').count();
    assert!(report.bad_rows.iter().all(|row| row.line > 1 && row.line <= lines as u64));
    assert!(report.bad_rows.windows(2).all(|pair| pair[0].line < pair[1].line));
    assert!(report.to_string().starts_with(&report.rows.to_string()));
    for (id, person) in &register.people {
        assert_eq!(id, person.id());
        let texts = [person.family_name(), person.given_names(), person.street(), Some(person.locality())];
        for text in texts.into_iter().flatten() {
            assert!(text.len() <= MAX_FIELD_BYTES && !text.contains(char::is_control));
            assert!(!text.is_empty() && text.trim() == text);
        }
        assert!(!person.guardians().contains(id));
    }
    for person in register.people.values().take(MAX_FILLED) {
        check_card(&CARD, Some(person));
    }
}

/// Fills `template` for `person`, or for nobody, and checks the result.
fn check_card(template: &Template, person: Option<&Person>) {
    let generated = BTreeMap::from([("patron_nym".to_owned(), "N-1".to_owned())]);
    let inputs = Inputs { person, presented: None, generated: &generated, latest: None };
    let Ok(filled) = fill(template, &inputs, today()) else { return };
    assert!(!(template.eligibility().alive && person.is_some_and(Person::is_dead)));
    let claims = Value::Object(filled.claims);
    for path in &filled.disclosable {
        let mut value = &claims;
        for step in path {
            value = match step {
                einmal_register::PathElement::Name(name) => value.get(name),
                einmal_register::PathElement::Index(index) => value.get(*index),
            }
            .expect("what can be disclosed is there");
        }
    }
    assert!(filled.display.iter().all(|line| line.text("de").len() >= line.text("de").trim().len()));
}

/// Reads `bytes` as a city configuration, as a credential template and as a request template.
pub fn configuration(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let city = CityConfig::parse("city.toml", text);
    if let Ok(city) = &city {
        assert!(einmal_register::region_of_municipality(city.ags()) == Some(city.region()));
        assert!(city.name().texts().any(|(language, _)| language == city.language()));
    }
    let template = Template::parse("template.toml", text);
    if let Ok(template) = &template {
        assert!(!template.claims().is_empty() && template.claims().len() <= MAX_CLAIMS);
        assert!(template.has_status_list() || template.revocation_reasons().is_empty());
        check_card(template, None);
    }
    let request = RequestTemplate::parse("request.toml", text);
    if let Ok(request) = &request {
        let query = DcqlQuery::from_value(request.dcql_query().clone());
        query.expect("a request template that is accepted holds a query that can be asked");
    }
    for error in [city.as_ref().err(), template.as_ref().err(), request.as_ref().err()].into_iter().flatten()
    {
        assert!(!error.to_string().is_empty());
    }
    city.is_ok() || template.is_ok() || request.is_ok()
}
