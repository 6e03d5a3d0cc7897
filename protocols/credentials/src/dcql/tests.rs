//! Tests of DCQL: parsing queries, selecting cards, checking answers.

use std::collections::BTreeMap;

use einmal_keys::{Custody, KeyId, KeyKind, Keyring, PublicKey, SecretKey, SeededEntropy};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{path::MAX_FOUND, *};
use crate::{
    sd_jwt::{Claims, PathElement},
    status_list::{Status, StatusError, StatusSource},
    vc::{
        CredentialRequest, HeldCredential, IssuerKeys, KeyBindingRequest, KeyBindingRequirement,
        KeyLookupError, VerificationContext, VerifiedCredential, issue, verify_presentation,
    },
};

const ISSUER: &str = "did:web:city.example";
const NOW: u64 = 1_800_000_000;

struct City(Keyring);

impl IssuerKeys for City {
    fn issuer_key(&self, _iss: &str, kid: Option<&str>) -> Result<PublicKey, KeyLookupError> {
        Ok(self.0.public_key(&KeyId::new(kid.unwrap())).unwrap())
    }
}

impl StatusSource for City {
    fn status(&self, uri: &str, _idx: u64, _iss: &str) -> Result<Status, StatusError> {
        Err(StatusError::NotFetched { uri: uri.into() })
    }
}

fn city() -> City {
    let keys = Keyring::new();
    for (seed, kid) in [(1, "did:web:city.example#1"), (2, "holder")] {
        let key = SecretKey::generate(KeyKind::Ed25519, &SeededEntropy::new(seed)).unwrap();
        keys.insert(KeyId::new(kid), key);
    }
    City(keys)
}

fn path(text: &str) -> Vec<PathElement> {
    text.split('.')
        .map(|part| part.parse::<usize>().map_or_else(|_| part.into(), PathElement::from))
        .collect()
}

/// The steps of a path, even if names look like numbers.
fn names(names: &[&str]) -> Vec<PathElement> {
    names.iter().map(|name| PathElement::from(*name)).collect()
}

impl City {
    fn card(&self, vct: &str, claims: Value, disclosable: Vec<Vec<PathElement>>) -> HeldCredential {
        let request = CredentialRequest {
            issuer: ISSUER.into(),
            vct: vct.into(),
            holder: self.0.public_key(&KeyId::new("holder")).unwrap(),
            claims: Claims::new(claims.as_object().unwrap().clone()),
            disclosable,
            issued_at: NOW,
            not_before: None,
            expires_at: NOW + 1000,
            status: None,
        };
        let kid = KeyId::new("did:web:city.example#1");
        let text = issue(&self.0, &kid, &request, &SeededEntropy::new(3)).unwrap();
        HeldCredential::from_store(&text).unwrap()
    }

    fn resident(&self) -> HeldCredential {
        let claims = json!({
            "birthdate": "1990-01-02",
            "age_equal_or_over": { "18": true, "65": false },
            "address": { "postal_code": "35578", "locality": "Wetzlar" },
            "nationalities": ["DE", "TR", "FR"],
            "zone": "III",
        });
        let disclosable = vec![
            path("birthdate"),
            names(&["age_equal_or_over", "18"]),
            names(&["age_equal_or_over", "65"]),
            path("address"),
            path("address.postal_code"),
            path("address.locality"),
            path("nationalities.0"),
            path("nationalities.1"),
            path("nationalities.2"),
        ];
        self.card("resident", claims, disclosable)
    }

    fn show(&self, card: &HeldCredential, paths: &[Vec<PathElement>], bound: bool) -> VerifiedCredential {
        let kid = KeyId::new("holder");
        let binding = KeyBindingRequest {
            custody: &self.0,
            kid: &kid,
            audience: "aud",
            nonce: "nonce",
            issued_at: NOW,
        };
        let text = card.present(paths, bound.then_some(&binding)).unwrap();
        let trust = |_: &str, _: &str| true;
        let required = KeyBindingRequirement { audience: "aud", nonce: "nonce", asked_at: None };
        let context = VerificationContext::new(NOW, &trust, bound.then_some(required));
        verify_presentation(&text, &context, self, self).unwrap()
    }
}

fn query(value: Value) -> DcqlQuery {
    DcqlQuery::from_value(value).unwrap()
}

/// A query for one credential of type `resident`.
fn ask(members: Value) -> DcqlQuery {
    let mut credential = json!({ "id": "q", "format": "dc+sd-jwt", "meta": { "vct_values": ["resident"] } });
    for (name, value) in members.as_object().unwrap() {
        credential[name] = value.clone();
    }
    query(json!({ "credentials": [credential] }))
}

fn claims(paths: &[Value]) -> Value {
    json!({ "claims": paths.iter().map(|path| json!({ "path": path })).collect::<Vec<_>>() })
}

fn chosen(query: &DcqlQuery, card: &HeldCredential) -> Result<Vec<Vec<PathElement>>, NoMatch> {
    let mut selection = query.select(&[card.candidate("card")])?;
    Ok(selection.credentials.remove("q").unwrap().paths)
}

fn answer(id: &str, credentials: Vec<VerifiedCredential>) -> BTreeMap<String, Vec<VerifiedCredential>> {
    BTreeMap::from([(id.to_owned(), credentials)])
}

// ---- validity of queries ----

#[test]
fn queries_against_the_rules_are_refused_by_name() {
    let credential = |change: Value| {
        let mut credential = json!({ "id": "q", "format": "dc+sd-jwt", "meta": {} });
        for (name, value) in change.as_object().unwrap() {
            credential[name] = value.clone();
        }
        DcqlQuery::from_value(json!({ "credentials": [credential] })).unwrap_err()
    };
    let empty = |what| DcqlError::Empty { what };
    for id in ["", "ä", "a b", "a.b"] {
        assert_eq!(credential(json!({ "id": id })), DcqlError::InvalidId);
    }
    assert_eq!(credential(json!({ "meta": null })), DcqlError::Malformed);
    assert_eq!(credential(json!({ "meta": { "vct_values": [] } })), empty("vct_values"));
    assert_eq!(credential(json!({ "claims": [] })), empty("claims"));
    assert_eq!(credential(json!({ "trusted_authorities": [] })), empty("trusted_authorities"));
    assert_eq!(credential(json!({ "claims": [{ "path": [] }] })), empty("path"));
    assert_eq!(credential(json!({ "claims": [{ "path": ["a", -1] }] })), DcqlError::Malformed);
    assert_eq!(credential(json!({ "claims": [{ "path": ["a", true] }] })), DcqlError::Malformed);
    assert_eq!(credential(json!({ "claims": [{ "path": ["a"], "values": [] }] })), empty("values"));
    assert_eq!(
        credential(json!({ "claims": [{ "path": ["a"], "values": [1.5] }] })),
        DcqlError::InvalidValue
    );
    assert_eq!(credential(json!({ "claim_sets": [["a"]] })), DcqlError::ClaimSetsWithoutClaims);
    let with_sets = |claims: Value, sets: Value| credential(json!({ "claims": claims, "claim_sets": sets }));
    assert_eq!(with_sets(json!([{ "path": ["a"] }]), json!([["a"]])), DcqlError::MissingClaimId);
    let one = json!([{ "id": "a", "path": ["a"] }]);
    assert_eq!(with_sets(one.clone(), json!([["b"]])), DcqlError::UnknownId);
    assert_eq!(with_sets(one.clone(), json!([])), empty("claim_sets"));
    assert_eq!(with_sets(one, json!([[]])), empty("claim_sets"));
    let twice = json!([{ "id": "a", "path": ["a"] }, { "id": "a", "path": ["b"] }]);
    assert_eq!(credential(json!({ "claims": twice })), DcqlError::DuplicateId);
}

#[test]
fn sets_and_sizes_are_checked() {
    let one = json!({ "id": "q", "format": "dc+sd-jwt", "meta": {} });
    let refuse = |value: Value| DcqlQuery::from_value(value).unwrap_err();
    assert_eq!(refuse(json!({ "credentials": [] })), DcqlError::Empty { what: "credentials" });
    assert_eq!(refuse(json!({ "credentials": [one, one] })), DcqlError::DuplicateId);
    let many = vec![one.clone(); MAX_CREDENTIAL_QUERIES + 1];
    assert_eq!(refuse(json!({ "credentials": many })), DcqlError::TooLarge { what: "credentials" });
    let sets = |sets: Value| refuse(json!({ "credentials": [one], "credential_sets": sets }));
    assert_eq!(sets(json!([])), DcqlError::Empty { what: "credential_sets" });
    assert_eq!(sets(json!([{ "options": [] }])), DcqlError::Empty { what: "options" });
    assert_eq!(sets(json!([{ "options": [[]] }])), DcqlError::Empty { what: "options" });
    assert_eq!(sets(json!([{ "options": [["x"]] }])), DcqlError::UnknownId);
    let long = " ".repeat(MAX_QUERY_BYTES + 1);
    assert_eq!(DcqlQuery::parse(&long), Err(DcqlError::TooLarge { what: "bytes" }));
    assert_eq!(DcqlQuery::parse(r#"{"credentials":1,"credentials":2}"#), Err(DcqlError::Malformed));
    let unknown_members =
        json!({ "credentials": [{ "id": "q", "format": "x", "meta": {}, "new": 1 }], "also": 2 });
    assert!(DcqlQuery::parse(&unknown_members.to_string()).is_ok());
}

proptest! {
    #[test]
    fn reading_a_query_never_panics(text in ".{0,200}") {
        let _ = DcqlQuery::parse(&text);
    }
}

// ---- the holder's choice ----

#[test]
fn without_claims_nothing_is_disclosed() {
    let city = city();
    assert_eq!(chosen(&ask(json!({})), &city.resident()), Ok(vec![]));
}

#[test]
fn asked_claims_are_disclosed_with_their_parents() {
    let card = city().resident();
    let query = ask(claims(&[json!(["address", "postal_code"]), json!(["zone"])]));
    assert_eq!(chosen(&query, &card), Ok(vec![path("address"), path("address.postal_code")]));
}

#[test]
fn object_asked_by_name_is_disclosed_with_all_it_holds() {
    let card = city().resident();
    let query = ask(claims(&[json!(["address"])]));
    let all = vec![path("address"), path("address.locality"), path("address.postal_code")];
    assert_eq!(chosen(&query, &card), Ok(all));
}

#[test]
fn alternative_that_discloses_least_wins_and_order_decides_among_equals() {
    let card = city().resident();
    let sets = |sets: Value| {
        ask(json!({
            "claims": [
                { "id": "over", "path": ["age_equal_or_over", "18"] },
                { "id": "birth", "path": ["birthdate"] },
                { "id": "zone", "path": ["zone"] },
                { "id": "none", "path": ["absent"] },
            ],
            "claim_sets": sets,
        }))
    };
    let over = vec![names(&["age_equal_or_over", "18"])];
    assert_eq!(chosen(&sets(json!([["over"], ["birth"]])), &card), Ok(over.clone()));
    assert_eq!(chosen(&sets(json!([["birth"], ["over"]])), &card), Ok(vec![path("birthdate")]));
    assert_eq!(chosen(&sets(json!([["birth", "over"], ["over"]])), &card), Ok(over.clone()));
    assert_eq!(chosen(&sets(json!([["birth"], ["zone"]])), &card), Ok(vec![]));
    assert_eq!(chosen(&sets(json!([["none"], ["over"]])), &card), Ok(over));
    assert_eq!(chosen(&sets(json!([["none"]])), &card), Err(NoMatch));
}

#[test]
fn card_that_discloses_least_wins() {
    let city = city();
    let (full, small) =
        (city.resident(), city.card("resident", json!({ "birthdate": "1990-01-02" }), vec![]));
    let query = ask(claims(&[json!(["birthdate"])]));
    let selection = query.select(&[full.candidate("full"), small.candidate("small")]).unwrap();
    assert_eq!(selection.credentials["q"], Chosen { candidate: "small".into(), paths: vec![] });
    let equal = query.select(&[full.candidate("first"), full.candidate("second")]).unwrap();
    assert_eq!(equal.credentials["q"].candidate, "first");
}

#[test]
fn elements_are_named_as_signed_and_null_means_all() {
    let card = city().resident();
    let all = vec![path("nationalities.0"), path("nationalities.1"), path("nationalities.2")];
    assert_eq!(chosen(&ask(claims(&[json!(["nationalities", null])])), &card), Ok(all));
    let second = ask(claims(&[json!(["nationalities", 1])]));
    assert_eq!(chosen(&second, &card), Ok(vec![path("nationalities.1")]));
    let french = ask(json!({ "claims": [{ "path": ["nationalities", null], "values": ["FR", "IT"] }] }));
    assert_eq!(chosen(&french, &card), Ok(vec![path("nationalities.2")]));
    for wrong in [
        json!(["nationalities", 3]),
        json!(["nationalities", "0"]),
        json!(["zone", null]),
        json!(["zone", "x"]),
        json!([0]),
        json!([null]),
    ] {
        assert_eq!(chosen(&ask(claims(&[wrong])), &card), Err(NoMatch));
    }
}

#[test]
fn values_are_compared_with_their_type() {
    let card = city().resident();
    let with =
        |values: Value| ask(json!({ "claims": [{ "path": ["age_equal_or_over", "18"], "values": values }] }));
    assert!(chosen(&with(json!([true])), &card).is_ok());
    for values in [json!([false]), json!(["true"]), json!([1])] {
        assert_eq!(chosen(&with(values), &card), Err(NoMatch));
    }
}

#[test]
fn other_formats_types_and_authorities_match_nothing() {
    let card = city().resident();
    assert_eq!(chosen(&ask(json!({ "format": "mso_mdoc" })), &card), Err(NoMatch));
    assert_eq!(chosen(&ask(json!({ "meta": { "vct_values": ["other"] } })), &card), Err(NoMatch));
    let authorities = json!({ "trusted_authorities": [{ "type": "aki", "values": ["x"] }] });
    assert_eq!(chosen(&ask(authorities), &card), Err(NoMatch));
    assert_eq!(chosen(&ask(json!({ "meta": {} })), &card), Ok(vec![]));
    let mut unbound = card.candidate("card");
    unbound.holder_bound = false;
    assert_eq!(ask(json!({})).select(&[unbound.clone()]), Err(NoMatch));
    let bearer = ask(json!({ "require_cryptographic_holder_binding": false }));
    assert!(bearer.select(&[unbound]).is_ok());
}

/// Requests an age and an address as `sets` says; `none` can never be answered.
fn with_sets(sets: Value) -> DcqlQuery {
    let credential = |id: &str, vct: &str, path: Value| json!({ "id": id, "format": "dc+sd-jwt", "meta": { "vct_values": [vct] }, "claims": [{ "path": path }] });
    query(json!({
        "credentials": [
            credential("age", "resident", json!(["age_equal_or_over", "18"])),
            credential("addr", "resident", json!(["address", "postal_code"])),
            credential("none", "other", json!(["x"])),
        ],
        "credential_sets": sets,
    }))
}

#[test]
fn sets_take_the_first_option_that_can_be_answered() {
    let card = city().resident();
    let select = |sets: Value| with_sets(sets).select(&[card.candidate("card")]);
    let ids = |part: &BTreeMap<String, Chosen>| part.keys().cloned().collect::<Vec<_>>();
    let selection =
        select(json!([{ "options": [["age"]] }, { "options": [["addr"]], "required": false }])).unwrap();
    assert_eq!(
        (ids(&selection.credentials), ids(&selection.optional)),
        (vec!["age".into()], vec!["addr".into()])
    );
    let selection = select(json!([{ "options": [["none"], ["addr"], ["age"]] }])).unwrap();
    assert_eq!(ids(&selection.credentials), ["addr"]);
    let selection = select(json!([{ "options": [["age", "none"], ["age", "addr"]] }])).unwrap();
    assert_eq!(ids(&selection.credentials), ["addr", "age"]);
    assert_eq!(select(json!([{ "options": [["none"]] }, { "options": [["age"]] }])), Err(NoMatch));
    assert_eq!(select(json!([{ "options": [["none"]], "required": false }])), Err(NoMatch));
    let selection = select(json!([{ "options": [["age"]], "required": false }])).unwrap();
    assert_eq!(ids(&selection.credentials), ["age"], "where nothing is required, that is the answer");
    let without_sets = query(json!({ "credentials": [
        { "id": "q", "format": "dc+sd-jwt", "meta": {} },
        { "id": "r", "format": "dc+sd-jwt", "meta": { "vct_values": ["other"] } },
    ] }));
    assert_eq!(without_sets.select(&[card.candidate("card")]), Err(NoMatch));
}

#[test]
fn card_that_shows_more_to_everybody_loses_although_it_discloses_nothing() {
    let city = city();
    let modest = city.resident();
    let claims = json!({"age_equal_or_over": {"18": true}, "name": "Erika", "birthdate": "1990-01-02"});
    let open = city.card("resident", claims, Vec::new());
    let adult = ask(json!({"claims": [{"path": ["age_equal_or_over", "18"], "values": [true]}]}));
    let selection = adult.select(&[open.candidate("open"), modest.candidate("modest")]).unwrap();
    assert_eq!(selection.credentials["q"].candidate, "modest");
}

#[test]
fn card_of_last_resort_is_chosen_where_no_other_answers() {
    let city = city();
    let card = city.resident();
    let open = city.card("resident", json!({"age_equal_or_over": {"18": true}, "name": "Erika"}), Vec::new());
    let refused = |id: &str| Candidate { last_resort: true, ..card.candidate(id) };
    let query = ask(claims(&[json!(["age_equal_or_over", "18"])]));
    let chosen = |cards: &[Candidate<'_>]| query.select(cards).unwrap().credentials["q"].candidate.clone();
    assert_eq!(chosen(&[refused("revoked"), card.candidate("valid")]), "valid");
    let open = open.candidate("shows more");
    assert_eq!(chosen(&[refused("revoked"), open]), "shows more");
    assert_eq!(chosen(&[refused("first"), refused("second")]), "first");
}

// ---- the verifier's judgement ----

#[test]
fn what_the_holder_selects_satisfies_the_verifier() {
    let city = city();
    let card = city.resident();
    let queries = [
        ask(json!({})),
        ask(claims(&[json!(["address"]), json!(["nationalities", 2])])),
        ask(json!({ "claims": [{ "path": ["nationalities", null], "values": ["TR"] }] })),
    ];
    for query in queries {
        let paths = chosen(&query, &card).unwrap();
        assert_eq!(satisfied_by(&query, &answer("q", vec![city.show(&card, &paths, true)])), Ok(()));
    }
}

/// A wallet may show more than was requested; the verifier must not keep that.
#[test]
fn only_what_was_asked_for_counts_as_shown() {
    let city = city();
    let card = city.resident();
    let everything: Vec<_> = card.candidate("card").disclosable.iter().map(|path| path.to_vec()).collect();
    let shown = city.show(&card, &everything, true);
    let age = ask(claims(&[json!(["age_equal_or_over", "18"])]));
    assert_eq!(
        Value::Object(asked_claims(&age, "q", &shown)),
        json!({"age_equal_or_over": {"18": shown.claims.as_map()["age_equal_or_over"]["18"]}})
    );
    let list = ask(claims(&[json!(["nationalities", null])]));
    assert_eq!(asked_claims(&list, "q", &shown)["nationalities"], shown.claims.as_map()["nationalities"]);
    let second = ask(claims(&[json!(["nationalities", 1])]));
    let nationalities = &shown.claims.as_map()["nationalities"];
    assert_eq!(asked_claims(&second, "q", &shown)["nationalities"], json!([nationalities[1]]));
    assert!(asked_claims(&age, "another", &shown).is_empty());
}

/// No claims named means none of those that can be withheld, not all of them.
#[test]
fn of_a_card_asked_for_without_claims_only_what_it_shows_to_everybody_counts() {
    let city = city();
    let card = city.card(
        "resident",
        json!({"region": "Hessen", "name": "Erika", "address": {"locality": "Wetzlar", "street": "Domplatz 1"},
            "nationalities": ["DE", "TR", "FR"]}),
        vec![
            vec!["name".into()],
            vec!["address".into(), "street".into()],
            vec!["nationalities".into(), 0.into()],
            vec!["nationalities".into(), 2.into()],
        ],
    );
    let everything: Vec<_> = card.candidate("card").disclosable.iter().map(|path| path.to_vec()).collect();
    let unasked = ask(json!({}));
    for shown in [&everything[..], &everything[..1], &everything[3..], &[]] {
        let mut asked = asked_claims(&unasked, "q", &city.show(&card, shown, true));
        asked.retain(|name, _| !crate::vc::TECHNICAL_CLAIMS.contains(&name.as_str()));
        let open = json!({"region": "Hessen", "address": {"locality": "Wetzlar"}, "nationalities": ["TR"]});
        assert_eq!(Value::Object(asked), open);
    }
}

/// All elements of a long list, 128 times and in 64 sets, would take gigabytes.
#[test]
fn a_query_for_a_long_list_many_times_is_refused_or_answered_quickly() {
    let repeated = json!({
        "claims": [{"id": "a", "path": ["list", null]}], "claim_sets": [["a", "a"]],
    });
    let mut credential = json!({"id": "q", "format": "dc+sd-jwt", "meta": {"vct_values": ["resident"]}});
    for (name, value) in repeated.as_object().unwrap() {
        credential[name] = value.clone();
    }
    let refused = DcqlQuery::from_value(json!({"credentials": [credential]}));
    assert_eq!(refused.unwrap_err(), DcqlError::DuplicateId);
    let city = city();
    let card = |len: usize| city.card("resident", json!({ "list": vec![1; len] }), Vec::new());
    let whole = ask(claims(&[json!(["list", null])]));
    assert!(chosen(&whole, &card(MAX_FOUND)).is_ok());
    assert_eq!(chosen(&whole, &card(MAX_FOUND + 1)), Err(NoMatch));
}

#[test]
fn element_at_another_signed_place_does_not_satisfy() {
    let city = city();
    let card = city.resident();
    let first = ask(claims(&[json!(["nationalities", 0])]));
    let shown = city.show(&card, &[path("nationalities.2")], true);
    let refused = satisfied_by(&first, &answer("q", vec![shown]));
    assert_eq!(refused, Err(DcqlError::NotAsRequested { id: "q".into() }));
}

#[test]
fn answer_that_is_not_what_was_asked_is_refused() {
    let city = city();
    let card = city.resident();
    let shown = || city.show(&card, &[names(&["age_equal_or_over", "65"])], true);
    let not_as_requested = Err(DcqlError::NotAsRequested { id: "q".into() });
    let missing = ask(claims(&[json!(["birthdate"])]));
    assert_eq!(satisfied_by(&missing, &answer("q", vec![shown()])), not_as_requested);
    let senior = ask(json!({ "claims": [{ "path": ["age_equal_or_over", "65"], "values": [true] }] }));
    assert_eq!(satisfied_by(&senior, &answer("q", vec![shown()])), not_as_requested);
    let other_type = ask(json!({ "meta": { "vct_values": ["library"] } }));
    assert_eq!(satisfied_by(&other_type, &answer("q", vec![shown()])), not_as_requested);
    let any = ask(json!({}));
    assert_eq!(satisfied_by(&any, &answer("q", vec![])), not_as_requested);
    assert_eq!(satisfied_by(&any, &answer("x", vec![shown()])), Err(DcqlError::Unrequested));
    assert_eq!(satisfied_by(&any, &BTreeMap::new()), Err(DcqlError::Incomplete));
    let two = answer("q", vec![shown(), shown()]);
    assert_eq!(satisfied_by(&any, &two), Err(DcqlError::TooMany { id: "q".into() }));
    assert_eq!(satisfied_by(&ask(json!({ "multiple": true })), &two), Ok(()));
    let unbound = answer("q", vec![city.show(&card, &[], false)]);
    assert_eq!(satisfied_by(&any, &unbound), Err(DcqlError::NotBound { id: "q".into() }));
}

#[test]
fn an_object_that_came_empty_proves_nothing_of_what_was_asked_for() {
    let city = city();
    let card = city.resident();
    let address = ask(claims(&[json!(["address"])]));
    let hollow = city.show(&card, &[path("address")], true);
    let refused = satisfied_by(&address, &answer("q", vec![hollow]));
    assert_eq!(refused, Err(DcqlError::NotAsRequested { id: "q".into() }));
    let part = city.show(&card, &[path("address"), path("address.locality")], true);
    assert_eq!(satisfied_by(&address, &answer("q", vec![part])), Ok(()));
    let list = ask(claims(&[json!(["nationalities"])]));
    let refused = satisfied_by(&list, &answer("q", vec![city.show(&card, &[], true)]));
    assert_eq!(refused, Err(DcqlError::NotAsRequested { id: "q".into() }));
}

#[test]
fn extra_credential_beside_a_good_answer_is_refused() {
    let city = city();
    let card = city.resident();
    let mut presented = answer("q", vec![city.show(&card, &[], true)]);
    presented.insert("extra".into(), vec![city.show(&card, &[], true)]);
    assert_eq!(satisfied_by(&ask(json!({})), &presented), Err(DcqlError::Unrequested));
}

#[test]
fn required_sets_must_be_complete_and_optional_ones_need_not() {
    let city = city();
    let card = city.resident();
    let sets =
        json!([{ "options": [["age", "none"], ["age"]] }, { "options": [["addr"]], "required": false }]);
    let age = || vec![city.show(&card, &[names(&["age_equal_or_over", "18"])], true)];
    let addr = || vec![city.show(&card, &[path("address.postal_code")], true)];
    assert_eq!(satisfied_by(&with_sets(sets.clone()), &answer("age", age())), Ok(()));
    assert_eq!(satisfied_by(&with_sets(sets), &answer("addr", addr())), Err(DcqlError::Incomplete));
}
