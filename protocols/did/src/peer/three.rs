//! did:peer numalgo 3: the short form of a numalgo 2, for peers that have seen the long one.

use crate::{
    Did, DidDocument, DidError,
    peer::{multihash, two},
};

const PREFIX: &str = "did:peer:3";

/// The did:peer:3 of a did:peer:2. Only the numalgo of the did:peer:2 is checked.
///
/// # Errors
///
/// [`DidError::WrongMethod`] if `two` is not a did:peer:2.
///
/// # Specification
///
/// Peer DID Method 1.0, "Generation Method 3": the hash is over the text without `did:peer:2`.
pub fn short_form(two: &Did) -> Result<Did, DidError> {
    let elements = two::elements_text(two)?;
    Ok(Did::assembled(format!("{PREFIX}{}", multihash::of(elements))))
}

/// The document of the did:peer:3 that belongs to `two`; names `two` in `alsoKnownAs`.
///
/// # Errors
///
/// Those of [`two::document`].
pub fn document(two: &Did) -> Result<DidDocument, DidError> {
    let mut document = two::document_as(two, short_form(two)?)?;
    document.also_known_as = vec![two.clone()];
    Ok(document)
}

/// Checks that `did` is a well-formed did:peer:3.
pub(crate) fn check(did: &Did) -> Result<(), DidError> {
    let hash = did.as_str().strip_prefix(PREFIX).ok_or(DidError::WrongMethod { expected: "did:peer:3" })?;
    multihash::check(hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::vectors;

    #[test]
    fn published_examples_hash_to_the_published_short_forms() {
        let Some(vectors) = vectors("did-peer/spec-examples.json") else { return };
        let dids = |name: &str| -> Vec<Did> { serde_json::from_value(vectors[name].clone()).unwrap() };
        let mut computed: Vec<Did> = dids("numalgo_2").iter().map(|two| short_form(two).unwrap()).collect();
        computed.sort();
        let mut printed = dids("numalgo_3");
        printed.sort();
        assert_eq!(computed, printed);
    }

    #[test]
    fn malformed_hashes_are_refused() {
        let did = |text: &str| Did::parse(text).unwrap();
        for text in
            ["did:peer:3zQm", "did:peer:3mQm", "did:peer:3", "did:peer:3z11111111111111111111111111111111"]
        {
            assert!(matches!(check(&did(text)), Err(DidError::Encoding { .. })), "{text}");
        }
        assert_eq!(check(&did("did:peer:2.V")), Err(DidError::WrongMethod { expected: "did:peer:3" }));
        assert_eq!(short_form(&did("did:peer:0z")), Err(DidError::WrongMethod { expected: "did:peer:2" }));
    }
}
