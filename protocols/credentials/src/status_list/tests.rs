//! Tests of status lists: bits, tokens, cache, and index allocation.

use std::{collections::HashSet, fs, path::PathBuf};

use einmal_keys::{
    Custody, Jwk, KeyId, KeyKind, Keyring, PublicKey, SecretKey, SeededEntropy, base64url_encode,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    sd_jwt::IssueError,
    vc::{IssuerKeys, KeyLookupError},
};

const ISSUER: &str = "did:web:city.example";
const URI: &str = "https://city.example/status/1";
const NOW: u64 = 1_800_000_000;
const HOUR: u64 = 3600;

struct City {
    keys: Keyring,
    kid: KeyId,
}

impl IssuerKeys for City {
    fn issuer_key(&self, iss: &str, _kid: Option<&str>) -> Result<PublicKey, KeyLookupError> {
        if iss == ISSUER {
            Ok(self.keys.public_key(&self.kid).unwrap())
        } else {
            Err(KeyLookupError::NoMechanism)
        }
    }
}

impl City {
    fn new(kind: KeyKind) -> Self {
        let kid = KeyId::new("did:web:city.example#1");
        let keys = Keyring::new();
        keys.insert(kid.clone(), SecretKey::generate(kind, &SeededEntropy::new(1)).unwrap());
        Self { keys, kid }
    }

    fn token(&self, list: &StatusList, issued_at: u64) -> String {
        let request = StatusTokenRequest {
            uri: URI,
            issuer: ISSUER,
            list,
            issued_at,
            expires_at: issued_at + 24 * HOUR,
            ttl: HOUR,
        };
        issue_token(&self.keys, &self.kid, &request).unwrap()
    }

    fn sign(&self, header: &Value, payload: &Value) -> String {
        let signed =
            format!("{}.{}", base64url_encode(header.to_string()), base64url_encode(payload.to_string()));
        format!("{signed}.{}", base64url_encode(self.keys.sign(&self.kid, signed.as_bytes()).unwrap()))
    }

    fn refuse(&self, change: impl Fn(&mut Value, &mut Value)) -> StatusError {
        let mut header = json!({ "alg": "ES256", "typ": STATUS_LIST_TYP, "kid": self.kid.as_str() });
        let mut payload = json!({
            "sub": URI,
            "iat": NOW,
            "exp": NOW + HOUR,
            "ttl": 600,
            "status_list": { "bits": 1, "lst": "eNrbuRgAAhcBXQ" },
        });
        change(&mut header, &mut payload);
        verify_token(&self.sign(&header, &payload), URI, ISSUER, NOW, self).unwrap_err()
    }

    fn verified(&self, list: &StatusList, issued_at: u64) -> VerifiedStatusList {
        verify_token(&self.token(list, issued_at), URI, ISSUER, issued_at, self).unwrap()
    }
}

fn city() -> City {
    City::new(KeyKind::P256)
}

fn values(list: &StatusList, count: u64) -> Vec<u8> {
    (0..count).map(|index| list.get(index).unwrap().value()).collect()
}

// ---- the list ----

#[test]
fn bytes_fill_from_the_least_significant_bit() {
    let one = StatusList::from_bytes(1, vec![0xb9, 0xa3]).unwrap();
    assert_eq!(values(&one, 16), [1, 0, 0, 1, 1, 1, 0, 1, 1, 1, 0, 0, 0, 1, 0, 1]);
    let two = StatusList::from_bytes(2, vec![0xc9, 0x44, 0xf9]).unwrap();
    assert_eq!(values(&two, 12), [1, 2, 0, 3, 0, 1, 0, 1, 1, 2, 3, 3]);
    // The W3C list counts from the other end: there the same byte would mean entry 6.
    let mut list = StatusList::new(1, 8).unwrap();
    list.set(1, Status::Invalid).unwrap();
    assert_eq!(list.as_bytes(), [0x02]);
}

#[test]
fn entry_outside_the_list_is_refused() {
    for bits in [1, 2, 4, 8] {
        let mut list = StatusList::new(bits, 16).unwrap();
        assert_eq!(list.len(), 16);
        for index in [16, u64::MAX] {
            assert_eq!(list.get(index), Err(StatusError::IndexOutOfRange { index }));
            assert_eq!(list.set(index, Status::Valid), Err(RegisterError::IndexOutOfRange { index }));
        }
    }
}

#[test]
fn widths_that_do_not_exist_are_refused() {
    for bits in [0, 3, 5, 7, 9, 255] {
        assert_eq!(StatusList::new(bits, 8), Err(StatusError::InvalidBits));
        assert_eq!(StatusList::from_bytes(bits, vec![0]), Err(StatusError::InvalidBits));
        assert_eq!(StatusList::decode(bits, "eNrbuRgAAhcBXQ"), Err(StatusError::InvalidBits));
    }
    assert_eq!(StatusList::new(8, MAX_LIST_BYTES + 1), Err(StatusError::TooLarge));
}

#[test]
fn list_that_swells_beyond_the_limit_is_refused() {
    let fits = StatusList::new(8, MAX_LIST_BYTES).unwrap();
    assert_eq!(StatusList::decode(8, &fits.encode().unwrap()).unwrap(), fits);
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut encoder, &vec![0; 8 * MAX_LIST_BYTES]).unwrap();
    let bomb = base64url_encode(encoder.finish().unwrap());
    assert!(bomb.len() < 1_000_000);
    assert_eq!(StatusList::decode(8, &bomb), Err(StatusError::TooLarge));
    assert_eq!(StatusList::decode(8, &"A".repeat(MAX_LST_CHARS + 1)), Err(StatusError::TooLarge));
}

#[test]
fn text_that_is_no_zlib_stream_is_refused() {
    let gzip = "H4sIAAAAAAAAA3O5GAAAhcBXQAAAAA";
    let cut = "eNrbuRgAAhc";
    let trailing = {
        let mut bytes = einmal_keys::base64url_decode("eNrbuRgAAhcBXQ").unwrap();
        bytes.push(0);
        base64url_encode(bytes)
    };
    for lst in [gzip, cut, &trailing, "", "eNrbuRgAAhcBXQ==", "!"] {
        assert_eq!(StatusList::decode(1, lst), Err(StatusError::MalformedList), "{lst}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_list_survives_encoding(
        shift in 0u32..4,
        entries in prop::collection::vec(any::<u8>(), 1..300),
    ) {
        let bits = 1u8 << shift;
        let mask = u8::MAX >> (8 - bits);
        let mut list = StatusList::new(bits, entries.len()).unwrap();
        for (index, value) in entries.iter().enumerate() {
            list.set(index as u64, Status::from_value(value & mask)).unwrap();
        }
        let again = StatusList::decode(bits, &list.encode().unwrap()).unwrap();
        prop_assert_eq!(&again, &list);
        let expected: Vec<u8> = entries.iter().map(|value| value & mask).collect();
        prop_assert_eq!(values(&again, entries.len() as u64), expected);
    }

    #[test]
    fn decoding_never_panics(bits in any::<u8>(), lst in "[A-Za-z0-9_-]{0,80}") {
        let _ = StatusList::decode(bits, &lst);
        let _ = verify_token(&lst, URI, ISSUER, NOW, &city());
    }
}

// ---- the issuer's rules ----

#[test]
fn suspension_comes_and_goes() {
    let mut register = StatusRegister::new(2, 8).unwrap();
    register.suspend(3).unwrap();
    assert_eq!(register.status(3), Ok(Status::Suspended));
    register.resume(3).unwrap();
    assert_eq!(register.status(3), Ok(Status::Valid));
    let mut narrow = StatusRegister::new(1, 8).unwrap();
    assert_eq!(narrow.suspend(3), Err(RegisterError::TooNarrow { bits: 1 }));
    assert_eq!(narrow.status(3), Ok(Status::Valid));
}

#[test]
fn revocation_is_final() {
    let mut register = StatusRegister::new(2, 8).unwrap();
    register.suspend(3).unwrap();
    register.revoke(3).unwrap();
    register.revoke(3).unwrap();
    let mut register = StatusRegister::from_list(register.list().clone());
    assert_eq!(register.resume(3), Err(RegisterError::RevokedIsFinal { index: 3 }));
    assert_eq!(register.suspend(3), Err(RegisterError::RevokedIsFinal { index: 3 }));
    assert_eq!(register.status(3), Ok(Status::Invalid));
    assert_eq!(register.revoke(8), Err(RegisterError::IndexOutOfRange { index: 8 }));
    assert_eq!(register.status(2), Ok(Status::Valid));
}

#[test]
fn every_index_comes_once_and_in_no_order() {
    let permutation = IndexPermutation::new([7; 32]);
    let indices: Vec<u32> = (0..INDEX_SPACE).map(|count| permutation.index(count).unwrap()).collect();
    assert!(indices.iter().all(|index| *index < INDEX_SPACE));
    assert_eq!(indices.iter().collect::<HashSet<_>>().len(), indices.len());
    let neighbours = indices.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) == 1).count();
    assert!(neighbours < 20, "{neighbours} neighbours where about two are chance");
    let rising = indices.windows(2).filter(|pair| pair[0] < pair[1]).count();
    assert!(rising.abs_diff(indices.len() / 2) < 1_500, "{rising}");
    assert_eq!(permutation.index(INDEX_SPACE), None);
    let other = IndexPermutation::new([8; 32]);
    assert_ne!(permutation.index(0), other.index(0));
    assert_eq!(format!("{permutation:?}"), "IndexPermutation(..)");
}

// ---- the token ----

#[test]
fn issued_token_verifies_with_either_algorithm() {
    for kind in [KeyKind::P256, KeyKind::Ed25519] {
        let city = City::new(kind);
        let mut register = StatusRegister::new(2, 1 << 17).unwrap();
        register.revoke(131_071).unwrap();
        let verified = city.verified(register.list(), NOW);
        assert_eq!(verified.list(), register.list());
        assert_eq!((verified.ttl(), verified.expires_at()), (Some(HOUR), Some(NOW + 24 * HOUR)));
    }
}

#[test]
fn token_against_the_rules_is_refused_by_name() {
    let city = city();
    assert_eq!(city.refuse(|header, _| header["typ"] = "JWT".into()), StatusError::WrongType);
    assert_eq!(city.refuse(|header, _| header["alg"] = "none".into()), StatusError::AlgorithmNotAllowed);
    assert_eq!(city.refuse(|header, _| header["alg"] = "EdDSA".into()), StatusError::BadSignature);
    assert_eq!(city.refuse(|header, _| header["kid"] = "did:web:x#1".into()), StatusError::WrongIssuer);
    assert_eq!(city.refuse(|_, token| token["iss"] = "did:web:x".into()), StatusError::WrongIssuer);
    assert_eq!(
        city.refuse(|_, token| token["sub"] = "https://city.example/status/2".into()),
        StatusError::WrongSubject
    );
    assert_eq!(city.refuse(|_, token| token["exp"] = (NOW - 60).into()), StatusError::Expired);
    assert_eq!(city.refuse(|_, token| token["iat"] = (NOW + 61).into()), StatusError::FromTheFuture);
    for part in ["sub", "iat", "status_list"] {
        let refused = city.refuse(|_, token| {
            token.as_object_mut().unwrap().remove(part);
        });
        assert_eq!(refused, StatusError::MalformedToken { part });
    }
    assert_eq!(city.refuse(|_, token| token["status_list"]["bits"] = 3.into()), StatusError::InvalidBits);
    assert_eq!(city.refuse(|_, token| token["status_list"]["bits"] = 257.into()), StatusError::InvalidBits);
    assert_eq!(
        city.refuse(|_, token| token["status_list"]["lst"] = "AAAA".into()),
        StatusError::MalformedList
    );
    let other = verify_token(&city.token(&StatusList::new(1, 8).unwrap(), NOW), URI, "did:web:x", NOW, &city);
    assert_eq!(other.unwrap_err(), StatusError::WrongIssuer);
    let foreign = SecretKey::generate(KeyKind::P256, &SeededEntropy::new(9)).unwrap();
    let token = city.token(&StatusList::new(1, 8).unwrap(), NOW);
    city.keys.insert(city.kid.clone(), foreign);
    assert_eq!(verify_token(&token, URI, ISSUER, NOW, &city).unwrap_err(), StatusError::BadSignature);
}

#[test]
fn token_that_would_stop_verifiers_at_the_first_outage_is_not_issued() {
    let city = city();
    let list = StatusList::new(1, 8).unwrap();
    let request = StatusTokenRequest {
        uri: URI,
        issuer: ISSUER,
        list: &list,
        issued_at: NOW,
        expires_at: NOW + 2 * HOUR,
        ttl: HOUR,
    };
    assert!(issue_token(&city.keys, &city.kid, &request).is_ok());
    let attempt = |request| issue_token(&city.keys, &city.kid, &request).unwrap_err();
    let short = StatusTokenRequest { expires_at: NOW + 2 * HOUR - 1, ..request };
    assert_eq!(attempt(short), IssueError::InvalidField { field: "expires_at" });
    assert_eq!(attempt(StatusTokenRequest { ttl: 0, ..request }), IssueError::InvalidField { field: "ttl" });
    assert_eq!(attempt(StatusTokenRequest { uri: "", ..request }), IssueError::InvalidField { field: "uri" });
}

// ---- the cache ----

#[test]
fn list_is_used_until_its_time_to_live_is_over() {
    let city = city();
    let mut register = StatusRegister::new(1, 8).unwrap();
    register.revoke(1).unwrap();
    let mut cache = StatusCache::new(0);
    let not_fetched = Err(StatusError::NotFetched { uri: URI.into() });
    assert_eq!(cache.at(NOW).status(URI, 1, ISSUER), not_fetched);
    cache.insert(city.verified(register.list(), NOW), NOW);
    assert_eq!(cache.at(NOW).status(URI, 1, ISSUER), Ok(Status::Invalid));
    assert_eq!(cache.at(NOW).status(URI, 0, ISSUER), Ok(Status::Valid));
    assert_eq!(cache.at(NOW).status(URI, 8, ISSUER), Err(StatusError::IndexOutOfRange { index: 8 }));
    assert_eq!(cache.at(NOW).status(URI, 1, "did:web:x"), not_fetched);
    assert_eq!(cache.at(NOW + HOUR - 1).status(URI, 1, ISSUER), Ok(Status::Invalid));
    assert_eq!(cache.at(NOW + HOUR).status(URI, 1, ISSUER), not_fetched);
    assert_eq!(cache.at(NOW - 1).status(URI, 1, ISSUER), not_fetched, "the clock was set back");
    // Nor after its `exp`, however late it was fetched.
    let mut late = StatusCache::new(0);
    late.insert(city.verified(register.list(), NOW), NOW + 24 * HOUR - 10);
    assert_eq!(late.at(NOW + 24 * HOUR - 1).status(URI, 1, ISSUER), Ok(Status::Invalid));
    assert_eq!(late.at(NOW + 24 * HOUR).status(URI, 1, ISSUER), not_fetched);
}

#[test]
fn replayed_older_list_does_not_undo_a_revocation() {
    let city = city();
    let mut register = StatusRegister::new(1, 8).unwrap();
    let old = city.verified(register.list(), NOW - 10);
    register.revoke(1).unwrap();
    let mut cache = StatusCache::new(0);
    cache.insert(city.verified(register.list(), NOW), NOW);
    cache.insert(old, NOW + 1);
    assert_eq!(cache.at(NOW + 1).status(URI, 1, ISSUER), Ok(Status::Invalid));
}

#[test]
fn cache_forgets_the_list_fetched_longest_ago() {
    let city = city();
    let list = StatusList::new(8, MAX_LIST_BYTES).unwrap();
    let mut cache = StatusCache::new(MAX_LIST_BYTES);
    let named = |uri: &str| {
        let request = StatusTokenRequest {
            uri,
            issuer: ISSUER,
            list: &list,
            issued_at: NOW,
            expires_at: NOW + 2 * HOUR,
            ttl: HOUR,
        };
        let token = issue_token(&city.keys, &city.kid, &request).unwrap();
        verify_token(&token, uri, ISSUER, NOW, &city).unwrap()
    };
    for uri in ["a", "b", "b"] {
        cache.insert(named(uri), NOW);
    }
    assert_eq!(cache.at(NOW).status("b", 0, ISSUER), Ok(Status::Valid));
    assert_eq!(cache.at(NOW).status("a", 0, ISSUER), Err(StatusError::NotFetched { uri: "a".into() }));
}

// ---- vectors of the specification ----

fn vector(name: &str) -> Option<String> {
    let base = std::env::var_os("EINMAL_VECTORS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../..", "/../shared/vectors")),
        PathBuf::from,
    );
    if !base.is_dir() {
        eprintln!("skipped: no vectors at {}", base.display());
        return None;
    }
    Some(fs::read_to_string(base.join("token-status-list").join(name)).unwrap())
}

/// Reads the printed JSON, whose strings are broken into lines.
fn printed_list(name: &str) -> Option<StatusList> {
    let text: String = vector(name)?.split_whitespace().collect();
    let json = &text[text.find('{').unwrap()..];
    let value: Value = serde_json::from_str(json).unwrap();
    let bits = u8::try_from(value["bits"].as_u64().unwrap()).unwrap();
    Some(StatusList::decode(bits, value["lst"].as_str().unwrap()).unwrap())
}

#[test]
fn short_lists_of_the_specification_decode_to_the_printed_bytes() {
    if let Some(list) = printed_list("status_list_encoding_json.txt") {
        assert_eq!((list.bits(), list.as_bytes()), (1, &[0xb9, 0xa3][..]));
        assert_eq!(list.encode().unwrap(), "eNrbuRgAAhcBXQ");
    }
    if let Some(list) = printed_list("status_list_encoding2_json.txt") {
        assert_eq!((list.bits(), list.as_bytes()), (2, &[0xc9, 0x44, 0xf9][..]));
    }
}

/// All entries of a list that are not 0.
fn set_entries(list: &StatusList) -> Vec<(u64, u8)> {
    (0..list.len() as u64)
        .filter_map(|index| Some((index, list.get(index).unwrap().value())).filter(|(_, value)| *value != 0))
        .collect()
}

#[test]
fn long_lists_of_the_specification_have_the_printed_entries() {
    let places = [0, 1993, 25460, 159_495, 495_669, 554_353, 645_645, 723_232, 854_545, 934_534, 1_000_345];
    if let Some(list) = printed_list("status_list_encoding1_long_json.txt") {
        assert_eq!(list.len(), 1 << 20);
        assert_eq!(set_entries(&list), places.map(|index| (index, 1)));
    }
    if let Some(list) = printed_list("status_list_encoding2_long_json.txt") {
        let values = [1, 2, 1, 3, 1, 1, 2, 1, 1, 2, 3];
        let expected: Vec<(u64, u8)> = places.into_iter().zip(values).collect();
        assert_eq!((list.len(), set_entries(&list)), (1 << 20, expected));
    }
    if let Some(list) = printed_list("status_list_encoding4_json.txt") {
        let expected = [
            (0, 1),
            (1993, 2),
            (35_460, 3),
            (459_495, 4),
            (595_669, 5),
            (754_353, 6),
            (845_645, 7),
            (923_232, 8),
            (924_445, 9),
            (934_534, 10),
            (1_000_345, 12),
            (1_004_534, 11),
            (1_030_203, 13),
            (1_030_204, 14),
            (1_030_205, 15),
        ];
        assert_eq!((list.len(), set_entries(&list)), (1 << 20, expected.to_vec()));
    }
    if let Some(list) = printed_list("status_list_encoding8_json.txt") {
        let mut values: Vec<u8> = set_entries(&list).iter().map(|(_, value)| *value).collect();
        values.sort_unstable();
        assert_eq!(list.len(), 1 << 20);
        assert_eq!(values, (1..=255).collect::<Vec<u8>>());
    }
}

/// The key printed in the specification's examples, public half only.
struct SpecificationKey;

impl IssuerKeys for SpecificationKey {
    fn issuer_key(&self, _iss: &str, kid: Option<&str>) -> Result<PublicKey, KeyLookupError> {
        assert_eq!(kid, Some("12"));
        let jwk = Jwk {
            kty: "EC".into(),
            crv: "P-256".into(),
            x: "I3HWm_0Ds1dPMI-IWmf4mBmH-YaeAVbPVu7vB27CxXo".into(),
            y: Some("6N_d5Elj9bs1htgV3okJKIdbHEpkgTmAluYKJemzn1M".into()),
            ..Jwk::default()
        };
        Ok(PublicKey::from_jwk(&jwk).unwrap())
    }
}

#[test]
fn signed_list_of_the_specification_verifies() {
    let Some(text) = vector("status_list_jwt_raw.txt") else { return };
    let token: String = text.split_whitespace().collect();
    let uri = "https://example.com/statuslists/1";
    let verify = |text: &str, now| verify_token(text, uri, "https://example.com", now, &SpecificationKey);
    let list = verify(&token, 1_686_920_170).unwrap();
    assert_eq!(list.list().as_bytes(), [0xb9, 0xa3]);
    assert_eq!((list.ttl(), list.expires_at()), (Some(43_200), Some(2_291_720_170)));
    assert_eq!(verify(&token, 2_291_720_230).unwrap_err(), StatusError::Expired);
    let padded = verify(&format!("{token}=="), 1_686_920_170).unwrap_err();
    assert_eq!(padded, StatusError::MalformedToken { part: "not a signed JWT" });
}
