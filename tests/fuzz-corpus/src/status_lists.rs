//! The target `status_list`: signed status lists, and the packed and compressed lists in them.

use einmal_credentials::status_list::{
    MAX_LIST_BYTES, STATUS_LIST_TYP, Status, StatusCache, StatusError, StatusList, StatusSource, verify_token,
};
use einmal_keys::base64url_encode;
use serde_json::{Value, json};

use crate::{
    NOW,
    keys::world,
    sd_jwts::{OneIssuer, issuer_kid, sign},
};

/// Address of every list in the corpus.
pub(crate) const URI: &str = "https://city.example/status/1";

/// Longest list that is compressed again, in bytes: a decompression bomb would take seconds.
const MAX_RECOMPRESSED: usize = 64 * 1024;

/// Reads a status list.
///
/// The first byte is the mode. `L`: the second is the bits per entry as a digit, the rest the list. `Z`: the same, but
/// compressed. `J`: the rest is the payload of a token and is signed first. `H`: the rest is its header. Otherwise all
/// bytes are the token.
pub fn status_list(bytes: &[u8]) -> bool {
    match bytes {
        [b'L', bits, list @ ..] => {
            StatusList::from_bytes(bits.wrapping_sub(b'0'), list.to_vec()).is_ok_and(|list| check_list(&list))
        }
        [b'Z', bits, list @ ..] => StatusList::decode(bits.wrapping_sub(b'0'), &base64url_encode(list))
            .is_ok_and(|list| check_list(&list)),
        [b'J', payload @ ..] => {
            let Ok(payload) = serde_json::from_slice(payload) else { return false };
            check_token(&sign(&header(), &payload, &issuer_kid()))
        }
        [b'H', header @ ..] => {
            let Ok(header) = serde_json::from_slice(header) else { return false };
            check_token(&sign(&header, &payload(), &issuer_kid()))
        }
        _ => std::str::from_utf8(bytes).is_ok_and(check_token),
    }
}

/// The header of a valid token.
pub(crate) fn header() -> Value {
    json!({"alg": "EdDSA", "typ": STATUS_LIST_TYP, "kid": format!("{}#key-2", world().alice)})
}

/// The payload of a valid token: entries 1 and 3 of sixteen are revoked.
pub(crate) fn payload() -> Value {
    let list = StatusList::from_bytes(1, vec![0b1010, 0]).and_then(|list| list.encode());
    json!({
        "iss": world().alice.as_str(), "sub": URI, "iat": NOW - 10, "exp": NOW + 1000, "ttl": 300,
        "status_list": {"bits": 1, "lst": list.expect("a small list")},
    })
}

fn check_token(text: &str) -> bool {
    let issuer = world().alice.as_str();
    let Ok(verified) = verify_token(text, URI, issuer, NOW, &OneIssuer) else { return false };
    assert_eq!((verified.uri(), verified.issuer()), (URI, issuer));
    assert!(verified.issued_at() <= NOW + 60);
    assert!(verified.expires_at().is_none_or(|end| NOW < end.saturating_add(60)));
    let elsewhere = verify_token(text, "https://city.example/status/2", issuer, NOW, &OneIssuer);
    assert_eq!(elsewhere.unwrap_err(), StatusError::WrongSubject);
    check_list(verified.list());
    let (list, usable) = (verified.list().clone(), verified.expires_at().is_none_or(|end| NOW < end));
    let ttl = verified.ttl().unwrap_or(1);
    let mut cache = StatusCache::new(0);
    cache.insert(verified, NOW);
    let answer = cache.at(NOW).status(URI, 0, issuer);
    if usable && ttl > 0 {
        assert_eq!(answer, list.get(0));
    } else {
        assert!(matches!(answer, Err(StatusError::NotFetched { .. })), "what has run out is not used");
    }
    assert!(cache.at(NOW).status(URI, 0, "did:example:other").is_err());
    true
}

fn check_list(list: &StatusList) -> bool {
    assert!(list.as_bytes().len() <= MAX_LIST_BYTES);
    let len = list.len() as u64;
    assert_eq!(len, list.as_bytes().len() as u64 * 8 / u64::from(list.bits()));
    for index in [len, len + 1, u64::MAX] {
        assert_eq!(list.get(index), Err(StatusError::IndexOutOfRange { index }));
    }
    if list.as_bytes().len() > MAX_RECOMPRESSED {
        return true;
    }
    let lst = list.encode().expect("memory does not fail");
    assert_eq!(StatusList::decode(list.bits(), &lst).as_ref(), Ok(list));
    let mut rebuilt = StatusList::new(list.bits(), list.len()).expect("the same size");
    for index in 0..len.min(4096) {
        let status = list.get(index).expect("within the list");
        assert_eq!(Status::from_value(status.value()), status);
        rebuilt.set(index, status).expect("it fits");
        assert_eq!(rebuilt.get(index), Ok(status));
    }
    assert!(len > 4096 || rebuilt == *list, "the entries are all of the list");
    true
}
