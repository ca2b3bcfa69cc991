//! The alarms of the cluster: which member has run out of space, and whose data is corrupt.
//!
//! An alarm is a pair of a member and a kind. It is raised and cleared through the log, so every member
//! knows the same alarms at the same point of history; none clears itself, and a restart keeps them. What
//! an alarm refuses is decided by whoever handles requests, from [`Alarms::nospace`] and
//! [`Alarms::corrupt`].
//!
//! Invariants:
//! - raising an alarm that is raised, and clearing one that is not, change nothing;
//! - the kind "none" is never raised.

use std::collections::BTreeSet;

use bytes::Bytes;
use prost::Message;

use crate::planted::{self, Bug};
use crate::proto::etcdserverpb::alarm_request::AlarmAction;
use crate::proto::etcdserverpb::{AlarmMember, AlarmRequest, AlarmResponse, AlarmType};
use crate::types::LocalFault;
use crate::types::backend::Table;

/// The alarms that are raised. See the head of the module.
#[derive(Debug, Default)]
pub struct Alarms {
    /// Kind by its number, then member: the order in which alarms are listed.
    raised: BTreeSet<(i32, u64)>,
    changed_rows: Vec<(Table, Bytes, Option<Bytes>)>,
}

/// Numbers for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AlarmStatistics {
    /// Members that ran out of space.
    pub nospace: usize,
    /// Members whose data is corrupt.
    pub corrupt: usize,
}

impl Alarms {
    /// No alarm.
    pub fn new() -> Self {
        Self::default()
    }

    /// The alarms that the rows of [`Table::Alarm`] describe.
    ///
    /// # Errors
    /// When a row is not what this module wrote.
    pub fn restore(rows: Vec<(Bytes, Bytes)>) -> Result<Self, LocalFault> {
        let mut alarms = Self::new();
        for (key, _) in rows {
            let alarm = AlarmMember::decode(key.clone())
                .map_err(|error| LocalFault::new(format!("alarm table: row {key:02x?}: {error}")))?;
            if !planted::is(Bug::AlarmsForgotten) {
                alarms.raised.insert((alarm.alarm, alarm.member_id));
            }
        }
        Ok(alarms)
    }

    /// Applies a request; the answer lists the alarms that it is about, without a header.
    ///
    /// Listing ignores the member and takes the kind "none" for all. Clearing must name member and kind.
    /// Raising an alarm twice answers it twice. An unknown action answers nothing.
    pub fn apply(&mut self, request: &AlarmRequest) -> AlarmResponse {
        let alarm = AlarmMember { member_id: request.member_id, alarm: request.alarm };
        let alarms = match AlarmAction::try_from(request.action) {
            Ok(AlarmAction::Get) => self.list(request.alarm),
            Ok(AlarmAction::Activate) => self.activate(alarm),
            Ok(AlarmAction::Deactivate) => self.deactivate(alarm),
            Err(_) => Vec::new(),
        };
        AlarmResponse { header: None, alarms }
    }

    /// Every alarm, by kind and then by member.
    pub fn all(&self) -> Vec<AlarmMember> {
        self.list(AlarmType::None as i32)
    }

    /// Whether an alarm of this kind is raised for any member.
    pub fn is_active(&self, kind: AlarmType) -> bool {
        self.count(kind) > 0
    }

    /// Whether any member has run out of space: what needs more of it is to be refused.
    pub fn nospace(&self) -> bool {
        self.is_active(AlarmType::Nospace)
    }

    /// Whether any member's data is corrupt: reads through the log and writes are to be refused.
    pub fn corrupt(&self) -> bool {
        self.is_active(AlarmType::Corrupt)
    }

    /// The rows that changed since the last call, in the order of the changes.
    pub fn take_rows(&mut self) -> Vec<(Table, Bytes, Option<Bytes>)> {
        std::mem::take(&mut self.changed_rows)
    }

    /// Numbers for metrics.
    pub fn statistics(&self) -> AlarmStatistics {
        AlarmStatistics { nospace: self.count(AlarmType::Nospace), corrupt: self.count(AlarmType::Corrupt) }
    }

    fn list(&self, kind: i32) -> Vec<AlarmMember> {
        let wanted = |raised: i32| kind == AlarmType::None as i32 || raised == kind;
        let raised = self.raised.iter().filter(|alarm| wanted(alarm.0));
        raised.map(|&(alarm, member_id)| AlarmMember { member_id, alarm }).collect()
    }

    fn activate(&mut self, alarm: AlarmMember) -> Vec<AlarmMember> {
        if alarm.alarm == AlarmType::None as i32 {
            return Vec::new();
        }
        if self.raised.insert((alarm.alarm, alarm.member_id)) {
            self.changed_rows.push((Table::Alarm, row_key(&alarm), Some(Bytes::new())));
        }
        vec![alarm]
    }

    fn deactivate(&mut self, alarm: AlarmMember) -> Vec<AlarmMember> {
        if !self.raised.remove(&(alarm.alarm, alarm.member_id)) {
            return Vec::new();
        }
        if planted::is(Bug::AlarmClearsAll) {
            self.raised.retain(|(kind, _)| *kind != alarm.alarm);
        }
        self.changed_rows.push((Table::Alarm, row_key(&alarm), None));
        vec![alarm]
    }

    fn count(&self, kind: AlarmType) -> usize {
        let kind = kind as i32;
        self.raised.range((kind, 0)..=(kind, u64::MAX)).count()
    }
}

fn row_key(alarm: &AlarmMember) -> Bytes {
    alarm.encode_to_vec().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use AlarmAction::{Activate, Deactivate, Get};
    use AlarmType::{Corrupt, None, Nospace};

    /// Applies a request and compares the alarms of the answer, each as (member, kind).
    fn check(alarms: &mut Alarms, action: AlarmAction, of: (u64, AlarmType), expected: &[(u64, AlarmType)]) {
        let request = AlarmRequest { action: action as i32, member_id: of.0, alarm: of.1 as i32 };
        let answer: Vec<_> =
            alarms.apply(&request).alarms.iter().map(|alarm| (alarm.member_id, alarm.alarm())).collect();
        assert_eq!(answer, expected, "{action:?} {of:?}");
    }

    #[test]
    fn alarms_are_raised_listed_and_cleared() {
        let mut alarms = Alarms::new();
        let alarms = &mut alarms;
        check(alarms, Activate, (1, None), &[]);
        check(alarms, Activate, (2, Nospace), &[(2, Nospace)]);
        check(alarms, Activate, (2, Nospace), &[(2, Nospace)]);
        check(alarms, Activate, (0, Corrupt), &[(0, Corrupt)]);
        check(alarms, Activate, (1, Nospace), &[(1, Nospace)]);
        check(alarms, Get, (0, None), &[(1, Nospace), (2, Nospace), (0, Corrupt)]);
        check(alarms, Get, (9, Nospace), &[(1, Nospace), (2, Nospace)]);
        assert_eq!(alarms.statistics(), AlarmStatistics { nospace: 2, corrupt: 1 });
        check(alarms, Deactivate, (2, Corrupt), &[]);
        check(alarms, Deactivate, (2, None), &[]);
        check(alarms, Deactivate, (2, Nospace), &[(2, Nospace)]);
        assert!(alarms.nospace() && alarms.corrupt());
        check(alarms, Deactivate, (1, Nospace), &[(1, Nospace)]);
        assert!(!alarms.nospace() && alarms.corrupt());
        assert_eq!(alarms.take_rows().len(), 5, "a row for each change, none without one");
        assert_eq!(alarms.apply(&AlarmRequest { action: 7, ..Default::default() }).alarms, []);
    }

    #[test]
    fn a_restart_keeps_the_alarms() {
        let mut alarms = Alarms::new();
        check(&mut alarms, Activate, (0x1234, Corrupt), &[(0x1234, Corrupt)]);
        let rows = alarms.take_rows();
        let key = Bytes::from_static(b"\x08\xb4\x24\x10\x02");
        assert_eq!(rows, [(Table::Alarm, key.clone(), Some(Bytes::new()))]);
        let mut restored = Alarms::restore(vec![(key.clone(), Bytes::new())]).unwrap();
        check(&mut restored, Get, (0, None), &[(0x1234, Corrupt)]);
        check(&mut restored, Deactivate, (0x1234, Corrupt), &[(0x1234, Corrupt)]);
        assert_eq!(restored.take_rows(), [(Table::Alarm, key, Option::None)]);
        assert!(Alarms::restore(vec![("\u{8}".into(), Bytes::new())]).is_err());
    }
}
