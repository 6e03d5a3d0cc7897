//! Templates with one fault each.

use super::*;
use crate::{ColumnsError, Place};

const GOOD: &str = r#"
id = "card"
vct = "urn:de:kommune:card:1"
label = { de = "Karte", en = "Card", tr = "Kart" }
validity_days = 30
status_list = true

[eligibility]
municipality = "06532023"
region = "DE-HE"
minimum_age = 7

[[revocation_reasons]]
code = "lost"
label = { de = "Verloren", en = "Lost" }

[[claims]]
path = ["address", "locality"]
label = { de = "Ort", en = "Town" }
source = { column = "locality" }
disclosure = "selective"
required = true

[[claims]]
path = ["category"]
label = { de = "Gruppe", en = "Category" }
source = { age_bands = [{ below = 18, value = "Kind" }, { value = "Erwachsen" }] }
disclosure = "always"
required = true
"#;

fn refused(from: &str, to: &str) -> (String, Problem) {
    assert!(GOOD.contains(from), "{from}");
    let error = Template::parse("card.toml", &GOOD.replacen(from, to, 1)).unwrap_err();
    assert!(error.to_string().starts_with("card.toml: "), "{error}");
    (error.place.to_string(), error.problem)
}

fn at(place: &str, problem: Problem) -> (String, Problem) {
    (place.to_owned(), problem)
}

#[test]
fn a_good_template_is_read() {
    let template = Template::parse("card.toml", GOOD).unwrap();
    assert_eq!((template.id(), template.validity_days(), template.has_status_list()), ("card", 30, true));
    assert_eq!(template.claims()[0].source, Source::Column(Column::Locality));
    assert_eq!((template.label().text("tr"), template.label().text("pl")), ("Kart", "Card"));
}

#[test]
fn unknown_members_and_wrong_types_are_refused_with_their_line() {
    for (from, to, word) in [
        ("validity_days = 30", "validity_days = 30\nvalid_days = 30", "valid_days"),
        ("minimum_age = 7", "minimum_agee = 7", "minimum_agee"),
        ("required = true", "required = true\nsd = true", "sd"),
        ("column = \"locality\"", "column = \"loc\"", "loc"),
        ("column = \"locality\"", "rule = \"is_rich\"", "is_rich"),
        ("\"selective\"", "\"sometimes\"", "sometimes"),
        ("validity_days = 30", "validity_days = -1", ""),
        ("id = \"card\"", "id = ", ""),
    ] {
        let (place, problem) = refused(from, to);
        assert!(place.starts_with("line "), "{place}");
        assert!(matches!(&problem, Problem::Syntax { message } if message.contains(word)), "{problem}");
    }
    let error = Template::parse("card.toml", "id = \"card\"\nfoo = 1\n").unwrap_err();
    assert_eq!(error.place, Place::Position { line: 2, column: 1 });
}

#[test]
fn names_and_numbers_are_checked() {
    assert_eq!(refused("id = \"card\"", "id = \"Card\""), at("id", Problem::Name));
    assert_eq!(refused("urn:de", "de"), at("vct", Problem::CredentialType));
    assert_eq!(refused(", en = \"Card\"", ""), at("label", Problem::Languages));
    assert_eq!(refused("tr = ", "tr-TR = "), at("label", Problem::Languages));
    assert_eq!(refused("\"Karte\"", "\" \""), at("label.de", Problem::Text));
    let range = Problem::Range { min: 1, max: MAX_VALIDITY_DAYS };
    assert_eq!(refused("validity_days = 30", "validity_days = 0"), at("validity_days", range));
    assert_eq!(refused("06532023", "6532023"), at("eligibility.municipality", Problem::MunicipalityKey));
    assert_eq!(refused("DE-HE", "DE-BY"), at("eligibility.region", Problem::Region));
    assert_eq!(
        refused("status_list = true", "status_list = false"),
        at("revocation_reasons", Problem::StatusWithoutReasons)
    );
    let age = Problem::Range { min: 1, max: 125 };
    assert_eq!(refused("minimum_age = 7", "minimum_age = 126"), at("eligibility.minimum_age", age));
}

#[test]
fn claims_a_verifier_must_always_see_are_never_disclosable() {
    for name in NEVER_DISCLOSABLE {
        let path = format!("\"{name}\", \"x\"");
        let (place, problem) = refused("\"address\", \"locality\"", &path);
        assert_eq!(
            (place.as_str(), problem),
            ("claims[0].path", Problem::NeverDisclosable { name: name.into() })
        );
    }
    let set = Problem::SetByIssuer { name: "exp".into() };
    assert_eq!(refused("path = [\"category\"]", "path = [\"exp\"]"), at("claims[1].path", set));
    let set = Problem::SetByIssuer { name: "iat".into() };
    assert_eq!(refused("path = [\"category\"]", "path = [\"iat\"]"), at("claims[1].path", set));
}

#[test]
fn paths_are_unique_apart_and_bounded() {
    let first = || "claims[0].path".to_owned();
    let twice = refused("path = [\"category\"]", "path = [\"address\", \"locality\"]");
    assert_eq!(twice, at("claims[1].path", Problem::Duplicate { first: first() }));
    for path in ["[\"address\"]", "[\"address\", \"locality\", \"x\"]"] {
        let inside = refused("path = [\"category\"]", &format!("path = {path}"));
        assert_eq!(inside, at("claims[1].path", Problem::Overlap { other: first() }));
    }
    for path in ["[]", "[\"\"]", "[\"a\", \"_sd\"]", "[\"...\"]", "[\"a\",\"b\",\"c\",\"d\",\"e\"]"] {
        assert_eq!(refused("[\"category\"]", path), at("claims[1].path", Problem::Path));
    }
    let one = &GOOD[GOOD.find("[[claims]]").unwrap()..GOOD.rfind("[[claims]]").unwrap()];
    let many = GOOD.to_owned() + &one.repeat(MAX_CLAIMS);
    let error = Template::parse("card.toml", &many).unwrap_err();
    assert_eq!(error.problem, Problem::Count { max: MAX_CLAIMS });
}

#[test]
fn a_source_is_one_and_fits() {
    let at_source = |problem| at("claims[0].source", problem);
    let source = |text: &str| refused("{ column = \"locality\" }", text);
    assert_eq!(source("{}"), at_source(Problem::OneSource));
    assert_eq!(source("{ column = \"locality\", value = 1 }"), at_source(Problem::OneSource));
    let id = Problem::Unclaimable { column: Column::PersonId };
    assert_eq!(source("{ column = \"person_id\" }"), at_source(id));
    assert_eq!(source("{ rule = \"age_equal_or_over\" }"), at_source(Problem::Years));
    assert_eq!(source("{ rule = \"is_resident\", years = 3 }"), at_source(Problem::Years));
    assert_eq!(source("{ value = 1, years = 3 }"), at_source(Problem::Years));
    let range = Problem::Range { min: 1, max: 125 };
    assert_eq!(source("{ rule = \"age_equal_or_over\", years = 0 }"), at("claims[0].source.years", range));
    assert_eq!(source("{ value = 1.5 }"), at_source(Problem::Scalar));
    assert_eq!(source("{ value = [1] }"), at_source(Problem::Scalar));
    assert_eq!(source("{ presented = [] }"), at_source(Problem::Path));
    assert_eq!(source("{ generated = \"Nym!\" }"), at_source(Problem::Name));
    assert_eq!(refused("\"selective\"", "\"each\""), at("claims[0].disclosure", Problem::NotAList));
}

#[test]
fn age_bands_cover_every_age_once() {
    for bands in [
        "[]",
        "[{ below = 18, value = \"Kind\" }]",
        "[{ value = \"a\" }, { value = \"b\" }]",
        "[{ below = 18, value = \"a\" }, { below = 18, value = \"b\" }, { value = \"c\" }]",
        "[{ below = 18, value = \"\" }, { value = \"c\" }]",
    ] {
        let found = refused("[{ below = 18, value = \"Kind\" }, { value = \"Erwachsen\" }]", bands);
        assert_eq!(found, at("claims[1].source", Problem::AgeBands), "{bands}");
    }
}

#[test]
fn reasons_are_unique() {
    let doubled = "[[revocation_reasons]]\ncode = \"lost\"\nlabel = { de = \"W\", en = \"G\" }\n\n[[claims]]";
    let first = "revocation_reasons[0].code".to_owned();
    assert_eq!(
        refused("[[claims]]", doubled),
        at("revocation_reasons[1].code", Problem::Duplicate { first })
    );
}

#[test]
fn a_huge_file_is_refused_before_it_is_parsed() {
    let error = Template::parse("card.toml", &"#".repeat(crate::MAX_CONFIG_BYTES + 1)).unwrap_err();
    assert_eq!((error.place, error.problem), (Place::File, Problem::TooLarge));
}

#[test]
fn the_text_of_an_error_names_file_place_and_remedy() {
    let error = ConfigError {
        file: "city.toml".into(),
        place: Place::Key("register.columns".into()),
        problem: ColumnsError::Missing { column: Column::Died }.into(),
    };
    let text = "city.toml: register.columns: `died` is not named; add died = \"<header in the file>\"";
    assert_eq!(error.to_string(), text);
}
