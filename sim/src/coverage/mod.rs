//! Which rare paths a run has reached, as far as its evidence tells: what clients asked and heard, and the
//! committed log. What only the members' loops show is marked by the monitor, while it happens.
//!
//! ```text
//!   evidence, model, attribution (checkers::Case) --> alarms, calls, leases, sessions, watches --> Found --> trace
//! ```
//!
//! No marker says that something is right: that is for the checkers, which see the same evidence.

mod alarms;
mod calls;
mod leases;
mod sessions;
mod watches;

use std::collections::BTreeMap;

use crate::checkers::Case;
use crate::history::Time;
use crate::trace::Trace;

/// How often each path was found.
#[derive(Default)]
struct Found {
    times: BTreeMap<&'static str, u64>,
}

impl Found {
    fn add(&mut self, marker: &'static str) {
        *self.times.entry(marker).or_default() += 1;
    }

    fn add_if(&mut self, is_so: bool, marker: &'static str) {
        if is_so {
            self.add(marker);
        }
    }
}

/// Marks what a run has reached, as of its end.
pub fn mark(case: &Case<'_>, trace: &Trace, at: Time) {
    let mut found = Found::default();
    alarms::look(case, &mut found);
    calls::look(case, &mut found);
    leases::look(case, &mut found);
    sessions::look(case, &mut found);
    watches::look(case, &mut found);
    for (marker, times) in found.times {
        trace.mark_times(at, 0, marker, times);
    }
}
