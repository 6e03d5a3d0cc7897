//! Hands out status indices in an unpredictable order, each exactly once.

use std::fmt;

use sha2::{Digest, Sha256};
use zeroize::ZeroizeOnDrop;

/// Entries of one list: the smallest size in which one credential hides among enough others.
pub const INDEX_SPACE: u32 = 1 << 17;

/// Bits of each half of the Feistel network: 18 in total, the next even number above 17.
const HALF_BITS: u32 = 9;
const HALF_MASK: u32 = (1 << HALF_BITS) - 1;
const ROUNDS: u8 = 10;

/// A secret permutation of the indices of one list.
///
/// The issuer counts its credentials from 0 and stores the count; the permutation turns it into the index. Credentials
/// issued one after the other are then not neighbours in the list, and no index repeats. Use one key per list.
#[derive(Clone, ZeroizeOnDrop)]
pub struct IndexPermutation {
    key: [u8; 32],
}

/// Hides the key.
impl fmt::Debug for IndexPermutation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IndexPermutation(..)")
    }
}

impl IndexPermutation {
    /// The permutation under a random secret key.
    pub fn new(key: [u8; 32]) -> Self {
        Self { key }
    }

    /// The index of the credential with this number; `None` once the list is full (from [`INDEX_SPACE`] on).
    pub fn index(&self, counter: u32) -> Option<u32> {
        if counter >= INDEX_SPACE {
            return None;
        }
        // Cycle walking: the network permutes 2^18 values, so starting below 2^17 it eventually returns below 2^17.
        let mut value = self.permute(counter);
        while value >= INDEX_SPACE {
            value = self.permute(value);
        }
        Some(value)
    }

    fn permute(&self, value: u32) -> u32 {
        let (mut left, mut right) = ((value >> HALF_BITS) & HALF_MASK, value & HALF_MASK);
        for round in 0..ROUNDS {
            (left, right) = (right, left ^ self.mix(round, right));
        }
        (left << HALF_BITS) | right
    }

    fn mix(&self, round: u8, half: u32) -> u32 {
        let mut hash = Sha256::new();
        hash.update(self.key);
        hash.update([round]);
        hash.update(half.to_be_bytes());
        let digest = hash.finalize();
        digest.iter().take(2).fold(0, |bits, byte| (bits << 8) | u32::from(*byte)) & HALF_MASK
    }
}
