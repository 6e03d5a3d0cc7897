//! Concat KDF and AES key wrap: from shared secrets to the content encryption key and back.

use aes_kw::{KeyInit, KwAes256};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Length of the key encryption key, in bits. The specification's 512 for P-521 cannot feed A256KW.
const KEK_BITS: u32 = 256;

/// The inputs of the derivation other than the secret.
pub(super) struct OtherInfo<'a> {
    /// The JWE `alg`, not `enc`, because key wrapping is used.
    pub(super) alg: &'a str,
    /// Decoded `apu`; empty for anoncrypt.
    pub(super) apu: &'a [u8],
    /// Decoded `apv`.
    pub(super) apv: &'a [u8],
    /// Authentication tag of the content; ECDH-1PU only. One paragraph of DIDComm demands it for ECDH-ES too, but no
    /// published vector does that.
    pub(super) tag: Option<&'a [u8]>,
}

/// Derives the key encryption key from the concatenated agreements.
///
/// ```text
/// SHA-256( 00000001 || Z || lp(alg) || lp(apu) || lp(apv) || be32(256) [|| lp(tag)] )    lp(x) = be32(len x) || x
/// ```
///
/// # Specification
///
/// NIST SP 800-56A Concat KDF as in RFC 7518, 4.6.2; draft-madden-jose-ecdh-1pu-04, 2.3 for the tag.
pub(super) fn derive_kek(secrets: &[&[u8]], info: &OtherInfo<'_>) -> Zeroizing<[u8; 32]> {
    let mut hash = Sha256::new();
    hash.update(1u32.to_be_bytes());
    for secret in secrets {
        hash.update(secret);
    }
    for part in [info.alg.as_bytes(), info.apu, info.apv] {
        update_prefixed(&mut hash, part);
    }
    hash.update(KEK_BITS.to_be_bytes());
    if let Some(tag) = info.tag {
        update_prefixed(&mut hash, tag);
    }
    Zeroizing::new(hash.finalize().into())
}

fn update_prefixed(hash: &mut Sha256, part: &[u8]) {
    // Envelopes are far below 4 GiB; a saturated length would only make the derived keys differ.
    hash.update(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
    hash.update(part);
}

/// Wraps a content encryption key (RFC 3394); `None` only for lengths this crate never makes.
pub(super) fn wrap(kek: &[u8; 32], cek: &[u8]) -> Option<Vec<u8>> {
    let mut out = vec![0u8; cek.len() + 8];
    let length = KwAes256::new(kek.into()).wrap_key(cek, &mut out).ok()?.len();
    out.truncate(length);
    Some(out)
}

/// Unwraps a content encryption key; `None` if it does not verify.
pub(super) fn unwrap(kek: &[u8; 32], wrapped: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut out = Zeroizing::new(vec![0u8; wrapped.len().checked_sub(8)?]);
    let length = KwAes256::new(kek.into()).unwrap_key(wrapped, &mut out).ok()?.len();
    (length == out.len()).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7518, appendix C, cannot be reused with the key length that A256KW needs; the envelopes of the DIDComm
    /// appendix pin the derivation instead. This test checks that every input counts.
    #[test]
    fn every_input_changes_the_key() {
        let base = || OtherInfo { alg: "ECDH-1PU+A256KW", apu: b"a", apv: b"b", tag: Some(b"tag") };
        let reference = derive_kek(&[b"z"], &base());
        let others = [
            derive_kek(&[b"y"], &base()),
            derive_kek(&[b"z"], &OtherInfo { alg: "ECDH-ES+A256KW", ..base() }),
            derive_kek(&[b"z"], &OtherInfo { apu: b"", ..base() }),
            derive_kek(&[b"z"], &OtherInfo { apv: b"c", ..base() }),
            derive_kek(&[b"z"], &OtherInfo { tag: None, ..base() }),
            derive_kek(&[b"z"], &OtherInfo { tag: Some(b"gat"), ..base() }),
        ];
        for other in others {
            assert_ne!(*reference, *other);
        }
    }

    #[test]
    fn tag_enters_with_its_length_before_it() {
        let mut by_hand = Sha256::new();
        by_hand.update([0, 0, 0, 1]);
        by_hand.update(b"z");
        by_hand.update([0, 0, 0, 1, b'A', 0, 0, 0, 0, 0, 0, 0, 1, b'v', 0, 0, 1, 0]);
        by_hand.update([0, 0, 0, 3, b't', b'a', b'g']);
        let info = OtherInfo { alg: "A", apu: b"", apv: b"v", tag: Some(b"tag") };
        assert_eq!(derive_kek(&[b"z"], &info).as_slice(), by_hand.finalize().as_slice());
    }

    #[test]
    fn wrapped_key_unwraps_and_a_changed_one_does_not() {
        let kek = [7; 32];
        let mut wrapped = wrap(&kek, &[1; 64]).unwrap();
        assert_eq!(wrapped.len(), 72);
        assert_eq!(unwrap(&kek, &wrapped).unwrap().as_slice(), [1; 64]);
        wrapped[3] ^= 1;
        assert!(unwrap(&kek, &wrapped).is_none());
        assert!(unwrap(&kek, &[0; 7]).is_none());
    }
}
