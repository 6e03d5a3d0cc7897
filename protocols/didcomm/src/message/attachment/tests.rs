//! Attachments that are what they claim to be, and near-identical ones that are not.

use einmal_did::LocalResolver;
use einmal_keys::{KeyKind, Keyring, SecretKey, SeededEntropy};
use serde_json::json;

use super::*;

fn signer() -> (Keyring, KeyId) {
    let key = SecretKey::generate(KeyKind::Ed25519, &SeededEntropy::new(11)).unwrap();
    let did = einmal_did::did_key(&key.public_key());
    let kid = KeyId::new(format!("{did}#{}", key.public_key().to_multikey()));
    let ring = Keyring::new();
    ring.insert(kid.clone(), key);
    (ring, kid)
}

fn signed() -> Attachment {
    let (ring, kid) = signer();
    let mut attachment = Attachment::base64("a", b"content");
    attachment.sign(&ring, &kid).unwrap();
    attachment
}

#[test]
fn detached_signature_names_its_key() {
    let (_, kid) = signer();
    let signer = signed().verify_signature(&LocalResolver::default()).unwrap();
    assert_eq!(signer.0.as_str(), kid.as_str());
}

#[test]
fn changed_content_breaks_the_detached_signature() {
    let mut attachment = signed();
    attachment.data.base64 = Some(base64url_encode(b"Content"));
    assert_eq!(attachment.verify_signature(&LocalResolver::default()), Err(AttachmentError::BadSignature));
}

#[test]
fn signature_by_a_key_that_is_not_for_authentication_is_refused() {
    let mut attachment = signed();
    let foreign = json!({"alg": "EdDSA", "kid": "did:example:nobody#key-1"}).to_string();
    attachment.data.jws.as_mut().unwrap()["protected"] = base64url_encode(foreign).into();
    assert_eq!(attachment.verify_signature(&LocalResolver::default()), Err(AttachmentError::UnknownSigner));
}

#[test]
fn critical_extensions_in_a_detached_signature_are_refused() {
    let (_, kid) = signer();
    let mut attachment = signed();
    let header = json!({"alg": "EdDSA", "kid": kid.as_str(), "b64": false, "crit": ["b64"]}).to_string();
    attachment.data.jws.as_mut().unwrap()["protected"] = base64url_encode(header).into();
    assert_eq!(
        attachment.verify_signature(&LocalResolver::default()),
        Err(AttachmentError::UnusableSignature)
    );
}

#[test]
fn links_without_hash_are_refused() {
    let link = json!({"data": {"links": ["https://example.org/x"]}});
    assert!(Attachment::from_value(link).is_err());
    let pinned = json!({"data": {"links": ["https://example.org/x"], "hash": "z1"}});
    assert!(Attachment::from_value(pinned).is_ok());
}

#[test]
fn an_id_that_is_too_long_is_left_out() {
    let id = |len: usize| {
        let value = json!({"id": "x".repeat(len), "data": {"json": {}}});
        Attachment::from_value(value).unwrap().id.map(|id| id.len())
    };
    assert_eq!(id(MAX_ATTACHMENT_ID_LEN), Some(MAX_ATTACHMENT_ID_LEN));
    assert_eq!(id(MAX_ATTACHMENT_ID_LEN + 1), None);
}

#[test]
fn attachment_without_content_is_refused() {
    for bad in [json!({"data": {}}), json!({}), json!({"data": {"base64": 7}}), json!([])] {
        assert!(Attachment::from_value(bad).is_err());
    }
}

#[test]
fn linked_content_is_checked_against_its_hash_in_every_spelling() {
    let digest = Sha256::digest(b"content");
    let multihash = [&[0x12, 0x20][..], digest.as_slice()].concat();
    let hex: String = multihash.iter().map(|b| format!("{b:02x}")).collect();
    let base58 = bs58::encode(&multihash).into_string();
    let spellings = [
        format!("z{base58}"),
        base58,
        format!("u{}", base64url_encode(&multihash)),
        hex.clone(),
        format!("f{hex}"),
    ];
    for hash in spellings {
        let data = AttachmentData { hash: Some(hash.clone()), ..AttachmentData::default() };
        let attachment = Attachment { data, ..Attachment::default() };
        assert_eq!(attachment.verify_hash(b"content"), Ok(()), "{hash}");
        assert_eq!(attachment.verify_hash(b"Content"), Err(AttachmentError::HashMismatch));
    }
}

#[test]
fn unknown_hash_algorithm_is_refused() {
    let data = AttachmentData { hash: Some("1114aa".into()), ..AttachmentData::default() };
    let attachment = Attachment { data, ..Attachment::default() };
    assert_eq!(attachment.verify_hash(b""), Err(AttachmentError::UnusableHash));
}

#[test]
fn padded_and_standard_base64_is_read() {
    let attachment = Attachment::from_value(json!({"data": {"base64": "+/8="}})).unwrap();
    assert_eq!(attachment.bytes().unwrap(), [0xfb, 0xff]);
}

#[test]
fn members_nested_in_data_are_found() {
    let nested = json!({"data": {"id": "x", "format": "f", "json": {}}});
    let attachment = Attachment::from_value(nested).unwrap();
    assert_eq!((attachment.id.as_deref(), attachment.format.as_deref()), (Some("x"), Some("f")));
}

#[test]
fn carried_json_is_written_as_it_came_and_read_as_json() {
    let carried = CarriedJson::new(br#"{"b" : 1.50, "a":"\u0041"}"#).unwrap();
    let data = AttachmentData { carried: Some(carried), ..AttachmentData::default() };
    let attachment = Attachment { id: Some("x".into()), data, ..Attachment::default() };
    let text = serde_json::to_string(&attachment).unwrap();
    assert_eq!(text, r#"{"id":"x","data":{"json":{"b" : 1.50, "a":"\u0041"}}}"#);
    let value = serde_json::to_value(&attachment).unwrap();
    let read = Attachment::from_value(value).unwrap();
    assert_eq!(read.data.json, Some(json!({"a": "A", "b": 1.5})));
    for refused in ["[]", "1", "{", r#"{"a":1,"a":1}"#] {
        assert!(CarriedJson::new(refused.as_bytes()).is_none(), "{refused}");
    }
}

#[test]
fn json_that_was_read_goes_before_json_that_is_carried() {
    let carried = CarriedJson::new(b"{}");
    let data = AttachmentData { json: Some(json!(7)), carried, ..AttachmentData::default() };
    assert_eq!(serde_json::to_string(&data).unwrap(), r#"{"json":7}"#);
}

#[test]
fn members_that_are_null_count_as_absent() {
    let read = |data: Value| Attachment::from_value(json!({"id": "a", "data": data}));
    let hidden = read(json!({"json": null, "base64": "eyJhIjoxfQ", "jws": null})).unwrap();
    assert_eq!(hidden.to_json().unwrap(), json!({"a": 1}));
    assert!(hidden.data.jws.is_none());
    assert_eq!(read(json!({"json": null})).unwrap().to_json().unwrap(), json!(null), "nothing else is sent");
}
