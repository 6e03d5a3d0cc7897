//! Tests of the resolver: computed, learnt and handed-in documents.

use einmal_keys::KeyKind;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{Relationship, did_key, peer::four::InputDocument, test_support::key};

fn did(text: &str) -> Did {
    Did::parse(text).unwrap()
}

fn peer_four() -> four::PeerFour {
    InputDocument::new()
        .add_method("k", key(KeyKind::X25519, 1), &[Relationship::KeyAgreement])
        .create()
        .unwrap()
}

fn peer_two() -> Did {
    two::create(&[(Relationship::KeyAgreement, key(KeyKind::X25519, 1))], &[]).unwrap()
}

#[test]
fn computed_methods_are_answered_and_answered_again_from_memory() {
    let resolver = LocalResolver::new();
    let signing = key(KeyKind::Ed25519, 1);
    for did in [did_key(&signing), zero::create(&signing), peer_two(), peer_four().long] {
        let first = resolver.resolve(&did).unwrap();
        assert_eq!(first.id, did);
        assert_eq!(first.methods(Relationship::KeyAgreement).count(), 1, "{did}");
        assert!(Arc::ptr_eq(&first, &resolver.resolve(&did).unwrap()));
    }
}

#[test]
fn derived_agreement_key_can_be_switched_off() {
    let resolver = LocalResolver::with_derived_agreement(DerivedAgreement::Omitted);
    let document = resolver.resolve(&did_key(&key(KeyKind::Ed25519, 1))).unwrap();
    assert_eq!(document.methods(Relationship::KeyAgreement).count(), 0);
}

#[test]
fn short_forms_are_answered_only_after_their_long_forms_were_seen() {
    let four::PeerFour { long, short } = peer_four();
    let two = peer_two();
    let three = three::short_form(&two).unwrap();
    for (long, short) in [(long, short), (two, three)] {
        let resolver = LocalResolver::new();
        assert_eq!(resolver.resolve(&short), Err(ResolveError::NotFound { did: short.clone() }));
        resolver.resolve(&long).unwrap();
        assert_eq!(resolver.resolve(&short).unwrap().id, short);
        let other = LocalResolver::new();
        assert_eq!(other.learn(&long).unwrap(), short);
        assert_eq!(other.long_form(&short), Some(long.clone()));
        let document = other.resolve(&short).unwrap();
        assert_eq!(document.id, short);
        assert!(document.also_known_as.contains(&long));
        assert!(document.methods(Relationship::KeyAgreement).all(|method| *method.id.did() == short));
    }
}

#[test]
fn long_form_that_breaks_its_rules_is_not_learnt() {
    let four::PeerFour { long, short } = peer_four();
    let resolver = LocalResolver::new();
    let forged = did(&format!("{long}2"));
    assert_eq!(resolver.learn(&forged), Err(DidError::HashMismatch));
    assert_eq!(resolver.resolve(&forged), Err(DidError::HashMismatch.into()));
    assert_eq!(resolver.resolve(&short), Err(ResolveError::NotFound { did: short.clone() }));
    assert!(matches!(resolver.learn(&short), Err(DidError::WrongMethod { .. })));
    assert!(matches!(resolver.learn(&did("did:peer:2.Vz")), Err(DidError::Key(_))));
    assert!(matches!(resolver.learn(&did("did:web:a")), Err(DidError::WrongMethod { .. })));
    assert!(matches!(resolver.resolve(&did("did:peer:3zQm")), Err(ResolveError::Invalid(_))));
}

#[test]
fn web_documents_are_asked_for_handed_in_and_forgotten() {
    let resolver = LocalResolver::new();
    let city = did("did:web:city.example");
    assert_eq!(resolver.resolve(&city), Err(ResolveError::NotFetched { did: city.clone() }));
    resolver.remember(DidDocument::from_json(&city, &json!({ "id": city })).unwrap());
    assert_eq!(resolver.resolve(&city).unwrap().id, city);
    assert_eq!(resolver.resolve(&did("did:web:CITY.example")).unwrap().id, city);
    let pool = did("did:web:city.example:pool");
    assert_eq!(resolver.resolve(&pool), Err(ResolveError::NotFetched { did: pool.clone() }));
    resolver.forget(&did("did:web:City.example"));
    assert_eq!(resolver.resolve(&city), Err(ResolveError::NotFetched { did: city.clone() }));
}

#[test]
fn web_did_that_names_no_safe_place_is_never_asked_for() {
    let resolved = LocalResolver::new().resolve(&did("did:web:city.example:.."));
    assert!(matches!(resolved, Err(ResolveError::Invalid(DidError::Web { .. }))));
}

#[test]
fn unknown_methods_are_told_unless_their_document_was_handed_in() {
    let resolver = LocalResolver::new();
    let alice = did("did:example:alice");
    assert_eq!(resolver.resolve(&alice), Err(ResolveError::UnsupportedMethod { method: "example".into() }));
    resolver.remember(DidDocument::new(alice.clone()));
    assert_eq!(resolver.resolve(&alice).unwrap().id, alice);
    let legacy = resolver.resolve(&did("did:peer:1zQm"));
    assert_eq!(legacy, Err(DidError::UnsupportedNumalgo { numalgo: '1' }.into()));
}

#[test]
fn document_handed_in_never_replaces_a_computed_one() {
    let resolver = LocalResolver::new();
    let did = did_key(&key(KeyKind::Ed25519, 1));
    let mut forged = DidDocument::new(did.clone());
    forged.add_method("k", key(KeyKind::Ed25519, 2), &[Relationship::Authentication]).unwrap();
    resolver.remember(forged);
    assert_eq!(read(&resolver.remembered).len(), 0);
    let document = resolver.resolve(&did).unwrap();
    assert_eq!(document.verification_methods()[0].key, key(KeyKind::Ed25519, 1));
}

#[test]
fn memory_of_documents_handed_in_is_bounded() {
    let resolver = LocalResolver::new();
    for n in 0..MAX_REMEMBERED_DOCUMENTS + 5 {
        resolver.remember(DidDocument::new(did(&format!("did:web:a{n}.example"))));
    }
    assert_eq!(read(&resolver.remembered).len(), MAX_REMEMBERED_DOCUMENTS);
    assert!(matches!(resolver.resolve(&did("did:web:a0.example")), Err(ResolveError::NotFetched { .. })));
}

#[test]
fn debug_names_no_did() {
    let resolver = LocalResolver::new();
    resolver.remember(DidDocument::new(did("did:web:secret.example")));
    assert!(!format!("{resolver:?}").contains("secret"));
}

proptest! {
    #[test]
    fn no_did_panics(text in "did:(key|peer|web|x):[0-4]?[.VES]?z?[a-zA-Z0-9:._-]{1,60}") {
        if let Ok(did) = Did::parse(&text) {
            let _ = LocalResolver::new().resolve(&did);
        }
    }
}
