//! Randomness as an input: from the operating system in production, from a seed in simulations.

use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

/// The random source failed; nothing was generated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system's random source failed")]
pub struct EntropyError;

/// A source of unpredictable bytes.
pub trait Entropy: Send + Sync {
    /// Overwrites all of `buffer` with fresh bytes.
    ///
    /// # Errors
    ///
    /// [`EntropyError`] if the source cannot deliver; `buffer` must then not be used.
    fn fill(&self, buffer: &mut [u8]) -> Result<(), EntropyError>;
}

/// The operating system's random source.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), EntropyError> {
        getrandom::fill(buffer).map_err(|_| EntropyError)
    }
}

/// A repeatable stream for simulations: SHA-256 over seed and counter. Never for real keys.
#[derive(Debug)]
pub struct SeededEntropy {
    seed: u64,
    counter: AtomicU64,
}

impl SeededEntropy {
    /// A stream determined by `seed`.
    pub fn new(seed: u64) -> Self {
        Self { seed, counter: AtomicU64::new(0) }
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), EntropyError> {
        for chunk in buffer.chunks_mut(32) {
            let count = self.counter.fetch_add(1, Ordering::Relaxed);
            let mut hash = Sha256::new();
            hash.update(b"einmal simulation entropy");
            hash.update(self.seed.to_be_bytes());
            hash.update(count.to_be_bytes());
            let block = hash.finalize();
            for (to, from) in chunk.iter_mut().zip(block.iter()) {
                *to = *from;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_gives_the_same_stream_and_another_seed_another() {
        let draw = |seed| {
            let mut bytes = [0u8; 80];
            SeededEntropy::new(seed).fill(&mut bytes).unwrap();
            bytes
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn a_stream_does_not_repeat_itself() {
        let source = SeededEntropy::new(1);
        let (mut first, mut second) = ([0u8; 32], [0u8; 32]);
        source.fill(&mut first).unwrap();
        source.fill(&mut second).unwrap();
        assert_ne!(first, second);
    }
}
