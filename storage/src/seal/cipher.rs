//! The data key and how it seals a value.

use std::fmt;

use chacha20poly1305::{KeyInit, Tag, XChaCha20Poly1305, XNonce, aead::AeadInOut};
use zeroize::Zeroizing;

use crate::{Key, StoreError};

/// Length in bytes of the data key and of every key that wraps it.
pub(super) const KEY_LEN: usize = 32;
pub(super) const NONCE_LEN: usize = 24;
const TAG_LEN: usize = 16;
/// First byte of a sealed value.
const SEAL_FORMAT: u8 = 1;

/// The key that seals all values of one store. Cannot be printed; wiped when dropped.
pub(crate) struct DataKey(XChaCha20Poly1305);

impl DataKey {
    pub(super) fn new(key: &Zeroizing<[u8; KEY_LEN]>) -> Self {
        Self(XChaCha20Poly1305::new((&**key).into()))
    }

    /// `format (1) | nonce (24) | ciphertext | tag (16)`.
    pub(super) fn seal(
        &self,
        key: &Key,
        expires_at: Option<u64>,
        value: Vec<u8>,
    ) -> Result<Vec<u8>, StoreError> {
        let value = Zeroizing::new(value);
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(|_| StoreError::Entropy)?;
        let overhead = 1 + NONCE_LEN + TAG_LEN;
        let mut sealed = Vec::with_capacity(value.len().saturating_add(overhead));
        sealed.push(SEAL_FORMAT);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&value);
        let body = sealed.get_mut(1 + NONCE_LEN..).unwrap_or_default();
        let tag = self
            .0
            .encrypt_inout_detached(&XNonce::from(nonce), &associated_data(key, expires_at), body.into())
            .map_err(|_| StoreError::ValueTooLarge { len: value.len() })?;
        sealed.extend_from_slice(&tag);
        Ok(sealed)
    }

    /// Undoes [`DataKey::seal`].
    pub(super) fn open(
        &self,
        key: &Key,
        expires_at: Option<u64>,
        mut sealed: Vec<u8>,
    ) -> Result<Vec<u8>, StoreError> {
        let unsealable = || StoreError::Unsealable { key: key.clone() };
        match sealed.first() {
            None | Some(0) => return Err(unsealable()),
            Some(&format) if format > SEAL_FORMAT => {
                return Err(StoreError::FormatTooNew { found: format.into(), supported: SEAL_FORMAT.into() });
            }
            Some(_) => {}
        }
        let tag_at = sealed.len().checked_sub(TAG_LEN).ok_or_else(unsealable)?;
        let tag: [u8; TAG_LEN] = sealed.split_off(tag_at).try_into().map_err(|_| unsealable())?;
        let nonce: [u8; NONCE_LEN] =
            *sealed.get(1..).and_then(|rest| rest.first_chunk()).ok_or_else(unsealable)?;
        let mut value = sealed.split_off(1 + NONCE_LEN);
        self.0
            .decrypt_inout_detached(
                &XNonce::from(nonce),
                &associated_data(key, expires_at),
                value.as_mut_slice().into(),
                &Tag::from(tag),
            )
            .map_err(|_| unsealable())?;
        Ok(value)
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey(..)")
    }
}

/// What a sealed value is bound to. It is unique per record, because names hold no zero byte and the expiry has a fixed
/// length.
fn associated_data(key: &Key, expires_at: Option<u64>) -> Vec<u8> {
    let mut data = Vec::with_capacity(key.size().saturating_add(32));
    data.extend_from_slice(b"einmal record 1\0");
    data.extend_from_slice(&expires_at.unwrap_or(u64::MAX).to_be_bytes());
    for name in [key.tenant().as_str(), key.table().name()] {
        data.extend_from_slice(name.as_bytes());
        data.push(0);
    }
    data.extend_from_slice(key.id());
    data
}
