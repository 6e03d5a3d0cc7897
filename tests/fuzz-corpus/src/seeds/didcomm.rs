//! Seeds of messages, envelopes and invitations.

use einmal_did::Did;
use einmal_didcomm::{
    Attachment, ContentEncryption, Message, MessageId, MessageType, PackOptions, Packer, SenderProtection,
    UnixSeconds, from_prior_jwt,
};
use einmal_keys::{SeededEntropy, base64url_encode};
use serde_json::{Value, json};

use super::{bytes, mode, with};
use crate::{
    NOW,
    keys::{KnownPeople, World, world},
    sealing,
};

const BASIC: &str = "https://didcomm.org/basicmessage/2.0/message";

pub(super) fn messages() -> Vec<(&'static str, Vec<u8>)> {
    let full = full_message();
    let mut signed = Attachment::base64("signed", b"content");
    signed.sign(&world().ring, &World::key_id(&world().alice, "key-2")).expect("alice can sign");
    let mut message = Message::new(id(), MessageType::parse(BASIC).expect("a type"));
    message.attachments = vec![signed, Attachment::json("json", json!({"x": 1})).with_format("f")];
    let links = json!([{"id": "l", "byte_count": 7, "lastmod_time": 1, "data": {
        "links": ["https://a.example/x"], "hash": "1220ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73",
    }}]);
    let nested =
        json!([{"data": {"id": "in", "format": "f", "media_type": "application/json", "json": [1]}}]);
    let forward = json!({
        "id": "f", "type": "https://didcomm.org/routing/2.0/forward", "body": {"next": world().bob_short},
        "attachments": [{"data": {"json": {"ciphertext": "x"}}}, {"data": {"base64": "eyJ9"}}],
    });
    let text = br#"{"id":"1","id":"2","type":"https://didcomm.org/empty/1.0/empty"}"#;
    vec![
        ("valid-full", bytes(&full)),
        ("valid-least", br#"{"id":"1","type":"https://didcomm.org/empty/1.0/empty"}"#.to_vec()),
        ("valid-attachments", message.to_bytes()),
        ("valid-links", bytes(&with(&full, json!({"attachments": links})))),
        ("valid-nested-attachment", bytes(&with(&full, json!({"attachments": nested})))),
        ("valid-forward", bytes(&forward)),
        ("valid-text-time", bytes(&with(&full, json!({"created_time": "1516269022"})))),
        ("bent-twice", text.to_vec()),
        ("bent-no-id", bytes(&with(&full, json!({"id": null})))),
        ("bent-typ", bytes(&with(&full, json!({"typ": 7})))),
        ("bent-raw-json", bytes(&with(&full, json!({"body": {"$serde_json::private::RawValue": "[]"}})))),
        ("bent-from", bytes(&with(&full, json!({"from": "did:example:a#key-1"})))),
        ("bent-time", bytes(&with(&full, json!({"expires_time": -1})))),
        ("bent-link-without-hash", bytes(&with(&full, json!({"attachments": [{"data": {"links": ["x"]}}]})))),
        (
            "bent-deep",
            format!("{{\"id\":\"1\",\"type\":\"a/b/1.0/c\",\"x\":{}1{}}}", "[".repeat(40), "]".repeat(40))
                .into_bytes(),
        ),
    ]
}

fn id() -> MessageId {
    MessageId::try_from("m-1").expect("an id")
}

pub(super) fn packed() -> Vec<(&'static str, Vec<u8>)> {
    let (world, people, entropy) = (world(), KnownPeople::new(), SeededEntropy::new(3));
    let packer = Packer { custody: &world.ring, resolver: &people, entropy: &entropy };
    let mut message = Message::new(id(), MessageType::parse(BASIC).expect("a type"));
    message.from = Some(world.alice.clone());
    message.to = vec![world.bob_short.clone()];
    let pack = |message: &Message, options: &PackOptions| {
        packer.pack(message, &world.bob_short, options).expect("a good message").bytes
    };
    let mut out = Vec::new();
    for (name, protection) in [
        ("valid-authcrypt", SenderProtection::Authcrypt),
        ("valid-authcrypt-hidden", SenderProtection::AuthcryptHidden),
        ("valid-signed-anoncrypt", SenderProtection::SignedAnoncrypt),
    ] {
        out.push((name, pack(&message, &PackOptions::protecting(protection))));
    }
    for (name, enc) in [
        ("valid-anoncrypt-cbc", ContentEncryption::A256CbcHs512),
        ("valid-anoncrypt-gcm", ContentEncryption::A256Gcm),
        ("valid-anoncrypt-xc20p", ContentEncryption::Xc20P),
    ] {
        let mut options = PackOptions::protecting(SenderProtection::Anoncrypt);
        options.anoncrypt_enc = enc;
        out.push((name, pack(&message, &options)));
    }
    let mut by_city = message.clone();
    by_city.from = Some(world.city.clone());
    out.push(("valid-authcrypt-p256", pack(&by_city, &PackOptions::default())));
    let mut rotated = message;
    let jwt = from_prior_jwt(&world.prior, Some(&world.alice), UnixSeconds(NOW - 5), &world.ring, &people);
    rotated.from_prior = Some(jwt.expect("a good rotation"));
    out.push(("valid-from-prior", pack(&rotated, &PackOptions::default())));
    out.push(("valid-sealed-from-prior", [b"C".as_slice(), &rotated.to_bytes()].concat()));
    out
}

pub(super) fn sealed() -> Vec<(&'static str, Vec<u8>)> {
    let full = full_message();
    let in_anoncrypt = |inner: Vec<u8>| [b"A".as_slice(), &inner].concat();
    vec![
        ("valid-sealed-anoncrypt", mode('A', &full)),
        ("valid-sealed-authcrypt", mode('C', &full)),
        ("valid-sealed-both", mode('D', &full)),
        ("valid-sealed-signed", mode('S', &full)),
        ("valid-sealed-signed-authcrypt", mode('B', &full)),
        ("valid-sealed-three", mode('T', &full)),
        ("valid-sealed-header", mode('H', &sealing::anoncrypt_header())),
        ("valid-sealed-authcrypt-in-anoncrypt", in_anoncrypt(sealing::authcrypt(&bytes(&full)))),
        ("valid-sealed-jws-in-anoncrypt", in_anoncrypt(sealing::sign(&bytes(&full)))),
    ]
}

pub(super) fn bent_envelopes() -> Vec<(&'static str, Vec<u8>)> {
    let full = full_message();
    let header = sealing::anoncrypt_header();
    let anonymous = sealing::anoncrypt(&bytes(&full));
    let mut changed = sealing::authcrypt(&bytes(&full));
    let at = changed.len() / 2;
    changed[at] ^= 1;
    let four = sealing::anoncrypt(&sealing::authcrypt(&sealing::sign(&sealing::sign(&bytes(&full)))));
    vec![
        ("bent-changed", changed),
        ("bent-apv", mode('H', &with(&header, json!({"apv": base64url_encode([0; 32])})))),
        ("bent-crit", mode('H', &with(&header, json!({"crit": ["x"]})))),
        ("bent-zip", mode('H', &with(&header, json!({"zip": "DEF"})))),
        ("bent-alg", mode('H', &with(&header, json!({"alg": "ECDH-1PU+A256KW"})))),
        ("bent-from-another", mode('C', &with(&full, json!({"from": world().prior})))),
        ("bent-from-nobody", mode('C', &with(&full, json!({"from": null})))),
        ("bent-to-another", mode('C', &with(&full, json!({"to": [world().prior]})))),
        ("bent-expired", mode('A', &with(&full, json!({"expires_time": NOW})))),
        ("bent-signed-to-nobody", mode('S', &with(&full, json!({"to": null})))),
        ("bent-from-prior", mode('C', &with(&full, json!({"from_prior": "e30.e30.AA"})))),
        ("bent-anoncrypt-in-anoncrypt", [b"A".as_slice(), &anonymous].concat()),
        ("bent-anoncrypt-in-authcrypt", [b"C".as_slice(), &anonymous].concat()),
        ("bent-four-layers", four),
        ("bent-plaintext", bytes(&full)),
    ]
}

pub(super) fn signed() -> Vec<(&'static str, Vec<u8>)> {
    let (world, people, entropy) = (world(), KnownPeople::new(), SeededEntropy::new(4));
    let packer = Packer { custody: &world.ring, resolver: &people, entropy: &entropy };
    let full = full_message();
    let message =
        |from: &Did| Message::from_value(with(&full, json!({"from": from}))).expect("a good message");
    let header = sealing::sign_header();
    let mut changed = packer.sign(&message(&world.alice)).expect("alice signs");
    let at = changed.len() / 3;
    changed[at] ^= 1;
    let kid = format!("{}#key-1", world.alice);
    vec![
        ("valid-general", packer.sign(&message(&world.alice)).expect("alice signs")),
        ("valid-es256", packer.sign(&message(&world.city)).expect("the city signs")),
        ("valid-flattened", sealing::sign(&bytes(&full))),
        ("valid-payload", mode('P', &full)),
        ("valid-header", mode('H', &header)),
        ("valid-jws-in-plaintext", bytes(&full)),
        ("bent-changed", changed),
        ("bent-crit", mode('H', &with(&header, json!({"crit": ["b64"], "b64": false})))),
        ("bent-none", mode('H', &with(&header, json!({"alg": "none"})))),
        ("bent-agreement-key", mode('H', &with(&header, json!({"kid": kid})))),
        ("bent-from-another", mode('P', &with(&full, json!({"from": world.bob_short})))),
        ("bent-signed-twice", [b"P".as_slice(), &sealing::sign(&bytes(&full))].concat()),
    ]
}

pub(super) fn links() -> Vec<(&'static str, Vec<u8>)> {
    let invitation = json!({
        "id": "i-1", "type": "https://didcomm.org/out-of-band/2.0/invitation", "from": world().alice,
        "expires_time": NOW + 60, "body": {"goal_code": "issue", "goal": "Karte", "accept": ["didcomm/v2"]},
        "attachments": [{"id": "r", "media_type": "application/json", "data": {"json": {"x": [1]}}}],
    });
    let least = with(&invitation, json!({"body": {}, "attachments": null, "expires_time": null}));
    let encoded = base64url_encode(bytes(&invitation));
    let text = |text: String| text.into_bytes();
    vec![
        ("valid-link", text(format!("https://city.example/i?x=1&_oob={encoded}&y#frag"))),
        (
            "valid-padded",
            text(
                format!("didcomm://?_oob={encoded}%3D%3D")
                    .replace("%3D%3D", &"%3D".repeat((4 - encoded.len() % 4) % 4)),
            ),
        ),
        ("valid-json", mode('J', &invitation)),
        ("valid-json-least", mode('J', &least)),
        ("bent-short", b"https://city.example/i?_oobid=abc%20d".to_vec()),
        ("bent-two", text(format!("https://city.example/i?_oob={encoded}&_oob={encoded}"))),
        ("bent-none", b"https://city.example/i#_oob=e30".to_vec()),
        ("bent-signed", mode('J', &json!({"payload": "e30", "signatures": []}))),
        ("bent-type", mode('J', &with(&invitation, json!({"type": BASIC})))),
        ("bent-no-from", mode('J', &with(&invitation, json!({"from": null})))),
        ("bent-goal-code", mode('J', &with(&invitation, json!({"body": {"goal_code": "x".repeat(129)}})))),
    ]
}

fn full_message() -> Value {
    json!({
        "id": "m-1", "typ": "application/didcomm-plain+json", "type": BASIC,
        "from": world().alice, "to": [world().bob_short], "thid": "t-1", "pthid": "p-1",
        "created_time": NOW - 10, "expires_time": NOW + 1000, "body": {"content": "hallo", "n": [1, -2, true, null]},
        "please_ack": [""], "ack": ["m-0"], "return_route": "thread", "return_route_thread": "t-1", "lang": "de",
    })
}
