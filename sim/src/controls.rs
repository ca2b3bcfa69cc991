//! Negative controls: runs that must be red though the server is as it should be.
//!
//! A simulator that calls everything green proves nothing. Planted bugs show that it sees mistakes of the
//! server; these show that it sees the limits of what any server can promise: a world that breaks an
//! assumption, or a demand that is too strict. Each says which claims may see it: a run that is red for some
//! other reason does not count.

use crate::clock::EXACT;
use crate::nemesis::{Action, ClockFault, DiskFault, Plan, Step, Target, When};
use crate::setup::{Profile, Setup};

/// One of them.
#[derive(Clone, Copy, Debug)]
pub struct Control {
    /// Its name on the command line.
    pub name: &'static str,
    /// What is wrong with the world, or with the demand.
    pub what: &'static str,
    /// The profile whose runs it changes.
    pub profile: Profile,
    /// The claims one of which must be broken.
    pub claims: &'static [&'static str],
    /// Makes a drawn run one of its own.
    change: fn(&mut Setup),
}

/// All of them.
pub const ALL: &[Control] = &[
    Control {
        name: "lying-majority",
        what: "The disks of a majority say that writes are durable which are not, and lose power together.",
        profile: Profile::Lite,
        claims: &["agreement", "linearizable", "once", "unique-revision", "watch", "convergence", "no-panic"],
        change: lying_majority,
    },
    Control {
        name: "serializable-as-linearizable",
        what: "Serializable reads are held to what only linearizable ones promise.",
        profile: Profile::Lite,
        claims: &["linearizable"],
        change: |setup| setup.strict_reads = true,
    },
    Control {
        name: "clocks-beyond-bounds",
        what: "Clocks run three times as fast as true time; the claims on leases allow for a few percent.",
        profile: Profile::Lease,
        claims: &["lease"],
        change: clocks_beyond_bounds,
    },
];

impl Control {
    /// The run of this control that a seed stands for.
    pub fn setup(&self, seed: u64) -> Setup {
        let mut setup = Setup::draw(seed, self.profile);
        (self.change)(&mut setup);
        setup
    }
}

fn lying_majority(setup: &mut Setup) {
    let begins = setup.workload.milliseconds() / 4;
    let lies = (1..=setup.members / 2 + 1).map(|member| Step {
        when: When::At(begins),
        action: Action::Disk(Target::Member(member), DiskFault::LyingSync),
        lasts: 1000,
    });
    setup.plan = Plan { steps: lies.collect() };
}

fn clocks_beyond_bounds(setup: &mut Setup) {
    // A clock that stands still, or a process that does, would excuse everything.
    setup
        .plan
        .steps
        .retain(|step| !matches!(step.action, Action::Clock(_, ClockFault::Freeze(_)) | Action::Pause(_)));
    setup.clocks.iter_mut().for_each(|(rate, _)| *rate = 3 * EXACT);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_changes_the_run() {
        for control in ALL {
            assert_ne!(control.setup(7), Setup::draw(7, control.profile), "{}", control.name);
            assert!(!control.claims.is_empty());
        }
    }
}
