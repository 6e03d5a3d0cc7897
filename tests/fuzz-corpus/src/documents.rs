//! The targets `did` and `did_document`: identifiers, the documents they carry, and fetched documents.

use einmal_did::{
    Did, DidDocument, DidUrl, LocalResolver, Relationship, Resolver, did_key, key_of,
    limits::{
        MAX_ALSO_KNOWN_AS, MAX_DID_LEN, MAX_DID_URL_LEN, MAX_DOCUMENT_BYTES, MAX_ENDPOINTS, MAX_HOST_LEN,
        MAX_JSON_DEPTH, MAX_METHODS, MAX_SERVICES,
    },
    parse_strict_json,
    peer::{PeerForm, four, three},
    web,
};
use serde_json::Value;

use crate::json;

/// Reads `bytes` as a DID, as a DID URL, and as the URL of a did:web document; computes the DID's document.
pub fn did(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    if let Ok(url) = DidUrl::parse(text) {
        check_url(text, &url);
    }
    if let Ok(did) = web::did_from_url(text) {
        let location = web::location(&did).expect("a DID made from a URL has a location");
        assert!(web::did_from_url(&location.url).expect("and back").same_as(&did));
    }
    let base = Did::parse("did:example:a").expect("a DID");
    if let Ok(url) = DidUrl::resolve(&base, text) {
        assert!(url.as_str() == text || url.as_str() == format!("{base}{text}"));
    }
    let Ok(did) = Did::parse(text) else { return false };
    check_did(&did);
    true
}

fn check_url(text: &str, url: &DidUrl) {
    assert!(text.len() <= MAX_DID_URL_LEN && url.as_str() == text);
    let mut parts = url.did().as_str().to_owned();
    for (mark, part) in [('/', url.path()), ('?', url.query()), ('#', url.fragment())] {
        if let Some(part) = part {
            parts.push(mark);
            parts.push_str(part);
        }
    }
    assert_eq!(parts, text, "the parts of a DID URL are all of it");
    assert_eq!(Did::parse(url.did().as_str()).as_ref(), Ok(url.did()));
    let json = serde_json::to_string(url).expect("texts serialize");
    assert_eq!(serde_json::from_str::<DidUrl>(&json).expect("and parse"), *url);
}

fn check_did(did: &Did) {
    assert!(did.as_str().len() <= MAX_DID_LEN);
    assert_eq!(format!("did:{}:{}", did.method(), did.method_specific_id()), did.as_str());
    let canonical = did.canonical();
    assert_eq!(canonical.canonical(), canonical, "the canonical form is canonical");
    assert!(did.same_as(&canonical) && canonical.same_as(did) && did.same_as(did));
    assert_eq!(Did::parse(canonical.as_str()).as_ref(), Ok(&canonical), "a canonical form is a DID");
    if let Ok(key) = key_of(did) {
        assert_eq!(did_key(&key), *did, "a key has one did:key");
    }
    if let Ok(location) = web::location(did) {
        assert!(location.host.len() <= MAX_HOST_LEN && location.url.starts_with("https://"));
        assert!(!location.path.split('/').any(|segment| matches!(segment, "." | "..")));
        let back = web::did_from_url(&location.url).expect("a location is a did:web's");
        assert_eq!(web::location(&back).expect("and has a location"), location);
    }
    check_forms(did);
    let resolver = LocalResolver::new();
    let Ok(document) = resolver.resolve(did) else { return };
    assert_eq!(document.id, *did);
    assert_eq!(resolver.resolve(did).expect("it resolved before"), document);
    check_document(&document);
}

/// Checks the short forms of did:peer, which resolve once the long form was seen.
fn check_forms(did: &Did) {
    let resolver = LocalResolver::new();
    let Ok(short) = resolver.learn(did) else { return };
    assert_eq!(resolver.long_form(&short).as_ref(), Some(did));
    let document = resolver.resolve(&short).expect("a learnt form resolves");
    assert_eq!(document.id, short);
    match PeerForm::of(did).expect("it was learnt") {
        PeerForm::Two => assert_eq!(three::short_form(did).as_ref(), Ok(&short)),
        _ => {
            assert_eq!(four::short_form(did).as_ref(), Ok(&short));
            assert!(short.same_as(did));
        }
    }
    check_document(&document);
}

/// Reads `bytes` as strict JSON and as the document of the DID in its `id`.
pub fn did_document(bytes: &[u8]) -> bool {
    let Ok(value) = parse_strict_json(bytes, MAX_DOCUMENT_BYTES) else { return false };
    assert!(bytes.len() <= MAX_DOCUMENT_BYTES && json::depth(&value) <= MAX_JSON_DEPTH);
    let lenient: Value = serde_json::from_slice(bytes).expect("strict JSON is JSON");
    assert_eq!(lenient, value, "both readers understand the same");
    let text = value.to_string();
    let again = parse_strict_json(text.as_bytes(), text.len()).expect("JSON written here is strict");
    assert!(json::same(&again, &value));
    let expected = value.get("id").and_then(Value::as_str).and_then(|id| Did::parse(id).ok());
    let expected = expected.unwrap_or_else(|| Did::parse("did:example:a").expect("a DID"));
    let Ok(document) = DidDocument::from_json(&expected, bytes) else { return false };
    assert_eq!(document.id, expected);
    assert_eq!(DidDocument::from_json(&expected, &value).as_ref(), Ok(&document));
    let stranger = Did::parse("did:example:somebody-else-entirely").expect("a DID");
    assert!(stranger == expected || DidDocument::from_json(&stranger, bytes).is_err());
    check_document(&document);
    true
}

fn check_document(document: &DidDocument) {
    assert!(document.verification_methods().len() <= MAX_METHODS && document.services.len() <= MAX_SERVICES);
    assert!(document.also_known_as.len() <= MAX_ALSO_KNOWN_AS + 1);
    for method in document.verification_methods() {
        assert_eq!(method.id.did(), &document.id, "a method goes by its document's DID");
    }
    for relationship in Relationship::ALL {
        for method in document.methods(relationship) {
            assert_eq!(document.method_for(relationship, &method.id), Some(method));
        }
    }
    for service in &document.services {
        assert!(service.endpoints.len() <= MAX_ENDPOINTS);
    }
    assert!(document.didcomm_endpoints().all(einmal_did::Endpoint::accepts_didcomm_v2));
    let written = document.to_json();
    let again = DidDocument::from_json(&document.id, &written).expect("a document reads what it wrote");
    assert!(json::same(&again.to_json(), &written), "a document changed by writing and reading it");
    assert_eq!(again.verification_methods(), document.verification_methods());
    assert_eq!((&again.services, &again.also_known_as), (&document.services, &document.also_known_as));
    for relationship in Relationship::ALL {
        assert!(again.methods(relationship).eq(document.methods(relationship)));
    }
}
