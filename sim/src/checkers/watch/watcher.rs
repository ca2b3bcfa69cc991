//! One watcher: which events are due, and whether what comes is that.

use detcd::proto::etcdserverpb::WatchCreateRequest;
use detcd::proto::etcdserverpb::watch_create_request::FilterType;
use detcd::proto::{EncodedEvent, EventType, KeyValue};

use crate::checkers::Case;
use crate::history::{Time, key_text};
use crate::model::{Change, Interval};

/// A watcher, as its client knows it.
pub(super) struct Watcher {
    /// What was asked, with an empty key replaced by the first one there can be.
    pub(super) request: WatchCreateRequest,
    /// No progress below this.
    pub(super) progress_from: i64,
    /// Every event of a lower revision was told, or is not for it.
    pub(super) next: i64,
    /// How many events of revision `next` have come already, in pieces of a response.
    told: usize,
    /// The last revision in a header.
    header: i64,
    /// Whether it has shown a violation: then nothing more is expected of it.
    pub(super) broken: bool,
}

/// An event as it came.
struct Told {
    is_delete: bool,
    kv: KeyValue,
    previous: Option<KeyValue>,
}

impl Told {
    fn read(event: &EncodedEvent) -> Result<Self, String> {
        let unreadable = |error: &dyn std::fmt::Display| format!("an event that cannot be read: {error}");
        let event = event.decode().map_err(|error| unreadable(&error))?;
        let kv = event.kv.ok_or("an event without a key")?;
        let previous = event.prev_kv.map(|previous| previous.decode()).transpose();
        Ok(Self {
            is_delete: event.r#type == EventType::Delete as i32,
            kv: kv.decode().map_err(|error| unreadable(&error))?,
            previous: previous.map_err(|error| unreadable(&error))?,
        })
    }

    fn is(&self, change: &Change) -> bool {
        (self.kv.mod_revision, &self.kv.key, self.is_delete)
            == (change.revision, &change.key, change.record.is_none())
    }

    fn text(&self) -> String {
        let kind = if self.is_delete { "delete" } else { "put" };
        format!("the {kind} of {} at revision {}", key_text(&self.kv.key), self.kv.mod_revision)
    }
}

fn text(change: &Change) -> String {
    let kind = if change.record.is_none() { "delete" } else { "put" };
    format!("the {kind} of {} at revision {}", key_text(&change.key), change.revision)
}

impl Watcher {
    /// A watcher that was created when the store was at `revision`.
    pub(super) fn new(request: WatchCreateRequest, revision: i64) -> Self {
        let (progress_from, next) = match request.start_revision {
            0 => (revision, revision + 1),
            start => (start, start),
        };
        Self { request, progress_from, next, told: 0, header: revision, broken: false }
    }

    fn wants(&self, change: &Change) -> bool {
        let dropped = if change.record.is_none() { FilterType::Nodelete } else { FilterType::Noput };
        let interval = Interval::new(&self.request.key, &self.request.range_end);
        interval.contains(&change.key) && !self.request.filters.contains(&(dropped as i32))
    }

    /// What is still to be told, in order, as the whole log says.
    fn due<'a>(&self, case: &Case<'a>) -> impl Iterator<Item = &'a Change> {
        case.model.events_from(self.next).filter(|change| self.wants(change)).skip(self.told)
    }

    /// The first event that is due up to a revision.
    pub(super) fn due_until<'a>(&self, case: &Case<'a>, revision: i64) -> Option<&'a Change> {
        self.due(case).next().filter(|change| change.revision <= revision)
    }

    /// Takes a response with events, or a piece of one when `fragment` says that more follow.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn take(
        &mut self,
        case: &Case<'_>,
        at: Time,
        events: &[EncodedEvent],
        header: i64,
        fragment: bool,
    ) -> Result<(), String> {
        if fragment && !self.request.fragment {
            return Err("a piece of a response, though it did not ask for pieces".to_owned());
        }
        let (last, told) = self.check_events(case, at, events, fragment)?;
        if case.position_by(at).revision < last {
            return Err(format!("an event of revision {last}, which was not known to be committed"));
        }
        if header < last {
            return Err(format!("a header of revision {header} for events up to {last}"));
        }
        self.take_header(header)?;
        (self.next, self.told) = if fragment { (last, told) } else { (last + 1, 0) };
        Ok(())
    }

    /// Compares events with what is due. Gives the revision of the last one, and how many of that revision
    /// have come by now.
    fn check_events(
        &self,
        case: &Case<'_>,
        at: Time,
        events: &[EncodedEvent],
        fragment: bool,
    ) -> Result<(i64, usize), String> {
        let compacted = case.position_by(at).compacted;
        let mut due = self.due(case).peekable();
        let (mut last, mut told) = (self.next, self.told);
        for event in events {
            let event = Told::read(event)?;
            let change = match due.next() {
                Some(change) if event.is(change) => change,
                expected => return Err(self.unexpected(&event, expected)),
            };
            self.check_records(&event, change, compacted)?;
            told = if change.revision == last { told + 1 } else { 1 };
            last = change.revision;
        }
        if !fragment && let Some(split) = due.next_if(|change| change.revision == last) {
            return Err(format!("a revision split between two responses: {} is missing", text(split)));
        }
        Ok((last, told))
    }

    fn take_header(&mut self, header: i64) -> Result<(), String> {
        if header < self.header {
            return Err(format!("a header of revision {header} after one of {}", self.header));
        }
        self.header = header;
        Ok(())
    }

    /// Takes the promise that nothing up to `revision` is still to come.
    ///
    /// # Errors
    /// What contradicts it.
    pub(super) fn take_progress(&mut self, case: &Case<'_>, revision: i64) -> Result<(), String> {
        if self.told > 0 {
            return Err("progress between two pieces of a response".to_owned());
        }
        if revision < self.progress_from {
            return Err(format!("progress at {revision}, below its start at {}", self.progress_from));
        }
        if let Some(change) = self.due_until(case, revision) {
            return Err(format!("progress at {revision} without {}", text(change)));
        }
        self.take_header(revision)?;
        self.next = self.next.max(revision + 1);
        Ok(())
    }

    /// What is wrong with an event that is not the next one.
    fn unexpected(&self, event: &Told, expected: Option<&Change>) -> String {
        let told = event.text();
        let interval = Interval::new(&self.request.key, &self.request.range_end);
        if !interval.contains(&event.kv.key) {
            return format!("{told}, which is none of its keys");
        }
        if event.kv.mod_revision < self.request.start_revision {
            return format!("{told}, below its start at {}", self.request.start_revision);
        }
        if event.kv.mod_revision < self.next {
            return format!("{told}, when it had been told of everything below {}", self.next);
        }
        match expected {
            Some(change) => format!("{told} where {} was to come", text(change)),
            None => format!("{told}, which never happened"),
        }
    }

    /// Compares the records of an event with what the log made. `compacted` is how far any member can
    /// have been compacted when it was told.
    fn check_records(&self, event: &Told, change: &Change, compacted: i64) -> Result<(), String> {
        let only_key =
            || KeyValue { key: change.key.clone(), mod_revision: change.revision, ..KeyValue::default() };
        let right = change.record.clone().unwrap_or_else(only_key);
        if event.kv != right {
            return Err(format!("{:?} where the log made {right:?}", event.kv));
        }
        // A compaction at its revision or later removes what the event replaced.
        let may_be_missing = compacted >= change.revision;
        let before = change.before.as_ref().filter(|_| self.request.prev_kv);
        match (&event.previous, before) {
            (None, None) => Ok(()),
            (Some(told), Some(right)) if told == right => Ok(()),
            (None, Some(_)) if may_be_missing => Ok(()),
            (told, right) => {
                Err(format!("{} with the previous record {told:?} where it was {right:?}", event.text()))
            }
        }
    }
}
