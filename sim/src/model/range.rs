//! Reads: which keys an interval has at a moment, and what a Range makes of them (etcd 2.3, 2.4).

use bytes::Bytes;
use detcd::proto::KeyValue;
use detcd::proto::etcdserverpb as pb;
use detcd::proto::etcdserverpb::range_request::{SortOrder, SortTarget};

use super::request::check_range;
use super::{Refusal, Store};

/// What a read depends on beside its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The store's revision.
    pub revision: i64,
    /// The revision up to which it is compacted, -1 for none.
    pub compacted: i64,
}

/// The keys that `key` and `range_end` of a request name.
#[derive(Clone, Copy, Debug)]
pub struct Interval<'a> {
    /// The first key, or the only one.
    pub key: &'a [u8],
    /// `range_end` as it was sent.
    pub range_end: &'a [u8],
}

impl<'a> Interval<'a> {
    /// The interval of a request.
    pub fn new(key: &'a [u8], range_end: &'a [u8]) -> Self {
        Self { key, range_end }
    }

    /// Whether it names this key.
    pub fn contains(&self, key: &[u8]) -> bool {
        match self.range_end {
            b"" => key == self.key,
            b"\0" => key >= self.key,
            end => key >= self.key && key < end,
        }
    }

    /// Whether no key can be in it.
    pub fn is_empty(&self) -> bool {
        !self.range_end.is_empty() && self.range_end != b"\0" && self.range_end <= self.key
    }
}

/// What a Range of its own must answer at a moment.
pub(super) fn answer(
    store: &Store,
    request: &pb::RangeRequest,
    moment: Moment,
) -> Result<pb::RangeResponse, Refusal> {
    check_range(request)?;
    let at = match request.revision {
        ..=0 => moment.revision,
        asked if asked > moment.revision => return Err(Refusal::Future),
        asked if asked < moment.compacted => return Err(Refusal::Compacted),
        asked => asked,
    };
    Ok(read(store, request, at, moment.revision))
}

/// Reads at `at`, whatever the request says of a revision. The header gets `header`.
pub(super) fn read(store: &Store, request: &pb::RangeRequest, at: i64, header: i64) -> pb::RangeResponse {
    let mut found = store.alive(Interval::new(&request.key, &request.range_end), at);
    let header = Some(pb::ResponseHeader { revision: header, ..Default::default() });
    let count = found.len() as i64;
    if request.count_only {
        return pb::RangeResponse { header, kvs: Vec::new(), more: false, count };
    }
    let limit = usize::try_from(request.limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
    // Without an order and filters the limit comes first: that many keys and one more, in key order.
    if request.sort_order == SortOrder::None as i32 && !has_filters(request) {
        found.truncate(limit.saturating_add(1));
    }
    found.retain(|record| passes(request, record));
    sort(request, &mut found);
    let more = found.len() > limit;
    found.truncate(limit);
    let by_value = request.sort_target == SortTarget::Value as i32;
    let kvs = found.into_iter().map(|record| match request.keys_only {
        false => record.into(),
        // Taken from the index, which does not know leases, unless the values were needed (etcd 3.7).
        true => {
            let lease = if by_value { record.lease } else { 0 };
            KeyValue { value: Bytes::new(), lease, ..record.clone() }.into()
        }
    });
    pb::RangeResponse { header, kvs: kvs.collect(), more, count }
}

fn has_filters(request: &pb::RangeRequest) -> bool {
    request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0
}

fn passes(request: &pb::RangeRequest, record: &KeyValue) -> bool {
    let within = |revision, least, most| (least == 0 || revision >= least) && (most == 0 || revision <= most);
    within(record.mod_revision, request.min_mod_revision, request.max_mod_revision)
        && within(record.create_revision, request.min_create_revision, request.max_create_revision)
}

/// Sorts records that are in key order, which is what decides between equals.
fn sort(request: &pb::RangeRequest, records: &mut [&KeyValue]) {
    let descending = request.sort_order == SortOrder::Descend as i32;
    let target = SortTarget::try_from(request.sort_target).unwrap_or(SortTarget::Key);
    records.sort_by(|one, other| {
        let order = match target {
            SortTarget::Key => one.key.cmp(&other.key),
            SortTarget::Version => one.version.cmp(&other.version),
            SortTarget::Create => one.create_revision.cmp(&other.create_revision),
            SortTarget::Mod => one.mod_revision.cmp(&other.mod_revision),
            SortTarget::Value => one.value.cmp(&other.value),
        };
        if descending { order.reverse() } else { order }
    });
}
