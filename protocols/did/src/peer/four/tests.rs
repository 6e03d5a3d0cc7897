//! Tests of did:peer:4: both forms, their hash, and the documents inside.

use einmal_keys::KeyKind;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    DidUrl, Endpoint, StrictJsonError,
    test_support::{key, vectors},
};

fn ours() -> PeerFour {
    InputDocument::new()
        .add_method("k1", key(KeyKind::X25519, 1), &[Relationship::KeyAgreement])
        .add_method(
            "k2",
            key(KeyKind::Ed25519, 2),
            &[Relationship::Authentication, Relationship::AssertionMethod],
        )
        .add_service(Service::didcomm("#service", vec![Endpoint::didcomm("https://a.example")]))
        .create()
        .unwrap()
}

/// A did:peer:4 with the right hash over `encoded`, whatever that is.
fn long_of(encoded: &str) -> Did {
    Did::parse(&format!("{PREFIX}{}:{encoded}", multihash::of(encoded))).unwrap()
}

fn long_of_bytes(prefix: &[u8], json: &str) -> Did {
    long_of(&format!("z{}", bs58::encode([prefix, json.as_bytes()].concat()).into_string()))
}

#[test]
fn created_did_resolves_in_both_forms_and_each_names_the_other() {
    let PeerFour { long, short } = ours();
    let by_long = document(&long).unwrap();
    let by_short = short_document(&long).unwrap();
    assert_eq!((&by_long.id, &by_short.id), (&long, &short));
    assert_eq!((&by_long.also_known_as[0], &by_short.also_known_as[0]), (&short, &long));
    for document in [&by_long, &by_short] {
        let method = document.methods(Relationship::KeyAgreement).next().unwrap();
        assert_eq!(method.id, DidUrl::new(&document.id, "k1").unwrap());
        assert_eq!((&method.controller, &method.key), (&document.id, &key(KeyKind::X25519, 1)));
        assert_eq!(document.methods(Relationship::Authentication).count(), 1);
        assert_eq!(document.didcomm_endpoints().next(), Some(&Endpoint::didcomm("https://a.example")));
        assert_eq!(document.services[0].id, format!("{}#service", document.id));
    }
}

#[test]
fn method_is_found_by_either_form_under_its_purpose_only() {
    let PeerFour { long, short } = ours();
    for document in [document(&long).unwrap(), short_document(&long).unwrap()] {
        for did in [&long, &short] {
            let url = DidUrl::new(did, "k1").unwrap();
            assert!(document.method_for(Relationship::KeyAgreement, &url).is_some());
            assert_eq!(document.method_for(Relationship::Authentication, &url), None);
        }
    }
}

#[test]
fn both_forms_are_the_same_did_and_a_foreign_hash_is_not() {
    let PeerFour { long, short } = ours();
    assert_eq!(long.canonical(), short);
    assert!(long.same_as(&short) && short.same_as(&long));
    // Another document with our hash must not pass as ours.
    let other = InputDocument::new().add_method("k1", key(KeyKind::X25519, 9), &[Relationship::KeyAgreement]);
    let encoded = other.create().unwrap().long.as_str().rsplit(':').next().unwrap().to_owned();
    let forged = Did::parse(&format!("{short}:{encoded}")).unwrap();
    assert!(!forged.same_as(&short));
    assert_eq!(document(&forged), Err(DidError::HashMismatch));
    let url = DidUrl::new(&forged, "k1").unwrap();
    assert_eq!(document(&long).unwrap().method_for(Relationship::KeyAgreement, &url), None);
}

#[test]
fn published_example_hashes_to_its_short_form_and_holds_its_keys() {
    let Some(vectors) = vectors("did-peer/spec-examples.json") else { return };
    let dids: Vec<Did> = serde_json::from_value(vectors["numalgo_4"].clone()).unwrap();
    assert_eq!(short_form(&dids[0]).unwrap(), dids[1]);
    let document = document(&dids[0]).unwrap();
    let agreement = document.methods(Relationship::KeyAgreement).next().unwrap();
    assert_eq!(agreement.id.fragment(), Some("6LSqPZfn"));
    assert_eq!(agreement.key.to_multikey(), "z6LSqPZfn9krvgXma2icTMKf2uVcYhKXsudCmPoUzqGYW24U");
    let signing = document.methods(Relationship::CapabilityDelegation).next().unwrap();
    assert_eq!(signing.key.to_multikey(), "z6MkrCD1csqtgdj8sjrsu8jxcbeyP6m7LiK87NzhfWqio5yr");
    assert_eq!(document.didcomm_endpoints().next().unwrap().uri, "didcomm:transport/queue");
}

#[test]
fn altered_document_and_altered_hash_are_refused() {
    let long = ours().long;
    let altered = |at: usize| {
        let mut text = long.as_str().to_owned().into_bytes();
        text[at] = if text[at] == b'2' { b'3' } else { b'2' };
        Did::parse(std::str::from_utf8(&text).unwrap()).unwrap()
    };
    assert_eq!(document(&altered(long.as_str().len() - 5)), Err(DidError::HashMismatch));
    assert_eq!(document(&altered(PREFIX.len() + 20)), Err(DidError::HashMismatch));
    assert_eq!(short_form(&altered(long.as_str().len() - 5)), Err(DidError::HashMismatch));
}

#[test]
fn document_in_a_wrong_encoding_is_refused() {
    let not_base58 = Err(DidError::Encoding {
        what: "the document of the did:peer:4",
        expected: "in multibase base58btc",
    });
    for encoded in ["mAAAA", "z0OIl", "", "Z2"] {
        let text = format!("{PREFIX}{}:{encoded}", multihash::of(encoded));
        // A DID cannot end in a colon.
        let Ok(did) = Did::parse(&text) else { continue };
        assert_eq!(document(&did), not_base58, "{encoded}");
    }
    let json = r#"{"authentication":[]}"#;
    assert!(document(&long_of_bytes(&[0x80, 0x04], json)).is_ok());
    // Big-endian, a three-byte varint, another codec, none.
    for prefix in [&[0x02, 0x00][..], &[0x80, 0x84, 0x00], &[0x81, 0x04], &[]] {
        assert_eq!(
            document(&long_of_bytes(prefix, json)),
            Err(DidError::Encoding {
                what: "the document of the did:peer:4",
                expected: "of multicodec JSON"
            })
        );
    }
}

#[test]
fn hash_in_a_wrong_encoding_is_refused() {
    let encoded = ours().long.as_str().rsplit(':').next().unwrap().to_owned();
    let sha512_code = bs58::encode([&[0x13, 0x20][..], &[1; 32]].concat()).into_string();
    let short_hash = bs58::encode([&[0x12, 0x1f][..], &[1; 31]].concat()).into_string();
    for hash in ["", "z", "mEi", &format!("z{sha512_code}"), &format!("z{short_hash}"), &"z1".repeat(100)] {
        for text in [format!("{PREFIX}{hash}:{encoded}"), format!("{PREFIX}{hash}")] {
            let error = short_form(&Did::parse(&text).unwrap()).unwrap_err();
            assert!(matches!(error, DidError::Encoding { what: "the hash of the did:peer", .. }), "{text}");
        }
    }
}

#[test]
fn input_that_breaks_the_rules_of_documents_is_refused() {
    let error = |json: &str| document(&long_of_bytes(&JSON_CODEC, json)).unwrap_err();
    assert!(matches!(error(r#"{"id":"did:peer:4z"}"#), DidError::Member { member: "id", .. }));
    assert!(matches!(error("[]"), DidError::Member { member: "document", .. }));
    let twice = error(r#"{"service":[],"service":[]}"#);
    assert!(matches!(twice, DidError::Json(StrictJsonError::DuplicateMember { .. })));
    assert!(matches!(error(&"[".repeat(50)), DidError::Json(StrictJsonError::TooDeep { .. })));
    assert!(matches!(error("{"), DidError::Json(StrictJsonError::Syntax { .. })));
    assert_eq!(
        error(r##"{"keyAgreement":["#k"]}"##),
        DidError::MissingMethod { relationship: "keyAgreement" }
    );
}

#[test]
fn input_that_could_not_be_resolved_is_not_made() {
    assert_eq!(InputDocument::new().create(), Err(DidError::NoKeys));
    let wrong = InputDocument::new().add_method("k", key(KeyKind::Ed25519, 1), &[Relationship::KeyAgreement]);
    assert_eq!(
        wrong.create(),
        Err(DidError::WrongPurpose { kind: KeyKind::Ed25519, relationship: "keyAgreement" })
    );
    let twice = InputDocument::new().add_method("k", key(KeyKind::Ed25519, 1), &[]).add_method(
        "k",
        key(KeyKind::Ed25519, 2),
        &[],
    );
    assert_eq!(twice.create(), Err(DidError::DuplicateMethodId));
    let long = json!({ "x": "x".repeat(MAX_DID_LEN) });
    assert!(matches!(create(&long), Err(DidError::TooLong { what: "input document", .. })));
    assert!(matches!(create(&json!({ "id": "did:example:a" })), Err(DidError::Member { member: "id", .. })));
}

#[test]
fn other_forms_are_refused() {
    let short = ours().short;
    assert_eq!(document(&short), Err(DidError::WrongMethod { expected: "did:peer:4 in its long form" }));
    assert_eq!(short_form(&short), Ok(short.clone()));
    let other = Did::parse("did:peer:2.V").unwrap();
    assert_eq!(short_form(&other), Err(DidError::WrongMethod { expected: PREFIX }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_text_panics(suffix in "[a-zA-Z0-9]{0,60}(:z?[1-9A-HJ-NP-Za-km-z]{1,60})?", json in "[{}\\[\\]\":,a-z#]{0,40}") {
        if let Ok(did) = Did::parse(&format!("{PREFIX}{suffix}")) {
            let _ = document(&did);
            let _ = did.canonical();
        }
        let _ = document(&long_of_bytes(&JSON_CODEC, &json));
    }

    #[test]
    fn created_documents_give_their_parts_back(kinds in proptest::collection::vec(0usize..6, 1..5), uri in "[!-~]{1,30}") {
        let mut input = InputDocument::new();
        for (n, kind) in kinds.iter().enumerate() {
            input = input.add_method(&format!("k{n}"), key(KeyKind::ALL[*kind], 3), &[]);
        }
        let long = input.add_service(Service::didcomm("#s", vec![Endpoint::didcomm(&uri)])).create().unwrap().long;
        let document = document(&long).unwrap();
        let read: Vec<_> = document.verification_methods().iter().map(|method| method.key.kind()).collect();
        prop_assert_eq!(read, kinds.iter().map(|kind| KeyKind::ALL[*kind]).collect::<Vec<_>>());
        prop_assert_eq!(document.didcomm_endpoints().next(), Some(&Endpoint::didcomm(uri)));
    }
}
