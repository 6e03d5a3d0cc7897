//! The two operations that secret keys are used for, and a keyring that holds keys in memory.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use crate::{KeyError, PublicKey, SecretKey, SharedSecret, multiples::Often};

/// Most static agreements a [`Keyring`] remembers; the oldest is forgotten and zeroized first.
pub const MAX_REMEMBERED_AGREEMENTS: usize = 4096;

/// Names a secret key: the absolute DID URL of its verification method, or a project id for holder keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(Arc<str>);

impl KeyId {
    /// Uses the text unchanged.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether the peer's key in an agreement is used for one message or for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerKeyUse {
    /// An `epk`: remembering the result would be useless.
    Ephemeral,
    /// A key from a DID document: the result may be remembered in zeroized memory.
    LongTerm,
}

/// Custody could not do what was requested.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CustodyError {
    /// No key with that id is held here.
    #[error("no secret key with this id is held here")]
    UnknownKey {
        /// The requested id.
        kid: KeyId,
    },
    /// The key refused.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The device or service behind the custody failed.
    #[error("the key store did not answer: {reason}")]
    Unavailable {
        /// What it said, without secrets.
        reason: String,
    },
}

/// Holds secret keys and offers exactly two operations on them.
pub trait Custody: Send + Sync {
    /// The public half of a held key; `None` if no such key is held.
    fn public_key(&self, kid: &KeyId) -> Option<PublicKey>;

    /// Signs `message` with a held key; JOSE form, 64 bytes.
    ///
    /// # Errors
    ///
    /// [`CustodyError::UnknownKey`], or why the key could not sign.
    fn sign(&self, kid: &KeyId, message: &[u8]) -> Result<Vec<u8>, CustodyError>;

    /// Key agreement between a held key and `peer`.
    ///
    /// # Errors
    ///
    /// [`CustodyError::UnknownKey`], or why the keys could not agree.
    fn agree(
        &self,
        kid: &KeyId,
        peer: &PublicKey,
        peer_use: PeerKeyUse,
    ) -> Result<SharedSecret, CustodyError>;

    /// Key agreement between `ephemeral`, made for one message, and the recipient's long-term key `peer`.
    ///
    /// No held key takes part, but an implementation may prepare for peers that it writes to repeatedly.
    ///
    /// # Errors
    ///
    /// Why the keys could not agree, as [`SecretKey::agree`].
    fn agree_ephemeral(&self, ephemeral: &SecretKey, peer: &PublicKey) -> Result<SharedSecret, KeyError> {
        ephemeral.agree(peer)
    }
}

/// Custody in memory. The node fills it from sealed storage.
#[derive(Default)]
pub struct Keyring {
    keys: RwLock<HashMap<KeyId, Arc<SecretKey>>>,
    remembered: Mutex<Remembered>,
    often: Often,
}

/// One of our keys, and a peer's key.
type Pair = (KeyId, PublicKey);

/// Remembered static-static agreements by key id and peer, first in first out.
#[derive(Default)]
struct Remembered {
    results: HashMap<Arc<Pair>, SharedSecret>,
    order: VecDeque<Arc<Pair>>,
}

impl Keyring {
    /// An empty keyring.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or replaces a key.
    pub fn insert(&self, kid: KeyId, key: SecretKey) {
        self.forget_agreements_of(&kid);
        self.keys.write().unwrap_or_else(PoisonError::into_inner).insert(kid, Arc::new(key));
    }

    /// Removes a key and all agreements remembered for it.
    pub fn remove(&self, kid: &KeyId) {
        self.keys.write().unwrap_or_else(PoisonError::into_inner).remove(kid);
        self.forget_agreements_of(kid);
    }

    fn forget_agreements_of(&self, kid: &KeyId) {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.results.retain(|pair, _| pair.0 != *kid);
        remembered.order.retain(|pair| pair.0 != *kid);
    }

    fn key(&self, kid: &KeyId) -> Result<Arc<SecretKey>, CustodyError> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.get(kid).cloned().ok_or_else(|| CustodyError::UnknownKey { kid: kid.clone() })
    }

    /// The id as it was inserted, so that thousands of agreements share its text.
    fn own(&self, kid: &KeyId) -> KeyId {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.get_key_value(kid).map_or_else(|| kid.clone(), |(own, _)| own.clone())
    }

    fn recall(&self, pair: &Pair) -> Option<SharedSecret> {
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.results.get(pair).cloned()
    }

    fn remember(&self, pair: Pair, result: SharedSecret) {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        let pair = Arc::new(pair);
        if remembered.results.insert(Arc::clone(&pair), result).is_none() {
            remembered.order.push_back(pair);
        }
        while remembered.order.len() > MAX_REMEMBERED_AGREEMENTS {
            if let Some(oldest) = remembered.order.pop_front() {
                remembered.results.remove(&oldest);
            }
        }
    }
}

impl Custody for Keyring {
    fn public_key(&self, kid: &KeyId) -> Option<PublicKey> {
        self.key(kid).ok().map(|key| key.public_key())
    }

    fn sign(&self, kid: &KeyId, message: &[u8]) -> Result<Vec<u8>, CustodyError> {
        Ok(self.key(kid)?.sign(message)?)
    }

    fn agree(
        &self,
        kid: &KeyId,
        peer: &PublicKey,
        peer_use: PeerKeyUse,
    ) -> Result<SharedSecret, CustodyError> {
        let key = self.key(kid)?;
        if peer_use == PeerKeyUse::Ephemeral {
            return Ok(key.agree(peer)?);
        }
        let pair = (kid.clone(), peer.clone());
        if let Some(known) = self.recall(&pair) {
            return Ok(known);
        }
        let result = key.agree(peer)?;
        self.remember((self.own(kid), pair.1), result.clone());
        Ok(result)
    }

    fn agree_ephemeral(&self, ephemeral: &SecretKey, peer: &PublicKey) -> Result<SharedSecret, KeyError> {
        ephemeral.agree_with(peer, &self.often)
    }
}

/// Shows how many keys are held, never the secrets.
impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.keys.read().unwrap_or_else(PoisonError::into_inner).len();
        f.debug_struct("Keyring").field("keys", &count).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{KeyKind, SeededEntropy};

    fn key(kind: KeyKind, seed: u64) -> SecretKey {
        SecretKey::generate(kind, &SeededEntropy::new(seed)).unwrap()
    }

    #[test]
    fn unknown_key_is_named_in_the_error() {
        let ring = Keyring::new();
        let kid = KeyId::new("did:example:a#1");
        assert_eq!(ring.sign(&kid, b"m").unwrap_err(), CustodyError::UnknownKey { kid: kid.clone() });
        assert!(ring.public_key(&kid).is_none());
    }

    #[test]
    fn remembered_agreement_equals_a_fresh_one() {
        let ring = Keyring::new();
        let kid = KeyId::new("a");
        ring.insert(kid.clone(), key(KeyKind::X25519, 1));
        let peer = key(KeyKind::X25519, 2).public_key();
        let fresh = ring.agree(&kid, &peer, PeerKeyUse::Ephemeral).unwrap();
        for _ in 0..2 {
            let kept = ring.agree(&kid, &peer, PeerKeyUse::LongTerm).unwrap();
            assert_eq!(kept.as_bytes(), fresh.as_bytes());
        }
    }

    #[test]
    fn an_ephemeral_key_agrees_alike_before_and_after_the_peers_table_is_made() {
        let ring = Keyring::new();
        for kind in KeyKind::ALL.into_iter().filter(|kind| kind.can_agree()) {
            let peer = key(kind, 2);
            for seed in 0..u64::from(crate::AGREEMENTS_BEFORE_TABLE) + 2 {
                let ephemeral = key(kind, 100 + seed);
                let ours = ring.agree_ephemeral(&ephemeral, &peer.public_key()).unwrap();
                let theirs = peer.agree(&ephemeral.public_key()).unwrap();
                assert_eq!(ours.as_bytes(), theirs.as_bytes(), "{kind:?}, message {seed}");
            }
        }
        assert_eq!(format!("{:?}", ring.often), "Often { tables: 1, .. }");
    }

    #[test]
    fn replaced_key_never_answers_with_an_old_agreement() {
        let ring = Keyring::new();
        let kid = KeyId::new("a");
        let peer = key(KeyKind::X25519, 9).public_key();
        ring.insert(kid.clone(), key(KeyKind::X25519, 1));
        let old = ring.agree(&kid, &peer, PeerKeyUse::LongTerm).unwrap();
        ring.insert(kid.clone(), key(KeyKind::X25519, 2));
        let new = ring.agree(&kid, &peer, PeerKeyUse::LongTerm).unwrap();
        assert_ne!(old.as_bytes(), new.as_bytes());
        ring.remove(&kid);
        assert!(ring.agree(&kid, &peer, PeerKeyUse::LongTerm).is_err());
    }

    #[test]
    fn memory_of_agreements_is_bounded() {
        let ring = Keyring::new();
        let result = SharedSecret::from_slice(&[1; 32]);
        let peer = key(KeyKind::X25519, 9).public_key();
        for n in 0..MAX_REMEMBERED_AGREEMENTS + 10 {
            ring.remember((KeyId::new(format!("{n}")), peer.clone()), result.clone());
        }
        assert_eq!(ring.remembered.lock().unwrap().results.len(), MAX_REMEMBERED_AGREEMENTS);
        assert!(ring.recall(&(KeyId::new("0"), peer)).is_none());
    }
}
