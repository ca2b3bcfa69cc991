//! The bytes of one file in pages that images share: a copy of an image copies no bytes.
//!
//! Invariants:
//! - a page that is not there is zeros;
//! - there is no page behind the end, and the last page is zeros behind the end.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// Bytes of a page.
pub(super) const PAGE_BYTES: u64 = 4096;
const PAGE: usize = PAGE_BYTES as usize;
const ZERO_PAGE: &[u8; PAGE] = &[0; PAGE];

/// The bytes of a file. Clones share their pages until one of them is written to.
#[derive(Clone, Default)]
pub(super) struct Image {
    pages: BTreeMap<u64, Arc<[u8; PAGE]>>,
    length: u64,
}

impl Image {
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Fills `buffer` from `offset`; false when the file ends before.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> bool {
        if offset.checked_add(buffer.len() as u64).is_none_or(|end| end > self.length) {
            return false;
        }
        for (number, within, range) in pages_of(offset, buffer.len()) {
            let part = &mut buffer[range];
            match self.pages.get(&number) {
                Some(page) => part.copy_from_slice(&page[within..within + part.len()]),
                None => part.fill(0),
            }
        }
        true
    }

    /// Writes `bytes` at `offset`; the file becomes longer when it ends before.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        self.length = self.length.max(offset + bytes.len() as u64);
        for (number, within, range) in pages_of(offset, bytes.len()) {
            let part = &bytes[range];
            let zeros = part == &ZERO_PAGE[..part.len()];
            if zeros && part.len() == PAGE {
                self.pages.remove(&number);
            } else if !zeros || self.pages.contains_key(&number) {
                let page = self.pages.entry(number).or_insert_with(|| Arc::new(*ZERO_PAGE));
                Arc::make_mut(page)[within..within + part.len()].copy_from_slice(part);
            }
        }
    }

    /// Makes the file this long: cut, or filled with zeros.
    pub fn set_length(&mut self, length: u64) {
        if length < self.length {
            self.pages.split_off(&length.div_ceil(PAGE_BYTES));
            if let Some(last) = self.pages.get_mut(&(length / PAGE_BYTES)) {
                Arc::make_mut(last)[(length % PAGE_BYTES) as usize..].fill(0);
            }
        }
        self.length = length;
    }

    /// Numbers of the pages at or behind `length` that are not all zeros.
    pub fn pages_behind(&self, length: u64) -> impl Iterator<Item = u64> {
        self.pages.range(length / PAGE_BYTES..).map(|(number, _)| *number)
    }

    /// Makes one page what it is in another image. The lengths must be made equal afterwards.
    pub fn take_page(&mut self, from: &Image, number: u64) {
        match from.pages.get(&number) {
            Some(page) => self.pages.insert(number, page.clone()),
            None => self.pages.remove(&number),
        };
    }
}

/// Numbers of the pages that these bytes lie in.
pub(super) fn touched(offset: u64, length: usize) -> RangeInclusive<u64> {
    debug_assert!(length > 0, "no bytes lie in no page");
    offset / PAGE_BYTES..=(offset + length as u64 - 1) / PAGE_BYTES
}

/// Splits bytes at the borders of pages: number of the page, where in it, and which of the bytes.
fn pages_of(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut from = 0;
    std::iter::from_fn(move || {
        if from == length {
            return None;
        }
        let at = offset + from as u64;
        let within = (at % PAGE_BYTES) as usize;
        let to = length.min(from + PAGE - within);
        let part = (at / PAGE_BYTES, within, from..to);
        from = to;
        Some(part)
    })
}
