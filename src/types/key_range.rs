//! An interval of keys, as `key` and `range_end` of a request describe it (etcd: `range_end` rules).

use bytes::Bytes;

/// Where a [`KeyRange`] ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RangeEnd {
    /// The range is its first key alone.
    Single,
    /// The range has no end (`range_end` of one zero byte).
    Open,
    /// The range ends before this key; empty when that is not above the start.
    Before(Bytes),
}

/// The keys from `start` up to `end`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyRange {
    /// First key, part of the range.
    pub start: Bytes,
    /// End of the range.
    pub end: RangeEnd,
}

impl KeyRange {
    /// Reads a request's `key` and `range_end`. An empty `key` is the caller's to refuse or replace.
    pub fn from_wire(key: Bytes, range_end: Bytes) -> Self {
        let end = match range_end.as_ref() {
            b"" => RangeEnd::Single,
            b"\0" => RangeEnd::Open,
            _ => RangeEnd::Before(range_end),
        };
        Self { start: key, end }
    }

    /// The range of one key.
    pub fn single(key: impl Into<Bytes>) -> Self {
        Self { start: key.into(), end: RangeEnd::Single }
    }

    /// Every key there is.
    pub fn all() -> Self {
        Self { start: Bytes::new(), end: RangeEnd::Open }
    }

    /// The keys that begin with `prefix`; every key when it is empty.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let start: Bytes = prefix.into();
        let kept = start.iter().rposition(|&byte| byte != 0xff).map_or(0, |last| last + 1);
        let end = if kept == 0 {
            RangeEnd::Open
        } else {
            let mut end = start[..kept].to_vec();
            end[kept - 1] += 1;
            RangeEnd::Before(end.into())
        };
        Self { start, end }
    }

    /// The `range_end` that a request would carry for this range.
    pub fn wire_end(&self) -> Bytes {
        match &self.end {
            RangeEnd::Single => Bytes::new(),
            RangeEnd::Open => Bytes::from_static(b"\0"),
            RangeEnd::Before(end) => end.clone(),
        }
    }

    /// Whether `key` lies in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            RangeEnd::Single => key == self.start,
            RangeEnd::Open => key >= self.start.as_ref(),
            RangeEnd::Before(end) => key >= self.start.as_ref() && key < end.as_ref(),
        }
    }

    /// Whether the range is one key, named as such.
    pub fn is_single(&self) -> bool {
        self.end == RangeEnd::Single
    }

    /// Whether no key can lie in the range.
    pub fn is_empty(&self) -> bool {
        matches!(&self.end, RangeEnd::Before(end) if *end <= self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_prefix(prefix: &'static [u8], end: RangeEnd) {
        let range = KeyRange::prefix(prefix);
        assert_eq!(range.end, end, "prefix {prefix:?}");
        assert!(range.contains(prefix), "prefix {prefix:?}");
    }

    #[test]
    fn a_prefix_ends_before_the_next_sibling() {
        check_prefix(b"a", RangeEnd::Before(Bytes::from_static(b"b")));
        check_prefix(b"a\xff", RangeEnd::Before(Bytes::from_static(b"b")));
        check_prefix(b"\xff\xff", RangeEnd::Open);
        check_prefix(b"", RangeEnd::Open);
    }

    #[test]
    fn wire_forms_mean_what_etcd_says() {
        let wire = |key: &'static str, end: &'static str| KeyRange::from_wire(key.into(), end.into());
        assert!(wire("k", "").is_single());
        assert!(wire("k", "\0").contains(b"z") && !wire("k", "\0").contains(b"a"));
        assert!(wire("b", "a").is_empty() && wire("b", "b").is_empty());
        assert!(wire("a", "c").contains(b"b") && !wire("a", "c").contains(b"c"));
        assert_eq!(wire("a", "c").wire_end(), "c");
    }
}
