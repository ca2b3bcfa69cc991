//! What was promised of a store, and so which states a crash may leave.

use std::collections::VecDeque;

/// Earlier states that are remembered: more than a lying disk can take back in one life.
const PAST_STATES: usize = 150;

/// The promises about a store whose whole state is an `S`.
#[derive(Clone)]
pub(super) struct Promise<S> {
    /// Acknowledged.
    kept: S,
    /// With what was asked for since.
    asked: S,
    /// Whether something was asked for and the answer was an error, or none.
    in_flight: bool,
    /// States that were acknowledged before.
    past: VecDeque<S>,
    /// Whether the disk was cut from power while it owed something, and nobody has looked since.
    broken: bool,
}

impl<S: Clone + PartialEq> Promise<S> {
    /// A store that durably is in this state.
    pub fn new(state: S) -> Self {
        Self { kept: state.clone(), asked: state, in_flight: false, past: VecDeque::new(), broken: false }
    }

    /// What was acknowledged.
    pub fn kept(&self) -> &S {
        &self.kept
    }

    /// That and what was asked for since.
    pub fn asked(&self) -> &S {
        &self.asked
    }

    /// Whether something is neither acknowledged nor certainly absent.
    pub fn is_in_flight(&self) -> bool {
        self.in_flight
    }

    /// Notes what is asked for, by its effect.
    pub fn ask(&mut self, effect: impl FnOnce(&mut S)) {
        effect(&mut self.asked);
    }

    /// What was asked for is on its way to the disk.
    pub fn sent(&mut self) {
        self.in_flight = true;
    }

    /// All of it was acknowledged.
    pub fn acknowledged(&mut self) {
        self.settle(self.asked.clone());
    }

    /// Power was cut. `owed`: whether the disk said of something that it is durable which was not.
    pub fn cut(&mut self, owed: bool) {
        self.broken |= owed;
    }

    /// Whether the store may be in this state after a crash.
    pub fn allows(&self, found: &S) -> bool {
        *found == self.kept
            || (self.in_flight && *found == self.asked)
            || (self.broken && self.past.contains(found))
    }

    /// Whether the store may be beyond help: a lie was found out.
    pub fn may_be_lost(&self) -> bool {
        self.broken
    }

    /// The store was found in this state: from now on it is what must be there.
    pub fn settle(&mut self, found: S) {
        if self.past.len() == PAST_STATES {
            self.past.pop_front();
        }
        self.past.push_back(std::mem::replace(&mut self.kept, found.clone()));
        (self.asked, self.in_flight, self.broken) = (found, false, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_leaves_what_was_acknowledged_or_what_was_asked_for() {
        let mut promise = Promise::new(1);
        promise.ask(|state| *state = 2);
        assert!(!promise.allows(&2), "it was never sent");
        promise.sent();
        assert!(promise.allows(&1) && promise.allows(&2) && promise.is_in_flight());
        promise.acknowledged();
        assert!(!promise.allows(&1) && promise.allows(&2) && !promise.is_in_flight());
    }

    #[test]
    fn a_lie_takes_back_what_was_acknowledged_once_power_was_cut() {
        let mut promise = Promise::new(1);
        for state in 2..5 {
            promise.ask(|asked| *asked = state);
            promise.acknowledged();
        }
        promise.cut(false);
        assert!(!promise.allows(&3) && !promise.may_be_lost());
        promise.cut(true);
        assert!(promise.allows(&1) && promise.allows(&3) && promise.allows(&4) && !promise.allows(&5));
        assert!(promise.may_be_lost());
        promise.settle(2);
        assert!(!promise.allows(&4) && !promise.may_be_lost());
    }
}
