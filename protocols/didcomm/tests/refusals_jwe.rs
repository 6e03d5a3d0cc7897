//! What can be wrong with one encrypted layer, and the exact refusal for each.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking too")]

mod common;
mod forge;

use common::{AGREEMENT_KINDS, Stage, X, agreement, authentication, did, malformed, message, not_allowed};
use einmal_didcomm::{
    EnvelopeError, MessageError, OpenError, Opened,
    limits::{MAX_ENVELOPE_BYTES, MAX_RECIPIENTS},
};
use einmal_keys::{KeyKind, base64url_decode, base64url_encode};
use forge::{Forge, TagInKdf};
use serde_json::{Value, json};

impl Stage {
    fn open(&self, forge: &Forge) -> Opened {
        self.world.open_json(&forge.seal(), &self.bob).unwrap()
    }

    fn refusal(&self, forge: &Forge) -> OpenError {
        self.world.refusal(&forge.seal(), &self.bob)
    }

    fn text_refused(&self, text: &str, error: EnvelopeError) {
        let refusal = self.world.open(text.as_bytes(), &self.bob).unwrap_err();
        assert_eq!(refusal, OpenError::Envelope(error));
    }
}

/// Shows that the refusals below do not have some other reason.
#[test]
fn what_the_forger_makes_properly_opens() {
    let stage = Stage::new();
    for kind in AGREEMENT_KINDS {
        let key = agreement(kind);
        let forged = Forge::authcrypt(stage.plaintext(), &stage.alice, &key, &stage.bob, &[&key]);
        assert_eq!(stage.open(&forged).sender(), Some(&stage.alice.did), "{kind:?}");
        for enc in ["A256CBC-HS512", "A256GCM", "XC20P"] {
            let forged = Forge::anoncrypt(stage.plaintext(), &stage.bob, &[&key]).with("enc", json!(enc));
            assert_eq!(stage.open(&forged).sender(), None, "{kind:?} {enc}");
        }
    }
}

#[test]
fn compact_serialization_is_refused() {
    let stage = Stage::new();
    let jwe = stage.anoncrypt().seal();
    let part = |value: &Value| value.as_str().unwrap().to_owned();
    let parts = [
        part(&jwe["protected"]),
        part(&jwe["recipients"][0]["encrypted_key"]),
        part(&jwe["iv"]),
        part(&jwe["ciphertext"]),
        part(&jwe["tag"]),
    ];
    stage.text_refused(&parts.join("."), EnvelopeError::Unrecognised);
    stage.text_refused(&json!(parts.join(".")).to_string(), EnvelopeError::Unrecognised);
}

#[test]
fn flattened_serialization_is_refused() {
    let stage = Stage::new();
    let mut jwe = stage.anoncrypt().seal();
    let recipient = jwe["recipients"][0].clone();
    jwe["header"] = recipient["header"].clone();
    stage.refused(&jwe, not_allowed("header"));
    jwe["header"] = Value::Null;
    jwe["encrypted_key"] = recipient["encrypted_key"].clone();
    stage.refused(&jwe, not_allowed("encrypted_key"));
    jwe.as_object_mut().unwrap().remove("recipients");
    jwe["header"] = recipient["header"].clone();
    stage.refused(&jwe, malformed("the general JWE JSON serialization"));
}

#[test]
fn compression_and_critical_extensions_are_refused() {
    let stage = Stage::new();
    for (member, value) in [("zip", json!("DEF")), ("crit", json!(["exp"])), ("b64", json!(false))] {
        stage.refused(&stage.anoncrypt().with(member, value.clone()).seal(), not_allowed(member));
        stage.refused(&stage.authcrypt().with(member, value).seal(), not_allowed(member));
    }
}

#[test]
fn members_that_dodge_the_protected_header_are_refused() {
    let stage = Stage::new();
    for (member, value) in [("unprotected", json!({"typ": "x"})), ("aad", json!("AAAA"))] {
        let mut jwe = stage.anoncrypt().seal();
        jwe[member] = value;
        stage.refused(&jwe, not_allowed(member));
    }
}

#[test]
fn unknown_content_encryption_and_unknown_algorithm_are_refused() {
    let stage = Stage::new();
    for enc in ["A128CBC-HS256", "A192GCM", "A256CBC", "a256gcm", ""] {
        stage.refused(&stage.anoncrypt().with("enc", json!(enc)).seal(), EnvelopeError::Algorithm);
    }
    for alg in ["dir", "ECDH-ES", "ECDH-ES+A128KW", "ECDH-1PU", "RSA-OAEP", "none", "A256KW"] {
        stage.refused(&stage.anoncrypt().with("alg", json!(alg)).seal(), EnvelopeError::Algorithm);
    }
}

#[test]
fn authcrypt_with_gcm_or_xc20p_is_refused_though_it_would_decrypt() {
    let stage = Stage::new();
    for enc in ["A256GCM", "XC20P"] {
        stage.refused(&stage.authcrypt().with("enc", json!(enc)).seal(), EnvelopeError::Algorithm);
    }
}

#[test]
fn apu_that_names_another_key_than_skid_is_refused() {
    let stage = Stage::new();
    let other = stage.alice.kid("agree-p-256");
    let bent = stage.authcrypt().with("apu", json!(base64url_encode(other)));
    stage.refused(&bent.seal(), EnvelopeError::Apu);
    stage.refused(&stage.authcrypt().with("apu", Value::Null).seal(), EnvelopeError::Apu);
    stage.refused(&stage.authcrypt().with("apu", json!("")).seal(), EnvelopeError::Apu);
    stage.refused(&stage.authcrypt().with("apu", json!("!")).seal(), EnvelopeError::Apu);
    let padded = format!("{}=", base64url_encode(stage.alice.kid(X)));
    stage.refused(&stage.authcrypt().with("apu", json!(padded)).seal(), EnvelopeError::Apu);
}

#[test]
fn sender_is_taken_from_apu_where_skid_is_missing() {
    let stage = Stage::new();
    let opened = stage.open(&stage.authcrypt().with("skid", Value::Null));
    assert_eq!(opened.sender(), Some(&stage.alice.did));
}

#[test]
fn skid_that_names_no_key_is_refused() {
    let stage = Stage::new();
    for skid in [stage.alice.did.as_str(), "alice", "#agree-x25519"] {
        let forged = stage.authcrypt().with("skid", json!(skid)).with("apu", json!(base64url_encode(skid)));
        stage.refused(&forged.seal(), malformed("skid"));
    }
}

#[test]
fn anoncrypt_with_a_sender_key_id_is_refused() {
    let stage = Stage::new();
    let forged = stage.anoncrypt().with("skid", json!(stage.alice.kid(X)));
    stage.refused(&forged.seal(), not_allowed("skid"));
}

#[test]
fn wrong_or_missing_apv_is_refused_though_it_would_decrypt() {
    let stage = Stage::new();
    let kid = stage.bob.kid(X);
    for forged in [stage.authcrypt(), stage.anoncrypt()] {
        let forged = forged.with("apv", json!(base64url_encode(&kid)));
        stage.refused(&forged.seal(), EnvelopeError::Apv);
        let forged = forged.with("apv", json!(base64url_encode([0u8; 32])));
        stage.refused(&forged.seal(), EnvelopeError::Apv);
        stage.refused(&forged.with("apv", Value::Null).seal(), EnvelopeError::Apv);
    }
}

#[test]
fn apv_does_not_depend_on_the_order_of_recipients() {
    let stage = Stage::new();
    let keys = ["agree-x25519", "second"];
    let mut forge = Forge::anoncrypt(stage.plaintext(), &stage.bob, &[X]);
    for order in [[0, 1], [1, 0]] {
        let kids = order.map(|index: usize| stage.bob.kid(keys[index]));
        forge = forge.naming(&[&kids[0], &kids[1]]);
        assert_eq!(stage.open(&forge).recipient(), Some(&stage.bob.did));
    }
}

#[test]
fn recipient_key_ids_of_two_dids_are_refused() {
    let stage = Stage::new();
    let forged = stage.anoncrypt().naming(&[&stage.bob.kid(X), &stage.alice.kid(X)]);
    stage.refused(&forged.seal(), EnvelopeError::RecipientKids);
}

#[test]
fn recipient_key_id_that_is_not_a_did_and_a_fragment_is_refused() {
    let stage = Stage::new();
    let bob = stage.bob.did.as_str();
    let (query, path) = (format!("{bob}?a=b#{X}"), format!("{bob}/a#{X}"));
    for kid in [bob, X, "#agree-x25519", &query, &path] {
        stage.refused(&stage.anoncrypt().naming(&[kid]).seal(), EnvelopeError::RecipientKids);
    }
}

#[test]
fn recipient_key_id_that_stands_twice_is_refused() {
    let stage = Stage::new();
    let kid = stage.bob.kid(X);
    stage.refused(&stage.anoncrypt().naming(&[&kid, &kid]).seal(), EnvelopeError::RecipientKids);
}

#[test]
fn no_recipients_and_too_many_are_refused() {
    let stage = Stage::new();
    let mut jwe = stage.anoncrypt().seal();
    jwe["recipients"] = json!([]);
    stage.refused(&jwe, malformed("recipients"));
    let kids: Vec<String> = (0..=MAX_RECIPIENTS).map(|n| stage.bob.kid(&format!("k{n}"))).collect();
    let kids: Vec<&str> = kids.iter().map(String::as_str).collect();
    let many = stage.anoncrypt().naming(&kids).seal();
    stage.refused(&many, EnvelopeError::TooMany { member: "recipients", most: MAX_RECIPIENTS });
}

#[test]
fn envelope_for_others_is_not_for_us() {
    let stage = Stage::new();
    let forged = Forge::anoncrypt(stage.plaintext(), &stage.alice, &[X]);
    assert_eq!(stage.refusal(&forged), OpenError::NotForUs);
    let forged = stage.anoncrypt().naming(&[&stage.bob.kid("unknown")]);
    assert_eq!(stage.refusal(&forged), OpenError::NotForUs);
}

#[test]
fn ephemeral_key_off_its_curve_is_refused() {
    let stage = Stage::new();
    for kind in [KeyKind::P256, KeyKind::P384, KeyKind::P521] {
        let key = agreement(kind);
        for mut forged in [
            Forge::anoncrypt(stage.plaintext(), &stage.bob, &[&key]),
            Forge::authcrypt(stage.plaintext(), &stage.alice, &key, &stage.bob, &[&key]),
        ] {
            forged.header["epk"]["y"] = forged.header["epk"]["x"].clone();
            stage.refused(&forged.seal(), EnvelopeError::Epk);
            // The identity has no affine coordinates; encoders write it as zeros.
            let zeros = base64url_encode(vec![0; kind.field_len()]);
            forged.header["epk"]["x"] = json!(zeros);
            forged.header["epk"]["y"] = json!(zeros);
            stage.refused(&forged.seal(), EnvelopeError::Epk);
        }
    }
}

#[test]
fn x25519_ephemeral_key_that_agrees_on_zeros_is_refused() {
    let stage = Stage::new();
    let mut one = [0u8; 32];
    one[0] = 1;
    for point in [[0u8; 32], one] {
        let mut forged = stage.anoncrypt();
        forged.header["epk"]["x"] = json!(base64url_encode(point));
        // The shared secret that this key gives: anybody could have encrypted to anybody.
        forged.ephemeral_secret = Some(vec![0; 32]);
        stage.refused(&forged.seal(), EnvelopeError::Epk);
    }
}

#[test]
fn ephemeral_key_on_another_curve_than_the_recipient_key_is_refused() {
    let stage = Stage::new();
    for kind in AGREEMENT_KINDS {
        let other = if kind == KeyKind::P256 { KeyKind::X25519 } else { KeyKind::P256 };
        let key = agreement(kind);
        let forged = Forge::anoncrypt(stage.plaintext(), &stage.bob, &[&key]).with_epk(other);
        assert_eq!(stage.refusal(&forged), OpenError::Envelope(EnvelopeError::Epk), "{kind:?}");
        let forged =
            Forge::authcrypt(stage.plaintext(), &stage.alice, &key, &stage.bob, &[&key]).with_epk(other);
        assert_eq!(stage.refusal(&forged), OpenError::SenderKey, "{kind:?}");
    }
}

#[test]
fn ephemeral_key_of_a_signature_curve_is_refused() {
    let stage = Stage::new();
    for kind in [KeyKind::Ed25519, KeyKind::Secp256k1] {
        stage.refused(&stage.anoncrypt().with_epk(kind).seal(), EnvelopeError::Epk);
    }
}

#[test]
fn missing_doubled_or_private_ephemeral_key_is_refused() {
    let stage = Stage::new();
    stage.refused(&stage.anoncrypt().with("epk", Value::Null).seal(), malformed("epk"));
    let forged = stage.anoncrypt();
    let mut jwe = forged.seal();
    jwe["recipients"][0]["header"]["epk"] = forged.header["epk"].clone();
    stage.refused(&jwe, not_allowed("epk"));
    let private = serde_json::to_value(forged.epk.to_jwk()).unwrap();
    stage.refused(&stage.anoncrypt().with("epk", private).seal(), EnvelopeError::Epk);
}

#[test]
fn ephemeral_key_outside_the_protected_header_is_refused_for_several_recipients() {
    let stage = Stage::new();
    let forged = stage.anoncrypt().naming(&[&stage.bob.kid(X), &stage.bob.kid("b")]);
    let epk = forged.header["epk"].clone();
    let mut jwe = forged.with("epk", Value::Null).seal();
    jwe["recipients"][0]["header"]["epk"] = epk;
    stage.refused(&jwe, malformed("epk"));
}

/// A reader of structures would take an array of their members for them.
#[test]
fn arrays_in_the_place_of_objects_are_refused() {
    let stage = Stage::new();
    let good = stage.authcrypt().seal();
    let in_order = json!([
        good["protected"],
        good["recipients"],
        good["iv"],
        good["ciphertext"],
        good["tag"],
        null,
        null,
        null,
        null
    ]);
    stage.text_refused(&in_order.to_string(), EnvelopeError::Unrecognised);
    let header = base64url_decode(good["protected"].as_str().unwrap()).unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    let names = ["typ", "alg", "enc", "epk", "skid", "apu", "apv", "zip", "crit", "b64"];
    let listed: Vec<Value> = names.iter().map(|name| header[name].clone()).collect();
    let mut other = good.clone();
    other["protected"] = json!(base64url_encode(json!(listed).to_string()));
    stage.world.open_json(&good, &stage.bob).unwrap();
    assert_eq!(stage.world.refusal(&other, &stage.bob), OpenError::Envelope(malformed("protected")));
}

#[test]
fn sender_key_listed_under_authentication_only_is_refused() {
    let stage = Stage::new();
    let (signing, own) = (authentication(KeyKind::P256), agreement(KeyKind::P256));
    let forged = Forge::authcrypt(stage.plaintext(), &stage.alice, &signing, &stage.bob, &[&own]);
    assert_eq!(stage.refusal(&forged), OpenError::SenderKey);
}

#[test]
fn sender_key_its_document_does_not_list_is_refused() {
    let stage = Stage::new();
    let skid = stage.alice.kid("agree-unknown");
    let forged = stage.authcrypt().with("skid", json!(skid)).with("apu", json!(base64url_encode(&skid)));
    assert_eq!(stage.refusal(&forged), OpenError::SenderKey);
}

#[test]
fn envelope_by_another_key_than_the_sender_named_does_not_decrypt() {
    let stage = Stage::new();
    let mallory = stage.world.party("mallory", 3);
    let mut forged = stage.authcrypt();
    forged.sender = Some(mallory.secret(X));
    assert_eq!(stage.refusal(&forged), OpenError::Decrypt);
}

#[test]
fn sender_whose_document_is_not_at_hand_must_be_fetched() {
    let stage = Stage::new();
    let mut web = stage.world.party("web", 5);
    web.did = did("did:web:stranger.example");
    let forged = Forge::authcrypt(message(&web.did, &stage.bob.did).to_value(), &web, X, &stage.bob, &[X]);
    let expected = OpenError::Resolve {
        did: web.did.clone(),
        source: einmal_did::ResolveError::NotFetched { did: web.did },
    };
    assert_eq!(stage.refusal(&forged), expected);
}

#[test]
fn a_key_of_ours_that_is_for_signing_opens_nothing() {
    let stage = Stage::new();
    for forged in [
        Forge::authcrypt(stage.plaintext(), &stage.alice, X, &stage.bob, &["auth-p-256"]),
        Forge::anoncrypt(stage.plaintext(), &stage.bob, &["auth-p-256"]),
    ] {
        assert_eq!(stage.refusal(&forged), OpenError::NotForUs);
    }
}

#[test]
fn nobody_is_resolved_for_an_envelope_that_is_not_for_us() {
    let stage = Stage::new();
    let mut web = stage.world.party("web", 5);
    web.did = did("did:web:stranger.example");
    let forged = Forge::authcrypt(stage.plaintext(), &web, X, &stage.alice, &[X]);
    assert_eq!(stage.refusal(&forged), OpenError::NotForUs);
}

#[test]
fn authcrypt_without_the_length_of_the_tag_in_its_derivation_does_not_decrypt() {
    let stage = Stage::new();
    for tag_in_kdf in [TagInKdf::Bare, TagInKdf::Absent] {
        let forged = Forge { tag_in_kdf, ..stage.authcrypt() };
        assert_eq!(stage.refusal(&forged), OpenError::Decrypt);
    }
}

#[test]
fn anoncrypt_with_the_tag_in_its_derivation_does_not_decrypt() {
    let stage = Stage::new();
    for tag_in_kdf in [TagInKdf::Bare, TagInKdf::Prefixed] {
        let forged = Forge { tag_in_kdf, ..stage.anoncrypt() };
        assert_eq!(stage.refusal(&forged), OpenError::Decrypt);
    }
}

#[test]
fn changed_cryptographic_members_do_not_decrypt() {
    let stage = Stage::new();
    for forged in [stage.authcrypt(), stage.anoncrypt().with("enc", json!("XC20P"))] {
        for path in ["/iv", "/ciphertext", "/tag", "/recipients/0/encrypted_key"] {
            for cut in [false, true] {
                let mut jwe = forged.seal();
                let member = jwe.pointer_mut(path).unwrap();
                let mut bytes = base64url_decode(member.as_str().unwrap()).unwrap();
                if cut {
                    bytes.truncate(bytes.len() / 2)
                } else {
                    bytes[0] ^= 1
                }
                *member = json!(base64url_encode(bytes));
                assert_eq!(stage.world.refusal(&jwe, &stage.bob), OpenError::Decrypt, "{path}");
            }
        }
    }
}

#[test]
fn protected_header_written_differently_does_not_decrypt() {
    let stage = Stage::new();
    let forged = stage.authcrypt();
    let mut jwe = forged.seal();
    let spaced = forged.header.to_string().replacen('{', "{ ", 1);
    jwe["protected"] = json!(base64url_encode(spaced));
    assert_eq!(stage.world.refusal(&jwe, &stage.bob), OpenError::Decrypt);
}

#[test]
fn members_that_are_no_unpadded_base64url_are_named() {
    let stage = Stage::new();
    for (path, member) in [
        ("/iv", "iv"),
        ("/ciphertext", "ciphertext"),
        ("/tag", "tag"),
        ("/protected", "protected"),
        ("/recipients/0/encrypted_key", "encrypted_key"),
    ] {
        for bad in ["A", "AA==", "+/+/", "\u{e4}"] {
            let mut jwe = stage.anoncrypt().seal();
            *jwe.pointer_mut(path).unwrap() = json!(bad);
            stage.refused(&jwe, malformed(member));
        }
    }
}

#[test]
fn member_names_that_stand_twice_are_refused() {
    let stage = Stage::new();
    let forged = stage.authcrypt();
    let text = forged.seal().to_string();
    let doubled = |member: &str| text.replacen('{', &format!(r#"{{"{member}":"AA","#), 1);
    stage.text_refused(&doubled("tag"), malformed("the general JWE JSON serialization"));
    stage.text_refused(&doubled("protected"), malformed("the general JWE JSON serialization"));
    stage.text_refused(&doubled("ciphertext"), EnvelopeError::Unrecognised);
    let header = forged.header.to_string();
    for member in [r#""alg":"ECDH-ES+A256KW""#, r#""skid":"did:example:mallory#a""#, r#""apv":"AA""#] {
        let twice = header.replacen('{', &format!("{{{member},"), 1);
        stage.refused(&forged.seal_under(&twice), malformed("protected"));
    }
    let escaped = header.replacen('{', r#"{"\u0061lg":"ECDH-ES+A256KW","#, 1);
    stage.refused(&forged.seal_under(&escaped), malformed("protected"));
    let in_key = header.replacen(r#""crv":"#, r#""crv":"P-256","crv":"#, 1);
    stage.refused(&forged.seal_under(&in_key), malformed("protected"));
}

#[test]
fn plaintext_whose_member_names_stand_twice_is_refused() {
    let stage = Stage::new();
    let text = stage.plaintext().to_string();
    let twice = text.replacen('{', r#"{"from":"did:example:bob","#, 1);
    let forged = Forge { plaintext: twice.into_bytes(), ..stage.authcrypt() };
    assert_eq!(stage.refusal(&forged), OpenError::Message(MessageError::NotJson));
}

#[test]
fn deeply_nested_plaintext_is_refused() {
    let stage = Stage::new();
    let mut plaintext = stage.plaintext();
    plaintext["body"]["deep"] = (0..40).fold(json!(1), |inner, _| json!([inner]));
    let forged = Forge { plaintext: plaintext.to_string().into_bytes(), ..stage.authcrypt() };
    assert_eq!(stage.refusal(&forged), OpenError::Message(MessageError::NotJson));
}

#[test]
fn body_of_65_megabytes_is_refused_before_it_is_parsed() {
    let stage = Stage::new();
    // Not JSON: parsing it would give a different error.
    let text = "[".repeat(65 * 1024 * 1024);
    stage.text_refused(&text, EnvelopeError::TooLarge);
    stage.text_refused(&" ".repeat(MAX_ENVELOPE_BYTES + 1), EnvelopeError::TooLarge);
    stage.text_refused(&" ".repeat(MAX_ENVELOPE_BYTES), EnvelopeError::Unrecognised);
}

#[test]
fn properly_encrypted_envelope_above_the_limit_is_refused() {
    let stage = Stage::new();
    let mut plaintext = stage.plaintext();
    plaintext["body"]["content"] = json!("x".repeat(MAX_ENVELOPE_BYTES * 3 / 4));
    let forged = Forge { plaintext: plaintext.to_string().into_bytes(), ..stage.authcrypt() };
    assert_eq!(stage.refusal(&forged), EnvelopeError::TooLarge.into());
}

#[test]
fn media_type_of_something_else_is_refused() {
    let stage = Stage::new();
    for typ in ["application/didcomm-signed+json", "application/didcomm-plain+json", "JWT", "jose+json", ""] {
        stage.refused(&stage.authcrypt().with("typ", json!(typ)).seal(), EnvelopeError::WrongType);
    }
}

#[test]
fn bytes_that_are_no_envelope_are_refused() {
    let stage = Stage::new();
    for text in
        ["", "null", "[]", "{}", "7", "\"a\"", "{\"id\":\"1\"}", "\u{0}", "{\"ciphertext\":1,\"payload\":1}"]
    {
        stage.text_refused(text, EnvelopeError::Unrecognised);
    }
}
