//! The example city: every file is read, and exactly the known faults of its register are found.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper of a test fails the test, as the test itself would"
)]

use std::{collections::BTreeMap, fs, path::PathBuf, process::Command};

use einmal_register::{
    CityConfig, Date, FillError, Inputs, PartialDate, Register, RequestTemplate, Rule, Template, fill,
    read_register,
};

fn example(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/wetzlar")).join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(example(name)).unwrap()
}

fn today() -> Date {
    Date::parse("2026-11-23").unwrap()
}

fn city() -> CityConfig {
    CityConfig::parse("city.toml", &text("city.toml")).unwrap()
}

fn register() -> Register {
    let city = city();
    let file = fs::File::open(example(city.register().file())).unwrap();
    read_register(file, city.register().columns(), today()).unwrap()
}

fn files(folder: &str) -> Vec<(String, String)> {
    let mut files: Vec<_> = fs::read_dir(example(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.display().to_string(), fs::read_to_string(&path).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn the_register_has_two_thousand_rows_and_exactly_the_deliberate_faults() {
    let report = register().report;
    assert_eq!(text("einwohner.csv").lines().count(), 2_001);
    assert_eq!((report.rows, report.bad_row_count, report.blank_lines), (2_000, 17, 0));
    assert!(report.ignored_columns.is_empty());
    let found = report.bad_rows.iter().map(|row| {
        let (number, name) = row.column.as_ref().map_or((0, ""), |place| (place.number, place.name.as_str()));
        format!("{};{number};{name};{}", row.line, row.reason.code())
    });
    let expected = text("bad-rows.csv");
    assert_eq!(found.collect::<Vec<_>>(), expected.lines().skip(1).collect::<Vec<_>>());
}

#[test]
fn the_report_holds_nothing_of_the_bad_rows_but_line_and_column() {
    let (register, csv) = (register(), text("einwohner.csv"));
    let printed = register.report.to_string();
    for bad in &register.report.bad_rows {
        let row = csv.lines().nth(usize::try_from(bad.line).unwrap() - 1).unwrap();
        for value in row.split(';').filter(|value| value.chars().count() > 3 && *value != "Wetzlar") {
            assert!(!printed.contains(value), "{bad}");
        }
    }
}

#[test]
fn real_life_is_in_the_register() {
    let people = register().people;
    let count =
        |holds: &dyn Fn(&einmal_register::Person) -> bool| people.values().filter(|p| holds(p)).count();
    assert!(count(&|p| p.is_dead()) >= 25);
    assert!(count(&|p| !p.lives_here_on(today()) && !p.is_dead()) >= 50);
    assert!(count(&|p| p.age_on(today()) > 100 && !p.is_dead()) >= 5);
    assert!((0..18).all(|age| count(&|p| p.age_on(today()) == age) > 0));
    assert!(count(&|p| p.family_name().is_none() || p.given_names().is_none()) >= 3);
    assert!(count(&|p| !matches!(p.birth_date(), PartialDate::Day(_))) >= 10);
    assert!(count(&|p| p.house_number().is_none()) >= 20);
    assert!(count(&|p| p.has_information_block()) >= 5);
    assert!(count(&|p| p.street().is_some_and(|street| street.contains(';') && street.contains('"'))) == 1);
    assert!(
        count(&|p| p.age_on(today()) < 18 && p.guardians().iter().all(|id| people.contains_key(id))) >= 400
    );
    let mut twins = BTreeMap::<_, usize>::new();
    for p in people.values() {
        let born = p.birth_date().earliest();
        *twins.entry((p.family_name(), p.given_names(), born)).or_default() += 1;
    }
    assert!(twins.values().filter(|count| **count > 1).count() >= 5);
}

#[test]
fn every_template_and_request_is_read_under_its_own_name() {
    for (path, text) in files("templates") {
        assert!(path.ends_with(&format!("{}.toml", Template::parse(&path, &text).unwrap().id())), "{path}");
    }
    for (path, text) in files("requests") {
        assert!(
            path.ends_with(&format!("{}.toml", RequestTemplate::parse(&path, &text).unwrap().id())),
            "{path}"
        );
    }
}

#[test]
fn requests_ask_only_for_claims_that_the_templates_have() {
    let templates: Vec<Template> =
        files("templates").iter().map(|(path, text)| Template::parse(path, text).unwrap()).collect();
    let mut asked = 0;
    for (path, text) in files("requests") {
        let request = RequestTemplate::parse(&path, &text).unwrap();
        for credential in request.dcql_query()["credentials"].as_array().unwrap() {
            let vct = credential["meta"]["vct_values"][0].as_str().unwrap();
            let template = templates.iter().find(|template| template.vct() == vct).unwrap();
            for claim in credential["claims"].as_array().unwrap() {
                let has =
                    template.claims().iter().any(|known| serde_json::json!(known.path) == claim["path"]);
                assert!(has, "{path}: {}", claim["path"]);
                asked += 1;
            }
        }
    }
    assert_eq!(asked, 10);
}

#[test]
fn everybody_gets_each_card_or_a_rule_that_says_why_not() {
    let people = register().people;
    let generated = BTreeMap::from([("patron_nym".to_owned(), "N-1".to_owned())]);
    for (path, text) in files("templates") {
        let template = Template::parse(&path, &text).unwrap();
        let mut refused = BTreeMap::<String, usize>::new();
        for person in people.values() {
            let inputs =
                Inputs { person: Some(person), presented: None, generated: &generated, latest: None };
            match fill(&template, &inputs, today()) {
                Ok(filled) => assert!(!person.is_dead() && filled.expires > today()),
                Err(FillError::NotEligible { rule }) => *refused.entry(rule.to_string()).or_default() += 1,
                Err(other) => panic!("{path}: {other}"),
            }
        }
        let dead = people.values().filter(|person| person.is_dead()).count();
        assert_eq!(refused.get(&Rule::Dead.to_string()), Some(&dead));
        assert_eq!(refused.get(&Rule::NotYetMovedIn.to_string()), Some(&1));
    }
}

#[test]
fn the_generator_writes_these_very_files() {
    let Ok(output) = Command::new("python3").arg(example("generate.py")).arg("--check").output() else {
        eprintln!("skipped: no python3 on this machine");
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
