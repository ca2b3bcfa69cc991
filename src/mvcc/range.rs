//! What a Range request means, over one [`View`] of the store.
//!
//! ```text
//! keys of the interval alive at the revision        -> count
//!   -> only the first limit + 1, in default order
//!   -> filters by revision -> sort -> cut to limit  -> more
//!   -> records, or what the index knows of them     -> kvs
//! ```
//!
//! At the latest revision, counting and cutting are positions in the index and cost O(log n); only keys
//! that can be part of the answer are looked at, and only records that are part of it are read.
//!
//! [`range`] gathers an answer whole. [`RangeScan`] gives a large one piece by piece; it knows the exact
//! encoded size from the start and holds no record.
//!
//! Invariants:
//! - `count` is independent of limit and filters; `more` says that `limit` cut the result;
//! - at a past revision, the answer is what it was then, whatever happened since;
//! - a scan emits exactly the bytes it announced.

use std::ops::Bound;

use bytes::{Bytes, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint, int64};

use super::tree::{Tree, Weigh};
use super::{Key, KeyAt, LiveKey, View};
use crate::planted::{self, Bug};
use crate::proto::etcdserverpb::RangeRequest;
use crate::proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::proto::{EncodedKeyValue, KeyValue};
use crate::types::{Error, KeyRange, LocalFault, RangeEnd, RequestError};

/// About what an encoded record takes beside its key when it has neither value nor lease.
const INDEX_FIELDS_BYTES: usize = 20;

#[cfg(test)]
mod tests;

/// Number of the field `kvs` in `RangeResponse`.
const KVS_FIELD: u32 = 2;

/// A Range request, checked and understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeQuery {
    /// Which keys.
    pub range: KeyRange,
    /// Most keys to give; 0 or below for all.
    pub limit: i64,
    /// Revision to read at; 0 or below for the latest.
    pub revision: i64,
    /// Direction of the sort.
    pub sort_order: SortOrder,
    /// What to sort by.
    pub sort_target: SortTarget,
    /// Whether to leave values out.
    pub keys_only: bool,
    /// Whether to give only the count.
    pub count_only: bool,
    /// Lowest modification revision to give; 0 for any. So are the three below.
    pub min_mod_revision: i64,
    /// Highest modification revision.
    pub max_mod_revision: i64,
    /// Lowest creation revision.
    pub min_create_revision: i64,
    /// Highest creation revision.
    pub max_create_revision: i64,
}

impl RangeQuery {
    /// All keys of `range` at the latest revision, in key order.
    pub fn new(range: KeyRange) -> Self {
        Self {
            range,
            limit: 0,
            revision: 0,
            sort_order: SortOrder::None,
            sort_target: SortTarget::Key,
            keys_only: false,
            count_only: false,
            min_mod_revision: 0,
            max_mod_revision: 0,
            min_create_revision: 0,
            max_create_revision: 0,
        }
    }

    /// Reads a Range request.
    ///
    /// # Errors
    /// `EmptyKey`; `InvalidSortOption` for an unknown order or target.
    pub fn from_request(request: &RangeRequest) -> Result<Self, RequestError> {
        if request.key.is_empty() {
            return Err(RequestError::EmptyKey);
        }
        let invalid = |_| RequestError::InvalidSortOption;
        Ok(Self {
            range: KeyRange::from_wire(request.key.clone(), request.range_end.clone()),
            limit: request.limit,
            revision: request.revision,
            sort_order: SortOrder::try_from(request.sort_order).map_err(invalid)?,
            sort_target: SortTarget::try_from(request.sort_target).map_err(invalid)?,
            keys_only: request.keys_only,
            count_only: request.count_only,
            min_mod_revision: request.min_mod_revision,
            max_mod_revision: request.max_mod_revision,
            min_create_revision: request.min_create_revision,
            max_create_revision: request.max_create_revision,
        })
    }

    /// Reads a RangeStream request: always in key order and unfiltered. Without an order the target has
    /// no effect on a stream.
    ///
    /// # Errors
    /// Those of [`RangeQuery::from_request`], then `RangeStreamSort`, then `RangeStreamFilter`.
    pub fn from_stream_request(request: &RangeRequest) -> Result<Self, RequestError> {
        let mut query = Self::from_request(request)?;
        if query.sort_order == SortOrder::None {
            query.sort_target = SortTarget::Key;
        }
        if !query.in_key_order() {
            return Err(RequestError::RangeStreamSort);
        }
        if query.has_filters() {
            return Err(RequestError::RangeStreamFilter);
        }
        Ok(query)
    }

    /// Whether the answer comes in ascending order of keys.
    fn in_key_order(&self) -> bool {
        self.sort_target == SortTarget::Key && self.sort_order != SortOrder::Descend
    }

    fn has_filters(&self) -> bool {
        let filters = [
            self.min_mod_revision,
            self.max_mod_revision,
            self.min_create_revision,
            self.max_create_revision,
        ];
        filters != [0; 4]
    }

    /// Most keys to give.
    fn limit(&self) -> usize {
        if self.limit > 0 { usize::try_from(self.limit).unwrap_or(usize::MAX) } else { usize::MAX }
    }

    /// Which keys of the interval can be part of the answer.
    fn candidates(&self) -> Candidates {
        let one_further = self.limit().saturating_add(1);
        if self.has_filters() && !planted::is(Bug::LimitBeforeFilters) {
            Candidates::All
        } else if self.in_key_order() || self.sort_order == SortOrder::None {
            // Without an order the limit comes before the sort, whatever the target. That is an oddity
            // of etcd, down to the one further key that may be sorted into the answer.
            Candidates::First(one_further)
        } else if self.sort_target == SortTarget::Key {
            Candidates::Last(one_further)
        } else {
            Candidates::All
        }
    }
}

/// The keys of an interval that can be part of an answer, in key order.
#[derive(Clone, Copy)]
enum Candidates {
    All,
    First(usize),
    Last(usize),
}

/// The answer to a Range request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RangeResult {
    /// The records asked for, in order.
    pub kvs: Vec<EncodedKeyValue>,
    /// Whether the limit cut the result.
    pub more: bool,
    /// How many keys the interval has at the revision.
    pub count: i64,
}

/// Answers a Range request.
///
/// # Errors
/// `FutureRevision` and `Compacted` for a revision that cannot be read; a fault when a record cannot.
pub fn range(view: &View, query: &RangeQuery) -> Result<RangeResult, Error> {
    let mut revision = view.check_revision(query.revision)?;
    if planted::is(Bug::CountOfThePresent) && query.count_only {
        revision = view.revision();
    }
    let (count, mut keys) =
        if revision == view.revision() { live_keys(view, query) } else { past_keys(view, query, revision) };
    let count = count as i64;
    if query.count_only {
        return Ok(RangeResult { count, ..RangeResult::default() });
    }
    if query.has_filters() {
        keys.retain(|key| passes(query, key));
    }
    let (kvs, more) = if query.sort_target == SortTarget::Value {
        records_by_value(view, query, keys)?
    } else {
        records_by_index(view, query, keys)?
    };
    let count = if planted::is(Bug::CountCutByLimit) && more { kvs.len() as i64 } else { count };
    Ok(RangeResult { kvs, more, count })
}

/// Whether a key passes the filters by revision.
fn passes(query: &RangeQuery, key: &KeyAt<'_>) -> bool {
    let within = |revision, min, max| (min == 0 || revision >= min) && (max == 0 || revision <= max);
    within(key.modified.main, query.min_mod_revision, query.max_mod_revision)
        && within(key.create_revision, query.min_create_revision, query.max_create_revision)
}

/// Number of keys alive in the interval now, and the candidates among them.
fn live_keys<'a>(view: &'a View, query: &RangeQuery) -> (usize, Vec<KeyAt<'a>>) {
    let live = view.live();
    if query.range.is_single() {
        let found = live.get_key_value(&query.range.start[..]);
        let keys: Vec<_> = found.map(|(key, live)| KeyAt::from_live(key, live)).into_iter().collect();
        return (keys.len(), keys);
    }
    let (from, to) = positions(live, &query.range);
    if query.count_only {
        return (to - from, Vec::new());
    }
    let (first, last) = match query.candidates() {
        Candidates::All => (from, to),
        Candidates::First(most) => (from, to.min(from.saturating_add(most))),
        Candidates::Last(most) => (from.max(to.saturating_sub(most)), to),
    };
    (to - from, live.ranks(first, last).map(|(key, live)| KeyAt::from_live(key, live)).collect())
}

/// Number of keys alive in the interval at `revision`, and the candidates among them.
fn past_keys<'a>(view: &'a View, query: &RangeQuery, revision: i64) -> (usize, Vec<KeyAt<'a>>) {
    let most = match query.candidates() {
        _ if query.count_only => 0,
        Candidates::First(most) => most,
        Candidates::All | Candidates::Last(_) => usize::MAX,
    };
    let mut count = 0;
    let mut keys = Vec::new();
    for key in view.keys_at(&query.range, revision) {
        count += 1;
        if keys.len() < most {
            keys.push(key);
        }
    }
    (count, keys)
}

/// The positions of the keys of `range` in the index: from the first up to but without the second.
fn positions(live: &Tree<Key, LiveKey>, range: &KeyRange) -> (usize, usize) {
    let start = &range.start[..];
    let from = live.rank(Bound::Included(start));
    let to = match &range.end {
        RangeEnd::Single => live.rank(Bound::Excluded(start)),
        RangeEnd::Open => live.len(),
        RangeEnd::Before(end) => live.rank(Bound::Included(&end[..])),
    };
    (from, to.max(from))
}

/// Cuts a result to `limit` and says whether that took anything away.
fn cut<T>(results: &mut Vec<T>, limit: usize) -> bool {
    let more = results.len() > limit;
    results.truncate(limit);
    more
}

/// Sorts by what the index knows, then reads the records of the answer alone. Ties stay in key order.
fn records_by_index(
    view: &View,
    query: &RangeQuery,
    mut keys: Vec<KeyAt<'_>>,
) -> Result<(Vec<EncodedKeyValue>, bool), Error> {
    let descending = query.sort_order == SortOrder::Descend;
    let mut sort_by = |number: fn(&KeyAt<'_>) -> i64| {
        if descending {
            keys.sort_by_key(|key| std::cmp::Reverse(number(key)));
        } else {
            keys.sort_by_key(number);
        }
    };
    match query.sort_target {
        SortTarget::Version => sort_by(|key| key.version),
        SortTarget::Create => sort_by(|key| key.create_revision),
        SortTarget::Mod => sort_by(|key| key.modified.main),
        SortTarget::Key if descending => keys.reverse(),
        SortTarget::Key | SortTarget::Value => {}
    }
    let more = cut(&mut keys, query.limit());
    if query.keys_only {
        return Ok((index_records(&keys), more));
    }
    Ok((keys.iter().map(|key| view.record_at(key)).collect::<Result<_, _>>()?, more))
}

/// Records as far as the index knows them: without value and, as in etcd 3.7, without lease. They share
/// one buffer, since memory of its own for each would cost more than all the rest.
fn index_records(keys: &[KeyAt<'_>]) -> Vec<EncodedKeyValue> {
    let capacity = keys.iter().map(|key| key.key.len() + INDEX_FIELDS_BYTES).sum();
    let mut buffer = BytesMut::with_capacity(capacity);
    let mut ends = Vec::with_capacity(keys.len());
    for key in keys {
        encode_key(1, WireType::LengthDelimited, &mut buffer);
        encode_varint(key.key.len() as u64, &mut buffer);
        buffer.extend_from_slice(key.key);
        int64::encode(2, &key.create_revision, &mut buffer);
        int64::encode(3, &key.modified.main, &mut buffer);
        int64::encode(4, &key.version, &mut buffer);
        ends.push(buffer.len());
    }
    let records = buffer.freeze();
    let mut start = 0;
    let cut = |end| EncodedKeyValue::from_bytes(records.slice(std::mem::replace(&mut start, end)..end));
    ends.into_iter().map(cut).collect()
}

/// Reads the records of all candidates to sort them by value. Ties stay in key order.
fn records_by_value(
    view: &View,
    query: &RangeQuery,
    keys: Vec<KeyAt<'_>>,
) -> Result<(Vec<EncodedKeyValue>, bool), Error> {
    let mut records = Vec::with_capacity(keys.len());
    for key in &keys {
        let record = view.record_at(key)?;
        records.push((decode(&record)?.value, record));
    }
    if query.sort_order == SortOrder::Descend {
        records.sort_by(|(one, _), (other, _)| other.cmp(one));
    } else {
        records.sort_by(|(one, _), (other, _)| one.cmp(other));
    }
    let more = cut(&mut records, query.limit());
    let mut kvs: Vec<_> = records.into_iter().map(|(_, record)| record).collect();
    if query.keys_only {
        for record in &mut kvs {
            *record = KeyValue { value: Bytes::new(), ..decode(record)? }.into();
        }
    }
    Ok((kvs, more))
}

/// The fields of a record of the store.
fn decode(record: &EncodedKeyValue) -> Result<KeyValue, LocalFault> {
    record.decode().map_err(|err| LocalFault::new(format!("a record of the store is unreadable: {err}")))
}

/// A large answer in pieces: the records of an interval in key order at the latest revision of one view,
/// which it keeps alive. Nothing is read before it is asked for.
pub struct RangeScan {
    view: View,
    /// Position in the index of the next record, and of the first one beyond the answer.
    next: usize,
    end: usize,
    count: i64,
    more: bool,
    total_len: u64,
    emitted: u64,
}

impl RangeScan {
    /// A scan that gives the `kvs` of the answer to `query`, or `None` when [`range`] must gather it: when
    /// it is sorted or filtered, at a past revision, or without values.
    ///
    /// # Errors
    /// As [`range`] for the revision.
    pub fn new(view: View, query: &RangeQuery) -> Result<Option<Self>, Error> {
        let revision = view.check_revision(query.revision)?;
        let plain = query.in_key_order() && !query.has_filters() && !query.keys_only;
        if !plain || revision != view.revision() {
            return Ok(None);
        }
        let live = view.live();
        let (from, to) = positions(live, &query.range);
        let limit = if query.count_only { 0 } else { query.limit() };
        let end = to.min(from.saturating_add(limit));
        Ok(Some(Self {
            next: from,
            end,
            count: (to - from) as i64,
            more: end < to && !query.count_only,
            total_len: live.weight_before(end) - live.weight_before(from),
            emitted: 0,
            view,
        }))
    }

    /// How many keys the interval has.
    pub fn count(&self) -> i64 {
        self.count
    }

    /// Whether the limit cut the result.
    pub fn more(&self) -> bool {
        self.more
    }

    /// The view that is read.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// How many records are still to come.
    pub fn remaining(&self) -> usize {
        self.end - self.next
    }

    /// Encoded size in bytes of all `kvs` fields of the answer, those given already included.
    pub fn total_len(&self) -> u64 {
        self.total_len
    }

    /// Appends the next `kvs` fields to `out`, encoded: one at least, then more as long as they fit into
    /// `max_bytes`. Says whether some are still to come.
    ///
    /// # Errors
    /// A fault when a record cannot be read.
    pub fn next_chunk(&mut self, max_bytes: usize, out: &mut BytesMut) -> Result<bool, Error> {
        let start = out.len();
        let mut given = 0;
        for (_, live) in self.view.live().ranks(self.next, self.end) {
            let fits = (out.len() - start) as u64 + live.weight() <= max_bytes as u64;
            if given > 0 && !fits {
                break;
            }
            let record = self.view.live_record(live)?;
            encode_kvs_field(&record, live, out);
            given += 1;
        }
        self.advance(given, (out.len() - start) as u64);
        Ok(self.remaining() > 0)
    }

    /// The next records, at most `max_keys`; none at the end.
    ///
    /// # Errors
    /// A fault when a record cannot be read.
    pub fn next_records(&mut self, max_keys: usize) -> Result<Vec<EncodedKeyValue>, Error> {
        let end = self.end.min(self.next.saturating_add(max_keys));
        let mut records = Vec::with_capacity(end - self.next);
        let mut len = 0;
        for (_, live) in self.view.live().ranks(self.next, end) {
            records.push(self.view.live_record(live)?);
            len += live.weight();
        }
        self.advance(records.len(), len);
        Ok(records)
    }

    fn advance(&mut self, records: usize, bytes: u64) {
        self.next += records;
        self.emitted += bytes;
        if self.next == self.end {
            assert_eq!(self.emitted, self.total_len, "a scan gave other bytes than it announced");
        }
    }
}

/// Appends a record as one element of `RangeResponse.kvs`.
fn encode_kvs_field(record: &EncodedKeyValue, live: &LiveKey, out: &mut BytesMut) {
    let start = out.len();
    encode_key(KVS_FIELD, WireType::LengthDelimited, out);
    encode_varint(record.as_bytes().len() as u64, out);
    out.extend_from_slice(record.as_bytes());
    let len = (out.len() - start) as u64;
    assert_eq!(len, live.weight(), "the index has the wrong size for the record of {}", live.modified);
}
