//! did:peer numalgo 0: one key inline, like a did:key.

use einmal_keys::PublicKey;

use crate::{
    Did, DidDocument, DidError,
    key::{DerivedAgreement, one_key_document},
};

const PREFIX: &str = "did:peer:0";

/// The did:peer:0 of a key.
pub fn create(key: &PublicKey) -> Did {
    Did::assembled(format!("{PREFIX}{}", key.to_multikey()))
}

/// The document of a did:peer:0.
///
/// # Errors
///
/// [`DidError::WrongMethod`] for another form, [`DidError::Key`] if the rest is not a multikey of a known kind.
///
/// # Specification
///
/// Peer DID Method 1.0, "Generation Method 0".
pub fn document(did: &Did, derived: DerivedAgreement) -> Result<DidDocument, DidError> {
    let multikey =
        did.as_str().strip_prefix(PREFIX).ok_or(DidError::WrongMethod { expected: "did:peer:0" })?;
    one_key_document(did, &PublicKey::from_multikey(multikey)?, derived)
}

#[cfg(test)]
mod tests {
    use einmal_keys::{KeyError, KeyKind};

    use super::*;
    use crate::{
        DidUrl, Relationship,
        test_support::{key, vectors},
    };

    #[test]
    fn document_holds_the_key_under_its_new_and_older_name() {
        let key = key(KeyKind::Ed25519, 1);
        let did = create(&key);
        let document = document(&did, DerivedAgreement::Included).unwrap();
        let multikey = key.to_multikey();
        for fragment in [multikey.as_str(), &multikey[1..]] {
            let url = DidUrl::new(&did, fragment).unwrap();
            assert_eq!(document.method_for(Relationship::Authentication, &url).unwrap().key, key);
            assert!(document.method_for(Relationship::KeyAgreement, &url).is_none());
        }
        assert_eq!(document.methods(Relationship::KeyAgreement).count(), 1);
    }

    #[test]
    fn published_example_is_read() {
        let Some(vectors) = vectors("did-peer/spec-examples.json") else { return };
        for did in vectors["numalgo_0"].as_array().unwrap() {
            let did = Did::parse(did.as_str().unwrap()).unwrap();
            let document = document(&did, DerivedAgreement::Included).unwrap();
            assert_eq!(create(&document.verification_methods()[0].key), did);
        }
    }

    #[test]
    fn other_forms_and_broken_keys_are_refused() {
        let error =
            |text: &str| document(&Did::parse(text).unwrap(), DerivedAgreement::Included).unwrap_err();
        assert_eq!(error("did:peer:2.Vz6Mk"), DidError::WrongMethod { expected: "did:peer:0" });
        assert!(matches!(error("did:peer:0m6Mk"), DidError::Key(KeyError::Encoding { .. })));
    }
}
