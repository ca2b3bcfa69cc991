//! Whether the compares of a transaction hold.

use std::cmp::Ordering;

use bytes::Bytes;

use crate::mvcc::{LiveKey, View};
use crate::planted::{self, Bug};
use crate::proto::etcdserverpb::Compare;
use crate::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::types::{Error, KeyRange, LocalFault};

/// Whether every compare holds in `view`.
///
/// A compare of an interval must hold for every key in it. Where there is no key, numbers count as 0 and
/// a compare of the value never holds, whatever its operator.
///
/// # Errors
/// A fault when a value that is compared cannot be read.
pub(super) fn all_hold(view: &View, compares: &[Compare]) -> Result<bool, Error> {
    for compare in compares {
        if !holds(view, compare)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn holds(view: &View, compare: &Compare) -> Result<bool, Error> {
    let range = KeyRange::from_wire(compare.key.clone(), compare.range_end.clone());
    let mut found = false;
    for (_, live) in view.live_range(&range) {
        found = true;
        let accepted = accepts(compare, order(view, compare, live)?);
        if planted::is(Bug::AnyKeyOfIntervalHolds) && accepted {
            return Ok(true);
        }
        if !accepted && !planted::is(Bug::AnyKeyOfIntervalHolds) {
            return Ok(false);
        }
    }
    let by_value = compare.target == CompareTarget::Value as i32 && !planted::is(Bug::ValueCompareOnNothing);
    if found && planted::is(Bug::AnyKeyOfIntervalHolds) {
        return Ok(false);
    }
    Ok(found || (!by_value && accepts(compare, order_of_none(compare))))
}

/// Whether the operator is satisfied when the key's field stands in this order to the constant. An
/// operator that this version does not know is.
fn accepts(compare: &Compare, order: Ordering) -> bool {
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => order.is_eq(),
        Ok(CompareResult::NotEqual) => order.is_ne(),
        Ok(CompareResult::Greater) => order.is_gt(),
        Ok(CompareResult::Less) => order.is_lt(),
        Err(_) => true,
    }
}

/// How the field of a key stands to the constant; equal for a field that this version does not know.
fn order(view: &View, compare: &Compare, live: &LiveKey) -> Result<Ordering, Error> {
    Ok(match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Version) => live.version.cmp(&number(compare)),
        Ok(CompareTarget::Create) => live.create_revision.cmp(&number(compare)),
        Ok(CompareTarget::Mod) => live.modified.main.cmp(&number(compare)),
        Ok(CompareTarget::Lease) => live.lease.cmp(&number(compare)),
        Ok(CompareTarget::Value) => value_of(view, live)?[..].cmp(constant_value(compare)),
        Err(_) => Ordering::Equal,
    })
}

/// How the number that stands for an absent key stands to the constant.
fn order_of_none(compare: &Compare) -> Ordering {
    if CompareTarget::try_from(compare.target).is_ok() { 0.cmp(&number(compare)) } else { Ordering::Equal }
}

/// The constant, 0 unless it is given for the very field that is compared.
fn number(compare: &Compare) -> i64 {
    match (CompareTarget::try_from(compare.target), &compare.target_union) {
        (Ok(CompareTarget::Version), Some(TargetUnion::Version(number)))
        | (Ok(CompareTarget::Create), Some(TargetUnion::CreateRevision(number)))
        | (Ok(CompareTarget::Mod), Some(TargetUnion::ModRevision(number)))
        | (Ok(CompareTarget::Lease), Some(TargetUnion::Lease(number))) => *number,
        _ => 0,
    }
}

/// The constant of a compare of the value, empty unless it is given.
fn constant_value(compare: &Compare) -> &[u8] {
    match &compare.target_union {
        Some(TargetUnion::Value(value)) => value,
        _ => b"",
    }
}

/// The value of a live key of `view`.
///
/// # Errors
/// A fault when its record cannot be read.
pub(super) fn value_of(view: &View, live: &LiveKey) -> Result<Bytes, Error> {
    let record = view.live_record(live)?;
    match record.decode() {
        Ok(kv) => Ok(kv.value),
        Err(err) => {
            Err(LocalFault::new(format!("the record of {} is unreadable: {err}", live.modified)).into())
        }
    }
}
