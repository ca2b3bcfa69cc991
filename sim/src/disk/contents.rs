//! One file: what programs see of it, what the medium holds, and what lies in between.
//!
//! ```text
//!        write, set length                   sync
//!   ----------------------> live, dirty ------------> durable
//!                            |     ^                    |
//!                failed sync |     | written again      | opened for reading
//!                            v     |                    v
//!                           live, orphaned ---------> live
//! ```
//!
//! A failed sync leaves pages behind that the system takes for clean: programs see them, no later sync
//! writes them. They are called orphaned here.
//!
//! Invariants:
//! - a page in which both images differ is dirty or orphaned;
//! - every change that is not durable yet is in `unsynced`, except those that a failed sync has dropped.

use std::collections::BTreeSet;

use bytes::Bytes;
use rand::seq::SliceRandom;

use super::fault::Cut;
use super::image::{Image, touched};
use crate::random::{Draw, Random};

/// Most zeros that need no memory while they are not synced.
static ZEROS: [u8; 1 << 20] = [0; 1 << 20];

/// The contents of a file.
#[derive(Clone, Default)]
pub(super) struct Contents {
    live: Image,
    durable: Image,
    unsynced: Vec<Change>,
    /// Pages that the next sync writes.
    dirty: BTreeSet<u64>,
    orphaned: BTreeSet<u64>,
    /// Whether a sync said that it was done and was not.
    owes: bool,
}

#[derive(Clone)]
enum Change {
    Write(u64, Bytes),
    SetLength(u64),
}

/// A part of a change that reaches the medium as a whole or not at all.
enum Piece<'a> {
    Bytes(u64, &'a [u8]),
    SetLength(u64),
    /// A write has made the file longer.
    Extend(u64),
}

impl Contents {
    /// What programs see.
    pub fn live(&self) -> &Image {
        &self.live
    }

    /// Whether something was written that no sync has made durable.
    pub fn is_unsynced(&self) -> bool {
        !self.unsynced.is_empty()
    }

    /// Whether a lying sync has left something that is not durable.
    pub fn owes(&self) -> bool {
        self.owes
    }

    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.live.write(offset, bytes);
        for page in touched(offset, bytes.len()) {
            self.soil(page);
        }
        let zeros = bytes.len() <= ZEROS.len() && bytes == &ZEROS[..bytes.len()];
        let kept =
            if zeros { Bytes::from_static(&ZEROS[..bytes.len()]) } else { Bytes::copy_from_slice(bytes) };
        self.unsynced.push(Change::Write(offset, kept));
    }

    pub fn set_length(&mut self, length: u64) {
        // Pages that are cut off are void on the medium as well, also when the file grows again.
        let behind: Vec<u64> =
            self.live.pages_behind(length).chain(self.durable.pages_behind(length)).collect();
        behind.into_iter().for_each(|page| self.soil(page));
        self.live.set_length(length);
        self.unsynced.push(Change::SetLength(length));
    }

    /// Makes everything durable.
    pub fn sync(&mut self) {
        self.durable.set_length(self.live.length());
        for page in std::mem::take(&mut self.dirty) {
            self.durable.take_page(&self.live, page);
        }
        self.unsynced.clear();
        self.owes = false;
    }

    /// Says that everything is durable, and does nothing.
    pub fn sync_as_a_lie(&mut self) {
        self.owes |= !self.unsynced.is_empty();
    }

    /// Makes some of what is not synced durable, as the cut says. The rest still waits.
    pub fn write_back(&mut self, cut: &Cut, random: &mut Random) {
        let mut pieces = pieces(&self.unsynced, self.durable.length(), cut.unit_bytes);
        pieces.retain(|_| random.percent(cut.survival_percent));
        if !cut.in_order {
            pieces.shuffle(random);
        }
        for piece in pieces {
            match piece {
                Piece::Bytes(offset, bytes) => self.durable.write(offset, bytes),
                Piece::SetLength(length) => self.durable.set_length(length),
                Piece::Extend(length) if self.durable.length() < length => self.durable.set_length(length),
                Piece::Extend(_) => {}
            }
        }
    }

    /// Makes some of it durable and forgets that the rest ever waited.
    pub fn fail_sync(&mut self, cut: &Cut, random: &mut Random) {
        self.write_back(cut, random);
        self.orphaned.append(&mut self.dirty);
        self.unsynced.clear();
    }

    /// Programs see of clean pages what is on the medium.
    pub fn forget_orphans(&mut self) {
        for page in std::mem::take(&mut self.orphaned) {
            self.live.take_page(&self.durable, page);
        }
    }

    /// Leaves what is durable, and what the cut lets survive.
    pub fn cut(&mut self, cut: &Cut, random: &mut Random) {
        self.write_back(cut, random);
        self.unsynced.clear();
        self.orphaned.append(&mut self.dirty);
        self.forget_orphans();
        self.live.set_length(self.durable.length());
        self.owes = false;
    }

    /// Changes bytes on the medium, behind everybody's back. Bytes behind the end stay away.
    pub fn damage(&mut self, offset: u64, change: &dyn Fn(&mut [u8]), length: usize) {
        let mut buffer = vec![0; length];
        for image in [&mut self.live, &mut self.durable] {
            if image.read(offset, &mut buffer) {
                change(&mut buffer);
                image.write(offset, &buffer);
            }
        }
    }

    fn soil(&mut self, page: u64) {
        self.orphaned.remove(&page);
        self.dirty.insert(page);
    }
}

/// Splits changes at every multiple of `unit` in the file. `length` is that of the file before them.
fn pieces(changes: &[Change], mut length: u64, unit: u64) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    for change in changes {
        match change {
            Change::SetLength(to) => {
                length = *to;
                pieces.push(Piece::SetLength(length));
            }
            Change::Write(offset, bytes) => {
                if offset + bytes.len() as u64 > length {
                    length = offset + bytes.len() as u64;
                    pieces.push(Piece::Extend(length));
                }
                let mut from = 0;
                while from < bytes.len() {
                    let at = offset + from as u64;
                    let room = usize::try_from(unit - at % unit).unwrap_or(usize::MAX);
                    let to = bytes.len().min(from.saturating_add(room));
                    pieces.push(Piece::Bytes(at, &bytes[from..to]));
                    from = to;
                }
            }
        }
    }
    pieces
}
