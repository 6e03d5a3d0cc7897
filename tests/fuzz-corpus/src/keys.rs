//! The fixed people of the corpora: their keys, DIDs and documents. Nothing here is secret.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use einmal_did::{
    Did, DidDocument, DidUrl, Endpoint, LocalResolver, Relationship, ResolveError, Resolver, Service,
    peer::{four::InputDocument, two},
};
use einmal_keys::{KeyId, KeyKind, Keyring, PublicKey, SecretKey, SeededEntropy};

/// DIDs and the keys behind them. All secret keys are in one ring, so everyone's mail can be opened.
pub(crate) struct World {
    pub(crate) ring: Keyring,
    /// did:peer:2: X25519 `#key-1`, Ed25519 `#key-2`.
    pub(crate) alice: Did,
    /// did:peer:4 in its long form: X25519 `#key-1`, Ed25519 `#key-2`, P-256 `#key-3` for agreement.
    pub(crate) bob: Did,
    /// The short form of bob's DID.
    pub(crate) bob_short: Did,
    /// did:web: P-256 `#agree` and `#sign`; issues credentials with `#sign`.
    pub(crate) city: Did,
    /// The DID alice had before: a did:peer:2 like her present one.
    pub(crate) prior: Did,
    documents: HashMap<Did, Arc<DidDocument>>,
}

static WORLD: LazyLock<World> = LazyLock::new(World::new);

/// The one world.
pub(crate) fn world() -> &'static World {
    &WORLD
}

/// A key that is the same in every run.
pub(crate) fn secret(kind: KeyKind, seed: u64) -> SecretKey {
    SecretKey::generate(kind, &SeededEntropy::new(seed)).expect("seeded entropy does not fail")
}

impl World {
    fn new() -> Self {
        let ring = Keyring::new();
        let alice = peer_two(&ring, 10);
        let prior = peer_two(&ring, 20);
        let (bob, bob_short) = bob(&ring);
        let city = Did::parse("did:web:city.example").expect("a DID");
        let city_document = city_document(&ring, &city);
        let local = LocalResolver::new();
        local.remember(city_document);
        let mut documents = HashMap::new();
        for did in [&alice, &prior, &bob, &bob_short, &city] {
            documents.insert(did.clone(), local.resolve(did).expect("own documents resolve"));
        }
        Self { ring, alice, bob, bob_short, city, prior, documents }
    }

    /// The DID URL of one of these people's keys, as custody names it.
    pub(crate) fn key_id(did: &Did, fragment: &str) -> KeyId {
        DidUrl::new(&did.canonical(), fragment).expect("a good fragment").to_key_id()
    }

    /// The public half of a key of these people.
    pub(crate) fn public(&self, did: &Did, relationship: Relationship, fragment: &str) -> PublicKey {
        let url = DidUrl::new(did, fragment).expect("a good fragment");
        let document = &self.documents[did];
        document.method_for(relationship, &url).expect("a key of the document").key.clone()
    }
}

/// Makes a did:peer:2 and puts its keys into `ring`.
fn peer_two(ring: &Keyring, seed: u64) -> Did {
    let (agree, sign) = (secret(KeyKind::X25519, seed), secret(KeyKind::Ed25519, seed + 1));
    let keys =
        [(Relationship::KeyAgreement, agree.public_key()), (Relationship::Authentication, sign.public_key())];
    let service = Service::didcomm("#service", vec![Endpoint::didcomm("https://mediator.example/inbox")]);
    let did = two::create(&keys, &[service]).expect("a good did:peer:2");
    ring.insert(World::key_id(&did, "key-1"), agree);
    ring.insert(World::key_id(&did, "key-2"), sign);
    did
}

fn bob(ring: &Keyring) -> (Did, Did) {
    let keys = [
        ("key-1", secret(KeyKind::X25519, 30), Relationship::KeyAgreement),
        ("key-2", secret(KeyKind::Ed25519, 31), Relationship::Authentication),
        ("key-3", secret(KeyKind::P256, 32), Relationship::KeyAgreement),
    ];
    let input = keys.iter().fold(InputDocument::new(), |input, (fragment, key, relationship)| {
        input.add_method(fragment, key.public_key(), &[*relationship])
    });
    let service = Service::didcomm("#service", vec![Endpoint::didcomm("https://bob.example/inbox")]);
    let both = input.add_service(service).create().expect("a good did:peer:4");
    for (fragment, key, _) in keys {
        ring.insert(World::key_id(&both.short, fragment), key);
    }
    (both.long, both.short)
}

fn city_document(ring: &Keyring, city: &Did) -> DidDocument {
    let (agree, sign) = (secret(KeyKind::P256, 40), secret(KeyKind::P256, 41));
    let mut document = DidDocument::new(city.clone());
    let signing = [Relationship::Authentication, Relationship::AssertionMethod];
    document
        .add_method("agree", agree.public_key(), &[Relationship::KeyAgreement])
        .and_then(|document| document.add_method("sign", sign.public_key(), &signing))
        .expect("good methods");
    ring.insert(World::key_id(city, "agree"), agree);
    ring.insert(World::key_id(city, "sign"), sign);
    document
}

/// Knows the people above and computes everything else that can be computed; keeps nothing beyond the run.
pub(crate) struct KnownPeople {
    others: LocalResolver,
}

impl KnownPeople {
    pub(crate) fn new() -> Self {
        Self { others: LocalResolver::new() }
    }
}

impl Resolver for KnownPeople {
    fn resolve(&self, did: &Did) -> Result<Arc<DidDocument>, ResolveError> {
        match world().documents.get(did) {
            Some(document) => Ok(Arc::clone(document)),
            None => self.others.resolve(did),
        }
    }
}
