//! did:key: the DID is the key.

use einmal_keys::{KeyKind, PublicKey};

use crate::{Did, DidDocument, DidError, Relationship};

const PREFIX: &str = "did:key:";

/// Whether a document made from one Ed25519 key also lists, under `keyAgreement`, the X25519 key of the same secret.
///
/// DIDComm over did:key works only if both sides include it (`enableEncryptionKeyDerivation` of did:key).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DerivedAgreement {
    /// The derived key is listed.
    #[default]
    Included,
    /// The document holds only the Ed25519 key.
    Omitted,
}

/// The did:key of a key.
///
/// # Specification
///
/// did:key, "Create".
pub fn did_key(key: &PublicKey) -> Did {
    Did::assembled(format!("{PREFIX}{}", key.to_multikey()))
}

/// The key that a did:key names.
///
/// # Errors
///
/// [`DidError::WrongMethod`] for another method, [`DidError::Key`] if the rest is not a multikey of a known kind.
pub fn public_key(did: &Did) -> Result<PublicKey, DidError> {
    let multikey = did.as_str().strip_prefix(PREFIX).ok_or(DidError::WrongMethod { expected: "did:key" })?;
    Ok(PublicKey::from_multikey(multikey)?)
}

/// The document of a did:key.
///
/// # Errors
///
/// Those of [`public_key`].
///
/// # Specification
///
/// did:key, "Document Creation Algorithm".
pub fn document(did: &Did, derived: DerivedAgreement) -> Result<DidDocument, DidError> {
    one_key_document(did, &public_key(did)?, derived)
}

/// The document of a DID that is a single key, which includes did:peer 0.
pub(crate) fn one_key_document(
    did: &Did,
    key: &PublicKey,
    derived: DerivedAgreement,
) -> Result<DidDocument, DidError> {
    let mut document = DidDocument::new(did.clone());
    document.add_method(&key.to_multikey(), key.clone(), purposes(key.kind()))?;
    let agreement = key.to_x25519().filter(|_| derived == DerivedAgreement::Included);
    if let Some(agreement) = agreement {
        document.add_method(&agreement.to_multikey(), agreement, &[Relationship::KeyAgreement])?;
    }
    Ok(document)
}

/// All purposes that a key of this kind can serve.
fn purposes(kind: KeyKind) -> &'static [Relationship] {
    use Relationship::{
        AssertionMethod, Authentication, CapabilityDelegation, CapabilityInvocation, KeyAgreement,
    };
    const SIGNING: &[Relationship] =
        &[Authentication, AssertionMethod, CapabilityInvocation, CapabilityDelegation];
    const BOTH: &[Relationship] =
        &[Authentication, AssertionMethod, KeyAgreement, CapabilityInvocation, CapabilityDelegation];
    match kind {
        KeyKind::X25519 => &[KeyAgreement],
        KeyKind::P256 | KeyKind::P384 | KeyKind::P521 => BOTH,
        _ => SIGNING,
    }
}

#[cfg(test)]
mod tests {
    use einmal_keys::{KeyError, SecretKey, SeededEntropy};
    use serde_json::Value;

    use super::*;
    use crate::test_support::{key, vectors};

    #[test]
    fn every_kind_round_trips() {
        for kind in KeyKind::ALL {
            let key = key(kind, 1);
            let did = did_key(&key);
            assert_eq!(public_key(&did).unwrap(), key);
            let document = document(&did, DerivedAgreement::Included).unwrap();
            assert_eq!(document.verification_methods()[0].key, key);
        }
    }

    #[test]
    fn derived_agreement_key_is_the_one_on_the_same_secret_and_can_be_left_out() {
        let signing = SecretKey::generate(KeyKind::Ed25519, &SeededEntropy::new(4)).unwrap().public_key();
        let did = did_key(&signing);
        let with = document(&did, DerivedAgreement::Included).unwrap();
        let agreement: Vec<_> = with.methods(Relationship::KeyAgreement).collect();
        assert_eq!(agreement[0].key, signing.to_x25519().unwrap());
        assert_eq!(agreement[0].id.fragment(), Some(agreement[0].key.to_multikey().as_str()));
        let without = document(&did, DerivedAgreement::Omitted).unwrap();
        assert_eq!(without.methods(Relationship::KeyAgreement).count(), 0);
        assert!(with.method_for(Relationship::Authentication, &agreement[0].id).is_none());
    }

    #[test]
    fn what_is_no_key_of_a_known_kind_is_refused_by_its_reason() {
        let error = |text: &str| public_key(&Did::parse(text).unwrap()).unwrap_err();
        let multikey = key(KeyKind::Ed25519, 1).to_multikey();
        let multibase = error(&format!("did:key:m{}", &multikey[1..]));
        assert!(matches!(multibase, DidError::Key(KeyError::Encoding { .. })));
        assert!(matches!(error("did:key:z0OIl"), DidError::Key(KeyError::Encoding { .. })));
        assert!(matches!(
            error(&format!("did:key:1.1:{multikey}")),
            DidError::Key(KeyError::Encoding { .. })
        ));
        assert_eq!(error("did:example:a"), DidError::WrongMethod { expected: "did:key" });
        let encoded = |bytes: &[u8]| format!("did:key:z{}", bs58::encode(bytes).into_string());
        // BLS12-381 G2, which is not supported here.
        assert_eq!(
            error(&encoded(&[&[0xeb, 0x01][..], &[1; 96]].concat())),
            KeyError::UnsupportedKind.into()
        );
        // The code of Ed25519 as a varint of three bytes.
        let bytes = key(KeyKind::Ed25519, 1).to_compressed();
        assert_eq!(
            error(&encoded(&[&[0xed, 0x81, 0x00][..], &bytes].concat())),
            KeyError::UnsupportedKind.into()
        );
        let off_curve = [&[0x80, 0x24, 0x02][..], &[0xff; 32]].concat();
        assert_eq!(error(&encoded(&off_curve)), KeyError::InvalidPoint { kind: KeyKind::P256 }.into());
        let short = [&[0xed, 0x01][..], &bytes[..31]].concat();
        assert!(matches!(error(&encoded(&short)), DidError::Key(KeyError::Length { got: 31, .. })));
    }

    /// Compares key material by relationship: the vectors use older verification-method types.
    #[test]
    fn documents_hold_the_keys_of_the_published_vectors() {
        let mut compared = 0;
        for file in ["ed25519-x25519", "nist-curves", "secp256k1", "x25519"] {
            let Some(vectors) = vectors(&format!("did-key/{file}.json")) else { return };
            let by_did = vectors.get("didDocument").unwrap_or(&vectors).as_object().unwrap();
            for (did, entry) in by_did {
                let expected = entry.get("didDocument").unwrap_or(entry);
                compare(&Did::parse(did).unwrap(), expected);
                compared += 1;
            }
        }
        assert!(compared >= 10, "{compared}");
    }

    fn compare(did: &Did, expected: &Value) {
        let theirs = DidDocument::from_json(did, expected).unwrap();
        let ours = document(did, DerivedAgreement::Included).unwrap();
        for relationship in Relationship::ALL {
            let facts = |document: &DidDocument| {
                let methods = document.methods(relationship);
                methods.map(|method| (method.id.clone(), method.key.clone())).collect::<Vec<_>>()
            };
            let (ours, mut theirs) = (facts(&ours), facts(&theirs));
            if relationship == Relationship::KeyAgreement {
                // The vectors also list secp256k1 there; DIDComm has no key agreement on that curve.
                theirs.retain(|(_, key)| key.kind() != KeyKind::Secp256k1);
            }
            assert_eq!(ours, theirs, "{did} {}", relationship.member());
        }
    }
}
