//! Request templates with one fault each.

use serde_json::json;

use super::*;

const GOOD: &str = r#"
id = "over-16"
label = { de = "Ab 16", en = "Over 16" }
purpose = { de = "Alter", en = "Age" }
legal_basis = { de = "Gesetz", en = "Law" }
will_confirm = false
retention = { days = 0, rule = { de = "Nichts", en = "Nothing" } }

[dcql_query]
credential_sets = [{ options = [["resident"]] }]

[[dcql_query.credentials]]
id = "resident"
format = "dc+sd-jwt"
meta = { vct_values = ["urn:de:kommune:resident:1"] }
claim_sets = [["age"]]
claims = [{ id = "age", path = ["age_equal_or_over", "16"], values = [true] }]
"#;

fn refused(from: &str, to: &str) -> (String, Problem) {
    assert!(GOOD.contains(from), "{from}");
    let error = RequestTemplate::parse("over-16.toml", &GOOD.replacen(from, to, 1)).unwrap_err();
    (error.place.to_string(), error.problem)
}

#[test]
fn the_query_comes_out_as_dcql_json() {
    let request = RequestTemplate::parse("over-16.toml", GOOD).unwrap();
    let expected = json!({
        "credentials": [{
            "id": "resident", "format": "dc+sd-jwt", "meta": {"vct_values": ["urn:de:kommune:resident:1"]},
            "claims": [{"id": "age", "path": ["age_equal_or_over", "16"], "values": [true]}],
            "claim_sets": [["age"]],
        }],
        "credential_sets": [{"options": [["resident"]]}],
    });
    assert_eq!(request.dcql_query(), &expected);
    assert_eq!((request.retention().days, request.will_confirm()), (0, false));
}

#[test]
fn indexes_and_whole_numbers_stay_numbers() {
    let text = GOOD
        .replace("[\"age_equal_or_over\", \"16\"], values = [true]", "[\"list\", 0], values = [1, \"a\"]");
    let request = RequestTemplate::parse("x.toml", &text).unwrap();
    let claim = &request.dcql_query()["credentials"][0]["claims"][0];
    assert_eq!((&claim["path"], &claim["values"]), (&json!(["list", 0]), &json!([1, "a"])));
}

#[test]
fn each_fault_is_named_at_its_place() {
    let credential = "dcql_query.credentials[0]";
    let cases = [
        ("id = \"over-16\"", "id = \"\"", "id".to_owned(), Problem::Name),
        (
            "days = 0",
            "days = 5000",
            "retention.days".into(),
            Problem::Range { min: 0, max: MAX_RETENTION_DAYS },
        ),
        ("de = \"Alter\", ", "", "purpose".into(), Problem::Languages),
        ("id = \"resident\"", "id = \"re sident\"", format!("{credential}.id"), Problem::QueryId),
        ("\"dc+sd-jwt\"", "\"\"", format!("{credential}.format"), Problem::Text),
        (
            "[\"urn:de:kommune:resident:1\"]",
            "[1]",
            format!("{credential}.meta.vct_values"),
            Problem::CredentialType,
        ),
        (
            "[\"urn:de:kommune:resident:1\"]",
            "[]",
            format!("{credential}.meta.vct_values"),
            Problem::Count { max: 8 },
        ),
        ("[\"age_equal_or_over\", \"16\"]", "[]", format!("{credential}.claims[0].path"), Problem::Path),
        ("[true]", "[]", format!("{credential}.claims[0].values"), Problem::Count { max: 32 }),
        ("id = \"age\", ", "", format!("{credential}.claim_sets"), Problem::SetsWithoutClaims),
        (
            "[[\"age\"]]",
            "[[\"old\"]]",
            format!("{credential}.claim_sets[0]"),
            Problem::UnknownReference { id: "old".into() },
        ),
        (
            "[[\"resident\"]]",
            "[[]]",
            "dcql_query.credential_sets[0].options[0]".into(),
            Problem::Count { max: 32 },
        ),
    ];
    for (from, to, place, problem) in cases {
        assert_eq!(refused(from, to), (place, problem), "{from} -> {to}");
    }
}

#[test]
fn a_doubled_credential_id_is_refused() {
    let text =
        format!("{GOOD}\n[[dcql_query.credentials]]\nid = \"resident\"\nformat = \"x\"\nmeta = {{}}\n");
    let error = RequestTemplate::parse("x.toml", &text).unwrap_err();
    assert_eq!(error.problem, Problem::Duplicate { first: "dcql_query.credentials[0].id".into() });
}

#[test]
fn unknown_members_and_odd_types_are_refused_with_their_line() {
    for (from, to, word) in [
        ("will_confirm = false", "will_confirm = false\nasks_name = true", "asks_name"),
        ("values = [true]", "value = true", "value"),
        ("[\"age_equal_or_over\", \"16\"]", "[-1]", "path step"),
        ("[true]", "[1.5]", "permitted value"),
        ("[true]", "[2026-11-23]", "permitted value"),
    ] {
        let (place, problem) = refused(from, to);
        assert!(place.starts_with("line "), "{place}");
        assert!(matches!(&problem, Problem::Syntax { message } if message.contains(word)), "{problem}");
    }
}

#[test]
fn answer_always_holds_a_known_card_if_each_way_to_answer_has_one() {
    let sets = "credential_sets = [{ options = [[\"resident\"]] }]\n";
    let second = |types: &str| {
        format!("[[dcql_query.credentials]]\nid = \"other\"\nformat = \"dc+sd-jwt\"\nmeta = {{ {types} }}\n")
    };
    let alone = GOOD.replacen(sets, "", 1);
    let with = |types: &str| format!("{alone}\n{}", second(types));
    let either = format!(
        "{}\n{}",
        GOOD.replacen("[[\"resident\"]]", "[[\"resident\"], [\"other\"]]", 1),
        second("vct_values = [\"b\"]")
    );
    let several =
        alone.replacen("[\"urn:de:kommune:resident:1\"]", "[\"urn:de:kommune:resident:1\", \"b\"]", 1);
    let any = alone.replacen("vct_values = [\"urn:de:kommune:resident:1\"]", "", 1);
    // Which types are known, besides the resident card, and whether it is enough.
    let cases = [
        (alone.clone(), None, true),
        (with("vct_values = [\"b\"]"), None, true),
        (either.clone(), None, false),
        (either, Some("b"), true),
        (several.clone(), None, false),
        (several, Some("b"), true),
        (any, Some("b"), false),
    ];
    for (text, known, holds) in cases {
        let request = RequestTemplate::parse("x.toml", &text).unwrap();
        let is_known =
            |vct: Option<&str>| vct == Some("urn:de:kommune:resident:1") || (vct.is_some() && vct == known);
        assert_eq!(request.always_holds(is_known), holds, "{known:?} {text}");
    }
}
