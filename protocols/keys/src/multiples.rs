//! Tables of multiples of the X25519 keys written to most, which make an agreement with an ephemeral key much faster.
//!
//! Every envelope needs a fresh agreement with the recipient's key. Most go to few keys: a city's to its citizens'
//! mediator, a mediator's to its listening recipients. For such a key the multiples of its point are computed once, on
//! the curve's Edwards form; every later agreement is then additions without doublings (RFC 7748 §4.1 gives the map
//! between the two forms). Making a table costs what some 130 agreements save, so it is made after about as many: a
//! peer that changes keys all the time costs us a third more, never a multiple.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use curve25519_dalek::{MontgomeryPoint, edwards::EdwardsBasepointTable, traits::BasepointTable};
use zeroize::Zeroizing;

use crate::{KeyError, KeyKind, SharedSecret};

/// A table is made after this many agreements with one key.
pub const AGREEMENTS_BEFORE_TABLE: u32 = 128;

/// Most tables a [`Keyring`](crate::Keyring) keeps, of 30 KiB each; the least used one makes room.
pub const MAX_TABLES: usize = 32;

/// Most keys whose agreements are counted; beyond that, all counts are halved and those that reach zero forgotten.
pub const MAX_COUNTED_KEYS: usize = 1024;

/// Multiples of one public key; none of them is secret.
pub(crate) struct Multiples(EdwardsBasepointTable);

impl Multiples {
    /// Computes the multiples of `peer`, an X25519 public key; `None` if it lies on the twist of the curve, which has
    /// no Edwards form here. The sign that the map leaves open does not matter: both points have the same `u`
    /// throughout.
    fn of(peer: [u8; 32]) -> Option<Self> {
        MontgomeryPoint(peer).to_edwards(0).map(|point| Self(EdwardsBasepointTable::create(&point)))
    }

    /// Agrees with `secret`, in constant time (RFC 7748 §5, with its clamping).
    ///
    /// # Errors
    ///
    /// [`KeyError::InvalidPoint`] if the result is all zero.
    pub(crate) fn agree(&self, secret: &[u8; 32]) -> Result<SharedSecret, KeyError> {
        let shared = Zeroizing::new(self.0.mul_base_clamped(*secret).to_montgomery());
        if bool::from(subtle::ConstantTimeEq::ct_eq(&shared.0[..], &[0; 32][..])) {
            return Err(KeyError::InvalidPoint { kind: KeyKind::X25519 });
        }
        Ok(SharedSecret::from_slice(&shared.0))
    }
}

/// How often we write to each key, and the tables of those we write to most.
#[derive(Default)]
pub(crate) struct Often(Mutex<HashMap<[u8; 32], Peer>>);

#[derive(Default)]
struct Peer {
    /// Agreements since the key was first seen, halved from time to time.
    agreements: u32,
    table: Option<Arc<Multiples>>,
}

impl Often {
    /// Counts an agreement with `peer` that is about to be made, and returns its table if there is one.
    ///
    /// Makes the table if it is due, which takes a millisecond but does not block others.
    pub(crate) fn table(&self, peer: &[u8; 32]) -> Option<Arc<Multiples>> {
        let due = {
            let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let known = peers.entry(*peer).or_default();
            known.agreements = known.agreements.saturating_add(1);
            if known.table.is_some() {
                return known.table.clone();
            }
            let due = known.agreements.is_multiple_of(AGREEMENTS_BEFORE_TABLE);
            if peers.len() > MAX_COUNTED_KEYS {
                fade(&mut peers);
            }
            due
        };
        let table = due.then(|| Multiples::of(*peer)).flatten().map(Arc::new)?;
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        peers.entry(*peer).or_default().table = Some(Arc::clone(&table));
        make_room(&mut peers, peer);
        Some(table)
    }
}

/// Halves all counts and forgets keys that reach zero, so that old popularity fades.
fn fade(peers: &mut HashMap<[u8; 32], Peer>) {
    peers.retain(|_, peer| {
        peer.agreements /= 2;
        peer.agreements > 0
    });
}

/// Drops the least used table, other than `newest`, if there are too many.
fn make_room(peers: &mut HashMap<[u8; 32], Peer>, newest: &[u8; 32]) {
    let are_too_many = |peers: &HashMap<[u8; 32], Peer>| {
        peers.values().filter(|peer| peer.table.is_some()).count() > MAX_TABLES
    };
    if !are_too_many(peers) {
        return;
    }
    fade(peers);
    if !are_too_many(peers) {
        return;
    }
    let others = peers.iter_mut().filter(|(key, peer)| peer.table.is_some() && *key != newest);
    if let Some((_, least)) = others.min_by_key(|(_, peer)| peer.agreements) {
        *least = Peer::default();
    }
}

/// Shows how many tables there are, but no keys.
impl fmt::Debug for Often {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let tables = peers.values().filter(|peer| peer.table.is_some()).count();
        f.debug_struct("Often").field("tables", &tables).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{PublicKey, SecretKey, SeededEntropy};

    fn point(seed: u64) -> [u8; 32] {
        let key = SecretKey::generate(KeyKind::X25519, &SeededEntropy::new(seed)).unwrap();
        key.public_key().to_compressed().try_into().unwrap()
    }

    fn secret(bytes: [u8; 32]) -> SecretKey {
        SecretKey::from_bytes(KeyKind::X25519, &bytes).unwrap()
    }

    fn write_to(often: &Often, peer: &[u8; 32], times: u32) {
        for _ in 0..times {
            often.table(peer);
        }
    }

    fn tables(often: &Often) -> usize {
        often.0.lock().unwrap().values().filter(|peer| peer.table.is_some()).count()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// One point in eight has a part of small order; points on the twist have no table.
        #[test]
        fn a_table_agrees_on_what_the_ladder_agrees_on(bytes in any::<[u8; 32]>(), scalar in any::<[u8; 32]>()) {
            let Ok(peer) = PublicKey::from_compressed(KeyKind::X25519, &bytes) else { return Ok(()) };
            if let Some(table) = Multiples::of(bytes) {
                let by_table = table.agree(&scalar).unwrap();
                let by_ladder = secret(scalar).agree(&peer).unwrap();
                prop_assert_eq!(by_table.as_bytes(), by_ladder.as_bytes());
            }
        }
    }

    #[test]
    fn a_point_of_low_order_is_refused_by_its_table() {
        let zero = Multiples::of([0; 32]).unwrap();
        let one = Multiples::of(std::array::from_fn(|at| u8::from(at == 0)));
        for table in [Some(zero), one].into_iter().flatten() {
            assert_eq!(table.agree(&[7; 32]).unwrap_err(), KeyError::InvalidPoint { kind: KeyKind::X25519 });
        }
    }

    #[test]
    fn a_key_on_the_twist_has_no_table_however_often_it_is_written_to() {
        let twist = std::array::from_fn(|at| if at == 0 { 2 } else { 0 });
        assert!(Multiples::of(twist).is_none());
        let often = Often::default();
        write_to(&often, &twist, AGREEMENTS_BEFORE_TABLE + 1);
        assert!(often.table(&twist).is_none());
    }

    #[test]
    fn a_table_is_made_once_it_pays_and_not_before() {
        let often = Often::default();
        let peer = point(1);
        write_to(&often, &peer, AGREEMENTS_BEFORE_TABLE - 1);
        assert_eq!(tables(&often), 0);
        let made = often.table(&peer).unwrap();
        assert!(Arc::ptr_eq(&made, &often.table(&peer).unwrap()));
    }

    #[test]
    fn the_table_used_least_makes_room_for_one_more() {
        let often = Often::default();
        let peers: Vec<_> = (0..=MAX_TABLES as u64).map(|seed| point(seed + 1)).collect();
        for (at, peer) in peers.iter().enumerate() {
            // The fourth is the least used.
            write_to(
                &often,
                peer,
                if at == 3 { AGREEMENTS_BEFORE_TABLE } else { 4 * AGREEMENTS_BEFORE_TABLE },
            );
        }
        assert_eq!(tables(&often), MAX_TABLES);
        assert!(often.table(&peers[3]).is_none());
        assert!(often.table(&peers[MAX_TABLES]).is_some());
    }

    #[test]
    fn counting_is_bounded_and_those_written_to_often_outlast_a_flood_of_strangers() {
        let often = Often::default();
        let peer = point(1);
        write_to(&often, &peer, 64 * AGREEMENTS_BEFORE_TABLE);
        for stranger in 0..4 * MAX_COUNTED_KEYS {
            let mut key = [9; 32];
            key[..8].copy_from_slice(&stranger.to_le_bytes());
            often.table(&key);
            assert!(often.0.lock().unwrap().len() <= MAX_COUNTED_KEYS + 1);
        }
        assert!(often.table(&peer).is_some());
    }
}
