//! Public keys as multikey: multibase base58btc over a multicodec prefix and the compressed key.

use crate::{KeyError, KeyKind, PublicKey};

/// Longest multikey text read, in characters; P-521 needs 95.
const MAX_MULTIKEY_LEN: usize = 256;

impl PublicKey {
    /// Writes the key as `z…` multikey (Controlled Identifiers 1.0, "Multikey").
    pub fn to_multikey(&self) -> String {
        let mut bytes = self.kind().multicodec().to_vec();
        bytes.extend_from_slice(&self.to_compressed());
        format!("z{}", bs58::encode(bytes).into_string())
    }

    /// Reads a `z…` multikey.
    ///
    /// # Errors
    ///
    /// [`KeyError::Encoding`] for another multibase or broken base58, [`KeyError::UnsupportedKind`] for an unknown
    /// multicodec or a key longer than any known here, and the errors of [`PublicKey::from_compressed`].
    pub fn from_multikey(text: &str) -> Result<Self, KeyError> {
        const WRONG: KeyError =
            KeyError::Encoding { member: "multikey", expected: "base58btc with the prefix `z`" };
        let base58 = text.strip_prefix('z').ok_or(WRONG)?;
        if base58.len() > MAX_MULTIKEY_LEN {
            return Err(KeyError::UnsupportedKind);
        }
        let bytes = bs58::decode(base58).into_vec().map_err(|_| WRONG)?;
        let (codec, key) = bytes.split_first_chunk::<2>().ok_or(WRONG)?;
        let kind = KeyKind::ALL
            .into_iter()
            .find(|kind| kind.multicodec() == *codec)
            .ok_or(KeyError::UnsupportedKind)?;
        Self::from_compressed(kind, key)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{SecretKey, SeededEntropy};

    #[test]
    fn every_kind_round_trips_with_its_known_prefix() {
        let prefixes = ["z6Mk", "z6LS", "zDn", "z82", "z2J9", "zQ3s"];
        for (kind, prefix) in KeyKind::ALL.into_iter().zip(prefixes) {
            let key = SecretKey::generate(kind, &SeededEntropy::new(7)).unwrap().public_key();
            let text = key.to_multikey();
            assert!(text.starts_with(prefix), "{kind:?}: {text}");
            assert_eq!(PublicKey::from_multikey(&text).unwrap(), key);
        }
    }

    #[test]
    fn another_multibase_and_an_unknown_codec_are_refused() {
        let key = SecretKey::generate(KeyKind::Ed25519, &SeededEntropy::new(7)).unwrap().public_key();
        let text = key.to_multikey();
        assert!(matches!(
            PublicKey::from_multikey(&text.replacen('z', "m", 1)),
            Err(KeyError::Encoding { .. })
        ));
        let unknown = format!("z{}", bs58::encode([0x12, 0x34, 1, 2, 3]).into_string());
        assert_eq!(PublicKey::from_multikey(&unknown), Err(KeyError::UnsupportedKind));
        let long = format!("z{}", "2".repeat(MAX_MULTIKEY_LEN + 1));
        assert_eq!(PublicKey::from_multikey(&long), Err(KeyError::UnsupportedKind));
    }

    #[test]
    fn a_truncated_key_is_refused_by_length() {
        let short = format!("z{}", bs58::encode([0xed, 0x01, 1, 2, 3]).into_string());
        assert_eq!(
            PublicKey::from_multikey(&short),
            Err(KeyError::Length { kind: KeyKind::Ed25519, expected: 32, got: 3 })
        );
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "z?[1-9A-HJ-NP-Za-km-z]{0,120}") {
            let _ = PublicKey::from_multikey(&text);
        }
    }
}
