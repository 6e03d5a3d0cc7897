//! DIDs with keys on one curve, known to us and exported for the peers.

use einmal_did::{Did, DidDocument, LocalResolver};
use einmal_didcomm::{LayerPolicy, OpenContext, Opened, Packer, UnixSeconds, open};
use einmal_keys::{Jwk, KeyId, KeyKind, Keyring, SecretKey, SystemEntropy};
use serde_json::{Value, json};

/// One DID and its new keys.
#[derive(Debug)]
pub struct Party {
    /// The DID.
    pub did: Did,
    /// Its secrets, for us.
    pub ring: Keyring,
    /// Its document, as JSON of `JsonWebKey2020` methods.
    pub document: Value,
    /// Its secrets, for the peer.
    pub secrets: Vec<(String, Jwk)>,
}

impl Party {
    /// A party with two agreement keys of `kind`, `#agree-1` and `#agree-2`, one authentication key per algorithm,
    /// `#EdDSA`, `#ES256` and `#ES256K`, and these services.
    #[must_use]
    pub fn new(name: &str, kind: KeyKind, services: &Value) -> Self {
        let did = format!("did:example:{name}");
        let agreement = [("agree-1", kind), ("agree-2", kind)];
        let signing = [("EdDSA", KeyKind::Ed25519), ("ES256", KeyKind::P256), ("ES256K", KeyKind::Secp256k1)];
        let (ring, mut methods, mut secrets) = (Keyring::new(), Vec::new(), Vec::new());
        for (fragment, kind) in agreement.into_iter().chain(signing) {
            let key = SecretKey::generate(kind, &SystemEntropy).expect("the system has entropy");
            let kid = format!("{did}#{fragment}");
            methods.push(json!({"id": kid, "type": "JsonWebKey2020", "controller": did,
                "publicKeyJwk": key.public_key().to_jwk()}));
            secrets.push((kid.clone(), key.to_jwk()));
            ring.insert(KeyId::new(kid), key);
        }
        let ids = |list: &[(&str, KeyKind)]| -> Vec<String> {
            list.iter().map(|(fragment, _)| format!("{did}#{fragment}")).collect()
        };
        let document = json!({"id": did, "verificationMethod": methods, "keyAgreement": ids(&agreement),
            "authentication": ids(&signing), "assertionMethod": [], "capabilityDelegation": [],
            "capabilityInvocation": [], "service": services});
        Self { did: Did::parse(&did).expect("a DID"), ring, document, secrets }
    }

    /// The absolute id of one of the keys.
    #[must_use]
    pub fn kid(&self, fragment: &str) -> String {
        format!("{}#{fragment}", self.did)
    }
}

/// Alice, Bob behind a mediator, and a resolver that knows them.
#[derive(Debug)]
pub struct Stage {
    /// The sender.
    pub alice: Party,
    /// The recipient; reached through the mediator, according to his document.
    pub bob: Party,
    /// The mediator.
    pub mediator: Party,
    resolver: LocalResolver,
}

impl Stage {
    /// New parties with agreement keys of `kind`.
    #[must_use]
    pub fn new(kind: KeyKind) -> Self {
        let endpoint =
            |uri: &str, keys: &[String]| json!({"uri": uri, "accept": ["didcomm/v2"], "routingKeys": keys});
        let service = |did: &str, endpoint: Value| json!([{"id": format!("{did}#service"), "type": "DIDCommMessaging", "serviceEndpoint": endpoint}]);
        let mediator = Party::new("mediator", kind, &json!([]));
        let uri = "https://mediator.example/didcomm";
        let services = service("did:example:bob", endpoint(uri, &[mediator.kid("agree-1")]));
        let bob = Party::new("bob", kind, &services);
        let alice = Party::new("alice", kind, &json!([]));
        let resolver = LocalResolver::new();
        for party in [&alice, &bob, &mediator] {
            let text = party.document.to_string();
            let document = DidDocument::from_json(&party.did, text.as_bytes()).expect("our own document");
            resolver.remember(document);
        }
        Self { alice, bob, mediator, resolver }
    }

    /// All parties.
    #[must_use]
    pub fn parties(&self) -> [&Party; 3] {
        [&self.alice, &self.bob, &self.mediator]
    }

    /// Alice, with no secret but this one.
    ///
    /// # Panics
    ///
    /// If it is not one of hers.
    #[must_use]
    pub fn only_holding(&self, kid: &str) -> Party {
        let (_, jwk) = self.alice.secrets.iter().find(|(name, _)| name == kid).expect("one of Alice's keys");
        let ring = Keyring::new();
        ring.insert(KeyId::new(kid), SecretKey::from_jwk(jwk).expect("our own key"));
        Party {
            did: self.alice.did.clone(),
            ring,
            document: self.alice.document.clone(),
            secrets: Vec::new(),
        }
    }

    /// Packs as `party`.
    #[must_use]
    pub fn packer<'a>(&'a self, party: &'a Party) -> Packer<'a> {
        Packer { custody: &party.ring, resolver: &self.resolver, entropy: &SystemEntropy }
    }

    /// Opens as `party`.
    ///
    /// # Panics
    ///
    /// If the envelope is refused: these are tests.
    #[must_use]
    pub fn open(&self, packed: &[u8], party: &Party) -> Opened {
        let context = OpenContext {
            custody: &party.ring,
            resolver: &self.resolver,
            now: UnixSeconds(1_700_000_000),
            accept_plaintext: false,
            layers: LayerPolicy::Strict,
        };
        match open(packed, &context) {
            Ok(opened) => opened,
            Err(error) => panic!("{error}: {}", String::from_utf8_lossy(packed)),
        }
    }
}
