//! Cards for people of every kind, from the register and from presentations.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::PersonId;

const RESIDENT: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/wetzlar/templates/resident-card.toml"));
const LIBRARY: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/wetzlar/templates/library-card.toml"));

fn template(text: &str) -> Template {
    Template::parse("template", text).unwrap()
}

fn date(text: &str) -> Date {
    Date::parse(text).unwrap()
}

fn today() -> Date {
    date("2026-11-23")
}

fn person() -> Person {
    Person {
        id: PersonId::parse("A-1").unwrap(),
        family_name: Some("Weiß".into()),
        given_names: Some("Jürgen".into()),
        call_name: None,
        doctorate: None,
        birth_name: None,
        birth_date: PartialDate::parse("12.03.2009").unwrap(),
        birth_place: None,
        sex: crate::Sex::Male,
        nationalities: vec!["DE".into(), "XXA".into(), "TR".into()],
        street: Some("Langgasse".into()),
        house_number: Some("7".into()),
        house_number_suffix: Some("b".into()),
        postal_code: "35578".into(),
        locality: "Wetzlar".into(),
        district: None,
        municipality_key: "06532023".into(),
        residence: Residence::Main,
        moved_in: Some(date("2010-01-01")),
        moved_out: None,
        died: None,
        information_block: true,
        guardians: Vec::new(),
    }
}

/// The person, with something changed.
fn with(change: impl FnOnce(&mut Person)) -> Person {
    let mut person = person();
    change(&mut person);
    person
}

fn nym() -> BTreeMap<String, String> {
    BTreeMap::from([("patron_nym".to_owned(), "N-4711".to_owned())])
}

fn from_register(text: &str, person: &Person) -> Result<Filled, FillError> {
    let generated = nym();
    fill(
        &template(text),
        &Inputs { person: Some(person), presented: None, generated: &generated, latest: None },
        today(),
    )
}

fn from_proof(claims: Value) -> Result<Filled, FillError> {
    let Value::Object(claims) = claims else { panic!("an object") };
    let generated = nym();
    fill(
        &template(LIBRARY),
        &Inputs { person: None, presented: Some(&claims), generated: &generated, latest: None },
        today(),
    )
}

fn broken(result: Result<Filled, FillError>) -> Rule {
    match result.unwrap_err() {
        FillError::NotEligible { rule } => rule,
        other => panic!("{other}"),
    }
}

fn names(path: &[&str]) -> Vec<PathElement> {
    path.iter().map(|name| PathElement::Name((*name).to_owned())).collect()
}

#[test]
fn a_resident_card_has_every_claim_and_all_are_selectively_disclosable() {
    let filled = from_register(RESIDENT, &person()).unwrap();
    let expected = json!({
        "is_resident": true, "resident_ags": "06532023", "resident_region": "DE-HE",
        "age_equal_or_over": {"6": true, "7": true, "12": true, "14": true, "16": true, "18": false, "65": false},
        "family_name": "Weiß", "given_name": "Jürgen",
        "address": {"street_address": "Langgasse 7b", "postal_code": "35578", "locality": "Wetzlar", "country": "DE"},
    });
    assert_eq!(Value::Object(filled.claims.clone()), expected);
    assert_eq!(filled.disclosable.len(), 16);
    assert!(filled.disclosable.contains(&names(&["age_equal_or_over", "16"])));
    assert!(filled.disclosable.contains(&names(&["address", "locality"])));
    assert_eq!(filled.expires, date("2029-11-22"));
    assert_eq!(filled.display[0].text("de"), "ja");
    assert_eq!(format!("{filled:?} {:?}", filled.display[10]).matches("Weiß").count(), 0);
}

#[test]
fn a_library_card_shows_pseudonym_category_and_date_to_everybody_and_no_name_to_anybody() {
    let filled = from_register(LIBRARY, &person()).unwrap();
    let expected = json!({"patron_nym": "N-4711", "patron_category": "Kind", "valid_until": "2027-11-23"});
    assert_eq!(Value::Object(filled.claims), expected);
    assert!(filled.disclosable.is_empty());
}

#[test]
fn a_missing_optional_value_is_left_out_and_a_missing_required_one_refused() {
    let homeless = with(|p| {
        p.street = None;
        p.given_names = None;
    });
    let filled = from_register(RESIDENT, &homeless).unwrap();
    assert!(!filled.claims.contains_key("given_name"));
    assert!(!filled.disclosable.contains(&names(&["address", "street_address"])));
    assert_eq!(filled.claims["address"]["locality"], "Wetzlar");
    let strict = RESIDENT.replace("required = false", "required = true");
    let error = from_register(&strict, &homeless).unwrap_err();
    assert_eq!(error, FillError::MissingValue { origin: "given_names".into() });
}

#[test]
fn each_rule_keeps_the_ones_it_is_for_from_a_card() {
    let day = |text| Some(date(text));
    let dead = with(|p| {
        p.died = Some(PartialDate::Unknown);
    });
    assert_eq!(broken(from_register(RESIDENT, &dead)), Rule::Dead);
    let gone = with(|p| {
        p.moved_out = day("2026-11-23");
    });
    assert_eq!(broken(from_register(RESIDENT, &gone)), Rule::MovedAway);
    let coming = with(|p| {
        p.moved_in = day("2026-11-24");
    });
    assert_eq!(broken(from_register(RESIDENT, &coming)), Rule::NotYetMovedIn);
    let second = with(|p| {
        p.residence = Residence::Secondary;
    });
    assert_eq!(broken(from_register(RESIDENT, &second)), Rule::SecondaryResidence);
    let neighbour = with(|p| {
        p.municipality_key = "06531005".into();
    });
    assert_eq!(broken(from_register(RESIDENT, &neighbour)), Rule::OtherMunicipality);
    assert!(from_register(LIBRARY, &neighbour).is_ok());
    let bavarian = with(|p| {
        p.municipality_key = "09162000".into();
    });
    assert_eq!(broken(from_register(LIBRARY, &bavarian)), Rule::OtherRegion);
    let small = with(|p| {
        p.birth_date = PartialDate::parse("24.11.2019").unwrap();
    });
    assert_eq!(broken(from_register(LIBRARY, &small)), Rule::TooYoung { minimum: 7 });
    let seven = with(|p| {
        p.birth_date = PartialDate::parse("23.11.2019").unwrap();
    });
    assert!(from_register(LIBRARY, &seven).is_ok());
}

#[test]
fn residence_begins_on_the_day_of_moving_in_and_is_over_on_the_day_of_moving_out() {
    let person = with(|p| {
        p.moved_in = Some(date("2020-05-01"));
        p.moved_out = Some(date("2021-06-01"));
    });
    let days = ["2020-04-30", "2020-05-01", "2021-05-31", "2021-06-01"];
    assert_eq!(days.map(|day| person.lives_here_on(date(day))), [false, true, true, false]);
}

#[test]
fn an_announced_move_ends_the_card_the_day_before() {
    let leaving = with(|p| {
        p.moved_out = Some(date("2027-01-31"));
    });
    let filled = from_register(RESIDENT, &leaving).unwrap();
    assert_eq!((filled.expires, &filled.claims["is_resident"]), (date("2027-01-30"), &json!(true)));
    let filled = from_register(LIBRARY, &leaving).unwrap();
    assert_eq!(filled.claims["valid_until"], "2027-01-30");
}

#[test]
fn an_incomplete_birth_date_counts_as_the_youngest() {
    let age = |birth: &str, years: &str| {
        let person = with(|p| {
            p.birth_date = PartialDate::parse(birth).unwrap();
        });
        from_register(RESIDENT, &person).unwrap().claims["age_equal_or_over"][years].clone()
    };
    assert_eq!(age("00.00.2008", "18"), json!(false));
    assert_eq!(age("00.10.2008", "18"), json!(true));
    assert_eq!(age("00.00.0000", "6"), json!(false));
}

#[test]
fn nationalities_are_disclosable_one_by_one_and_statelessness_is_none() {
    let claim = r#"
[[claims]]
path = ["nationalities"]
label = { de = "Staatsangehörigkeit", en = "Nationality" }
source = { column = "nationalities" }
disclosure = "each"
required = false
"#;
    let text = format!("{RESIDENT}{claim}");
    let filled = from_register(&text, &person()).unwrap();
    assert_eq!(filled.claims["nationalities"], json!(["DE", "TR"]));
    let second = vec![PathElement::Name("nationalities".into()), PathElement::Index(1)];
    assert_eq!(filled.disclosable.last(), Some(&second));
    assert_eq!(serde_json::to_value(&second).unwrap(), json!(["nationalities", 1]));
    let stateless = with(|p| {
        p.nationalities = vec!["XXA".into()];
    });
    assert!(!from_register(&text, &stateless).unwrap().claims.contains_key("nationalities"));
}

#[test]
fn a_library_card_is_given_to_somebody_who_only_presented_a_resident_card() {
    let shown = json!({"is_resident": true, "resident_region": "DE-HE", "age_equal_or_over": {"7": true, "18": true}});
    assert_eq!(from_proof(shown).unwrap().claims["patron_category"], "Erwachsen");
}

#[test]
fn what_was_presented_must_prove_the_rules() {
    let shown = json!({"is_resident": true, "resident_region": "DE-HE", "age_equal_or_over": {"7": true, "18": false}});
    let shown_with = |pointer: &str, value: Value| {
        let mut shown = shown.clone();
        *shown.pointer_mut(pointer).unwrap() = value;
        from_proof(shown)
    };
    assert_eq!(broken(shown_with("/is_resident", json!(false))), Rule::NotResident);
    assert_eq!(broken(shown_with("/resident_region", json!("DE-BY"))), Rule::OtherRegion);
    assert_eq!(broken(shown_with("/age_equal_or_over/7", json!(false))), Rule::TooYoung { minimum: 7 });
    let unsuitable = |origin: &str| FillError::UnsuitableValue { origin: origin.into() };
    assert_eq!(shown_with("/is_resident", json!("true")).unwrap_err(), unsuitable("presented.is_resident"));
    assert_eq!(
        shown_with("/age_equal_or_over/18", json!([])).unwrap_err(),
        unsuitable("presented.age_equal_or_over.18")
    );
    assert_eq!(
        shown_with("/resident_region", json!(6)).unwrap_err(),
        unsuitable("presented.resident_region")
    );
    let error = shown_with("/age_equal_or_over", json!({"7": true})).unwrap_err();
    assert_eq!(error, FillError::MissingValue { origin: "presented.age_equal_or_over.18".into() });
    let error = from_proof(json!({})).unwrap_err();
    assert_eq!(error, FillError::MissingValue { origin: "presented.is_resident".into() });
}

#[test]
fn a_presented_value_is_copied_only_if_it_is_a_single_one() {
    let text = LIBRARY.replace("generated = \"patron_nym\"", "presented = [\"address\", \"locality\"]");
    let generated = BTreeMap::new();
    let run = |claims: Value| {
        let Value::Object(claims) = claims else { panic!("an object") };
        let person = person();
        let inputs =
            Inputs { person: Some(&person), presented: Some(&claims), generated: &generated, latest: None };
        fill(&template(&text), &inputs, today())
    };
    assert_eq!(run(json!({"address": {"locality": "Aßlar"}})).unwrap().claims["patron_nym"], "Aßlar");
    let origin = "presented.address.locality".to_owned();
    assert_eq!(run(json!({"address": {}})).unwrap_err(), FillError::MissingValue { origin: origin.clone() });
    let long = json!({"address": {"locality": "x".repeat(MAX_LABEL_BYTES + 1)}});
    assert_eq!(run(long).unwrap_err(), FillError::UnsuitableValue { origin });
}

#[test]
fn a_pseudonym_that_was_not_made_is_missed() {
    let generated = BTreeMap::new();
    let person = person();
    let inputs = Inputs { person: Some(&person), presented: None, generated: &generated, latest: None };
    let error = fill(&template(LIBRARY), &inputs, today()).unwrap_err();
    assert_eq!(error, FillError::MissingValue { origin: "generated.patron_nym".into() });
}

#[test]
fn a_card_beyond_the_calendar_is_refused() {
    let generated = nym();
    let person = with(|p| {
        p.birth_date = PartialDate::parse("01.01.9900").unwrap();
    });
    let inputs = Inputs { person: Some(&person), presented: None, generated: &generated, latest: None };
    let error = fill(&template(RESIDENT), &inputs, date("9999-12-31")).unwrap_err();
    assert_eq!(error, FillError::ExpiryOutOfRange);
}

proptest! {
    #[test]
    fn every_disclosable_path_leads_to_a_claim(year in 1930u16..2026, month in 0u8..13, street in any::<bool>()) {
        let birth = PartialDate::parse(&format!("00.{month:02}.{year}")).unwrap();
        let person = with(|p| { p.birth_date = birth; p.street = street.then(|| "Gasse".into()); });
        let filled = from_register(RESIDENT, &person).unwrap();
        for path in &filled.disclosable {
            let claims = Value::Object(filled.claims.clone());
            let mut value = &claims;
            for step in path {
                value = match step {
                    PathElement::Name(name) => &value[name],
                    PathElement::Index(index) => &value[*index],
                };
            }
            prop_assert!(!value.is_null());
        }
    }

    #[test]
    fn a_higher_age_claim_implies_every_lower_one(year in 1930u16..2026) {
        let person = with(|p| { p.birth_date = PartialDate::Year(year); });
        let filled = from_register(RESIDENT, &person).unwrap();
        let ages: Vec<bool> = ["6", "7", "12", "14", "16", "18", "65"]
            .iter().map(|years| filled.claims["age_equal_or_over"][years].as_bool().unwrap()).collect();
        prop_assert!(ages.windows(2).all(|pair| pair[0] || !pair[1]));
    }
}
