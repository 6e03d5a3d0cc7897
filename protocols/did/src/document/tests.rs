//! Tests of DID documents: what is read, and what is refused and why.

use einmal_keys::{KeyError, KeyKind, SecretKey, SeededEntropy};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    DidError, StrictJsonError,
    limits::{MAX_ALSO_KNOWN_AS, MAX_DOCUMENT_BYTES, MAX_METHODS, MAX_RELATIONSHIP_ENTRIES, MAX_SERVICES},
    test_support::key,
};

const ALICE: &str = "did:example:alice";

fn alice() -> Did {
    Did::parse(ALICE).unwrap()
}

fn url(text: &str) -> DidUrl {
    DidUrl::parse(text).unwrap()
}

fn read(value: &Value) -> Result<DidDocument, DidError> {
    DidDocument::from_json(&alice(), value)
}

fn multikey(id: &str, kind: KeyKind, seed: u64) -> Value {
    json!({ "id": id, "type": "Multikey", "controller": ALICE, "publicKeyMultibase": key(kind, seed).to_multikey() })
}

/// A document with one method with the given members, listed nowhere.
fn with_method(members: &Value) -> Value {
    let mut method = json!({ "id": "#k", "controller": ALICE });
    for (name, value) in members.as_object().unwrap() {
        method[name] = value.clone();
    }
    json!({ "id": ALICE, "verificationMethod": [method] })
}

#[test]
fn embedded_and_referenced_methods_absolute_and_relative_are_found_in_document_order() {
    let document = read(&json!({
        "id": ALICE,
        "verificationMethod": [multikey("#a", KeyKind::X25519, 1), multikey("did:example:alice#b", KeyKind::P256, 2)],
        "keyAgreement": ["did:example:alice#b", multikey("#c", KeyKind::P384, 3), "#a"],
        "authentication": [multikey("#d", KeyKind::Ed25519, 4)],
        "assertionMethod": "#d"
    }))
    .unwrap();
    let names = |relationship| -> Vec<&str> {
        document.methods(relationship).map(|method| method.id.fragment().unwrap()).collect()
    };
    assert_eq!(names(Relationship::KeyAgreement), ["b", "c", "a"]);
    assert_eq!(names(Relationship::Authentication), ["d"]);
    assert_eq!(names(Relationship::AssertionMethod), ["d"]);
    assert_eq!(names(Relationship::CapabilityInvocation), [""; 0]);
    assert_eq!(document.verification_methods().len(), 4);
}

#[test]
fn method_is_found_only_under_the_relationship_that_lists_it() {
    let document = read(&json!({
        "id": ALICE,
        "verificationMethod": [multikey("#a", KeyKind::P256, 1), multikey("#unlisted", KeyKind::P256, 2)],
        "authentication": ["#a"]
    }))
    .unwrap();
    let id = url("did:example:alice#a");
    assert_eq!(document.method_for(Relationship::Authentication, &id).unwrap().id, id);
    assert_eq!(document.method_for(Relationship::KeyAgreement, &id), None);
    for relationship in Relationship::ALL {
        assert_eq!(document.method_for(relationship, &url("did:example:alice#unlisted")), None);
    }
}

#[test]
fn method_is_not_found_by_another_did_or_with_a_path_or_query() {
    let document =
        read(&json!({ "id": ALICE, "authentication": [multikey("#a", KeyKind::Ed25519, 1)] })).unwrap();
    for text in
        ["did:example:bob#a", "did:example:alice/x#a", "did:example:alice?x#a", ALICE, "did:example:alice#A"]
    {
        assert_eq!(document.method_for(Relationship::Authentication, &url(text)), None, "{text}");
    }
    let by_key = format!("{ALICE}#{}", key(KeyKind::Ed25519, 1).to_multikey());
    assert_eq!(
        document.method_for(Relationship::Authentication, &url(&by_key)),
        None,
        "names by key are did:peer's"
    );
}

#[test]
fn document_about_another_did_is_refused() {
    assert_eq!(read(&json!({ "id": "did:example:bob" })), Err(DidError::IdMismatch));
    assert_eq!(read(&json!({})), Err(DidError::Member { member: "id", expected: "a text" }));
    assert_eq!(read(&json!([])), Err(DidError::Member { member: "document", expected: "an object" }));
    assert!(matches!(read(&json!({ "id": "alice" })), Err(DidError::Syntax { .. })));
}

#[test]
fn other_spelling_of_the_same_did_is_brought_under_the_did_asked_for() {
    let asked = Did::parse("did:web:city.example").unwrap();
    let document = DidDocument::from_json(
        &asked,
        &json!({ "id": "did:web:City.example", "keyAgreement": ["did:web:CITY.example#k"],
            "verificationMethod": [multikey("did:web:City.example#k", KeyKind::X25519, 1)] }),
    )
    .unwrap();
    assert_eq!(document.id, asked);
    for text in ["did:web:city.example#k", "did:web:CITY.EXAMPLE#k"] {
        let method = document.method_for(Relationship::KeyAgreement, &url(text)).unwrap();
        assert_eq!(method.id.as_str(), "did:web:city.example#k");
    }
}

#[test]
fn method_under_the_name_of_another_did_is_never_found() {
    let document = read(&json!({
        "id": ALICE,
        "verificationMethod": [multikey("did:example:bank#k", KeyKind::Ed25519, 1)],
        "authentication": ["did:example:bank#k", "did:example:elsewhere#k",
            multikey("did:example:bank#embedded", KeyKind::Ed25519, 2)]
    }))
    .unwrap();
    assert_eq!(document.methods(Relationship::Authentication).count(), 0);
    assert_eq!(document.method_for(Relationship::Authentication, &url("did:example:bank#k")), None);
    assert_eq!(document.verification_methods(), []);
}

#[test]
fn reference_to_a_missing_method_is_refused() {
    for reference in ["#b", "did:example:alice#b", "did:example:alice"] {
        let value = json!({ "id": ALICE, "verificationMethod": [multikey("#a", KeyKind::X25519, 1)],
            "keyAgreement": [reference] });
        assert_eq!(
            read(&value),
            Err(DidError::MissingMethod { relationship: "keyAgreement" }),
            "{reference}"
        );
    }
}

#[test]
fn ids_used_twice_are_refused_however_they_are_written() {
    let twice = Err(DidError::DuplicateMethodId);
    let (a, again) =
        (multikey("#a", KeyKind::X25519, 1), multikey("did:example:alice#a", KeyKind::X25519, 2));
    assert_eq!(read(&json!({ "id": ALICE, "verificationMethod": [a, again] })), twice);
    assert_eq!(read(&json!({ "id": ALICE, "verificationMethod": [a], "keyAgreement": [again] })), twice);
    let unknown = json!({ "id": "#a", "type": "Unknown" });
    assert_eq!(read(&json!({ "id": ALICE, "verificationMethod": [unknown, a] })), twice);
    let foreign = multikey("did:example:bob#a", KeyKind::X25519, 1);
    assert_eq!(read(&json!({ "id": ALICE, "verificationMethod": [foreign, foreign] })), twice);
}

#[test]
fn unknown_types_and_curves_are_skipped_with_the_references_to_them() {
    let bls = format!("z{}", bs58::encode([&[0xeb, 0x01][..], &[1; 96]].concat()).into_string());
    for unknown in [
        json!({ "type": "Bls12381G2Key2020", "publicKeyBase58": "x" }),
        json!({ "type": "Multikey", "publicKeyMultibase": bls }),
        // ML-DSA-44, far longer than any key here, and a key in another multibase.
        json!({ "type": "Multikey", "publicKeyMultibase": format!("z{}", "2".repeat(1_800)) }),
        json!({ "type": "Multikey", "publicKeyMultibase": "u7QEB" }),
        json!({ "type": "JsonWebKey2020", "publicKeyJwk": { "kty": "RSA", "n": "AQAB", "e": "AQAB" } }),
        json!({ "type": "JsonWebKey", "publicKeyJwk": { "kty": "OKP", "crv": "Ed448", "x": "AQ" } }),
    ] {
        let mut document = with_method(&unknown);
        document["authentication"] = json!(["#k", multikey("#good", KeyKind::Ed25519, 1)]);
        let document = read(&document).unwrap();
        assert_eq!(document.methods(Relationship::Authentication).count(), 1, "{unknown}");
        assert_eq!(document.verification_methods().len(), 1);
    }
}

#[test]
fn every_known_type_is_read_in_its_forms() {
    use KeyKind::{Ed25519, P256, P384, P521, Secp256k1, X25519};
    let own_type = |kind| match kind {
        Ed25519 => "Ed25519VerificationKey2018",
        X25519 => "X25519KeyAgreementKey2019",
        P256 => "P256Key2021",
        P384 => "P384Key2021",
        P521 => "P521Key2021",
        _ => "EcdsaSecp256k1VerificationKey2019",
    };
    for kind in [Ed25519, X25519, P256, P384, P521, Secp256k1] {
        let key = key(kind, 5);
        let base58 = bs58::encode(key.to_compressed()).into_string();
        for members in [
            json!({ "type": "Multikey", "publicKeyMultibase": key.to_multikey() }),
            json!({ "type": "JsonWebKey2020", "publicKeyJwk": key.to_jwk() }),
            json!({ "type": "JsonWebKey", "publicKeyJwk": key.to_jwk() }),
            json!({ "type": own_type(kind), "publicKeyMultibase": key.to_multikey() }),
            json!({ "type": own_type(kind), "publicKeyBase58": base58 }),
            json!({ "type": own_type(kind), "publicKeyJwk": key.to_jwk() }),
        ] {
            let document = read(&with_method(&members)).unwrap();
            assert_eq!(document.verification_methods()[0].key, key, "{members}");
        }
    }
}

#[test]
fn material_of_another_type_than_declared_is_refused() {
    let x25519 = key(KeyKind::X25519, 1);
    let mismatch =
        Err(DidError::TypeMismatch { declared: "Ed25519VerificationKey2020", found: KeyKind::X25519 });
    for members in [
        json!({ "type": "Ed25519VerificationKey2020", "publicKeyMultibase": x25519.to_multikey() }),
        json!({ "type": "Ed25519VerificationKey2020", "publicKeyJwk": x25519.to_jwk() }),
    ] {
        assert_eq!(read(&with_method(&members)), mismatch);
    }
    let p256 = bs58::encode(key(KeyKind::P256, 1).to_compressed()).into_string();
    let length =
        read(&with_method(&json!({ "type": "Ed25519VerificationKey2018", "publicKeyBase58": p256 })));
    assert!(matches!(length, Err(DidError::Key(KeyError::Length { got: 33, .. }))));
}

#[test]
fn key_in_a_wrong_form_or_in_two_is_refused_and_one_in_a_form_that_is_not_read_is_skipped() {
    let key = key(KeyKind::Ed25519, 1);
    for members in [
        json!({ "type": "Multikey", "publicKeyJwk": key.to_jwk() }),
        json!({ "type": "JsonWebKey", "publicKeyMultibase": key.to_multikey() }),
        json!({ "type": "Multikey", "publicKeyMultibase": key.to_multikey(), "publicKeyJwk": key.to_jwk() }),
    ] {
        assert!(matches!(read(&with_method(&members)), Err(DidError::KeyForm { .. })), "{members}");
    }
    // A deployed library writes keys of one type in hex, next to others.
    for members in [
        json!({ "type": "Multikey" }),
        json!({ "type": "EcdsaSecp256k1VerificationKey2019", "publicKeyHex": "02aa" }),
    ] {
        assert_eq!(
            read(&with_method(&members)).unwrap().methods(Relationship::Authentication).count(),
            0,
            "{members}"
        );
    }
}

#[test]
fn broken_keys_are_refused_for_their_reason() {
    let error = |members: Value| read(&with_method(&members)).unwrap_err();
    let multibase = key(KeyKind::Ed25519, 1).to_multikey().replacen('z', "m", 1);
    let multibase = error(json!({ "type": "Multikey", "publicKeyMultibase": multibase }));
    assert!(matches!(multibase, DidError::Key(KeyError::Encoding { .. })));
    let mut off_curve = serde_json::to_value(key(KeyKind::P256, 1).to_jwk()).unwrap();
    off_curve["y"] = off_curve["x"].clone();
    assert_eq!(
        error(json!({ "type": "JsonWebKey2020", "publicKeyJwk": off_curve })),
        KeyError::InvalidPoint { kind: KeyKind::P256 }.into()
    );
    for text in ["0OIl".to_owned(), "1".repeat(300)] {
        let broken = error(json!({ "type": "P256Key2021", "publicKeyBase58": text }));
        assert!(matches!(broken, DidError::Encoding { what: "publicKeyBase58", .. }));
    }
    for value in [json!(7), json!("x"), json!({ "kty": "EC" }), json!({ "crv": "P-256" })] {
        let broken = error(json!({ "type": "JsonWebKey2020", "publicKeyJwk": value }));
        assert!(matches!(broken, DidError::Member { member: "publicKeyJwk", .. }), "{value}");
    }
    let number = error(json!({ "type": "Multikey", "publicKeyMultibase": 7 }));
    assert!(matches!(number, DidError::Member { member: "publicKeyMultibase", .. }));
}

#[test]
fn private_keys_in_a_document_are_refused_whatever_the_type() {
    let secret = SecretKey::generate(KeyKind::P256, &SeededEntropy::new(1)).unwrap();
    for members in [
        json!({ "type": "JsonWebKey2020", "publicKeyJwk": secret.to_jwk() }),
        json!({ "type": "Unknown", "publicKeyJwk": secret.to_jwk() }),
        json!({ "type": "JsonWebKey2020", "publicKeyJwk": { "kty": "RSA", "n": "AQ", "e": "AQ", "p": "AQ" } }),
        json!({ "type": "Multikey", "publicKeyMultibase": "z", "secretKeyMultibase": "z" }),
        json!({ "type": "Ed25519VerificationKey2018", "privateKeyBase58": "1" }),
    ] {
        let error = read(&with_method(&members)).unwrap_err();
        assert_eq!(error, DidError::PrivateKeyInDocument, "{members}");
        assert!(!format!("{error:?} {error}").contains(secret.to_jwk().d.unwrap().as_str()));
    }
}

#[test]
fn members_of_a_wrong_shape_are_refused() {
    let good = multikey("#k", KeyKind::Ed25519, 1);
    let without = |member: &str| {
        let mut method = good.clone();
        method.as_object_mut().unwrap().remove(member);
        method
    };
    for (member, document) in [
        ("verificationMethod", json!({ "id": ALICE, "verificationMethod": 7 })),
        ("verificationMethod", json!({ "id": ALICE, "verificationMethod": [7] })),
        ("verificationMethod.id", json!({ "id": ALICE, "verificationMethod": [without("id")] })),
        ("verificationMethod.type", json!({ "id": ALICE, "verificationMethod": [without("type")] })),
        ("verificationMethod.controller", with_method(&json!({ "type": "Multikey", "controller": 7 }))),
        ("verificationMethod.id", with_method(&json!({ "type": "Multikey", "id": ALICE }))),
        ("keyAgreement", json!({ "id": ALICE, "keyAgreement": true })),
        ("service", json!({ "id": ALICE, "service": [7] })),
    ] {
        match read(&document) {
            Err(DidError::Member { member: named, .. }) => assert_eq!(named, member, "{document}"),
            other => panic!("{document}: {other:?}"),
        }
    }
    let relative = json!({ "id": ALICE, "verificationMethod": [multikey("k", KeyKind::Ed25519, 1)] });
    assert!(matches!(read(&relative), Err(DidError::UrlSyntax { .. })));
    let controller = with_method(&json!({ "type": "Multikey", "controller": "#id" }));
    assert!(matches!(read(&controller), Err(DidError::Syntax { .. })));
}

#[test]
fn absent_controller_is_the_document_and_a_foreign_one_is_kept() {
    let mut method = multikey("#k", KeyKind::Ed25519, 1);
    method.as_object_mut().unwrap().remove("controller");
    let document = read(&json!({ "id": ALICE, "verificationMethod": [method] })).unwrap();
    assert_eq!(document.verification_methods()[0].controller, alice());
    method["controller"] = "did:example:guardian".into();
    let document = read(&json!({ "id": ALICE, "verificationMethod": [method] })).unwrap();
    assert_eq!(document.verification_methods()[0].controller.as_str(), "did:example:guardian");
}

#[test]
fn bytes_are_read_strictly_and_bounded() {
    let read = |text: &str| DidDocument::from_json(&alice(), text);
    assert!(read(r#"{"id":"did:example:alice"}"#).is_ok());
    assert!(matches!(
        read(r#"{"id":"did:example:alice","id":"did:example:alice"}"#),
        Err(DidError::Json(StrictJsonError::DuplicateMember { .. }))
    ));
    let deep = format!(r#"{{"id":"did:example:alice","x":{}{}}}"#, "[".repeat(40), "]".repeat(40));
    assert!(matches!(read(&deep), Err(DidError::Json(StrictJsonError::TooDeep { .. }))));
    let long = format!(r#"{{"id":"did:example:alice","x":"{}"}}"#, "x".repeat(MAX_DOCUMENT_BYTES));
    assert!(matches!(read(&long), Err(DidError::Json(StrictJsonError::TooLong { .. }))));
    assert!(matches!(read("nonsense"), Err(DidError::Json(StrictJsonError::Syntax { .. }))));
}

#[test]
fn numbers_of_entries_are_bounded() {
    let unknown = |n: usize| json!({ "id": format!("#{n}"), "type": "Unknown" });
    let methods: Vec<Value> = (0..=MAX_METHODS).map(unknown).collect();
    let too_many = |document: Value, named: &str| match read(&document) {
        Err(DidError::TooMany { what, count, max }) => {
            assert_eq!((what, count), (named, max + 1));
        }
        other => panic!("{named}: {other:?}"),
    };
    too_many(json!({ "id": ALICE, "verificationMethod": methods }), "verificationMethod");
    assert!(read(&json!({ "id": ALICE, "verificationMethod": methods[1..] })).is_ok());
    too_many(
        json!({ "id": ALICE, "verificationMethod": methods[1..], "authentication": [unknown(0)] }),
        "verification methods",
    );
    let entries = vec!["did:example:b#k"; MAX_RELATIONSHIP_ENTRIES + 1];
    too_many(json!({ "id": ALICE, "assertionMethod": entries }), "assertionMethod");
    let service = json!({ "id": "#s", "type": "x", "serviceEndpoint": "u" });
    too_many(json!({ "id": ALICE, "service": vec![service; MAX_SERVICES + 1] }), "service");
    let names = vec!["did:example:b"; MAX_ALSO_KNOWN_AS + 1];
    too_many(json!({ "id": ALICE, "alsoKnownAs": names }), "alsoKnownAs");
}

#[test]
fn naming_a_method_twice_under_one_relationship_lists_it_once() {
    let document = read(&json!({ "id": ALICE, "verificationMethod": [multikey("#a", KeyKind::X25519, 1)],
        "keyAgreement": ["#a", "did:example:alice#a"] }));
    assert_eq!(document.unwrap().methods(Relationship::KeyAgreement).count(), 1);
}

#[test]
fn only_didcomm_endpoints_that_take_v2_are_offered_and_other_services_stay_as_they_were() {
    let linked = json!({ "id": "#l", "type": "LinkedDomains", "serviceEndpoint": { "origins": ["https://a.example"] } });
    let document =
        read(&json!({ "id": ALICE, "alsoKnownAs": ["https://a.example", "did:example:b"], "service": [
        { "id": "#old", "type": "did-communication", "serviceEndpoint": "https://v1.example" },
        linked,
        { "id": "#one", "type": "DIDCommMessaging", "serviceEndpoint": [
            { "uri": "https://aip.example", "accept": ["didcomm/aip2;env=rfc587"] },
            { "uri": "https://v2.example", "accept": ["didcomm/v2"] } ] },
        { "id": "#two", "type": "DIDCommMessaging", "serviceEndpoint": { "uri": "wss://any.example" } },
    ] }))
        .unwrap();
    let uris: Vec<&str> = document.didcomm_endpoints().map(|endpoint| endpoint.uri.as_str()).collect();
    assert_eq!(uris, ["https://v2.example", "wss://any.example"]);
    assert_eq!(document.to_json()["service"][1], linked);
    assert_eq!(document.also_known_as, [Did::parse("did:example:b").unwrap()]);
}

#[test]
fn services_of_other_types_keep_their_ids_and_their_places_when_written() {
    let document = read(&json!({ "id": ALICE, "service": [
        { "type": "DIDCommMessaging", "serviceEndpoint": "https://a.example" },
        { "type": "LinkedDomains", "serviceEndpoint": { "n": 1 } },
        { "id": "#same", "type": "DIDCommMessaging", "serviceEndpoint": "https://b.example" },
        { "id": "#same", "type": "LinkedDomains", "serviceEndpoint": { "n": 2 } },
        { "id": "#same", "type": "LinkedDomains", "serviceEndpoint": { "n": 3 } },
    ] }))
    .unwrap();
    let written = document.to_json();
    assert_eq!(written["service"][1]["id"], "did:example:alice#service-1");
    assert_eq!(written["service"][2]["serviceEndpoint"]["uri"], "https://b.example");
    assert_eq!(written["service"][4]["serviceEndpoint"]["n"], 3);
    assert_eq!(read(&written).unwrap().services, document.services);
}

#[test]
fn builder_refuses_what_the_reader_would_refuse() {
    let mut document = DidDocument::new(alice());
    document.add_method("a", key(KeyKind::X25519, 1), &[Relationship::KeyAgreement]).unwrap();
    let again = document.add_method("a", key(KeyKind::X25519, 2), &[]).unwrap_err();
    assert_eq!(again, DidError::DuplicateMethodId);
    let fragment = document.add_method("a b", key(KeyKind::X25519, 2), &[]).unwrap_err();
    assert!(matches!(fragment, DidError::UrlSyntax { .. }));
    for n in 1..MAX_METHODS {
        document.add_method(&format!("k{n}"), key(KeyKind::Ed25519, 1), &[]).unwrap();
    }
    assert!(matches!(
        document.add_method("one-too-many", key(KeyKind::Ed25519, 1), &[]),
        Err(DidError::TooMany { what: "verification methods", .. })
    ));
    for _ in 0..MAX_SERVICES {
        document.add_service(Service::didcomm("#s", vec![])).unwrap();
    }
    assert!(matches!(
        document.add_service(Service::didcomm("#s", vec![])),
        Err(DidError::TooMany { what: "services", .. })
    ));
}

fn arbitrary_document() -> impl Strategy<Value = DidDocument> {
    let method = (0usize..6, 0u64..4, proptest::collection::vec(0usize..5, 0..4));
    let endpoint = ("[a-z:/.]{1,12}", proptest::collection::vec("[a-z/0-9]{1,6}", 0..3));
    let services = proptest::collection::vec(proptest::collection::vec(endpoint, 0..3), 0..3);
    (proptest::collection::vec(method, 0..6), services).prop_map(|(methods, services)| {
        let mut document = DidDocument::new(alice());
        for (n, (kind, seed, uses)) in methods.into_iter().enumerate() {
            let uses: Vec<_> = uses.into_iter().map(|n| Relationship::ALL[n]).collect();
            document.add_method(&format!("k{n}"), key(KeyKind::ALL[kind], seed), &uses).unwrap();
        }
        for (n, endpoints) in services.into_iter().enumerate() {
            let endpoint = |(uri, accept): (String, Vec<String>)| Endpoint {
                uri,
                routing_keys: accept.clone(),
                accept,
                multi_addrs: Vec::new(),
            };
            let endpoints = endpoints.into_iter().map(endpoint).collect();
            document.add_service(Service::didcomm(format!("#s{n}"), endpoints)).unwrap();
        }
        document
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn generated_documents_round_trip(document in arbitrary_document()) {
        let again = read(&document.to_json()).unwrap();
        prop_assert_eq!(again, document.clone());
        let bytes = document.to_json().to_string().into_bytes();
        prop_assert_eq!(DidDocument::from_json(&alice(), &bytes).unwrap(), document);
    }

    #[test]
    fn no_document_panics(
        id in "(#|did:example:alice#)?[a-c]?", kind in "(Multikey|JsonWebKey|P256Key2021|X)",
        text in "[ -~]{0,20}", reference in "(#[a-c]|[ -~]{0,9})",
    ) {
        let _ = read(&json!({ "id": ALICE, "verificationMethod": [{ "id": id, "type": kind,
            "publicKeyMultibase": text }], "keyAgreement": [reference], "service": [{ "type": text,
            "serviceEndpoint": { "uri": text } }, { "type": "DIDCommMessaging", "serviceEndpoint": text }] }));
    }

    #[test]
    fn no_bytes_panic(text in "[{}\\[\\]\":,a-z#]{0,60}") {
        let _ = DidDocument::from_json(&alice(), &text);
    }
}
