//! What each block of the database file held when it was last written or read, as a checksum in memory.
//!
//! The database library believes every byte that it reads. From a page that has rotted under it, it may
//! take a wrong turn, panic, or panic twice, which ends the process. So a block that is not what it was is
//! an error of the disk, before the library sees it. The check at opening reads every live page and
//! compares it with the checksums of the file; from then on all of them are known here.
//!
//! Four bytes for a block of 4 KiB: a MiB of memory for a GiB of file.
//!
//! Invariant: a checksum is that of what the file holds, or unknown.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes of a block: the page size of the database.
const BLOCK_BYTES: usize = 4096;
/// Stands for a block that has not been seen whole. Whoever has this very checksum is not checked.
const UNKNOWN: u32 = 0;

/// The checksum of every block of a file.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    checksums: Mutex<Vec<u32>>,
}

impl Blocks {
    /// Notes that these bytes of the file are about to be written: until it has worked, nobody can say what
    /// is there.
    pub fn writing(&self, offset: u64, length: usize) {
        let mut checksums = self.lock();
        let first = offset as usize / BLOCK_BYTES;
        let end = (offset as usize).saturating_add(length).div_ceil(BLOCK_BYTES);
        checksums.iter_mut().take(end).skip(first).for_each(|checksum| *checksum = UNKNOWN);
    }

    /// Notes what was written.
    pub fn wrote(&self, offset: u64, bytes: &[u8]) {
        let mut checksums = self.lock();
        for (number, block) in whole_blocks(offset, bytes) {
            set(&mut checksums, number, crc32c::crc32c(block));
        }
    }

    /// Checks what was read, and remembers what was not known.
    ///
    /// # Errors
    /// When a block is not what it was.
    pub fn check(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        for (number, block) in whole_blocks(offset, bytes) {
            let found = crc32c::crc32c(block);
            let mut checksums = self.lock();
            match checksums.get(number).copied().unwrap_or(UNKNOWN) {
                UNKNOWN => set(&mut checksums, number, found),
                known if known == found => {}
                known => {
                    let at = number * BLOCK_BYTES;
                    let text = format!(
                        "the block at offset {at} is damaged: its checksum is {found:#010x}, it had {known:#010x}"
                    );
                    return Err(io::Error::new(io::ErrorKind::InvalidData, text));
                }
            }
        }
        Ok(())
    }

    /// Notes that the file has this length now.
    pub fn resized(&self, length: u64) {
        self.lock().truncate(length as usize / BLOCK_BYTES);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<u32>> {
        self.checksums.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn set(checksums: &mut Vec<u32>, number: usize, checksum: u32) {
    if checksums.len() <= number {
        checksums.resize(number + 1, UNKNOWN);
    }
    checksums[number] = checksum;
}

/// The blocks that lie whole within these bytes of the file, with their numbers.
fn whole_blocks(offset: u64, bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let offset = offset as usize;
    let first = offset.div_ceil(BLOCK_BYTES);
    let begin = (first * BLOCK_BYTES - offset).min(bytes.len());
    bytes[begin..].chunks_exact(BLOCK_BYTES).enumerate().map(move |(at, block)| (first + at, block))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u64 = BLOCK_BYTES as u64;

    #[test]
    fn a_block_that_changed_is_refused() {
        let blocks = Blocks::default();
        let mut bytes = vec![7; 3 * BLOCK_BYTES];
        blocks.wrote(BLOCK, &bytes);
        blocks.check(BLOCK, &bytes).unwrap();
        bytes[BLOCK_BYTES + 5] ^= 1;
        let error = blocks.check(BLOCK, &bytes).unwrap_err().to_string();
        assert!(error.contains("offset 8192"), "{error}");
        blocks.check(BLOCK, &bytes[..BLOCK_BYTES]).unwrap();
        blocks.check(3 * BLOCK, &bytes[2 * BLOCK_BYTES..]).unwrap();
    }

    #[test]
    fn what_was_not_seen_whole_is_believed_and_then_known() {
        let blocks = Blocks::default();
        let block = vec![1; BLOCK_BYTES];
        blocks.check(5 * BLOCK, &block).unwrap();
        assert!(blocks.check(5 * BLOCK, &[2; BLOCK_BYTES]).is_err());
        // A part of a block leaves the whole unknown.
        blocks.writing(5 * BLOCK + 100, 20);
        blocks.wrote(5 * BLOCK + 100, &[3; 20]);
        blocks.check(5 * BLOCK, &[2; BLOCK_BYTES]).unwrap();
        blocks.check(5 * BLOCK, &[9; 320]).unwrap();
    }

    #[test]
    fn a_block_that_was_cut_off_is_forgotten() {
        let blocks = Blocks::default();
        blocks.wrote(0, &[1; 2 * BLOCK_BYTES]);
        blocks.resized(BLOCK + 1);
        blocks.check(BLOCK, &[0; BLOCK_BYTES]).unwrap();
        assert!(blocks.check(0, &[0; BLOCK_BYTES]).is_err());
    }
}
