//! What was promised of a store, and so which states a crash may leave.
//!
//! Invariant: `since_lie` is empty, or begins with the last state that was durable before the disk lied.

/// The promises about a store whose whole state is an `S`.
#[derive(Clone)]
pub(super) struct Promise<S> {
    /// Acknowledged.
    kept: S,
    /// With what was asked for since.
    asked: S,
    /// Whether something was asked for and the answer was an error, or none.
    in_flight: bool,
    /// States that were acknowledged while the disk owed something.
    since_lie: Vec<S>,
    /// Whether the disk was cut from power while it owed something, and nobody has looked since.
    broken: bool,
}

impl<S: Clone + PartialEq> Promise<S> {
    /// A store that durably is in this state.
    pub fn new(state: S) -> Self {
        Self { kept: state.clone(), asked: state, in_flight: false, since_lie: Vec::new(), broken: false }
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

    /// All of it was acknowledged. `owes`: whether the disk owes something.
    pub fn acknowledged(&mut self, owes: bool) {
        let before = std::mem::replace(&mut self.kept, self.asked.clone());
        self.in_flight = false;
        if !owes {
            self.since_lie.clear();
            return;
        }
        if self.since_lie.is_empty() {
            self.since_lie.push(before);
        }
        self.since_lie.push(self.kept.clone());
    }

    /// Power was cut. `owed`: whether the disk owed something.
    pub fn cut(&mut self, owed: bool) {
        self.broken |= owed;
    }

    /// Whether the store may be in this state after a crash.
    pub fn allows(&self, found: &S) -> bool {
        *found == self.kept
            || (self.in_flight && *found == self.asked)
            || (self.broken && self.since_lie.contains(found))
    }

    /// Whether the store may be beyond help: a lie was found out.
    pub fn may_be_lost(&self) -> bool {
        self.broken
    }

    /// The store was found in this state: from now on it is what must be there. `owes`: whether the disk
    /// still owes something, so that a power cut can set it back.
    pub fn settle(&mut self, found: S, owes: bool) {
        let mut since_lie = Vec::new();
        if owes {
            since_lie = std::mem::take(&mut self.since_lie);
            if since_lie.is_empty() {
                since_lie.push(self.kept.clone());
            }
            since_lie.push(found.clone());
        }
        *self = Self { since_lie, ..Self::new(found) };
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
        promise.acknowledged(false);
        assert!(!promise.allows(&1) && promise.allows(&2) && !promise.is_in_flight());
    }

    #[test]
    fn a_lie_counts_only_once_power_was_cut() {
        let mut promise = Promise::new(1);
        for state in 2..5 {
            promise.ask(|asked| *asked = state);
            promise.acknowledged(state < 4);
        }
        promise.cut(false);
        assert!(!promise.allows(&3) && !promise.may_be_lost(), "the disk has made up for its lies");
        for state in 5..7 {
            promise.ask(|asked| *asked = state);
            promise.acknowledged(true);
        }
        assert!(!promise.allows(&5));
        promise.cut(true);
        assert!(promise.allows(&4) && promise.allows(&5) && promise.allows(&6) && !promise.allows(&3));
        promise.settle(5, true);
        assert!(!promise.allows(&6) && !promise.may_be_lost());
        promise.cut(true);
        assert!(promise.allows(&6) && promise.allows(&5));
        promise.settle(5, false);
        promise.cut(false);
        assert!(!promise.allows(&6));
    }
}
