//! AES-256-CBC, portable or with the fast backend, and HMAC-SHA-512.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha512;

#[cfg(feature = "aws-lc")]
pub(crate) use fast::{cbc_decrypt, cbc_encrypt};
#[cfg(not(feature = "aws-lc"))]
pub(crate) use portable::{cbc_decrypt, cbc_encrypt};

/// Length of an AES block and of a CBC initialisation vector, in bytes.
const BLOCK: usize = 16;

/// HMAC over the parts in order. Always uses the portable library: the fast backend has a higher cost per new key, and
/// every message has a new key.
pub(crate) fn hmac_sha512(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 64] {
    let mut padded = zeroize::Zeroizing::new([0u8; 128]);
    for (to, from) in padded.iter_mut().zip(key) {
        *to = *from;
    }
    let mut mac = <Hmac<Sha512> as KeyInit>::new((&*padded).into());
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(not(feature = "aws-lc"))]
mod portable {
    use aes::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit, block_padding::Pkcs7};

    /// Encrypts with PKCS#7 padding.
    pub(crate) fn cbc_encrypt(key: &[u8; 32], iv: &[u8; super::BLOCK], plaintext: &[u8]) -> Option<Vec<u8>> {
        let cipher = cbc::Encryptor::<aes::Aes256Enc>::new(key.into(), iv.into());
        Some(cipher.encrypt_padded_vec::<Pkcs7>(plaintext))
    }

    /// Decrypts and removes the padding; call it only after checking the tag.
    pub(crate) fn cbc_decrypt(
        key: &[u8; 32],
        iv: &[u8; super::BLOCK],
        mut ciphertext: Vec<u8>,
    ) -> Option<Vec<u8>> {
        let cipher = cbc::Decryptor::<aes::Aes256Dec>::new(key.into(), iv.into());
        let length = cipher.decrypt_padded::<Pkcs7>(&mut ciphertext).ok()?.len();
        ciphertext.truncate(length);
        Some(ciphertext)
    }
}

#[cfg(feature = "aws-lc")]
mod fast {
    use aws_lc_rs::{
        cipher::{
            AES_256, DecryptionContext, EncryptionContext, PaddedBlockDecryptingKey,
            PaddedBlockEncryptingKey, UnboundCipherKey,
        },
        iv::FixedLength,
    };

    /// Encrypts with PKCS#7 padding.
    pub(crate) fn cbc_encrypt(key: &[u8; 32], iv: &[u8; super::BLOCK], plaintext: &[u8]) -> Option<Vec<u8>> {
        let key = PaddedBlockEncryptingKey::cbc_pkcs7(UnboundCipherKey::new(&AES_256, key).ok()?).ok()?;
        let mut buffer = Vec::with_capacity(plaintext.len() + super::BLOCK);
        buffer.extend_from_slice(plaintext);
        let context = EncryptionContext::Iv128(FixedLength::from(iv));
        key.less_safe_encrypt(&mut buffer, context).ok()?;
        Some(buffer)
    }

    /// Decrypts and removes the padding; call it only after checking the tag.
    pub(crate) fn cbc_decrypt(
        key: &[u8; 32],
        iv: &[u8; super::BLOCK],
        mut ciphertext: Vec<u8>,
    ) -> Option<Vec<u8>> {
        let key = PaddedBlockDecryptingKey::cbc_pkcs7(UnboundCipherKey::new(&AES_256, key).ok()?).ok()?;
        let context = DecryptionContext::Iv128(FixedLength::from(iv));
        let length = key.decrypt(&mut ciphertext, context).ok()?.len();
        ciphertext.truncate(length);
        Some(ciphertext)
    }
}
