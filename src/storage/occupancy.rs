//! How much of the database file is in use or has been, without asking the database.
//!
//! The database doubles its file when it is full, and takes pages from both ends of the new part, so
//! the length of the file says little: most of it may be a hole that occupies no disk. Its own count of
//! pages can only be had by walking all of them. So the blocks that are touched are noted here: those
//! that the check at opening reads, which are all live ones, and those that are written from then on.
//!
//! Invariant: the bytes counted never exceed the length of the file, rounded up to a block.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Bytes of a block: the page size of the database.
const BLOCK_BYTES: u64 = 4096;
/// Blocks in a word of the map.
const WORD_BLOCKS: u64 = u64::BITS as u64;

/// One bit for each block of a file, and how many are set.
#[derive(Debug, Default)]
pub(super) struct Occupancy {
    /// One bit a block: 32 KiB of map for a GiB of file.
    words: Mutex<Vec<u64>>,
    blocks: AtomicU64,
}

impl Occupancy {
    /// Bytes of the blocks that were touched.
    pub fn bytes(&self) -> u64 {
        self.blocks.load(Ordering::Relaxed) * BLOCK_BYTES
    }

    /// Notes that bytes of the file were read or written. Only after it has worked: a damaged file may
    /// ask for any offset, and the map would grow as far.
    pub fn touch(&self, offset: u64, length: u64) {
        if length == 0 {
            return;
        }
        let mut words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        let mut fresh = 0;
        for block in offset / BLOCK_BYTES..=(offset + length - 1) / BLOCK_BYTES {
            let (word, bit) = ((block / WORD_BLOCKS) as usize, 1 << (block % WORD_BLOCKS));
            if words.len() <= word {
                words.resize(word + 1, 0);
            }
            fresh += u64::from(words[word] & bit == 0);
            words[word] |= bit;
        }
        self.blocks.fetch_add(fresh, Ordering::Relaxed);
    }

    /// Notes that the file ends here: what was touched behind is gone.
    pub fn cut(&self, length: u64) {
        let mut words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = length.div_ceil(BLOCK_BYTES);
        words.truncate(kept.div_ceil(WORD_BLOCKS) as usize);
        if let Some(last) = words.get_mut((kept / WORD_BLOCKS) as usize) {
            *last &= (1 << (kept % WORD_BLOCKS)) - 1;
        }
        let blocks = words.iter().map(|word| u64::from(word.count_ones())).sum();
        self.blocks.store(blocks, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn touched_blocks_count_once_and_only_within_the_file() {
        let occupancy = Occupancy::default();
        let check = |expected_blocks: u64| assert_eq!(occupancy.bytes(), expected_blocks * BLOCK_BYTES);
        occupancy.touch(0, 0);
        check(0);
        occupancy.touch(4095, 2);
        check(2);
        occupancy.touch(0, 4096);
        check(2);
        occupancy.touch(63 * BLOCK_BYTES, 3 * BLOCK_BYTES);
        check(5);
        occupancy.cut(100 * BLOCK_BYTES);
        check(5);
        occupancy.cut(64 * BLOCK_BYTES + 1);
        check(4);
        occupancy.cut(64 * BLOCK_BYTES);
        check(3);
        occupancy.cut(1);
        check(1);
        occupancy.cut(0);
        check(0);
    }
}
