//! Tests of did:peer:2: keys, abbreviated services, and forms that peers have written.

use einmal_keys::KeyError;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    DIDCOMM_V2, DidUrl, StrictJsonError,
    test_support::{key, vectors},
};

fn did(text: &str) -> Did {
    Did::parse(text).unwrap()
}

fn element(service: &Value) -> String {
    format!(".S{}", base64url_encode(service.to_string()))
}

/// A did:peer:2 with one signing and one agreement key, followed by `suffix`.
fn with(suffix: &str) -> Did {
    let (v, e) = (key(KeyKind::Ed25519, 1).to_multikey(), key(KeyKind::X25519, 2).to_multikey());
    did(&format!("did:peer:2.V{v}.E{e}{suffix}"))
}

fn ours(services: &[Service]) -> Did {
    let keys = [
        (Relationship::KeyAgreement, key(KeyKind::X25519, 2)),
        (Relationship::Authentication, key(KeyKind::Ed25519, 1)),
    ];
    create(&keys, services).unwrap()
}

#[test]
fn created_did_is_resolved_with_its_keys_numbered_over_all_elements() {
    let mediator =
        Endpoint { routing_keys: vec!["did:example:m#k".into()], ..Endpoint::didcomm("https://a.example") };
    let did = ours(&[
        Service::didcomm("#any", vec![mediator.clone(), Endpoint::didcomm("wss://a.example/ws")]),
        Service {
            id: String::new(),
            kind: "Other".into(),
            endpoints: vec![Endpoint { uri: "u".into(), ..Endpoint::default() }],
        },
    ]);
    let document = document(&did).unwrap();
    let facts: Vec<_> = document
        .verification_methods()
        .iter()
        .map(|method| (method.id.fragment().unwrap(), method.key.kind()))
        .collect();
    assert_eq!(facts, [("key-1", KeyKind::X25519), ("key-2", KeyKind::Ed25519)]);
    let ids: Vec<_> =
        document.services.iter().map(|service| service.id.strip_prefix(did.as_str()).unwrap()).collect();
    assert_eq!(ids, ["#service", "#service-1", "#service-2"]);
    assert_eq!(document.didcomm_endpoints().next(), Some(&mediator));
    assert_eq!(document.didcomm_endpoints().count(), 2);
    assert_eq!(document.services[2].endpoints[0].uri, "u");
    assert_eq!(document.also_known_as, [three::short_form(&did).unwrap()]);
}

#[test]
fn emitted_service_is_abbreviated_as_deployed_peers_read_it() {
    let did = ours(&[Service::didcomm("#s", vec![Endpoint::didcomm("https://a.example")])]);
    let service = did.as_str().split(".S").nth(1).unwrap();
    let text = String::from_utf8(base64url_decode(service).unwrap()).unwrap();
    assert_eq!(text, r#"{"t":"dm","s":{"uri":"https://a.example","a":["didcomm/v2"]}}"#);
    assert!(did.as_str().starts_with("did:peer:2.Ez6LS"));
}

#[test]
fn method_is_found_by_its_number_and_by_its_older_name_under_its_purpose_only() {
    let did = with("");
    let document = document(&did).unwrap();
    let (signing, agreement) = (key(KeyKind::Ed25519, 1), key(KeyKind::X25519, 2));
    let multibase = agreement.to_multikey();
    for fragment in ["key-2", &multibase, &multibase[1..]] {
        let url = DidUrl::new(&did, fragment).unwrap();
        assert_eq!(document.method_for(Relationship::KeyAgreement, &url).unwrap().key, agreement);
        assert_eq!(document.method_for(Relationship::Authentication, &url), None);
    }
    let url = DidUrl::new(&did, &signing.to_multikey()[1..]).unwrap();
    assert_eq!(document.method_for(Relationship::KeyAgreement, &url), None);
    let method = document.method_for(Relationship::Authentication, &url).unwrap();
    assert_eq!(method.id.fragment(), Some("key-1"));
    let other = DidUrl::new(&did, &key(KeyKind::X25519, 3).to_multikey()).unwrap();
    assert_eq!(document.method_for(Relationship::KeyAgreement, &other), None);
    let elsewhere = DidUrl::new(&ours(&[]), "key-2").unwrap();
    assert_eq!(document.method_for(Relationship::KeyAgreement, &elsewhere), None);
}

#[test]
fn all_forms_of_a_service_that_were_ever_written_mean_the_same() {
    let expected = Endpoint {
        uri: "https://a.example".into(),
        accept: vec![DIDCOMM_V2.into()],
        routing_keys: vec!["did:example:m#k".into()],
        multi_addrs: Vec::new(),
    };
    let routing = json!(["did:example:m#k"]);
    let accept = json!(["didcomm/v2"]);
    let current = json!({ "t": "dm", "s": { "uri": "https://a.example", "a": accept, "r": routing } });
    for service in [
        current.clone(),
        json!([current]),
        json!({ "type": "DIDCommMessaging",
            "serviceEndpoint": { "uri": "https://a.example", "accept": accept, "routingKeys": routing } }),
        json!({ "t": "dm", "serviceEndpoint": { "uri": "https://a.example", "accept": accept, "r": routing } }),
        json!({ "type": "dm", "s": [{ "uri": "https://a.example", "a": accept, "routingKeys": routing }] }),
        json!({ "t": "dm", "s": "https://a.example", "a": accept, "r": routing }),
        json!({ "t": "dm", "s": "https://a.example", "accept": accept, "routing_keys": routing }),
    ] {
        let document = document(&with(&element(&service))).unwrap();
        assert_eq!(document.didcomm_endpoints().collect::<Vec<_>>(), [&expected], "{service}");
    }
}

#[test]
fn several_services_in_one_element_are_numbered_with_the_others() {
    let service = json!({ "t": "dm", "s": { "uri": "u" } });
    let named = json!({ "id": "#mine", "t": "x", "s": { "uri": "u" } });
    let did = with(&format!("{}{}", element(&json!([service, named, service])), element(&service)));
    let document = document(&did).unwrap();
    let ids: Vec<_> =
        document.services.iter().map(|service| service.id.rsplit('#').next().unwrap()).collect();
    assert_eq!(ids, ["service", "mine", "service-1", "service-2"]);
    assert_eq!(document.to_json()["service"][1]["type"], "x", "kept as it was");
}

#[test]
fn published_examples_are_read() {
    let Some(vectors) = vectors("did-peer/spec-examples.json") else { return };
    let dids: Vec<Did> = serde_json::from_value(vectors["numalgo_2"].clone()).unwrap();
    let first = document(&dids[0]).unwrap();
    assert_eq!(first.methods(Relationship::Authentication).next().unwrap().id.fragment(), Some("key-1"));
    assert_eq!(first.methods(Relationship::KeyAgreement).next().unwrap().id.fragment(), Some("key-2"));
    let endpoints: Vec<_> = first.didcomm_endpoints().collect();
    assert_eq!(endpoints[0].uri, "http://example.com/didcomm");
    assert_eq!(endpoints[1].routing_keys, ["did:example:123456789abcdefghi#key-2"]);
    let keys: Vec<String> =
        first.verification_methods().iter().map(|method| method.key.to_multikey()).collect();
    let printed: Vec<&str> =
        dids[0].as_str().split('.').skip(1).take(2).map(|element| &element[1..]).collect();
    assert_eq!(keys, printed);
    let second = document(&dids[1]).unwrap();
    assert_eq!(second.methods(Relationship::Authentication).count(), 2);
    assert_eq!(second.methods(Relationship::KeyAgreement).next().unwrap().id.fragment(), Some("key-1"));
    let endpoint = second.didcomm_endpoints().next().unwrap();
    assert_eq!(endpoint.uri, "https://example.com/endpoint");
    assert_eq!(endpoint.routing_keys, ["did:example:somemediator#somekey"]);
    assert_eq!(endpoint.accept, ["didcomm/v2", "didcomm/aip2;env=rfc587"]);
}

#[test]
fn elements_that_do_not_decode_are_refused_for_their_reason() {
    let error = |suffix: &str| document(&with(suffix)).unwrap_err();
    for suffix in [".", "..", ".Xz6Mk", ".S*", ".SA"] {
        let Ok(did) = Did::parse(&format!("{}{suffix}", with(""))) else {
            assert!(suffix.contains('*'));
            continue;
        };
        let error = document(&did).unwrap_err();
        assert!(
            matches!(error, DidError::Encoding { what: "an element of the did:peer:2", .. }),
            "{suffix}: {error}"
        );
    }
    let multikey = key(KeyKind::Ed25519, 3).to_multikey();
    assert!(matches!(error(&format!(".Vm{}", &multikey[1..])), DidError::Key(KeyError::Encoding { .. })));
    assert!(matches!(error(".V"), DidError::Key(KeyError::Encoding { .. })));
    let unknown = bs58::encode([&[0xeb, 0x01][..], &[1; 96]].concat()).into_string();
    assert_eq!(error(&format!(".Vz{unknown}")), KeyError::UnsupportedKind.into());
    let off_curve = bs58::encode([&[0x80, 0x24, 0x02][..], &[0xff; 32]].concat()).into_string();
    assert_eq!(error(&format!(".Ez{off_curve}")), KeyError::InvalidPoint { kind: KeyKind::P256 }.into());
    assert_eq!(
        error(&format!(".E{multikey}")),
        DidError::WrongPurpose { kind: KeyKind::Ed25519, relationship: "keyAgreement" }
    );
    let agreement = key(KeyKind::X25519, 3).to_multikey();
    assert_eq!(
        error(&format!(".V{agreement}")),
        DidError::WrongPurpose { kind: KeyKind::X25519, relationship: "authentication" }
    );
    for text in ["did:peer:2", "did:peer:2Vz6Mk"] {
        assert!(matches!(document(&did(text)), Err(DidError::Encoding { .. })), "{text}");
    }
    assert_eq!(document(&did("did:peer:0z6Mk")), Err(DidError::WrongMethod { expected: "did:peer:2" }));
}

#[test]
fn services_that_break_their_rules_are_refused() {
    let error = |service: &Value| document(&with(&element(service))).unwrap_err();
    assert_eq!(
        error(&json!({ "t": "dm", "type": "dm", "s": "u" })),
        DidError::DuplicateMember { member: "type" }
    );
    assert_eq!(
        error(&json!({ "t": "dm", "s": { "uri": "u", "a": [], "accept": [] } })),
        DidError::DuplicateMember { member: "accept" }
    );
    assert!(matches!(error(&json!({ "t": "dm" })), DidError::Member { member: "serviceEndpoint", .. }));
    assert!(matches!(error(&json!("dm")), DidError::Member { member: "service", .. }));
    let text = |json: &str| document(&with(&format!(".S{}", base64url_encode(json)))).unwrap_err();
    assert!(matches!(
        text(r#"{"t":"dm","t":"dm"}"#),
        DidError::Json(StrictJsonError::DuplicateMember { .. })
    ));
    assert!(matches!(text(&"[".repeat(40)), DidError::Json(StrictJsonError::TooDeep { .. })));
    assert!(matches!(text("x"), DidError::Json(StrictJsonError::Syntax { .. })));
}

#[test]
fn numbers_are_bounded() {
    let element_text = format!(".V{}", key(KeyKind::Ed25519, 1).to_multikey());
    let of = |count: usize| did(&format!("did:peer:2{}", element_text.repeat(count)));
    assert_eq!(
        document(&of(MAX_ELEMENTS)).unwrap().methods(Relationship::Authentication).count(),
        MAX_ELEMENTS
    );
    let (count, max) = (MAX_ELEMENTS + 1, MAX_ELEMENTS);
    assert_eq!(document(&of(count)), Err(DidError::TooMany { what: "elements", count, max }));
    let service = json!({ "t": "dm", "s": "u" });
    let packed = element(&json!(vec![service; MAX_SERVICES + 1]));
    assert!(matches!(document(&with(&packed)), Err(DidError::TooMany { what: "services", .. })));
}

#[test]
fn did_that_deployed_peers_could_not_use_is_not_made() {
    let (signing, agreement) = (key(KeyKind::Ed25519, 1), key(KeyKind::X25519, 1));
    let p256 = key(KeyKind::P256, 1);
    let make = |keys: &[(Relationship, PublicKey)]| create(keys, &[]).map(drop);
    use Relationship::{Authentication, KeyAgreement};
    assert_eq!(make(&[]), Err(DidError::NoKeys));
    let p256_first = [(KeyAgreement, p256.clone()), (KeyAgreement, agreement.clone())];
    assert_eq!(make(&p256_first), Err(DidError::FirstAgreementKey));
    assert_eq!(make(&[(KeyAgreement, agreement.clone()), (KeyAgreement, p256)]), Ok(()));
    let wrong = DidError::WrongPurpose { kind: KeyKind::X25519, relationship: "authentication" };
    assert_eq!(make(&[(Authentication, agreement)]), Err(wrong));
    let many = vec![(Authentication, signing.clone()); MAX_ELEMENTS + 1];
    assert!(matches!(make(&many), Err(DidError::TooMany { what: "elements", .. })));
    let long = Service::didcomm("#s", vec![Endpoint::didcomm("u".repeat(MAX_DID_LEN))]);
    assert!(matches!(
        create(&[(Authentication, signing)], &[long]),
        Err(DidError::TooLong { what: "DID", .. })
    ));
}

proptest! {
    #[test]
    fn no_text_panics(suffix in "(\\.[VEAIDSX]?[a-zA-Z0-9_-]{0,30}){0,3}") {
        let _ = document(&did(&format!("did:peer:2{suffix}x")));
    }

    #[test]
    fn created_dids_give_their_endpoints_back(uris in proptest::collection::vec("[!-~]{1,30}", 0..4)) {
        let endpoints: Vec<Endpoint> = uris.iter().map(Endpoint::didcomm).collect();
        let document = document(&ours(&[Service::didcomm("#s", endpoints.clone())])).unwrap();
        prop_assert_eq!(document.didcomm_endpoints().cloned().collect::<Vec<_>>(), endpoints);
    }
}
