//! Randomness from a seed, in streams with names.
//!
//! Each part of a run draws from a stream of its own, so that a change in one (one more request, one
//! fault less) leaves what all others draw as it was. That is what makes a failure shrink.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A source of random numbers.
pub type Random = ChaCha8Rng;

/// The stream of this name in this seed.
pub fn stream(seed: u64, name: &str) -> Random {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&fnv(name.as_bytes()).to_le_bytes());
    ChaCha8Rng::from_seed(key)
}

/// FNV-1a, 64 bits: spreads names, keeps no secrets.
pub fn fnv(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Draws that several parts need.
pub trait Draw: Rng {
    /// True in `percent` of a hundred draws.
    fn percent(&mut self, percent: u32) -> bool {
        self.random_range(0..100) < percent
    }

    /// A number between both bounds, inclusive, small ones as likely as large ones on a logarithmic scale.
    fn log_uniform(&mut self, least: u64, most: u64) -> u64 {
        let (low, high) = ((least.max(1) as f64).ln(), ((most.max(1) + 1) as f64).ln());
        (self.random_range(low..=high).exp() as u64).clamp(least, most)
    }

    /// One of these.
    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.random_range(0..of.len())]
    }
}

impl<R: Rng> Draw for R {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_repeat_and_differ_by_name() {
        let draw = |seed, name| stream(seed, name).random::<u64>();
        assert_eq!(draw(7, "network"), draw(7, "network"));
        assert_ne!(draw(7, "network"), draw(7, "disk"));
        assert_ne!(draw(7, "network"), draw(8, "network"));
    }

    #[test]
    fn a_logarithmic_draw_keeps_its_bounds() {
        let mut random = stream(1, "test");
        for _ in 0..1000 {
            assert!((3..=90).contains(&random.log_uniform(3, 90)));
        }
    }
}
