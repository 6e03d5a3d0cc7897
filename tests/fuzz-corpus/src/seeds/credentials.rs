//! Seeds of credentials, presentations, queries and status lists.

use std::io::Write;

use einmal_credentials::{
    dcql::DcqlQuery,
    proof,
    sd_jwt::{KeyBindingRequest, SdJwtIn},
    vc::HeldCredential,
};
use flate2::{Compression, write::ZlibEncoder};
use serde_json::json;

use super::{mode, with};
use crate::{
    NOW,
    keys::world,
    sd_jwts::{self, AUDIENCE, CARD, NONCE},
    status_lists,
};

pub(super) fn credentials() -> Vec<(&'static str, Vec<u8>)> {
    let (world, card) = (world(), HeldCredential::from_store(&CARD).expect("an own card"));
    let holder = sd_jwts::holder_kid();
    let binding = KeyBindingRequest {
        custody: &world.ring,
        kid: &holder,
        audience: AUDIENCE,
        nonce: NONCE,
        issued_at: NOW,
    };
    let some: Vec<_> = card.disclosable().take(2).map(<[_]>::to_vec).collect();
    let presented = card.present(&some, Some(&binding)).expect("some can be presented");
    let assembled = json!({
        "payload": {"iss": world.alice, "vct": "v", "exp": NOW + 9, "_sd_alg": "sha-256", "_sd": ["@2", "decoy"],
            "list": ["a", {"...": "@0"}, {"...": "unknown"}]},
        "disclosures": [["s0", {"in": 1}], ["s1", "name", "Muster"], ["s2", "who", {"_sd": ["@1"]}]],
    });
    let asked = json!({
        "claims": {"a": 1, "b": {"c": [1, [2, {"d": null}]]}, "e": []}, "decoys": 2,
        "disclosable": [["a"], ["b"], ["b", "c"], ["b", "c", 0], ["b", "c", 1, 1, "d"]],
    });
    let key_binding = json!({"iat": NOW, "aud": AUDIENCE, "nonce": NONCE, "sd_hash": "@"});
    let proved = proof::prove(&world.ring, &holder, world.alice.as_str(), NONCE, NOW).expect("bob can sign");
    let mut changed = CARD.clone().into_bytes();
    changed[100] ^= 1;
    let orphan = with(&assembled, json!({"payload": {"iss": world.alice, "vct": "v"}}));
    let hidden = json!({"payload": {"iss": world.alice, "_sd": ["@0"]}, "disclosures": [["s", "vct", "v"]]});
    let twice = json!({"payload": {"_sd": ["@0", "@0"]}, "disclosures": [["s", "a", 1]]});
    vec![
        ("valid-card", CARD.clone().into_bytes()),
        ("valid-presentation", presented.clone().into_bytes()),
        (
            "valid-flattened",
            format!("F{}", SdJwtIn::to_flattened(&presented).expect("it parses")).into_bytes(),
        ),
        ("valid-assembled", mode('J', &assembled)),
        ("valid-assembled-hidden-vct", mode('J', &hidden)),
        ("valid-issued", mode('I', &asked)),
        ("valid-key-binding", mode('B', &key_binding)),
        ("valid-proof", format!("P{proved}").into_bytes()),
        ("bent-changed", changed),
        ("bent-orphan", mode('J', &orphan)),
        ("bent-twice", mode('J', &twice)),
        ("bent-reserved", mode('I', &json!({"claims": {"_sd": []}}))),
        ("bent-stale", mode('B', &with(&key_binding, json!({"iat": NOW - 301})))),
        ("bent-nonce", mode('B', &with(&key_binding, json!({"nonce": "n-2"})))),
        ("bent-hash", mode('B', &with(&key_binding, json!({"sd_hash": "x"})))),
    ]
}

pub(super) fn queries() -> Vec<(&'static str, Vec<u8>)> {
    let meta = json!({"vct_values": ["urn:de:kommune:resident:1"]});
    let claims = json!([
        {"id": "a", "path": ["age_equal_or_over", "16"], "values": [true]},
        {"id": "b", "path": ["nationalities", null]}, {"id": "c", "path": ["address", "street_address"]},
        {"id": "d", "path": ["nationalities", 2], "values": ["IT"]}, {"id": "e", "path": ["points"], "values": [7]},
    ]);
    let one = json!({"id": "one", "format": "dc+sd-jwt", "meta": meta, "claims": claims});
    let sets = with(
        &one,
        json!({"id": "two", "claim_sets": [["a", "b"], ["e"]], "require_cryptographic_holder_binding": true}),
    );
    let absent = json!({"id": "three", "format": "dc+sd-jwt", "meta": {"vct_values": ["urn:other"]}});
    let options = json!([{"options": [["three"], ["one"]]}, {"options": [["two"]], "required": false}]);
    let query = json!({"credentials": [one, sets, absent], "credential_sets": options});
    assert!(DcqlQuery::from_value(query.clone()).is_ok(), "the seed is a query");
    vec![
        ("valid-query-one", mode('Q', &json!({"credentials": [one]}))),
        ("valid-query-sets", mode('Q', &query)),
        ("valid-query-unmatched", mode('Q', &json!({"credentials": [absent]}))),
        ("bent-query-empty", mode('Q', &json!({"credentials": []}))),
        ("bent-query-same-id", mode('Q', &json!({"credentials": [one, one]}))),
    ]
}

fn zlib(content: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(content).expect("memory does not fail");
    encoder.finish().expect("memory does not fail")
}

pub(super) fn status_lists() -> Vec<(&'static str, Vec<u8>)> {
    let (header, payload) = (status_lists::header(), status_lists::payload());
    let token = sd_jwts::sign(&header, &payload, &sd_jwts::issuer_kid());
    let bomb = zlib(&vec![0; einmal_credentials::status_list::MAX_LIST_BYTES + 1]);
    let packed = |start: &str, content: Vec<u8>| [start.as_bytes(), &content].concat();
    let wide = json!({"bits": 3, "lst": "eJxjAAAAAQAB"});
    vec![
        ("valid-token", token.clone().into_bytes()),
        ("valid-payload", mode('J', &payload)),
        ("valid-payload-without-exp", mode('J', &with(&payload, json!({"exp": null, "ttl": null})))),
        ("valid-header", mode('H', &header)),
        ("valid-list-1", b"L1\x01\x80".to_vec()),
        ("valid-list-2", b"L2\x1b\xe4".to_vec()),
        ("valid-list-4", b"L4\x12".to_vec()),
        ("valid-list-8", b"L8\x00\x01\x02\x03\xff".to_vec()),
        ("valid-zlib", packed("Z2", zlib(b"0123456789abcdef0123456789abcdef"))),
        ("bent-bits", b"L3\x01".to_vec()),
        ("bent-bomb", packed("Z1", bomb)),
        ("bent-zlib-tail", packed("Z1", [zlib(b"abc"), b"tail".to_vec()].concat())),
        ("bent-token", token.replacen('e', "f", 1).into_bytes()),
        ("bent-expired", mode('J', &with(&payload, json!({"exp": NOW - 60})))),
        ("bent-future", mode('J', &with(&payload, json!({"iat": NOW + 61})))),
        ("bent-subject", mode('J', &with(&payload, json!({"sub": "https://other.example"})))),
        ("bent-width", mode('J', &with(&payload, json!({"status_list": wide})))),
        ("bent-type", mode('H', &with(&header, json!({"typ": "JWT"})))),
    ]
}
