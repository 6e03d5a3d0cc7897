//! Seeds of DIDs and DID documents.

use einmal_did::{
    DidUrl, Relationship, Resolver, did_key,
    peer::{three, zero},
};
use einmal_keys::{KeyKind, base64url_encode};
use serde_json::{Value, json};

use super::bytes;
use crate::keys::{KnownPeople, secret, world};

pub(super) fn dids() -> Vec<(&'static str, Vec<u8>)> {
    let world = world();
    let text = |text: &str| text.as_bytes().to_vec();
    let of_key = |kind| did_key(&secret(kind, 50).public_key());
    let peer_zero = zero::create(&secret(KeyKind::Ed25519, 51).public_key());
    let altered = world.bob.as_str().replacen("did:peer:4zQm", "did:peer:4zQn", 1);
    let old_service = base64url_encode(
        r#"[{"t":"dm","s":"https://a.example","r":["did:key:z"],"a":["didcomm/v2"]},{"t":"x","s":{"k":1}}]"#,
    );
    let alice = world.public(&world.alice, Relationship::KeyAgreement, "key-1").to_multikey();
    vec![
        ("valid-peer-two", text(world.alice.as_str())),
        ("valid-peer-two-old", text(&format!("did:peer:2.E{alice}.S{old_service}"))),
        ("valid-peer-three", text(three::short_form(&world.alice).expect("a did:peer:2").as_str())),
        ("valid-peer-four", text(world.bob.as_str())),
        ("valid-peer-four-short", text(world.bob_short.as_str())),
        ("valid-peer-four-altered", text(&altered)),
        ("valid-peer-zero", text(peer_zero.as_str())),
        ("valid-key-ed25519", text(of_key(KeyKind::Ed25519).as_str())),
        ("valid-key-x25519", text(of_key(KeyKind::X25519).as_str())),
        ("valid-key-p256", text(of_key(KeyKind::P256).as_str())),
        ("valid-key-p384", text(of_key(KeyKind::P384).as_str())),
        ("valid-key-p521", text(of_key(KeyKind::P521).as_str())),
        ("valid-key-secp256k1", text(of_key(KeyKind::Secp256k1).as_str())),
        ("valid-web", text("did:web:City.example%3a8443:a%2fb:C")),
        ("valid-web-dots", text("did:web:city.example:%2e%2E:a")),
        ("bent-url", text(DidUrl::new(&world.city, "sign").expect("a fragment").as_str())),
        ("bent-url-parts", text("did:web:a:b/path/x?q=1&r=/?#frag/?")),
        ("bent-web-url", text("https://City.example:8443/a:b~/did.json")),
        ("bent-relative", text("/path?q#key-1")),
        ("bent-percent", text("did:web:a%2g")),
    ]
}

pub(super) fn did_documents() -> Vec<(&'static str, Vec<u8>)> {
    let (world, people) = (world(), KnownPeople::new());
    let city = people.resolve(&world.city).expect("known").to_json();
    let agree = secret(KeyKind::X25519, 60).public_key();
    let base58 = |kind, seed| {
        let multikey = secret(kind, seed).public_key().to_multikey();
        json!({"id": format!("#{seed}"), "type": "Multikey", "publicKeyMultibase": multikey})
    };
    let mixed = json!({
        "id": "did:web:city.example", "alsoKnownAs": ["did:example:b", "acct:x"],
        "verificationMethod": [
            base58(KeyKind::Ed25519, 61), base58(KeyKind::P384, 62),
            {"id": "#jwk", "type": "JsonWebKey2020", "controller": "did:example:c", "publicKeyJwk": agree.to_jwk()},
            {"id": "did:example:c#1", "type": "Multikey", "publicKeyMultibase": agree.to_multikey()},
            {"id": "#odd", "type": "Bls12381G2Key2020", "publicKeyBase58": "abc"},
        ],
        "authentication": ["#61", "did:web:CITY.example#61", "#odd"], "keyAgreement": ["#jwk", base58(KeyKind::X25519, 63)],
        "assertionMethod": "#61",
        "service": [
            {"type": "DIDCommMessaging", "serviceEndpoint": [{"uri": "https://a.example", "accept": ["didcomm/v2"],
                "routingKeys": ["did:key:z#z"], "multiAddrs": ["/ip4/127.0.0.1"]}, {"uri": ["did:web:m.example"]}]},
            {"id": "#x", "type": ["Other", "More"], "serviceEndpoint": {"origins": [1.5, {"deep": []}]}},
            {"id": "#y", "type": "LinkedDomains", "serviceEndpoint": "https://b.example"},
        ],
    });
    let key = |member: &str, value: Value| json!({"id": "#1", "type": "JsonWebKey2020", member: value});
    let one = |method: Value| json!({"id": "did:web:city.example", "verificationMethod": [method]});
    let mut private = serde_json::to_value(agree.to_jwk()).expect("a JWK");
    private["d"] = "AA".into();
    vec![
        ("valid-city", bytes(&city)),
        ("valid-mixed", bytes(&mixed)),
        ("valid-alice", bytes(&people.resolve(&world.alice).expect("known").to_json())),
        ("valid-bob", bytes(&people.resolve(&world.bob_short).expect("known").to_json())),
        ("valid-least", br#"{"id":"did:example:a"}"#.to_vec()),
        ("bent-private", bytes(&one(key("publicKeyJwk", private)))),
        ("valid-no-key", bytes(&one(key("x", json!(1))))),
        ("bent-missing", bytes(&json!({"id": "did:example:a", "authentication": ["#nobody"]}))),
        (
            "bent-twice",
            bytes(
                &json!({"id": "did:example:a", "verificationMethod": [base58(KeyKind::P256, 64), base58(KeyKind::P256, 64)]}),
            ),
        ),
        ("bent-json", br#"{"id":"did:example:a","id":"did:example:b"}"#.to_vec()),
        ("bent-numbers", br#"[1e3,-0,0.1,18446744073709551616,"\ud83d\ude00",[[[]]],{}]"#.to_vec()),
    ]
}
